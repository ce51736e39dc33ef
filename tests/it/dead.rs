//! `dnma-relay dead`: what is looked at stays, and what is moved is exactly what was meant.

use std::collections::HashMap;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Scene;
use crate::support::queues::Message;
use crate::support::{eventually, hits, worker};

/// Of every queue, in its order.
type Lying = Vec<(String, Vec<u8>, String)>;

/// A message in a grave, as a relay leaves it.
struct Dead {
    grave: &'static str,
    key: String,
    body: Vec<u8>,
    headers: Vec<(&'static str, AMQPValue)>,
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn parked(number: usize, reason: &str, status: i64) -> Dead {
    let visitor = hits::visitor(number);
    let body = hits::valid(&visitor, &format!("parked {number}")).to_string().into_bytes();
    let headers = vec![
        ("x-dnma-reason", text(reason)),
        ("x-dnma-status", AMQPValue::LongLongInt(status)),
        ("x-dnma-attempt", AMQPValue::LongLongInt(3)),
    ];
    Dead { grave: "parked", key: visitor, body, headers }
}

/// Rejected for a service that is none.
fn rejected(number: usize, service: &str) -> Dead {
    let visitor = hits::visitor(number);
    let hit = hits::with(hits::valid(&visitor, &format!("rejected {number}")), "dimension8", json!(service));
    let violations = json!([{"code": "not-in-list", "severity": "error", "field": "dimension8", "message": "not in the list"}]).to_string();
    let headers =
        vec![("x-dnma-reason", text("plan")), ("x-dnma-violations", text(&violations)), ("x-dnma-attempt", AMQPValue::LongLongInt(0))];
    Dead { grave: "rejected", key: visitor, body: hit.to_string().into_bytes(), headers }
}

/// Puts messages into their graves.
async fn bury(scene: &Scene, dead: impl IntoIterator<Item = Dead>) -> anyhow::Result<()> {
    let now = Timestamp::now().to_string();
    let mut confirms = Vec::new();
    for Dead { grave, key, body, headers } in dead {
        let mut table = FieldTable::default();
        for name in ["x-dnma-first-failed-at", "x-dnma-failed-at"] {
            table.insert(name.into(), text(&now));
        }
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(table);
        let exchange = format!("{}.{grave}", scene.prefix);
        confirms.push(
            scene.queues.channel().basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), &body, properties).await?,
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
async fn lying(scene: &Scene) -> anyhow::Result<[Lying; 2]> {
    let of = |messages: Vec<Message>| {
        messages.into_iter().map(|m| (m.key, m.body, m.headers.get("x-dnma-reason").cloned().unwrap_or_default())).collect()
    };
    Ok([of(scene.queues.list("parked").await?), of(scene.queues.list("rejected").await?)])
}

/// The command, in a folder of its own.
struct Operator<'s> {
    scene: &'s Scene,
    folder: TempDir,
}

impl<'s> Operator<'s> {
    fn of(scene: &'s Scene) -> anyhow::Result<Self> {
        Ok(Self { scene, folder: tempfile::tempdir()? })
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let vars = [("AMQP_URL", self.scene.broker.url.as_str()), ("QUEUE_PREFIX", &self.scene.prefix), ("USER", "camille")];
        let mut command = tokio::process::Command::from(worker::command(&vars));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments).output().await?)
    }

    /// What a command says that must succeed.
    async fn told(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments).await?;
        let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
        ensure!(output.status.success(), "{arguments:?}: {} {out} {err}", output.status);
        Ok(out)
    }

    async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.told(arguments).await?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// The exit code and everything that a command says that must fail.
    async fn refused(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
        let output = self.run(arguments).await?;
        ensure!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        Ok((output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))))
    }
}

