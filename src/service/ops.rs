//! What operators see of a worker: the status page, the answers on `HTTP_LISTEN`, and
//! the log.

pub mod http;
pub mod logging;
pub mod status;
