//! Reference lists are put in force while the worker works; a broken version is refused and the old
//! one stays.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::Scene;
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