pub(crate) async fn looking_takes_nothing(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    bury(&scene, (0..40).map(|n| parked(n, "timeout", 504)).chain((40..80).map(|n| rejected(n, "CANTINE")))).await?;
    let before = lying(&scene).await?;
    let operator = Operator::of(&scene)?;
    for _ in 0..100 {
        let list = operator.told(&["dead", "list"]).await?;
        ensure!(list.ends_with("80 of 80 hits\n"), "{list}");
    }
    ensure!(lying(&scene).await? == before, "a hundred listings changed the queues");
    // What is told names nobody.
    for command in [
        &["dead", "list"][..],
        &["dead", "list", "--json"],
        &["dead", "show", "--json"],
        &["dead", "show"],
        &["dead", "group", "--by", "uai,reason"],
    ] {
        let told = operator.told(command).await?;
        ensure!(!told.contains(&hits::visitor(0)) && !told.contains("onglet="), "{command:?} {told}");
    }
    let revealed = operator.told(&["dead", "show", "--json", "--reveal", "--max", "1", "--queue", "parked"]).await?;
    let revealed: Value = serde_json::from_str(&revealed)?;
    ensure!(revealed["uid"] == hits::visitor(0) && revealed["now"]["outcome"] == "would be delivered", "{revealed}");
    let id = revealed["id"].as_str().context("an id")?;
    let one = operator.told(&["dead", "show", &id[..12]]).await?;
    ensure!(
        one.contains(id) && one.contains("gateway") == one.contains("gateway-timeout") && one.matches("routing key").count() == 1,
        "{one}"
    );
    let filtered = operator.told(&["dead", "list", "--status", "504", "--attempt", "3", "--since", "1h", "--max", "7"]).await?;
    ensure!(filtered.ends_with("7 of 80 hits\n"), "{filtered}");
    let (code, text) = operator.refused(&["dead", "show", "ffffffffffff"]).await?;
    ensure!(code == Some(1) && text.contains("no such hit"), "{text}");
    ensure!(lying(&scene).await? == before, "looking changed the queues");
    Ok(())
}

