//! The chart, the alarms and the dashboard: rendered by real helms, and held against each other and
//! against the relay.
//!
//! `tests/chart/run` gets the tools and runs this. `HELM` has the paths of one or more helms,
//! separated by colons, and `DNMA_RELAY` the path of the program.
#![cfg(test)]

mod alarms;
mod chart;
mod compose;
mod policy;
mod rabbitmq;
mod readme;
mod relay;
mod rendering;
mod settings;
mod types;
mod values;
