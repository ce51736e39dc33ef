//! Fifty thousand dead hits, and live ones beside them.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::stage::{Lying, Operator, bury, lying, parked, rejected};
use crate::Scene;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(60);

/// So many delays have a median that chance moves little.
const ENOUGH: usize = 150;

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
        let (visitor, id) =
            (hits::visitor(1_000_000 + number % visitors), format!("{name} {number}"));
        let body = hits::valid(&visitor, &id).to_string().into_bytes();
        published.insert(id, Instant::now());
        scene.queues.publish([(visitor, body)]).await?;
    }
    Ok(published)
}

/// The median delay of these hits from their publishing to Matomo's record, and that of the slowest
/// of twenty.
async fn delays(scene: &Scene, published: HashMap<String, Instant>) -> anyhow::Result<(f64, f64)> {
    eventually("every live hit is stored", Duration::from_secs(30), async || {
        let copies = scene.matomo.copies();
        published.keys().all(|id| copies.contains_key(id))
    })
    .await?;
    let ledger = scene.matomo.ledger();
    let stored = ledger
        .stored
        .iter()
        .filter_map(|hit| Some(hit.at.duration_since(*published.get(&hit.id)?).as_secs_f64()));
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
    let all_are_there = async || {
        let (parked, rejected) = (
            scene.queues.ready("parked").await.unwrap_or(0),
            scene.queues.ready("rejected").await.unwrap_or(0),
        );
        parked + rejected == ALL
    };
    eventually("all are there", Duration::from_secs(30), all_are_there).await?;
    let before = lying(&scene).await?;
    let operator = Operator::of(&scene)?;

    // Grouped, in under 5 s; with the nearest legal value beside each.
    let began = Instant::now();
    let groups = operator.json(&["dead", "group", "--json"]).await?;
    let took = began.elapsed();
    println!("grouping {ALL} dead hits took {:.2} s", took.as_secs_f64());
    ensure!(took < Duration::from_secs(5), "grouping took {took:?}");
    ensure!(groups["hits"] == ALL, "{groups}");
    let of = |value: &str| {
        groups["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|g| g["value"] == value)
            .cloned()
            .unwrap_or_default()
    };
    ensure!(of("CANTINES")["hits"] == ALL / 100, "{groups}");
    ensure!(of("CAHIER_DE_TEXTES")["nearest"] == "CAHIER_TEXTES", "{groups}");

    // Killed in the middle, it has taken nothing.
    let mut listing =
        operator.command(&["dead", "list", "--json"]).stdout(Stdio::piped()).spawn()?;
    let mut out = listing.stdout.take().context("stdout")?;
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut vec![0; 200_000]).await?;
    listing.kill().await?;
    eventually("all are back", Duration::from_secs(30), all_are_there).await?;
    ensure!(lying(&scene).await? == before, "a killed listing changed the queues");

    // Asked to stop in the middle, it gives everything back in its order.
    let mut listing = operator
        .command(&["dead", "list", "--json", "--queue", "rejected"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut out = listing.stdout.take().context("stdout")?;
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut vec![0; 4_000_000]).await?;
    let id = listing.id().context("a process")?.to_string();
    ensure!(std::process::Command::new("kill").args(["-TERM", &id]).status()?.success(), "kill");
    tokio::io::AsyncReadExt::read_to_end(&mut out, &mut Vec::new()).await?;
    ensure!(listing.wait().await?.code() == Some(1), "it stops, and says that it did");
    ensure!(lying(&scene).await? == before, "a listing that was stopped changed the queues");

    // An export that is stopped leaves no file that could be taken for a copy.
    let mut export =
        operator.command(&["dead", "export", "all.ndjson"]).stderr(Stdio::null()).spawn()?;
    let [part, whole] =
        ["all.ndjson.part", "all.ndjson"].map(|name| operator.folder.path().join(name));
    eventually("it is under way", Duration::from_secs(20), async || {
        std::fs::metadata(&part).is_ok_and(|file| file.len() > 1_000_000)
    })
    .await?;
    let id = export.id().context("a process")?.to_string();
    ensure!(std::process::Command::new("kill").args(["-TERM", &id]).status()?.success(), "kill");
    ensure!(
        export.wait().await?.code() == Some(1) && !part.exists() && !whole.exists(),
        "half an export is there"
    );
    ensure!(lying(&scene).await? == before, "an export that was stopped changed the queues");

    // A wrong fix is refused, and a dry run changes nothing.
    let chosen = ["--queue", "rejected", "--reason", "not-in-list", "--field", "dimension8"];
    let fix = "rename:dimension8:CANTINES=SERVICE_COLLECTIVITE";
    let replay = |rest: &[&'static str]| [&["dead", "replay"][..], &chosen, rest].concat();
    let (code, told) = operator
        .refused(&replay(&["--fix", "rename:dimension8:CANTINES=SERVICE_COLECTIVITE"]))
        .await?;
    ensure!(code == Some(2) && told.contains("is SERVICE_COLLECTIVITE meant?"), "{told}");
    let (code, told) = operator.refused(&replay(&["--fix", "upper:uid"])).await?;
    ensure!(code == Some(2) && told.contains("visitor's identity"), "{told}");
    let (code, told) = operator.refused(&replay(&["--fix", fix, "--dry-run", "--json"])).await?;
    let forecast: Value = serde_json::from_str(&told).with_context(|| told.clone())?;
    let stay = before[1].len() - ALL / 100;
    ensure!(
        code == Some(1)
            && forecast["fixed"] == ALL / 100
            && forecast["rejected"]["not-in-list"] == stay,
        "{forecast}"
    );
    ensure!(lying(&scene).await? == before, "a refused fix or a dry run changed the queues");
    ensure!(
        std::fs::read_dir(operator.folder.path())?.next().is_none(),
        "a dry run leaves no receipt"
    );

    // The group alone, beside live hits that hardly notice.
    let worker = scene.worker(&[]).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let alone = async {
        let stored = eventually("there is enough to compare with", SOON, async || {
            scene.matomo.stored() >= ENOUGH
        });
        let stored = stored.await;
        stop.cancel();
        stored
    };
    let (published, enough) = tokio::join!(live(&scene, "before", 50, &stop), alone);
    enough?;
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
        "live hits' delay, median and 95th: {:.1} and {:.1} ms alone, {:.1} and {:.1} ms beside a \
         replay",
        quiet.0 * 1e3,
        quiet.1 * 1e3,
        busy.0 * 1e3,
        busy.1 * 1e3
    );
    ensure!(
        live_hits > 100 && busy.0 < 2.0 * quiet.0,
        "live hits waited for {busy:?} s instead of {quiet:?} s"
    );
    let receipt: Value = serde_json::from_slice(&replayed.stdout)
        .with_context(|| String::from_utf8_lossy(&replayed.stderr).into_owned())?;
    ensure!(
        receipt["counts"]["replayed"] == ALL / 100
            && receipt["counts"]["fixed"] == ALL / 100
            && receipt["complete"] == true,
        "{receipt}"
    );
    eventually("the group is stored", Duration::from_secs(30), async || {
        scene.matomo.copies().keys().filter(|id| id.starts_with("rejected")).count() >= ALL / 100
    })
    .await?;
    worker.stop().await?;
    let expected: HashMap<String, usize> =
        (0..ALL).filter(|n| group(*n)).map(|n| (format!("rejected {n}"), 1)).collect();
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
    let rest: Lying = before[1]
        .iter()
        .filter(|(_, body, _)| !String::from_utf8_lossy(body).contains("CANTINES"))
        .cloned()
        .collect();
    ensure!(lying(&scene).await? == [before[0].clone(), rest.clone()], "the rest is not as it was");

    // More than one reader can hold, deleted out of the middle of others.
    let purged = [
        "dead",
        "purge",
        "--queue",
        "rejected",
        "--reason",
        "not-in-list",
        "--max",
        "25000",
        "--yes",
        "--json",
    ];
    let receipt = operator.json(&purged).await?;
    ensure!(receipt["counts"]["deleted"] == 25_000 && receipt["complete"] == true, "{receipt}");
    ensure!(
        lying(&scene).await? == [before[0].clone(), rest[25_000..].to_vec()],
        "others than the first were deleted"
    );
    Ok(())
}