pub(crate) async fn one_looks_at_a_time(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    bury(&scene, (0..3).map(|n| parked(n, "timeout", 504))).await?;
    let operator = Operator::of(&scene)?;
    let channel = scene.queues.connection().create_channel().await?;
    let queue = format!("{}.parked", scene.prefix);
    let other = channel.basic_consume(queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let (code, text) = operator.refused(&["dead", "list"]).await?;
    ensure!(code == Some(1) && text.contains("somebody else reads"), "{text}");
    channel.close(200, "done".into()).await?;
    drop(other);
    operator.told(&["dead", "list"]).await?;
    Ok(())
}

pub(crate) async fn a_low_limit_is_pointed_out(scene: Scene) -> anyhow::Result<()> {
    // As somebody declares it who has not read the documentation.
    let channel = scene.queues.connection().create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(format!("{}.parked", scene.prefix).into(), durable, arguments).await?;
    let operator = Operator::of(&scene)?;
    let (code, text) = operator.refused(&["dead", "list", "--queue", "parked"]).await?;
    ensure!(code == Some(1) && text.contains("x-delivery-limit=1000000000") && text.contains("Nothing was touched"), "{text}");
    ensure!(operator.told(&["dead", "list", "--queue", "parked", "--trust-limit"]).await?.contains("0 of 0 hits"), "an empty queue");
    let (_, text) = operator.refused(&["dead", "list", "--queue", "rejected"]).await?;
    ensure!(text.contains("does not exist"), "{text}");
    Ok(())
}

/// What `tests/cli/dead.transcript` says, said by a real broker; `TRYCMD=overwrite` writes it anew.
pub(crate) async fn the_transcript_is_true(scene: Scene) -> anyhow::Result<()> {
    const TRANSCRIPT: &str = "tests/cli/dead.transcript";
    scene.declare(&[]).await?;
    let told = |dead: Dead, minute: u32| {
        // Everything that is told must be the same each time.
        let mut body: Value = serde_json::from_slice(&dead.body)?;
        body["cdt"] = json!(1_795_507_200 + i64::from(minute) * 60);
        let at = format!("2026-11-24T08:{minute:02}:00.000Z");
        let mut headers = dead.headers;
        headers.extend([("x-dnma-first-failed-at", text(&at)), ("x-dnma-failed-at", text(&at)), ("x-dnma-plan", text("2.01"))]);
        anyhow::Ok(Dead { body: body.to_string().into_bytes(), headers, ..dead })
    };
    let dead = [
        parked(1, "timeout", 504),
        parked(2, "timeout", 504),
        parked(3, "refused", 200),
        rejected(4, "CANTINE"),
        rejected(5, "CANTINE"),
        rejected(6, "CAHIER_DE_TEXTES"),
    ];
    bury(&scene, dead.into_iter().zip(0..).map(|(dead, minute)| told(dead, minute)).collect::<Result<Vec<_>, _>>()?).await?;
    let operator = Operator::of(&scene)?;
    let expected = std::fs::read_to_string(TRANSCRIPT)?;
    let mut actual = String::new();
    for line in expected.lines() {
        let Some(command) = line.strip_prefix("$ dnma-relay ") else {
            if line.starts_with('#') || actual.is_empty() {
                actual += &format!("{line}\n");
            }
            continue;
        };
        let arguments: Vec<&str> = command.split(' ').collect();
        let mut process = operator.command(&arguments);
        let output = process.env("MATOMO_TOKEN_AUTH", "token").output().await?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        actual += &format!("{line}\n{}", said.replace(&scene.prefix, "dnma.hits"));
        actual += &output.status.code().filter(|code| *code != 0).map(|code| format!("? {code}\n")).unwrap_or_default();
        actual += "\n";
    }
    let actual = without_ids(actual.trim_end());
    if std::env::var("TRYCMD").is_ok_and(|wish| wish == "overwrite") {
        std::fs::write(TRANSCRIPT, &actual)?;
    }
    for (number, (is, should)) in actual.lines().zip(expected.lines()).enumerate() {
        ensure!(is == should, "{TRANSCRIPT}:{}: it is\n{is}\nand should be\n{should}", number + 1);
    }
    ensure!(actual.lines().count() == expected.lines().count(), "{TRANSCRIPT} should be\n{actual}");
    Ok(())
}

/// Receipts are numbered by time and chance.
fn without_ids(text: &str) -> String {
    let mut without = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("dnma-relay-re").or_else(|| rest.split_once("dnma-relay-pu")) {
        let Some(end) = after.find(".json") else { break };
        let what = after.split('-').next().unwrap_or_default();
        let start = &rest[before.len()..before.len() + "dnma-relay-re".len()];
        without += &format!("{before}{start}{what}-ID");
        rest = &after[end..];
    }
    without + rest + "\n"
}

/// Live hits, published one by one, each with the moment when it was.
async fn live(
    scene: &Scene,
    name: &str,
    visitors: usize,
    stop: &tokio_util::sync::CancellationToken,
) -> anyhow::Result<HashMap<String, Instant>> {
    let mut published = HashMap::new();
    let mut tick = tokio::time::interval(Duration::from_millis(25));
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let number = published.len();
        let (visitor, id) = (hits::visitor(1_000_000 + number % visitors), format!("{name} {number}"));
        let body = hits::valid(&visitor, &id).to_string().into_bytes();
        published.insert(id, Instant::now());
        scene.queues.publish([(visitor, body)]).await?;
    }
    Ok(published)
}

/// The median delay of these hits from their publishing to Matomo's record, and that of the slowest of twenty.
async fn delays(scene: &Scene, published: HashMap<String, Instant>) -> anyhow::Result<(f64, f64)> {
    eventually("every live hit is stored", Duration::from_secs(30), async || {
        let copies = scene.matomo.copies();
        published.keys().all(|id| copies.contains_key(id))
    })
    .await?;
    let ledger = scene.matomo.ledger();
    let stored = ledger.stored.iter().filter_map(|hit| Some(hit.at.duration_since(*published.get(&hit.id)?).as_secs_f64()));
    let mut delays: Vec<f64> = stored.collect();
    delays.sort_by(f64::total_cmp);
    Ok((delays[delays.len() / 2], delays[delays.len() * 19 / 20]))
}

