//! The documents held against the files of the project: their length, their links, and the files
//! that they name.
#![cfg(test)]

use std::collections::BTreeSet;

#[path = "docs/files.rs"]
#[allow(dead_code, reason = "shared with the test of the command line")]
mod files;

use files::{Document, documents, root};

/// Lines of README.md: what is longer belongs into docs/.
const MAX_README_LINES: usize = 200;

#[test]
fn the_readme_is_short() {
    let readme = documents().into_iter().find(|document| document.path == "README.md");
    let lines = readme.expect("README.md").text.lines().count();
    assert!(lines <= MAX_README_LINES, "README.md has {lines} lines, not {MAX_README_LINES}");
}

#[test]
fn every_link_leads_somewhere() {
    let (mut broken, mut checked) = (Vec::new(), 0);
    let documents = documents();
    for document in &documents {
        for target in document.prose().flat_map(links) {
            if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
                continue;
            }
            checked += 1;
            if let Err(problem) = follow(document, target, &documents) {
                broken.push(format!("{}: {target}: {problem}", document.path));
            }
        }
    }
    assert!(checked > 50, "only {checked} links were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_that_is_named_exists() {
    let folders = [
        "src/",
        "tests/",
        "docs/",
        "deploy/",
        "helm/",
        "benches/",
        "examples/",
        ".ci/",
        ".github/",
    ];
    let (mut missing, mut checked) = (Vec::new(), 0);
    for document in documents() {
        for (code, _) in document.code_spans() {
            // NAME is for the reader to fill in.
            let is_path = folders.iter().any(|folder| code.starts_with(folder))
                && !code.contains("NAME")
                && code.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c));
            if !is_path {
                continue;
            }
            checked += 1;
            if !root().join(code).exists() {
                missing.push(format!("{} names {code}", document.path));
            }
        }
    }
    assert!(checked > 50, "only {checked} files are named");
    assert!(missing.is_empty(), "these files do not exist:\n{}", missing.join("\n"));
}

/// The targets of the links and pictures of a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// Whether the file of a link exists, and its heading.
fn follow(from: &Document, target: &str, documents: &[Document]) -> Result<(), &'static str> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let to = if path.is_empty() { from.path.clone() } else { resolve(&from.path, path) };
    if !root().join(&to).exists() {
        return Err("no such file");
    }
    if anchor.is_empty() {
        return Ok(());
    }
    let document = documents.iter().find(|document| document.path == to);
    let headings = anchors(document.ok_or("an anchor of a file that is no document")?);
    if headings.contains(anchor) { Ok(()) } else { Err("no such heading") }
}

/// A relative path, from the folder of a document, as a path from the root.
fn resolve(document: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in relative.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            assert!(parts.pop().is_some(), "{document}: {relative} leaves the project");
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The anchors that a forge makes of the headings: lower case, without punctuation, a hyphen for
/// each space, and a number behind a heading that stood before.
fn anchors(document: &Document) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in document.prose().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim();
        let anchor: String = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|a| !anchors.contains(a));
        anchors.extend(free);
    }
    anchors
}
