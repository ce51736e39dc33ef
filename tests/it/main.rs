//! The promises of the documents, one file each, on a real RabbitMQ with the real program as a
//! child process.
//!
//! `cargo test --test it -- NAME` runs the tests whose name holds NAME. The first line says which
//! broker is tested.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that fails may panic"
)]

use std::future::Future;
use std::sync::Arc;

use anyhow::Context;
use libtest_mimic::{Arguments, Failed, Trial};

mod answers;
mod balance;
mod books;
mod broker_loss;
mod cable_to_broker;
mod cable_to_matomo;
mod cluster;
mod configuration;
mod dead;
mod drill;
mod encryption;
mod examine;
mod garbage;
mod histories;
mod hostile;
mod memory;
mod outage;
mod publishing;
mod retries;
mod rights;
mod rules;
mod shards;
mod shutdown;
mod status;
mod support;
mod tenants;
mod topology;

use support::matomo::Matomo;
use support::queues::Queues;
use support::rabbitmq::Broker;
use support::worker::Worker;

/// What a test plays in: the shared broker under a prefix of its own, and a Matomo of its own.
pub(crate) struct Scene {
    pub(crate) broker: Arc<Broker>,
    pub(crate) queues: Queues,
    pub(crate) matomo: Matomo,
    pub(crate) prefix: String,
}

impl Scene {
    async fn new(broker: Arc<Broker>, name: &str) -> anyhow::Result<Self> {
        // Pictures for the README show the names that people will see.
        let in_pictures = std::env::var_os("UPDATE").map(|_| "dnma.hits".to_owned());
        let prefix = in_pictures.unwrap_or_else(|| format!("test.{name}.{}", std::process::id()));
        let queues = Queues::connect(&broker.url, &prefix).await?;
        Ok(Self { queues, matomo: Matomo::start().await?, prefix, broker })
    }

    /// A worker of this scene, ready to work.
    pub(crate) async fn worker(&self, vars: &[(&str, &str)]) -> anyhow::Result<Worker> {
        let url = self.matomo.url();
        let mut all = vec![
            ("AMQP_URL", self.broker.url.as_str()),
            ("QUEUE_PREFIX", &self.prefix),
            ("MATOMO_URL", &url),
        ];
        all.extend_from_slice(vars);
        let worker = Worker::start(&all).await?;
        worker.ready().await?;
        Ok(worker)
    }

    /// Declares the topology by letting a worker run for a moment.
    pub(crate) async fn declare(&self, vars: &[(&str, &str)]) -> anyhow::Result<()> {
        self.worker(vars).await?.stop().await
    }
}

