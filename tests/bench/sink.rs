//! Where hits end: a process of its own that answers as Matomo does and costs as little as it can,
//! so that what is measured is the sender. It knows each hit by the number in its `action_name`
//! (`page-17`), so it sees doubles and what is missing.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Before the number of a hit, in a JSON body as in a query.
const NUMBER: &[u8] = b"page-";

const GIF: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\
    !\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// What a request costs here, and what becomes of it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Behaviour {
    /// Milliseconds that a request takes, and on top of it each of its hits.
    pub per_request: f64,
    pub per_hit: f64,
    /// Requests served at once; 0: any number.
    pub at_once: usize,
    /// The first copy of every hit is refused.
    pub refuse_first: bool,
    /// The number of a hit is when it was published, in microseconds since 1970.
    pub timed: bool,
}

impl Behaviour {
    /// As a real Matomo on four cores was measured.
    pub fn slow() -> Self {
        Self { per_request: 10.0, per_hit: 3.5, at_once: 4, ..Self::default() }
    }

    /// Hits a second that come in requests of this size; none where there is no limit.
    pub fn limit(&self, bulk: usize) -> Option<f64> {
        let seconds = (self.per_request + self.per_hit * bulk as f64) / 1_000.0;
        (self.at_once > 0).then(|| (self.at_once * bulk) as f64 / seconds)
    }
}

/// What came so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    pub requests: u64,
    /// Copies of hits, refused ones included.
    pub copies: u64,
    /// Microseconds in which its slots served requests, all slots together.
    pub busy: u64,
    /// Different hits that were stored, and further copies of them.
    pub stored: u64,
    pub doubles: u64,
    /// When the first hit was stored, in microseconds since 1970.
    pub first: u64,
    /// Microseconds from publish to here, of timed hits.
    pub delays: Vec<u32>,
    #[serde(skip)]
    seen: Vec<u8>,
}

#[derive(Debug)]
pub struct Sink {
    behaviour: Behaviour,
    slots: Semaphore,
    pub tally: Mutex<Tally>,
}

/// `bench sink BEHAVIOUR`: tells its port, and ends with its standard input.
pub async fn process(behaviour: &str) -> anyhow::Result<()> {
    serve(Arc::new(Sink::new(serde_json::from_str(behaviour)?))).await
}

/// Tells the port and answers until standard input ends.
pub async fn serve(sink: Arc<Sink>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            let sink = sink.clone();
            // A client that breaks off is no affair of ours.
            tokio::spawn(async move { sink.talk(stream).await.ok() });
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = accepting => {}
        end = async { tokio::io::stdin().read_to_end(&mut rest).await } => { end?; }
    }
    Ok(())
}

pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64)
}

impl Sink {
    pub fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, slots: Semaphore::new(behaviour.at_once.max(1)), tally: Mutex::default() }
    }

    async fn talk(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            let mut length = None;
            while length.is_none_or(|length| buffer.len() < length) {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                length = length.or_else(|| request_length(&buffer));
            }
            let length = length.context("a request")?;
            let answer = self.answer(&buffer[..length]).await;
            stream.write_all(&answer).await?;
            buffer.drain(..length);
        }
    }

    async fn answer(&self, request: &[u8]) -> Vec<u8> {
        if request.starts_with(b"GET /tally") {
            let body = self
                .tally
                .lock()
                .map(|tally| serde_json::to_vec(&*tally).unwrap_or_default())
                .unwrap_or_default();
            return response("application/json", &body);
        }
        let numbers: Vec<u64> = memmem::find_iter(request, NUMBER)
            .map(|at| number(&request[at + NUMBER.len()..]))
            .collect();
        let Behaviour { per_request, per_hit, at_once, .. } = self.behaviour;
        if at_once > 0 {
            let _slot = self.slots.acquire().await;
            let cost = per_request + per_hit * numbers.len() as f64;
            let began = Instant::now();
            tokio::time::sleep(Duration::from_micros((cost * 1_000.0) as u64)).await;
            self.tally.lock().expect("nobody panics with it").busy +=
                began.elapsed().as_micros() as u64;
        }
        let refused = self.count(&numbers);
        if request.starts_with(b"GET") {
            return response("image/gif", GIF);
        }
        let mut body = format!(
            "{{\"status\":\"success\",\"tracked\":{},\"invalid\":{}",
            numbers.len() - refused.len(),
            refused.len()
        );
        if !refused.is_empty() {
            body += &format!(",\"invalid_indices\":{refused:?}");
        }
        response("application/json", (body + "}").as_bytes())
    }

    /// Counts the hits of a request; gives the places of those that are refused.
    fn count(&self, numbers: &[u64]) -> Vec<usize> {
        let mut tally = self.tally.lock().expect("nobody panics with it");
        let now = now();
        tally.requests += 1;
        let mut refused = Vec::new();
        for (place, number) in numbers.iter().enumerate() {
            tally.copies += 1;
            if self.behaviour.timed {
                tally.delays.push(u32::try_from(now.saturating_sub(*number)).unwrap_or(u32::MAX));
                tally.stored += 1;
                continue;
            }
            let index = usize::try_from(*number).unwrap_or_default();
            if tally.seen.len() <= index {
                tally.seen.resize(index + 10_000, 0);
            }
            let seen = tally.seen[index];
            tally.seen[index] = seen.saturating_add(1);
            match seen + u8::from(!self.behaviour.refuse_first) {
                0 => refused.push(place),
                1 => {
                    tally.stored += 1;
                    if tally.first == 0 {
                        tally.first = now;
                    }
                }
                _ => tally.doubles += 1,
            }
        }
        refused
    }
}

/// Bytes of the request that the buffer begins with, once its head is there.
fn request_length(buffer: &[u8]) -> Option<usize> {
    let head = memmem::find(buffer, b"\r\n\r\n")? + 4;
    let lines = buffer[..head]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Some(head + length.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0))
}

fn number(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn response(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}
