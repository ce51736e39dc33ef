use amq_protocol::frame::AMQPFrame;
use amq_protocol::frame::parsing::parse_frame;
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::AMQPValue;

use super::frame::{FRAME_END, HEADER};
use super::*;

mod frames;
mod random;

use frames::*;

// === What a client library makes of it ===

#[derive(Debug, PartialEq)]
struct Message {
    channel: u16,
    exchange: String,
    key: String,
    mark: Option<MessageParts>,
    properties: basic::AMQPProperties,
    body: u64,
}

/// Reads frames as the library does, and fails where it would end the session. Frames of other
/// kinds are left out.
fn receive(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut open: HashMap<u16, (String, String)> = HashMap::new();
    let mut bodies: HashMap<u16, (usize, u64)> = HashMap::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("a frame that can be read");
        assert!(bytes.len() - rest.len() <= MAX_HELD, "no frame is larger");
        bytes = rest;
        match frame {
            AMQPFrame::Method(channel, AMQPClass::Basic(method)) => {
                let (exchange, key) = match method {
                    basic::AMQPMethod::Deliver(m) => (m.exchange, m.routing_key),
                    basic::AMQPMethod::GetOk(m) => (m.exchange, m.routing_key),
                    basic::AMQPMethod::Return(m) => (m.exchange, m.routing_key),
                    _ => continue,
                };
                assert!(!bodies.contains_key(&channel), "a body is complete before the next");
                open.insert(channel, (exchange.to_string(), key.to_string()));
            }
            AMQPFrame::Header(channel, header) => {
                let (exchange, key) = open.remove(&channel).expect("a method before its header");
                let table = header.properties.headers().as_ref();
                let mark = table.and_then(|table| table.inner().get(MARK)).map(|mark| match mark {
                    AMQPValue::LongString(text) => {
                        text.to_string().parse().expect("a mark of ours")
                    }
                    other => panic!("{other:?}"),
                });
                if header.body_size > 0 {
                    bodies.insert(channel, (messages.len(), header.body_size));
                }
                let (properties, body) = (header.properties, 0);
                messages.push(Message { channel, exchange, key, mark, properties, body });
            }
            AMQPFrame::Body(channel, payload) => {
                let (place, left) = bodies.get_mut(&channel).expect("a header before its body");
                let size = payload.len() as u64;
                messages[*place].body += size;
                *left = left.checked_sub(size).expect("no body is longer than its header says");
                if *left == 0 {
                    bodies.remove(&channel);
                }
            }
            _ => {}
        }
    }
    messages
}

fn filtered(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    StreamFilter::new(Bounds::default()).filter(input, &mut out);
    out
}

