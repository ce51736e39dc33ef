//! Puts the facts of a status into sentences, in two languages.

use super::{Forecast, RelayState, Status, pace, total};
use crate::domain::answer::Reason;
use crate::domain::plan::Plan;
use crate::domain::prose::{duration, number, share, spaced};
use crate::domain::rule::{Language, Rule};

/// Puts the state into a sentence.
pub(super) fn headline(status: &Status, language: Language) -> String {
    let t = |english: String, french: String| {
        if language == Language::English { english } else { spaced(&french, language) }
    };
    let long = |seconds: Option<u64>| duration(seconds.unwrap_or_default(), language);
    let waiting = number(status.waiting(), language);
    match status.state {
        RelayState::Starting => t(
            "Starting: there is no session with RabbitMQ yet".to_owned(),
            "Démarrage : pas encore de session avec RabbitMQ".to_owned(),
        ),
        RelayState::BrokerAway => {
            let away = long(status.broker.away_seconds);
            t(
                format!("No session with RabbitMQ for {away}: hits wait there, nothing is lost"),
                format!(
                    "Pas de session avec RabbitMQ depuis {away} : les hits y attendent, rien \
                     n'est perdu"
                ),
            )
        }
        RelayState::MatomoAway => {
            let away = long(status.matomo.away_seconds);
            match status.waiting() {
                0 => t(
                    format!("Matomo has been down for {away}; no hit waits"),
                    format!("Matomo est en panne depuis {away} ; aucun hit n'attend"),
                ),
                1 => t(
                    format!("Matomo has been down for {away}: 1 hit waits, nothing is lost"),
                    format!("Matomo est en panne depuis {away} : 1 hit attend, rien n'est perdu"),
                ),
                _ => t(
                    format!(
                        "Matomo has been down for {away}: {waiting} hits wait, nothing is lost"
                    ),
                    format!(
                        "Matomo est en panne depuis {away} : {waiting} hits attendent, rien n'est \
                         perdu"
                    ),
                ),
            }
        }
        RelayState::BrokerBlocked => t(
            "RabbitMQ lets nobody publish: new hits do not get in, and retries and rejects wait"
                .to_owned(),
            "RabbitMQ bloque toute publication : plus aucun hit n'entre, nouvelles tentatives et \
             rejets attendent"
                .to_owned(),
        ),
        RelayState::BrokerIncomplete => t(
            "Something that the relay needs was deleted on RabbitMQ: dnma-relay check --connect \
             names it"
                .to_owned(),
            "Il manque à RabbitMQ quelque chose dont le relais a besoin : dnma-relay check \
             --connect dit quoi"
                .to_owned(),
        ),
        RelayState::QueueFull => {
            let queues: Vec<&str> =
                status.broker.refusing.iter().map(|queue| queue.name.as_str()).collect();
            let queues = queues.join(", ");
            let hits = total(status.broker.refusing.iter().map(|queue| queue.hits));
            let hits = number(hits, language);
            t(
                format!(
                    "RabbitMQ takes no hits into {queues}: {hits} wait for it, the others go on"
                ),
                format!(
                    "RabbitMQ ne prend plus de hits dans {queues} : {hits} attendent, les autres \
                     passent"
                ),
            )
        }
        RelayState::Stuck => t(
            format!("{waiting} hits wait, and some of them do not move"),
            format!("{waiting} hits attendent, et certains n'avancent pas"),
        ),
        RelayState::Rejecting => {
            let share = share(status.hour.rejected, status.hour.settled(), language);
            t(
                format!("Delivering, but {share} of the hits of the last hour break the plan"),
                format!(
                    "Les hits passent, mais {share} de ceux de la dernière heure enfreignent le \
                     plan"
                ),
            )
        }
        RelayState::CatchingUp => t(
            format!("Delivering, and catching up: {waiting} hits wait"),
            format!("Les hits passent, rattrapage en cours : {waiting} hits attendent"),
        ),
        RelayState::Delivering => t("Delivering".to_owned(), "Les hits passent".to_owned()),
        RelayState::Idle => t(
            "Ready: no hit waits, and none came lately".to_owned(),
            "Prêt : aucun hit n'attend, et aucun n'est venu récemment".to_owned(),
        ),
    }
}

