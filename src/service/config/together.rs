//! Settings that several variables make together, and mistakes that only show when these are seen
//! beside each other.

use std::path::PathBuf;
use std::time::Duration;

use super::address::is_loopback;
use super::draft::{Draft, Pieces};
use super::settings::SettingsDraft;
use super::variable::Part;
use crate::service::rules::source::Source;

/// How long prefetched hits wait in memory for Matomo. A short outage costs no redelivery, and a
/// long one does not run into the broker's consumer timeout.
const HOLD: Duration = Duration::from_secs(300);

type Mistake = (&'static str, String);

/// Checks and completes the parts that were read; gives the mistakes with their variables.
pub(super) fn check_together(draft: &mut Draft, parts: &[Part]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let Draft { settings, pieces } = draft;
    if parts.contains(&Part::Broker) {
        mistakes.extend(broker_plaintext(settings));
        match client_identity(pieces) {
            Ok(identity) => settings.broker.client_identity = Some(identity),
            Err(mistake) => mistakes.push(mistake),
        }
        match prefetch(settings, pieces) {
            Ok(prefetch) => settings.broker.prefetch = Some(prefetch),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if parts.contains(&Part::Worker) {
        mistakes.extend(matomo_plaintext(settings));
        settings.matomo.hold = Some(HOLD);
    }
    if parts.contains(&Part::Judgement) {
        let (source, wrong) = rules(settings, pieces);
        settings.rules = Some(source);
        mistakes.extend(wrong);
    }
    mistakes
}

/// Each address of a broker off this machine that does not encrypt, unless that is allowed. The
/// host is not shown: with an @ in the password, it is a piece of that.
fn broker_plaintext(settings: &SettingsDraft) -> Vec<Mistake> {
    if settings.allow_plaintext == Some(true) {
        return Vec::new();
    }
    let urls = settings.broker.urls.iter().flatten();
    urls.filter(|url| url.leaves_in_plaintext())
        .map(|_| {
            let mistake = "the broker is not on this machine, so the connection must be \
                           encrypted: use amqps://, or set ALLOW_PLAINTEXT=true (an @, : or / in \
                           the password must be percent-encoded)";
            ("AMQP_URL", mistake.to_owned())
        })
        .collect()
}

/// The address of a Matomo off this machine that does not encrypt, unless that is allowed.
fn matomo_plaintext(settings: &SettingsDraft) -> Option<Mistake> {
    let url = settings.matomo.url.as_ref()?;
    if url.scheme() != "http" || is_loopback(url) || settings.allow_plaintext == Some(true) {
        return None;
    }
    let host = url.host_str().unwrap_or_default();
    let mistake = format!(
        "{host} is not this machine, so the connection must be encrypted (RFTI §3.1.2): use \
         https://, or set ALLOW_PLAINTEXT=true"
    );
    Some(("MATOMO_URL", mistake))
}

/// The client's certificate with its key: both or neither.
fn client_identity(pieces: &Pieces) -> Result<Option<(PathBuf, PathBuf)>, Mistake> {
    match (pieces.client_certificate.clone(), pieces.client_key.clone()) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err((
            "AMQP_CLIENT_KEY_FILE",
            "missing: AMQP_CLIENT_CERT_FILE is set and needs its key".to_owned(),
        )),
        (None, Some(_)) => Err((
            "AMQP_CLIENT_CERT_FILE",
            "missing: AMQP_CLIENT_KEY_FILE is set and needs its certificate".to_owned(),
        )),
    }
}

/// The prefetch, at least one for each shard. By default every lane has a request's hits under way
/// and those of three more waiting: hits fall to the lanes by chance and come in batches, and with
/// one more a request of 50 had 37 in the mean while a backlog waited, with three 48.
fn prefetch(settings: &SettingsDraft, pieces: &Pieces) -> Result<u16, Mistake> {
    // A mistake in one of these is reported as its own.
    let shards = settings.broker.shards.unwrap_or(1);
    let of_one_round = u32::from(settings.matomo.concurrency.unwrap_or(1))
        * u32::from(settings.matomo.bulk_size.unwrap_or(1));
    let default = u16::try_from(of_one_round.saturating_mul(4)).unwrap_or(u16::MAX).max(shards);
    let prefetch = pieces.prefetch.unwrap_or(default);
    if prefetch < shards {
        let mistake = format!(
            "{prefetch} is less than QUEUE_SHARDS ({shards}): each shard needs at least one"
        );
        return Err(("QUEUE_PREFETCH", mistake));
    }
    Ok(prefetch)
}

/// Where reference lists and tenants are. The files are read here once, so that a broken one is a
/// mistake like any other.
fn rules(settings: &SettingsDraft, pieces: &Pieces) -> (Source, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let urls = settings.broker.urls.as_deref().unwrap_or_default();
    let source = Source {
        lists: pieces.lists.clone(),
        tenants: pieces.tenants.clone(),
        own_users: urls.iter().map(|url| url.user().to_owned()).collect(),
    };
    let plan = source.plan();
    let lists = source.lists.clone().filter(|_| plan.is_ok());
    if let Err(error) = plan {
        mistakes.push(("REFERENCE_LISTS", error.to_string()));
    }
    if source.tenants.is_some() && urls.iter().any(|url| url.hides_its_user()) {
        let mistake = "needs a user name in AMQP_URL: with auth_mechanism=external nobody but the \
                       broker knows the relay's own";
        mistakes.push(("TENANTS", mistake.to_owned()));
    }
    // With the built-in plan, should the lists be broken: each has its own mistakes.
    if let Err(error) = (Source { lists, ..source.clone() }).read() {
        mistakes.push(("TENANTS", error.to_string()));
    }
    (source, mistakes)
}
