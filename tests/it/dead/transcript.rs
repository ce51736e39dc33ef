//! Every command of `dead`, word for word.

use anyhow::ensure;
use serde_json::{Value, json};

use super::stage::{Dead, Operator, bury, parked, rejected, text};
use crate::Scene;

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
        headers.extend([
            ("x-dnma-first-failed-at", text(&at)),
            ("x-dnma-failed-at", text(&at)),
            ("x-dnma-plan", text("2.01")),
        ]);
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
    bury(
        &scene,
        dead.into_iter()
            .zip(0..)
            .map(|(dead, minute)| told(dead, minute))
            .collect::<Result<Vec<_>, _>>()?,
    )
    .await?;
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
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        actual += &format!("{line}\n{}", said.replace(&scene.prefix, "dnma.hits"));
        actual += &output
            .status
            .code()
            .filter(|code| *code != 0)
            .map(|code| format!("? {code}\n"))
            .unwrap_or_default();
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
    let word = |word: &str| {
        let what = ["dnma-relay-replay-", "dnma-relay-purge-"]
            .into_iter()
            .find(|name| word.starts_with(name));
        what.map_or_else(
            || word.to_owned(),
            |name| format!("{name}ID.json{}", if word.ends_with('\n') { "\n" } else { "" }),
        )
    };
    text.split_inclusive([' ', '\n']).map(word).collect::<String>() + "\n"
}
