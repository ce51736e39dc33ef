//! Wrong configuration: every mistake in one message, exit 2; secrets nowhere.

use anyhow::ensure;

use crate::Scene;
use crate::support::{eventually, hits, worker};

pub(crate) async fn every_mistake_in_one_message(_scene: Scene) -> anyhow::Result<()> {
    let vars = [
        ("AMQP_URL", "amqp://user:hunter2@rabbit.example/"),
        ("QUEUE_SHARDS", "many"),
        ("MATOMO_TIMEOUT", "65"),
        ("MATOMO_TOKEN_AUTH_FILE", "/nowhere/token"),
        ("RETRY_DELAYS", "soon"),
    ];
    for arguments in [&["run"][..], &[], &["check"]] {
        let output = worker::command(&vars).args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{arguments:?}: {} {text}", output.status);
        for name in [
            "AMQP_URL",
            "QUEUE_SHARDS",
            "MATOMO_URL",
            "MATOMO_TIMEOUT",
            "MATOMO_TOKEN_AUTH",
            "RETRY_DELAYS",
        ] {
            ensure!(text.contains(&format!("\n  {name}: ")), "{name} is not named in: {text}");
        }
        ensure!(!text.contains("hunter2"), "{text}");
        ensure!(output.stdout.is_empty(), "mistakes go to stderr");
    }
    Ok(())
}

pub(crate) async fn no_secret_in_any_output(scene: Scene) -> anyhow::Result<()> {
    let secrets = ["s3cret-token-0123456789abcdef", "gu3st-pa55word"];
    let vars = [
        ("MATOMO_URL", "https://matomo.example.fr"),
        ("MATOMO_TOKEN_AUTH", secrets[0]),
        ("AMQP_URL", "amqps://relay:gu3st-pa55word@rabbit.example.fr/dnma"),
    ];
    for arguments in [&["check"][..], &["check", "--json"], &["topology"], &["--help"]] {
        let output = worker::command(&vars).args(arguments).output()?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(output.status.success(), "{arguments:?}: {text}");
        ensure!(!secrets.iter().any(|secret| text.contains(secret)), "{arguments:?}: {text}");
    }
    // A wrong password, at the most talkative level.
    let port = url::Url::parse(&scene.broker.url)?.port().unwrap_or(5672);
    let url = format!("amqp://guest:gu3st-pa55word@127.0.0.1:{port}/%2f");
    let mut refused = crate::Worker::start(&[
        ("AMQP_URL", &url),
        ("MATOMO_URL", &scene.matomo.url()),
        ("RUST_LOG", "trace"),
    ])
    .await?;
    eventually("it says so", std::time::Duration::from_secs(20), async || {
        refused.log().contains("no session with RabbitMQ")
    })
    .await?;
    refused.signal("TERM")?;
    ensure!(refused.wait(std::time::Duration::from_secs(10)).await?.success(), "{}", refused.log());
    ensure!(!refused.log().contains(secrets[1]), "the password is in the log");
    // A working day, at every level for looking closely, of the libraries too.
    let visitor = hits::visitor(1);
    let levels = ["dnma_relay=trace,info", "trace", "lapin=trace,hyper=trace,reqwest=trace,trace"];
    for (number, level) in levels.into_iter().enumerate() {
        let port = url::Url::parse(&scene.broker.url)?.port().unwrap_or(5672);
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let worker = scene
            .worker(&[("MATOMO_TOKEN_AUTH", secrets[0]), ("RUST_LOG", level), ("AMQP_URL", &url)])
            .await?;
        let page = format!("Ma page {number}");
        let body = hits::valid(&visitor, &page).to_string().into_bytes();
        scene.queues.publish([(visitor.clone(), body)]).await?;
        let is_stored = async || scene.matomo.stored() == number + 1;
        eventually("it is stored", std::time::Duration::from_secs(20), is_stored).await?;
        let (_, metrics) = worker.get("/metrics").await?;
        // What `ps` shows to everybody on the machine.
        let command_line =
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/cmdline", worker.pid()))?)
                .into_owned();
        ensure!(command_line.contains("dnma-relay"), "{command_line}");
        ensure!(!secrets.iter().any(|secret| command_line.contains(secret)), "{command_line}");
        // A library may write bytes as numbers: so does the client of RabbitMQ its password.
        let numbers = |text: &str| format!("{:?}", text.as_bytes());
        let private = [secrets[0], &visitor, "Ma page", "Mozilla", "ent.example.fr"];
        let in_numbers = [numbers("\0guest\0guest"), numbers(&visitor), numbers("guest")];
        let in_numbers = in_numbers.iter().map(|list| list.trim_matches(['[', ']']));
        for private in private.into_iter().chain(in_numbers) {
            ensure!(
                !worker.log().contains(private) && !metrics.contains(private),
                "{level}: {private} is in the log or the metrics"
            );
        }
        worker.stop().await?;
    }
    Ok(())
}
