//! Asks workers for their status: for `top`, which sees several at once.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use reqwest::{Client, redirect};
use url::Url;

use crate::domain::rule::Language;
use crate::domain::status::Status;

/// A worker that does not answer within this hangs, or is not there.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of a status that are read, give or take one chunk: a worker of 1,000 shards tells less.
const LONGEST: usize = 1 << 20;

/// Workers, by the addresses that they answer on.
#[derive(Debug)]
pub struct Peers {
    client: Client,
    urls: Vec<Url>,
}

/// What one of them said.
#[derive(Debug)]
pub struct Answer {
    /// Host and port.
    pub address: String,
    /// Its status, or why there is none.
    pub status: Result<Status, String>,
}

impl Peers {
    /// Behind these addresses; one that is a name with several addresses (a headless service of Kubernetes) is all of them.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(urls: Vec<Url>) -> anyhow::Result<Self> {
        // A second installation is refused, and the first one serves both.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(TIMEOUT).redirect(redirect::Policy::none()).build().context("the HTTP client")?;
        Ok(Self { client, urls })
    }

    /// Asks all at once. A worker that answers on two addresses is told once.
    pub async fn ask(&self, language: Language) -> Vec<Answer> {
        let targets = join_all(self.urls.iter().map(each)).await.concat();
        let mut answers = join_all(targets.iter().map(|url| self.answer(url, language))).await;
        let mut seen = std::collections::HashSet::new();
        answers.retain(|answer| answer.status.as_ref().map_or(true, |status| seen.insert(status.worker.clone())));
        answers
    }

    async fn answer(&self, url: &Url, language: Language) -> Answer {
        let address = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        Answer { status: self.status(url, language).await, address }
    }

    async fn status(&self, url: &Url, language: Language) -> Result<Status, String> {
        let t = |english: &str, french: &str| language.of(english, french).to_owned();
        let mut url = url.join("status.json").map_err(|error| error.to_string())?;
        url.set_query(Some(language.of("lang=en", "lang=fr")));
        let silent = |_| t("does not answer", "ne répond pas");
        let mut response = self.client.get(url).send().await.map_err(silent)?;
        let code = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)?.filter(|_| body.len() < LONGEST) {
            body.extend_from_slice(&chunk);
        }
        if code != 200 {
            return Err(format!("{} (HTTP {code})", t("is no relay, or an older one", "n'est pas un relais, ou un plus ancien")));
        }
        serde_json::from_slice(&body)
            .map_err(|_| t("tells no status that this version can read", "donne un état que cette version ne sait pas lire"))
    }
}

/// All addresses of a name. This machine's own are one: it listens on one of them.
async fn each(url: &Url) -> Vec<Url> {
    let (Some(url::Host::Domain(name)), "http", Some(port)) = (url.host(), url.scheme(), url.port_or_known_default()) else {
        return vec![url.clone()];
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((name, port)).await.map(Iterator::collect).unwrap_or_default();
    if found.len() < 2 || found.iter().all(|address| address.ip().is_loopback()) {
        return vec![url.clone()];
    }
    let at = |address: &SocketAddr| {
        let mut url = url.clone();
        url.set_ip_host(address.ip()).ok().map(|()| url)
    };
    found.iter().filter_map(at).collect()
}
