//! What a hit says stays inside it, and what a Matomo answers is read within bounds.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::Scene;
use crate::support::matomo::Situation;
use crate::support::{eventually, hits};

/// Values that would like to be something else: a header, another request, a token, a parameter,
/// the end of a bulk.
const VALUES: [&str; 7] = [
    "a\r\nX-Injected: yes\r\n\r\nGET /matomo.php?rec=1 HTTP/1.1\r\n\r\n",
    "\",\"token_auth\":\"stolen\",\"x\":\"",
    "\"}],\"token_auth\":\"stolen\",\"requests\":[{\"rec\":\"1",
    "&idsite=2&rec=0&token_auth=stolen#",
    "%0d%0aX-Injected:%20yes%00",
    "\u{2028}\u{202e}\u{feff}é🎓",
    "\\u0022}]\\",
];

pub(crate) async fn a_value_stays_a_value(scene: Scene) -> anyhow::Result<()> {
    for api in ["bulk", "single"] {
        // What breaks the plan is delivered all the same, so that these values reach the wire.
        let worker = scene
            .worker(&[("MATOMO_API", api), ("VALIDATION", "observe"), ("QUEUE_SHARDS", "2")])
            .await?;
        let before = scene.matomo.stored();
        for (number, value) in VALUES.iter().enumerate() {
            let visitor = hits::visitor(number);
            let hit = hits::with(
                hits::valid(&visitor, &format!("{api} {number}")),
                "dimension9",
                (*value).into(),
            );
            let hit = hits::with(hit, "ua", (*value).into());
            scene.queues.publish([(visitor, hit.to_string().into_bytes())]).await?;
        }
        eventually("all are stored", Duration::from_secs(20), async || {
            scene.matomo.stored() == before + VALUES.len()
        })
        .await?;
        worker.stop().await?;
        let ledger = scene.matomo.ledger();
        for (number, value) in VALUES.iter().enumerate() {
            let id = format!("{api} {number}");
            let stored =
                ledger.stored.iter().find(|stored| stored.id == id).with_context(|| id.clone())?;
            let found = |name: &str| stored.parameters.get(name).map(String::as_str);
            ensure!(
                found("dimension9") == Some(*value) && found("ua") == Some(*value),
                "{id}: {:?}",
                stored.parameters
            );
            ensure!(
                found("idsite") == Some("1") && found("rec") == Some("1"),
                "{id}: {:?}",
                stored.parameters
            );
            ensure!(!stored.parameters.contains_key("token_auth"), "{id}: {:?}", stored.parameters);
        }
        let expected = ["accept", "content-length", "content-type", "host"];
        let strange: Vec<&String> =
            ledger.header_names.iter().filter(|name| !expected.contains(&name.as_str())).collect();
        ensure!(strange.is_empty(), "headers that nobody meant to send: {strange:?}");
    }
    Ok(())
}

pub(crate) async fn answers_are_read_within_bounds(scene: Scene) -> anyhow::Result<()> {
    let worker = scene
        .worker(&[("QUEUE_SHARDS", "2"), ("MATOMO_TIMEOUT", "2s"), ("RETRY_DELAYS", "600s")])
        .await?;
    let at_rest = worker.memory()?;
    let cases = [
        (Situation::Gibibyte, "not-matomo"),
        (Situation::Endless, "not-matomo"),
        (Situation::Bomb, "not-matomo"),
        (Situation::Dripping, "timeout"),
        (Situation::HugeHeaders, "connection-lost"),
    ];
    for (number, (situation, reason)) in cases.into_iter().enumerate() {
        scene.matomo.set(situation);
        let visitor = hits::visitor(number);
        let body = hits::valid(&visitor, &format!("{situation:?}")).to_string().into_bytes();
        scene.queues.publish([(visitor, body)]).await?;
        eventually("it is retried", Duration::from_secs(20), async || {
            scene.queues.ready("retry.600s").await.is_ok_and(|n| n == 1)
        })
        .await
        .with_context(|| format!("{situation:?}: {}", worker.log()))?;
        let retried = scene.queues.take("retry.600s").await?;
        let found = retried[0].headers.get("x-dnma-reason").map(String::as_str);
        ensure!(found == Some(reason), "{situation:?}: {found:?} instead of {reason}");
        let memory = worker.memory()?;
        ensure!(
            memory < at_rest + 20,
            "{situation:?}: {at_rest} MiB at rest, {memory} MiB afterwards"
        );
        // The breaker closes again before the next.
        scene.matomo.set(Situation::Fine);
        let visitor = hits::visitor(100 + number);
        let body = hits::valid(&visitor, &format!("after {situation:?}")).to_string().into_bytes();
        scene.queues.publish([(visitor, body)]).await?;
        eventually("the line goes on", Duration::from_secs(20), async || {
            scene.matomo.stored() == number + 1
        })
        .await?;
    }
    worker.stop().await
}

pub(crate) async fn a_proxy_sees_nothing_of_a_matomo_on_this_machine(
    scene: Scene,
) -> anyhow::Result<()> {
    let proxy = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = format!("http://{}", proxy.local_addr()?);
    let names = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"];
    for name in names {
        let worker = scene.worker(&[(name, &address)]).await?;
        let before = scene.matomo.stored();
        let visitor = hits::visitor(1);
        let body = hits::valid(&visitor, name).to_string().into_bytes();
        scene.queues.publish([(visitor, body)]).await?;
        let stored = eventually("it is stored", Duration::from_secs(20), async || {
            scene.matomo.stored() == before + 1
        });
        tokio::select! {
            stored = stored => stored.with_context(|| worker.log())?,
            asked = proxy.accept() => anyhow::bail!("{name}: the proxy is asked by {:?}", asked?.1),
        }
        worker.stop().await?;
    }
    Ok(())
}
