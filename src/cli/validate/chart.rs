//! The geometry of the report's charts, in whole numbers for inline SVG in a box [`FULL_WIDTH`]
//! wide.

use std::collections::BTreeMap;

/// The width of every chart, in units of its own.
pub(super) const FULL_WIDTH: u64 = 1_000;
/// The height of the chart over time.
pub(super) const HEIGHT: u64 = 200;
/// The length of the shortest bar: a count that is not 0 is visible.
const MIN_LENGTH: u64 = 6;
/// The gap between two columns.
const COLUMN_GAP: u64 = 3;
/// The width of the widest column, so that a few columns do not look like blocks.
const MAX_COLUMN_WIDTH: u64 = 120;
/// How many columns the chart over time may have.
const MAX_COLUMNS: i64 = 60;
/// Outliers: one hit in so many, at either end, is left out if the rest would otherwise be one
/// column.
const OUTLIERS: u64 = 100;
/// How many hours a column may stand for: hours, days, or weeks.
const STEPS: [i64; 12] = [1, 2, 3, 6, 12, 24, 48, WEEK, 2 * WEEK, 4 * WEEK, 13 * WEEK, 52 * WEEK];
/// The longest column, two years: all times that a `cdt` can be span 100 years.
const MAX_STEP: i64 = 104 * WEEK;
/// The hours of a week.
const WEEK: i64 = 168;
/// Hours from a Monday, 0:00, to the beginning of UNIX time, a Thursday.
const MONDAY: i64 = 72;

/// Returns the length of a bar for a part of a whole.
pub(super) fn length(part: u64, whole: u64) -> u64 {
    match part {
        0 => 0,
        _ => scaled(part, whole, FULL_WIDTH).max(MIN_LENGTH),
    }
}

/// Returns the pieces of one bar, end to end, as (start, length).
pub(super) fn stack<const N: usize>(parts: [u64; N]) -> [(u64, u64); N] {
    let whole: u64 = parts.iter().sum();
    let mut lengths = parts.map(|part| length(part, whole));
    // What the smallest pieces were given to be visible is taken from the longest.
    let over = lengths.iter().sum::<u64>().saturating_sub(FULL_WIDTH);
    let under = if whole == 0 { 0 } else { FULL_WIDTH.saturating_sub(lengths.iter().sum()) };
    if let Some(longest) = lengths.iter_mut().max() {
        *longest = (*longest + under).saturating_sub(over);
    }
    let mut start = 0;
    lengths.map(|length| {
        start += length;
        (start - length, length)
    })
}

/// The chart of hits over time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TimeChart {
    /// The columns from left to right.
    pub(super) columns: Vec<ChartColumn>,
    /// How many hours a column stands for.
    pub(super) step: i64,
    /// The hits of the highest column.
    pub(super) most: u64,
    /// Hits so far off that they have no column.
    pub(super) outside: u64,
}

/// The hits of some hours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChartColumn {
    /// The first of these hours, in UNIX hours.
    pub(super) from: i64,
    /// How many hits there are in these hours.
    pub(super) hits: u64,
    /// Where the column begins, counted from the left.
    pub(super) x: u64,
    /// The width of the column.
    pub(super) width: u64,
    /// The height of the column.
    pub(super) height: u64,
}

impl ChartColumn {
    /// Returns where the column begins, counted from the top.
    pub(super) fn y(&self) -> u64 {
        HEIGHT.saturating_sub(self.height)
    }
}

impl TimeChart {
    /// Draws hits that are counted by UNIX hour; returns `None` where there is no hour.
    pub(super) fn of(hours: &BTreeMap<i64, u64>) -> Option<Self> {
        let (first, last) = drawn_hours(hours)?;
        let wide = |step: &i64| (begin(last, *step) - begin(first, *step)) / step < MAX_COLUMNS;
        let step = STEPS.into_iter().find(wide).unwrap_or(MAX_STEP);
        let from = begin(first, step);
        let number = (begin(last, step) - from) / step + 1;
        let mut hits = BTreeMap::new();
        for (hour, count) in hours.range(first..=last) {
            *hits.entry((hour - from) / step).or_default() += count;
        }
        let most = hits.values().copied().max().unwrap_or_default();
        let at = |index: i64| scaled(index.unsigned_abs(), number.unsigned_abs(), FULL_WIDTH);
        let column = |index: i64| {
            let hits = hits.get(&index).copied().unwrap_or_default();
            let height = if hits == 0 { 0 } else { scaled(hits, most, HEIGHT).max(MIN_LENGTH) };
            let slot = at(index + 1) - at(index);
            let width = slot.saturating_sub(COLUMN_GAP).min(MAX_COLUMN_WIDTH);
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

    /// Returns the hours that are named below the chart: those of the first, the middle and the
    /// last column.
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

/// Returns the first and the last hour that are drawn: all of them, unless a few hits stretch the
/// time many times over.
fn drawn_hours(hours: &BTreeMap<i64, u64>) -> Option<(i64, i64)> {
    let (first, last) = (*hours.first_key_value()?.0, *hours.last_key_value()?.0);
    let spare = hours.values().sum::<u64>() / OUTLIERS;
    let (from, to) = (edge(hours.iter(), spare)?, edge(hours.iter().rev(), spare)?);
    Some(if last - first > 4 * (to - from + 1) { (from, to) } else { (first, last) })
}

/// Returns the hour that is reached when so many hits are left out.
fn edge<'h>(mut hours: impl Iterator<Item = (&'h i64, &'h u64)>, spare: u64) -> Option<i64> {
    let mut passed = 0;
    hours
        .find(|(_, count)| {
            passed += **count;
            passed > spare
        })
        .map(|(hour, _)| *hour)
}

/// Returns the hour at which the column of an hour begins. Weeks begin on Monday.
fn begin(hour: i64, step: i64) -> i64 {
    let offset = if step % WEEK == 0 { MONDAY } else { 0 };
    (hour + offset).div_euclid(step) * step - offset
}

/// Scales a part of a whole to a length.
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
        assert_eq!(length(1, 1_000_000), MIN_LENGTH);
        assert_eq!(length(5, 10), FULL_WIDTH / 2);
        assert_eq!(length(12, 10), FULL_WIDTH);
        assert_eq!(length(u64::MAX, u64::MAX), FULL_WIDTH);
        assert_eq!(length(1, 0), FULL_WIDTH, "of nothing");
    }

    #[test]
    fn pieces_fill_the_bar_and_none_is_lost() {
        for parts in [[600, 300, 100], [1, 1, 999_998], [1, 0, 0], [1, 1, 1], [7, 11, 13]] {
            let pieces = stack(parts);
            assert_eq!(
                pieces.iter().map(|(_, length)| length).sum::<u64>(),
                FULL_WIDTH,
                "{parts:?}"
            );
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
            (440, MAX_COLUMN_WIDTH, HEIGHT)
        );
        for span in [2, 59, 60, 61, 500, 2_000, 20_000, 876_000] {
            let hours: BTreeMap<i64, u64> =
                (0..20).map(|n| (MORNING + n * span / 20, 3 + n.unsigned_abs())).collect();
            let drawn = TimeChart::of(&hours).expect("columns");
            assert!(drawn.columns.len() <= MAX_COLUMNS as usize, "{span}: {}", drawn.columns.len());
            assert_eq!(
                drawn.columns.iter().map(|column| column.hits).sum::<u64>(),
                hours.values().sum::<u64>(),
                "{span}"
            );
            assert!(
                drawn
                    .columns
                    .iter()
                    .all(|column| column.x + column.width <= FULL_WIDTH && column.height <= HEIGHT),
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
