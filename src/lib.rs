//! dnma-relay carries the page views (*hits*) of French school portals (ENT) from RabbitMQ to the
//! ministry's Matomo (DNMA), and loses none.
//!
//! This page is for those who change the program. How to run it is in `README.md`, how to work on
//! it in `CONTRIBUTING.md`, and why it is built this way in `docs/decisions/`.
//!
//! # Terms
//!
//! - A *hit* is one page view, as an ENT publishes it in one AMQP message. Its *visitor* is its
//!   `uid`.
//! - A *shard* is one of the queues behind the main exchange. All hits of a visitor go to the same
//!   shard, and a shard has one worker that reads it.
//! - A *lane* is a sequence of requests within a worker. A lane has one request under way at a
//!   time, and all hits of a visitor go through the same lane.
//! - The *fate* of a hit is a [`Settlement`](domain::settle::Settlement): delivered, sent to a
//!   retry queue, parked, rejected, or released to its shard. Every hit that a worker takes has
//!   exactly one.
//!
//! # The path of a hit
//!
//! An ENT publishes a message to the main exchange with its visitor as the routing key, and the
//! broker puts it into the shard of that visitor ([`service::amqp::topology`]). From there a hit
//! goes down through the files of [`service::worker`], and enters none of them twice:
//!
//! 1. [`assign`](service::worker::assign) decides which shards this worker reads, and
//!    `worker/round.rs` subscribes to them with a bounded prefetch.
//! 2. `worker/feed.rs` takes the messages of one shard, each as a
//!    [`Delivery`](service::worker::delivery::Delivery), which holds what the headers say of its
//!    earlier attempts ([`domain::envelope`]).
//! 3. [`intake`](service::worker::intake) reads the bytes ([`domain::hit`]), checks the hit against
//!    the plan in force ([`domain::validate`], [`service::rules`]), finds the account that it
//!    counts for ([`service::books`]), encodes it ([`domain::request`]), and puts it into the lane
//!    of its visitor.
//! 4. [`dispatch`](service::worker::dispatch) forms requests of what waits in a lane, as
//!    [`domain::dispatch`] says: which hits travel together, which alone, and which with the token.
//! 5. [`gate`](service::worker::gate) gives a permit to send when the breaker
//!    ([`domain::breaker`]), the token policy ([`domain::dispatch::token`]), the limiter
//!    ([`domain::limiter`]) and the rate limit allow it, and says how many hits at most.
//! 6. [`matomo`](service::worker::matomo) sends the request and hands back what came, be it a
//!    timeout. [`domain::answer`] interprets it, and [`domain::settle`] decides the fate of each
//!    hit.
//! 7. [`settle`](service::worker::settle) carries the fates out. A hit that was not delivered goes
//!    to `worker/moves.rs`, which publishes it to the queue where it waits or stays, with its
//!    history in the headers, and awaits the confirm; only then is the original acknowledged.
//!    [`acks`](service::worker::acks) acknowledges together where the order of the shard allows
//!    it, and [`stored`](service::worker::stored) knows, of hits that come back, those that Matomo
//!    has stored and whose ack was lost with the connection.
//!
//! # Who may use whom
//!
//! `main → cli → service → domain`, never back, and within `service::worker` downwards.
//!
//! - [`domain`] decides. It knows no socket, clock, environment or log: `now` is an argument.
//! - [`service`] acts, and decides nothing about a hit. `amqp` knows bytes, channels and queues,
//!   and no hit; only there lapin is known. reqwest is used in `worker::matomo` and
//!   `cli::workers`, axum and hyper in `ops`.
//! - [`cli`] holds the commands, and, with `main.rs`, is the only place that knows clap.
//!
//! Without the feature `service` only [`domain`] is left, and `cargo check --lib
//! --no-default-features` proves the rule. An ENT can use that library to check its own hits: see
//! `examples/check_hits.rs`.
//!
//! # Where to change what
//!
//! `CONTRIBUTING.md` has step-by-step recipes for those in **bold**.
//!
//! | to change… | look in |
//! |---|---|
//! | **a service, profile, limit or text of the plan** | `domain/plan/rfti-2.01.toml` |
//! | **a kind of rule** | `domain/rule.rs`, `domain/validate/` |
//! | what a field means to the code | `domain/plan/role.rs` |
//! | **a reason of failure**, or what an answer of Matomo means | `domain/answer.rs` |
//! | what becomes of a hit then | `domain/settle.rs` |
//! | when sending stops and starts again | `domain/breaker.rs`, `service/worker/gate.rs` |
//! | which shards a worker gives up to others | `domain/sharing.rs`, `service/worker/share.rs` |
//! | how much is sent at a time | `domain/limiter.rs`, `service/worker/gate.rs` |
//! | how requests are formed | `domain/dispatch.rs`, `service/worker/dispatch.rs` |
//! | the relay's headers | `domain/envelope.rs` |
//! | reference lists and tenants | `domain/plan/list.rs`, `domain/tenant.rs`, `service/rules.rs` |
//! | **a setting** | `service/config/table.rs`, `service/config/settings.rs` |
//! | **a metric** | `service/telemetry.rs`, `service/telemetry/record.rs` |
//! | a queue or its arguments | `service/amqp/topology.rs` |
//! | how a session with RabbitMQ is built and lost | `service/amqp/session.rs` |
//! | what `check --connect` asks | `service/examine/` |
//! | what the daily balance counts and compares | `domain/books.rs`, `service/books.rs` |
//! | how dead hits are chosen, corrected and judged | `domain/dead.rs`, `domain/dead/` |
//! | how dead hits are read, and sent again | `service/amqp/browser.rs`, `cli/dead/replay.rs` |
//! | what may be shown of a hit, and how it is printed | `domain/shown.rs`, `domain/printable.rs` |
//! | who may ask for a page, and for how long | `service/ops/http/` |
//! | what the status page and `top` know | `domain/status.rs`, `service/ops/status.rs` |
//! | how they say it | `domain/status/words.rs`, `templates/`, `cli/top/screen.rs` |
//! | **a command** | `cli.rs`, `cli/` |
//! | a form of file that `validate` and `publish` read | `cli/input/` |
//! | how a command asks running workers | `cli/workers.rs` |
//! | **what the tests break on purpose** | `tests/it/`, `docs/faults.md` |

#[cfg(feature = "service")]
pub mod cli;
pub mod domain;
#[cfg(feature = "service")]
pub mod service;