/// The only message of a stream.
fn one(input: &[u8]) -> Message {
    let mut messages = receive(&filtered(input));
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

fn parts(text: &str) -> Option<MessageParts> {
    text.parse().ok()
}

// === What is fine ===

#[test]
fn what_is_fine_passes_byte_for_byte_without_a_copy() {
    let stream = [
        b"\x01\0\0\0\0\0\x05\0\x0a\0\x0a?\xce".to_vec(),
        HEARTBEAT.to_vec(),
        hit(1, "uid-é".as_bytes(), 700),
        hit(65_535, b"", 0),
        headers(2, 0, b""),
        header(2, 3, 0, b""),
        body(2, 3),
        body(3, 200_000),
        frame(METHOD, 4, &[0, 20, 0, 41]),
        hit(3, b"k", usize::try_from(MAX_BODY).expect("small")),
    ]
    .concat();
    let mut rest = Vec::new();
    let passed = StreamFilter::new(Bounds::default()).filter_in_place(&stream, &mut rest);
    assert_eq!((passed, rest.len()), (stream.len(), 0));
    assert_eq!(filtered(&stream), stream);
}

#[test]
fn another_protocol_passes_as_it_is() {
    for stream in [&b"AMQP\0\0\x09\x01"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        assert_eq!(filtered(stream), stream);
    }
}

// === Texts ===

#[test]
fn a_text_that_is_not_utf_8_is_handed_on_with_question_marks() {
    let fine = || header(1, 0, 0, b"");
    let message = one(&[deliver(1, b"acad\xe9mie"), fine()].concat());
    assert_eq!((message.key.as_str(), message.mark), ("acad?mie", parts("routing-key")));
    let message = one(&[deliver_from(1, b"\xff\xfe\xe9", b"k"), fine()].concat());
    assert_eq!((message.exchange.as_str(), message.mark), ("???", parts("exchange")));
    let message = one(&[deliver_from(1, b"\xe9", b"\xc3\xa9\xc3"), fine()].concat());
    assert_eq!((message.key.as_str(), message.mark), ("é?", parts("routing-key,exchange")));
    let get_ok = [&[0, 60, 0, 71, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'x', 1, 0xe9][..], &[0; 4]];
    let message = one(&[frame(METHOD, 1, &get_ok.concat()), fine()].concat());
    assert_eq!((message.key.as_str(), message.mark), ("?", parts("routing-key")));
    let returned = [&[0, 60, 0, 50, 1, 0x38][..], &short(b"NO_\xc3"), &short(b"x"), &short(b"k")];
    let message = one(&[frame(METHOD, 1, &returned.concat()), fine()].concat());
    assert_eq!(message.mark, None, "the sentence is the broker's");
}

#[test]
fn each_property_is_looked_at() {
    let texts = [
        (15, "content-type"),
        (14, "content-encoding"),
        (10, "correlation-id"),
        (9, "reply-to"),
        (8, "expiration"),
        (7, "message-id"),
        (5, "type"),
        (4, "user-id"),
        (3, "app-id"),
        (2, "cluster-id"),
    ];
    for (bit, name) in texts {
        let message =
            one(&[deliver(1, b"k"), header(1, 0, 1 << bit, &short(b"acad\xe9mie"))].concat());
        assert_eq!(message.mark, parts(name));
        let written = format!("{:?}", message.properties);
        assert!(written.contains("acad?mie"), "{name}: {written}");
    }
}

#[test]
fn names_of_headers_are_looked_at_at_any_depth() {
    let value = long(b'S', b"\xe9");
    let inner = long(b'A', &long(b'F', &entry(b"acad\xe9mie", &value)));
    for (name, value) in [(&b"acad\xe9mie"[..], &value), (b"outer", &inner)] {
        let entries = [entry(b"first", b"t\x01"), entry(name, value), entry(b"last", b"t\0")];
        let message = one(&[deliver(1, b"k"), headers(1, 0, &entries.concat())].concat());
        assert_eq!(message.mark, parts("header-names"));
        let table = message.properties.headers().as_ref().expect("headers");
        assert_eq!(table.inner().len(), 4, "all are there, and the mark: {table:?}");
        assert!(format!("{table:?}").contains("acad?mie"), "{table:?}");
    }
}

#[test]
fn a_sentence_of_the_brokers_that_is_cut_within_a_letter_can_be_read() {
    let cut = [&[b'a'; 254][..], b"\xc3"].concat();
    let close = [&[0, 20, 0, 40, 1, 0x94][..], &short(&cut), &[0, 60, 0, 40]].concat();
    let blocked = [&[0, 10, 0, 60][..], &short(&cut)].concat();
    receive(&filtered(&[frame(METHOD, 1, &close), frame(METHOD, 0, &blocked)].concat()));
}

// === Tables ===

#[test]
fn deep_tables_and_arrays_become_void() {
    for kind in [b'F', b'A'] {
        for depth in [MAX_DEPTH, 900, 5_000] {
            let entries = [entry(b"deep", &nested(kind, depth)), entry(b"flat", b"t\x01")];
            let stream = [deliver(1, b"k"), headers(1, 5, &entries.concat()), body(1, 5)];
            let message = one(&stream.concat());
            assert_eq!((message.mark, message.body), (parts("header-depth"), 5));
            let table = message.properties.headers().as_ref().expect("headers");
            assert_eq!(table.inner().get("flat"), Some(&AMQPValue::Boolean(true)));
        }
    }
}

#[test]
fn headers_that_make_no_sense_are_left_out_and_the_rest_stays() {
    let properties = |table: &[u8]| {
        let size = u32::try_from(table.len()).expect("a size").to_be_bytes();
        [&short(b"text/plain")[..], &size, table, &short(b"app")].concat()
    };
    let too_large = entry(b"n", &long(b'S', &[b'x'; MAX_HEADERS]));
    let too_many = entry(b"n", &long(b'A', &[b'V'; MAX_VALUES]));
    for table in [&b"\x01n?"[..], b"\x09n", &too_large, &too_many] {
        let header = header(1, 0, 1 << 15 | 1 << 13 | 1 << 3, &properties(table));
        let message = one(&[deliver(1, b"k"), header].concat());
        assert_eq!(message.mark, parts("headers"));
        let texts = (message.properties.content_type(), message.properties.app_id());
        assert_eq!(texts, (&Some("text/plain".into()), &Some("app".into())));
    }
    for properties in [&b"\xff"[..], b"\0more"] {
        let message = one(&[deliver(1, b"k"), header(1, 0, 1 << 15, properties)].concat());
        assert_eq!(message.mark, parts("properties"));
    }
}

#[test]
fn a_sender_cannot_forge_the_mark() {
    let forged = entry(MARK.as_bytes(), &long(b'S', b"body=1"));
    let message = one(&[deliver(1, b"k"), headers(1, 2, &forged), body(1, 2)].concat());
    assert_eq!((message.mark, message.body), (None, 2), "it is not marked");
    let table = message.properties.headers().as_ref().expect("headers");
    assert!(table.inner().contains_key(NOT_THE_MARK));
    for entries in [[forged.clone(), entry(b"\xe9", b"V")], [entry(b"\xe9", b"V"), forged]] {
        let message = one(&[deliver(1, b"k"), headers(1, 0, &entries.concat())].concat());
        assert_eq!(message.mark, parts("header-names"), "the mark is ours");
    }
    let inner = entry(b"outer", &long(b'F', &entry(MARK.as_bytes(), b"V")));
    let stream = [deliver(1, b"k"), headers(1, 0, &inner)].concat();
    assert_eq!(filtered(&stream), stream, "within another table it is no mark");
}

// === Bodies ===

#[test]
fn a_large_body_is_left_out_in_constant_memory() {
    let size = 100_u64 << 20;
    let mut filter = StreamFilter::new(Bounds::default());
    let mut out = Vec::new();
    filter.filter(&[deliver(1, b"k"), header(1, size, 0, b"")].concat(), &mut out);
    let piece = body(1, 131_064);
    let (whole, last) = (size / 131_064, size % 131_064);
    for _ in 0..whole {
        filter.filter(&piece, &mut out);
        assert!(filter.held.capacity() + filter.written.capacity() < 4_096);
    }
    filter.filter(&body(1, usize::try_from(last).expect("small")), &mut out);
    assert!(out.len() < 10_000, "a heartbeat for each frame: {} bytes", out.len());
    assert!(filter.channels.is_empty(), "the body is over");
    filter.filter(&hit(1, b"next", 700), &mut out);
    let messages = receive(&out);
    assert_eq!((messages[0].mark, messages[0].body), (parts("body=104857600"), 0));
    assert_eq!((messages[1].mark, messages[1].body), (None, 700));
}

#[test]
fn bodies_of_several_channels_at_once_do_not_mix() {
    let stream = [
        deliver(1, b"\xe9"),
        deliver(2, b"fine"),
        header(2, 10, 0, b""),
        header(1, 200_000, 0, b""),
        deliver(3, b"fine too"),
        body(1, 100_000),
        body(2, 4),
        header(3, 0, 0, b""),
        body(1, 0),
        body(1, 100_000),
        body(2, 6),
        deliver(1, b"next"),
        header(1, 1, 0, b""),
        body(1, 1),
    ];
    let messages = receive(&filtered(&stream.concat()));
    let told: Vec<_> =
        messages.iter().map(|m| (m.channel, m.key.as_str(), m.mark, m.body)).collect();
    let expected = [
        (2, "fine", None, 10),
        (1, "?", parts("routing-key,body=200000"), 0),
        (3, "fine too", None, 0),
        (1, "next", None, 1),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_channel_that_is_closed_leaves_nothing_behind() {
    let mut filter = StreamFilter::new(Bounds::default());
    let mut out = Vec::new();
    filter.filter(&[deliver(1, b"k"), header(1, 1 << 40, 0, b"")].concat(), &mut out);
    filter.filter(&deliver(2, b"\xe9"), &mut out);
    assert_eq!(filter.channels.len(), 2);
    for channel in [1, 2] {
        filter.filter(&frame(METHOD, channel, &[0, 20, 0, 41]), &mut out);
    }
    assert!(filter.channels.is_empty());
}

// === Frames ===

#[test]
fn a_header_frame_beyond_the_negotiated_size_comes_without_headers() {
    let tune = [&[0, 10, 0, 30, 7, 255][..], &16_384_u32.to_be_bytes(), &[0, 20]].concat();
    for (asked, is_tuned) in [(16_384, false), (0, true), (65_536, true)] {
        let mut filter = StreamFilter::new(Bounds { frame_max: asked, ..Bounds::default() });
        let mut out = Vec::new();
        if is_tuned {
            filter.filter(&frame(METHOD, 0, &tune), &mut out);
            out.clear();
        }
        let fits = entry(b"n", &long(b'S', &[b'x'; 16_000]));
        let stream = [deliver(1, b"k"), headers(1, 0, &fits)].concat();
        filter.filter(&stream, &mut out);
        assert_eq!(out, stream);
        out.clear();
        // As it comes it is too large; with the mark it would be.
        for (size, key) in [(17_000, &b"k"[..]), (16_340, b"\xe9")] {
            let entries = entry(b"n", &long(b'S', &vec![b'x'; size]));
            filter.filter(&[deliver(1, key), headers(1, 0, &entries)].concat(), &mut out);
        }
        let messages = receive(&out);
        assert_eq!(messages[0].mark, parts("headers"));
        assert_eq!(messages[1].mark, parts("routing-key,headers"));
        assert!(out.len() < 1_000);
    }
}

#[test]
fn a_header_frame_beyond_all_bounds_is_not_kept() {
    let mut filter = StreamFilter::new(Bounds::default());
    let mut out = Vec::new();
    let entries = entry(b"n", &long(b'S', &vec![b'x'; 50 << 20]));
    let stream =
        [deliver(1, b"\xe9"), headers(1, 100_000, &entries), body(1, 100_000), hit(1, b"k", 9)];
    for piece in stream.concat().chunks(65_536) {
        filter.filter(piece, &mut out);
        assert!(filter.held.capacity() < 2 * MAX_HELD);
    }
    let messages = receive(&out);
    assert_eq!(messages[0].mark, parts("routing-key,properties,body=100000"));
    assert_eq!((messages[1].mark, messages[1].body), (None, 9));
}
