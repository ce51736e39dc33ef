//! The running workers, as a command asks them: at which addresses they are, and what each
//! replies. Every reply is bounded in time and in size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use reqwest::{Client, ClientBuilder, Response, redirect};
use url::{Host, Url};

use crate::service::config::Settings;
use crate::service::worker::matomo::cause;

/// How long a worker may take. It replies from memory, so one that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes a reply may have. Books with every account full stay below 2 MiB.
const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;

/// The default port of `HTTP_LISTEN`.
const DEFAULT_PORT: u16 = 8080;

/// The option that says which workers to ask.
#[derive(Debug, Clone, Default, Args)]
pub struct Workers {
    /// Address of a worker, once for each; or a name that has one address per worker, as a
    /// headless Service of Kubernetes [default: this machine, port of HTTP_LISTEN]
    #[arg(long = "url", value_name = "URL", value_parser = parse_address)]
    pub urls: Vec<Url>,
}

/// What one worker replied.
#[derive(Debug)]
pub struct WorkerReply {
    /// The host and port that was asked, or the name that could not be resolved.
    pub address: String,
    /// The body of a response with status 200; or a sentence that says why there is none.
    pub body: Result<Vec<u8>, String>,
}

/// Asks every worker for a path (`books.json`, `status.json?lang=fr`), all at the same time, and
/// waits for at most 5 s. Returns one reply for each address, in the order of the command
/// line.
///
/// # Errors
/// Fails if no address was given and `HTTP_LISTEN` is none.
pub async fn ask_all(workers: &Workers, path: &str) -> anyhow::Result<Vec<WorkerReply>> {
    let local = || anyhow::Ok(Url::parse(&format!("http://{}/", local_address()?))?);
    let urls = if workers.urls.is_empty() { vec![local()?] } else { workers.urls.clone() };
    let replies = urls.into_iter().map(|url| async move {
        match resolve(&url).await {
            Ok(addresses) => {
                join_all(addresses.into_iter().map(|address| ask(&url, address, path))).await
            }
            Err(reason) => vec![WorkerReply {
                address: url.host_str().unwrap_or_default().to_owned(),
                body: Err(reason),
            }],
        }
    });
    Ok(join_all(replies).await.into_iter().flatten().collect())
}

/// Returns the address of the worker that runs with this environment.
pub(super) fn local_address() -> anyhow::Result<SocketAddr> {
    Ok(connectable(Settings::http_listen_from_env()?))
}

/// Starts a client for workers. It uses no proxy, since these addresses are of the inside, and
/// follows no redirect.
pub(super) fn client(timeout: Duration) -> ClientBuilder {
    Client::builder().timeout(timeout).redirect(redirect::Policy::none()).no_proxy()
}

/// Replaces "every address of this machine", which can be listened on but not connected to, by the
/// loopback address.
fn connectable(listen: SocketAddr) -> SocketAddr {
    let loopback = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(loopback, listen.port())
}

/// Reads an address: `http://relay:8080`, or short `relay:8080`, or `relay` for the default port.
fn parse_address(text: &str) -> Result<Url, String> {
    let is_short = !text.contains("://");
    let whole = if is_short { format!("http://{text}") } else { text.to_owned() };
    let mut url = Url::parse(&whole)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if let Some(url) = url.as_mut().filter(|url| is_short && url.port().is_none()) {
        url.set_port(Some(DEFAULT_PORT)).map_err(|()| "no port can be added".to_owned())?;
    }
    let url = url.ok_or("not an address like http://dnma-relay:8080")?;
    if url.username().is_empty() && url.password().is_none() {
        Ok(url)
    } else {
        Err("a user and password have no use here".to_owned())
    }
}

/// Finds every address of the name. A worker that has an address of each kind is asked once: by
/// IPv4, on which it listens by default.
async fn resolve(url: &Url) -> Result<Vec<SocketAddr>, String> {
    let port = url.port_or_known_default().unwrap_or(80);
    let name = match url.host() {
        Some(Host::Ipv4(ip)) => return Ok(vec![SocketAddr::new(ip.into(), port)]),
        Some(Host::Ipv6(ip)) => return Ok(vec![SocketAddr::new(ip.into(), port)]),
        Some(Host::Domain(name)) => name,
        None => return Err("no host".to_owned()),
    };
    let found = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name, port))).await;
    let found =
        found.map_err(|_| format!("the name is not resolved within {} s", TIMEOUT.as_secs()))?;
    let mut addresses: Vec<SocketAddr> =
        found.map_err(|error| format!("the name cannot be resolved: {error}"))?.collect();
    if addresses.iter().any(SocketAddr::is_ipv4) {
        addresses.retain(SocketAddr::is_ipv4);
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}

