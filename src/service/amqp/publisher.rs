//! Publishes that are persistent, mandatory and confirmed: by an ENT, by a worker that moves a hit
//! to another queue, and by an operator who replays one.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};

use super::BrokerError;
use super::connect::{SET_UP_TIMEOUT, close, connect};
use super::fit::fit;
use super::message::Message;
use super::properties::copied;
use super::session_end::SessionClosed;
use super::topology::Topology;
use crate::domain::envelope::Header;
use crate::domain::hit::routing_key;
use crate::service::config::BrokerSettings;

/// A channel whose publishes are confirmed.
#[derive(Debug)]
pub struct ConfirmChannel {
    channel: Channel,
    /// The AMQP user of its connection.
    user: ShortString,
    /// The largest frame that the broker takes, in bytes.
    frame_max: u32,
}

/// What changes of a message when it goes to another exchange.
#[derive(Debug, Default)]
pub struct Changes<'c> {
    /// Headers of the copy, beside those of the original that may go along.
    pub headers: Vec<(&'static str, Header)>,
    /// A JSON body in place of the original's.
    pub body: Option<&'c [u8]>,
    /// Whether the copy bears our own user name, which the broker verifies.
    pub signed: bool,
}

/// A publish on its way.
#[derive(Debug)]
pub struct Confirm(PublisherConfirm);

/// What the broker says of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// A queue has it.
    Taken,
    /// A queue refused it.
    Refused,
    /// No queue is there for it. The client library may pin this on another publish of the same
    /// moment.
    Returned,
}

/// Publishes hits as an ENT does, for `dnma-relay publish`.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
    channel: ConfirmChannel,
    /// The main exchange.
    exchange: String,
    /// The `user_id` of each message, if it is to have one.
    user: Option<String>,
}

impl ConfirmChannel {
    /// Opens a channel that confirms.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn open(connection: &Connection) -> Result<Self, BrokerError> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let user = connection.status().username().into();
        Ok(Self { channel, user, frame_max: connection.configuration().frame_max() })
    }

    /// Sends a copy of a message to another exchange, with its routing key. The original is still
    /// in its queue, and may be acked once the copy is confirmed.
    ///
    /// # Errors
    /// When the connection is lost, or the exchange does not exist.
    pub async fn forward(
        &self,
        exchange: &str,
        message: &Message,
        changes: Changes<'_>,
    ) -> Result<Confirm, BrokerError> {
        let mut properties = copied(message.properties(), changes.headers);
        if changes.signed {
            properties = properties.with_user_id(self.user.clone());
        }
        if changes.body.is_some() {
            properties = properties.with_content_type("application/json".into());
        }
        let properties = fit(properties, self.frame_max);
        let body = changes.body.unwrap_or(message.body());
        self.publish(exchange, message.routing_key().into(), body, properties).await
    }

    async fn publish(
        &self,
        exchange: &str,
        key: ShortString,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<Confirm, BrokerError> {
        // A confirm means accepted, not routed: what no queue takes comes back.
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = self.channel.basic_publish(exchange.into(), key, options, body, properties);
        Ok(Confirm(sent.await?))
    }
}

impl Confirm {
    /// Waits until the broker has answered. Nothing bounds the wait: on a broker that lets nobody
    /// publish it lasts until the alarm is over.
    ///
    /// # Errors
    /// When the connection is lost: nobody knows then.
    pub async fn answered(self) -> Result<PublishOutcome, BrokerError> {
        Ok(match self.0.await? {
            Confirmation::Ack(None) => PublishOutcome::Taken,
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => PublishOutcome::Returned,
            Confirmation::Nack(None) | Confirmation::NotRequested => PublishOutcome::Refused,
        })
    }

    /// Waits for the broker's answer for at most a minute.
    ///
    /// # Errors
    /// When the connection is lost or the broker does not answer: nobody knows then.
    pub async fn outcome(self) -> Result<PublishOutcome, BrokerError> {
        let answered = tokio::time::timeout(SET_UP_TIMEOUT, self.answered()).await;
        let silent = |_| SessionClosed("no confirm: is the broker blocked by an alarm?".to_owned());
        answered.map_err(silent)?
    }

    /// Whether a queue has it.
    ///
    /// # Errors
    /// As [`Confirm::outcome`].
    pub async fn is_taken(self) -> Result<bool, BrokerError> {
        Ok(self.outcome().await? == PublishOutcome::Taken)
    }
}

impl Publisher {
    /// Connects. `user` is put into each message as its `user_id`.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &BrokerSettings, user: Option<&str>) -> Result<Self, BrokerError> {
        let (connection, _) = connect(settings, "dnma-relay publish", None).await?;
        if !Topology::new(settings).is_there(&connection).await? {
            return Err(BrokerError::NoExchange(settings.prefix.clone()));
        }
        let channel = ConfirmChannel::open(&connection).await?;
        let (exchange, user) = (settings.prefix.clone(), user.map(str::to_owned));
        Ok(Self { connection, channel, exchange, user })
    }

    /// The AMQP user.
    pub fn login(&self) -> String {
        self.connection.status().username()
    }

    /// Sends one message; the routing key is its visitor.
    ///
    /// # Errors
    /// When the connection is lost, or the exchange does not exist.
    pub async fn publish(
        &self,
        body: &[u8],
        visitor: &str,
        content_type: Option<&str>,
    ) -> Result<Confirm, BrokerError> {
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        // No message had one over 255 bytes, so a file that names one was made by hand; a relay
        // tells the form of such a hit by its first byte.
        if let Some(content_type) = content_type.and_then(|text| ShortString::try_new(text).ok()) {
            properties = properties.with_content_type(content_type);
        }
        if let Some(user) = &self.user {
            properties = properties.with_user_id(user.as_str().into());
        }
        let key = routing_key(visitor).into();
        self.channel.publish(&self.exchange, key, body, properties).await
    }

    /// Closes the connection.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}
