//! What a broker sends.

use super::*;

pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a size").to_be_bytes();
    [&[kind][..], &channel.to_be_bytes(), &size, payload, &[FRAME_END]].concat()
}

pub(super) fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("short")][..], text].concat()
}

pub(super) fn long(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).expect("a size").to_be_bytes();
    [&[kind][..], &size, bytes].concat()
}

pub(super) fn deliver_from(channel: u16, exchange: &[u8], key: &[u8]) -> Vec<u8> {
    let method = [&[0, 60, 0, 60][..], &short(b"ctag"), &7_u64.to_be_bytes(), &[0]].concat();
    frame(METHOD, channel, &[method, short(exchange), short(key)].concat())
}

pub(super) fn deliver(channel: u16, key: &[u8]) -> Vec<u8> {
    deliver_from(channel, b"dnma.hits", key)
}

pub(super) fn header(channel: u16, body: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
    let fixed = [&[0, 60, 0, 0][..], &body.to_be_bytes(), &flags.to_be_bytes()].concat();
    frame(HEADER, channel, &[&fixed, properties].concat())
}

/// A header frame with headers only, given as entries.
pub(super) fn headers(channel: u16, body: u64, entries: &[u8]) -> Vec<u8> {
    let size = u32::try_from(entries.len()).expect("a size").to_be_bytes();
    header(channel, body, 1 << 13, &[&size[..], entries].concat())
}

pub(super) fn body(channel: u16, size: usize) -> Vec<u8> {
    frame(BODY, channel, &vec![b'b'; size])
}

pub(super) fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    [short(name), value.to_vec()].concat()
}

pub(super) fn nested(kind: u8, depth: usize) -> Vec<u8> {
    (0..depth).fold(b"V".to_vec(), |inner, _| {
        long(kind, &if kind == b'F' { entry(b"n", &inner) } else { inner })
    })
}

/// What a hit looks like: about 150 bytes in front of its body.
pub(super) fn hit(channel: u16, key: &[u8], size: usize) -> Vec<u8> {
    let table = [
        entry(b"x-dnma-attempt", b"l\0\0\0\0\0\0\0\x01"),
        entry(b"x-dnma-reason", &long(b'S', b"timeout")),
        entry("x-académie".as_bytes(), &long(b'S', b"Cr\xe9teil")),
    ];
    let table = table.concat();
    let table_size = u32::try_from(table.len()).expect("a size").to_be_bytes();
    let properties =
        [&short(b"application/json")[..], &table_size, &table, &[2], &short(b"id-1")].concat();
    let flags = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 7;
    [deliver(channel, key), header(channel, size as u64, flags, &properties), body(channel, size)]
        .concat()
}
