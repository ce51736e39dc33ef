//! Properties that hold for all streams.

use proptest::prelude::*;

use super::*;

/// A value as its sender may have made it, of a type and well-formed, or of anything.
fn any_value(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let bytes = |most: usize| prop::collection::vec(any::<u8>(), 0..most);
    let flat = prop_oneof![
        Just(b"V".to_vec()),
        any::<u8>().prop_map(|b| vec![b't', b]),
        any::<[u8; 8]>().prop_map(|b| [&b"l"[..], &b].concat()),
        any::<[u8; 5]>().prop_map(|b| [&b"D"[..], &b].concat()),
        bytes(40).prop_map(|b| long(b'S', &b)),
        bytes(40).prop_map(|b| long(b'x', &b)),
    ];
    let wild = prop_oneof![20 => flat, 1 => bytes(12)];
    wild.prop_recursive(depth, 24, 4, move |inner| {
        let entries = prop::collection::vec((any_text(), inner.clone()), 0..4);
        prop_oneof![
            entries.prop_map(|entries| long(
                b'F',
                &entries.iter().flat_map(|(n, v)| entry(n, v)).collect::<Vec<u8>>()
            )),
            prop::collection::vec(inner, 0..4).prop_map(|values| long(b'A', &values.concat())),
        ]
    })
    .boxed()
}

fn any_text() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        5 => "[a-zé]{0,12}".prop_map(String::into_bytes),
        1 => Just(MARK.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
    .boxed()
}

fn any_header(channel: u16) -> BoxedStrategy<Vec<u8>> {
    let table = prop::collection::vec((any_text(), any_value(20)), 0..4)
        .prop_map(|t| t.iter().flat_map(|(name, value)| entry(name, value)).collect::<Vec<u8>>());
    let texts = prop::collection::vec(any_text(), 10);
    let mutation = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    let size = prop_oneof![4 => 0..2_000_u64, 1 => MAX_BODY + 1..300_000_u64];
    (size, any::<u16>(), table, texts, mutation)
        .prop_map(move |(size, flags, table, texts, mutation)| {
            let mut texts = texts.into_iter();
            let mut properties = Vec::new();
            for place in 0..14 {
                if flags & (0x8000 >> place) == 0 {
                    continue;
                }
                properties.extend(match place {
                    2 => long(b'-', &table).split_off(1),
                    3 | 4 => vec![1],
                    9 => vec![0; 8],
                    _ => short(&texts.next().unwrap_or_default()),
                });
            }
            if let Some((place, byte)) = mutation
                && !properties.is_empty()
            {
                let place = place.index(properties.len());
                match byte % 3 {
                    0 => properties.truncate(place),
                    1 => properties[place] = byte,
                    _ => properties.insert(place, byte),
                }
            }
            let mut out = header(channel, size, flags, &properties);
            let mut left = usize::try_from(size).expect("small");
            while left > 0 {
                let piece = left.min(131_064);
                out.extend(body(channel, piece));
                left -= piece;
            }
            out
        })
        .boxed()
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    (0..4_u16).prop_flat_map(|channel| {
        (any_text(), any_text(), any_header(channel))
            .prop_map(move |(e, k, rest)| [deliver_from(channel, &e, &k), rest].concat())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a message is made of, the library can read it, and the next one too.
    #[test]
    fn what_goes_on_can_be_read(messages in prop::collection::vec(any_message(), 0..6)) {
        let received = receive(&filtered(&messages.concat()));
        prop_assert_eq!(received.len(), messages.len());
        for (message, received) in messages.iter().zip(received) {
            if received.mark.is_none() {
                let has_forged_mark = message.windows(MARK.len()).any(|w| w == MARK.as_bytes());
                prop_assert!(has_forged_mark || &filtered(message) == message);
            } else {
                prop_assert_ne!(&filtered(message), message);
            }
        }
    }

    /// What went through once goes through again without a change, but for the mark's name.
    #[test]
    fn what_goes_on_is_fine(messages in prop::collection::vec(any_message(), 0..6)) {
        let once = filtered(&messages.concat());
        let twice = filtered(&once);
        prop_assert_eq!(once.len(), twice.len());
        prop_assert!(once.iter().zip(&twice).all(|(a, b)| a.eq_ignore_ascii_case(b)));
    }

    #[test]
    fn pieces_of_any_size_give_the_same(
        messages in prop::collection::vec(any_message(), 0..5),
        sizes in prop::collection::vec(1..300_usize, 1..20),
    ) {
        let stream = messages.concat();
        let whole = filtered(&stream);
        let (mut first, mut second) =
            (StreamFilter::new(Bounds::default()), StreamFilter::new(Bounds::default()));
        let (mut out, mut in_place) = (Vec::new(), Vec::new());
        let mut left = &stream[..];
        for size in sizes.iter().cycle() {
            if left.is_empty() {
                break;
            }
            let (piece, behind) = left.split_at((*size).min(left.len()));
            first.filter(piece, &mut out);
            let mut rest = Vec::new();
            let passed = second.filter_in_place(piece, &mut rest);
            in_place.extend_from_slice(&piece[..passed]);
            in_place.extend(rest);
            left = behind;
        }
        prop_assert_eq!(&out, &whole);
        prop_assert_eq!(&in_place, &whole);
    }

    /// Bytes that are no AMQP do no harm either.
    #[test]
    fn nonsense_is_survived(stream in prop::collection::vec(0..9_u8, 0..600)) {
        let mut filter = StreamFilter::new(Bounds::default());
        let mut out = Vec::new();
        for piece in stream.chunks(7) {
            filter.filter(piece, &mut out);
        }
        prop_assert!(out.len() <= 20 * stream.len());
    }
}
