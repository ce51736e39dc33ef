//! One dead hit as the broker gave it.

use jiff::Timestamp;
use lapin::Acker;
use lapin::message::Delivery;
use lapin::types::AMQPValue;

use crate::domain::dead::{Dead, Grave, Message};
use crate::domain::envelope::Header;
use crate::service::settler::{as_number, as_text};

/// One dead hit, still in its queue.
#[derive(Debug)]
pub struct Letter {
    pub(super) delivery: Delivery,
    pub(super) grave: Grave,
    pub(super) reader: usize,
}

/// What it takes to remove a hit, without the hit.
#[derive(Debug)]
pub struct Grip {
    pub(super) acker: Acker,
    /// Which of the readers holds it.
    pub(super) reader: usize,
}

impl Letter {
    /// To remove it later.
    pub fn grip(&self) -> Grip {
        Grip { acker: self.delivery.acker.clone(), reader: self.reader }
    }

    /// Byte for byte as the ENT wrote it.
    pub fn body(&self) -> &[u8] {
        &self.delivery.data
    }

    /// Where it lies.
    pub fn grave(&self) -> Grave {
        self.grave
    }

    /// The routing key: its visitor.
    pub fn key(&self) -> &str {
        self.delivery.routing_key.as_str()
    }

    /// The AMQP property.
    pub fn content_type(&self) -> Option<&str> {
        self.delivery.properties.content_type().as_ref().map(|text| text.as_str())
    }

    /// The AMQP user who published it here, as the broker has verified.
    pub fn user(&self) -> Option<&str> {
        self.delivery.properties.user_id().as_ref().map(|user| user.as_str())
    }

    /// The AMQP property `timestamp`, in UNIX seconds.
    pub fn timestamp(&self) -> Option<u64> {
        *self.delivery.properties.timestamp()
    }

    /// One header, if it is a text or a number.
    pub fn header(&self, name: &str) -> Option<Header> {
        self.delivery
            .properties
            .headers()
            .as_ref()
            .and_then(|table| table.inner().get(name))
            .and_then(known)
    }

    /// Every header that is a text or a number.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Header)> {
        let headers = self.delivery.properties.headers().iter().flat_map(|table| table.inner());
        headers.filter_map(|(name, value)| Some((name.as_str(), known(value)?)))
    }

    /// What it tells of itself.
    pub fn read(&self) -> Dead<'_> {
        let sent_at = self
            .timestamp()
            .and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
        let header = |name: &str| self.header(name);
        Dead::read(&Message {
            grave: self.grave,
            body: self.body(),
            content_type: self.content_type(),
            sent_at,
            header: &header,
        })
    }
}

fn known(value: &AMQPValue) -> Option<Header> {
    as_number(value).map(Header::Number).or_else(|| as_text(value).map(Header::Text))
}
