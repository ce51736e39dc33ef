//! dnma-relay carries the page views (*hits*) of French school portals (ENT) from RabbitMQ to the
//! ministry's Matomo (DNMA), and loses none.
//!
//! # The path of a hit
//!
//! 1. An ENT publishes a message to the main exchange, with its visitor (`uid`) as the routing key.
//!    One visitor always lands in the same shard ([`service::topology`]).
//! 2. The broker gives each shard to one worker at a time; the worker takes a bounded number of
//!    hits ([`service::broker`]), and each becomes a [`Held`](service::settler::Held).
//! 3. [`service::intake`] reads the bytes ([`domain::hit`]), checks the hit against the tagging
//!    plan ([`domain::validate`], [`domain::plan`], [`domain::cdt`], [`domain::tenant`],
//!    [`domain::visits`]) as [`service::rules`] has it, finds out for whose account it counts
//!    ([`service::books`]), and encodes it ([`domain::request`]); [`service::relay`] takes it from
//!    the shard to the lane.
//! 4. The hit waits in the lane of its visitor. A lane has one request under way at a time, so a
//!    visitor has.
//! 5. [`service::gate`] lets the lane send when the breaker ([`domain::breaker`]) and the rate
//!    limit agree, and [`service::matomo`] sends.
//! 6. [`domain::answer`] reads what came back, and [`domain::settle`] decides the fate of each hit:
//!    a [`Settlement`](domain::settle::Settlement).
//! 7. [`service::settler`] carries it out: ack what is delivered, together where order allows;
//!    publish what is not to the queue where it waits or stays, with its past in the headers
//!    ([`domain::envelope`]), await the confirm, then ack.
//!
//! # Who may use whom
//!
//! `main → cli → service → domain`, never back. The domain decides: it knows no socket, clock,
//! environment or log. The service does, and decides nothing about a hit. Without the feature
//! `service` only the domain is left, and `cargo check --lib --no-default-features` proves the
//! rule.
//!
//! | to change… | look in |
//! |---|---|
//! | a service, profile, limit or text of the plan | `domain/plan/rfti-2.01.toml` |
//! | a kind of rule | `domain/rule.rs`, `domain/validate.rs` |
//! | what an answer of Matomo means | `domain/answer.rs` |
//! | what becomes of a hit then | `domain/settle.rs` |
//! | reference lists, tenants, and how their files are followed | `domain/plan/list.rs`, `domain/tenant.rs`, `service/rules.rs` |
//! | what `check --connect` asks | `service/examine/` |
//! | a form of file that `validate` and `publish` read | `cli/input/` |
//! | a setting | `service/config.rs` and `service/config/read.rs` |
//! | a queue or its arguments | `service/topology.rs` |
//! | a metric | `service/telemetry.rs` |
//! | what the daily balance counts and compares | `domain/books.rs`, `service/books.rs` |
//! | how a command asks running workers | `cli/workers.rs` |
//! | what is told of dead hits, how they are chosen, mended and judged | `domain/dead.rs` and `domain/dead/` |
//! | how dead hits are read without being taken, and sent again | `service/broker/dead.rs`, `cli/dead/replay.rs` |
//! | what the status page and `top` know | `domain/status.rs`, `service/status.rs` |
//! | how they say it | `domain/status/words.rs`, `templates/status.html`, `cli/top/screen.rs` |
//! | a command | `cli/` |

#[cfg(feature = "service")]
pub mod cli;
pub mod domain;
#[cfg(feature = "service")]
pub mod service;