pub(crate) async fn fifty_thousand(scene: Scene) -> anyhow::Result<()> {
    const ALL: usize = 50_000;
    scene.declare(&[]).await?;
    let group = |n: usize| n % 100 == 7;
    let dead = (0..ALL).map(|n| match n % 5 {
        _ if group(n) => rejected(n, "CANTINES"),
        0 => parked(n, "timeout", 504),
        1 => parked(n, "refused", 200),
        _ => rejected(n, ["CANTINE", "CAHIER_DE_TEXTES"][n % 2]),
    });
    bury(&scene, dead).await?;
    eventually("all are there", Duration::from_secs(30), async || {
        let (parked, rejected) = (scene.queues.ready("parked").await.unwrap_or(0), scene.queues.ready("rejected").await.unwrap_or(0));
        parked + rejected == ALL
    })
    .await?;
    let before = lying(&scene).await?;
    let operator = Operator::of(&scene)?;

    // Grouped, in under 5 s; with the nearest legal value beside each.
    let began = Instant::now();
    let groups = operator.json(&["dead", "group", "--json"]).await?;
    let took = began.elapsed();
    println!("grouping {ALL} dead hits took {:.2} s", took.as_secs_f64());
    ensure!(took < Duration::from_secs(5), "grouping took {took:?}");
    ensure!(groups["hits"] == ALL, "{groups}");
    let of = |value: &str| groups["groups"].as_array().into_iter().flatten().find(|g| g["value"] == value).cloned().unwrap_or_default();
    ensure!(of("CANTINES")["hits"] == ALL / 100, "{groups}");
    ensure!(of("CAHIER_DE_TEXTES")["nearest"] == "CAHIER_TEXTES", "{groups}");

    // Killed in the middle, it has taken nothing.
    let mut listing = operator.command(&["dead", "list", "--json"]).stdout(Stdio::piped()).spawn()?;
    let mut out = listing.stdout.take().context("stdout")?;
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut vec![0; 200_000]).await?;
    listing.kill().await?;
    eventually("all are back", Duration::from_secs(30), async || {
        let (parked, rejected) = (scene.queues.ready("parked").await.unwrap_or(0), scene.queues.ready("rejected").await.unwrap_or(0));
        parked + rejected == ALL
    })
    .await?;
    ensure!(lying(&scene).await? == before, "a killed listing changed the queues");

    // A wrong fix is refused, and a dry run changes nothing.
    let chosen = ["--queue", "rejected", "--reason", "not-in-list", "--field", "dimension8"];
    let fix = "rename:dimension8:CANTINES=SERVICE_COLLECTIVITE";
    let replay = |rest: &[&'static str]| [&["dead", "replay"][..], &chosen, rest].concat();
    let (code, told) = operator.refused(&replay(&["--fix", "rename:dimension8:CANTINES=SERVICE_COLECTIVITE"])).await?;
    ensure!(code == Some(2) && told.contains("is SERVICE_COLLECTIVITE meant?"), "{told}");
    let (code, told) = operator.refused(&replay(&["--fix", "upper:uid"])).await?;
    ensure!(code == Some(2) && told.contains("visitor's identity"), "{told}");
    let (code, told) = operator.refused(&replay(&["--fix", fix, "--dry-run", "--json"])).await?;
    let forecast: Value = serde_json::from_str(&told).with_context(|| told.clone())?;
    let stay = before[1].len() - ALL / 100;
    ensure!(code == Some(1) && forecast["mended"] == ALL / 100 && forecast["rejected"]["not-in-list"] == stay, "{forecast}");
    ensure!(lying(&scene).await? == before, "a refused fix or a dry run changed the queues");
    ensure!(std::fs::read_dir(operator.folder.path())?.next().is_none(), "a dry run leaves no receipt");

    // The group alone, beside live hits that hardly notice.
    let worker = scene.worker(&[]).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let alone = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        stop.cancel();
    };
    let (published, ()) = tokio::join!(live(&scene, "before", 50, &stop), alone);
    let quiet = delays(&scene, published?).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let replaying = async {
        let replayed = operator.run(&replay(&["--fix", fix, "--json"])).await;
        stop.cancel();
        replayed
    };
    let (published, replayed) = tokio::join!(live(&scene, "during", 50, &stop), replaying);
    let (published, replayed) = (published?, replayed?);
    let live_hits = published.len();
    let busy = delays(&scene, published).await?;
    println!(
        "live hits' delay, median and 95th: {:.1} and {:.1} ms alone, {:.1} and {:.1} ms beside a replay",
        quiet.0 * 1e3,
        quiet.1 * 1e3,
        busy.0 * 1e3,
        busy.1 * 1e3
    );
    ensure!(live_hits > 100 && busy.0 < 2.0 * quiet.0, "live hits waited for {busy:?} s instead of {quiet:?} s");
    let receipt: Value =
        serde_json::from_slice(&replayed.stdout).with_context(|| String::from_utf8_lossy(&replayed.stderr).into_owned())?;
    ensure!(
        receipt["counts"]["replayed"] == ALL / 100 && receipt["counts"]["mended"] == ALL / 100 && receipt["complete"] == true,
        "{receipt}"
    );
    eventually("the group is stored", Duration::from_secs(30), async || {
        scene.matomo.copies().keys().filter(|id| id.starts_with("rejected")).count() >= ALL / 100
    })
    .await?;
    worker.stop().await?;
    let expected: HashMap<String, usize> = (0..ALL).filter(|n| group(*n)).map(|n| (format!("rejected {n}"), 1)).collect();
    let mut copies = scene.matomo.copies();
    copies.retain(|id, _| id.starts_with("rejected") || id.starts_with("parked"));
    ensure!(copies == expected, "not exactly the group was delivered: {} hits", copies.len());
    ensure!(
        scene
            .matomo
            .ledger()
            .stored
            .iter()
            .filter(|hit| hit.id.starts_with("rejected"))
            .all(|hit| hit.parameters["dimension8"] == "SERVICE_COLLECTIVITE")
    );
    let rest: Lying = before[1].iter().filter(|(_, body, _)| !String::from_utf8_lossy(body).contains("CANTINES")).cloned().collect();
    ensure!(lying(&scene).await? == [before[0].clone(), rest], "the rest is not as it was");
    Ok(())
}

