//! The geometry of the report's pictures: whole numbers for inline SVG, in a box [`FULL`] wide.

use std::collections::BTreeMap;

/// Width of every picture, in units of its own.
pub(super) const FULL: u64 = 1_000;
/// Height of the columns over time.
pub(super) const HEIGHT: u64 = 200;
/// What is there at all is seen.
const LEAST: u64 = 6;
/// Between two columns.
const GAP: u64 = 3;
/// Few columns are no blocks.
const WIDEST: u64 = 120;
/// Most columns over time.
const MOST_COLUMNS: i64 = 60;
/// One hit in so many, at either end, may lie so far off that the rest would be one column.
const OUTLIERS: u64 = 100;
/// Hours that a column may stand for: hours, days, weeks.
const STEPS: [i64; 12] = [1, 2, 3, 6, 12, 24, 48, WEEK, 2 * WEEK, 4 * WEEK, 13 * WEEK, 52 * WEEK];
/// Two years: all that a `cdt` can be is 100 years.
const LONGEST: i64 = 104 * WEEK;
const WEEK: i64 = 168;
/// Hours from a Monday, 0:00, to the beginning of UNIX time, a Thursday.
const MONDAY: i64 = 72;

/// Length of a bar.
pub(super) fn length(part: u64, whole: u64) -> u64 {
    match part {
        0 => 0,
        _ => scaled(part, whole, FULL).max(LEAST),
    }
}

/// Pieces of one bar, end to end, as (start, length).
pub(super) fn stack<const N: usize>(parts: [u64; N]) -> [(u64, u64); N] {
    let whole: u64 = parts.iter().sum();
    let mut lengths = parts.map(|part| length(part, whole));
    // What the smallest were given is taken from the longest.
    let over = lengths.iter().sum::<u64>().saturating_sub(FULL);
    let under = if whole == 0 { 0 } else { FULL.saturating_sub(lengths.iter().sum()) };
    if let Some(longest) = lengths.iter_mut().max() {
        *longest = (*longest + under).saturating_sub(over);
    }
    let mut start = 0;
    lengths.map(|length| {
        start += length;
        (start - length, length)
    })
}

/// Hits over time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TimeChart {
    pub(super) columns: Vec<ChartColumn>,
    /// Hours that a column stands for.
    pub(super) step: i64,
    /// The highest column's hits.
    pub(super) most: u64,
    /// Hits so far off that they have no column.
    pub(super) outside: u64,
}

/// The hits of some hours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChartColumn {
    /// Its first hour, UNIX hours.
    pub(super) from: i64,
    pub(super) hits: u64,
    pub(super) x: u64,
    pub(super) width: u64,
    pub(super) height: u64,
}

impl ChartColumn {
    /// Where it begins, counted from the top.
    pub(super) fn y(&self) -> u64 {
        HEIGHT.saturating_sub(self.height)
    }
}

impl TimeChart {
    /// Draws hits that are counted by UNIX hour; returns `None` where there is no hour.
    pub(super) fn of(hours: &BTreeMap<i64, u64>) -> Option<Self> {
        let (first, last) = bulk(hours)?;
        let wide = |step: &i64| (begin(last, *step) - begin(first, *step)) / step < MOST_COLUMNS;
        let step = STEPS.into_iter().find(wide).unwrap_or(LONGEST);
        let from = begin(first, step);
        let number = (begin(last, step) - from) / step + 1;
        let mut hits = BTreeMap::new();
        for (hour, count) in hours.range(first..=last) {
            *hits.entry((hour - from) / step).or_default() += count;
        }
        let most = hits.values().copied().max().unwrap_or_default();
        let at = |index: i64| scaled(index.unsigned_abs(), number.unsigned_abs(), FULL);
        let column = |index: i64| {
            let hits = hits.get(&index).copied().unwrap_or_default();
            let height = if hits == 0 { 0 } else { scaled(hits, most, HEIGHT).max(LEAST) };
            let slot = at(index + 1) - at(index);
            let width = slot.saturating_sub(GAP).min(WIDEST);
            ChartColumn {
                from: from + index * step,
                hits,
                x: at(index) + (slot - width) / 2,
                width,
                height,
            }
        };
        let columns = (0..number).map(column).collect();
        let outside = hours.values().sum::<u64>() - hits.values().sum::<u64>();
        Some(Self { columns, step, most, outside })
    }

    /// The hours that are named below: the first column's, the middle one's, and the last one's.
    pub(super) fn ticks(&self) -> Vec<i64> {
        let last = self.columns.len().saturating_sub(1);
        let mut named = vec![0, last / 2, last];
        named.dedup();
        named
            .into_iter()
            .filter_map(|index| self.columns.get(index))
            .map(|column| column.from)
            .collect()
    }
}

