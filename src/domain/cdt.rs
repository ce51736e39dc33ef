//! Reads `cdt`, the time of a hit: UNIX seconds or a date and time (RFTI §3.2.1, §4.2).
//!
//! Matomo is silent about most faults here. It replaces a time that lies in the future (even by a
//! second), is in milliseconds, or cannot be read by its own "now", and answers with 2xx, so a hit
//! that was retried would move to another day. Therefore the relay sends whole UNIX seconds, never
//! in the future, and reports what it found.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use thiserror::Error;

/// Why a `cdt` is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CdtError {
    /// It is neither a number nor a date and time; or it is zero, negative, or before 2000.
    #[error("neither a UNIX timestamp nor a date and time")]
    Unreadable,
    /// It is a UNIX time in milliseconds, which Matomo takes for the far future. The variant holds
    /// the same time in seconds.
    #[error("milliseconds; in seconds it is {0}")]
    Milliseconds(i64),
}

/// The first time that is believed, 2000-01-01T00:00:00Z: the plan is from 2008, so an earlier time
/// is a fault of the sender.
const FIRST: i64 = 946_684_800;
/// The end of the times that are believed, 2100-01-01T00:00:00Z. The same figure read as
/// milliseconds lies in 1970.
const LAST: i64 = 4_102_444_800;

/// Reads `cdt` as Matomo does, but without its silence. A date and time without an offset is UTC.
///
/// # Errors
/// Returns a [`CdtError`] for what Matomo would replace by its own time.
pub fn parse(text: &str) -> Result<Timestamp, CdtError> {
    let text = text.trim();
    if let Some(seconds) = unix(text) {
        return match seconds {
            FIRST..LAST => Timestamp::from_second(seconds).map_err(|_| CdtError::Unreadable),
            _ if (FIRST..LAST).contains(&(seconds / 1000)) => {
                Err(CdtError::Milliseconds(seconds / 1000))
            }
            _ => Err(CdtError::Unreadable),
        };
    }
    let time = instant(text).ok_or(CdtError::Unreadable)?;
    if (FIRST..LAST).contains(&time.as_second()) { Ok(time) } else { Err(CdtError::Unreadable) }
}

/// Reads the whole seconds of a decimal number. A fraction is cut off, as Matomo does.
fn unix(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    whole.parse().ok()
}

/// Reads a date, with or without a time and an offset.
fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    // A date with another form (day first, a year of two digits) is not guessed at.
    let civil: DateTime = text.parse().ok()?;
    Offset::UTC.to_timestamp(civil).ok()
}

/// How a time relates to the moment at which the hit was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// The time lies so many seconds in the past, as it should.
    Past(i64),
    /// The time lies so many seconds in the future.
    Future(i64),
    /// The time lies almost exactly one or two hours in the future: it is French local time that
    /// was sent as UTC.
    LocalTime(i64),
}

/// How far, in seconds, a lead may be from one or two whole hours. The network takes its time, so a
/// local time that is sent at once is seen with a lead of a little under 3600 or 7200 s.
const LOCAL_TIME_TOLERANCE: i64 = 90;

/// Compares the time of a hit with the moment at which it was first seen.
pub fn lag(cdt: Timestamp, first_seen: Timestamp) -> Lag {
    let lead = cdt.as_second() - first_seen.as_second();
    if lead <= 0 {
        return Lag::Past(-lead);
    }
    let local = [3_600, 7_200].iter().any(|hour| (lead - hour).abs() <= LOCAL_TIME_TOLERANCE);
    if local { Lag::LocalTime(lead) } else { Lag::Future(lead) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_plan_and_of_matomo_is_the_same_second() {
        for text in [
            "1732551102",
            "1732551102.9",
            "2024-11-25 16:11:42",
            "2024-11-25T16:11:42Z",
            "2024-11-25T17:11:42+01:00",
            " 2024-11-25T16:11:42 ",
            "2024-11-25 17:11:42+01:00",
        ] {
            assert_eq!(parse(text).map(|t| t.as_second()), Ok(1_732_551_102), "{text}");
        }
        assert_eq!(
            parse("2024-11-25").map(|t| t.as_second()),
            Ok(1_732_492_800),
            "a date alone is its first second"
        );
    }

    #[test]
    fn what_matomo_would_replace_by_now_is_an_error() {
        assert_eq!(parse("1732551102000"), Err(CdtError::Milliseconds(1_732_551_102)));
        for text in [
            "",
            "0",
            "-5",
            "now",
            "25/11/2024 16:11",
            "17325511020000000000000",
            "1e9",
            "1732551102s",
            "12",
        ] {
            assert_eq!(parse(text), Err(CdtError::Unreadable), "{text}");
        }
    }

    #[test]
    fn times_are_believed_from_2000_to_2099() {
        for (text, expected) in [
            ("946684799", Err(CdtError::Unreadable)),
            ("946684800", Ok(FIRST)),
            ("4102444799", Ok(LAST - 1)),
            ("4102444800", Err(CdtError::Unreadable)),
            ("946684799999", Err(CdtError::Unreadable)),
            ("946684800000", Err(CdtError::Milliseconds(FIRST))),
            ("4102444799999", Err(CdtError::Milliseconds(LAST - 1))),
            ("4102444800000", Err(CdtError::Unreadable)),
            ("9223372036854775807", Err(CdtError::Unreadable)),
            ("1999-12-31 23:59:59", Err(CdtError::Unreadable)),
            ("2000-01-01 00:00:00", Ok(FIRST)),
            ("2099-12-31T23:59:59Z", Ok(LAST - 1)),
            ("2100-01-01T00:00:00Z", Err(CdtError::Unreadable)),
        ] {
            assert_eq!(parse(text).map(|time| time.as_second()), expected, "{text}");
        }
    }

    #[test]
    fn a_number_is_digits_with_one_point_at_most() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1732551102", Some(1_732_551_102)),
            ("1732551102.", Some(1_732_551_102)),
            ("1732551102.999", Some(1_732_551_102)),
            ("+1732551102", None),
            ("-1732551102", None),
            ("1732551102.x", None),
            ("1732551102.9.9", None),
            (".5", None),
            (".", None),
            ("", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(unix(text), expected, "{text}");
        }
    }

    #[test]
    fn a_lead_of_an_hour_is_a_local_time() {
        let now = Timestamp::from_second(1_732_551_102).expect("in range");
        let at =
            |lead: i64| lag(Timestamp::from_second(now.as_second() + lead).expect("in range"), now);
        assert_eq!(at(0), Lag::Past(0));
        assert_eq!(at(-30), Lag::Past(30));
        assert_eq!(at(1), Lag::Future(1));
        assert_eq!(at(3_600), Lag::LocalTime(3_600));
        assert_eq!(at(3_590), Lag::LocalTime(3_590));
        assert_eq!(at(7_199), Lag::LocalTime(7_199));
        for hour in [3_600, 7_200] {
            assert_eq!(at(hour - 91), Lag::Future(hour - 91));
            assert_eq!(at(hour - 90), Lag::LocalTime(hour - 90));
            assert_eq!(at(hour + 90), Lag::LocalTime(hour + 90));
            assert_eq!(at(hour + 91), Lag::Future(hour + 91));
        }
        assert_eq!(at(5_000), Lag::Future(5_000));
    }
}
