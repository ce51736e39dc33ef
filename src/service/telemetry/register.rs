//! Registers metrics while they are made.

use std::hash::Hash;

use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::registry::{Metric, Registry};

/// Registers a metric by its name, without the prefix and without the `_total` of a counter, and
/// with the text of its `# HELP` line, without the full stop; gives it back.
pub(super) fn register<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// A family of metrics with all these labels at zero: a counter that is not there until it first
/// counts hides its first increment from every rate.
pub(super) fn family<L, M>(labels: impl IntoIterator<Item = L>) -> Family<L, M>
where
    L: Clone + Eq + Hash,
    M: Default + Clone,
{
    family_of(Family::default(), labels)
}

/// The same with metrics that a function makes.
pub(super) fn family_of<L, M, C>(
    family: Family<L, M, C>,
    labels: impl IntoIterator<Item = L>,
) -> Family<L, M, C>
where
    L: Clone + Eq + Hash,
    M: Clone,
    C: MetricConstructor<M>,
{
    for labels in labels {
        drop(family.get_or_create(&labels));
    }
    family
}
