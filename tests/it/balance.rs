//! The daily balance tells of every exploitant, plateforme and site what really happened, and names
//! what it cannot know.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Scene;
use crate::drill::PLACES;
use crate::support::books::at_rest;
use crate::support::matomo::Situation;
use crate::support::worker::{Worker, command, sum_of, until};
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(60);

/// As `exploitant/plateforme/idsite`.
type Truth = BTreeMap<String, Fates>;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Fates {
    entered: i64,
    delivered: i64,
    rejected: i64,
    parked: i64,
}

/// Reference lists with two names each.
fn lists() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("exploitants.txt"), "ALPHA\nBETA\n")?;
    std::fs::write(folder.path().join("plateformes.txt"), "PA\nPB\n")?;
    Ok(folder)
}

fn hit(visitor: usize, id: &str, account: &str) -> (String, Vec<u8>) {
    let visitor = hits::visitor(visitor);
    let mut hit = hits::valid(&visitor, id);
    for (field, value) in ["dimension3", "dimension4", "idsite"].into_iter().zip(account.split('/'))
    {
        hit[field] = json!(value);
    }
    (visitor, hit.to_string().into_bytes())
}

fn broken((visitor, body): (String, Vec<u8>)) -> anyhow::Result<(String, Vec<u8>)> {
    let hit = hits::with(serde_json::from_slice(&body)?, "dimension8", json!("CANTINE"));
    Ok((visitor, hit.to_string().into_bytes()))
}

/// The account that a message counts for, by a reading of its own.
fn account(message: &Value) -> String {
    let value = |field: &str| message.get(field).and_then(Value::as_str).unwrap_or_default();
    let listed = |field: &str, list: [&str; 2]| {
        if list.contains(&value(field)) { value(field).to_owned() } else { "other".to_owned() }
    };
    let site = value("idsite").parse::<u32>().map_or("other".to_owned(), |site| site.to_string());
    format!(
        "{}/{}/{site}",
        listed("dimension3", ["ALPHA", "BETA"]),
        listed("dimension4", ["PA", "PB"])
    )
}

/// What Matomo's record and the queues say.
async fn truth(scene: &Scene, published: &[(String, Vec<u8>)]) -> anyhow::Result<Truth> {
    let read = |body: &[u8]| account(&serde_json::from_slice(body).unwrap_or_default());
    let mut truth = Truth::new();
    for (_, body) in published {
        truth.entry(read(body)).or_default().entered += 1;
    }
    let stored: BTreeMap<String, String> = scene
        .matomo
        .ledger()
        .stored
        .iter()
        .map(|hit| (hit.id.clone(), account(&json!(hit.parameters))))
        .collect();
    for account in stored.into_values() {
        truth.entry(account).or_default().delivered += 1;
    }
    for message in scene.queues.list("rejected").await? {
        truth.entry(read(&message.body)).or_default().rejected += 1;
    }
    for message in scene.queues.list("parked").await? {
        truth.entry(read(&message.body)).or_default().parked += 1;
    }
    Ok(truth)
}

