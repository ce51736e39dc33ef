//! A relay without the right to configure anything: read and write, as docs/operate.md recommends,
//! are enough.

use std::time::Duration;

use anyhow::{Context, ensure};
use lapin::options::ExchangeDeleteOptions;
use serde_json::{Value, json};

use crate::support::matomo::HitFault;
use crate::support::queues::Queues;
use crate::support::rabbitmq::Broker;
use crate::support::{eventually, hits, worker};
use crate::{Scene, Worker};

/// The three patterns of the document's `rabbitmqctl set_permissions … USER`: configure, write,
/// read.
fn recommended(user: &str) -> anyhow::Result<[String; 3]> {
    let document = include_str!("../../docs/operate.md");
    let line = document
        .lines()
        .find(|line| line.contains("set_permissions") && line.contains(&format!(" {user} ")));
    let line = line.with_context(|| format!("docs/operate.md recommends no rights for {user}"))?;
    let quoted: Vec<String> = line.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
    quoted.try_into().map_err(|found| anyhow::anyhow!("not three patterns: {found:?}"))
}

/// The document's before it spoke of RabbitMQ 4.3: without a right on the main exchange or a shard
/// where the user only looks.
const FORMER: [(&str, [&str; 3]); 2] = [
    ("former-relay", ["^$", r"^dnma\.hits\.(retry\..+|parked|rejected)$", r"^dnma\.hits\.[0-9]+$"]),
    (
        "former-operator",
        [r"^dnma\.hits\.(parked|rejected)$", r"^dnma\.hits$", r"^dnma\.hits\.(parked|rejected)$"],
    ),
];

/// What `dnma-relay topology` prints, with the document's users, those of former times, and one who
/// may do everything.
fn definitions() -> anyhow::Result<String> {
    let vars = [
        ("AMQP_URL", "amqp://guest:guest@127.0.0.1/%2f"),
        ("MATOMO_URL", "http://127.0.0.1/"),
        ("QUEUE_SHARDS", "4"),
        ("RETRY_DELAYS", "1s"),
    ];
    let output = worker::command(&vars).arg("topology").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut definitions: Value = serde_json::from_slice(&output.stdout)?;
    let user = |name: &str, tags: &str| {
        let password = format!("{name}-password");
        json!({"name": name, "password": password, "tags": tags})
    };
    let rights = |name: &str, [configure, write, read]: [String; 3]| {
        json!({
            "user": name,
            "vhost": "/",
            "configure": configure,
            "write": write,
            "read": read,
        })
    };
    let everything = [".*", ".*", ".*"].map(str::to_owned);
    definitions["vhosts"] = json!([{"name": "/"}]);
    definitions["users"] = json!([
        user("admin", "administrator"),
        user("relay", ""),
        user("ent", ""),
        user("operator", ""),
        user("former-relay", ""),
        user("former-operator", "")
    ]);
    let mut permissions = vec![rights("admin", everything)];
    for name in ["relay", "ent", "operator"] {
        permissions.push(rights(name, recommended(name)?));
    }
    for (name, patterns) in FORMER {
        permissions.push(rights(name, patterns.map(str::to_owned)));
    }
    definitions["permissions"] = permissions.into();
    Ok(definitions.to_string())
}

