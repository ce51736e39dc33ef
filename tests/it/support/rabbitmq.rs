//! A real RabbitMQ: the one of `AMQP_URL`, else a container, else a private local node. No broker
//! that already runs is touched but that of `AMQP_URL`.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use testcontainers::core::{ExecCommand, IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::free_port;
use super::tls::Certificates;

const DEFAULT_IMAGE: &str = "rabbitmq:4-management";
const NODE_SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CTL_SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
pub(super) const START: Duration = Duration::from_secs(120);

/// A running broker; stopped and removed when dropped, unless it was given.
pub struct Broker {
    pub url: String,
    pub version: String,
    kind: Kind,
    /// Where it takes encrypted connections, if it was started to.
    pub tls_port: Option<u16>,
}

/// How a broker of our own is to be.
#[derive(Default)]
struct Setup<'s> {
    certificates: Option<&'s Certificates>,
    without_plugin: bool,
    /// Loaded as it starts; then there is no guest but theirs.
    definitions: Option<String>,
    /// Further lines of `rabbitmq.conf`.
    configuration: Option<&'s str>,
}

enum Kind {
    /// Somebody else's: `AMQP_URL`.
    Given,
    Container {
        container: Box<ContainerAsync<GenericImage>>,
    },
    Node(Node),
}

impl Broker {
    /// By `TEST_RABBITMQ` (`docker` or `node`), else by what this machine has.
    pub async fn start() -> anyhow::Result<Self> {
        if let Some(url) = std::env::var("AMQP_URL").ok().filter(|url| !url.is_empty()) {
            return Self::at(&url);
        }
        Self::start_own().await
    }

    /// One that runs already, and is not ours to stop.
    pub fn at(url: &str) -> anyhow::Result<Self> {
        Ok(Self { url: url.to_owned(), version: version(url)?, kind: Kind::Given, tls_port: None })
    }

    /// One that may be stopped and started, whatever `AMQP_URL` says.
    pub async fn start_own() -> anyhow::Result<Self> {
        Self::start_with(Setup::default()).await
    }

    /// One of our own on which nobody enabled the consistent-hash plugin.
    pub async fn start_without_plugin() -> anyhow::Result<Self> {
        Self::start_with(Setup { without_plugin: true, ..Setup::default() }).await
    }

    /// One of our own that takes encrypted connections, from clients with a certificate only.
    pub async fn start_encrypted(certificates: &Certificates) -> anyhow::Result<Self> {
        Self::start_with(Setup { certificates: Some(certificates), ..Setup::default() }).await
    }

    /// One of our own with these users, rights, exchanges and queues.
    pub async fn start_with_definitions(definitions: String) -> anyhow::Result<Self> {
        Self::start_with(Setup { definitions: Some(definitions), ..Setup::default() }).await
    }

    /// One of our own with these lines of `rabbitmq.conf`.
    pub async fn start_with_configuration(configuration: &str) -> anyhow::Result<Self> {
        let configuration = Some(configuration);
        Self::start_with(Setup { configuration, ..Setup::default() }).await
    }

    async fn start_with(setup: Setup<'_>) -> anyhow::Result<Self> {
        let wanted = std::env::var("TEST_RABBITMQ").unwrap_or_default();
        match wanted.as_str() {
            "docker" => Self::container(&setup).await,
            "node" => Self::node(&setup),
            "" => match Self::container(&setup).await {
                Ok(broker) => Ok(broker),
                Err(error) => {
                    eprintln!(
                        "no RabbitMQ in a container ({}): a private local node instead",
                        first_line(&error)
                    );
                    Self::node(&setup)
                }
            },
            other => bail!("TEST_RABBITMQ={other} is neither docker nor node"),
        }
    }

    /// The same broker, for those who must not stop it.
    pub fn given(broker: &Self) -> Self {
        Self {
            url: broker.url.clone(),
            version: broker.version.clone(),
            kind: Kind::Given,
            tls_port: None,
        }
    }

    pub fn describe(&self) -> String {
        let kind = match &self.kind {
            Kind::Given => "the broker of AMQP_URL",
            Kind::Container { .. } => "a container",
            Kind::Node(_) => "a private local node",
        };
        format!("RabbitMQ {}, {kind}", self.version)
    }

    pub fn is_container(&self) -> bool {
        matches!(self.kind, Kind::Container { .. })
    }

    pub fn is_given(&self) -> bool {
        matches!(self.kind, Kind::Given)
    }

