//! `dnma-relay dead`: what failed, why, whose, and what to do about it. The queues *parked* and
//! *rejected* are the only store.

use std::process::ExitCode;

use clap::Subcommand;

mod choice;
mod digest;
mod export;
mod group;
mod list;
mod purge;
mod reading;
mod receipt;
mod replay;
mod show;

/// The commands for dead hits.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List dead hits, one a line
    ///
    /// Nothing is taken: the hits are back in their queue, in their order, when this ends; if it is
    /// killed they are back too, though maybe in another order. Nobody else can look until it
    /// ends, so mind a pager. Visitors are not shown unless --reveal is given.
    ///
    /// Example: dnma-relay dead list --queue rejected --since 2h --exploitant ALPHA
    List(list::DeadListOptions),
    /// Count dead hits by reason, field, value, or anything else
    ///
    /// A rejected hit counts for each rule that rejected it. Beside a value that is in no list
    /// stands the nearest legal one.
    ///
    /// Example: dnma-relay dead group --by exploitant,reason
    Group(group::DeadGroupOptions),
    /// Show dead hits whole: why they are dead, what they say, and what would become of them now
    ///
    /// Example: dnma-relay dead show 3f2a91c07b5d --lang fr
    Show(show::DeadShowOptions),
    /// Write dead hits to a file: NDJSON with body and headers
    ///
    /// The queues stay as they are. A name that ends in .gz is packed. The file holds whole hits,
    /// visitors included, and can be read by its owner alone; `validate` and `publish` read the
    /// bodies back. Exit code 1, and no file, if nothing was chosen.
    ///
    /// Example: dnma-relay dead export --queue parked parked.ndjson.gz
    Export(export::DeadExportOptions),
    /// Send dead hits again, through the main exchange
    ///
    /// Each is published, confirmed by the broker, and only then taken out of its queue. Hits that
    /// would be rejected or parked again, by the plan in force here, stay where they are
    /// (--unchecked sends them too). Those that would pass Matomo's age limit first go
    /// first; while more than two seconds' worth of hits wait in the shards, the replay waits.
    /// Ctrl-C stops it in good order. A receipt says what was done, without personal data. Exit
    /// code 1 if nothing was chosen, or something chosen was not sent.
    ///
    /// --fix changes hits on the way, may be given several times, and knows: rename:FIELD:OLD=NEW,
    /// upper:FIELD, trim:FIELD, default:exploitant=VALUE, default:plateforme=VALUE, seconds
    /// (cdt from milliseconds), utc:ZONE (cdt from the local time of a zone; a UNIX time only
    /// if it lies after the hit was first seen). Never the visitor. A hit with an array, an object
    /// or a boolean in it is not changed.
    ///
    /// Example: dnma-relay dead replay --reason not-in-list --field dimension8 --fix
    /// rename:dimension8:CANTINE=SERVICE_COLLECTIVITE --dry-run
    Replay(replay::DeadReplayOptions),
    /// Delete dead hits for good
    ///
    /// Only with filters or --all. Asks for the number of hits to be typed, unless --yes is given,
    /// and leaves a receipt. Exit code 1 if nothing was chosen.
    ///
    /// Example: dnma-relay dead purge --queue rejected --until 30days
    Purge(purge::DeadPurgeOptions),
}

/// Runs a command.
///
/// # Errors
/// Fails for a configuration mistake, a broker that goes away, and an output that cannot be written
/// to.
pub async fn run(command: &DeadCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeadCommand::List(options) => list::run(options).await,
        DeadCommand::Group(options) => group::run(options).await,
        DeadCommand::Show(options) => show::run(options).await,
        DeadCommand::Export(options) => export::run(options).await,
        DeadCommand::Replay(options) => replay::run(options).await,
        DeadCommand::Purge(options) => purge::run(options).await,
    }
}
