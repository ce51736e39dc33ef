//! A process that is measured: its CPU time and memory, as the kernel tells them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, ensure};

use super::sink::Tally;

/// CPU nanoseconds of all threads of a process.
pub fn cpu(pid: u32) -> anyhow::Result<u64> {
    let (mut sum, mut is_told) = (0, false);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))
        .context("a process that is measured has ended")?
    {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        if let Some(nanoseconds) = text.split(' ').next().and_then(|text| text.parse::<u64>().ok())
        {
            // 0 of one that has just been started.
            (sum, is_told) = (sum + nanoseconds, true);
        }
    }
    ensure!(is_told, "this kernel does not tell CPU times (/proc/PID/task/*/schedstat)");
    Ok(sum)
}

/// Memory in MiB: `VmHWM`, the most there was, or `VmRSS`, what there is.
pub fn memory(pid: u32, which: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .context("a process that is measured has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)).context("memory")?;
    let kib: f64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse()?;
    Ok(kib / 1024.0)
}

/// A child that ends with its standard input, and with us.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Where its tally is, if it has one.
    port: Option<u16>,
    client: reqwest::Client,
}

impl Process {
    /// This very program in another part, with a tally.
    pub fn part(arguments: &[&str], vars: &HashMap<String, String>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).envs(vars).stdout(Stdio::piped());
        let mut process = Self::start(command)?;
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().context("stdout")?).read_line(&mut line)?;
        process.port = Some(line.trim().parse().context("a part of the bench did not start")?);
        Ok(process)
    }

    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("{:?}", command.get_program()))?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, port: None, client: super::client()? })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port.unwrap_or_default())
    }

    pub async fn tally(&self) -> anyhow::Result<Tally> {
        let text = self.client.get(format!("{}tally", self.url())).send().await?.text().await?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "a process that is measured has ended: {ended:?}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ended_before = self.child.kill();
        let _reaped = self.child.wait();
    }
}
