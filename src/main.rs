//! Boot order: command line, runtime, command, exit code.

use std::process::ExitCode;

use clap::Parser;
use dnma_relay::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