/// A test in a scene.
fn test<F, T>(
    name: &'static str,
    broker: &Arc<Broker>,
    runtime: &tokio::runtime::Handle,
    body: T,
) -> Trial
where
    F: Future<Output = anyhow::Result<()>>,
    T: FnOnce(Scene) -> F + Send + 'static,
    T: for<'s> FnOnce(Scene) -> F,
{
    let (broker, runtime) = (broker.clone(), runtime.clone());
    Trial::test(name, move || {
        runtime
            .block_on(async {
                // The whole of it: two tests that run at once may end alike.
                let name = name.replace("::", ".");
                let cleaner = Scene::new(broker.clone(), &name).await?;
                let scene = Scene::new(broker, &name).await?;
                let outcome = body(scene).await;
                cleaner.queues.delete_all().await.context("cleaning up")?;
                outcome
            })
            .map_err(|error| Failed::from(format!("{error:?}")))
    })
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::from_args();
    let runtime = tokio::runtime::Runtime::new()?;
    let handle = runtime.handle().clone();
    if arguments.list {
        // Listing needs no broker.
        let names = Trial::test("it", || Ok(()));
        libtest_mimic::run(&arguments, vec![names]).exit();
    }
    let broker = Arc::new(runtime.block_on(Broker::start())?);
    println!("testing against {}", broker.describe());
    // Each test has processes of its own, and mostly waits; many more at once would only slow each
    // other down.
    arguments.test_threads.get_or_insert(3);
    let (b, h) = (&broker, &handle);
    // What is measured is measured alone.
    let measured = vec![test("dead::fifty_thousand", b, h, dead::fifty_thousand)];
    let tests = vec![
        // The longest first: at the end none runs alone.
        test("cluster::one_node_of_three_may_fail", b, h, cluster::one_node_of_three_may_fail),
        test("histories::random_faults_lose_nothing", b, h, histories::random_faults_lose_nothing),
        test("memory::a_worker_stays_small", b, h, memory::a_worker_stays_small),
        test("answers::every_answer_has_its_fate", b, h, answers::every_answer_has_its_fate),
        test(
            "outage::thirty_seconds_cost_only_what_was_in_flight",
            b,
            h,
            outage::thirty_seconds_cost_only_what_was_in_flight,
        ),
        test("shards::a_shard_in_use_is_not_deleted", b, h, shards::a_shard_in_use_is_not_deleted),
        test("books::each_hit_once_and_in_order", b, h, books::each_hit_once_and_in_order),
        test("books::a_killed_worker_loses_nothing", b, h, books::a_killed_worker_loses_nothing),
        test(
            "balance::every_account_is_what_really_happened",
            b,
            h,
            balance::every_account_is_what_really_happened,
        ),
        test("balance::a_killed_worker_is_missed", b, h, balance::a_killed_worker_is_missed),
        test("answers::one_bad_hit_fails_alone", b, h, answers::one_bad_hit_fails_alone),
        test("answers::old_hits_need_a_token", b, h, answers::old_hits_need_a_token),
        test("answers::a_bad_token_rests", b, h, answers::a_bad_token_rests),
        test(
            "answers::the_worker_is_nobodys_browser",
            b,
            h,
            answers::the_worker_is_nobodys_browser,
        ),
        test("answers::the_rate_is_kept", b, h, answers::the_rate_is_kept),
        test(
            "retries::the_schedule_is_kept_and_then_parks",
            b,
            h,
            retries::the_schedule_is_kept_and_then_parks,
        ),
        test(
            "retries::the_default_delays_are_the_rftis",
            b,
            h,
            retries::the_default_delays_are_the_rftis,
        ),
        test("outage::a_long_one_gives_hits_back", b, h, outage::a_long_one_gives_hits_back),
        test("outage::retry_after_is_honoured", b, h, outage::retry_after_is_honoured),
        test(
            "garbage::bad_input_never_stops_the_line",
            b,
            h,
            garbage::bad_input_never_stops_the_line,
        ),
        test(
            "garbage::hostile_headers_cost_no_session",
            b,
            h,
            garbage::hostile_headers_cost_no_session,
        ),
        test("hostile::a_value_stays_a_value", b, h, hostile::a_value_stays_a_value),
        test(
            "hostile::answers_are_read_within_bounds",
            b,
            h,
            hostile::answers_are_read_within_bounds,
        ),
        test("rights::read_and_write_are_enough", b, h, rights::read_and_write_are_enough),
        test(
            "encryption::bad_certificates_are_refused",
            b,
            h,
            encryption::bad_certificates_are_refused,
        ),
        test("encryption::flipped_bits_are_noticed", b, h, encryption::flipped_bits_are_noticed),
        test("shards::a_worker_joins_and_leaves", b, h, shards::a_worker_joins_and_leaves),
        test("shards::fewer_shards_lose_nothing", b, h, shards::fewer_shards_lose_nothing),
        test("shutdown::sigterm_under_load", b, h, shutdown::sigterm_under_load),
        test("broker_loss::a_restart_under_load", b, h, broker_loss::a_restart_under_load),
        test("cable_to_broker::cut", b, h, cable_to_broker::cut),
        test("cable_to_broker::frozen", b, h, cable_to_broker::frozen),
        test("cable_to_broker::reset", b, h, cable_to_broker::reset),
        test("cable_to_broker::slow", b, h, cable_to_broker::slow),
        test("cable_to_broker::thin", b, h, cable_to_broker::thin),
        test("cable_to_matomo::cut", b, h, cable_to_matomo::cut),
        test("cable_to_matomo::frozen", b, h, cable_to_matomo::frozen),
        test(
            "cable_to_matomo::reset_after_the_request",
            b,
            h,
            cable_to_matomo::reset_after_the_request,
        ),
        test("cable_to_matomo::corrupt_answers", b, h, cable_to_matomo::corrupt_answers),
        test("cable_to_matomo::slow", b, h, cable_to_matomo::slow),
        test("cable_to_matomo::thin", b, h, cable_to_matomo::thin),
        test("dead::looking_takes_nothing", b, h, dead::looking_takes_nothing),
        test("dead::the_transcript_is_true", b, h, dead::the_transcript_is_true),
        test("dead::what_an_ent_adds_is_not_told", b, h, dead::what_an_ent_adds_is_not_told),
        test("dead::one_looks_at_a_time", b, h, dead::one_looks_at_a_time),
        test("dead::a_low_limit_is_pointed_out", b, h, dead::a_low_limit_is_pointed_out),
        test(
            "dead::a_replay_starts_anew_and_says_so",
            b,
            h,
            dead::a_replay_starts_anew_and_says_so,
        ),
        test(
            "dead::a_replay_that_is_stopped_loses_nothing",
            b,
            h,
            dead::a_replay_that_is_stopped_loses_nothing,
        ),
        test(
            "dead::a_replay_notices_that_the_line_is_lost",
            b,
            h,
            dead::a_replay_notices_that_the_line_is_lost,
        ),
        test("dead::what_is_exported_is_read_back", b, h, dead::what_is_exported_is_read_back),
        test("dead::a_purge_asks_first", b, h, dead::a_purge_asks_first),
        test(
            "configuration::every_mistake_in_one_message",
            b,
            h,
            configuration::every_mistake_in_one_message,
        ),
        test(
            "configuration::no_secret_in_any_output",
            b,
            h,
            configuration::no_secret_in_any_output,
        ),
        test(
            "rules::lists_are_read_again_and_a_broken_one_is_refused",
            b,
            h,
            rules::lists_are_read_again_and_a_broken_one_is_refused,
        ),
        test(
            "rules::a_visit_dimension_that_changes_is_counted",
            b,
            h,
            rules::a_visit_dimension_that_changes_is_counted,
        ),
        test(
            "tenants::an_ent_cannot_write_into_anothers_figures",
            b,
            h,
            tenants::an_ent_cannot_write_into_anothers_figures,
        ),
        test("status::the_page_says_how_it_goes", b, h, status::the_page_says_how_it_goes),
        test(
            "status::without_a_broker_there_is_a_page_too",
            b,
            h,
            status::without_a_broker_there_is_a_page_too,
        ),
        test("status::top_sees_every_worker", b, h, status::top_sees_every_worker),
        test("topology::what_is_there_is_verified", b, h, topology::what_is_there_is_verified),
        test("topology::other_arguments_are_named", b, h, topology::other_arguments_are_named),
        test(
            "topology::without_the_plugin_one_shard_works",
            b,
            h,
            topology::without_the_plugin_one_shard_works,
        ),
        test(
            "examine::what_would_keep_a_relay_from_working_is_named",
            b,
            h,
            examine::what_would_keep_a_relay_from_working_is_named,
        ),
        test(
            "examine::what_stands_in_for_matomo_is_recognised",
            b,
            h,
            examine::what_stands_in_for_matomo_is_recognised,
        ),
        test("publishing::every_line_is_confirmed", b, h, publishing::every_line_is_confirmed),
        test(
            "encryption::mutual_tls_with_a_private_ca",
            b,
            h,
            encryption::mutual_tls_with_a_private_ca,
        ),
    ];
    // The table is of a whole run.
    let whole = arguments.filter.is_none() && arguments.skip.is_empty();
    let alone = libtest_mimic::run(&arguments, measured);
    let mut conclusion = libtest_mimic::run(&arguments, tests);
    conclusion.num_failed += alone.num_failed;
    if whole {
        println!("the table of faults: {}", support::report::write(&broker.version)?.display());
        let missing = support::report::missing_from(include_str!("../../docs/faults.md"));
        if !missing.is_empty() {
            println!("the table of docs/faults.md lacks these, or names other limits: {missing:?}");
            conclusion.num_failed += 1;
        }
    }
    // Dropped before the exit, so that a container or node of ours is gone; removing a container
    // takes the runtime.
    {
        let _context = handle.enter();
        drop(broker);
    }
    drop(runtime);
    conclusion.exit()
}
