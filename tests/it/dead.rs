//! `dnma-relay dead`: what is looked at stays, and what is moved is exactly what was meant.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use dnma_relay::domain::printable::is_hidden;
use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::Scene;
use crate::drill::broker_address;
use crate::support::cable::Cable;
use crate::support::worker::said;
use crate::support::{eventually, hits};

mod broker_moves;
mod many;
mod stage;
mod transcript;

pub(crate) use broker_moves::what_the_broker_parks_says_why;
pub(crate) use many::fifty_thousand;
use stage::{Dead, Lying, Operator, bury, lying, parked, rejected, text};
pub(crate) use transcript::the_transcript_is_true;

pub(crate) async fn looking_takes_nothing(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    bury(
        &scene,
        (0..40).map(|n| parked(n, "timeout", 504)).chain((40..80).map(|n| rejected(n, "CANTINE"))),
    )
    .await?;
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
        ensure!(
            !told.contains(&hits::visitor(0)) && !told.contains("onglet="),
            "{command:?} {told}"
        );
    }
    let revealed = operator
        .told(&["dead", "show", "--json", "--reveal", "--max", "1", "--queue", "parked"])
        .await?;
    let revealed: Value = serde_json::from_str(&revealed)?;
    ensure!(
        revealed["uid"] == hits::visitor(0) && revealed["now"]["outcome"] == "would be delivered",
        "{revealed}"
    );
    let id = revealed["id"].as_str().context("an id")?;
    let one = operator.told(&["dead", "show", id.get(..12).context("an id")?]).await?;
    let shown = |name: &str| {
        let mut lines = one.lines().filter_map(|line| line.trim_start().strip_prefix(name));
        (lines.next().map(str::trim), lines.next())
    };
    ensure!(
        one.contains(id)
            && shown("x-dnma-reason") == (Some("timeout"), None)
            && shown("x-dnma-status") == (Some("504"), None)
            && one.matches("routing key").count() == 1,
        "{one}"
    );
    let filtered = operator
        .told(&["dead", "list", "--status", "504", "--attempt", "3", "--since", "1h", "--max", "7"])
        .await?;
    ensure!(filtered.ends_with("7 of 80 hits\n"), "{filtered}");
    for command in
        [&["dead", "replay"][..], &["dead", "purge", "--yes"], &["dead", "export", "none.ndjson"]]
    {
        let (code, text) = operator.refused(&[command, &["--reason", "redirect"]].concat()).await?;
        ensure!(
            code == Some(1) && std::fs::read_dir(operator.folder.path())?.next().is_none(),
            "nothing is chosen: {text}"
        );
    }
    let (code, text) = operator.refused(&["dead", "show", "ffffffffffff"]).await?;
    ensure!(code == Some(1) && text.contains("no such hit"), "{text}");
    ensure!(lying(&scene).await? == before, "looking changed the queues");
    Ok(())
}

pub(crate) async fn what_an_ent_adds_is_not_told(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    let mut odd = rejected(1, "CANTINE");
    odd.headers.push(("x-dnma-jean", text("a secret name")));
    odd.body = br#"{"uid":"u","jean.dupont@ac-rennes.fr":"1","dimension8":"CANTINE"}"#.to_vec();
    bury(&scene, [odd]).await?;
    let operator = Operator::of(&scene)?;
    for command in [
        &["dead", "show"][..],
        &["dead", "show", "--json"],
        &["dead", "list", "--json"],
        &["dead", "group", "--json"],
    ] {
        let told = operator.told(command).await?;
        ensure!(!told.contains("jean"), "{command:?} {told}");
    }
    let (code, told) =
        operator.refused(&["dead", "replay", "--fix", "rename:ua:Mozilla=x"]).await?;
    ensure!(code == Some(2) && told.contains("may tell of a person"), "{told}");
    Ok(())
}

