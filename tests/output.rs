//! What a hit says stays inside it when the real program reports on it: nothing in its output
//! commands a terminal, and nothing of the visitor is in it, in whatever field it stands.
#![cfg(test)]

use std::io::Write;
use std::process::{Command, Stdio};

use dnma_relay::domain::printable::is_hidden;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_dnma-relay");

/// Every control character, and the marks that turn a text round.
const COMMANDS: &str =
    "\u{1b}[2J\u{1b}]0;x\u{7}\r\u{8}\u{7f}\u{85}\u{9b}2J\u{9d}\u{202e}\u{2066}\u{200f}";

/// Visitors of some forms, each of which stands in every field once.
const VISITORS: [&str; 4] = [
    "7c9e6679f4b44e1f8e0c5b6f0a3d2c1b",
    "7c9e6679-f4b4-4e1f-8e0c-5b6f0a3d2c1b",
    "VAA60001",
    "jean.dupont@ac-rennes.fr",
];

/// A hit that is right.
fn hit(uid: &str) -> Value {
    json!({
        "idsite": "1", "uid": uid, "url": "https://ent.example.fr/a",
        "url_ref": "https://ent.example.fr/b", "dimension1": "0750655E", "dimension2": "ELEVE",
        "dimension3": "EXPLOITANT", "dimension4": "PLATEFORME", "dimension6": "OUTIL",
        "dimension7": "NATIF", "dimension8": "ACCUEIL", "dimension9": "Travail",
        "dimension10": "Semaine 48", "dimension11": "WEB-PWA", "action_name": "Page",
        "cdt": 1_732_549_235, "ua": "Firefox",
    })
}

/// What `validate` says of these hits, on standard output and standard error.
fn said(hits: &[Value], arguments: &[&str]) -> String {
    let mut child = Command::new(PROGRAM)
        .args(["validate", "-"])
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    for hit in hits {
        writeln!(stdin, "{hit}").expect("reads");
    }
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat()
}

/// Every form of the result.
const FORMS: [&[&str]; 5] = [
    &[],
    &["--lang", "fr"],
    &["--format", "json"],
    &["--format", "html"],
    &["--format", "json", "--lang", "fr"],
];

#[test]
fn no_hit_commands_a_terminal() {
    let mut hits = Vec::new();
    for field in hit("").as_object().expect("an object").keys() {
        let mut odd = hit("7c9e6679f4b44e1f8e0c5b6f0a3d2c1b");
        odd[field] = format!("VALUE {COMMANDS}").into();
        odd[format!("name {COMMANDS}")] = "1".into();
        hits.push(odd);
    }
    for form in FORMS {
        let text = said(&hits, form);
        assert!(text.contains("VALUE") && text.contains("name"), "{form:?}: {text}");
        let found = text.chars().find(|c| is_hidden(*c) && *c != '\n');
        assert_eq!(found, None, "{form:?}: {text:?}");
    }
}

#[test]
fn a_visitor_in_the_wrong_place_is_not_told() {
    let mut hits = Vec::new();
    for visitor in VISITORS {
        for field in hit("").as_object().expect("an object").keys() {
            let mut odd = hit(visitor);
            // A column that was swapped with its neighbour, and one that was copied.
            odd[field] = visitor.into();
            odd[visitor] = "1".into();
            odd[format!("x-{visitor}")] = "1".into();
            hits.push(odd.clone());
            odd["uid"] = "ELEVE".into();
            if visitor.len() > 16 {
                hits.push(odd);
            }
        }
    }
    for form in FORMS {
        let text = said(&hits, form).to_lowercase();
        for visitor in VISITORS {
            assert!(!text.contains(&visitor.to_lowercase()), "{form:?} tells {visitor}: {text}");
        }
        assert!(!text.contains("jean.dupont"), "{form:?}: {text}");
    }
}