/// The first and the last hour that are drawn: all of them, unless a few hits stretch the time many
/// times over.
fn bulk(hours: &BTreeMap<i64, u64>) -> Option<(i64, i64)> {
    let (first, last) = (*hours.first_key_value()?.0, *hours.last_key_value()?.0);
    let spare = hours.values().sum::<u64>() / OUTLIERS;
    let (from, to) = (edge(hours.iter(), spare)?, edge(hours.iter().rev(), spare)?);
    Some(if last - first > 4 * (to - from + 1) { (from, to) } else { (first, last) })
}

/// The first hour that is reached when so many hits are passed over.
fn edge<'h>(mut hours: impl Iterator<Item = (&'h i64, &'h u64)>, spare: u64) -> Option<i64> {
    let mut passed = 0;
    hours
        .find(|(_, count)| {
            passed += **count;
            passed > spare
        })
        .map(|(hour, _)| *hour)
}

/// Where the column of an hour begins; weeks begin on Monday.
fn begin(hour: i64, step: i64) -> i64 {
    let offset = if step % WEEK == 0 { MONDAY } else { 0 };
    (hour + offset).div_euclid(step) * step - offset
}

fn scaled(part: u64, whole: u64, full: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(full) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(full).min(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 08:00 UTC, a Monday.
    const MORNING: i64 = 1_795_420_800 / 3_600;

    #[test]
    fn a_bar_is_seen_and_never_longer_than_the_whole() {
        assert_eq!(length(0, 10), 0);
        assert_eq!(length(1, 1_000_000), LEAST);
        assert_eq!(length(5, 10), FULL / 2);
        assert_eq!(length(12, 10), FULL);
        assert_eq!(length(u64::MAX, u64::MAX), FULL);
        assert_eq!(length(1, 0), FULL, "of nothing");
    }

    #[test]
    fn pieces_fill_the_bar_and_none_is_lost() {
        for parts in [[600, 300, 100], [1, 1, 999_998], [1, 0, 0], [1, 1, 1], [7, 11, 13]] {
            let pieces = stack(parts);
            assert_eq!(pieces.iter().map(|(_, length)| length).sum::<u64>(), FULL, "{parts:?}");
            assert!(
                parts.iter().zip(pieces).all(|(part, (_, length))| (*part == 0) == (length == 0)),
                "{parts:?}"
            );
            assert!(pieces.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{parts:?}");
        }
        assert_eq!(stack([0, 0, 0]), [(0, 0); 3]);
    }

    #[test]
    fn columns_hold_every_hit() {
        assert_eq!(TimeChart::of(&BTreeMap::new()), None);
        let one = TimeChart::of(&[(MORNING, 1)].into()).expect("a column");
        assert_eq!((one.columns.len(), one.step, one.most, one.outside), (1, 1, 1, 0));
        assert_eq!(
            (one.columns[0].x, one.columns[0].width, one.columns[0].height),
            (440, WIDEST, HEIGHT)
        );
        for span in [2, 59, 60, 61, 500, 2_000, 20_000, 876_000] {
            let hours: BTreeMap<i64, u64> =
                (0..20).map(|n| (MORNING + n * span / 20, 3 + n.unsigned_abs())).collect();
            let drawn = TimeChart::of(&hours).expect("columns");
            assert!(
                drawn.columns.len() <= MOST_COLUMNS as usize,
                "{span}: {}",
                drawn.columns.len()
            );
            assert_eq!(
                drawn.columns.iter().map(|column| column.hits).sum::<u64>(),
                hours.values().sum::<u64>(),
                "{span}"
            );
            assert!(
                drawn
                    .columns
                    .iter()
                    .all(|column| column.x + column.width <= FULL && column.height <= HEIGHT),
                "{span}"
            );
            assert!(
                drawn.columns.iter().all(
                    |column| (column.hits == 0) == (column.height == 0) && column.y() <= HEIGHT
                ),
                "{span}"
            );
        }
    }

    #[test]
    fn days_begin_at_midnight_and_weeks_on_monday() {
        let span = |hours: i64| {
            TimeChart::of(&[(MORNING, 1), (MORNING + hours, 1)].into()).expect("columns")
        };
        let days = span(40 * 24);
        assert_eq!((days.step, days.columns[0].from), (24, MORNING - 8));
        let weeks = span(300 * 24);
        assert_eq!((weeks.step, weeks.columns[0].from), (WEEK, MORNING - 8));
    }

    #[test]
    fn a_stray_hit_does_not_flatten_the_rest() {
        let mut hours: BTreeMap<i64, u64> = (0..5).map(|n| (MORNING + n, 100)).collect();
        hours.insert(MORNING - 200_000, 2);
        hours.insert(MORNING + 90_000, 1);
        let drawn = TimeChart::of(&hours).expect("columns");
        assert_eq!((drawn.columns.len(), drawn.step, drawn.outside), (5, 1, 3));
    }
}
