//! The status page tells what is so, in words, to everybody, and nothing that is nobody's business.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Scene;
use crate::support::browser::Browser;
use crate::support::matomo::Situation;
use crate::support::worker::{Worker, program};
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const DELAYS: &str = "600s";

/// What the worker says of itself.
async fn status(worker: &Worker) -> anyhow::Result<Value> {
    let (code, text) = worker.get("/status.json").await?;
    ensure!(code == 200, "{code}: {text}");
    Ok(serde_json::from_str(&text)?)
}

/// Waits until the status says so, and gives it.
async fn until(
    worker: &Worker,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let outcome =
        eventually(what, SOON, async || status(worker).await.is_ok_and(|status| holds(&status)))
            .await;
    let last = status(worker).await?;
    outcome.with_context(|| format!("{last:#}"))?;
    Ok(last)
}

fn ready(status: &Value) -> u64 {
    status["queues"]["shards"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|shard| shard["hits"].as_u64())
        .sum()
}

/// Neither the page nor the status has anything of a visitor, nor a secret.
async fn tells_no_secret(worker: &Worker) -> anyhow::Result<()> {
    for path in ["/", "/?lang=fr", "/status.json", "/metrics"] {
        let (code, text) = worker.get(path).await?;
        ensure!(code == 200, "{path}: {code}");
        let visitors = (0..50).map(hits::visitor);
        for secret in visitors.chain(
            [TOKEN, "guest:", "Mozilla", "onglet=agenda", "ent.example.fr"].map(str::to_owned),
        ) {
            ensure!(!text.contains(&secret), "{path} tells {secret}");
        }
    }
    Ok(())
}

/// Opens the page as people do: nothing is forbidden, nothing fails, it renews itself, and it can
/// be read everywhere.
async fn can_be_read(browser: &Browser, worker: &Worker, path: &str) -> anyhow::Result<()> {
    let address = worker.url();
    let opened = browser.open(&format!("{address}/"), Duration::from_secs(10)).await?;
    ensure!(opened.console.is_empty(), "{:?}", opened.console);
    let renewed = opened.requests.iter().filter(|url| **url == format!("{address}/")).count();
    ensure!(renewed >= 1, "the page does not renew itself: {:?}", opened.requests);
    ensure!(opened.requests.iter().all(|url| url.starts_with(address)), "{:?}", opened.requests);
    ensure!(opened.dom.contains("id=\"offline\" hidden"), "a fetch failed");
    let (_, style) = worker.get("/status.css").await?;
    let (_, page) = worker.get(path).await?;
    let page = page.replace(
        "<link rel=\"stylesheet\" href=\"status.css\">",
        &format!("<style>{style}</style>"),
    );
    let page = page.replace("<script src=\"status.js\" defer></script>", "");
    for dark in [false, true] {
        for frame in browser.measure(&page, dark).await? {
            let at = |name: &str| frame[name].as_f64().unwrap_or(f64::INFINITY);
            ensure!(at("scroll") <= at("width"), "sideways scrolling: {frame}");
            ensure!(
                at("height") > 300.0 && at("contrast") >= 4.5 && frame["dark"] == dark,
                "{frame}"
            );
        }
    }
    Ok(())
}

/// A picture for the README, where the run is to write them anew.
async fn picture(
    browser: &Browser,
    worker: &Worker,
    path: &str,
    name: &str,
    size: (u32, u32),
    dark: bool,
) -> anyhow::Result<()> {
    if std::env::var_os("UPDATE").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name);
        browser.picture(&format!("{}{path}", worker.url()), size, dark, &file).await?;
    }
    Ok(())
}

