//! The real program as a child process.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::eventually;

/// No last words: somebody pressed Ctrl-C.
pub static QUIET: AtomicBool = AtomicBool::new(false);

pub struct Worker {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    http: String,
}

/// The program under test: that of `DNMA_RELAY`, cargo's for tests, or the one beside the demo.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("DNMA_RELAY") {
        return path.into();
    }
    if let Some(path) = option_env!("CARGO_BIN_EXE_dnma-relay") {
        return path.into();
    }
    let here = std::env::current_exe().unwrap_or_default();
    here.parent().and_then(Path::parent).map(|folder| folder.join("dnma-relay")).unwrap_or_default()
}

/// A command with nothing of this process's environment.
pub fn command(vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program());
    command.env_clear().envs(vars.iter().copied());
    command
}

/// Everything that a command wrote.
pub fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The sum of a metric over its labels and over workers. A name with labels means that one sample.
pub async fn sum_of<W: Borrow<Worker>>(workers: &[W], name: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for worker in workers {
        sum += total(&worker.borrow().metrics().await?, name);
    }
    Ok(sum)
}

/// Waits until that sum is as it should be. A worker that does not answer has no sum.
pub async fn until<W: Borrow<Worker>>(
    workers: &[W],
    name: &str,
    within: Duration,
    holds: impl Fn(f64) -> bool,
) -> anyhow::Result<()> {
    let as_it_should_be = async || sum_of(workers, name).await.is_ok_and(&holds);
    let outcome = eventually("a metric is as it should be", within, as_it_should_be).await;
    if let Err(error) = outcome {
        let last = sum_of(workers, name).await;
        let logs: Vec<String> = workers.iter().map(|worker| worker.borrow().log()).collect();
        return Err(error.context(format!("{name} is {last:?}: {}", logs.join("\n"))));
    }
    Ok(())
}

/// The sum of a metric over its labels.
fn total(samples: &HashMap<String, f64>, name: &str) -> f64 {
    let full = format!("dnma_relay_{name}");
    let of = |key: &str| {
        key == full || key.strip_prefix(&full).is_some_and(|rest| rest.starts_with('{'))
    };
    samples.iter().filter(|(key, _)| of(key)).map(|(_, value)| value).sum()
}

impl Worker {
    /// Starts a worker and waits until it tells its address. `vars` come on top of a quiet default.
    pub async fn start(vars: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_by(command(&[]), vars).await
    }