    /// Whether it tells a user without any right on an exchange or queue whether that is there.
    pub fn tells_everybody(&self) -> bool {
        !self.is_at_least(&[4, 2, 6])
    }

    fn is_at_least(&self, version: &[u32]) -> bool {
        let own: Vec<u32> = self.version.split('.').map_while(|part| part.parse().ok()).collect();
        own.as_slice() >= version
    }

    async fn container(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let (name, tag) = image();
        // A fixed port: after a restart a published one would have moved.
        let port = free_port()?;
        let mut request = GenericImage::new(&name, &tag)
            .with_wait_for(WaitFor::message_on_stdout("Server startup complete"))
            .with_mapped_port(port, 5672.tcp())
            .with_copy_to(
                "/etc/rabbitmq/enabled_plugins",
                enabled_plugins(!setup.without_plugin).into_bytes(),
            )
            .with_startup_timeout(START);
        let mut tls_port = None;
        if let Some(certificates) = setup.certificates {
            let tls = free_port()?;
            let configuration = Certificates::configuration("5671", "/etc/rabbitmq/tls");
            request = request
                .with_mapped_port(tls, 5671.tcp())
                .with_copy_to("/etc/rabbitmq/conf.d/90-tls.conf", configuration.into_bytes());
            for name in ["ca.pem", "server.pem", "server.key"] {
                request = request.with_copy_to(
                    format!("/etc/rabbitmq/tls/{name}"),
                    std::fs::read(certificates.path(name))?,
                );
            }
            tls_port = Some(tls);
        }
        if let Some(definitions) = &setup.definitions {
            request = request
                .with_copy_to("/etc/rabbitmq/definitions.json", definitions.clone().into_bytes())
                .with_copy_to(
                    "/etc/rabbitmq/conf.d/80-definitions.conf",
                    b"load_definitions = /etc/rabbitmq/definitions.json\n".to_vec(),
                );
        }
        if let Some(configuration) = setup.configuration {
            let file = "/etc/rabbitmq/conf.d/70-ours.conf";
            request = request.with_copy_to(file, configuration.as_bytes().to_vec());
        }
        let container = request.start().await.with_context(|| format!("image {name}:{tag}"))?;
        // Published on every interface, so loopback reaches it whatever the engine calls its host.
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let version = wait_until_it_speaks(&url)?;
        Ok(Self {
            url,
            version,
            kind: Kind::Container { container: Box::new(container) },
            tls_port,
        })
    }

    fn node(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let tls = setup
            .certificates
            .map(|certificates| Ok::<_, anyhow::Error>((free_port()?, certificates)))
            .transpose()?;
        let tls_port = tls.as_ref().map(|(port, _)| *port);
        let extra = tls.map(|(port, files)| {
            Certificates::configuration(&format!("127.0.0.1:{port}"), &files.path(""))
        });
        let node = Node::start(&extra.unwrap_or_default(), setup)?;
        let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", node.port);
        let version = wait_until_it_speaks(&url)?;
        Ok(Self { url, version, kind: Kind::Node(node), tls_port })
    }

    /// Stops the broker, as a power cut would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match &mut self.kind {
            Kind::Given => bail!("the broker of AMQP_URL is not ours to stop"),
            Kind::Container { container } => container.stop_with_timeout(Some(0)).await?,
            Kind::Node(node) => node.stop("KILL")?,
        }
        Ok(())
    }

    /// Starts it again with its data.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        match &mut self.kind {
            Kind::Given => bail!("the broker of AMQP_URL is not ours to start"),
            Kind::Container { container } => container.start().await?,
            Kind::Node(node) => node.run()?,
        }
        wait_until_it_speaks(&self.url)?;
        Ok(())
    }
}

/// What an operator does with `rabbitmqctl`.
impl Broker {
    /// As on a node whose memory is full: from here on it reads nothing from whoever publishes.
    pub async fn raise_alarm(&self) -> anyhow::Result<()> {
        self.ctl(&["set_vm_memory_high_watermark", "0"]).await?;
        let alarmed = async || {
            let alarms = self.ctl(&["eval", "rabbit_alarm:get_alarms()."]).await;
            alarms.is_ok_and(|alarms| alarms.contains("memory"))
        };
        super::eventually("the broker raises an alarm", START, alarmed).await
    }

    /// Looks every second for consumers that time out, and not every minute, on connections that
    /// come from here on.
    pub async fn look_for_timeouts(&self) -> anyhow::Result<()> {
        let setting = "application:set_env(rabbit, channel_tick_interval, 1000).";
        self.ctl(&["eval", setting]).await.map(drop)
    }

