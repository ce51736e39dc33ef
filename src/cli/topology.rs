//! `dnma-relay topology`: what the relay declares, for brokers where it may not.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use crate::service::amqp::topology::Topology;
use crate::service::config::BrokerSettings;

/// The command line options of `topology`.
#[derive(Debug, Args)]
pub struct TopologyOptions {
    /// Virtual host to put into the definitions
    #[arg(long, default_value = "/")]
    vhost: String,
}

/// Prints the exchanges, queues and bindings as RabbitMQ definitions.
///
/// # Errors
/// Fails for a configuration mistake, and for an output that cannot be written to.
pub fn run(options: &TopologyOptions) -> anyhow::Result<ExitCode> {
    let topology = Topology::new(&BrokerSettings::from_env()?);
    writeln!(std::io::stdout().lock(), "{:#}", topology.definitions(&options.vhost))?;
    Ok(ExitCode::SUCCESS)
}
