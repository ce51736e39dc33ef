use super::*;

fn texts(body: &str) -> Vec<(String, String)> {
    let hit = decode(body.as_bytes(), None).expect("decodes");
    hit.fields().map(|(n, v)| (n.to_owned(), format!("{v:?}"))).collect()
}

#[test]
fn a_json_object_and_a_query_string_read_the_same() {
    let json = decode(br#"{"idsite":1,"uid":"a\u00e9 b","cdt":"1732549235"}"#, None).expect("json");
    let query =
        decode("?idsite=1&uid=a%C3%A9+b&cdt=1732549235#frag".as_bytes(), None).expect("query");
    let url = decode(
        "https://matomo.example/matomo.php?idsite=1&uid=a%C3%A9%20b&cdt=1732549235".as_bytes(),
        None,
    )
    .expect("url");
    assert_eq!(json, query);
    assert_eq!(json, url);
    assert_eq!(json.visitor(), Some("aé b"));
}

#[test]
fn the_content_type_decides_before_the_first_byte() {
    let body = b"idsite=1&uid=x";
    assert_eq!(decode(body, None), Err(DecodeError::UnknownForm));
    let hit = decode(body, Some("application/x-www-form-urlencoded; charset=utf-8")).expect("form");
    assert_eq!(hit.text("uid"), Some("x"));
    assert!(matches!(
        decode(b"?a=1", Some("application/json")),
        Err(DecodeError::Json { line: 1, column: 1 })
    ));
}

#[test]
fn numbers_keep_the_form_they_were_written_in_or_are_refused() {
    assert_eq!(
        texts(r#"{"a":18446744073709551615,"b":-3,"c":1732549235.5}"#)[0].1,
        r#"Text("18446744073709551615")"#
    );
    let hit = decode(br#"{"uid":123456789012345678901}"#, None).expect("decodes");
    assert!(matches!(hit.fields().next(), Some(("uid", Value::Wrong(_)))));
}

#[test]
fn what_is_not_a_hit_says_why_without_quoting_it() {
    let big = vec![b'x'; MAX_BYTES + 1];
    let keys: String = (0..MAX_FIELDS + 1).map(|i| format!("\"k{i}\":1,")).collect();
    let cases: Vec<(Vec<u8>, DecodeError)> = vec![
        (vec![], DecodeError::Empty),
        (b" \n\t".to_vec(), DecodeError::Empty),
        (big, DecodeError::TooLarge(MAX_BYTES + 1)),
        (vec![0xff, 0xfd], DecodeError::NotUtf8),
        (b"{\"a\":\"\xff\"}".to_vec(), DecodeError::NotUtf8),
        (b"?a=%ff".to_vec(), DecodeError::NotUtf8),
        (vec![0; 20], DecodeError::UnknownForm),
        (b"[1,2]".to_vec(), DecodeError::NotAnObject),
        (b"\"text\"".to_vec(), DecodeError::NotAnObject),
        (b"{\"a\":1".to_vec(), DecodeError::Json { line: 1, column: 6 }),
        (b"{\"a\":1} x".to_vec(), DecodeError::Json { line: 1, column: 9 }),
        (b"hello".to_vec(), DecodeError::UnknownForm),
        (b"https://example.org/".to_vec(), DecodeError::UnknownForm),
        (format!("{{{}\"z\":1}}", keys).into_bytes(), DecodeError::TooManyFields),
        (format!("{{\"{}\":1}}", "n".repeat(MAX_NAME + 1)).into_bytes(), DecodeError::NameTooLong),
    ];
    for (body, expected) in cases {
        assert_eq!(
            decode(&body, None),
            Err(expected),
            "{:?}",
            String::from_utf8_lossy(&body).get(..20)
        );
    }
}

#[test]
fn nested_values_are_kept_as_wrong_at_any_depth() {
    let hit = decode(br#"{"a":[1,{"b":2}],"c":{"d":[]},"e":true,"f":null,"g":"ok"}"#, None)
        .expect("decodes");
    let wrong: Vec<_> =
        hit.fields().filter(|(_, v)| matches!(v, Value::Wrong(_))).map(|(n, _)| n).collect();
    assert_eq!(wrong, ["a", "c", "e"]);
    assert!(hit.fields().any(|field| field == ("f", &Value::Null)));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let hit = decode(deep.as_bytes(), None).expect("skipped without recursion");
    assert!(matches!(hit.fields().next(), Some(("a", Value::Wrong("an array")))));
}

proptest::proptest! {
    #[test]
    fn nothing_panics_on_any_bytes(
        body in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        json in proptest::bool::ANY,
    ) {
        let content_type = json.then_some("application/json");
        let _outcome = decode(&body, content_type);
    }
}

#[test]
fn a_routing_key_is_the_uid_cut_between_characters() {
    let ascii = "a".repeat(300);
    let accented = "é".repeat(200);
    for (uid, key) in [
        ("", ""),
        ("u-1", "u-1"),
        (" u-1 ", " u-1 "),
        (ascii.get(..255).expect("long"), ascii.get(..255).expect("long")),
        (ascii.get(..256).expect("long"), ascii.get(..255).expect("long")),
        // 254 bytes: the next character ends at 256.
        (&accented, accented.get(..254).expect("long")),
    ] {
        assert_eq!(routing_key(uid), key, "{uid}");
    }
}
