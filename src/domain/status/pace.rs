//! How fast hits go now, and what they wait for.

use serde::{Deserialize, Serialize};

use super::{RelayState, Status};
use crate::domain::limiter::Limit;
use crate::domain::prose::{number, spaced};
use crate::domain::rule::Language;

/// From this share of the lanes on, waiting for the same thing says what limits the rate.
const SHARE: f64 = 1.0 / 8.0;

/// The last half minute of a worker, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRate {
    /// Hits that were delivered per second.
    pub hits_per_second: f64,
    /// What the lanes did.
    pub lanes: LaneUse,
}

/// How many lanes waited for what, in the mean. A lane has one request at a time, so their sum is
/// `MATOMO_CONCURRENCY` for each worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneUse {
    /// For hits from the broker: nothing was left to send.
    pub hits: f64,
    /// For `MATOMO_MAX_RATE`.
    pub max_rate: f64,
    /// For room: no more may be under way at Matomo, by its own slowness or while it is away.
    pub room: f64,
    /// For Matomo's answer.
    pub answer: f64,
}

/// What keeps a backlog from being delivered faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// Matomo: with more under way its answers would come too late.
    Matomo,
    /// `MATOMO_MAX_RATE`.
    MaxRate,
    /// The broker: hits wait there, and it gives them no faster.
    Broker,
    /// The shards: each has its worker, and the backlog is not in those of this one.
    Shards,
    /// `MATOMO_CONCURRENCY` or the number of workers: all requests that the settings allow are
    /// under way, and their answers come quickly.
    Settings,
}

impl DeliveryRate {
    /// Adds what another worker does.
    pub(super) fn add(&mut self, other: &Self) {
        self.hits_per_second += other.hits_per_second;
        let (lanes, others) = (&mut self.lanes, &other.lanes);
        lanes.hits += others.hits;
        lanes.max_rate += others.max_rate;
        lanes.room += others.room;
        lanes.answer += others.answer;
    }
}

impl LaneUse {
    /// All lanes.
    fn all(&self) -> f64 {
        self.hits + self.max_rate + self.room + self.answer
    }
}

impl Bottleneck {
    /// What limits the rate; `None` unless a backlog waits while hits flow.
    pub(super) fn of(status: &Status) -> Option<Self> {
        let flows = !status.state.is_wrong() && status.state != RelayState::Starting;
        let DeliveryRate { lanes, .. } = status.pace;
        let all = lanes.all();
        if !status.has_backlog() || !flows || all <= 0.0 {
            return None;
        }
        let is_limiting = |Limit { requests, hits }: Limit| {
            requests < status.matomo.most.requests || hits < status.matomo.most.hits
        };
        Some(if lanes.max_rate >= SHARE * all {
            Self::MaxRate
        } else if lanes.hits >= all / 2.0 {
            if status.has_hits_for_us() { Self::Broker } else { Self::Shards }
        } else if lanes.room >= SHARE * all || is_limiting(status.matomo.limit) {
            Self::Matomo
        } else {
            Self::Settings
        })
    }
}

/// Says what limits the rate, and what would help.
pub(super) fn limit_note(status: &Status, language: Language) -> Option<String> {
    let rate = rate(status.pace.hits_per_second, language);
    let (limit, most) = (status.matomo.limit, status.matomo.most);
    let (english, french) = match status.bottleneck? {
        Bottleneck::Matomo => (
            format!(
                "Matomo takes {rate} hits/s and is the limit: of {} requests {} may be under way, \
                 with {} of {} hits, so that it answers well within MATOMO_TIMEOUT. More replicas \
                 would not help; more processors for Matomo or a faster database would.",
                most.requests, limit.requests, limit.hits, most.hits
            ),
            format!(
                "Matomo prend {rate} hits/s et c'est lui la limite : sur {} requêtes, {} peuvent \
                 être en cours, de {} hits sur {}, pour qu'il réponde bien avant MATOMO_TIMEOUT. \
                 Plus de réplicas n'y changeraient rien ; plus de processeurs pour Matomo ou une \
                 base plus rapide, si.",
                most.requests, limit.requests, limit.hits, most.hits
            ),
        ),
        Bottleneck::MaxRate => (
            format!(
                "MATOMO_MAX_RATE is the limit, at {rate} hits/s: more replicas or a higher value \
                 would help, as far as Matomo stands it."
            ),
            format!(
                "MATOMO_MAX_RATE est la limite, à {rate} hits/s : plus de réplicas ou une valeur \
                 plus haute aideraient, si Matomo le supporte."
            ),
        ),
        Bottleneck::Broker => (
            format!(
                "RabbitMQ is the limit: it gives {rate} hits/s, and Matomo would take more. A \
                 faster disk for RabbitMQ or a larger QUEUE_PREFETCH would help."
            ),
            format!(
                "RabbitMQ est la limite : il donne {rate} hits/s, et Matomo en prendrait plus. Un \
                 disque plus rapide pour RabbitMQ ou un QUEUE_PREFETCH plus grand aiderait."
            ),
        ),
        Bottleneck::Shards => (
            "The hits that wait are in shards that other workers read: more QUEUE_SHARDS would \
             help, and more replicas would not."
                .to_owned(),
            "Les hits en attente sont dans des files que d'autres agents lisent : augmenter \
             QUEUE_SHARDS aiderait, pas plus de réplicas."
                .to_owned(),
        ),
        Bottleneck::Settings => (
            format!(
                "MATOMO_CONCURRENCY is the limit, at {rate} hits/s: all {} requests that it allows \
                 are under way, and Matomo answers quickly. More replicas, as many as QUEUE_SHARDS \
                 at most, or a higher value would help.",
                most.requests
            ),
            format!(
                "MATOMO_CONCURRENCY est la limite, à {rate} hits/s : les {} requêtes permises sont \
                 en cours, et Matomo répond vite. Plus de réplicas, au plus QUEUE_SHARDS, ou une \
                 valeur plus haute aideraient.",
                most.requests
            ),
        ),
    };
    Some(spaced(language.of(&english, &french), language))
}

/// Writes a rate, with a decimal where it is low.
fn rate(hits_per_second: f64, language: Language) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of hits")]
    let whole = hits_per_second.round() as u64;
    if whole >= 10 {
        return number(whole, language);
    }
    let text = format!("{hits_per_second:.1}");
    if language == Language::French { text.replace('.', ",") } else { text }
}

#[cfg(test)]
mod tests;
