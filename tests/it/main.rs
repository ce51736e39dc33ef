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
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use libtest_mimic::{Arguments, Failed, Trial};

mod alarm;
mod answers;
mod balance;
mod books;
mod broker_loss;
mod cable_to_broker;
mod cable_to_matomo;
mod cluster;
mod configuration;
mod crowd;
mod dead;
mod doubt;
mod drill;
mod encryption;
mod examine;
mod garbage;
mod histories;
mod hostile;
mod identical;
mod memory;
mod outage;
mod publishing;
mod refusals;
mod retries;
mod rights;
mod rules;
mod shards;
mod shutdown;
mod slow;
mod status;
mod support;
mod suspect;
mod tenants;
mod tokens;
mod topology;
mod unreadable;
mod vouched;

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

    /// A scene on a broker of its own, which can be put under pressure without disturbing others.
    pub(crate) async fn on_a_broker_of_its_own(name: &str) -> anyhow::Result<Self> {
        Self::new(Arc::new(Broker::start_own().await?), name).await
    }

    /// A worker of this scene, ready to work.
    pub(crate) async fn worker(&self, vars: &[(&str, &str)]) -> anyhow::Result<Worker> {
        let worker = self.start(vars).await?;
        worker.ready().await?;
        Ok(worker)
    }

    /// A worker of this scene, which may never be ready.
    pub(crate) async fn start(&self, vars: &[(&str, &str)]) -> anyhow::Result<Worker> {
        Worker::start(&self.vars(&self.matomo.url(), vars)).await
    }

    /// The variables by which a program finds this scene and that Matomo, with these on top.
    pub(crate) fn vars<'s>(
        &'s self,
        matomo: &'s str,
        more: &[(&'s str, &'s str)],
    ) -> Vec<(&'s str, &'s str)> {
        let mut all = vec![
            ("AMQP_URL", self.broker.url.as_str()),
            ("QUEUE_PREFIX", &self.prefix),
            ("MATOMO_URL", matomo),
        ];
        all.extend_from_slice(more);
        all
    }

    /// Declares the topology by letting a worker run for a moment.
    pub(crate) async fn declare(&self, vars: &[(&str, &str)]) -> anyhow::Result<()> {
        self.worker(vars).await?.stop().await
    }
}

/// How long each test took.
static TOOK: Mutex<Vec<(Duration, &str)>> = Mutex::new(Vec::new());

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
        let began = Instant::now();
        let outcome = runtime
            .block_on(async {
                // The whole of it: two tests that run at once may end alike.
                let name = name.replace("::", ".");
                let cleaner = Scene::new(broker.clone(), &name).await?;
                let scene = Scene::new(broker, &name).await?;
                let outcome = body(scene).await;
                cleaner.queues.delete_all().await.context("cleaning up")?;
                outcome
            })
            .map_err(|error| Failed::from(format!("{error:?}")));
        TOOK.lock().expect("no test panics here").push((began.elapsed(), name));
        outcome
    })
}

/// The tests that took longest: the next to make shorter, or to begin earlier.
fn longest() -> String {
    let mut took = TOOK.lock().expect("no test panics here");
    took.sort_unstable_by(|a, b| b.cmp(a));
    let line = |(time, name): &(Duration, &str)| format!("{:>5.0} s  {name}", time.as_secs_f64());
    let lines: Vec<String> = took.iter().take(20).map(line).collect();
    format!("the longest tests:\n{}", lines.join("\n"))
}