pub(crate) async fn read_and_write_are_enough(scene: Scene) -> anyhow::Result<()> {
    let broker = Broker::start_with_definitions(definitions()?).await?;
    let as_user =
        |user: &str| broker.url.replace("guest:guest", &format!("{user}:{user}-password"));
    let (admin, ent) = (
        Queues::connect(&as_user("admin"), "dnma.hits").await?,
        Queues::connect(&as_user("ent"), "dnma.hits").await?,
    );
    let (relay, matomo) = (as_user("relay"), scene.matomo.url());
    let vars = [
        ("AMQP_URL", relay.as_str()),
        ("MATOMO_URL", &matomo),
        ("QUEUE_SHARDS", "4"),
        ("RETRY_DELAYS", "1s"),
    ];
    // One that wants to declare is told what it lacks and what to do.
    let declaring = Worker::start(&vars).await?;
    let told = async || {
        declaring.log().contains("refuses access") && declaring.log().contains("TOPOLOGY=verify")
    };
    eventually("it is told", Duration::from_secs(20), told).await?;
    declaring.stop().await?;
    // One that may not read is told what it lacks, and is not said to be connected meanwhile.
    let ent_url = as_user("ent");
    let blind = [&vars[..], &[("AMQP_URL", &ent_url), ("TOPOLOGY", "verify")]].concat();
    let blind = Worker::start(&blind).await?;
    blind.until_it_says("shards cannot be read", Duration::from_secs(20)).await?;
    blind.until("broker_up", Duration::from_secs(20), |up| up == 0.0).await?;
    blind.stop().await?;
    let relay = Worker::start(&[&vars[..], &[("TOPOLOGY", "verify")]].concat()).await?;
    relay.ready().await?;
    // A hit for each way through the queues.
    let (fine, failing) = (hits::visitor(1), hits::visitor(2));
    scene.matomo.ledger().faults.insert(failing.clone(), HitFault::Exception);
    let hit = |visitor: &str, id: &str| {
        (visitor.to_owned(), hits::valid(visitor, id).to_string().into_bytes())
    };
    ent.publish([
        hit(&fine, "fine"),
        hit(&failing, "fails"),
        ("nobody".to_owned(), b"no hit".to_vec()),
    ])
    .await?;
    eventually("one is stored", Duration::from_secs(20), async || scene.matomo.stored() == 1)
        .await?;
    eventually("one is parked after its retry", Duration::from_secs(20), async || {
        admin.ready("parked").await.is_ok_and(|n| n == 1)
    })
    .await?;
    eventually("one is rejected", Duration::from_secs(20), async || {
        admin.ready("rejected").await.is_ok_and(|n| n == 1)
    })
    .await?;
    // An operator may look after dead hits, and a relay's user may not be asked whether looking is
    // safe.
    let operator = as_user("operator");
    let vars = |url| [("AMQP_URL", url), ("QUEUE_SHARDS", "4"), ("RETRY_DELAYS", "1s")];
    let dead =
        |url, arguments: &[&str]| worker::command(&vars(url)).arg("dead").args(arguments).output();
    let listed = dead(&operator, &["list"])?;
    ensure!(
        listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("2 of 2 hits"),
        "{listed:?}"
    );
    scene.matomo.ledger().faults.clear();
    let replayed = dead(&operator, &["replay", "--queue", "parked", "--receipt", "-"])?;
    ensure!(replayed.status.success(), "{replayed:?}");
    eventually("it is stored", Duration::from_secs(20), async || scene.matomo.stored() == 2)
        .await?;
    let user = as_user("relay");
    let refused = dead(&user, &["list"])?;
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("--trust-limit"), "{refused:?}");
    ensure!(!relay.log().contains("cannot be counted"), "it cannot share out the shards");
    // He may count what waits in every queue.
    let books = worker::command(&vars(&operator))
        .args(["books", "--json", "--url", relay.url()])
        .output()?;
    let statement: Value = serde_json::from_slice(&books.stdout)
        .with_context(|| String::from_utf8_lossy(&books.stderr).into_owned())?;
    // Not whether they close: the hit that he replayed does not bear the relay's user.
    ensure!(statement["queues"]["after"]["rejected"] == 1, "{statement}");
    // The relay sees all there is, and that the main exchange is gone.
    let checked = worker::command(&vars(&user))
        .args(["check", "--connect", "--json"])
        .env("TOPOLOGY", "verify")
        .env("MATOMO_URL", &matomo)
        .output()?;
    let checked: Value = serde_json::from_slice(&checked.stdout)?;
    let topology = |finding: &&Value| finding["subject"] == "topology";
    let topology: Vec<_> =
        checked["findings"].as_array().context("findings")?.iter().filter(topology).collect();
    ensure!(topology.len() == 1 && topology[0]["outcome"] == "fine", "{checked}");
    ensure!(!relay.log().contains("does not tell this user"), "a false alarm:\n{}", relay.log());
    let exchange = "dnma.hits".into();
    admin.channel().exchange_delete(exchange, ExchangeDeleteOptions::default()).await?;
    relay.until_it_says("somebody deleted", Duration::from_secs(30)).await?;
    ensure!(relay.sum("topology_missing").await? == 1.0, "one exchange is missing");
    relay.stop().await?;
    // The publisher may publish to the main exchange, and nothing else.
    let elsewhere = Queues::connect(&as_user("ent"), "dnma.hits.parked").await?;
    ensure!(
        elsewhere.publish([hit(&fine, "past the relay")]).await.is_err(),
        "the publisher wrote to another exchange"
    );
    let nosy = Queues::connect(&as_user("ent"), "dnma.hits").await?;
    ensure!(nosy.take("parked").await.is_err(), "the publisher read parked hits");
    Ok(())
}

