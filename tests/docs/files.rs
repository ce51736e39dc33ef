//! The documents of the project, as the tests read them.

use std::path::{Path, PathBuf};

/// A document: its path from the root of the project, and its text.
pub(crate) struct Document {
    /// The path from the root of the project, with `/` between its parts.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

/// The root of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document that people read: those of the root, of `docs`, of `deploy` and of the chart.
pub(crate) fn documents() -> Vec<Document> {
    let mut files: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
        .map(|name| root().join(name))
        .into();
    for folder in ["docs", "deploy", "helm"] {
        collect(&root().join(folder), &mut files);
    }
    files
        .into_iter()
        .map(|file| Document {
            path: file.strip_prefix(root()).expect("below the root").display().to_string(),
            text: std::fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        })
        .collect()
}

/// Adds the Markdown files below a folder, in the order of their names.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}

impl Document {
    /// The lines outside code blocks.
    pub(crate) fn prose(&self) -> impl Iterator<Item = &str> {
        let mut in_code = false;
        self.text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            in_code ^= fence;
            !in_code && !fence
        })
    }

    /// The code spans of the prose, each with the text that follows it on its line.
    pub(crate) fn code_spans(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prose().flat_map(|line| {
            let parts: Vec<&str> = line.split('`').collect();
            let spans: Vec<_> =
                parts.chunks_exact(2).enumerate().map(|(at, pair)| (pair[1], 2 * at + 2)).collect();
            let after = move |at: usize| parts.get(at).copied().unwrap_or_default();
            spans.into_iter().map(move |(code, next)| (code, after(next)))
        })
    }
}
