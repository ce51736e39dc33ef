//! What people write instead: workers of a page each in `peers/`, with their libraries in versions
//! that are pinned.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Aio,
    Pika,
    Node,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Aio, Self::Pika, Self::Node];

    pub fn one_by_one(self) -> &'static str {
        match self {
            Self::Aio => "Python, aio-pika + aiohttp",
            Self::Pika => "Python, pika + requests",
            Self::Node => "Node, amqplib + undici",
        }
    }

    pub fn in_bulk(self) -> &'static str {
        match self {
            Self::Aio => "Python, aio-pika + aiohttp, bulk 50",
            Self::Pika => "Python, pika + requests, bulk 50",
            Self::Node => "Node, amqplib + undici, bulk 50",
        }
    }

    /// Installs its libraries beside this machine's other caches, once.
    ///
    /// # Errors
    /// What is missing here.
    pub fn install(self) -> anyhow::Result<()> {
        let cache = cache()?;
        let (from, mark) = match self {
            Self::Node => ("package-lock.json", cache.join("node.done")),
            Self::Aio | Self::Pika => ("requirements.txt", cache.join("python.done")),
        };
        // Other versions are another installation.
        let wanted = std::fs::read(Path::new(FOLDER).join(from))?;
        if std::fs::read(&mark).is_ok_and(|there| there == wanted) {
            return Ok(());
        }
        std::fs::create_dir_all(&cache)?;
        match self {
            Self::Node => {
                for file in ["package.json", "package-lock.json", "node.mjs"] {
                    std::fs::copy(Path::new(FOLDER).join(file), cache.join(file))?;
                }
                run(Command::new("npm")
                    .args(["ci", "--silent", "--no-audit", "--no-fund"])
                    .current_dir(&cache))?;
            }
            Self::Aio | Self::Pika => {
                let target = cache.join("python");
                let requirements = Path::new(FOLDER).join(from);
                run(Command::new("python3")
                    .args([
                        "-m",
                        "pip",
                        "install",
                        "--quiet",
                        "--disable-pip-version-check",
                        "--upgrade",
                        "--target",
                    ])
                    .arg(target)
                    .arg("-r")
                    .arg(requirements))?;
            }
        }
        std::fs::write(mark, wanted)?;
        Ok(())
    }

    pub fn command(self) -> anyhow::Result<Command> {
        let cache = cache()?;
        let mut command;
        match self {
            Self::Node => {
                // Beside its libraries, since that is where it looks for them.
                std::fs::copy(Path::new(FOLDER).join("node.mjs"), cache.join("node.mjs"))?;
                command = Command::new("node");
                command.arg(cache.join("node.mjs"));
            }
            Self::Aio | Self::Pika => {
                command = Command::new("python3");
                command.env("PYTHONPATH", cache.join("python"));
                command.arg(Path::new(FOLDER).join(if self == Self::Aio {
                    "aio.py"
                } else {
                    "loop.py"
                }));
            }
        }
        Ok(command)
    }
}

fn cache() -> anyhow::Result<PathBuf> {
    let home = std::env::var("XDG_CACHE_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cache")));
    Ok(PathBuf::from(home.context("neither XDG_CACHE_HOME nor HOME is set")?)
        .join("dnma-relay-tools/peers"))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("{name} is not here"))?;
    ensure!(status.success(), "{name} could not install the libraries");
    Ok(())
}