/// Tests under the names of their functions.
macro_rules! tests {
    ($broker:expr, $runtime:expr; $($module:ident::$test:ident),+ $(,)?) => {
        vec![$({
            let name = concat!(stringify!($module), "::", stringify!($test));
            test(name, $broker, $runtime, $module::$test)
        }),+]
    };
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
    // What is measured is measured alone: one after the other too.
    let measured = tests![b, h;
        dead::fifty_thousand,
        crowd::slow_clients_keep_no_probe_waiting,
        crowd::few_descriptors_are_enough_for_hits,
    ];
    let tests = tests![b, h;
        // The longest first: at the end none runs alone.
        cluster::one_node_of_three_may_fail,
        histories::random_faults_lose_nothing,
        memory::a_worker_stays_small,
        answers::every_answer_has_its_fate,
        outage::thirty_seconds_cost_only_what_was_in_flight,
        slow::the_full_rate_at_20_ms_a_hit,
        slow::the_full_rate_at_100_ms_a_hit,
        slow::one_whose_full_request_outlasts_the_timeout,
        slow::one_that_refuses_what_it_has_no_room_for,
        slow::one_hit_a_request,
        slow::full_requests_while_a_backlog_waits,
        slow::one_that_joins_three_gets_its_share,
        slow::what_limits_the_rate_is_said,
        doubt::a_stall_repeats_only_what_was_under_way,
        doubt::counts_that_never_add_up_are_an_outage,
        shards::replicas_come_and_go,
        shards::a_frozen_replica_is_replaced,
        shards::a_shard_in_use_is_not_deleted,
        books::each_hit_once_and_in_order,
        books::a_killed_worker_loses_nothing,
        balance::every_account_is_what_really_happened,
        balance::a_killed_worker_is_missed,
        suspect::it_does_not_take_its_neighbours_along,
        answers::one_bad_hit_fails_alone,
        answers::old_hits_need_a_token,
        answers::another_age_limit_is_kept,
        answers::a_bad_token_rests,
        answers::the_worker_is_nobodys_browser,
        answers::the_rate_is_kept,
        refusals::a_full_rejected_queue_holds_up_nothing_else,
        refusals::a_full_retry_queue_holds_up_nothing_else,
        refusals::a_limit_that_is_taken_away_is_noticed,
        refusals::an_unroutable_hit_is_kept,
        alarm::delivery_goes_on_and_publishes_wait,
        retries::the_schedule_is_kept_and_then_parks,
        retries::ten_thousand_come_back,
        retries::the_default_delays_are_the_rftis,
        outage::a_long_one_gives_hits_back,
        outage::retry_after_is_honoured,
        garbage::bad_input_never_stops_the_line,
        garbage::hostile_headers_cost_no_session,
        hostile::a_value_stays_a_value,
        hostile::answers_are_read_within_bounds,
        hostile::a_proxy_sees_nothing_of_a_matomo_on_this_machine,
        crowd::an_idle_connection_is_closed,
        crowd::a_page_is_shown_under_our_own_name_only,
        rights::read_and_write_are_enough,
        rights::what_the_broker_does_not_tell_is_said,
        encryption::bad_certificates_are_refused,
        encryption::flipped_bits_are_noticed,
        shards::a_worker_joins_and_leaves,
        shards::fewer_shards_lose_nothing,
        shards::workers_that_cannot_be_counted_work_on,
        shutdown::sigterm_under_load,
        shutdown::a_silent_matomo_holds_nobody_up,
        shutdown::a_drain_that_takes_too_long_says_so,
        shutdown::a_second_signal_stops_at_once,
        shutdown::a_refusal_ends_with_the_worker,
        shutdown::a_worker_that_subscribes_can_be_stopped,
        shutdown::a_worker_that_asks_for_extra_shards_can_be_stopped,
        tokens::a_good_token_goes_in_several_requests_at_once,
        tokens::old_hits_wait_for_no_token_at_the_end,
        tokens::a_refusal_rests_the_token_for_its_site_only,
        tokens::a_locked_out_address_delivers_what_needs_no_token,
        tokens::where_no_bulk_goes_without_a_token_each_has_it,
        rules::a_rejected_hit_names_the_rules_that_rejected_it,
        broker_loss::a_restart_under_load,
        broker_loss::a_consumer_timeout_loses_nothing,
        cable_to_broker::cut,
        cable_to_broker::frozen,
        cable_to_broker::reset,
        cable_to_broker::slow,
        cable_to_broker::thin,
        cable_to_matomo::cut,
        cable_to_matomo::frozen,
        cable_to_matomo::reset_after_the_request,
        cable_to_matomo::corrupt_answers,
        cable_to_matomo::slow,
        cable_to_matomo::thin,
        identical::a_copy_that_was_held_is_sent_though_the_first_was_stored,
        identical::none_is_lost_however_often_the_line_is_cut,
        vouched::a_senders_history_is_not_believed,
        vouched::a_senders_count_of_returns_is_not_believed,
        vouched::the_broker_names_who_signed_with_another_name,
        dead::looking_takes_nothing,
        dead::the_transcript_is_true,
        dead::what_an_ent_adds_is_not_told,
        dead::nothing_of_a_hit_gets_out_of_its_place,
        dead::one_looks_at_a_time,
        dead::a_low_limit_is_pointed_out,
        dead::a_replay_starts_anew_and_says_so,
        dead::a_replay_that_is_stopped_loses_nothing,
        dead::a_replay_notices_that_the_line_is_lost,
        dead::what_is_exported_is_read_back,
        dead::a_purge_asks_first,
        dead::what_is_old_enough_is_purged,
        dead::what_the_broker_parks_says_why,
        configuration::every_mistake_in_one_message,
        configuration::no_secret_in_any_output,
        rules::lists_are_read_again_and_a_broken_one_is_refused,
        rules::a_pipe_in_place_of_a_list_holds_up_no_end,
        rules::a_visit_dimension_that_changes_is_counted,
        rules::another_routing_key_than_the_uid_is_counted,
        tenants::an_ent_cannot_write_into_anothers_figures,
        status::the_page_says_how_it_goes,
        status::without_a_broker_there_is_a_page_too,
        status::top_sees_every_worker,
        topology::what_is_there_is_verified,
        topology::other_arguments_are_named,
        topology::without_the_plugin_one_shard_works,
        topology::what_is_deleted_is_declared_again,
        unreadable::one_message_harms_only_itself,
        unreadable::our_headers_fit_into_small_frames,
        unreadable::large_bodies_do_not_fill_the_memory,
        unreadable::a_broker_refuses_what_is_far_too_large,
        examine::what_would_keep_a_relay_from_working_is_named,
        examine::what_stands_in_for_matomo_is_recognised,
        publishing::every_line_is_confirmed,
        encryption::mutual_tls_with_a_private_ca,
    ];
    // Tests that are asked for by name are no table.
    let is_whole = arguments.filter.is_none();
    let alone = Arguments { test_threads: Some(1), ..arguments.clone() };
    let alone = libtest_mimic::run(&alone, measured);
    let mut conclusion = libtest_mimic::run(&arguments, tests);
    conclusion.num_failed += alone.num_failed;
    println!("{}", longest());
    if is_whole {
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