/// Puts whatever else there is to know into sentences.
pub(super) fn notes(status: &Status, language: Language) -> Vec<String> {
    let t = |english: String, french: String| {
        if language == Language::English { english } else { spaced(&french, language) }
    };
    let mut notes = Vec::new();
    let matomo = &status.matomo;
    if let (Some(_), Some(reason)) = (matomo.away_seconds, &matomo.reason) {
        let http = matomo.http_status.map(|code| format!(" (HTTP {code})")).unwrap_or_default();
        let hint = matomo.hint.as_deref().unwrap_or_default();
        notes.push(t(
            format!("Why: {reason}{http}. {hint}"),
            format!("Cause : {reason}{http}. {hint}"),
        ));
    }
    if let (Some(_), Some(pause)) = (matomo.away_seconds, matomo.next_try_seconds) {
        let pause = duration(pause, language);
        notes.push(t(
            format!("A single hit tries again in {pause}."),
            format!("Un seul hit réessaie dans {pause}."),
        ));
    }
    notes.extend(pace::limit_note(status, language));
    notes.extend(expected(status, language));
    let unread = status
        .queues
        .iter()
        .flat_map(|queues| &queues.shards)
        .filter(|shard| shard.unread_seconds.is_some_and(|s| s >= 60));
    for shard in unread.take(3) {
        let (name, long) =
            (&shard.queue.name, duration(shard.unread_seconds.unwrap_or_default(), language));
        notes.push(t(
            format!("Hits lie in {name}, and nobody has read it for {long}."),
            format!("Des hits sont dans {name}, que personne ne lit depuis {long}."),
        ));
    }
    if status.state == RelayState::Stuck && status.in_flight > 0 {
        let still = duration(status.hour.still_seconds, language);
        notes.push(t(
            format!("No hit was settled for {still}."),
            format!("Aucun hit n'a abouti depuis {still}."),
        ));
    }
    for queue in &status.broker.refusing {
        let (name, hits) = (&queue.name, number(queue.hits, language));
        notes.push(t(
            format!(
                "{name} refuses hits ({hits} wait): is it full by a length limit? Once it takes \
                 them, or its limit is gone, they go on by themselves."
            ),
            format!(
                "{name} refuse des hits ({hits} attendent) : limite de longueur atteinte ? Dès \
                 qu'elle les accepte, ou que la limite est levée, ils repartent d'eux-mêmes."
            ),
        ));
    }
    if status.broker.blocked && status.state != RelayState::BrokerBlocked {
        notes.push(t(
            "RabbitMQ has a memory or disk alarm and lets nobody publish.".to_owned(),
            "RabbitMQ est en alerte (mémoire ou disque) et bloque toute publication.".to_owned(),
        ));
    }
    if let Some(parked) =
        status.queues.as_ref().and_then(|queues| queues.parked.hits).filter(|hits| *hits > 0)
    {
        let hits = number(parked, language);
        notes.push(t(
            format!(
                "Parked: {hits}. They stay until somebody decides: dnma-relay dead group tells \
                 why, dead replay sends them again."
            ),
            format!(
                "Mis de côté : {hits}. Ils y restent jusqu'à une décision : dnma-relay dead group \
                 dit pourquoi, dead replay les renvoie."
            ),
        ));
    }
    notes
}

/// Puts the forecast into a sentence, if there is one.
fn expected(status: &Status, language: Language) -> Option<String> {
    let Forecast { drained_seconds, limit_seconds } = status.forecast;
    let clock = |seconds: u64| {
        let at = status
            .at
            .checked_add(jiff::SignedDuration::from_secs(i64::try_from(seconds).ok()?))
            .ok()?;
        Some(at.strftime("%H:%M").to_string())
    };
    let drained =
        drained_seconds.and_then(|seconds| Some((duration(seconds, language), clock(seconds)?)));
    let max_age = status.matomo.max_age_seconds;
    // The alarm `DnmaRelayHitsNearLimit` rings as early, while hits flow.
    let limit = limit_seconds
        .filter(|left| status.state.is_wrong() || drained.is_some() || *left < max_age.warning());
    let passed = limit == Some(0);
    let limit = limit.map(|left| duration(left, language));
    let text = match (drained, limit, language) {
        (Some((long, at)), None, Language::English) => {
            format!("Drained in about {long} at this rate, at {at} UTC.")
        }
        (Some((long, at)), None, Language::French) => {
            format!("Écoulé dans {long} environ à ce rythme, à {at} UTC.")
        }
        (_, Some(_), Language::English) if passed => {
            format!(
                "The oldest hits are over {max_age} old: without a token of write access Matomo \
                 refuses them, and they are parked."
            )
        }
        (_, Some(_), Language::French) if passed => {
            format!(
                "Les plus anciens ont plus de {max_age} : sans jeton d'accès en écriture, Matomo \
                 les refuse et ils sont mis de côté."
            )
        }
        (Some((long, at)), Some(left), Language::English) => {
            format!(
                "Drained in about {long} at this rate, at {at} UTC; the {max_age} limit is {left} \
                 away."
            )
        }
        (Some((long, at)), Some(left), Language::French) => {
            format!(
                "Écoulé dans {long} environ à ce rythme, à {at} UTC ; la limite des {max_age} est \
                 dans {left}."
            )
        }
        (None, Some(left), Language::English) => {
            format!("The oldest hit that waits meets the {max_age} limit in {left}.")
        }
        (None, Some(left), Language::French) => {
            format!("Le plus ancien hit en attente atteint la limite des {max_age} dans {left}.")
        }
        (None, None, _) => return None,
    };
    Some(spaced(&text, language))
}

