//! TLS to the broker, with a private CA and a client certificate.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::support::rabbitmq::{Broker, Certificates};
use crate::support::{eventually, hits};
use crate::{Scene, Worker};

pub(crate) async fn mutual_tls_with_a_private_ca(scene: Scene) -> anyhow::Result<()> {
    let certificates = Certificates::generate()?;
    let broker = Broker::start_encrypted(&certificates).await?;
    let port = broker.tls_port.context("a port")?;
    let url = format!("amqps://guest:guest@127.0.0.1:{port}/%2f");
    let (ca, certificate, key) = (certificates.path("ca.pem"), certificates.path("client.pem"), certificates.path("client.key"));
    let matomo = scene.matomo.url();
    let common = [("AMQP_URL", url.as_str()), ("MATOMO_URL", &matomo), ("QUEUE_PREFIX", &scene.prefix)];
    let with = |more: &[(&'static str, &'static str)]| [&common[..], more].concat();
    let refused =
        [("without the CA", with(&[])), ("without a client certificate", [&common[..], &[("AMQP_CA_FILE", ca.as_str())]].concat())];
    for (what, vars) in refused {
        let worker = Worker::start(&vars).await?;
        eventually(what, Duration::from_secs(20), async || worker.log().contains("no session with RabbitMQ")).await?;
        ensure!(matches!(worker.get("/readyz").await?, (503, _)), "{what} it connected all the same");
        worker.stop().await?;
    }
    let mutual = [("AMQP_CA_FILE", ca.as_str()), ("AMQP_CLIENT_CERT_FILE", &certificate), ("AMQP_CLIENT_KEY_FILE", &key)];
    let worker = Worker::start(&[&common[..], &mutual].concat()).await?;
    worker.ready().await?;
    let visitor = hits::visitor(1);
    let queues = crate::support::queues::Queues::connect(&broker.url, &scene.prefix).await?;
    queues.publish([(visitor.clone(), hits::valid(&visitor, "encrypted").to_string().into_bytes())]).await?;
    eventually("the hit is stored", Duration::from_secs(20), async || scene.matomo.stored() == 1).await?;
    worker.stop().await
}