/// RabbitMQ 4.3 does not tell a user without any right on it whether an exchange is there, or how
/// many messages a queue has.
pub(crate) async fn what_the_broker_does_not_tell_is_said(scene: Scene) -> anyhow::Result<()> {
    let broker = Broker::start_with_definitions(definitions()?).await?;
    let as_user =
        |user: &str| broker.url.replace("guest:guest", &format!("{user}:{user}-password"));
    let (relay, operator) = (as_user("former-relay"), as_user("former-operator"));
    let matomo = scene.matomo.url();
    let vars = |url| {
        [
            ("AMQP_URL", url),
            ("MATOMO_URL", &*matomo),
            ("QUEUE_SHARDS", "4"),
            ("RETRY_DELAYS", "1s"),
            ("TOPOLOGY", "verify"),
        ]
    };
    let relay = Worker::start(&vars(&relay)).await?;
    relay.ready().await?;
    let (ent, visitor) = (Queues::connect(&as_user("ent"), "dnma.hits").await?, hits::visitor(1));
    let hit = hits::valid(&visitor, "fine").to_string().into_bytes();
    ent.publish([(visitor.clone(), hit)]).await?;
    eventually("it is stored", Duration::from_secs(20), async || scene.matomo.stored() == 1)
        .await?;
    // Two looks at what is there.
    tokio::time::sleep(Duration::from_secs(21)).await;
    let log = relay.log();
    let said = log.matches("does not tell this user").count();
    ensure!(said == usize::from(!broker.tells_everybody()), "said {said} times:\n{log}");
    ensure!(said == 0 || log.contains("\"exchange dnma.hits\""), "not which:\n{log}");
    ensure!(relay.sum("topology_missing").await? == 0.0, "a false alarm");
    ensure!(!log.contains("somebody deleted"), "a false alarm:\n{log}");

    let command = |arguments: &[&str]| worker::command(&vars(&operator)).args(arguments).output();
    let books = command(&["books", "--url", relay.url()])?;
    let text = worker::said(&books);
    let is_refused = text.contains("tells this user nothing of queue dnma.hits.0");
    ensure!(books.status.success() == broker.tells_everybody(), "{text}");
    ensure!(is_refused != broker.tells_everybody(), "{text}");
    let admin = Queues::connect(&as_user("admin"), "dnma.hits.parked").await?;
    let hit = hits::valid(&visitor, "parked").to_string().into_bytes();
    admin.publish([(visitor, hit)]).await?;
    let replay = command(&["dead", "replay", "--unchecked", "--receipt", "-"])?;
    let text = worker::said(&replay);
    let is_refused = text.contains("tells this user nothing of queue dnma.hits.0");
    ensure!(replay.status.success() == broker.tells_everybody(), "{text}");
    ensure!(is_refused != broker.tells_everybody(), "{text}");
    let admin = Queues::connect(&as_user("admin"), "dnma.hits").await?;
    let left = usize::from(!broker.tells_everybody());
    ensure!(admin.ready("parked").await? == left, "a hit that is not replayed stays");
    relay.stop().await
}
