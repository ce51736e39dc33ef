//! Who may send for whom, by the user that the broker itself verifies: also on the way through the
//! retry queues.

use std::time::Duration;

use anyhow::{Context, ensure};
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};
use serde_json::{Value, json};

use crate::support::matomo::HitFault;
use crate::support::queues::Queues;
use crate::support::rabbitmq::Broker;
use crate::support::{eventually, hits};
use crate::{Scene, Worker};

const SOON: Duration = Duration::from_secs(20);

fn definitions() -> String {
    let names = ["relay", "ent-alpha", "ent-beta"];
    let user =
        |name: &str| json!({"name": name, "password": format!("{name}-password"), "tags": ""});
    let rights = |name: &str| {
        let all = ".*";
        json!({"user": name, "vhost": "/", "configure": all, "write": all, "read": all})
    };
    json!({"vhosts": [{"name": "/"}], "users": names.map(user), "permissions": names.map(rights)})
        .to_string()
}

/// Publishes as an ENT does: with its name, or without, or with a header that only a relay may be
/// believed.
async fn publish(
    ent: &Queues,
    visitor: &str,
    hit: &Value,
    user: Option<&str>,
    forged: Option<&str>,
) -> anyhow::Result<()> {
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    if let Some(user) = user {
        properties = properties.with_user_id(user.into());
    }
    if let Some(tenant) = forged {
        let mut headers = FieldTable::default();
        headers.insert("x-dnma-tenant".into(), AMQPValue::LongString(tenant.into()));
        properties = properties.with_headers(headers);
    }
    let body = hit.to_string().into_bytes();
    let sent = ent
        .channel()
        .basic_publish(
            "dnma.hits".into(),
            visitor.into(),
            BasicPublishOptions::default(),
            &body,
            properties,
        )
        .await?;
    ensure!(matches!(sent.await?, Confirmation::Ack(None)), "not taken");
    Ok(())
}

pub(crate) async fn an_ent_cannot_write_into_anothers_figures(scene: Scene) -> anyhow::Result<()> {
    let broker = Broker::start_with_definitions(definitions()).await?;
    let as_user =
        |user: &str| broker.url.replace("guest:guest", &format!("{user}:{user}-password"));
    let file = tempfile::NamedTempFile::new()?;
    let tenant = |user: &str, exploitant: &str| {
        format!(
            "[[tenants]]\nuser = \"{user}\"\nexploitants = [\"{exploitant}\"]\nplateformes = \
             [\"*\"]\nidsites = [1]\n"
        )
    };
    std::fs::write(
        file.path(),
        tenant("ent-alpha", "ALPHA") + "defaults = { dimension3 = \"ALPHA\" }\n",
    )?;
    let (relay, matomo, path) =
        (as_user("relay"), scene.matomo.url(), file.path().to_string_lossy().into_owned());
    let vars = [
        ("AMQP_URL", relay.as_str()),
        ("MATOMO_URL", &matomo),
        ("QUEUE_SHARDS", "2"),
        ("RETRY_DELAYS", "1s"),
        ("TENANTS", &path),
        // The strongest temptation to let something pass.
        ("VALIDATION", "observe"),
    ];
    let worker = Worker::start(&vars).await?;
    worker.ready().await?;
    let queues = Queues::connect(&relay, "dnma.hits").await?;
    let (alpha, beta) = (
        Queues::connect(&as_user("ent-alpha"), "dnma.hits").await?,
        Queues::connect(&as_user("ent-beta"), "dnma.hits").await?,
    );
    let (fine, failing) = (hits::visitor(1), hits::visitor(2));
    let hit = |visitor: &str, name: &str, exploitant: &str| {
        hits::with(hits::valid(visitor, name), "dimension3", json!(exploitant))
    };

    // What the tenant leaves out is filled in; a hit that fails comes back from its retry as the
    // tenant's, and is parked as such.
    publish(
        &alpha,
        &fine,
        &hits::without(hit(&fine, "default", ""), "dimension3"),
        Some("ent-alpha"),
        None,
    )
    .await?;
    scene.matomo.ledger().faults.insert(failing.clone(), HitFault::Exception);
    publish(&alpha, &failing, &hit(&failing, "fails", "ALPHA"), Some("ent-alpha"), None).await?;
    eventually("one is stored", SOON, async || scene.matomo.stored() == 1).await?;
    let exploitant = scene.matomo.ledger().stored[0].parameters.get("dimension3").cloned();
    ensure!(exploitant.as_deref() == Some("ALPHA"), "{exploitant:?}");
    eventually("one is parked", SOON, async || queues.ready("parked").await.is_ok_and(|n| n == 1))
        .await?;
    let parked = queues.take("parked").await?.pop().context("a message")?;
    ensure!(
        parked.headers.get("x-dnma-tenant").map(String::as_str) == Some("ent-alpha"),
        "{:?}",
        parked.headers
    );
    ensure!(
        parked.headers.get("x-dnma-attempt").map(String::as_str) == Some("2"),
        "{:?}",
        parked.headers
    );

    publish(&alpha, &fine, &hit(&fine, "another's", "BETA"), Some("ent-alpha"), None).await?;
    publish(&alpha, &fine, &hit(&fine, "nobody's", "ALPHA"), None, None).await?;
    publish(&beta, &fine, &hit(&fine, "unknown", "BETA"), Some("ent-beta"), None).await?;
    publish(&beta, &fine, &hit(&fine, "forged", "ALPHA"), Some("ent-beta"), Some("ent-alpha"))
        .await?;
    publish(&beta, &fine, &hit(&fine, "forged and nameless", "ALPHA"), None, Some("ent-alpha"))
        .await?;
    eventually("five are rejected", SOON, async || {
        queues.ready("rejected").await.is_ok_and(|n| n == 5)
    })
    .await?;
    let rejected = queues.take("rejected").await?;
    let codes: Vec<&str> = rejected
        .iter()
        .map(|message| &message.headers["x-dnma-violations"])
        .map(|text| {
            if text.contains("\"wrong-tenant\"") {
                "wrong"
            } else if text.contains("\"unknown-tenant\"") {
                "unknown"
            } else {
                text
            }
        })
        .collect();
    ensure!(
        codes.iter().filter(|code| **code == "wrong").count() == 1
            && codes.iter().filter(|code| **code == "unknown").count() == 4,
        "{codes:?}"
    );
    ensure!(scene.matomo.stored() == 1, "a hit of another's was stored");

    // The broker lets nobody take the relay's name.
    let liar = Queues::connect(&as_user("ent-beta"), "dnma.hits").await?;
    let lie = publish(
        &liar,
        &fine,
        &hit(&fine, "as the relay", "ALPHA"),
        Some("relay"),
        Some("ent-alpha"),
    )
    .await;
    ensure!(lie.is_err(), "the broker took a publish in the relay's name");

    // A new tenant is let in while the worker works.
    std::fs::write(file.path(), tenant("ent-alpha", "ALPHA") + &tenant("ent-beta", "BETA"))?;
    eventually("the new tenants are in force", SOON, async || {
        worker.log().contains("read again and in force")
    })
    .await?;
    publish(&beta, &fine, &hit(&fine, "known now", "BETA"), Some("ent-beta"), None).await?;
    eventually("it is stored", SOON, async || scene.matomo.stored() == 2).await?;
    worker.stop().await
}
