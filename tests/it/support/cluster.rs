//! Three RabbitMQ nodes in containers on a private network.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use testcontainers::core::{ExecCommand, IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::rabbitmq::{START, enabled_plugins, image, wait_until_it_speaks};
use super::{eventually, free_port};

const NODES: usize = 3;
const COOKIE: &str = "no-secret-on-a-private-network";

pub struct Cluster {
    pub version: String,
    nodes: Vec<Node>,
    network: String,
}

struct Node {
    name: String,
    url: String,
    container: ContainerAsync<GenericImage>,
}

impl Cluster {
    pub async fn start() -> anyhow::Result<Self> {
        let network = format!("dnma-test-{}", std::process::id());
        let names: Vec<String> = (1..=NODES).map(|number| format!("{network}-{number}")).collect();
        // A silent node is given up within seconds rather than a minute.
        let mut configuration = "cluster_formation.peer_discovery_backend = \
                                 classic_config\nnet_ticktime = 5\n"
            .to_owned();
        for (number, name) in names.iter().enumerate() {
            configuration +=
                &format!("cluster_formation.classic_config.nodes.{} = rabbit@{name}\n", number + 1);
        }
        // The first one makes the network, and all make the cluster.
        let starting = names.iter().map(|name| Node::start(name, &network, &configuration));
        let nodes = futures_util::future::try_join_all(starting).await?;
        let version = wait_until_it_speaks(&nodes[0].url)?;
        let cluster = Self { version, nodes, network };
        cluster.whole().await?;
        // The metadata store that heals by itself after a partition; RabbitMQ 4 still has to be
        // asked for it.
        cluster.nodes[0].run(&["enable_feature_flag", "--opt-in", "khepri_db"]).await?;
        Ok(cluster)
    }

    /// Every node's address, this one's first.
    pub fn urls(&self, first: usize) -> Vec<String> {
        (0..NODES).map(|turn| self.nodes[(first + turn) % NODES].url.clone()).collect()
    }

    /// Waits until every node sees every other.
    pub async fn whole(&self) -> anyhow::Result<()> {
        eventually("the cluster is whole", Duration::from_secs(90), async || {
            for node in &self.nodes {
                if node.sees().await != Some(NODES) {
                    return false;
                }
            }
            true
        })
        .await
    }

    /// The node that leads a queue.
    pub async fn leader(&self, queue: &str) -> anyhow::Result<usize> {
        let queues = self.nodes[0].ask(&["list_queues", "name", "leader"]).await?;
        let found = queues
            .as_array()
            .into_iter()
            .flatten()
            .find(|found| found["name"] == queue)
            .context("no such queue")?;
        let leader = found["leader"].as_str().context("no leader")?;
        self.nodes
            .iter()
            .position(|node| leader == format!("rabbit@{}", node.name))
            .context("a leader of another cluster")
    }

    /// As a power cut would.
    pub async fn kill(&self, node: usize) -> anyhow::Result<()> {
        Ok(self.nodes[node].container.stop_with_timeout(Some(0)).await?)
    }

    /// In good order.
    pub async fn stop(&self, node: usize) -> anyhow::Result<()> {
        Ok(self.nodes[node].container.stop_with_timeout(Some(30)).await?)
    }

    pub async fn start_again(&self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].container.start().await?;
        self.whole().await
    }

    /// From the other nodes and from its clients, until the others have given it up.
    pub async fn cut_off(&self, node: usize) -> anyhow::Result<()> {
        self.network("disconnect", node)?;
        let other = &self.nodes[(node + 1) % NODES];
        eventually("the others notice", Duration::from_secs(60), async || {
            other.sees().await == Some(NODES - 1)
        })
        .await
    }

    pub async fn heal(&self, node: usize) -> anyhow::Result<()> {
        self.network("connect", node)?;
        self.whole().await
    }

    fn network(&self, what: &str, node: usize) -> anyhow::Result<()> {
        let done = Command::new("docker")
            .args(["network", what, &self.network, self.nodes[node].container.id()])
            .output()?;
        ensure!(
            done.status.success(),
            "docker network {what}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }
}

impl Node {
    async fn start(name: &str, network: &str, configuration: &str) -> anyhow::Result<Self> {
        let (image, tag) = image();
        let port = free_port()?;
        let container = GenericImage::new(image, tag)
            .with_wait_for(WaitFor::message_on_stdout("Server startup complete"))
            .with_container_name(name)
            .with_hostname(name)
            .with_network(network)
            .with_mapped_port(port, 5672.tcp())
            .with_env_var("RABBITMQ_ERLANG_COOKIE", COOKIE)
            .with_copy_to("/etc/rabbitmq/conf.d/20-cluster.conf", configuration.as_bytes().to_vec())
            .with_copy_to("/etc/rabbitmq/enabled_plugins", enabled_plugins(true).into_bytes())
            .with_startup_timeout(START)
            .start()
            .await?;
        Ok(Self {
            name: name.to_owned(),
            url: format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
            container,
        })
    }

    /// How many nodes it takes for running.
    async fn sees(&self) -> Option<usize> {
        let status = self.ask(&["cluster_status"]).await.ok()?;
        status["running_nodes"].as_array().map(Vec::len)
    }

    async fn ask(&self, question: &[&str]) -> anyhow::Result<Value> {
        let text = self.run(&[&["--formatter", "json"], question].concat()).await?;
        serde_json::from_str(&text).context(text)
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let tool = ["rabbitmqctl", "--quiet", "--erlang-cookie", COOKIE];
        let command = ExecCommand::new(tool.iter().chain(arguments).copied());
        let mut answer = self.container.exec(command).await?;
        let text = String::from_utf8_lossy(&answer.stdout_to_vec().await?).into_owned();
        ensure!(
            answer.exit_code().await? == Some(0),
            "rabbitmqctl {arguments:?} on {}: {text}",
            self.name
        );
        Ok(text)
    }
}