/// Asks the worker at an address for a path.
async fn ask(url: &Url, address: SocketAddr, path: &str) -> WorkerReply {
    let asking = async {
        // The name stays in the request, for a certificate or a gateway that asks for it.
        let host = url.host_str().unwrap_or_default();
        let client = client(TIMEOUT).resolve(host, address).build()?;
        client.get(with_path(url, path)).send().await
    };
    let body = match asking.await {
        Ok(response) => read(response).await,
        Err(error) => Err(reason(&error)),
    };
    WorkerReply { address: address.to_string(), body }
}

/// Appends a path, and maybe a query, to the path that the address has already.
fn with_path(url: &Url, path: &str) -> Url {
    let (path, query) =
        path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut whole = url.clone();
    whole.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
    whole.set_query(query);
    whole
}

/// Reads the body of a response, if its status is 200.
async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    match response.status().as_u16() {
        200 => {}
        404 => return Err("answers 404: not a dnma-relay, or one of an older version".to_owned()),
        421 => {
            return Err(
                "answers 421: it does not know this name as its own; add it to HTTP_HOSTS \
                        of the worker"
                    .to_owned(),
            );
        }
        status => return Err(format!("answers {status}")),
    }
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_REPLY_BYTES => {
                bytes.extend_from_slice(&chunk)
            }
            Ok(Some(_)) => {
                return Err(format!(
                    "answers with more than {} MiB: not a dnma-relay",
                    MAX_REPLY_BYTES / 1024 / 1024
                ));
            }
            Ok(None) => return Ok(bytes),
            Err(error) => return Err(reason(&error)),
        }
    }
}

/// Says why there is no reply.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        format!("no answer within {} s", TIMEOUT.as_secs())
    } else {
        cause(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn what_is_listened_on_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:9", "[::1]:9"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ] {
            assert_eq!(
                connectable(listen.parse().expect("listen")),
                asked.parse().expect("asked"),
                "{listen}"
            );
        }
    }

    #[test]
    fn an_address_is_whole_and_its_path_is_kept() {
        for wrong in ["", "amqp://localhost", "http://user:secret@relay/"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
        let url_of =
            |url, path| with_path(&parse_address(url).expect("an address"), path).to_string();
        for (given, asked) in [
            ("http://relay:8080", "http://relay:8080/books.json"),
            ("relay", "http://relay:8080/books.json"),
            ("relay:9000", "http://relay:9000/books.json"),
            ("http://[::1]:9000/", "http://[::1]:9000/books.json"),
            ("https://ops.example.fr/relay/", "https://ops.example.fr/relay/books.json"),
        ] {
            assert_eq!(url_of(given, "books.json"), asked);
        }
        assert_eq!(url_of("relay", "status.json?lang=fr"), "http://relay:8080/status.json?lang=fr");
    }

    /// Answers one request, with the host that it was asked for as the body.
    async fn answers(status: &'static str, length: usize) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).await;
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            let _written = stream.write_all(head.as_bytes()).await;
            let _cut_off = stream.write_all(&vec![b'x'; length]).await;
        });
        address
    }

    #[tokio::test]
    async fn each_address_has_its_answer_or_the_reason_why_not() {
        crate::service::install_tls_provider();
        let (fine, missing, endless) = (
            answers("200 OK", 3).await,
            answers("404 Not Found", 0).await,
            answers("200 OK", MAX_REPLY_BYTES + 1).await,
        );
        let nobody = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port")
            .local_addr()
            .expect("an address");
        let urls = [fine, missing, endless, nobody]
            .into_iter()
            .map(|to| parse_address(&format!("http://localhost:{}", to.port())).expect("url"));
        let workers = Workers { urls: urls.collect() };
        let replies = ask_all(&workers, "books.json").await.expect("addresses");
        let bodies: Vec<_> = replies
            .into_iter()
            .map(|reply| reply.body.map_err(|reason| reason.chars().take(18).collect::<String>()))
            .collect();
        assert_eq!(
            bodies,
            [
                Ok(b"xxx".to_vec()),
                Err("answers 404: not a".to_owned()),
                Err("answers with more ".to_owned()),
                Err("Connection refused".to_owned())
            ]
        );
    }
}
