//! Bad input is rejected with its codes, byte for byte, and the line goes on.

use std::time::Duration;

use anyhow::{Context, ensure};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::Scene;
use crate::support::{eventually, hits};

pub(crate) async fn bad_input_never_stops_the_line(scene: Scene) -> anyhow::Result<()> {
    let visitor = hits::visitor(1);
    let valid = || hits::valid(&visitor, "x");
    let text = |value: Value| value.to_string().into_bytes();
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
    let many: String = (0..10_000).map(|n| format!("&{n:x}")).collect();
    let twice = valid().to_string().replacen("\"uid\"", "\"uid\":\"another\",\"uid\"", 1);
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (format!("?uid={visitor}{many}").into_bytes(), &["too-many-fields"]),
        (twice.into_bytes(), &["duplicate-field"]),
        (format!("{}&uid=another", hits::query(&valid())).into_bytes(), &["duplicate-field"]),
        (format!("{{\"{}\":1}}", "n".repeat(60_000)).into_bytes(), &["name-too-long"]),
        (vec![], &["malformed"]),
        (vec![b'x'; 65 * 1024], &["too-large"]),
        (vec![0xff, 0xfd, 0x00], &["malformed"]),
        (vec![0xff, 0xfe, 0x00], &["foreign-form"]),
        (vec![0x1f, 0x8b, 0x08, 0x00], &["foreign-form"]),
        (b"[]".to_vec(), &["not-an-object"]),
        (b"[{\"uid\":\"u\"}]".to_vec(), &["foreign-form"]),
        (format!("{{\"requests\":[{}]}}", valid()).into_bytes(), &["foreign-form"]),
        (vec![0; 10], &["malformed"]),
        (b"hello".to_vec(), &["malformed"]),
        (b"{\"uid\":".to_vec(), &["malformed"]),
        (deep, &["missing"]),
        (text(hits::with(valid(), "dimension8", json!({"service": ["NOTES"]}))), &["wrong-type"]),
        (text(hits::with(valid(), "dimension2", json!(null))), &["missing"]),
        (text(hits::with(valid(), "dimension9", json!("a\u{0}b"))), &["control-character"]),
        (text(hits::with(valid(), "uid", json!("0"))), &["uid-unusable"]),
        (text(hits::without(valid(), "ua")), &["missing"]),
        (
            text(hits::with(
                hits::with(valid(), "dimension8", json!("NOTE")),
                "cdt",
                json!("1732549235000"),
            )),
            &["not-in-list", "cdt-milliseconds"],
        ),
        (text(hits::with(valid(), "dimension4", json!("é".repeat(256)))), &["too-long"]),
    ];
    let worker = scene.worker(&[]).await?;
    let mut messages = Vec::new();
    for (number, (body, _)) in cases.iter().enumerate() {
        messages.push((format!("garbage {number}"), body.clone()));
        let neighbour = hits::visitor(100 + number);
        let hit = hits::valid(&neighbour, &format!("good {number}"));
        messages.push((neighbour, text(hit)));
    }
    scene.queues.publish(messages).await?;
    eventually("the good ones are stored", Duration::from_secs(30), async || {
        scene.matomo.stored() == cases.len()
    })
    .await?;
    eventually("the bad ones are rejected", Duration::from_secs(30), async || {
        scene.queues.ready("rejected").await.unwrap_or(0) == cases.len()
    })
    .await?;
    let rejected = scene.queues.take("rejected").await?;
    for (number, (body, codes)) in cases.iter().enumerate() {
        let message = rejected
            .iter()
            .find(|m| m.key == format!("garbage {number}"))
            .with_context(|| format!("case {number} is nowhere"))?;
        ensure!(&message.body == body, "the body of case {number} changed");
        let violations: Value =
            serde_json::from_str(message.headers.get("x-dnma-violations").context("violations")?)?;
        let found: Vec<&str> = violations
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v["code"].as_str())
            .collect();
        for code in *codes {
            ensure!(found.contains(code), "case {number}: {found:?} without {code}");
        }
        ensure!(
            violations.as_array().is_some_and(|list| list
                .iter()
                .all(|v| v["message"].as_str().is_some_and(|m| m.len() > 10))),
            "{violations}"
        );
        ensure!(
            message.headers.get("x-dnma-reason").is_some_and(|reason| reason == "plan"),
            "{:?}",
            message.headers
        );
    }
    worker.until("rejected_total", Duration::from_secs(20), |n| n as usize == cases.len()).await?;
    ensure!(!worker.log().contains(&visitor), "a log line names a visitor");
    worker.stop().await
}

/// A thousand violations and headers of the sender's: all of it fits into what the broker takes.
pub(crate) async fn hostile_headers_cost_no_session(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let unknown: String =
        (0..170).map(|n| format!("\"{}{n:03}\":1,", "\\u0001".repeat(15))).collect();
    let uais = "a,".repeat(127);
    let body = format!("{{{unknown}\"dimension1\":\"{uais}\"}}").into_bytes();
    let mut headers = FieldTable::default();
    for n in 0..60 {
        headers.insert(
            format!("x-ent-{n}").into(),
            AMQPValue::LongString("h".repeat(if n % 2 == 0 { 400 } else { 1_500 }).into()),
        );
    }
    let properties =
        BasicProperties::default().with_headers(headers).with_expiration("600000".into());
    scene.queues.publish_with([("hostile".to_owned(), body.clone())], properties).await?;
    eventually("it is rejected", Duration::from_secs(20), async || {
        scene.queues.ready("rejected").await.is_ok_and(|n| n == 1)
    })
    .await?;
    let rejected = scene.queues.take("rejected").await?;
    ensure!(rejected[0].body == body, "the body changed");
    let violations: Value =
        serde_json::from_str(rejected[0].headers.get("x-dnma-violations").context("violations")?)?;
    ensure!(violations.as_array().is_some_and(|list| list.len() > 50), "{violations}");
    ensure!(rejected[0].properties.expiration().is_none(), "a rejected hit would expire");
    ensure!(!worker.log().contains("lost the session"), "{}", worker.log());
    worker.stop().await
}
