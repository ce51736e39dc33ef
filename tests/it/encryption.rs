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
    let matomo = scene.matomo.url();
    let common =
        [("AMQP_URL", url.as_str()), ("MATOMO_URL", &matomo), ("QUEUE_PREFIX", &scene.prefix)];
    let with = |more: &[(&'static str, &'static str)]| [&common[..], more].concat();
    let refused = [
        ("without the CA", with(&[])),
        ("without a client certificate", [&common[..], &[("AMQP_CA_FILE", ca.as_str())]].concat()),
    ];
    for (what, vars) in refused {
        let worker = Worker::start(&vars).await?;
        eventually(what, Duration::from_secs(20), async || {
            worker.log().contains("no session with RabbitMQ")
        })
        .await?;
        ensure!(
            matches!(worker.get("/readyz").await?, (503, _)),
            "{what} it connected all the same"
        );
        worker.stop().await?;
    }
    let mutual = [
        ("AMQP_CA_FILE", ca.as_str()),
        ("AMQP_CLIENT_CERT_FILE", &certificate),
        ("AMQP_CLIENT_KEY_FILE", &key),
    ];
    let worker = Worker::start(&[&common[..], &mutual].concat()).await?;
    worker.ready().await?;
    let visitor = hits::visitor(1);
    let queues = crate::support::queues::Queues::connect(&broker.url, &scene.prefix).await?;
    queues
        .publish([(visitor.clone(), hits::valid(&visitor, "encrypted").to_string().into_bytes())])
        .await?;
    eventually("the hit is stored", Duration::from_secs(20), async || scene.matomo.stored() == 1)
        .await?;
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
        let vars = [
            ("AMQP_URL", url.as_str()),
            ("AMQP_CA_FILE", &ca),
            ("MATOMO_URL", &scene.matomo.url()),
            ("QUEUE_PREFIX", &scene.prefix),
        ];
        let worker = Worker::start(&[&common[..], &vars].concat()).await?;
        eventually(what, Duration::from_secs(20), async || {
            worker.log().contains("no session with RabbitMQ")
        })
        .await?;
        ensure!(
            matches!(worker.get("/readyz").await?, (503, _)),
            "the broker's certificate is {what}, and it connected"
        );
        worker.stop().await?;
        let front = Front::before(scene.matomo.address(), identity).await?;
        let url = format!("https://{}/", front.address);
        let worker = scene
            .worker(&[&common[..], &[("MATOMO_URL", &url), ("SSL_CERT_FILE", &ca)]].concat())
            .await?;
        scene
            .queues
            .publish([(visitor.clone(), hits::valid(&visitor, what).to_string().into_bytes())])
            .await?;
        eventually(what, Duration::from_secs(20), async || {
            worker.sum("outage_seconds").await.is_ok_and(|away| away > 0.0)
        })
        .await?;
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
        eventually("the worker notices", Duration::from_secs(30), async || {
            worker.sum("broker_up").await.is_ok_and(|up| up == 0.0)
        })
        .await?;
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
