//! `dnma-relay publish`: what the broker took is what it counts.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Scene;
use crate::support::{eventually, hits, worker};

pub(crate) async fn every_line_is_confirmed(scene: Scene) -> anyhow::Result<()> {
    let vars = [("AMQP_URL", scene.broker.url.as_str()), ("QUEUE_PREFIX", &scene.prefix)];
    let publish = |arguments: &[&str], input: &[u8]| -> anyhow::Result<(Option<i32>, String)> {
        let mut child = worker::command(&vars)
            .arg("publish")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // A program that ends early does not read it all.
        let _broken_pipe = child.stdin.take().context("stdin")?.write_all(input);
        let output = child.wait_with_output()?;
        Ok((output.status.code(), worker::said(&output)))
    };
    let (code, text) = publish(&["-"], b"{}\n")?;
    ensure!(
        code == Some(1) && text.contains("dnma-relay topology"),
        "no exchange: {code:?} {text}"
    );
    let worker = scene.worker(&[]).await?;
    let mut lines = Vec::new();
    for number in 0..2_500 {
        let visitor = hits::visitor(number % 100);
        let hit = hits::valid(&visitor, &format!("line {number}"));
        let line = if number % 2 == 0 { hit.to_string() } else { hits::query(&hit) };
        lines.push(line);
    }
    lines.push(String::new());
    lines.push("no hit at all".to_owned());
    lines.push("x".repeat(70_000));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), lines.join("\n"))?;
    let (code, text) = publish(&[&file.path().to_string_lossy(), "--json"], b"")?;
    let count: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    ensure!(
        count["published"] == 2_501 && count["unreadable"] == 1 && count["without_visitor"] == 1,
        "{count}"
    );
    ensure!(code == Some(1), "a line that was not published is a failure: {code:?}");
    eventually("the hits are stored", Duration::from_secs(30), async || {
        scene.matomo.copies().len() == 2_500
    })
    .await?;
    eventually("the other is rejected", Duration::from_secs(10), async || {
        scene.queues.ready("rejected").await.is_ok_and(|n| n == 1)
    })
    .await?;
    let visitor = hits::visitor(1);
    let (code, text) =
        publish(&["-"], format!("{}\n", hits::valid(&visitor, "from stdin")).as_bytes())?;
    ensure!(code == Some(0) && text.contains("1 hit published"), "{code:?} {text}");
    eventually("that one is stored", Duration::from_secs(20), async || {
        scene.matomo.copies().len() == 2_501
    })
    .await?;
    // Stopped by a signal, it says how far it came.
    let before = scene.matomo.stored();
    let vars = [("AMQP_URL", scene.broker.url.as_str()), ("QUEUE_PREFIX", &scene.prefix)];
    let mut command = worker::command(&vars);
    let child = command
        .args(["publish", "--rate", "50"])
        .arg(file.path())
        .stderr(Stdio::piped())
        .spawn()?;
    eventually("it publishes", Duration::from_secs(20), async || {
        scene.matomo.stored() > before + 20
    })
    .await?;
    ensure!(
        std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()?
            .success(),
        "kill"
    );
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = told
        .split("everything up to line ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|line| line.parse().ok());
    let line: usize = line.with_context(|| told.clone())?;
    ensure!(
        output.status.code() == Some(1) && told.contains("nothing after it was sent"),
        "{told}"
    );
    eventually("that is how far it came", Duration::from_secs(20), async || {
        scene.matomo.stored() == before + line
    })
    .await?;
    worker.stop().await
}
