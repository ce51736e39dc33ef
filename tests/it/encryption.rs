//! TLS: a private CA and a client certificate, certificates that must not be believed, and a line
//! that flips bits.

use std::time::Duration;

use anyhow::{Context, ensure};
use rcgen::ExtendedKeyUsagePurpose::ServerAuth;

use crate::drill::{Drill, PREFETCH, SMALL, broker_address};
use crate::support::books::Allowed;
use crate::support::cable::{Cable, Fault};
use crate::support::rabbitmq::Broker;
use crate::support::tls::{Authority, Certificates, Front};
use crate::support::{eventually, hits};
use crate::{Scene, Worker};

pub(crate) async fn mutual_tls_with_a_private_ca(scene: Scene) -> anyhow::Result<()> {
    let certificates = Certificates::generate()?;
    let broker = Broker::start_encrypted(&certificates).await?;
    let port = broker.tls_port.context("a port")?;
    let url = format!("amqps://guest:guest@127.0.0.1:{port}/%2f");
    let (ca, certificate, key) = (
        certificates.path("ca.pem"),
        certificates.path("client.pem"),
        certificates.path("client.key"),
    );
    let common = [("AMQP_URL", url.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [&common[..], more].concat();
    let refused = [
        ("without the CA", with(&[])),
        ("without a client certificate", [&common[..], &[("AMQP_CA_FILE", ca.as_str())]].concat()),
    ];
    for (what, vars) in refused {
        has_no_session(scene.start(&vars).await?, what).await?;
    }
    let mutual = [
        ("AMQP_CA_FILE", ca.as_str()),
        ("AMQP_CLIENT_CERT_FILE", &certificate),
        ("AMQP_CLIENT_KEY_FILE", &key),
    ];
    let worker = scene.worker(&[&common[..], &mutual].concat()).await?;
    let visitor = hits::visitor(1);
    let queues = crate::support::queues::Queues::connect(&broker.url, &scene.prefix).await?;
    queues
        .publish([(visitor.clone(), hits::valid(&visitor, "encrypted").to_string().into_bytes())])
        .await?;
    eventually("the hit is stored", Duration::from_secs(20), async || scene.matomo.stored() == 1)
        .await?;
    worker.stop().await
}

/// The worker says that it has no session, is not ready, and stops when it is asked to.
async fn has_no_session(worker: Worker, why: &str) -> anyhow::Result<()> {
    worker
        .until_it_says("no session with RabbitMQ", Duration::from_secs(20))
        .await
        .context(format!("the broker is {why}"))?;
    let (code, _) = worker.get("/readyz").await?;
    ensure!(code == 503, "{why}: it connected all the same");
    worker.stop().await
}

/// Nobody talks to a server whose certificate is expired, another's, or from an unknown CA.
pub(crate) async fn bad_certificates_are_refused(scene: Scene) -> anyhow::Result<()> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let ca = tempfile::NamedTempFile::new()?;
    std::fs::write(ca.path(), &authority.pem)?;
    let ca = ca.path().display().to_string();
    let good = authority.issue("127.0.0.1", ServerAuth)?;
    let bad = [
        ("expired", authority.issue_expired("127.0.0.1")?),
        ("another host's", authority.issue("matomo.example.fr", ServerAuth)?),
        ("of an unknown CA", stranger.issue("127.0.0.1", ServerAuth)?),
    ];
    let common = [("QUEUE_SHARDS", "2")];
    let visitor = hits::visitor(1);
    for (what, identity) in &bad {
        let front = Front::before(broker_address(&scene)?, identity).await?;
        let url = format!("amqps://guest:guest@{}/%2f", front.address);
        let vars = [("AMQP_URL", url.as_str()), ("AMQP_CA_FILE", &ca)];
        has_no_session(scene.start(&[&common[..], &vars].concat()).await?, what).await?;
        let front = Front::before(scene.matomo.address(), identity).await?;
        let url = format!("https://{}/", front.address);
        let worker = scene
            .worker(&[&common[..], &[("MATOMO_URL", &url), ("SSL_CERT_FILE", &ca)]].concat())
            .await?;
        scene
            .queues
            .publish([(visitor.clone(), hits::valid(&visitor, what).to_string().into_bytes())])
            .await?;
        let noticed = worker.until("outage_seconds", Duration::from_secs(20), |away| away > 0.0);
        noticed.await.with_context(|| (*what).to_owned())?;
        ensure!(worker.log().contains("unreachable"), "{}", worker.log());
        ensure!(
            scene.matomo.ledger().requests == 0,
            "Matomo's certificate is {what}, and hits were sent"
        );
        worker.stop().await?;
    }
    let (to_broker, to_matomo) = (
        Front::before(broker_address(&scene)?, &good).await?,
        Front::before(scene.matomo.address(), &good).await?,
    );
    let (broker, matomo) = (
        format!("amqps://guest:guest@{}/%2f", to_broker.address),
        format!("https://{}/", to_matomo.address),
    );
    let vars = [
        ("AMQP_URL", broker.as_str()),
        ("AMQP_CA_FILE", &ca),
        ("MATOMO_URL", &matomo),
        ("SSL_CERT_FILE", &ca),
    ];
    let worker = scene.worker(&[&common[..], &vars].concat()).await?;
    scene
        .queues
        .publish([(visitor.clone(), hits::valid(&visitor, "good").to_string().into_bytes())])
        .await?;
    eventually("with good ones a hit arrives", Duration::from_secs(30), async || {
        scene.matomo.stored() == 1
    })
    .await?;
    worker.stop().await
}

/// Without TLS nobody would notice a flipped bit; with it the connection ends, and the hits come
/// again.
pub(crate) async fn flipped_bits_are_noticed(scene: Scene) -> anyhow::Result<()> {
    let mut drill = Drill::new(scene);
    let authority = Authority::new()?;
    let front =
        Front::before(broker_address(&drill.scene)?, &authority.issue("127.0.0.1", ServerAuth)?)
            .await?;
    let cable = Cable::to(front.address).await?;
    let ca = tempfile::NamedTempFile::new()?;
    std::fs::write(ca.path(), &authority.pem)?;
    let (url, ca) = (
        format!("amqps://guest:guest@127.0.0.1:{}/%2f", cable.port()),
        ca.path().display().to_string(),
    );
    let worker = drill
        .scene
        .worker(&[&SMALL[..], &[("AMQP_URL", &url), ("AMQP_CA_FILE", &ca)]].concat())
        .await?;
    for _ in 0..3 {
        drill.publish(600).await?;
        drill.flow(100).await?;
        cable.set(Fault::CorruptAnswers);
        worker.until("broker_up", Duration::from_secs(30), |up| up == 0.0).await?;
        cable.set(Fault::None);
        drill.flow_again().await?;
    }
    drill
        .close(
            vec![worker],
            "bits flip on the way from RabbitMQ, under TLS",
            3,
            Allowed { out_of_order: 3 * PREFETCH, ..Allowed::default() },
        )
        .await
}
