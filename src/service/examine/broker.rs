//! RabbitMQ: reachable, version, rights, topology and how it differs.

use super::{Finding, message_size, version};
use crate::service::amqp::connect::{close, connect};
use crate::service::amqp::topology::{Topology, TopologyError, Untold};
use crate::service::amqp::version::server_version;
use crate::service::amqp::{BrokerError, Connection, rights, workers};
use crate::service::config::{self, TopologyMode};

pub(super) async fn examine(settings: &config::BrokerSettings) -> Vec<Finding> {
    let (connection, shown) = match connect(settings, "dnma-relay check", None).await {
        Ok(connected) => connected,
        Err(error @ BrokerError::File { .. }) => {
            let remedy = "see AMQP_CA_FILE, AMQP_CLIENT_CERT_FILE, AMQP_CLIENT_KEY_FILE";
            return vec![Finding::wrong("broker", error.to_string(), remedy)];
        }
        Err(error) => {
            let remedy = "see AMQP_URL: host, port, user, password and virtual host; and that \
                          nothing between here and there blocks the port";
            return vec![Finding::wrong("broker", error.to_string(), remedy)];
        }
    };
    let mut findings = vec![Finding::fine("broker", format!("RabbitMQ answers at {shown}"))];
    let server = server_version(settings, &shown).await;
    if let Some(server) = &server {
        findings.push(version::finding(&server.product, &server.version));
    }
    findings.push(message_size::finding(server.as_ref().map(|server| server.version.as_str())));
    let topology = Topology::new(settings);
    if settings.shards > 1 {
        findings.push(may_count(&topology, &connection, settings.topology).await);
    }
    let is_complete = compare(&topology, &connection, settings.topology, &mut findings).await;
    if is_complete {
        findings.push(may_write(&topology, &connection).await);
        findings.push(may_read(&topology, &connection, settings.topology).await);
    } else {
        findings.push(Finding::note(
            "rights",
            "not tried: the queues are not all there",
            "start a relay, or declare them, and check again",
        ));
    }
    close(&connection).await;
    findings
}

/// Whether everything is there.
async fn compare(
    topology: &Topology,
    connection: &Connection,
    mode: TopologyMode,
    findings: &mut Vec<Finding>,
) -> bool {
    let differences = match topology.compare(connection, mode).await {
        Ok(differences) => differences,
        Err(error) => {
            findings.push(Finding::wrong("topology", error.to_string(), "see the broker's log"));
            return false;
        }
    };
    for error in &differences.wrong {
        findings.push(Finding::wrong(
            "topology",
            error.to_string(),
            "a relay would not start with this",
        ));
    }
    if !differences.missing.is_empty() {
        let text = format!("not there yet: {}", differences.missing.join(", "));
        findings.push(match mode {
            TopologyMode::Declare => {
                Finding::note("topology", text, "a relay declares them when it starts")
            }
            TopologyMode::Verify => Finding::wrong(
                "topology",
                text,
                "load what `dnma-relay topology` prints, or set TOPOLOGY=declare",
            ),
        });
    }
    if !differences.untold.is_empty() {
        findings.push(Finding::note(
            "topology",
            format!("the broker does not tell this user of {}", differences.untold.join(", ")),
            "a relay works without it, but does not notice when they are deleted: see \"Rights\" \
             in docs/operate.md",
        ));
    }
    let is_complete = differences.wrong.is_empty() && differences.missing.is_empty();
    if is_complete && differences.untold.is_empty() {
        let what = match mode {
            TopologyMode::Declare => "exchanges and queues are there with the right arguments",
            TopologyMode::Verify => {
                "exchanges and queues are there (AMQP does not tell their arguments)"
            }
        };
        findings.push(Finding::fine("topology", what));
    }
    is_complete
}

/// Whether workers can count each other, which is how they share out the shards.
async fn may_count(topology: &Topology, connection: &Connection, mode: TopologyMode) -> Finding {
    const SUBJECT: &str = "sharing";
    match workers::may_count(connection, topology).await {
        Ok(()) => Finding::fine(SUBJECT, "workers can count each other and share out the shards"),
        Err(BrokerError::Topology(TopologyError::Missing(missing)))
            if mode == TopologyMode::Declare =>
        {
            Finding::note(
                SUBJECT,
                format!("not there yet: {}", missing.join(", ")),
                "a relay declares them when it starts",
            )
        }
        Err(error) => Finding::note(
            SUBJECT,
            error.to_string(),
            "without these queues and the right to read them a worker that joins later gets no \
             shard until another one leaves",
        ),
    }
}

/// Publishes to each exchange in a transaction that is never committed.
async fn may_write(topology: &Topology, connection: &Connection) -> Finding {
    let mut refused = Vec::new();
    for exchange in topology.dead_letter_exchanges() {
        if rights::may_publish(connection, &exchange).await.is_err() {
            refused.push(exchange);
        }
    }
    if refused.is_empty() {
        return Finding::fine(
            "rights.write",
            "may publish to the exchanges of the dead-letter queues",
        );
    }
    let text = format!("may not publish to {}", refused.join(", "));
    Finding::wrong(
        "rights.write",
        text,
        "grant the relay's user the write permission on these exchanges: hits could not change \
         queues",
    )
}

/// Takes a message of each dead-letter queue that nobody consumes, and gives it back.
async fn may_read(topology: &Topology, connection: &Connection, mode: TopologyMode) -> Finding {
    let mut refused = Vec::new();
    for queue in [topology.parked(), topology.rejected()] {
        // To take and give back counts as a delivery, and nobody here knows the limit of a queue of
        // others' making.
        let depth = topology.depth(connection, &queue, &Untold::default()).await;
        let is_empty = matches!(depth, Ok(Some(depth)) if depth.ready == 0);
        if mode == TopologyMode::Verify && !is_empty {
            return Finding::note(
                "rights.read",
                "not tried: the queues hold hits",
                "see the permissions of the relay's user",
            );
        }
        if rights::may_read(connection, &queue).await.is_err() {
            refused.push(queue);
        }
    }
    if refused.is_empty() {
        return Finding::fine(
            "rights.read",
            "may read the queues of hits that were parked or rejected",
        );
    }
    let text = format!("may not read {}", refused.join(", "));
    Finding::note(
        "rights.read",
        text,
        "a relay does not need to; whoever looks into these queues does",
    )
}