/// What a sender writes commands no terminal, and nothing tells the visitor that stands in a wrong
/// field.
pub(crate) async fn nothing_of_a_hit_gets_out_of_its_place(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let commands = "\u{1b}[2J\u{1b}]0;x\u{7}\r\u{8}\u{9b}2J\u{85}\u{202e}\u{2066}";
    let uid = "7c9e6679f4b44e1f8e0c5b6f0a3d2c1b";
    let fields: Vec<String> =
        hits::valid(uid, "page").as_object().context("an object")?.keys().cloned().collect();
    let mut messages = Vec::new();
    for field in &fields {
        // In the field, in a name, and in the routing key.
        let hit = hits::with(hits::valid(uid, "page"), field, json!(format!("A {commands}")));
        messages.push((format!("key {commands}"), hits::with(hit, commands, json!("1"))));
        let swapped = hits::with(hits::valid(uid, "page"), field, json!(uid));
        let swapped = hits::with(swapped, "uid", json!("0750655E"));
        messages.push((uid.to_owned(), hits::with(swapped, uid, json!("1"))));
        messages.push((
            uid.to_owned(),
            hits::with(hits::valid("VAA60001", "p"), field, json!("VAA60001")),
        ));
    }
    // Each of them breaks the plan.
    let messages = messages.into_iter().map(|(key, hit)| {
        (key, hits::with(hit, "dimension8", json!("CANTINE")).to_string().into_bytes())
    });
    let messages: Vec<(String, Vec<u8>)> = messages.collect();
    let count = messages.len();
    scene.queues.publish(messages).await?;
    eventually("all are rejected", Duration::from_secs(20), async || {
        scene.queues.ready("rejected").await.is_ok_and(|rejected| rejected == count)
    })
    .await?;
    let headers = scene.queues.list("rejected").await?;
    let headers = headers.iter().filter_map(|message| message.headers.get("x-dnma-violations"));
    let headers: String = headers.cloned().collect();
    ensure!(!headers.contains(uid) && !headers.contains("VAA60001"), "{headers}");
    let operator = Operator::of(&scene)?;
    let all = count.to_string();
    let fix = "rename:dimension8:CANTINE=ACCUEIL";
    for command in [
        &["dead", "list", "--max", &all][..],
        &["dead", "list", "--json", "--max", &all],
        &["dead", "list", "--reveal", "--max", &all],
        &["dead", "group"],
        &["dead", "group", "--json", "--by", "exploitant,plateforme,uai,idsite,field,value"],
        &["dead", "show"],
        &["dead", "show", "--json"],
        &["dead", "show", "--lang", "fr"],
        &["dead", "show", "--reveal"],
        &["dead", "show", "--reveal", "--json"],
        &["dead", "export", "-"],
        &["dead", "replay", "--dry-run", "--fix", fix],
        &["dead", "replay", "--dry-run", "--json", "--fix", fix],
    ] {
        let output = operator.run(command).await?;
        let told = crate::support::worker::said(&output);
        let hidden = told.chars().find(|c| is_hidden(*c) && *c != '\n');
        ensure!(hidden.is_none(), "{command:?} commands a terminal: {told:?}");
        let reveals = command.contains(&"--reveal") || command.contains(&"export");
        ensure!(
            reveals || !told.contains(uid) && !told.contains("VAA60001"),
            "{command:?} tells the visitor: {told}"
        );
    }
    worker.stop().await
}

