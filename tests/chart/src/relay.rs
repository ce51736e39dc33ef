//! The real program, asked what it knows.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

fn program() -> PathBuf {
    std::env::var_os("DNMA_RELAY")
        .expect("DNMA_RELAY is the path of the relay: use tests/chart/run")
        .into()
}

fn command(arguments: &[&str], vars: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().envs(vars);
    command
}

/// Standard output of a command that succeeds.
pub(crate) fn ask(arguments: &[&str], vars: &BTreeMap<String, String>) -> anyhow::Result<Value> {
    let output =
        command(arguments, vars).output().with_context(|| format!("{}", program().display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The effective settings, by variable.
pub(crate) fn check(vars: &BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, String>> {
    Ok(serde_json::from_value(ask(&["check", "--json"], vars)?)?)
}

/// What a relay without broker and Matomo answers on /metrics: every metric, at zero.
pub(crate) fn metrics() -> anyhow::Result<String> {
    let vars = [
        ("MATOMO_URL", "http://127.0.0.1:9/"),
        ("AMQP_URL", "amqp://127.0.0.1:9/%2f"),
        ("HTTP_LISTEN", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mut relay = command(&["run"], &vars)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // Held until the end: a relay whose log nobody reads is not what is tested here.
    let mut log =
        BufReader::new(relay.stderr.take().context("stderr")?).lines().map_while(Result::ok);
    let address = log.find_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        line["address"].as_str().map(str::to_owned)
    });
    let text =
        address.context("the relay did not tell its address").and_then(|address| get(&address));
    relay.kill()?;
    relay.wait()?;
    text
}

fn get(address: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}