/// What `dnma-relay books --json` says, and its exit code.
async fn balance(
    scene: &Scene,
    urls: &[&str],
    since: Option<&Path>,
) -> anyhow::Result<(Value, Option<i32>)> {
    let mut command = command(&[
        ("AMQP_URL", &scene.broker.url),
        ("QUEUE_PREFIX", &scene.prefix),
        ("RETRY_DELAYS", "1s,2s"),
    ]);
    command.args(["books", "--json"]);
    for url in urls {
        command.args(["--url", url]);
    }
    if let Some(since) = since {
        command.arg("--since").arg(since);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let books = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((books, output.status.code()))
}

fn told(books: &Value) -> anyhow::Result<Truth> {
    let mut told = Truth::new();
    for line in books["accounts"].as_array().context("accounts")? {
        let count = |field: &str| line[field].as_i64().unwrap_or(-1);
        let name = ["exploitant", "plateforme", "idsite"]
            .map(|field| line[field].as_str().unwrap_or("?"))
            .join("/");
        for moving in ["carried", "to_retry", "given_back", "in_flight"] {
            ensure!(count(moving) == 0, "{name}: {moving} at rest: {line}");
        }
        let fates = Fates {
            entered: count("entered"),
            delivered: count("delivered"),
            rejected: count("rejected"),
            parked: count("parked"),
        };
        told.insert(name, fates);
    }
    Ok(told)
}

fn codes(books: &Value) -> Vec<&str> {
    books["gaps"].as_array().into_iter().flatten().filter_map(|gap| gap["code"].as_str()).collect()
}

async fn rest(scene: &Scene, workers: &[&Worker], published: usize) -> anyhow::Result<()> {
    at_rest(published, &scene.matomo, &scene.queues, &PLACES, workers, SOON).await
}

/// Hits of several accounts, of which some break the plan, and some are for sites that Matomo has
/// to know first.
fn a_day() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    const ACCOUNTS: [&str; 5] =
        ["ALPHA/PA/1", "ALPHA/PB/1", "ALPHA/PB/2", "BETA/PA/1", "BETA/PB/2"];
    let mut day: Vec<_> = (0..600)
        .map(|n| hit(n % 60, &format!("hit {n}"), ACCOUNTS[n % 60 % ACCOUNTS.len()]))
        .collect();
    for n in 0..7 {
        day.push(broken(hit(n, &format!("broken {n}"), ACCOUNTS[n % 2]))?);
        day.push(hit(n, &format!("of nobody {n}"), "GAMMA/PA/1"));
        day.push(hit(n, &format!("of no plateforme {n}"), "BETA/elsewhere/1"));
    }
    for n in 0..4 {
        day.push(hit(n, &format!("for a site that is set up late {n}"), "ALPHA/PA/4"));
        day.push(hit(n, &format!("for a site that is not set up {n}"), "BETA/PB/3"));
    }
    day.push(("nobody".to_owned(), b"{\"dimension3\":".to_vec()));
    // It names its exploitant, and lacks what every hit must have.
    let (visitor, body) = hit(1, "without a visitor", "BETA/PA/1");
    day.push((
        visitor,
        hits::without(serde_json::from_slice(&body)?, "uid").to_string().into_bytes(),
    ));
    Ok(day)
}

