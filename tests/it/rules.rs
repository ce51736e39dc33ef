//! Reference lists are put in force while the worker works; a broken version is refused and the old
//! one stays.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::Scene;
use crate::refusals::broken;
use crate::support::books::Books;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(20);

/// Puts a new version in place as a mounted ConfigMap does: at once, by a link.
fn publish_list(folder: &Path, version: &str, text: &str) -> anyhow::Result<()> {
    let target = folder.join(format!("..{version}"));
    std::fs::create_dir_all(&target)?;
    std::fs::write(target.join("outils.txt"), text)?;
    let link = folder.join("..data");
    std::os::unix::fs::symlink(&target, folder.join("..new"))?;
    std::fs::rename(folder.join("..new"), &link)?;
    if !folder.join("outils.txt").exists() {
        std::os::unix::fs::symlink(link.join("outils.txt"), folder.join("outils.txt"))?;
    }
    Ok(())
}

pub(crate) async fn lists_are_read_again_and_a_broken_one_is_refused(
    scene: Scene,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    publish_list(folder.path(), "1", "# the DNMA's tools\nPRONOTE\n")?;
    let path = folder.path().to_string_lossy().into_owned();
    let worker = scene.worker(&[("REFERENCE_LISTS", &path)]).await?;
    ensure!(
        worker.log().contains("exploitants,plateformes,exceptions"),
        "what is not checked is told: {}",
        worker.log()
    );
    let visitor = hits::visitor(1);
    let send = async |name: &str, tool: &str| {
        let hit = hits::with(hits::valid(&visitor, name), "dimension6", json!(tool));
        scene.queues.publish([(visitor.clone(), hit.to_string().into_bytes())]).await
    };
    send("a tool of the list", "PRONOTE").await?;
    send("a tool of no list", "MON_OUTIL").await?;
    eventually("one is stored", SOON, async || scene.matomo.stored() == 1).await?;
    eventually("one is rejected", SOON, async || {
        scene.queues.ready("rejected").await.is_ok_and(|n| n == 1)
    })
    .await?;

    publish_list(folder.path(), "2", "PRONOTE\nMON_OUTIL\nAUTRE\n")?;
    // GAR_RESSOURCE is the plan's own.
    worker.until("list_values{list=\"outils\"}", SOON, |n| n == 4.0).await?;
    send("a tool of the new list", "MON_OUTIL").await?;
    eventually("it is stored", SOON, async || scene.matomo.stored() == 2).await?;

    publish_list(folder.path(), "3", "# empty by mistake\n")?;
    worker.until("rules_valid", SOON, |n| n == 0.0).await?;
    for words in
        ["the new rules are refused, the old ones stay in force", "outils.txt: holds no value"]
    {
        eventually(words, SOON, async || worker.log().contains(words)).await?;
    }
    send("the old list is still in force", "MON_OUTIL").await?;
    eventually("it is stored", SOON, async || scene.matomo.stored() == 3).await?;

    publish_list(folder.path(), "4", "PRONOTE\n")?;
    worker.until("rules_valid", SOON, |n| n == 1.0).await?;
    send("no longer on the list", "MON_OUTIL").await?;
    eventually("it is rejected", SOON, async || {
        scene.queues.ready("rejected").await.is_ok_and(|n| n == 2)
    })
    .await?;
    worker.stop().await
}

pub(crate) async fn a_visit_dimension_that_changes_is_counted(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let visitor = hits::visitor(1);
    for (name, profile) in
        [("first", "ELEVE"), ("second", "ELEVE"), ("third", "PARENT"), ("fourth", "PARENT")]
    {
        let hit = hits::with(hits::valid(&visitor, name), "dimension2", json!(profile));
        scene.queues.publish([(visitor.clone(), hit.to_string().into_bytes())]).await?;
    }
    eventually("all are delivered", SOON, async || scene.matomo.stored() == 4).await?;
    let counted = worker.sum("violations_total{rule=\"visit-dimension-changed\"}").await?;
    ensure!(counted == 1.0, "{}", worker.get("/metrics").await?.1);
    worker.stop().await
}

