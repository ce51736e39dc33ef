//! A message that the client library could not read harms only itself.

use std::collections::HashSet;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::Scene;
use crate::support::rabbitmq::Broker;
use crate::support::raw_amqp::{RawAmqp, RawMessage, entry, long, nested};
use crate::support::{eventually, hits, worker};

const GOOD: usize = 2_000;

/// One of each kind, with what its mark must name.
fn odd_ones() -> Vec<(&'static str, RawMessage)> {
    let visitor = hits::visitor(9_000);
    let body = hits::valid(&visitor, "odd").to_string().into_bytes();
    let new = || RawMessage::new(visitor.as_bytes(), &body);
    let latin = b"acad\xe9mie";
    let value = [b"S".to_vec(), long(b"value")].concat();
    let names = entry(b"outer", &[b"F".to_vec(), long(&entry(latin, &value))].concat());
    let mut odd = vec![
        ("header-depth", new().with_headers(&entry(b"deep", &nested(b'F', 900)))),
        ("header-depth", new().with_headers(&entry(b"deep", &nested(b'A', 1_500)))),
        ("header-names", new().with_headers(&entry(latin, &value))),
        ("header-names", new().with_headers(&names)),
        (
            "headers",
            new().with_headers(&entry(b"n", &[b"S".to_vec(), long(&[b'x'; 130_900])].concat())),
        ),
        (
            "headers",
            new().with_headers(&entry(b"n", &[b"A".to_vec(), long(&[b'V'; 9_000])].concat())),
        ),
        ("routing-key", RawMessage::new(latin, &body)),
        ("body=16777216", RawMessage::new(visitor.as_bytes(), &vec![b'x'; 16 << 20])),
        ("routing-key,body=100000", RawMessage::new(latin, &vec![b'y'; 100_000])),
    ];
    // The headers of the 130,900 bytes fit into a frame as they are sent, and no longer with what
    // the broker writes into them as it parks them. It checks expiration and user-id itself.
    let texts = [
        (15, "content-type"),
        (14, "content-encoding"),
        (10, "correlation-id"),
        (9, "reply-to"),
        (7, "message-id"),
        (5, "type"),
        (3, "app-id"),
        (2, "cluster-id"),
    ];
    odd.extend(texts.map(|(bit, name)| (name, new().with_text(bit, latin))));
    odd
}

/// What lies in *parked* is what was sent: the key, the body, and each property. The broker adds to
/// the headers why it is there.
fn is_the_original(sent: &RawMessage, parked: &RawMessage) -> bool {
    let is_headers = |message: &RawMessage| message.flags & 1 << 13 != 0;
    let within = |needle: &[u8]| {
        needle.is_empty() || parked.properties.windows(needle.len()).any(|w| w == needle)
    };
    let properties = if is_headers(sent) {
        within(&sent.properties[4..sent.properties.len() - 1])
    } else if sent.flags > 1 << 13 {
        parked.properties.starts_with(&sent.properties[..sent.properties.len() - 1])
    } else {
        parked.properties.ends_with(&sent.properties)
    };
    sent.key == parked.key
        && sent.body == parked.body
        && properties
        && parked.flags == sent.flags | 1 << 13
        && !within(b"x-dnma-unreadable")
}

