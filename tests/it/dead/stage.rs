//! Dead hits as a relay leaves them, and an operator who looks after them.

use std::process::{Output, Stdio};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Scene;
use crate::support::queues::Message;
use crate::support::{hits, worker};

/// Of every queue, in its order.
pub(super) type Lying = Vec<(String, Vec<u8>, String)>;

/// A message in a dead queue, as a relay leaves it.
pub(super) struct Dead {
    pub(super) dead_queue: &'static str,
    pub(super) key: String,
    pub(super) body: Vec<u8>,
    pub(super) headers: Vec<(&'static str, AMQPValue)>,
}

pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

pub(super) fn parked(number: usize, reason: &str, status: i64) -> Dead {
    let visitor = hits::visitor(number);
    let body = hits::valid(&visitor, &format!("parked {number}")).to_string().into_bytes();
    let headers = vec![
        ("x-dnma-reason", text(reason)),
        ("x-dnma-status", AMQPValue::LongLongInt(status)),
        ("x-dnma-attempt", AMQPValue::LongLongInt(3)),
    ];
    Dead { dead_queue: "parked", key: visitor, body, headers }
}

/// Rejected for a service that is none.
pub(super) fn rejected(number: usize, service: &str) -> Dead {
    let visitor = hits::visitor(number);
    let hit = hits::with(
        hits::valid(&visitor, &format!("rejected {number}")),
        "dimension8",
        json!(service),
    );
    let violation = json!({
        "code": "not-in-list",
        "severity": "error",
        "field": "dimension8",
        "message": "not in the list",
    });
    let violations = json!([violation]).to_string();
    let headers = vec![
        ("x-dnma-reason", text("plan")),
        ("x-dnma-violations", text(&violations)),
        ("x-dnma-attempt", AMQPValue::LongLongInt(0)),
    ];
    Dead { dead_queue: "rejected", key: visitor, body: hit.to_string().into_bytes(), headers }
}

/// Puts messages into their dead queues.
pub(super) async fn bury(
    scene: &Scene,
    dead: impl IntoIterator<Item = Dead>,
) -> anyhow::Result<()> {
    let now = Timestamp::now().to_string();
    let mut confirms = Vec::new();
    for Dead { dead_queue, key, body, headers } in dead {
        let mut table = FieldTable::default();
        for name in ["x-dnma-first-failed-at", "x-dnma-failed-at"] {
            table.insert(name.into(), text(&now));
        }
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(table);
        let exchange = format!("{}.{dead_queue}", scene.prefix);
        confirms.push(
            scene
                .queues
                .channel()
                .basic_publish(
                    exchange.into(),
                    key.into(),
                    BasicPublishOptions::default(),
                    &body,
                    properties,
                )
                .await?,
        );
        if confirms.len() == 2_000 {
            for confirm in confirms.drain(..) {
                confirm.await?;
            }
        }
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}

/// What lies where, byte for byte.
pub(super) async fn lying(scene: &Scene) -> anyhow::Result<[Lying; 2]> {
    let of = |messages: Vec<Message>| {
        messages
            .into_iter()
            .map(|m| (m.key, m.body, m.headers.get("x-dnma-reason").cloned().unwrap_or_default()))
            .collect()
    };
    Ok([of(scene.queues.list("parked").await?), of(scene.queues.list("rejected").await?)])
}

/// The command, in a folder of its own.
pub(super) struct Operator<'s> {
    scene: &'s Scene,
    pub(super) folder: TempDir,
}

impl<'s> Operator<'s> {
    pub(super) fn of(scene: &'s Scene) -> anyhow::Result<Self> {
        Ok(Self { scene, folder: tempfile::tempdir()? })
    }

    pub(super) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let vars = [
            ("AMQP_URL", self.scene.broker.url.as_str()),
            ("QUEUE_PREFIX", &self.scene.prefix),
            ("USER", "camille"),
        ];
        let mut command = tokio::process::Command::from(worker::command(&vars));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments).output().await?)
    }

    /// What a command says that must succeed.
    pub(super) async fn told(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments).await?;
        let (out, err) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        ensure!(output.status.success(), "{arguments:?}: {} {out} {err}", output.status);
        Ok(out)
    }

    pub(super) async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.told(arguments).await?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// The exit code and everything that a command says that must fail.
    pub(super) async fn refused(
        &self,
        arguments: &[&str],
    ) -> anyhow::Result<(Option<i32>, String)> {
        let output = self.run(arguments).await?;
        ensure!(
            !output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        Ok((output.status.code(), worker::said(&output)))
    }
}