pub(crate) async fn every_account_is_what_really_happened(scene: Scene) -> anyhow::Result<()> {
    let folder = lists()?;
    let path = folder.path().to_string_lossy().into_owned();
    let vars = [("REFERENCE_LISTS", path.as_str()), ("RETRY_DELAYS", "1s,2s")];
    let workers = [scene.worker(&vars).await?, scene.worker(&vars).await?];
    let (both, urls) = (workers.each_ref(), workers.each_ref().map(Worker::url));
    scene.matomo.ledger().sites.insert("2".to_owned());
    let mut published = a_day()?;
    scene.queues.publish(published.clone()).await?;
    // In the middle of the work too, whatever the queues say at that moment.
    let (books, _) = balance(&scene, &urls, None).await?;
    let total = |fields: &[&str]| {
        fields.iter().filter_map(|field| books["total"][field].as_i64()).sum::<i64>()
    };
    let fates = total(&["delivered", "rejected", "parked", "to_retry", "given_back", "in_flight"]);
    ensure!(
        total(&["carried", "entered"]) == fates && !codes(&books).contains(&"account"),
        "{:#}",
        books["total"]
    );
    // Those of the two sites that Matomo does not know fail.
    until(&both, "retried_total", SOON, |retried| retried >= 8.0).await?;
    scene.matomo.ledger().sites.insert("4".to_owned());
    rest(&scene, &both, published.len()).await?;

    // One more, of which Matomo leaves in doubt whether it was stored.
    scene.matomo.set(Situation::GatewayTimeout);
    let doubt = hit(1, "in doubt", "BETA/PA/1");
    scene.queues.publish([doubt.clone()]).await?;
    published.push(doubt);
    eventually("it is in doubt", SOON, async || scene.matomo.ledger().doubted > 0).await?;
    scene.matomo.set(Situation::Fine);
    let truth_now = truth(&scene, &published).await?;
    let delivered: i64 = truth_now.values().map(|fates| fates.delivered).sum();
    until(&both, "delivered_total", SOON, |counted| counted as i64 == delivered).await?;

    let (books, code) = balance(&scene, &urls, None).await?;
    ensure!(
        code == Some(0) && books["closes"] == true && books["compared"] == true,
        "exit code {code:?}: {:#}",
        books["gaps"]
    );
    let truth_now = truth(&scene, &published).await?;
    ensure!(
        told(&books)? == truth_now,
        "the books:\n{:#?}\nthe truth:\n{truth_now:#?}",
        told(&books)?
    );
    ensure!(
        truth_now["BETA/PB/3"].parked == 4 && truth_now["ALPHA/PA/4"].delivered == 4,
        "{truth_now:?}"
    );
    ensure!(
        truth_now["other/PA/1"].rejected == 7 && truth_now["other/other/other"].rejected == 1,
        "{truth_now:?}"
    );
    let doubted = scene.matomo.ledger().doubted;
    let line = |name: &str| {
        books["accounts"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|line| line["exploitant"] == name)
            .cloned()
    };
    ensure!(books["total"]["doubtful"] == doubted, "{doubted} were in doubt: {}", books["total"]);
    ensure!(
        line("other").context("other")?["rejected_by"]["not-in-list"] == 7,
        "{:#}",
        books["accounts"]
    );
    for exploitant in ["ALPHA", "BETA", "other"] {
        let name = format!("exploitant_checked_total{{exploitant=\"{exploitant}\"}}");
        ensure!(sum_of(&both, &name).await? > 0.0, "the metric by exploitant counts {exploitant}");
    }

    // A second day begins where the first one ended.
    let former = folder.path().join("former.json");
    std::fs::write(&former, serde_json::to_vec(&books)?)?;
    let second =
        [hit(1, "next day", "BETA/PB/2"), broken(hit(2, "next day, broken", "BETA/PB/2"))?];
    scene.queues.publish(second).await?;
    rest(&scene, &both, published.len() + 2).await?;
    let (books, code) = balance(&scene, &urls, Some(&former)).await?;
    ensure!(code == Some(0), "{:#}", books["gaps"]);
    let day: Truth =
        told(&books)?.into_iter().filter(|(_, fates)| *fates != Fates::default()).collect();
    let expected = Fates { entered: 2, delivered: 1, rejected: 1, parked: 0 };
    ensure!(day == Truth::from([("BETA/PB/2".to_owned(), expected)]), "{day:#?}");

    // What lies in the queues is held against the counters.
    scene.queues.take("parked").await?;
    let (books, code) = balance(&scene, &urls, None).await?;
    ensure!(
        code == Some(1) && codes(&books) == ["fewer"] && books["gaps"][0]["place"] == "parked",
        "{:#}",
        books["gaps"]
    );
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

pub(crate) async fn a_killed_worker_is_missed(scene: Scene) -> anyhow::Result<()> {
    let folder = lists()?;
    let path = folder.path().to_string_lossy().into_owned();
    let vars = [("REFERENCE_LISTS", path.as_str()), ("RETRY_DELAYS", "1s,2s")];
    let victim = scene.worker(&vars).await?;
    let published = a_day()?;
    scene.matomo.ledger().sites.insert("2".to_owned());
    scene.queues.publish(published.clone()).await?;
    rest(&scene, &[&victim], published.len()).await?;
    let (books, code) = balance(&scene, &[victim.url()], None).await?;
    ensure!(code == Some(0), "{:#}", books["gaps"]);
    let former = folder.path().join("former.json");
    std::fs::write(&former, serde_json::to_vec(&books)?)?;
    let gone = victim.url().to_owned();
    victim.kill9().await?;
    let next = scene.worker(&vars).await?;

    let rejected = scene.queues.ready("rejected").await?;
    let (books, code) = balance(&scene, &[next.url()], None).await?;
    ensure!(
        code == Some(1) && codes(&books) == ["more", "more"],
        "exit code {code:?}: {:#}",
        books["gaps"]
    );
    ensure!(
        books["gaps"][0]["place"] == "parked" && books["gaps"][0]["hits"] == 8,
        "{:#}",
        books["gaps"]
    );
    ensure!(
        books["gaps"][1]["place"] == "rejected" && books["gaps"][1]["hits"] == rejected,
        "{:#}",
        books["gaps"]
    );
    let (books, code) = balance(&scene, &[next.url()], Some(&former)).await?;
    ensure!(
        code == Some(1) && codes(&books) == ["gone"],
        "exit code {code:?}: {:#}",
        books["gaps"]
    );
    ensure!(books["total"]["entered"] == 0, "{}", books["total"]);
    let (books, code) = balance(&scene, &[next.url(), &gone], Some(&former)).await?;
    ensure!(
        code == Some(1) && codes(&books) == ["silent", "gone"],
        "exit code {code:?}: {:#}",
        books["gaps"]
    );
    ensure!(
        books["gaps"][0]["text"].as_str().is_some_and(|text| text.contains("Connection refused")),
        "{:#}",
        books["gaps"]
    );
    next.stop().await
}
