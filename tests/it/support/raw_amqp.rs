//! A publisher and reader of raw bytes: client libraries do not write what they could not read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// Bytes of a body in one frame, below what any broker takes by default.
const BODY_PIECE: usize = 131_000;

/// One channel that confirms.
pub struct RawAmqp {
    stream: TcpStream,
}

/// A message as it lies on the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct RawMessage {
    pub key: Vec<u8>,
    /// Which properties are there, the highest bit first.
    pub flags: u16,
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

impl RawAmqp {
    pub fn connect(url: &str) -> anyhow::Result<Self> {
        let url = url::Url::parse(url)?;
        let host = url.host_str().context("a host")?.trim_matches(['[', ']']).to_owned();
        let stream = TcpStream::connect((host, url.port().unwrap_or(5672)))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut raw = Self { stream };
        raw.stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        raw.expect(10, 10)?;
        let login = format!("\0{}\0{}", url.username(), url.password().unwrap_or_default());
        let client = [&[0; 4][..], &short(b"PLAIN"), &long(login.as_bytes()), &short(b"en_US")];
        raw.method(0, 10, 11, &client.concat())?;
        let tune = raw.expect(10, 30)?;
        // What the broker offers, but no heartbeats.
        raw.method(0, 10, 31, &[tune.get(..6).context("tune")?, &[0, 0]].concat())?;
        let vhost = match url.path() {
            "/%2f" | "/%2F" | "" => "/",
            other => other.trim_start_matches('/'),
        };
        raw.method(0, 10, 40, &[short(vhost.as_bytes()), short(b""), vec![0]].concat())?;
        raw.expect(10, 41)?;
        raw.method(1, 20, 10, &short(b""))?;
        raw.expect(20, 11)?;
        raw.method(1, 85, 10, &[0])?;
        raw.expect(85, 11)?;
        Ok(raw)
    }

    /// Publishes, mandatory, and waits for the confirm.
    pub fn publish(&mut self, exchange: &str, message: &RawMessage) -> anyhow::Result<()> {
        let address = [&[0, 0][..], &short(exchange.as_bytes()), &short(&message.key), &[1]];
        self.method(1, 60, 40, &address.concat())?;
        let size = (message.body.len() as u64).to_be_bytes();
        let flags = message.flags.to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &flags, &message.properties].concat();
        self.frame(HEADER, 1, &header)?;
        for piece in message.body.chunks(BODY_PIECE) {
            self.frame(BODY, 1, piece)?;
        }
        let confirm = self.expect(60, 80)?;
        ensure!(confirm.len() == 9, "{confirm:?}");
        Ok(())
    }

    /// Takes the next message out of a queue; none if it is empty.
    pub fn take(&mut self, queue: &str) -> anyhow::Result<Option<RawMessage>> {
        self.method(1, 60, 70, &[&[0, 0][..], &short(queue.as_bytes()), &[1]].concat())?;
        let (_, payload) = self.next()?;
        match payload.get(..4) {
            Some([0, 60, 0, 72]) => return Ok(None),
            Some([0, 60, 0, 71]) => {}
            _ => bail!("not a message: {payload:?}"),
        }
        // Delivery tag and whether it is a redelivery, exchange, routing key.
        let (_, rest) = text(payload.get(13..).context("get-ok")?)?;
        let (key, _) = text(rest)?;
        let (_, header) = self.next()?;
        let fixed = header.get(..14).context("a header")?;
        let size = u64::from_be_bytes(fixed[4..12].try_into()?);
        let flags = u16::from_be_bytes(fixed[12..].try_into()?);
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            body.extend(self.next()?.1);
        }
        let properties = header[14..].to_vec();
        Ok(Some(RawMessage { key: key.to_vec(), flags, properties, body }))
    }

    fn method(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        fields: &[u8],
    ) -> anyhow::Result<()> {
        let number = [class.to_be_bytes(), method.to_be_bytes()].concat();
        self.frame(METHOD, channel, &[&number, fields].concat())
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> anyhow::Result<()> {
        let size = u32::try_from(payload.len())?.to_be_bytes();
        let head = [&[kind][..], &channel.to_be_bytes(), &size].concat();
        Ok(self.stream.write_all(&[&head, payload, &[FRAME_END]].concat())?)
    }

    /// The fields of the method that must come now.
    fn expect(&mut self, class: u16, method: u16) -> anyhow::Result<Vec<u8>> {
        let (kind, payload) = self.next()?;
        let number = [class.to_be_bytes(), method.to_be_bytes()].concat();
        ensure!(
            kind == METHOD && payload.starts_with(&number),
            "not {class}.{method}: {:?} {}",
            payload.get(..4),
            String::from_utf8_lossy(&payload)
        );
        Ok(payload.get(4..).unwrap_or_default().to_vec())
    }

    fn next(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        loop {
            let mut head = [0; 7];
            self.stream.read_exact(&mut head)?;
            let size = u32::from_be_bytes(head[3..].try_into()?);
            let mut payload = vec![0; usize::try_from(size)? + 1];
            self.stream.read_exact(&mut payload)?;
            ensure!(payload.pop() == Some(FRAME_END), "no frame");
            // Heartbeats tell nothing.
            if head[0] != 8 {
                return Ok((head[0], payload));
            }
        }
    }
}

impl RawMessage {
    /// With no properties but that it is persistent.
    pub fn new(key: &[u8], body: &[u8]) -> Self {
        let (flags, properties) = (1 << 12, vec![2]);
        Self { key: key.to_vec(), flags, properties, body: body.to_vec() }
    }

    /// With headers, given as entries, and persistent.
    pub fn with_headers(mut self, entries: &[u8]) -> Self {
        self.flags = 1 << 13 | 1 << 12;
        self.properties = [long(entries), vec![2]].concat();
        self
    }

    /// With a text as the property of this bit, and persistent.
    pub fn with_text(mut self, bit: u16, value: &[u8]) -> Self {
        self.flags = 1 << bit | 1 << 12;
        let (first, second) = (short(value), vec![2]);
        self.properties =
            if bit > 12 { [first, second].concat() } else { [second, first].concat() };
        self
    }
}

/// A name and its value.
pub fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    [short(name), value.to_vec()].concat()
}

/// Tables (`F`) or arrays (`A`) within each other.
pub fn nested(kind: u8, depth: usize) -> Vec<u8> {
    (0..depth).fold(vec![b'V'], |inner, _| {
        let inner = if kind == b'F' { entry(b"n", &inner) } else { inner };
        [vec![kind], long(&inner)].concat()
    })
}

fn text(bytes: &[u8]) -> anyhow::Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first().context("a length")?;
    rest.split_at_checked((*length).into()).context("a text")
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")][..], bytes].concat()
}

/// A text, table or array behind its length.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("a size").to_be_bytes()[..], bytes].concat()
}