pub(crate) async fn a_replay_starts_anew_and_says_so(scene: Scene) -> anyhow::Result<()> {
    // Parked by a relay, for a site that Matomo does not know yet.
    let worker = scene.worker(&[("RETRY_DELAYS", "1s,2s")]).await?;
    let now = Timestamp::now().as_second();
    let hit = |number: usize, cdt: i64| {
        let visitor = hits::visitor(number);
        (
            visitor.clone(),
            hits::with(hits::valid_at(&visitor, &format!("hit {number}"), cdt), "idsite", json!("9")).to_string().into_bytes(),
        )
    };
    // The second would pass Matomo's line in two minutes, the third has passed it.
    scene.queues.publish([hit(0, now - 10), hit(1, now - 86_400 + 150), hit(2, now - 90_000), hit(3, now - 20)]).await?;
    eventually("all are parked", Duration::from_secs(30), async || scene.queues.ready("parked").await.is_ok_and(|n| n == 4)).await?;
    scene.matomo.ledger().sites.insert("9".to_owned());
    let operator = Operator::of(&scene)?;
    let export = operator.told(&["dead", "export", "parked.ndjson", "--idsite", "9", "--reason", "refused"]).await?;
    ensure!(export.contains("3 of 4 hits"), "{export}");
    let dry = operator.run(&["dead", "replay", "--dry-run", "--rate", "1"]).await?;
    let dry = String::from_utf8(dry.stdout)?;
    ensure!(dry.contains("1 stay: they would be parked (over 24 h old"), "{dry}");
    let (code, told) = operator.refused(&["dead", "replay", "--rate", "5", "--receipt", "receipt.json"]).await?;
    ensure!(code == Some(1) && told.contains("3 hits sent again; receipt: receipt.json"), "one stays, which is no success: {told}");
    eventually("they are stored", Duration::from_secs(20), async || scene.matomo.stored() == 3).await?;
    let order: Vec<String> = scene.matomo.ledger().stored.iter().map(|hit| hit.id.clone()).collect();
    ensure!(order[0] == "hit 1", "the one that is about to cross the line goes first: {order:?}");
    let left = scene.queues.list("parked").await?;
    ensure!(left.len() == 1 && left[0].headers["x-dnma-reason"] == "too-old", "{left:?}");

    // The daily balance knows that they were sent again.
    let books = operator.json(&["books", "--url", worker.url(), "--json"]).await?;
    ensure!(books["total"]["entered"] == 4 && books["total"]["replayed"] == 3 && books["closes"] == true, "{books}");

    // The receipt says who did what to which, and nothing of anybody.
    let text = std::fs::read_to_string(operator.folder.path().join("receipt.json"))?;
    let receipt: Value = serde_json::from_str(&text)?;
    ensure!(receipt["who"]["user"] == "camille" && receipt["who"]["amqp_user"] == "guest" && receipt["complete"] == true, "{receipt}");
    ensure!(receipt["counts"]["replayed"] == 3 && receipt["counts"]["left: too-old"] == 1, "{receipt}");
    ensure!((0..4).all(|n| !text.contains(&hits::visitor(n))) && !text.contains("guest:guest"), "{text}");
    let exported = std::fs::read_to_string(operator.folder.path().join("parked.ndjson"))?;
    let ids =
        exported.lines().map(|line| serde_json::from_str::<Value>(line).map(|line| line["id"].as_str().unwrap_or_default().to_owned()));
    let mut ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    ids.sort();
    let set: String = <sha2::Sha256 as sha2::Digest>::digest(ids.join("\n") + "\n").iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(receipt["set_sha256"] == set, "the receipt is of another set than the export: {receipt}");

    // One that fails again starts its schedule anew, and bears the mark for good.
    scene.matomo.ledger().sites.remove("9");
    worker.stop().await?;
    let worker = scene.worker(&[("RETRY_DELAYS", "1s,2s")]).await?;
    bury(&scene, [Dead { body: hit(7, now - 5).1, ..parked(7, "timeout", 504) }]).await?;
    operator.told(&["dead", "replay", "--reason", "timeout"]).await?;
    eventually("it is parked again", Duration::from_secs(30), async || scene.queues.ready("parked").await.is_ok_and(|n| n == 2)).await?;
    let again = scene.queues.list("parked").await?.into_iter().find(|message| message.key == hits::visitor(7)).context("it")?;
    ensure!(again.headers["x-dnma-attempt"] == "3", "it was sent three times more: {:?}", again.headers);
    ensure!(again.headers["x-dnma-replay"].starts_with("parked/") && again.headers["x-dnma-reason"] == "refused", "{:?}", again.headers);
    worker.stop().await
}