pub(crate) async fn one_looks_at_a_time(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    bury(&scene, (0..3).map(|n| parked(n, "timeout", 504))).await?;
    let operator = Operator::of(&scene)?;
    let channel = scene.queues.connection().create_channel().await?;
    let queue = format!("{}.parked", scene.prefix);
    let other = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
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
    channel
        .queue_declare(format!("{}.parked", scene.prefix).into(), durable, arguments.clone())
        .await?;
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(3));
    channel.queue_declare(format!("{}.rejected", scene.prefix).into(), durable, arguments).await?;
    let operator = Operator::of(&scene)?;
    let (code, text) = operator.refused(&["dead", "list", "--queue", "parked"]).await?;
    ensure!(
        code == Some(1)
            && text.contains("x-delivery-limit=1000000000")
            && text.contains("Nothing was touched"),
        "{text}"
    );
    ensure!(
        operator
            .told(&["dead", "list", "--queue", "parked", "--trust-limit"])
            .await?
            .contains("0 of 0 hits"),
        "an empty queue"
    );
    ensure!(text.contains("set_policy -p '/'"), "{text}");
    let (_, text) = operator.refused(&["dead", "list", "--queue", "rejected"]).await?;
    ensure!(text.contains("no policy can raise that"), "{text}");
    channel
        .queue_delete(format!("{}.rejected", scene.prefix).into(), QueueDeleteOptions::default())
        .await?;
    let (_, text) = operator.refused(&["dead", "list", "--queue", "rejected"]).await?;
    ensure!(text.contains("does not exist"), "{text}");
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
            hits::with(
                hits::valid_at(&visitor, &format!("hit {number}"), cdt),
                "idsite",
                json!("9"),
            )
            .to_string()
            .into_bytes(),
        )
    };
    // The second would pass Matomo's line in two minutes, the third has passed it.
    scene
        .queues
        .publish([
            hit(0, now - 10),
            hit(1, now - 86_400 + 150),
            hit(2, now - 90_000),
            hit(3, now - 20),
        ])
        .await?;
    eventually("all are parked", Duration::from_secs(30), async || {
        scene.queues.ready("parked").await.is_ok_and(|n| n == 4)
    })
    .await?;
    scene.matomo.ledger().sites.insert("9".to_owned());
    let operator = Operator::of(&scene)?;
    let export = operator
        .told(&["dead", "export", "parked.ndjson", "--idsite", "9", "--reason", "refused"])
        .await?;
    ensure!(export.contains("3 of 4 hits"), "{export}");
    let dry = operator.run(&["dead", "replay", "--dry-run", "--rate", "1"]).await?;
    let dry = String::from_utf8(dry.stdout)?;
    ensure!(dry.contains("1 stay: they would be parked (over MATOMO_MAX_AGE old"), "{dry}");
    let (code, told) =
        operator.refused(&["dead", "replay", "--rate", "5", "--receipt", "receipt.json"]).await?;
    ensure!(
        code == Some(1) && told.contains("3 hits sent again; receipt: receipt.json"),
        "one stays, which is no success: {told}"
    );
    eventually("they are stored", Duration::from_secs(20), async || scene.matomo.stored() == 3)
        .await?;
    let order: Vec<String> =
        scene.matomo.ledger().stored.iter().map(|hit| hit.id.clone()).collect();
    ensure!(order[0] == "hit 1", "the one that is about to cross the line goes first: {order:?}");
    let left = scene.queues.list("parked").await?;
    ensure!(left.len() == 1 && left[0].headers["x-dnma-reason"] == "too-old", "{left:?}");

    // The daily balance knows that they were sent again.
    let books = operator.json(&["books", "--url", worker.url(), "--json"]).await?;
    ensure!(
        books["total"]["entered"] == 4
            && books["total"]["replayed"] == 3
            && books["closes"] == true,
        "{books}"
    );

    // The receipt says who did what to which, and nothing of anybody.
    let text = std::fs::read_to_string(operator.folder.path().join("receipt.json"))?;
    let receipt: Value = serde_json::from_str(&text)?;
    ensure!(
        receipt["who"]["user"] == "camille"
            && receipt["who"]["amqp_user"] == "guest"
            && receipt["complete"] == true,
        "{receipt}"
    );
    ensure!(
        receipt["counts"]["replayed"] == 3 && receipt["counts"]["left: too-old"] == 1,
        "{receipt}"
    );
    ensure!(
        (0..4).all(|n| !text.contains(&hits::visitor(n))) && !text.contains("guest:guest"),
        "{text}"
    );
    let exported = std::fs::read_to_string(operator.folder.path().join("parked.ndjson"))?;
    let ids = exported.lines().map(|line| {
        serde_json::from_str::<Value>(line)
            .map(|line| line["id"].as_str().unwrap_or_default().to_owned())
    });
    let mut ids: Vec<String> = ids.collect::<Result<_, _>>()?;
    ids.sort();
    let set: String = <sha2::Sha256 as sha2::Digest>::digest(ids.join("\n") + "\n")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ensure!(
        receipt["set_sha256"] == set,
        "the receipt is of another set than the export: {receipt}"
    );

    // One that fails again starts its schedule anew, and bears the mark for good.
    scene.matomo.ledger().sites.remove("9");
    worker.stop().await?;
    let worker = scene.worker(&[("RETRY_DELAYS", "1s,2s")]).await?;
    bury(&scene, [Dead { body: hit(7, now - 5).1, ..parked(7, "timeout", 504) }]).await?;
    operator.told(&["dead", "replay", "--reason", "timeout"]).await?;
    eventually("it is parked again", Duration::from_secs(30), async || {
        scene.queues.ready("parked").await.is_ok_and(|n| n == 2)
    })
    .await?;
    let again = scene
        .queues
        .list("parked")
        .await?
        .into_iter()
        .find(|message| message.key == hits::visitor(7))
        .context("it")?;
    ensure!(
        again.headers["x-dnma-attempt"] == "3",
        "it was sent three times more: {:?}",
        again.headers
    );
    ensure!(
        again.headers["x-dnma-replay"].starts_with("parked/")
            && again.headers["x-dnma-reason"] == "refused",
        "{:?}",
        again.headers
    );
    worker.stop().await
}