    pub async fn lift_alarm(&self) -> anyhow::Result<()> {
        self.ctl(&["set_vm_memory_high_watermark", "0.8"]).await.map(drop)
    }

    /// A policy by which a queue refuses what goes beyond so many messages.
    pub async fn limit(&self, queue: &str, most: usize) -> anyhow::Result<()> {
        let policy = format!("{{\"max-length\":{most},\"overflow\":\"reject-publish\"}}");
        self.set_policy("limit", queue, &policy).await
    }

    /// A policy by which a queue parks what came back so often.
    pub async fn limit_deliveries(&self, queue: &str, most: usize) -> anyhow::Result<()> {
        self.set_policy("deliveries", queue, &format!("{{\"delivery-limit\":{most}}}")).await
    }

    async fn set_policy(&self, name: &str, queue: &str, policy: &str) -> anyhow::Result<()> {
        let pattern = format!("^{}$", queue.replace('.', "\\."));
        let arguments = ["set_policy", "--apply-to", "queues", name, &pattern, policy];
        self.ctl(&arguments).await.map(drop)
    }

    pub async fn lift_limit(&self) -> anyhow::Result<()> {
        self.ctl(&["clear_policy", "limit"]).await.map(drop)
    }

    /// How many shards each worker is served, by the name of the worker.
    pub async fn served(&self, prefix: &str) -> anyhow::Result<HashMap<String, Vec<u16>>> {
        let list = ["list_consumers", "--quiet", "queue_name", "consumer_tag", "active"];
        let consumers = self.ctl(&list).await?;
        let mut served: HashMap<String, Vec<u16>> = HashMap::new();
        for line in consumers.lines() {
            let mut columns = line.split('\t');
            let mut column = || columns.next().unwrap_or_default();
            let (queue, worker, is_active) = (column(), column(), column() == "true");
            let shard = queue.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
            if let Some(shard) = shard.and_then(|shard| shard.parse::<u16>().ok()) {
                let shards = served.entry(worker.to_owned()).or_default();
                shards.extend(is_active.then_some(shard));
            }
        }
        Ok(served)
    }

    async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (done, text) = match &self.kind {
            Kind::Given => bail!("the broker of AMQP_URL is not ours to administer"),
            Kind::Container { container } => {
                let command = ["rabbitmqctl"].iter().chain(arguments).copied();
                let mut answer = container.exec(ExecCommand::new(command)).await?;
                let text = String::from_utf8_lossy(&answer.stdout_to_vec().await?).into_owned();
                (answer.exit_code().await? == Some(0), text)
            }
            Kind::Node(node) => {
                let mut command = Command::new(CTL_SCRIPT);
                node.environment(&mut command);
                command.args(arguments).stdin(Stdio::null());
                let output = tokio::process::Command::from(command).output().await?;
                (output.status.success(), super::worker::said(&output))
            }
        };
        ensure!(done, "rabbitmqctl {arguments:?}: {text}");
        Ok(text)
    }
}

// === A private local node ===

struct Node {
    folder: TempDir,
    port: u16,
    distribution_port: u16,
    epmd_port: u16,
    guard: Option<Child>,
}

