//! Files as real producers have them, in every form and with every defect, from seeds: each is read
//! as the hits that it was made of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use encoding_rs::WINDOWS_1252;
use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json, json};

use super::exported::{ExportedBody, ExportedLine, VERSION};
use super::*;
use crate::domain::hit::{Value, decode};

/// Files of each form.
const FILES: u64 = 50;

/// What a hit says: its fields that have a value.
type Said = BTreeMap<String, String>;

/// Numbers from a seed (splitmix64).
struct Seed(u64);

impl Seed {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).expect("small")
    }

    fn of<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    fn says_yes(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// A hit with the values that break a careless reader: separators, quotes, accents, questions.
fn hit(seed: &mut Seed) -> Said {
    let mut said = Said::new();
    for (name, values) in [
        ("idsite", &["1", "27"][..]),
        ("uid", &["7c9e6679f4b44e1f", "0c5b6f0a3d2c1b7c", "VAA60001"]),
        ("url", &["https://ent.example.fr/notes", "https://ent.example.fr/a.php?b=c&d=é#e"]),
        ("dimension1", &["0750655E", "0750655E, 0350029S"]),
        ("dimension2", &["ELEVE", "PARENT"]),
        ("dimension6", &["PRONOTE", "L’Atelier « d’été »", ""]),
        ("dimension8", &["NOTES", "CAHIER_TEXTES"]),
        ("dimension9", &["Relevé; \"notes\", 1er", "Œuvres & cie", "a=b + c%20d"]),
        ("action_name", &["Travail à faire", "GET /index.html HTTP/1.1", "[x] {y}"]),
        ("cdt", &["1732549235", "2024-11-25 16:11:42"]),
        ("ua", &["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"]),
    ] {
        let value = *seed.of(values);
        if !value.is_empty() {
            said.insert(name.to_owned(), value.to_owned());
        }
    }
    said
}

fn object(said: &Said, seed: &mut Seed) -> Json {
    let mut object: Map<String, Json> =
        said.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    // As serialisers of Java and .NET write what has no value.
    if seed.says_yes() {
        object.insert("url_ref".to_owned(), Json::Null);
    }
    if seed.says_yes() {
        object.insert("idsite".to_owned(), said["idsite"].parse::<u64>().expect("a number").into());
    }
    Json::Object(object)
}

/// JSON as most write it, or with every letter beyond ASCII escaped, as PHP and Python do.
fn json_text(json: &Json, pretty: bool, seed: &mut Seed) -> String {
    let text = if pretty { format!("{json:#}") } else { json.to_string() };
    if seed.says_yes() {
        return text;
    }
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(escaped, "\\u{unit:04x}").expect("written");
            }
        }
    }
    escaped
}

