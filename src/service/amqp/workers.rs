//! How many workers there are.
//!
//! Of the consumers of a shard RabbitMQ 3 tells only about the one that it serves. So every
//! worker consumes from a queue of its own kind, through which no message ever goes, and those that
//! are short of their share from another one, and the broker tells how many consumers each has. A
//! worker that is gone is gone from there at the same moment as from its shards.

use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};

use super::BrokerError;
use super::topology::{Inquiry, Told, Topology, Untold};
use crate::domain::sharing::Replicas;
use crate::service::config::TopologyMode;

/// This worker among the others. Dropping it takes it out.
#[derive(Debug)]
pub struct WorkerCount {
    channel: Channel,
    /// Makes this worker one of all.
    _all: Consumer,
    /// Makes it one of those that are short.
    short: Option<Consumer>,
}

/// Whether the user may do what sharing needs.
///
/// # Errors
/// What is missing, or what the broker refuses.
pub async fn may_count(connection: &Connection, topology: &Topology) -> Result<(), BrokerError> {
    let mut count = WorkerCount::open(connection, topology, TopologyMode::Verify).await?;
    count.tell(topology, true).await
}

impl WorkerCount {
    /// Puts this worker among the others.
    ///
    /// # Errors
    /// When the queues cannot be declared or read; the text names the remedy.
    pub(super) async fn open(
        connection: &Connection,
        topology: &Topology,
        mode: TopologyMode,
    ) -> Result<Self, BrokerError> {
        match mode {
            TopologyMode::Declare => topology.declare_counts(connection).await?,
            TopologyMode::Verify => topology.verify_counts(connection).await?,
        }
        let channel = connection.create_channel().await?;
        // Whatever somebody puts there: one message at most is held, and none is read.
        channel.basic_qos(1, BasicQosOptions { global: false }).await?;
        let all = consume(&channel, &topology.workers()).await?;
        Ok(Self { channel, _all: all, short: None })
    }

    /// How many there are.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub(super) async fn ask(
        &self,
        connection: &Connection,
        topology: &Topology,
    ) -> Result<Replicas, BrokerError> {
        let untold = Untold::default();
        let mut inquiry = Inquiry::new(topology, connection, &untold);
        let [mut all, mut short] = [0; 2];
        for (name, count) in
            [(topology.workers(), &mut all), (topology.short_workers(), &mut short)]
        {
            if let Told::There(depth) = inquiry.queue(&name).await? {
                *count = depth.consumers;
            }
        }
        inquiry.end().await?;
        Ok(Replicas { all, short })
    }

    /// Tells the others whether this worker is short of its share.
    ///
    /// # Errors
    /// When the session is lost.
    pub(super) async fn tell(
        &mut self,
        topology: &Topology,
        is_short: bool,
    ) -> Result<(), BrokerError> {
        match (&self.short, is_short) {
            (None, true) => {
                self.short = Some(consume(&self.channel, &topology.short_workers()).await?);
            }
            (Some(consumer), false) => {
                self.channel.basic_cancel(consumer.tag(), Default::default()).await?;
                self.short = None;
            }
            _ => {}
        }
        Ok(())
    }
}

async fn consume(channel: &Channel, queue: &str) -> Result<Consumer, lapin::Error> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
}