pub(crate) async fn another_routing_key_than_the_uid_is_counted(
    scene: Scene,
) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let hit = |number: usize, name: &str| {
        let visitor = hits::visitor(number);
        let body = hits::valid(&visitor, name).to_string().into_bytes();
        (visitor, body)
    };
    // Longer than a routing key can be, so that `publish` cuts it.
    let long = "é".repeat(200);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), hits::valid(&long, "long").to_string())?;
    let vars = [("AMQP_URL", scene.broker.url.as_str()), ("QUEUE_PREFIX", &scene.prefix)];
    let mut publish = tokio::process::Command::from(crate::support::worker::command(&vars));
    let published = publish.arg("publish").arg(file.path()).output().await?;
    ensure!(published.status.success(), "{published:?}");
    scene.queues.publish([hit(0, "its own")]).await?;
    let counted = "violations_total{rule=\"routing-key\"}";
    eventually("they are stored", SOON, async || scene.matomo.stored() == 2).await?;
    ensure!(worker.sum(counted).await? == 0.0, "{}", worker.get("/metrics").await?.1);
    for (number, key) in [(1, "hits"), (2, ""), (3, &hits::visitor(4))] {
        let (_, body) = hit(number, "another");
        scene.queues.publish([(key.to_owned(), body)]).await?;
    }
    eventually("they are stored all the same", SOON, async || scene.matomo.stored() == 5).await?;
    ensure!(worker.sum(counted).await? == 3.0, "{}", worker.get("/metrics").await?.1);
    worker.stop().await?;

    let strict = scene.worker(&[("VALIDATION", "strict")]).await?;
    let (visitor, body) = hit(5, "another");
    scene.queues.publish([("hits".to_owned(), body), hit(6, "its own")]).await?;
    strict.until("rejected_total{rule=\"routing-key\"}", SOON, |n| n == 1.0).await?;
    eventually("the other is stored", SOON, async || scene.matomo.stored() == 6).await?;
    let rejected = scene.queues.take("rejected").await?;
    let violations = &rejected[0].headers["x-dnma-violations"];
    ensure!(
        violations.contains("\"routing-key\"") && !violations.contains(&visitor),
        "{violations}"
    );
    ensure!(!strict.log().contains(&visitor), "a log line names a visitor");
    strict.stop().await
}

/// The built-in plan under another version, with another text of the rule that a wrong service
/// breaks.
fn publish_plan(folder: &Path, version: &str) -> anyhow::Result<()> {
    let built_in = include_str!("../../src/domain/plan/rfti-2.01.toml");
    let (number, text) = ("version = \"2.01\"", "is not a value of {field}");
    ensure!(built_in.contains(number) && built_in.contains(text), "the plan has other words");
    let plan = built_in
        .replace(number, &format!("version = \"{version}\""))
        .replace(text, &format!("is refused by {version} for {{field}}"));
    // Written beside the folder and put into it whole.
    let new = folder.with_extension("new");
    std::fs::write(&new, plan)?;
    Ok(std::fs::rename(new, folder.join("plan.toml"))?)
}

/// Between its check and its way into the queue the rules may change, and what is said of it must
/// not.
pub(crate) async fn a_rejected_hit_names_the_rules_that_rejected_it(
    _shared: Scene,
) -> anyhow::Result<()> {
    const HITS: usize = 5;
    let scene = Scene::on_a_broker_of_its_own("rules").await?;
    let folder = tempfile::tempdir()?;
    let lists = folder.path().join("lists");
    std::fs::create_dir(&lists)?;
    publish_plan(&lists, "older")?;
    let path = lists.to_string_lossy().into_owned();
    // One at a time, so that all but the first wait for it when the broker takes nothing.
    let vars =
        [("REFERENCE_LISTS", path.as_str()), ("QUEUE_SHARDS", "2"), ("MATOMO_BULK_SIZE", "1")];
    scene.declare(&vars).await?;
    let mut books = Books::default();
    scene.queues.publish((0..HITS).map(|n| broken(&mut books, n))).await?;
    scene.broker.raise_alarm().await?;
    let worker = scene.worker(&vars).await?;
    worker.until("broker_blocked", SOON, |blocked| blocked == 1.0).await?;
    let checked = "violations_total{rule=\"not-in-list\"}";
    worker.until(checked, SOON, |n| n as usize == HITS).await?;
    publish_plan(&lists, "newer")?;
    worker.until_it_says("read again and in force", SOON).await?;
    ensure!(worker.sum("rejected_total").await? == 0.0, "nothing waited for the new rules");
    scene.broker.lift_alarm().await?;
    worker.until("rejected_total", SOON, |n| n as usize == HITS).await?;
    let rejected = scene.queues.take("rejected").await?;
    let said: Vec<(&str, bool, bool)> = rejected
        .iter()
        .map(|message| {
            let violations = &message.headers["x-dnma-violations"];
            let names = |version| violations.contains(&format!("refused by {version}"));
            (message.headers["x-dnma-plan"].as_str(), names("older"), names("newer"))
        })
        .collect();
    ensure!(said == [("older", true, false); HITS], "plan, text of older, of newer: {said:?}");
    worker.stop().await
}

pub(crate) async fn a_pipe_in_place_of_a_list_holds_up_no_end(scene: Scene) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    publish_list(folder.path(), "1", "PRONOTE\n")?;
    let path = folder.path().to_string_lossy().into_owned();
    for second in [false, true] {
        let mut worker = scene.worker(&[("REFERENCE_LISTS", &path)]).await?;
        // Nobody ever writes into it.
        let pipe = folder.path().join("exploitants.txt");
        ensure!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success(), "mkfifo");
        worker.until("rules_valid", SOON, |n| n == 0.0).await?;
        worker.until_it_says("exploitants.txt is not a regular file", SOON).await?;
        worker.signal("TERM")?;
        worker.until_it_says("dnma-relay stopped", SOON).await?;
        if second {
            // It may have ended already.
            let _late = worker.signal("TERM");
        }
        let status = worker.wait(Duration::from_secs(5)).await?;
        ensure!(status.success(), "{status}: {}", worker.log());
        std::fs::remove_file(pipe)?;
    }
    Ok(())
}