    /// The same with so many descriptors.
    pub async fn start_with_descriptors(
        descriptors: usize,
        vars: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {descriptors} && exec \"$0\"");
        command.args(["-c", &script]).arg(program()).env_clear();
        Self::start_by(command, vars).await
    }

    async fn start_by(mut command: Command, vars: &[(&str, &str)]) -> anyhow::Result<Self> {
        command
            .envs([("HTTP_LISTEN", "127.0.0.1:0"), ("LOG_FORMAT", "json")])
            .envs(vars.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // A Ctrl-C at the terminal is the caller's to hear.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| format!("{}", program().display()))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().context("stderr")?;
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("log").push(line);
            }
        });
        let mut worker = Self { child, log, http: String::new() };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(address) = worker.find("\"address\":\"") {
                worker.http = format!("http://{address}");
                return Ok(worker);
            }
            ensure!(
                worker.child.try_wait()?.is_none(),
                "the worker ended at once: {}",
                worker.log()
            );
            ensure!(Instant::now() < deadline, "the worker did not start: {}", worker.log());
            // Nothing tells of a new line or of an end, so both are looked for again and again.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn find(&self, key: &str) -> Option<String> {
        let log = self.log.lock().expect("log");
        log.iter().find_map(|line| {
            line.split_once(key)?.1.split_once('"').map(|(value, _)| value.to_owned())
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("log").join("\n")
    }

    /// Where it answers, as an operator would name it.
    pub fn url(&self) -> &str {
        &self.http
    }

    pub async fn request(
        &self,
        method: reqwest::Method,
        path: &str,
    ) -> anyhow::Result<reqwest::Response> {
        Ok(client()?.request(method, format!("{}{path}", self.http)).send().await?)
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let response = client()?.get(format!("{}{path}", self.http)).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    pub async fn ready(&self) -> anyhow::Result<()> {
        super::eventually("the worker is ready", Duration::from_secs(60), async || {
            matches!(self.get("/readyz").await, Ok((200, _)))
        })
        .await
        .with_context(|| self.log())
    }

    /// Every sample of /metrics, by name and labels as written.
    pub async fn metrics(&self) -> anyhow::Result<HashMap<String, f64>> {
        let (code, text) = self.get("/metrics").await?;
        ensure!(code == 200, "{code}: {text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Ok(samples
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// The sum of a metric over its labels.
    pub async fn sum(&self, name: &str) -> anyhow::Result<f64> {
        sum_of(&[self], name).await
    }

    /// Waits until that sum is as it should be.
    pub async fn until(
        &self,
        name: &str,
        within: Duration,
        holds: impl Fn(f64) -> bool,
    ) -> anyhow::Result<()> {
        until(&[self], name, within, holds).await
    }

    /// Waits until the log has these words.
    pub async fn until_it_says(&self, words: &str, within: Duration) -> anyhow::Result<()> {
        eventually(words, within, async || self.log().contains(words))
            .await
            .with_context(|| self.log())
    }

    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Whether every hit that it received has its fate or is in flight.
    pub async fn accounts_for_all(&self) -> anyhow::Result<()> {
        let accounts = async || {
            let samples = self.metrics().await?;
            let fates = [
                "in_flight",
                "delivered_total",
                "retried_total",
                "parked_total",
                "rejected_total",
                "released_total",
            ];
            Ok::<_, anyhow::Error>((
                total(&samples, "received_total"),
                fates.map(|fate| total(&samples, fate)).iter().sum::<f64>(),
            ))
        };
        // A duplicate on its way between two queues is in neither, and may come at any time.
        let closed = eventually("the accounts are closed", Duration::from_secs(20), async || {
            accounts().await.is_ok_and(|(received, accounted)| received == accounted)
        });
        if let Err(error) = closed.await {
            return Err(
                error.context(format!("received and accounted for: {:?}", accounts().await?))
            );
        }
        Ok(())
    }

    /// SIGTERM or another signal, to this one process.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()?;
        ensure!(sent.success(), "kill -{name}");
        Ok(())
    }

    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "still running after {within:?}: {}", self.log());
            // The end of a process is polled for: waiting for it would block this thread.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to stop, and expects exit code 0 before the drain limit.
    pub async fn drain(&mut self, limit: Duration) -> anyhow::Result<()> {
        let asked = Instant::now();
        self.signal("TERM")?;
        // Long enough for the worker to say itself that the limit is over.
        let status = self.wait(limit + Duration::from_secs(10)).await?;
        let took = asked.elapsed();
        println!("stopped within {:.2} s of SIGTERM", took.as_secs_f64());
        ensure!(status.success() && took < limit, "{status} after {took:?}: {}", self.log());
        Ok(())
    }

    /// Asks it to stop and expects exit code 0.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal("TERM")?;
        let status = self.wait(Duration::from_secs(30)).await?;
        ensure!(status.success(), "{status}: {}", self.log());
        Ok(())
    }

    pub async fn kill9(mut self) -> anyhow::Result<()> {
        self.signal("KILL")?;
        self.wait(Duration::from_secs(10)).await?;
        Ok(())
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
        Ok(kib / 1024)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker that still runs belongs to a test that failed: its last words help, and no
        // process stays behind.
        if matches!(self.child.try_wait(), Ok(None)) && !QUIET.load(Ordering::Relaxed) {
            let log = self.log.lock().expect("log");
            let last = log.len().saturating_sub(15);
            eprintln!("the worker's last words:\n{}", log[last..].join("\n"));
        }
        let _ended_before = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An HTTP client for the pages of workers.
pub fn client() -> anyhow::Result<reqwest::Client> {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?)
}
