//! The ENT's side of the main exchange, for `dnma-relay publish`.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};

use super::{BrokerError, SET_UP_TIMEOUT, close, connect_any, tls};
use crate::service::config::Broker;
use crate::service::session_end::SessionClosed;
use crate::service::topology::Topology;

/// Publishes hits as an ENT does: persistent, mandatory, confirmed. For `dnma-relay publish`.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
    channel: Channel,
    exchange: String,
    user: Option<String>,
}

/// A publish on its way.
#[derive(Debug)]
pub struct Confirm(pub(super) PublisherConfirm);

impl Publisher {
    /// Connects. `user` is put into each message as its `user_id`.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn open(settings: &Broker, user: Option<&str>) -> Result<Self, BrokerError> {
        // A second installation in one process is refused, and the first one serves both.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let (connection, _) =
            connect_any(&settings.urls, &tls(settings).await?, "dnma-relay publish", None).await?;
        if !Topology::new(settings).is_there(&connection).await? {
            return Err(BrokerError::NoExchange(settings.prefix.clone()));
        }
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self {
            connection,
            channel,
            exchange: settings.prefix.clone(),
            user: user.map(str::to_owned),
        })
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
        // AMQP's limit; a uid of 200 accented characters is longer. Any stable part of it keeps a
        // visitor in one shard.
        let key: String = visitor
            .chars()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= 255).then_some(c)
            })
            .collect();
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(content_type) = content_type {
            properties = properties.with_content_type(content_type.into());
        }
        if let Some(user) = &self.user {
            properties = properties.with_user_id(user.as_str().into());
        }
        let sent = self
            .channel
            .basic_publish(self.exchange.as_str().into(), key.into(), options, body, properties)
            .await;
        Ok(Confirm(sent?))
    }

    /// Says goodbye.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}

/// What the broker says of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A queue has it.
    Taken,
    /// A queue refused it.
    Refused,
    /// No queue is there for it. The client library may pin this on another publish of the same
    /// moment.
    Returned,
}

impl Confirm {
    /// Whether a queue has it.
    ///
    /// # Errors
    /// When the connection is lost: nobody knows then.
    pub async fn is_taken(self) -> Result<bool, BrokerError> {
        Ok(self.verdict().await? == Verdict::Taken)
    }

    /// What became of it.
    ///
    /// # Errors
    /// When the connection is lost: nobody knows then.
    pub async fn verdict(self) -> Result<Verdict, BrokerError> {
        let confirmed = tokio::time::timeout(SET_UP_TIMEOUT, self.0).await;
        let confirmation = confirmed.map_err(|_| {
            SessionClosed("no confirm: is the broker blocked by an alarm?".to_owned())
        })??;
        Ok(match confirmation {
            Confirmation::Ack(None) => Verdict::Taken,
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Verdict::Returned,
            Confirmation::Nack(None) | Confirmation::NotRequested => Verdict::Refused,
        })
    }
}
