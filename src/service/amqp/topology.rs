//! Exchanges, queues and bindings: one description, declared or verified on a broker, or printed as
//! RabbitMQ definitions.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::service::config;

mod compare;
mod ensure;
mod inquiry;

pub use ensure::TopologyError;
pub use inquiry::Untold;
pub(super) use inquiry::{Inquiry, Told};

/// Returns to the queue that a shard counts before it parks a hit. Each closed channel counts as
/// one before RabbitMQ 4.3, so the default of 20 would park hits that only saw restarts.
const DELIVERY_LIMIT: i64 = 100;

/// "No limit" that every version understands: not set, RabbitMQ 4 drops a message after 20
/// listings; -1, 3.10 does.
pub const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The type of the main exchange with more than one shard; a plugin that comes with RabbitMQ, but
/// is not enabled.
const CONSISTENT_HASH: &str = "x-consistent-hash";

/// The name of every exchange and queue.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    shards: u16,
    delays: Vec<Duration>,
}

struct ExchangeDeclaration {
    name: String,
    kind: &'static str,
}

struct QueueDeclaration {
    name: String,
    arguments: Vec<(&'static str, Value)>,
}

struct Binding {
    exchange: String,
    queue: String,
    key: &'static str,
}

impl Topology {
    /// What these settings ask for.
    pub fn new(settings: &config::BrokerSettings) -> Self {
        Self {
            prefix: settings.prefix.clone(),
            shards: settings.shards,
            delays: settings.retry_delays.clone(),
        }
    }

    /// The exchange that ENTs publish to.
    pub fn main(&self) -> &str {
        &self.prefix
    }

    /// One of the queues behind it.
    pub fn shard(&self, index: u16) -> String {
        format!("{}.{index}", self.prefix)
    }

    /// The shards' numbers.
    pub fn shards(&self) -> std::ops::Range<u16> {
        0..self.shards
    }

    /// Exchange and queue of one step of the schedule. The delay is part of the name, so a new
    /// schedule gets new queues and the old ones drain by themselves.
    pub fn retry(&self, step: usize) -> String {
        let delay = self.delays.get(step).or(self.delays.last()).copied().unwrap_or_default();
        let text = if delay.subsec_millis() == 0 {
            format!("{}s", delay.as_secs())
        } else {
            format!("{}ms", delay.as_millis())
        };
        format!("{}.retry.{text}", self.prefix)
    }

    /// Number of steps in the schedule.
    pub fn steps(&self) -> usize {
        self.delays.len()
    }

    /// Where hits with their retries spent stay.
    pub fn parked(&self) -> String {
        format!("{}.parked", self.prefix)
    }

    /// Where hits that break the plan stay.
    pub fn rejected(&self) -> String {
        format!("{}.rejected", self.prefix)
    }

    /// The queue whose consumers are the workers, where workers share out the shards.
    pub fn workers(&self) -> String {
        format!("{}.workers", self.prefix)
    }

    /// The queue whose consumers are the workers that are short of their share.
    pub fn short_workers(&self) -> String {
        format!("{}.workers.short", self.prefix)
    }

    /// The two queues by which workers count each other. Nothing is ever published to them.
    fn counts(&self) -> [QueueDeclaration; 2] {
        [self.workers(), self.short_workers()].map(|name| QueueDeclaration {
            name,
            arguments: vec![("x-queue-type", json!("quorum"))],
        })
    }

    fn exchanges(&self) -> Vec<ExchangeDeclaration> {
        let kind = if self.shards > 1 { CONSISTENT_HASH } else { "topic" };
        let main = ExchangeDeclaration { name: self.main().to_owned(), kind };
        std::iter::once(main)
            .chain(
                self.dead_letter_exchanges()
                    .map(|name| ExchangeDeclaration { name, kind: "fanout" }),
            )
            .collect()
    }

    fn queues(&self) -> Vec<QueueDeclaration> {
        // At-least-once needs reject-publish; without both, dead-lettering may lose what the broker
        // was about to move.
        let kept = |target: String| {
            vec![
                ("x-queue-type", json!("quorum")),
                ("x-dead-letter-exchange", json!(target)),
                ("x-dead-letter-strategy", json!("at-least-once")),
                ("x-overflow", json!("reject-publish")),
            ]
        };
        let shards = self.shards().map(|index| {
            let mut arguments = kept(self.parked());
            arguments.push(("x-single-active-consumer", json!(true)));
            arguments.push(("x-delivery-limit", json!(DELIVERY_LIMIT)));
            QueueDeclaration { name: self.shard(index), arguments }
        });
        let retries = (0..self.delays.len()).map(|step| {
            let mut arguments = kept(self.main().to_owned());
            let delay = self.delays.get(step).copied().unwrap_or_default();
            arguments.push((
                "x-message-ttl",
                json!(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            ));
            QueueDeclaration { name: self.retry(step), arguments }
        });
        let dead = [self.parked(), self.rejected()].map(|name| QueueDeclaration {
            name,
            arguments: vec![
                ("x-queue-type", json!("quorum")),
                ("x-delivery-limit", json!(NO_DELIVERY_LIMIT)),
            ],
        });
        let mut queues: Vec<QueueDeclaration> = shards.chain(retries).chain(dead).collect();
        let mut seen = HashSet::new();
        queues.retain(|queue| seen.insert(queue.name.clone()));
        queues
    }

    fn bindings(&self) -> Vec<Binding> {
        // Of a consistent-hash exchange the key is a weight; equal weights share evenly.
        let key = if self.shards > 1 { "100" } else { "#" };
        let shards = self.shards().map(|index| Binding {
            exchange: self.main().to_owned(),
            queue: self.shard(index),
            key,
        });
        shards
            .chain(self.dead_letter_exchanges().map(|name| Binding {
                exchange: name.clone(),
                queue: name,
                key: "",
            }))
            .collect()
    }

    /// A queue's name without the prefix.
    pub fn suffix<'n>(&self, name: &'n str) -> &'n str {
        let rest = name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.'));
        rest.unwrap_or(name)
    }