pub(crate) async fn the_page_says_how_it_goes(scene: Scene) -> anyhow::Result<()> {
    let browser = Browser::find("the status page");
    let vars = [
        ("QUEUE_SHARDS", "4"),
        ("RETRY_DELAYS", DELAYS),
        ("MATOMO_TOKEN_AUTH", TOKEN),
        ("HOSTNAME", "relay-0"),
    ];
    let worker = scene.worker(&vars).await?;
    let idle = until(&worker, "the broker is asked", |status| status["queues"].is_object()).await?;
    ensure!(
        idle["state"] == "idle"
            && idle["headline"].as_str().is_some_and(|text| text.starts_with("Ready")),
        "{idle:#}"
    );

    scene.queues.publish(hits::load(0..600, 50)).await?;
    let fine = until(&worker, "hits flow", |status| status["hour"]["delivered"] == 600).await?;
    ensure!(
        fine["headline"] == "Delivering"
            && fine["hour"]["received"] == 600
            && fine["causes"] == json!([]),
        "{fine:#}"
    );
    ensure!(worker.sum("delivered_total").await? == 600.0, "the metrics say otherwise");
    let names: Vec<_> = fine["queues"]["shards"]
        .as_array()
        .context("shards")?
        .iter()
        .map(|shard| &shard["name"])
        .collect();
    ensure!(
        names
            == [0, 1, 2, 3]
                .map(|shard| json!(format!("{}.{shard}", scene.prefix)))
                .iter()
                .collect::<Vec<_>>(),
        "{names:?}"
    );
    let is_ours = |status: &Value| {
        let shards = status["queues"]["shards"].as_array().into_iter().flatten();
        shards
            .filter(|shard| shard["holder"] == status["worker"] && shard["consumers"] == 1)
            .count()
            == 4
    };
    until(&worker, "each shard has its reader", is_ours).await?;
    let (_, page) = worker.get("/").await?;
    ensure!(page.contains("<h1>Delivering</h1>") && page.contains("<html lang=\"en\">"), "{page}");
    let (_, page) = worker.get("/?lang=fr").await?;
    ensure!(
        page.contains("<h1>Les hits passent</h1>") && page.contains("<html lang=\"fr\">"),
        "{page}"
    );
    tells_no_secret(&worker).await?;
    if let Some(browser) = &browser {
        can_be_read(browser, &worker, "/").await?;
    }

    for (fault, count) in [("dimension8", 60), ("dimension7", 30), ("cdt", 12)] {
        let broken = (0..count).map(|number| {
            let visitor = hits::visitor(number % 50);
            let hit =
                hits::with(hits::valid(&visitor, &format!("broken {number}")), fault, json!(""));
            (visitor, hit.to_string().into_bytes())
        });
        scene.queues.publish(broken).await?;
    }
    let rejecting = until(&worker, "rejects are told", |status| {
        status["state"] == "rejecting"
            && status["hour"]["rejected"] == 102
            && status["queues"]["rejected"]["hits"] == 102
    })
    .await?;
    ensure!(scene.queues.ready("rejected").await? == 102, "the broker says otherwise");
    let causes: Vec<_> = rejecting["causes"]
        .as_array()
        .context("causes")?
        .iter()
        .map(|cause| (&cause["code"], &cause["hits"]))
        .collect();
    ensure!(causes.first() == Some(&(&json!("empty"), &json!(102))), "{causes:?}");
    let (_, page) = worker.get("/").await?;
    ensure!(
        page.contains(
            "<h1>Delivering, but 15\u{a0}% of the hits of the last hour break the plan</h1>"
        ),
        "{page}"
    );
    ensure!(page.contains("… is mandatory and empty."), "a rule without its hint");
    tells_no_secret(&worker).await?;
    if let Some(browser) = &browser {
        can_be_read(browser, &worker, "/?lang=fr").await?;
        picture(browser, &worker, "/?lang=fr", "status-phone.png", (390, 844), false).await?;
    }

    scene.matomo.set(Situation::BadGateway);
    scene.queues.publish(hits::load(1_000..4_000, 50)).await?;
    until(&worker, "the outage is told", |status| status["state"] == "matomo_away").await?;
    // At rest: what is prefetched is held, and the rest waits.
    let away = until(&worker, "the depths are told", |status| {
        ready(status) > 1_000 && status["in_flight"] != 0
    })
    .await?;
    eventually("depths, metrics and status agree", SOON, async || {
        let (Ok(told), Ok(there), Ok(metrics)) =
            (status(&worker).await, scene.queues.ready_in_shards(4).await, worker.metrics().await)
        else {
            return false;
        };
        ready(&told) == there as u64
            && metrics.get("dnma_relay_waiting_hits{queue=\"main\"}").copied() == Some(there as f64)
    })
    .await?;
    ensure!(
        away["matomo"]["reason"] == "bad-gateway" && away["matomo"]["http_status"] == 502,
        "{away:#}"
    );
    ensure!(
        away["matomo"]["away_seconds"].is_u64() && away["forecast"]["limit_seconds"].is_null(),
        "with a token there is no limit: {away:#}"
    );
    let told = until(&worker, "the oldest hit has an age", |status| {
        status["queues"]["shards"]
            .as_array()
            .is_some_and(|shards| shards.iter().any(|shard| shard["oldest_seconds"].is_u64()))
    })
    .await?;
    ensure!(
        told["headline"].as_str().is_some_and(|text| text.starts_with("Matomo has been down for")
            && text.ends_with("nothing is lost")),
        "{told:#}"
    );
    ensure!(
        told["causes"]
            .as_array()
            .is_some_and(|causes| causes.iter().any(|cause| cause["code"] == "bad-gateway")),
        "{told:#}"
    );
    worker.until("oldest_hit_seconds", SOON, |age| age > 0.0).await?;
    let (_, page) = worker.get("/?lang=fr").await?;
    ensure!(
        page.contains("<h1>Matomo est en panne depuis ")
            && page.contains("rien n&#39;est perdu</h1>"),
        "{page}"
    );
    tells_no_secret(&worker).await?;
    if let Some(browser) = &browser {
        can_be_read(browser, &worker, "/?lang=fr").await?;
        picture(browser, &worker, "/", "status-dark.png", (1100, 900), true).await?;
    }

    scene.matomo.set(Situation::Fine);
    until(&worker, "hits flow again", |status| {
        status["matomo"]["away_seconds"].is_null() && ready(status) == 0 && status["in_flight"] == 0
    })
    .await?;
    if let Some(browser) = &browser {
        picture(browser, &worker, "/", "status-light.png", (1100, 900), false).await?;
    }
    worker.stop().await
}