pub(crate) async fn a_replay_that_is_stopped_loses_nothing(scene: Scene) -> anyhow::Result<()> {
    const ALL: usize = 400;
    let worker = scene.worker(&[]).await?;
    bury(&scene, (0..ALL).map(|n| parked(n, "timeout", 504))).await?;
    let operator = Operator::of(&scene)?;
    let replay = ["dead", "replay", "--rate", "100", "--receipt"];
    let under_way = async |receipt: &'static str, stored: usize| -> anyhow::Result<tokio::process::Child> {
        let child = operator.command(&[&replay[..], &[receipt]].concat()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        eventually("it is under way", Duration::from_secs(20), async || scene.matomo.stored() >= stored).await?;
        Ok(child)
    };
    let receipt = |name: &str| -> anyhow::Result<Value> { Ok(serde_json::from_slice(&std::fs::read(operator.folder.path().join(name))?)?) };
    // Asked to stop, it does so in good order and says how far it came.
    let mut child = under_way("stopped.json", 50).await?;
    let sent = std::process::Command::new("kill").args(["-TERM", &child.id().context("a process")?.to_string()]).status()?;
    ensure!(sent.success() && child.wait().await?.code() == Some(1), "it stops");
    let stopped = receipt("stopped.json")?;
    let moved = stopped["counts"]["replayed"].as_u64().context("a count")? as usize;
    ensure!(stopped["complete"] == false && stopped["stopped"] == "stopped by a signal" && (50..ALL).contains(&moved), "{stopped}");
    eventually("what was sent is stored", Duration::from_secs(20), async || scene.matomo.stored() == moved).await?;
    ensure!(scene.queues.ready("parked").await? == ALL - moved, "the others are in their queue");
    // Killed, it repeats at most what was unacked.
    let mut child = under_way("killed.json", moved + 50).await?;
    child.kill().await?;
    ensure!(receipt("killed.json")?["complete"] == false, "the receipt was begun before anything moved");
    eventually("the queue is free again", Duration::from_secs(20), async || {
        operator.run(&["dead", "list", "--json"]).await.is_ok_and(|output| output.status.success())
    })
    .await?;
    operator.told(&[&replay[..], &["rest.json"]].concat()).await?;
    eventually("all are stored", Duration::from_secs(20), async || scene.matomo.copies().len() == ALL).await?;
    let repeated = scene.matomo.stored() - ALL;
    ensure!(repeated <= 20, "{repeated} hits are repeated, and a batch has at most 20");
    ensure!(scene.queues.ready("parked").await? == 0, "none is left");
    worker.stop().await
}