fn query(said: &Said, seed: &mut Seed) -> String {
    let plus = seed.says_yes();
    let pairs = said.iter().map(|(name, value)| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        format!("{name}={}", if plus { value.replace("%20", "+") } else { value })
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// A line of an access log, as each server writes it.
fn logged(said: &Said, seed: &mut Seed) -> String {
    let (method, version) = (*seed.of(&["GET", "POST"]), *seed.of(&["1.1", "2.0"]));
    let query = query(said, seed);
    let path = format!("/matomo.php?{query}");
    let request = format!("{method} {path} HTTP/{version}");
    let time = "25/Nov/2024:16:11:42";
    match seed.below(7) {
        0 => format!(r#"192.0.2.1 - - [{time} +0000] "{request}" 204 0 "-" "curl/8 a=b""#),
        1 => format!(
            r#"192.0.2.1 - x [{time} +0000] "{request}" 204 0 "-" "-" 7 "m@file" "http://m" 3ms"#
        ),
        2 => format!(
            "Nov 25 16:11:42 lb haproxy[9]: 192.0.2.1:3 [{time}.655] f b/s 0/0/1 204 {{a=b}} \
             \"{request}\""
        ),
        3 => json!({"time_iso8601": "2024-11-25T16:11:42Z", "request": request}).to_string(),
        4 => json!({"uri": "/matomo.php", "args": query, "status": 204}).to_string(),
        5 => json!({"RequestMethod": method, "RequestPath": path, "level": "info"}).to_string(),
        _ => json!({"ts": 1.5, "request": {"method": method, "uri": path}}).to_string(),
    }
}

/// A line of an export.
fn exported(said: &Said, seed: &mut Seed) -> String {
    let body = json_text(&object(said, seed), false, seed);
    let line = ExportedLine {
        version: VERSION,
        queue: "parked".into(),
        id: "00".into(),
        broker_reason: None,
        routing_key: said["uid"].as_str().into(),
        content_type: None,
        timestamp: None,
        headers: BTreeMap::new(),
        body: ExportedBody::of(body.as_bytes()),
    };
    serde_json::to_string(&line).expect("JSON")
}

/// A table, as scripts and Excel write it.
fn table(hits: &[Said], seed: &mut Seed) -> String {
    let mut names: Vec<String> = hits.iter().flat_map(|said| said.keys().cloned()).collect();
    names.sort();
    names.dedup();
    let turn = seed.below(names.len());
    names.rotate_left(turn);
    let delimiter = *seed.of(&[';', ',', '\t']);
    let (capitals, all_quoted) = (seed.says_yes(), seed.says_yes());
    let row = |cells: Vec<&str>| {
        let quoted = cells.into_iter().map(|cell| {
            let needs_quotes = cell.contains([delimiter, '"']);
            if needs_quotes || (all_quoted && !cell.is_empty()) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.to_owned()
            }
        });
        quoted.collect::<Vec<_>>().join(&delimiter.to_string())
    };
    let mut lines = Vec::new();
    if seed.says_yes() {
        lines.push(format!("sep={delimiter}"));
    }
    let header = row(names.iter().map(String::as_str).collect());
    lines.push(if capitals { header.to_uppercase() } else { header });
    for said in hits {
        lines.push(row(names
            .iter()
            .map(|name| said.get(name).map_or("", String::as_str))
            .collect()));
        if seed.below(3) == 0 {
            lines.push(delimiter.to_string().repeat(names.len() - 1));
        }
    }
    lines.join("\n")
}

/// A file of this form, before its bytes are made.
fn text(form: &str, hits: &[Said], seed: &mut Seed) -> String {
    let mut lines = |line: &dyn Fn(&Said, &mut Seed) -> String| -> String {
        hits.iter().map(|said| line(said, seed)).collect::<Vec<_>>().join("\n")
    };
    match form {
        "ndjson" => lines(&|said, seed| json_text(&object(said, seed), false, seed)),
        "objects" => lines(&|said, seed| json_text(&object(said, seed), true, seed)),
        "queries" => lines(&|said, seed| format!("{}{}", seed.of(&["", "?"]), query(said, seed))),
        "urls" => lines(&|said, seed| {
            format!("{}/matomo.php?{}", seed.of(&["", "https://m.example.fr"]), query(said, seed))
        }),
        "log" => lines(&logged),
        "export" => lines(&exported),
        "array" => {
            let all = hits.iter().map(|said| object(said, seed)).collect();
            let pretty = seed.says_yes();
            json_text(&Json::Array(all), pretty, seed)
        }
        _ => table(hits, seed),
    }
}

/// The bytes of a file, with the line ends, encoding and packing that a seed says.
fn bytes(text: &str, is_table: bool, seed: &mut Seed) -> Vec<u8> {
    let mut text = text.to_owned();
    if seed.says_yes() {
        text.push('\n');
    }
    // No other form than a table has lines that end with CR alone.
    let end = if is_table { *seed.of(&["\n", "\r\n", "\r"]) } else { *seed.of(&["\n", "\r\n"]) };
    text = text.replace('\n', end);
    let utf16 = |to_bytes: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
        format!("{mark}{text}").encode_utf16().flat_map(to_bytes).collect()
    };
    let bytes = match seed.below(if is_table { 7 } else { 6 }) {
        0 | 1 => text.into_bytes(),
        2 => format!("\u{feff}{text}").into_bytes(),
        3 => utf16(u16::to_le_bytes, "\u{feff}"),
        4 => utf16(u16::to_be_bytes, "\u{feff}"),
        5 => utf16(u16::to_le_bytes, ""),
        _ => WINDOWS_1252.encode(&text).0.into_owned(),
    };
    if seed.below(4) > 0 {
        return bytes;
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&bytes).expect("packs");
    packed.finish().expect("packs")
}

/// What the hits of a file say.
fn read(file: Vec<u8>) -> Vec<Said> {
    let mut input =
        Input::over(Box::new(Cursor::new(file)), None, ProgressBar::hidden()).expect("opens");
    let mut hits = Vec::new();
    while let Some(record) = input.next().expect("reads") {
        let body = record.body.expect("a message");
        let hit = decode(body, record.content_type).expect("decodes");
        let said = hit.fields().filter_map(|(name, value)| match value {
            Value::Text(text) => Some((name.to_owned(), text.clone().into_owned())),
            Value::Null => None,
            Value::Wrong(kind) => panic!("{name} is {kind}"),
        });
        hits.push(said.collect());
    }
    hits
}

#[test]
fn a_file_of_any_form_is_read_as_its_hits_whatever_is_wrong_with_it() {
    let forms = ["ndjson", "objects", "array", "table", "queries", "urls", "log", "export"];
    for (place, form) in forms.iter().enumerate() {
        for file in 0..FILES {
            let mut seed = Seed(1_000 * place as u64 + file);
            let count = 2 + seed.below(20);
            let hits: Vec<Said> = (0..count).map(|_| hit(&mut seed)).collect();
            let text = text(form, &hits, &mut seed);
            let bytes = bytes(&text, *form == "table", &mut seed);
            assert_eq!(read(bytes), hits, "{form} {file}:\n{text}");
        }
    }
}
