//! The text of a variable → its value, or what is wrong with it and how to put it right.
//!
//! Texts come as they were set; white space around them does not matter, except in names of queues
//! and of files that must be there.

use std::fs::File;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Mistakes;

type Parsed<T> = Result<T, Mistakes>;

/// Fills a field of the draft.
pub(super) fn set<T>(field: &mut Option<T>, value: Parsed<T>) -> Result<(), Mistakes> {
    *field = Some(value?);
    Ok(())
}

/// Keeps what is no setting alone. `None` is for a variable that is not set.
pub(super) fn keep<T>(piece: &mut Option<T>, value: Parsed<Option<T>>) -> Result<(), Mistakes> {
    *piece = value?;
    Ok(())
}

/// Nothing for a variable that is not set, whose text is empty.
pub(super) fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// One of a few words, in either case.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Parsed<T> {
    if let Some((_, choice)) =
        choices.iter().find(|(word, _)| text.trim().eq_ignore_ascii_case(word))
    {
        return Ok(*choice);
    }
    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
    Err(format!("\"{text}\" is not one of {}", words.join(", ")).into())
}

/// A whole number within limits.
pub(super) fn number<T>(text: &str, range: RangeInclusive<T>) -> Parsed<T>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match text.trim().parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!(
            "\"{text}\" is not a whole number from {} to {}",
            range.start(),
            range.end()
        )
        .into()),
    }
}

/// A duration with its unit, within limits.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Parsed<Duration> {
    match humantime::parse_duration(text.trim()) {
        Ok(duration) if range.contains(&duration) => Ok(duration),
        Ok(_) => {
            let (least, most) = (
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end()),
            );
            Err(format!("\"{text}\" is not between {least} and {most}").into())
        }
        Err(_) => Err(format!(
            "\"{text}\" is not a duration; write it with its unit, like 500ms, 10s or 20m"
        )
        .into()),
    }
}

/// Fills a field with values separated by commas. Good ones among them are kept beside mistakes,
/// for the checks that follow.
pub(super) fn set_list<T>(
    field: &mut Option<Vec<T>>,
    text: &str,
    parse: impl Fn(&str) -> Parsed<T>,
) -> Result<(), Mistakes> {
    let (mut values, mut mistakes) = (Vec::new(), Vec::new());
    for item in text.split(',') {
        match parse(item) {
            Ok(value) => values.push(value),
            Err(Mistakes(more)) => mistakes.extend(more),
        }
    }
    *field = Some(values);
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
}

/// The path of a file that can be opened.
pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    match File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display()).into()),
    }
}

/// The path of what is read later, together with other files.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    Ok(PathBuf::from(text.trim()))
}

/// The prefix of AMQP names. These end at 255 bytes and suffixes need room; the broker keeps `amq.`
/// for itself.
pub(super) fn prefix(text: &str) -> Parsed<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if text.len() > 200 || !text.chars().all(legal) || text.starts_with("amq.") {
        return Err("at most 200 letters, digits, '.', '-', '_' or ':', and not starting with \
                    \"amq.\""
            .into());
    }
    Ok(text.to_owned())
}

/// The number of a Matomo site, without leading zeros.
pub(super) fn site_id(text: &str) -> Parsed<String> {
    match text.trim().parse::<u32>() {
        Ok(id) if id > 0 => Ok(id.to_string()),
        _ => Err(format!("\"{text}\" is not the number of a site").into()),
    }
}

/// An address to listen on.
pub(super) fn listen(text: &str) -> Parsed<SocketAddr> {
    text.trim()
        .parse()
        .map_err(|_| format!("\"{text}\" is not an address and port, like 0.0.0.0:8080").into())
}

/// The name of a host, without a port.
pub(super) fn host_name(text: &str) -> Parsed<String> {
    let name = text.trim();
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(is_legal) {
        return Err(format!("\"{name}\" is not the name of a host, like relay.example.fr").into());
    }
    Ok(name.to_owned())
}

/// A filter of log lines, which is kept as text.
pub(super) fn filter(text: &str) -> Parsed<String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("\"{text}\" is not a log filter: {error}").into()),
    }
}
