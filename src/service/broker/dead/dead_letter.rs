//! One dead hit as the broker gave it.

use jiff::Timestamp;
use lapin::Acker;
use lapin::message::Delivery;
use lapin::types::AMQPValue;

use crate::domain::dead::{Dead, DeadQueue, Message};
use crate::domain::envelope::Header;
use crate::service::settler::{as_number, as_text};

/// One dead hit, still in its queue.
#[derive(Debug)]
pub struct DeadLetter {
    pub(super) delivery: Delivery,
    pub(super) dead_queue: DeadQueue,
    pub(super) reader: usize,
}

/// What it takes to remove a hit, without the hit.
#[derive(Debug)]
pub struct AckHandle {
    pub(super) acker: Acker,
    /// Which of the readers holds it.
    pub(super) reader: usize,
}

impl DeadLetter {
    /// To remove it later.
    pub fn ack_handle(&self) -> AckHandle {
        AckHandle { acker: self.delivery.acker.clone(), reader: self.reader }
    }

    /// Byte for byte as the ENT wrote it.
    pub fn body(&self) -> &[u8] {
        &self.delivery.data
    }

    /// Where it lies.
    pub fn dead_queue(&self) -> DeadQueue {
        self.dead_queue
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
            dead_queue: self.dead_queue,
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