/// Returns what a rule says, with an ellipsis for what differs from hit to hit.
pub fn hint_of_rule(plan: &Plan, rule: Rule, language: Language) -> String {
    let mut hint = String::new();
    let mut rest = plan.text_alone(rule, language);
    while let Some((before, after)) = rest.split_once('{') {
        hint.push_str(before);
        // A doubled brace is one of the text itself.
        let (filled, left) = match after.strip_prefix('{') {
            Some(after) => ("{", after),
            None => ("…", after.split_once('}').map_or("", |(_, left)| left)),
        };
        hint.push_str(filled);
        rest = left;
    }
    hint.push_str(rest);
    spaced(&hint.replace("}}", "}"), language)
}

/// Says what a reason means, and what to look at.
pub fn hint_of_reason(reason: Reason, language: Language) -> String {
    let (english, french) = match reason {
        Reason::Unreachable => (
            "No connection: look at Matomo's server, the network and MATOMO_URL.",
            "Pas de connexion : voir le serveur de Matomo, le réseau et MATOMO_URL.",
        ),
        Reason::Timeout => (
            "No answer within MATOMO_TIMEOUT: Matomo is too slow, or has too many senders.",
            "Pas de réponse dans le délai MATOMO_TIMEOUT : Matomo est trop lent, ou trop \
             sollicité.",
        ),
        Reason::ConnectionLost => (
            "The connection broke during the request: Matomo restarts, or the network breaks.",
            "La connexion s'est rompue pendant la requête : Matomo redémarre, ou le réseau coupe.",
        ),
        Reason::Redirect => (
            "A redirect, which is never followed: MATOMO_URL is not the tracker's own address.",
            "Une redirection, jamais suivie : MATOMO_URL n'est pas l'adresse même du tracker.",
        ),
        Reason::ClientError => (
            "Refused with a 4xx: a gateway before Matomo, or Matomo without its database in \
             single mode.",
            "Refus en 4xx : une passerelle devant Matomo, ou Matomo sans sa base en mode single.",
        ),
        Reason::TooManyRequests => (
            "A proxy limits the rate: set MATOMO_MAX_RATE below its limit.",
            "Un proxy limite le débit : mettre MATOMO_MAX_RATE sous sa limite.",
        ),
        Reason::ServerError => (
            "Matomo failed and rolled back: look at its log and its database.",
            "Matomo a échoué et annulé : voir son journal et sa base de données.",
        ),
        Reason::BadGateway => (
            "The proxy does not reach PHP: look at php-fpm on Matomo's server.",
            "Le proxy n'atteint pas PHP : voir php-fpm sur le serveur de Matomo.",
        ),
        Reason::Unavailable => {
            ("Matomo is in maintenance or overloaded.", "Matomo est en maintenance ou surchargé.")
        }
        Reason::GatewayTimeout => (
            "The proxy gave up before Matomo: these hits may be stored all the same.",
            "Le proxy a abandonné avant Matomo : ces hits sont peut-être enregistrés quand même.",
        ),
        Reason::TrackerOff => (
            "Tracking is switched off in Matomo (record_statistics).",
            "L'enregistrement est désactivé dans Matomo (record_statistics).",
        ),
        Reason::NotMatomo => (
            "The answer is not Matomo's: a login page, or another server, at MATOMO_URL.",
            "La réponse n'est pas celle de Matomo : page de connexion, ou autre serveur, à \
             MATOMO_URL.",
        ),
        Reason::CountMismatch => (
            "Matomo counted fewer hits than were sent: its database waits for locks.",
            "Matomo a compté moins de hits qu'envoyés : sa base attend des verrous.",
        ),
        Reason::Refused => (
            "Matomo counted the hit as invalid: an unknown site, or a token without the rights.",
            "Matomo juge le hit invalide : site inconnu, ou jeton sans les droits.",
        ),
        Reason::Unreadable => (
            "No hit: a routing key or a property that is not UTF-8, headers nested too deep, or a \
             body that is too large. See `dnma-relay dead show --reason unreadable`.",
            "Pas un hit : clé de routage ou propriété hors UTF-8, en-têtes trop imbriqués, ou \
             corps trop grand. Voir `dnma-relay dead show --reason unreadable`.",
        ),
        Reason::TokenRefused => (
            "Matomo refuses MATOMO_TOKEN_AUTH: it needs write access to the site.",
            "Matomo refuse MATOMO_TOKEN_AUTH : il faut l'accès en écriture au site.",
        ),
        Reason::TooOld => (
            "Over the age limit (MATOMO_MAX_AGE): Matomo takes it with MATOMO_TOKEN_AUTH only.",
            "Au-delà de la limite d'âge (MATOMO_MAX_AGE) : Matomo ne l'accepte qu'avec \
             MATOMO_TOKEN_AUTH.",
        ),
    };
    spaced(language.of(english, french), language)
}