pub(crate) async fn what_is_exported_is_read_back(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    let odd = Dead { body: b"\xff\xfe no hit".to_vec(), ..rejected(50, "CANTINE") };
    bury(&scene, (0..5).map(|n| parked(n, "timeout", 504)).chain([rejected(40, "CANTINE"), odd])).await?;
    let before = lying(&scene).await?;
    let operator = Operator::of(&scene)?;
    operator.told(&["dead", "export", "all.ndjson.gz"]).await?;
    let file = operator.folder.path().join("all.ndjson.gz");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions());
    ensure!(mode & 0o077 == 0, "others can read it: {mode:o}");
    ensure!(std::fs::read(&file)?.starts_with(&[0x1f, 0x8b]), "not packed");
    let (_, told) = operator.refused(&["dead", "export", "all.ndjson.gz"]).await?;
    ensure!(told.contains("cannot be created"), "{told}");
    let (code, told) = operator.refused(&["validate", "all.ndjson.gz"]).await?;
    ensure!(code == Some(1) && told.contains("not-in-list") && told.contains("malformed"), "{told}");
    let published = operator.json(&["publish", "--json", "all.ndjson.gz"]).await?;
    ensure!(published["published"] == 7 && published["without_visitor"] == 1, "{published}");
    ensure!(lying(&scene).await? == before, "an export changed the queues");
    let shards = (0..8).map(|shard| shard.to_string());
    let mut bodies = Vec::new();
    for shard in shards {
        bodies.extend(scene.queues.list(&shard).await?.into_iter().map(|message| message.body));
    }
    let mut expected: Vec<Vec<u8>> = before.into_iter().flatten().map(|(_, body, _)| body).collect();
    bodies.sort();
    expected.sort();
    ensure!(bodies == expected, "what was published is not what was exported, byte for byte");
    Ok(())
}

pub(crate) async fn a_purge_asks_first(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    bury(&scene, (0..6).map(|n| parked(n, "timeout", 504)).chain((6..10).map(|n| parked(n, "refused", 200)))).await?;
    let before = lying(&scene).await?;
    let operator = Operator::of(&scene)?;
    let (code, told) = operator.refused(&["dead", "purge"]).await?;
    ensure!(code == Some(2) && told.contains("--all"), "{told}");
    let typed = async |answer: &str| -> anyhow::Result<(Option<i32>, String)> {
        let mut child = operator
            .command(&["dead", "purge", "--reason", "timeout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        tokio::io::AsyncWriteExt::write_all(&mut child.stdin.take().context("stdin")?, answer.as_bytes()).await?;
        let output = child.wait_with_output().await?;
        Ok((output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))))
    };
    let (code, told) = typed("yes\n").await?;
    ensure!(code == Some(1) && told.contains("Type 6 to delete them") && told.contains("Nothing was deleted"), "{told}");
    ensure!(lying(&scene).await? == before, "a refusal changed the queue");
    let (code, told) = typed("6\n").await?;
    ensure!(code == Some(0) && told.contains("6 hits deleted"), "{told}");
    let rest: Lying = before[0].iter().filter(|(_, _, reason)| reason == "refused").cloned().collect();
    ensure!(lying(&scene).await? == [rest, Vec::new()], "the others are not as they were");
    let (_, told) = operator.refused(&["dead", "purge", "--all", "--yes", "--receipt", "/proc/none/receipt.json"]).await?;
    ensure!(told.contains("nothing was done") && scene.queues.ready("parked").await? == 4, "{told}");
    let receipt = operator.json(&["dead", "purge", "--all", "--yes", "--receipt", "-"]).await?;
    ensure!(receipt["counts"]["deleted"] == 4 && receipt["complete"] == true, "{receipt}");
    ensure!(scene.queues.ready("parked").await? == 0, "all are deleted");
    Ok(())
}