pub(crate) async fn a_replay_that_is_stopped_loses_nothing(scene: Scene) -> anyhow::Result<()> {
    const ALL: usize = 400;
    let worker = scene.worker(&[]).await?;
    bury(&scene, (0..ALL).map(|n| parked(n, "timeout", 504))).await?;
    let operator = Operator::of(&scene)?;
    let replay = ["dead", "replay", "--rate", "100", "--receipt"];
    let under_way =
        async |receipt: &'static str, stored: usize| -> anyhow::Result<tokio::process::Child> {
            let child = operator
                .command(&[&replay[..], &[receipt]].concat())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            eventually("it is under way", Duration::from_secs(20), async || {
                scene.matomo.stored() >= stored
            })
            .await?;
            Ok(child)
        };
    let receipt = |name: &str| -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(operator.folder.path().join(name))?)?)
    };
    // Asked to stop, it does so in good order and says how far it came.
    let mut child = under_way("stopped.json", 50).await?;
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &child.id().context("a process")?.to_string()])
        .status()?;
    ensure!(sent.success() && child.wait().await?.code() == Some(1), "it stops");
    let stopped = receipt("stopped.json")?;
    let moved = stopped["counts"]["replayed"].as_u64().context("a count")? as usize;
    ensure!(
        stopped["complete"] == false
            && stopped["stopped"] == "stopped by a signal"
            && (50..ALL).contains(&moved),
        "{stopped}"
    );
    eventually("what was sent is stored", Duration::from_secs(20), async || {
        scene.matomo.stored() == moved
    })
    .await?;
    ensure!(scene.queues.ready("parked").await? == ALL - moved, "the others are in their queue");
    // Killed, it repeats at most what was unacked.
    let mut child = under_way("killed.json", moved + 50).await?;
    child.kill().await?;
    ensure!(
        receipt("killed.json")?["complete"] == false,
        "the receipt was begun before anything moved"
    );
    eventually("the queue is free again", Duration::from_secs(20), async || {
        operator.run(&["dead", "list", "--json"]).await.is_ok_and(|output| output.status.success())
    })
    .await?;
    operator.told(&[&replay[..], &["rest.json"]].concat()).await?;
    eventually("all are stored", Duration::from_secs(20), async || {
        scene.matomo.copies().len() == ALL
    })
    .await?;
    let repeated = scene.matomo.stored() - ALL;
    ensure!(repeated <= 20, "{repeated} hits are repeated, and a batch has at most 20");
    ensure!(scene.queues.ready("parked").await? == 0, "none is left");
    worker.stop().await
}