pub(crate) async fn without_a_broker_there_is_a_page_too(scene: Scene) -> anyhow::Result<()> {
    let nowhere =
        format!("amqp://guest:s3cret-password@127.0.0.1:{}/%2f", crate::support::free_port()?);
    let worker = scene.start(&[("AMQP_URL", &nowhere)]).await?;
    let starting = status(&worker).await?;
    ensure!(starting["state"] == "starting" && starting["queues"].is_null(), "{starting:#}");
    let (_, page) = worker.get("/").await?;
    ensure!(
        page.contains("no session with RabbitMQ yet") && page.contains("has not been asked yet"),
        "{page}"
    );
    for path in ["/", "/status.json"] {
        ensure!(!worker.get(path).await?.1.contains("s3cret"), "a password is told");
        let response = worker.request(reqwest::Method::GET, path).await?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let policy = header("content-security-policy");
        ensure!(
            policy.starts_with(
                "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
            ),
            "{policy}"
        );
        ensure!(
            !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        ensure!(
            header("x-content-type-options") == "nosniff" && header("cache-control") == "no-store",
            "{path}"
        );
        for method in [reqwest::Method::POST, reqwest::Method::PUT, reqwest::Method::DELETE] {
            let refused = worker.request(method, path).await?.status();
            ensure!(refused == 405, "{path}: {refused}");
        }
    }
    worker.stop().await
}

/// `top` on these addresses: exit code and output.
async fn top(arguments: &[&str], addresses: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = tokio::process::Command::new(program());
    command
        .env_clear()
        .arg("top")
        .args(arguments)
        .args(addresses.iter().flat_map(|address| ["--url", address]));
    let output = tokio::time::timeout(SOON, command.kill_on_drop(true).output())
        .await
        .context("top does not end")??;
    Ok((output.status.code(), String::from_utf8(output.stdout)?))
}

pub(crate) async fn top_sees_every_worker(scene: Scene) -> anyhow::Result<()> {
    let first = scene.worker(&[("QUEUE_SHARDS", "4"), ("HOSTNAME", "one")]).await?;
    let second = scene.worker(&[("QUEUE_SHARDS", "4"), ("HOSTNAME", "two")]).await?;
    let nobody = format!("127.0.0.1:{}", crate::support::free_port()?);
    scene.queues.publish(hits::load(0..400, 50)).await?;
    eventually("everything is stored", SOON, async || scene.matomo.stored() == 400).await?;
    let addresses = [first.url(), second.url(), first.url(), &nobody];
    let whole = async || {
        let (_, text) = top(&["--json"], &addresses).await?;
        anyhow::Ok(serde_json::from_str::<Value>(&text)?)
    };
    let read = eventually("all shards have a reader", SOON, async || {
        let Ok(told) = whole().await else { return false };
        let shards = told["whole"]["queues"]["shards"].as_array().cloned().unwrap_or_default();
        shards.len() == 4
            && shards.iter().all(|shard| shard["holder"].is_string() && shard["consumers"] == 1)
    })
    .await;
    let told = whole().await?;
    read.with_context(|| format!("{:#}", told["whole"]["queues"]))?;
    ensure!(
        told["whole"]["hour"]["delivered"] == 400 && told["whole"]["state"] == "delivering",
        "{:#}",
        told["whole"]
    );
    let workers = told["workers"].as_array().context("workers")?;
    ensure!(workers.len() == 2, "a worker that is named twice is one");
    let sum: f64 = workers.iter().filter_map(|worker| worker["hour"]["delivered"].as_f64()).sum();
    // A shard that moved from one to the other is claimed by both for a minute: the whole names one
    // of them.
    let named = |told: &Value| -> Vec<Value> {
        told["queues"]["shards"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|shard| shard["holder"].clone())
            .collect()
    };
    let claims: Vec<Vec<Value>> = workers.iter().map(named).collect();
    for (shard, holder) in named(&told["whole"]).into_iter().enumerate() {
        ensure!(
            claims.iter().any(|claims| claims.get(shard) == Some(&holder)),
            "shard {shard}: {holder} of {claims:?}"
        );
    }
    ensure!(
        sum == 400.0
            && first.sum("delivered_total").await? + second.sum("delivered_total").await? == 400.0,
        "{sum}"
    );
    let silent = &told["silent"][0];
    let why = silent["why"].as_str().unwrap_or_default();
    ensure!(
        silent["address"] == json!(nobody)
            && why.starts_with("does not answer (Connection refused"),
        "{:#}",
        told["silent"]
    );

    let (code, text) = top(&[], &addresses).await?;
    ensure!(code == Some(0) && text.starts_with("Delivering\n"), "{text}");
    for name in ["one-", "two-", &format!("{}.3", scene.prefix), "does not answer"] {
        ensure!(text.contains(name), "{name}: {text}");
    }
    ensure!(!text.contains('\u{1b}'), "colours in a file");
    let (_, text) = top(&["--lang", "fr"], &addresses).await?;
    ensure!(text.starts_with("Les hits passent\n") && text.contains("ne répond pas"), "{text}");
    ensure!(top(&["--once"], &[&nobody]).await?.0 == Some(1), "nobody answers");
    for end in ["q", "\u{3}"] {
        live(&addresses[..2], end).await?;
    }
    first.stop().await?;
    second.stop().await
}

/// On a terminal it stays until a key ends it, and gives the terminal back as it was.
async fn live(addresses: &[&str], end: &str) -> anyhow::Result<()> {
    // Of both: by chance one of them may have been given no hit, and then it delivers none.
    let urls: String = addresses.iter().map(|address| format!(" --url {address}")).collect();
    let shell = format!("stty rows 40 cols 140; {} top{urls}; stty -a", program().display());
    let mut command = tokio::process::Command::new("script");
    command
        .args(["-qefc", &shell, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.env("TERM", "xterm").spawn().context("script, of Debian's bsdutils")?;
    let (mut keys, mut screen) =
        (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
    let mut shown = String::new();
    let looking = async {
        let mut pressed = false;
        let mut buffer = [0; 4096];
        loop {
            let read = screen.read(&mut buffer).await?;
            if read == 0 {
                return anyhow::Ok(());
            }
            shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
            if !pressed && shown.contains("WORKER") && shown.contains("Delivering") {
                pressed = true;
                keys.write_all(end.as_bytes()).await?;
            }
        }
    };
    let ended = tokio::time::timeout(SOON, looking).await;
    ensure!(matches!(ended, Ok(Ok(()))), "{end:?} does not end it: {shown}");
    let (_, after) = shown.split_once("\u{1b}[?1049l").context("the screen is not given back")?;
    ensure!(
        shown.contains("\u{1b}[?1049h") && after.contains("\u{1b}[?25h"),
        "the cursor is not given back: {after}"
    );
    ensure!(
        after.contains(" icanon ") && after.contains(" echo "),
        "keys are not shown any more: {after}"
    );
    Ok(())
}