    /// The exchanges that the relay itself publishes to, each with a queue of the same name.
    pub fn dead_letter_exchanges(&self) -> impl Iterator<Item = String> + use<> {
        let mut names: Vec<String> = (0..self.delays.len()).map(|step| self.retry(step)).collect();
        names.extend([self.parked(), self.rejected()]);
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names.into_iter()
    }

    /// RabbitMQ definitions, as `rabbitmqctl import_definitions` and the management API take them.
    pub fn definitions(&self, vhost: &str) -> Value {
        let exchanges = self.exchanges().into_iter().map(|e| {
            json!({
                "name": e.name, "vhost": vhost, "type": e.kind, "durable": true,
                "auto_delete": false, "internal": false, "arguments": {},
            })
        });
        let queues = self.queues().into_iter().chain(self.counts()).map(|q| {
            let arguments = q.arguments.into_iter().map(|(name, value)| (name.to_owned(), value));
            let arguments: serde_json::Map<_, _> = arguments.collect();
            json!({
                "name": q.name, "vhost": vhost, "durable": true, "auto_delete": false,
                "arguments": arguments,
            })
        });
        let bindings = self.bindings().into_iter().map(|b| {
            json!({
                "source": b.exchange, "vhost": vhost, "destination": b.queue,
                "destination_type": "queue", "routing_key": b.key, "arguments": {},
            })
        });
        json!({
            "exchanges": exchanges.collect::<Vec<_>>(),
            "queues": queues.collect::<Vec<_>>(),
            "bindings": bindings.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::config::Settings;

    fn topology(vars: &[(&str, &str)]) -> Topology {
        let mut vars: Vec<_> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        vars.push(("MATOMO_URL".to_owned(), "https://m/".to_owned()));
        Topology::new(&Settings::from_vars(vars).expect("complete").broker)
    }

    #[test]
    fn the_default_schedule_is_the_rftis() {
        let definitions = topology(&[]).definitions("/");
        let ttl = |name: &str| {
            let queues = definitions["queues"].as_array().expect("queues");
            queues.iter().find(|q| q["name"] == name).expect(name)["arguments"]["x-message-ttl"]
                .as_u64()
        };
        assert_eq!(ttl("dnma.hits.retry.600s"), Some(600_000));
        assert_eq!(ttl("dnma.hits.retry.1200s"), Some(1_200_000));
        assert_eq!(definitions["queues"].as_array().map(Vec::len), Some(8 + 2 + 2 + 2));
        assert_eq!(definitions["exchanges"][0]["type"], CONSISTENT_HASH);
    }

    #[test]
    fn one_shard_needs_no_plugin_and_equal_delays_share_a_queue() {
        let definitions =
            topology(&[("QUEUE_SHARDS", "1"), ("RETRY_DELAYS", "1500ms,2s,2s")]).definitions("v");
        assert_eq!(definitions["exchanges"][0]["type"], "topic");
        assert_eq!(definitions["bindings"][0]["routing_key"], "#");
        let names: Vec<_> = definitions["queues"]
            .as_array()
            .expect("queues")
            .iter()
            .map(|q| q["name"].as_str().expect("name"))
            .collect();
        assert_eq!(
            names,
            [
                "dnma.hits.0",
                "dnma.hits.retry.1500ms",
                "dnma.hits.retry.2s",
                "dnma.hits.parked",
                "dnma.hits.rejected",
                "dnma.hits.workers",
                "dnma.hits.workers.short"
            ]
        );
    }

    #[test]
    fn nothing_can_be_lost_by_listing_or_dead_lettering() {
        for queue in topology(&[]).definitions("/")["queues"].as_array().expect("queues") {
            let arguments = &queue["arguments"];
            assert_eq!(arguments["x-queue-type"], "quorum");
            if arguments.get("x-dead-letter-exchange").is_some() {
                assert_eq!(arguments["x-dead-letter-strategy"], "at-least-once", "{queue}");
                assert_eq!(arguments["x-overflow"], "reject-publish", "{queue}");
            } else if !queue["name"].as_str().is_some_and(|name| name.contains("workers")) {
                assert_eq!(arguments["x-delivery-limit"], NO_DELIVERY_LIMIT, "{queue}");
            }
        }
    }
}