pub(crate) async fn a_replay_notices_that_the_line_is_lost(scene: Scene) -> anyhow::Result<()> {
    const ALL: usize = 600;
    scene.declare(&[]).await?;
    bury(&scene, (0..ALL).map(|n| parked(n, "timeout", 504))).await?;
    let operator = Operator::of(&scene)?;
    let mut cable = Cable::to(broker_address(&scene)?).await?;
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", cable.port());
    let replay = |rate: &str, receipt: &str| {
        let mut command =
            operator.command(&["dead", "replay", "--rate", rate, "--receipt", receipt]);
        command.env("AMQP_URL", &url).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn()
    };
    let ends =
        async |child: tokio::process::Child, receipt: &str| -> anyhow::Result<(usize, usize)> {
            let output = tokio::time::timeout(Duration::from_secs(15), child.wait_with_output())
                .await
                .context("it hangs")??;
            let told = said(&output);
            ensure!(
                output.status.code() == Some(1)
                    && told.contains("Not finished")
                    && told.contains("sent again"),
                "{told}"
            );
            let receipt: Value =
                serde_json::from_slice(&std::fs::read(operator.folder.path().join(receipt))?)?;
            let count = |name: &str| receipt["counts"][name].as_u64().unwrap_or_default() as usize;
            Ok((count("replayed"), count("in_doubt")))
        };
    // While it waits, for nobody reads the shards.
    let mut child = replay("20", "waiting.json")?;
    let mut told = tokio::io::BufReader::new(child.stderr.take().context("stderr")?);
    let mut line = String::new();
    while !line.contains("no worker reads them") {
        line.clear();
        ensure!(tokio::io::AsyncBufReadExt::read_line(&mut told, &mut line).await? > 0, "it ended");
    }
    cable.cut().await;
    // An ack that was lost leaves a hit that was sent in its queue: no more of them than are told
    // to be in doubt.
    let rest_is_there = async |sent: usize, in_doubt: usize| {
        let there = async || {
            scene
                .queues
                .ready("parked")
                .await
                .is_ok_and(|parked| (ALL..=ALL + in_doubt).contains(&(parked + sent)))
        };
        eventually("the rest is in its queue", Duration::from_secs(20), there).await
    };
    let (sent, doubtful) = ends(child, "waiting.json").await?;
    rest_is_there(sent, doubtful).await?;
    // While it sends: what was taken out long ago is in no doubt.
    cable.mend().await?;
    let worker = scene.worker(&[]).await?;
    let child = replay("40", "sending.json")?;
    eventually("it has sent for longer than acks take", Duration::from_secs(40), async || {
        scene.matomo.stored() >= sent + 320
    })
    .await?;
    cable.cut().await;
    let (later, in_doubt) = ends(child, "sending.json").await?;
    // Matomo may have a batch more than was taken out.
    ensure!((1..=240).contains(&in_doubt) && later >= 300, "{in_doubt} of {later} in doubt");
    rest_is_there(sent + later, doubtful + in_doubt).await?;
    worker.stop().await
}

pub(crate) async fn what_is_exported_is_read_back(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    let odd = Dead { body: b"\xff\xfe no hit".to_vec(), ..rejected(50, "CANTINE") };
    bury(&scene, (0..5).map(|n| parked(n, "timeout", 504)).chain([rejected(40, "CANTINE"), odd]))
        .await?;
    let before = lying(&scene).await?;
    let operator = Operator::of(&scene)?;
    operator.told(&["dead", "export", "all.ndjson.gz"]).await?;
    let file = operator.folder.path().join("all.ndjson.gz");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions());
    ensure!(mode & 0o077 == 0, "others can read it: {mode:o}");
    ensure!(std::fs::read(&file)?.starts_with(&[0x1f, 0x8b]), "not packed");
    let (_, told) = operator.refused(&["dead", "export", "all.ndjson.gz"]).await?;
    ensure!(told.contains("choose another name"), "{told}");
    // What somebody else has put there is left alone, unless the operator says otherwise.
    let foreign = operator.folder.path().join("new.ndjson.part");
    std::fs::write(&foreign, "somebody's")?;
    let (_, told) = operator.refused(&["dead", "export", "new.ndjson"]).await?;
    ensure!(told.contains("new.ndjson.part is there already"), "{told}");
    ensure!(std::fs::read(&foreign)? == b"somebody's", "a foreign file was removed");
    operator.told(&["dead", "export", "new.ndjson", "--force"]).await?;
    operator.told(&["dead", "export", "new.ndjson", "--force"]).await?;
    ensure!(!foreign.exists(), "the unfinished file is there still");
    std::fs::remove_file(operator.folder.path().join("new.ndjson"))?;
    let piped = operator.told(&["dead", "export", "-"]).await?;
    let mut read_no_further = operator
        .command(&["dead", "export", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    drop(read_no_further.stdout.take());
    ensure!(
        read_no_further.wait().await?.success(),
        "whoever reads a pipe and has seen enough is no mistake"
    );
    let packed = std::fs::read(&file)?;
    let mut unpacked = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(packed.as_slice()),
        &mut unpacked,
    )?;
    // The broker counts each look in the message's headers, which are not the message's own.
    ensure!(piped == unpacked, "a pipe is given another thing than a file");
    let revealed = operator.told(&["dead", "show", "--reveal", "--json"]).await?;
    for counted in ["x-delivery-count", "x-acquired-count"] {
        ensure!(!unpacked.contains(counted) && !revealed.contains(counted), "{counted} is shown");
    }
    ensure!(std::fs::read_dir(operator.folder.path())?.count() == 1, "other files are there");
    let (code, told) = operator.refused(&["validate", "all.ndjson.gz"]).await?;
    ensure!(
        code == Some(1) && told.contains("not-in-list") && told.contains("foreign-form"),
        "{told}"
    );
    let published = operator.json(&["publish", "--json", "all.ndjson.gz"]).await?;
    ensure!(published["published"] == 7 && published["without_visitor"] == 1, "{published}");
    ensure!(lying(&scene).await? == before, "an export changed the queues");
    let shards = (0..8).map(|shard| shard.to_string());
    let mut bodies = Vec::new();
    for shard in shards {
        bodies.extend(scene.queues.list(&shard).await?.into_iter().map(|message| message.body));
    }
    let mut expected: Vec<Vec<u8>> =
        before.into_iter().flatten().map(|(_, body, _)| body).collect();
    bodies.sort();
    expected.sort();
    ensure!(bodies == expected, "what was published is not what was exported, byte for byte");
    Ok(())
}

