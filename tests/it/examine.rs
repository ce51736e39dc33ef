//! `check --connect` finds what would keep a relay from working, says what to do, and changes
//! nothing.

use anyhow::{Context, ensure};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::Value;

use crate::Scene;
use crate::support::matomo::Situation;
use crate::support::worker;

/// Exit code and findings: subject → (outcome, text and remedy).
async fn check(
    scene: &Scene,
    vars: &[(&str, &str)],
    arguments: &[&str],
) -> anyhow::Result<(Option<i32>, Vec<(String, String, String)>)> {
    let mut command = worker::command(&scene.vars(&scene.matomo.url(), vars));
    command.args(["check", "--connect", "--json"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().context("findings")?;
    let read = |finding: &Value| {
        let words = format!("{} {}", text(finding, "text"), text(finding, "remedy"));
        (text(finding, "subject"), text(finding, "outcome"), words)
    };
    Ok((output.status.code(), findings.iter().map(read).collect()))
}

fn outcome<'f>(findings: &'f [(String, String, String)], subject: &str) -> (&'f str, &'f str) {
    findings
        .iter()
        .find(|(found, ..)| found == subject)
        .map_or(("", ""), |(_, outcome, text)| (outcome, text))
}

pub(crate) async fn what_would_keep_a_relay_from_working_is_named(
    scene: Scene,
) -> anyhow::Result<()> {
    let (code, findings) = check(&scene, &[], &[]).await?;
    ensure!(code == Some(0), "a broker without the queues is no mistake: {findings:?}");
    ensure!(
        outcome(&findings, "topology").0 == "note"
            && outcome(&findings, "topology").1.contains("not there yet"),
        "{findings:?}"
    );
    let (code, findings) = check(&scene, &[("TOPOLOGY", "verify")], &[]).await?;
    ensure!(
        code == Some(1) && outcome(&findings, "topology").0 == "wrong",
        "with verify it is one, and the first check declared nothing: {findings:?}"
    );

    scene.declare(&[]).await?;
    let (code, findings) = check(&scene, &[], &[]).await?;
    for subject in [
        "broker",
        "topology",
        "rights.write",
        "rights.read",
        "matomo",
        "matomo.clock",
        "matomo.judges",
    ] {
        ensure!(outcome(&findings, subject).0 == "fine", "{subject}: {findings:?}");
    }
    let (_, version) = outcome(&findings, "broker.version");
    ensure!(
        version.contains(&scene.broker.version),
        "{version} instead of {}",
        scene.broker.version
    );
    let (advice, size) = outcome(&findings, "broker.message");
    ensure!(advice == "note" && size.contains("max_message_size"), "{findings:?}");
    ensure!(
        code == Some(0) && scene.matomo.stored() == 0 && scene.matomo.ledger().attempts.len() > 1,
        "nothing is stored unasked"
    );
    ensure!(scene.queues.ready("parked").await? == 0, "nothing was published");

    // A queue of somebody else's making.
    let name = format!("{}.8", scene.prefix);
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    scene
        .queues
        .channel()
        .queue_declare(name.as_str().into(), durable, FieldTable::default())
        .await?;
    let (code, findings) = check(&scene, &[("QUEUE_SHARDS", "9")], &[]).await?;
    let (outcome, text) = outcome(&findings, "topology");
    ensure!(
        code == Some(1)
            && outcome == "wrong"
            && text.contains(&name)
            && text.contains("other arguments"),
        "{findings:?}"
    );
    Ok(())
}

pub(crate) async fn what_stands_in_for_matomo_is_recognised(scene: Scene) -> anyhow::Result<()> {
    let is = |findings: &[(String, String, String)], subject: &str, expected: &str| {
        outcome(findings, subject).0 == expected
    };
    let (code, findings) =
        check(&scene, &[("MATOMO_TOKEN_AUTH", "bad")], &["--send-test-hit", "1"]).await?;
    ensure!(
        is(&findings, "matomo.stores", "fine")
            && is(&findings, "matomo.token", "wrong")
            && code == Some(1),
        "{findings:?}"
    );
    ensure!(
        scene.matomo.ledger().failed_tokens == 1,
        "a bad token is tried once: twenty times would lock us out"
    );
    scene.matomo.ledger().token = Some("good".to_owned());
    let (code, findings) =
        check(&scene, &[("MATOMO_TOKEN_AUTH", "good")], &["--send-test-hit", "1"]).await?;
    ensure!(is(&findings, "matomo.token", "fine") && code == Some(0), "{findings:?}");
    let (code, findings) = check(&scene, &[], &["--send-test-hit", "77"]).await?;
    ensure!(
        is(&findings, "matomo.stores", "wrong") && code == Some(1),
        "an unknown site: {findings:?}"
    );
    // Locked out, with a token that is good.
    scene.matomo.ledger().failed_tokens = 21;
    let (code, findings) =
        check(&scene, &[("MATOMO_TOKEN_AUTH", "good")], &["--send-test-hit", "1"]).await?;
    let (is_token, text) = outcome(&findings, "matomo.token");
    ensure!(
        is_token == "wrong" && text.contains("locked this address out") && code == Some(1),
        "{findings:?}"
    );
    scene.matomo.ledger().failed_tokens = 0;
    // A request a hit: a refusal and a database that is away look alike.
    let single = [("MATOMO_API", "single")];
    let (code, findings) = check(&scene, &single, &[]).await?;
    ensure!(is(&findings, "matomo.judges", "note") && code == Some(0), "{findings:?}");
    let (code, findings) = check(&scene, &single, &["--send-test-hit", "1"]).await?;
    ensure!(is(&findings, "matomo.stores", "fine") && code == Some(0), "{findings:?}");
    for situation in [Situation::Fine, Situation::DatabaseDown] {
        scene.matomo.set(situation);
        let (code, findings) = check(&scene, &single, &["--send-test-hit", "77"]).await?;
        let (stores, text) = outcome(&findings, "matomo.stores");
        ensure!(
            stores == "wrong" && text.contains("database") && code == Some(1),
            "{situation:?}: {findings:?}"
        );
    }
    scene.matomo.set(Situation::TrackerOff);
    let (_, findings) = check(&scene, &[], &[]).await?;
    ensure!(outcome(&findings, "matomo.judges").1.contains("record_statistics"), "{findings:?}");
    for (situation, subject, outcome, code) in [
        (Situation::QueuedTracking, "matomo", "note", 0),
        (Situation::Redirect, "matomo", "wrong", 1),
        (Situation::LoginPage, "matomo", "wrong", 1),
        (Situation::NotInstalled, "matomo", "wrong", 1),
        (Situation::TrackerOff, "matomo.judges", "wrong", 1),
        (Situation::DatabaseDown, "matomo.judges", "wrong", 1),
        (Situation::QueuedTracking, "matomo.judges", "note", 0),
        (Situation::TakesAll, "matomo.judges", "wrong", 1),
    ] {
        scene.matomo.set(situation);
        let (exit, findings) = check(&scene, &[], &[]).await?;
        ensure!(
            is(&findings, subject, outcome) && exit == Some(code),
            "{situation:?}: {exit:?} {findings:?}"
        );
    }
    let port = crate::support::free_port()?;
    let nobody = format!("http://127.0.0.1:{port}/");
    let (code, findings) = check(
        &scene,
        &[("MATOMO_URL", &nobody), ("AMQP_URL", &format!("amqp://u:hunter2@127.0.0.1:{port}/%2f"))],
        &[],
    )
    .await?;
    ensure!(
        is(&findings, "matomo", "wrong") && is(&findings, "broker", "wrong") && code == Some(1),
        "{findings:?}"
    );
    ensure!(findings.iter().all(|(.., text)| !text.contains("hunter2")), "{findings:?}");
    Ok(())
}
