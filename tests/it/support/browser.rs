//! Chromium, where there is one: what a page becomes in it, what it says to its console, and how it
//! looks.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(60);

/// Frames as wide as a phone and a screen, measured from outside: shared with the test of the
/// report.
const MEASURE: &str = include_str!("../../browser/measure.html");

pub struct Browser(PathBuf);

/// What a page became.
pub struct Opened {
    pub dom: String,
    /// Lines of the console: errors, and what the policy forbade.
    pub console: Vec<String>,
    /// What the page asked the network for, once it was there.
    pub requests: Vec<String>,
}

impl Browser {
    /// None, said aloud, where Chromium is not installed.
    pub fn find(what: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/bin")])
            .flat_map(|folder| {
                ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name))
            })
            .find(|program| program.is_file());
        if found.is_none() {
            let _told = writeln!(
                std::io::stderr(),
                "SKIPPED: Chromium is not installed: {what} was not opened in a browser"
            );
        }
        found.map(Self)
    }

    async fn run(&self, url: &str, options: &[String]) -> anyhow::Result<(String, String)> {
        let profile = tempfile::tempdir()?;
        let run = Command::new(&self.0)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-extensions",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
            ])
            .args([
                "--enable-logging=stderr",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(options)
            .arg(url)
            .kill_on_drop(true)
            .output();
        let output =
            tokio::time::timeout(DEADLINE, run).await.context("Chromium does not end")??;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{errors}");
        Ok((String::from_utf8(output.stdout)?, errors))
    }

    /// Opens a page for so long by its own clock.
    pub async fn open(&self, url: &str, lasting: Duration) -> anyhow::Result<Opened> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("net.json");
        let options = [
            "--dump-dom".to_owned(),
            format!("--virtual-time-budget={}", lasting.as_millis()),
            format!("--log-net-log={}", log.display()),
        ];
        let (dom, errors) = self.run(url, &options).await?;
        let log: Value = serde_json::from_slice(&std::fs::read(&log)?)?;
        let asked = log["events"].as_array().context("events")?.iter().filter_map(|event| {
            let params = &event["params"];
            // The browser's own wishes, and the first request, have no origin.
            params["initiator"].as_str().filter(|initiator| *initiator != "not an origin")?;
            params["url"].as_str().map(str::to_owned)
        });
        Ok(Opened {
            dom,
            console: errors
                .lines()
                .filter(|line| line.contains("CONSOLE"))
                .map(str::to_owned)
                .collect(),
            requests: asked.collect(),
        })
    }

    /// A picture of the page.
    pub async fn picture(
        &self,
        url: &str,
        (width, height): (u32, u32),
        dark: bool,
        to: &Path,
    ) -> anyhow::Result<()> {
        let options = [
            format!("--screenshot={}", to.display()),
            format!("--window-size={width},{height}"),
            scheme(dark),
        ];
        self.run(url, &options).await.map(|_| ())
    }

    /// Measures the page, without its script, at every width, in light and dark.
    pub async fn measure(&self, page: &str, dark: bool) -> anyhow::Result<Vec<Value>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("page.html");
        let quoted = Value::from(page).to_string().replace('<', "\\u003c");
        std::fs::write(&file, MEASURE.replace("PAGE", &quoted))?;
        let options = ["--dump-dom".to_owned(), "--window-size=1300,900".to_owned(), scheme(dark)];
        let (dom, _) = self.run(&format!("file://{}", file.display()), &options).await?;
        let (_, measured) = dom.split_once("data-measured=\"").context("measured")?;
        let (measured, _) = measured.split_once('"').context("an end")?;
        Ok(serde_json::from_str(&measured.replace("&quot;", "\""))?)
    }
}

fn scheme(dark: bool) -> String {
    format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 })
}
