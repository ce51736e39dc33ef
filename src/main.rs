//! Boot order: command line, runtime, command, exit code.

use std::process::ExitCode;

use clap::Parser;
use dnma_relay::cli::{self, Cli};

// One thread beside the main one and the client library's own: it does all that a worker's lanes
// and shards have to do, and several only wake each other. More throughput is more replicas.
#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
