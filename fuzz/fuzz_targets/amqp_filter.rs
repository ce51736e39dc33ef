//! Whatever bytes come from a broker, in whatever pieces, the filter takes them in bounded memory;
//! and whatever a sender writes into a message, the client library can read what the filter lets
//! pass.
#![no_main]

use amq_protocol::frame::AMQPFrame;
use amq_protocol::frame::parsing::parse_frame;
use libfuzzer_sys::fuzz_target;

// The light library has no service half; this module of it needs nothing but std.
#[path = "../../src/service/amqp"]
#[allow(dead_code, unused_imports, reason = "what the worker asks for is not asked here")]
mod amqp {
    pub mod filter;
}

use amqp::filter::{Bounds, MARK, MessageParts, StreamFilter};

const BOUNDS: Bounds = Bounds { max_body: 1_000, frame_max: 8_192 };

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let Some((pieces, data)) = data.split_at_checked(4) else { return };
    let stream = if mode % 4 == 0 { data.to_vec() } else { messages(data, mode % 4 > 1) };
    let out = in_pieces(&stream, pieces);
    let mut whole = Vec::new();
    StreamFilter::new(BOUNDS).filter(&stream, &mut whole);
    assert!(out == whole, "the pieces do not matter");
    assert!(out.len() <= 20 * stream.len(), "{} bytes became {}", stream.len(), out.len());
    if mode % 4 != 0 {
        read(&out);
    }
});

/// Feeds a stream in pieces of varying size, where it lies.
fn in_pieces(stream: &[u8], sizes: &[u8]) -> Vec<u8> {
    let mut filter = StreamFilter::new(BOUNDS);
    let (mut out, mut rest) = (Vec::new(), Vec::new());
    let mut left = stream;
    for size in sizes.iter().cycle() {
        if left.is_empty() {
            break;
        }
        let (piece, behind) = left.split_at(usize::from(*size).max(1).min(left.len()));
        let passed = filter.filter_in_place(piece, &mut rest);
        out.extend_from_slice(&piece[..passed]);
        out.append(&mut rest);
        left = behind;
    }
    out
}

/// A well-formed stream of messages whose texts, properties and bodies are the given bytes. Where
/// properties are to make sense, the bytes choose which there are, and what is in them.
fn messages(mut data: &[u8], make_sense: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((kind, rest)) = data.split_first() {
        data = rest;
        let channel = u16::from(kind % 3);
        let key = take(&mut data, usize::from(kind / 8));
        let mut method = vec![0, 60, 0, 60, 1, b't', 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'x'];
        method.push(u8::try_from(key.len()).expect("short"));
        method.extend_from_slice(key);
        frame(&mut stream, 1, channel, &method);
        let size = take(&mut data, 2).iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
        // The bits of properties that are there come from the data too.
        let flags = take(&mut data, 2).iter().fold(0, |flags, byte| flags << 8 | u16::from(*byte));
        let properties = if make_sense {
            properties(&mut data, flags)
        } else {
            take_behind_length(&mut data).to_vec()
        };
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(size % 5_000).to_be_bytes());
        header.extend_from_slice(&flags.to_be_bytes());
        header.extend_from_slice(&properties);
        frame(&mut stream, 2, channel, &header);
        let mut left = usize::try_from(size % 5_000).expect("small");
        while left > 0 {
            let piece = left.min(1_024);
            frame(&mut stream, 3, channel, &vec![*kind; piece]);
            left -= piece;
        }
    }
    stream
}

/// Properties as AMQP has them.
fn properties(data: &mut &[u8], flags: u16) -> Vec<u8> {
    let mut out = Vec::new();
    for place in 0..14 {
        if flags & (0x8000 >> place) == 0 {
            continue;
        }
        match place {
            2 => out.extend_from_slice(&value(data, b'F', 0)),
            3 | 4 => out.push(1),
            9 => out.extend_from_slice(&[0; 8]),
            _ => text(data, &mut out),
        }
    }
    out
}

fn text(data: &mut &[u8], out: &mut Vec<u8>) {
    let length = take(data, 1).first().map_or(0, |length| usize::from(*length) % 24);
    let text = if length == 23 { MARK.as_bytes() } else { take(data, length) };
    out.push(u8::try_from(text.len()).expect("short"));
    out.extend_from_slice(text);
}

/// A value of a type, without the octet that names the type.
fn value(data: &mut &[u8], kind: u8, depth: usize) -> Vec<u8> {
    let mut inner = Vec::new();
    let size = match kind {
        b'A' | b'F' => {
            let count = take(data, 1).first().map_or(0, |count| count % 6);
            for _ in 0..count {
                if kind == b'F' {
                    text(data, &mut inner);
                }
                let pick = usize::from(take(data, 1).first().copied().unwrap_or_default());
                let kinds = b"VtbBsUuIifDLldTSxAFAFAFAF?";
                let kind = if depth > 60 { b'V' } else { kinds[pick % kinds.len()] };
                inner.push(kind);
                inner.extend_from_slice(&value(data, kind, depth + 1));
            }
            None
        }
        b'S' | b'x' => {
            let length = take(data, 1).first().map_or(0, |length| usize::from(*length));
            inner.extend_from_slice(take(data, length));
            None
        }
        b't' | b'b' | b'B' => Some(1),
        b's' | b'U' | b'u' => Some(2),
        b'I' | b'i' | b'f' => Some(4),
        b'D' => Some(5),
        b'L' | b'l' | b'd' | b'T' => Some(8),
        _ => Some(0),
    };
    match size {
        Some(size) => {
            inner.resize(size, 1);
            inner
        }
        None => {
            let length = u32::try_from(inner.len()).expect("a size").to_be_bytes();
            [&length[..], &inner].concat()
        }
    }
}

fn take<'d>(data: &mut &'d [u8], count: usize) -> &'d [u8] {
    let (taken, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    taken
}

fn take_behind_length<'d>(data: &mut &'d [u8]) -> &'d [u8] {
    let count = take(data, 2).iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
    take(data, count % 16_384)
}

fn frame(stream: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    stream.push(kind);
    stream.extend_from_slice(&channel.to_be_bytes());
    stream.extend_from_slice(&u32::try_from(payload.len()).expect("a size").to_be_bytes());
    stream.extend_from_slice(payload);
    stream.push(0xce);
}

/// Reads frames as the client library does, and checks that each body is what its header says.
fn read(mut bytes: &[u8]) {
    let mut left = [0; 3];
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("a frame that can be read");
        assert!(bytes.len() - rest.len() <= 8_192, "no frame is larger than was negotiated");
        bytes = rest;
        match frame {
            AMQPFrame::Header(channel, header) => {
                left[usize::from(channel)] = header.body_size;
                assert!(header.body_size <= BOUNDS.max_body);
                let table = header.properties.headers().as_ref();
                if let Some(mark) = table.and_then(|table| table.inner().get(MARK)) {
                    let amq_protocol::types::AMQPValue::LongString(text) = mark else {
                        panic!("a mark of somebody else's: {mark:?}")
                    };
                    let text = text.to_string();
                    let parts: MessageParts = text.parse().expect("a mark");
                    assert!(!parts.is_empty() && parts.to_string() == text, "{text}");
                }
            }
            AMQPFrame::Body(channel, body) => {
                let left = &mut left[usize::from(channel)];
                let size = u64::try_from(body.len()).expect("small");
                *left = left.checked_sub(size).expect("no body is longer than its header says");
            }
            AMQPFrame::Method(channel, _) => assert_eq!(left[usize::from(channel)], 0),
            _ => {}
        }
    }
    assert_eq!(left, [0; 3], "bodies are complete");
}
