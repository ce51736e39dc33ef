//! `dnma-relay books`: the daily balance over all workers, held against the broker's queues.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::workers::{self, Workers};
use crate::domain::books::{BalanceRecord, Books, Gap, QueueReadings, Queues, Statement};
use crate::service::amqp::BrokerError;
use crate::service::amqp::depths::QueueDepths;
use crate::service::config::BrokerSettings;

mod print;

/// How many readings a difference has to last for. Counters and queues cannot be read in the same
/// instant, so a single reading may differ though the books close.
const MAX_READINGS: u32 = 5;

/// The pause between two readings.
const READING_PAUSE: Duration = Duration::from_millis(300);

/// How many bytes former books may have: those of a hundred workers with every account full.
const MAX_FORMER_BYTES: u64 = 200 * 1024 * 1024;

/// The command line options of `books`.
#[derive(Debug, Args)]
pub struct BooksOptions {
    #[command(flatten)]
    workers: Workers,
    /// Only what happened since these former books, which --json wrote; - for standard input
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// One line an account, for a spreadsheet; what does not add up goes to standard error
    #[arg(long)]
    csv: bool,
}

/// Asks the workers and the broker, adds up what they reply, and prints the balance.
///
/// # Errors
/// Fails for a configuration mistake, and for an output that cannot be written to.
pub async fn run(options: &BooksOptions) -> anyhow::Result<ExitCode> {
    let former = match options.since.as_deref().map(read_former).transpose() {
        Ok(former) => former,
        Err(reason) => {
            eprintln!("dnma-relay: --since: {reason}");
            return Ok(ExitCode::from(2));
        }
    };
    let broker = if is_set("AMQP_URL") || is_set("AMQP_URL_FILE") {
        Some(BrokerSettings::from_env()?)
    } else {
        None
    };
    let depths = match &broker {
        Some(broker) => Some(QueueDepths::open(broker, "dnma-relay books").await),
        None => None,
    };
    let mut readings = 1;
    let (record, statement) = loop {
        let (record, statement) =
            read_all(&options.workers, depths.as_ref(), former.as_ref()).await?;
        // A gap that does not pass by itself is there at the next reading too.
        if readings == MAX_READINGS
            || !statement.gaps.iter().all(Gap::may_pass)
            || statement.gaps.is_empty()
        {
            break (record, statement);
        }
        readings += 1;
        tokio::time::sleep(READING_PAUSE).await;
    };
    if let Some(Ok(depths)) = depths {
        depths.close().await;
    }
    if options.json {
        print::json(&record, &statement)?;
    } else if options.csv {
        print::csv(&statement)?;
    } else {
        print::table(&record, &statement, broker.is_some())?;
    }
    Ok(if statement.gaps.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the queues, asks all workers, and reads the queues again.
async fn read_all(
    workers: &Workers,
    depths: Option<&Result<QueueDepths, BrokerError>>,
    former: Option<&BalanceRecord>,
) -> anyhow::Result<(BalanceRecord, Statement)> {
    let (mut books, mut gaps) = (Vec::new(), Vec::new());
    let before = read_queues(depths, &mut gaps).await;
    for workers::WorkerReply { address, body } in workers::ask_all(workers, "books.json").await? {
        let parse = |body: Vec<u8>| {
            serde_json::from_slice::<Books>(&body)
                .map_err(|_| "its answer is no books of a dnma-relay".to_owned())
        };
        match body.and_then(parse) {
            Ok(reply) => books.push(reply),
            Err(reason) => gaps.push(Gap::Silent { address, reason }),
        }
    }
    let after = if before.is_some() { read_queues(depths, &mut gaps).await } else { None };
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    let record = BalanceRecord::new(
        now,
        books,
        before.zip(after).map(|(before, after)| QueueReadings { before, after }),
    );
    let mut statement = record.balance(former);
    statement.gaps.splice(0..0, gaps);
    Ok((record, statement))
}

/// Reads the depths of the queues; a broker that does not answer is a gap. Returns `None` if
/// `AMQP_URL` is not set, or if the broker did not answer.
async fn read_queues(
    depths: Option<&Result<QueueDepths, BrokerError>>,
    gaps: &mut Vec<Gap>,
) -> Option<Queues> {
    let reason = match depths? {
        Ok(depths) => match depths.totals().await {
            Ok(queues) => return Some(queues),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    gaps.push(Gap::NoBroker { reason });
    None
}

/// Reads former books, which `--json` wrote.
fn read_former(path: &Path) -> Result<BalanceRecord, String> {
    let reader: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(
            std::fs::File::open(path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?,
        )
    };
    let record = serde_json::from_reader(std::io::BufReader::new(reader.take(MAX_FORMER_BYTES)));
    record.map_err(|error| {
        format!(
            "{} is not what `dnma-relay books --json` wrote (line {})",
            path.display(),
            error.line()
        )
    })
}

/// Whether a variable is set. An empty value means "not set", as for every setting.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.to_string_lossy().trim().is_empty())
}
