//! The half of the program that decides: pure functions and data.
//!
//! Nothing in here waits for anything or touches the outside world. There is no socket, no clock
//! (`now` is always an argument), no environment and no log line here, so every decision can be
//! tested with values alone, and an ENT editor can use this half by itself (`default-features =
//! false`) to check its own hits.

pub mod answer;
pub mod books;
pub mod breaker;
pub mod cdt;
mod code;
pub mod data;
pub mod dead;
pub mod dispatch;
pub mod envelope;
pub mod hit;
pub mod limiter;
pub mod max_age;
pub mod plan;
pub mod printable;
pub mod prose;
pub mod request;
pub mod rule;
mod scan;
pub mod settle;
pub mod sharing;
pub mod shown;
pub mod status;
pub mod tenant;
mod unicode;
pub mod validate;
pub mod visits;
