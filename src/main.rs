//! Boot order: command line, runtime, command, exit code.

use std::process::ExitCode;

use clap::Parser;
use dnma_relay::cli::{self, Cli};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread beside the main one and the client library's own: it does all that a worker's
    // lanes and shards have to do, and several only wake each other. More throughput is more
    // replicas.
    let runtime = match Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dnma-relay: no thread can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli));
    // What still hangs then, as a file on a server that is gone, hangs without us.
    runtime.shutdown_background();
    code
}