impl Node {
    fn start(extra_configuration: &str, setup: &Setup<'_>) -> anyhow::Result<Self> {
        install()?;
        let folder = tempfile::Builder::new().prefix("rabbitmq-").tempdir()?;
        let mut node = Self {
            folder,
            port: free_port()?,
            distribution_port: free_port()?,
            epmd_port: free_port()?,
            guard: None,
        };
        let path = node.folder.path();
        std::fs::write(path.join("enabled_plugins"), enabled_plugins(!setup.without_plugin))?;
        let mut configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nlog.console = true\nlog.file = \
             false\nlog.console.level = warning\ndisk_free_limit.absolute = 50MB\n",
            node.port
        );
        if let Some(lines) = setup.configuration {
            configuration += lines;
        }
        if let Some(definitions) = &setup.definitions {
            let file = path.join("definitions.json");
            configuration += &format!("load_definitions = {}\n", file.display());
            std::fs::write(file, definitions)?;
        }
        std::fs::write(path.join("rabbitmq.conf"), configuration + extra_configuration)?;
        node.run()?;
        Ok(node)
    }

    /// The node runs under a shell that reads from us: when we are gone, however that came, it ends
    /// the node.
    fn run(&mut self) -> anyhow::Result<()> {
        let path = self.folder.path();
        let script = format!(
            "{NODE_SCRIPT} </dev/null >>node.log 2>&1 & trap '' TERM INT HUP; cat >/dev/null; \
             kill -TERM 0; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do kill -0 $! \
             2>/dev/null || break; sleep 0.5; done; epmd -kill >/dev/null 2>&1; kill -KILL 0"
        );
        let mut command = Command::new("sh");
        self.environment(&mut command);
        command
            .args(["-c", &script])
            .current_dir(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.guard = Some(command.spawn().context("a shell for RabbitMQ")?);
        Ok(())
    }

    /// By which the node and its tools find each other, and nobody else's.
    fn environment(&self, command: &mut Command) {
        let path = self.folder.path();
        let in_folder = |name: &str| path.join(name);
        command
            .env("HOME", path)
            .env("RABBITMQ_NODENAME", format!("dnma-{}@localhost", self.port))
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Ends with us even while a node is still registered.
            .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "1")
            .env("RABBITMQ_CONFIG_FILE", in_folder("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", in_folder("none"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", in_folder("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", in_folder("data"))
            .env("RABBITMQ_LOG_BASE", in_folder("log"))
            .env("RABBITMQ_PID_FILE", in_folder("pid"));
    }

    fn stop(&mut self, signal: &str) -> anyhow::Result<()> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        if signal == "KILL" {
            // The whole group is ours: the shell, the node, its helpers.
            let group = format!("-{}", guard.id());
            ensure!(Command::new("kill").args(["-KILL", "--", &group]).status()?.success(), "kill");
        }
        drop(guard.stdin.take());
        guard.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.stop("TERM") {
            eprintln!("the RabbitMQ node did not stop: {error}");
        }
    }
}

/// The file that says which plugins a broker starts with.
pub(super) fn enabled_plugins(consistent_hash: bool) -> String {
    format!("[{}].\n", if consistent_hash { "rabbitmq_consistent_hash_exchange" } else { "" })
}

/// Name and tag of the image of `TEST_RABBITMQ_IMAGE`.
pub(super) fn image() -> (String, String) {
    let image = std::env::var("TEST_RABBITMQ_IMAGE").unwrap_or_else(|_| DEFAULT_IMAGE.to_owned());
    let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
    (name.to_owned(), tag.to_owned())
}

/// Installs Debian's or Ubuntu's package where there is none.
fn install() -> anyhow::Result<()> {
    if Path::new(NODE_SCRIPT).exists() {
        return Ok(());
    }
    eprintln!("rabbitmq-server is not installed: installing it with apt-get");
    let root = Command::new("id").arg("-u").output()?.stdout == b"0\n";
    let run = |arguments: &[&str]| -> anyhow::Result<()> {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.arg("apt-get");
        }
        let done = command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status();
        ensure!(
            done.is_ok_and(|status| status.success()),
            "apt-get {} failed",
            arguments.join(" ")
        );
        Ok(())
    };
    run(&["update", "-q"])
        .and_then(|()| run(&["install", "-q", "-y", "--no-install-recommends", "rabbitmq-server"]))
        .context("RabbitMQ is needed: set AMQP_URL, start Docker, or install rabbitmq-server")
}

// === Talking to it ===

pub(super) fn wait_until_it_speaks(url: &str) -> anyhow::Result<String> {
    let deadline = Instant::now() + START;
    loop {
        match version(url) {
            Ok(version) => return Ok(version),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context("RabbitMQ did not start"));
            }
            // A node that starts tells nobody when it is there.
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The version that the broker gives in the first frame of an AMQP connection, which client
/// libraries keep to themselves.
fn version(url: &str) -> anyhow::Result<String> {
    let url = url::Url::parse(url.split(',').next().unwrap_or_default())?;
    ensure!(url.scheme() == "amqp", "tests need a plain amqp:// address");
    let host = url.host_str().context("a host")?.trim_matches(['[', ']']).to_owned();
    let mut stream = TcpStream::connect((host, url.port().unwrap_or(5672)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut frame = [0; 4096];
    let read = stream.read(&mut frame)?;
    let key = b"\x07versionS";
    let found = frame
        .windows(key.len())
        .position(|window| window == key)
        .context("no version in connection.start")?;
    let start = found + key.len() + 4;
    let length = u32::from_be_bytes(frame.get(start - 4..start).context("cut short")?.try_into()?);
    let text =
        frame.get(start..start + length as usize).filter(|_| start < read).context("cut short")?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().chars().take(160).collect()
}