pub(crate) async fn one_message_harms_only_itself(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let second = scene.worker(&[]).await?;
    let odd = odd_ones();
    let mut raw = RawAmqp::connect(&scene.broker.url)?;
    let started = Instant::now();
    let mut odd_left = odd.iter();
    for (place, (key, body)) in hits::load(0..GOOD, GOOD).enumerate() {
        scene.queues.publish([(key, body)]).await?;
        if place % (GOOD / odd.len()) == 5
            && let Some((_, message)) = odd_left.next()
        {
            raw.publish(&scene.prefix, message)?;
        }
    }
    for (_, message) in odd_left {
        raw.publish(&scene.prefix, message)?;
    }
    println!("published within {:?}", started.elapsed());
    eventually("all good hits are stored", Duration::from_secs(10), async || {
        scene.matomo.stored() >= GOOD
    })
    .await
    .with_context(|| worker.log())?;
    eventually("the odd ones are parked", Duration::from_secs(10), async || {
        scene.queues.ready("parked").await.is_ok_and(|n| n == odd.len())
    })
    .await
    .with_context(|| worker.log())?;
    {
        let ledger = scene.matomo.ledger();
        let ids: HashSet<&str> = ledger.stored.iter().map(|stored| stored.id.as_str()).collect();
        ensure!(
            ids.len() == GOOD && ledger.stored.len() == GOOD,
            "{} hits stored, of {} identities",
            ledger.stored.len(),
            ids.len()
        );
        ensure!(!ids.contains("odd"), "a message that cannot be read is no hit");
    }
    for worker in [&worker, &second] {
        let log = worker.log();
        ensure!(!log.contains("lost the session") && !log.contains("connection broke"), "{log}");
        println!("{} MiB", worker.memory()?);
    }
    let log = format!("{}\n{}", worker.log(), second.log());
    for (parts, _) in &odd {
        ensure!(log.contains(&format!("\"parts\":\"{parts}\"")), "{parts}: {log}");
    }
    worker.stop().await?;
    second.stop().await?;

    // An operator sees them with our own commands, which change nothing.
    for arguments in [
        &["dead", "list"][..],
        &["dead", "list", "--json"],
        &["dead", "show"],
        &["dead", "group"],
        &["dead", "group", "--reason", "unreadable"],
    ] {
        let told = operator(&scene, arguments).await?;
        let text = String::from_utf8_lossy(&told.stdout);
        ensure!(
            told.status.success() && !text.is_empty(),
            "{arguments:?}: {text} {}",
            String::from_utf8_lossy(&told.stderr)
        );
        let all = format!("{0} of {0} hits", odd.len());
        let counts_reasons = arguments.contains(&"--reason");
        ensure!(!counts_reasons || text.contains(&all), "not {all}: {text}");
    }
    // What is too large to be read is in no export, and no export looks whole without it.
    let large = odd.iter().filter(|(parts, _)| parts.contains("body=")).count();
    let export = operator(&scene, &["dead", "export", "-"]).await?;
    let (lines, told) = (export.stdout, String::from_utf8(export.stderr)?);
    ensure!(large > 0 && export.status.code() == Some(1), "{told}");
    ensure!(told.contains(&format!("{large} of the chosen messages are too large")), "{told}");
    let lines = String::from_utf8(lines)?.lines().count();
    ensure!(lines == odd.len() - large, "{lines} exported of {}", odd.len());

    let list = operator(&scene, &["dead", "list"]).await?;
    let list = String::from_utf8(list.stdout)?;
    ensure!(list.contains(&format!("{0} of {0} hits", odd.len())), "{list}");

    let queue = format!("{}.parked", scene.prefix);
    let mut parked = Vec::new();
    while let Some(message) = raw.take(&queue)? {
        parked.push(message);
    }
    ensure!(parked.len() == odd.len(), "{} of {}", parked.len(), odd.len());
    for (parts, sent) in &odd {
        let same = parked.iter().filter(|parked| is_the_original(sent, parked)).count();
        ensure!(same >= 1, "the message with {parts} is not parked as it was sent");
    }
    Ok(())
}

async fn operator(scene: &Scene, arguments: &[&str]) -> anyhow::Result<Output> {
    let vars = [("AMQP_URL", scene.broker.url.as_str()), ("QUEUE_PREFIX", &scene.prefix)];
    let mut command = tokio::process::Command::from(worker::command(&vars));
    Ok(command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await?)
}

/// Forty bodies of 16 MiB at once.
pub(crate) async fn large_bodies_do_not_fill_the_memory(scene: Scene) -> anyhow::Result<()> {
    const LARGE: usize = 40;
    scene.declare(&[]).await?;
    let mut raw = RawAmqp::connect(&scene.broker.url)?;
    let body = vec![b'x'; 16 << 20];
    for number in 0..LARGE {
        let message = RawMessage::new(hits::visitor(number).as_bytes(), &body);
        raw.publish(&scene.prefix, &message)?;
    }
    let worker = scene.worker(&[]).await?;
    let parked = eventually("they are parked", Duration::from_secs(60), async || {
        scene.queues.ready("parked").await.is_ok_and(|n| n == LARGE)
    })
    .await;
    let peak = peak_memory(worker.pid())?;
    println!("{peak} MiB at most with {LARGE} bodies of 16 MiB");
    parked?;
    ensure!(peak < 100, "{peak} MiB");
    let peak = peak_of_listing(&scene).await?;
    println!("{peak} MiB at most to list them");
    ensure!(peak < 100, "{peak} MiB");
    scene.queues.publish(hits::load(0..100, 100)).await?;
    eventually("the line goes on", Duration::from_secs(10), async || scene.matomo.stored() == 100)
        .await?;
    ensure!(!worker.log().contains("lost the session"), "{}", worker.log());
    worker.stop().await
}