pub(crate) async fn a_purge_asks_first(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    bury(
        &scene,
        (0..6).map(|n| parked(n, "timeout", 504)).chain((6..10).map(|n| parked(n, "refused", 200))),
    )
    .await?;
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
        tokio::io::AsyncWriteExt::write_all(
            &mut child.stdin.take().context("stdin")?,
            answer.as_bytes(),
        )
        .await?;
        let output = child.wait_with_output().await?;
        Ok((output.status.code(), said(&output)))
    };
    let (code, told) = typed("yes\n").await?;
    ensure!(
        code == Some(1)
            && told.contains("Type 6 to delete them")
            && told.contains("Nothing was deleted"),
        "{told}"
    );
    ensure!(lying(&scene).await? == before, "a refusal changed the queue");
    let (code, told) = typed("6\n").await?;
    ensure!(code == Some(0) && told.contains("6 hits deleted"), "{told}");
    let rest: Lying =
        before[0].iter().filter(|(_, _, reason)| reason == "refused").cloned().collect();
    ensure!(lying(&scene).await? == [rest, Vec::new()], "the others are not as they were");
    let (_, told) = operator
        .refused(&["dead", "purge", "--all", "--yes", "--receipt", "/proc/none/receipt.json"])
        .await?;
    ensure!(
        told.contains("nothing was done") && scene.queues.ready("parked").await? == 4,
        "{told}"
    );
    let receipt = operator.json(&["dead", "purge", "--all", "--yes", "--receipt", "-"]).await?;
    ensure!(receipt["counts"]["deleted"] == 4 && receipt["complete"] == true, "{receipt}");
    ensure!(scene.queues.ready("parked").await? == 0, "all are deleted");
    Ok(())
}

/// What a schedule deletes: hits that failed longer ago than they may be kept, and no other.
pub(crate) async fn what_is_old_enough_is_purged(scene: Scene) -> anyhow::Result<()> {
    scene.declare(&[]).await?;
    let days_ago = |mut dead: Dead, days: u64| -> anyhow::Result<Dead> {
        let then = jiff::Timestamp::now().checked_sub(Duration::from_secs(days * 86_400))?;
        dead.headers.push(("x-dnma-failed-at", text(&then.to_string())));
        Ok(dead)
    };
    let purge = ["dead", "purge", "--older-than", "90d", "--yes", "--receipt", "-"];
    let mut hits = Vec::new();
    for number in 0..4 {
        let days = if number % 2 == 0 { 91 } else { 89 };
        hits.push(days_ago(parked(number, "timeout", 504), days)?);
        hits.push(days_ago(rejected(number, "SERVICE"), days)?);
    }
    bury(&scene, hits).await?;
    let before = lying(&scene).await?;
    let operator = Operator::of(&scene)?;
    let receipt = operator.json(&purge).await?;
    ensure!(receipt["counts"]["deleted"] == 4 && receipt["complete"] == true, "{receipt}");
    let young: Vec<Lying> =
        before.iter().map(|queue| queue.iter().skip(1).step_by(2).cloned().collect()).collect();
    ensure!(lying(&scene).await?.as_slice() == young, "the others are not as they were");
    let again = operator.run(&purge).await?;
    ensure!(
        again.status.success() && said(&again).contains("nothing was deleted"),
        "a day without any is no error: {}",
        said(&again)
    );
    let (code, told) = operator.refused(&["dead", "purge", "--older-than", "90", "--yes"]).await?;
    ensure!(code == Some(2) && told.contains("--older-than"), "{told}");
    Ok(())
}