/// In MiB, of `dead list`.
async fn peak_of_listing(scene: &Scene) -> anyhow::Result<u64> {
    let vars = [("AMQP_URL", scene.broker.url.as_str()), ("QUEUE_PREFIX", &scene.prefix)];
    let mut command = tokio::process::Command::from(worker::command(&vars));
    command.args(["dead", "list"]).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let pid = child.id().context("it runs")?;
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{status}");
            return Ok(peak);
        }
        peak = peak.max(peak_memory(pid).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the relay writes fits into whatever frames were negotiated.
pub(crate) async fn our_headers_fit_into_small_frames(scene: Scene) -> anyhow::Result<()> {
    for (number, frame_max) in [65_536, 16_384, 8_192].into_iter().enumerate() {
        let url = format!("{}?frame_max={frame_max}", scene.broker.url);
        let worker = scene.worker(&[("AMQP_URL", &url)]).await?;
        let visitor = hits::visitor(number);
        let mut hit = hits::with(hits::valid(&visitor, "odd"), "dimension8", "NONE".into());
        for n in 0..150 {
            hit = hits::with(hit, &format!("unknown{n}"), "1".into());
        }
        let body = hit.to_string().into_bytes();
        let mut headers = FieldTable::default();
        for n in 0..20 {
            headers.insert(
                format!("x-ent-{n}").into(),
                AMQPValue::LongString("h".repeat(100 + n).into()),
            );
        }
        let properties = BasicProperties::default().with_headers(headers);
        scene.queues.publish_with([(visitor, body.clone())], properties).await?;
        eventually("it is rejected", Duration::from_secs(20), async || {
            scene.queues.ready("rejected").await.is_ok_and(|n| n == 1)
        })
        .await
        .with_context(|| format!("frame_max {frame_max}: {}", worker.log()))?;
        let rejected = scene.queues.take("rejected").await?;
        ensure!(rejected[0].body == body, "the body changed");
        let list = rejected[0].headers.get("x-dnma-violations").context("violations")?;
        let list: serde_json::Value = serde_json::from_str(list)?;
        println!(
            "frame_max {frame_max}: {} violations, {} headers",
            list.as_array().map_or(0, Vec::len),
            rejected[0].headers.len()
        );
        ensure!(list.as_array().is_some_and(|list| list.len() > 5), "{list}");
        ensure!(!worker.log().contains("lost the session"), "{}", worker.log());
        worker.stop().await?;
    }
    Ok(())
}

/// The file that operators are given: what is no hit is refused to its sender, and whatever the
/// relay has to move still fits.
pub(crate) async fn a_broker_refuses_what_is_far_too_large(_shared: Scene) -> anyhow::Result<()> {
    let configuration = include_str!("../../deploy/rabbitmq/rabbitmq.conf");
    let broker = Broker::start_with_configuration(configuration).await?;
    let scene = Scene::new(Arc::new(broker), "size").await?;
    let worker = scene.worker(&[]).await?;
    for (number, bytes) in [64 << 10, (64 << 10) + 1, 80 << 10].into_iter().enumerate() {
        let visitor = hits::visitor(number);
        let hit = hits::valid(&visitor, "large").to_string();
        let body = format!("{hit}{}", " ".repeat(bytes - hit.len())).into_bytes();
        scene.queues.publish([(visitor, body)]).await?;
    }
    eventually("the others are rejected", Duration::from_secs(20), async || {
        scene.queues.ready("rejected").await.is_ok_and(|n| n == 2)
    })
    .await
    .with_context(|| worker.log())?;
    eventually("a hit of 64 KiB is stored", Duration::from_secs(20), async || {
        scene.matomo.stored() == 1
    })
    .await?;
    let refused = scene.queues.publish([(hits::visitor(9), vec![b'x'; 131_073])]).await;
    let error = format!("{:?}", refused.err().context("it was taken")?);
    ensure!(error.contains("PRECONDITION_FAILED") || error.contains("406"), "{error}");
    ensure!(!worker.log().contains("lost the session"), "{}", worker.log());
    worker.stop().await
}

/// The most resident memory that a process has had, in MiB.
fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmHWM")?.parse()?;
    Ok(kib / 1024)
}
