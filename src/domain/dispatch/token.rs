//! Whether a request may carry the token now.
//!
//! Matomo counts each request whose token it refuses, and after 20 of them within an hour it
//! answers 500 to every bulk with a token from that address, a good one included. So a token that
//! has not proved good is tried by one request at a time, a few times, and then rests.

use std::time::{Duration, Instant};

use crate::domain::answer::Interpretation;

/// After so many refusals in a row the token is taken for bad, rather than the hits.
pub const MAX_REFUSALS: u32 = 3;

/// How long a token that was refused is not sent. Six tries an hour leave room for three replicas
/// behind one address.
pub const TOKEN_REST: Duration = Duration::from_secs(1_800);

/// The most requests that carry a good token at a time. Should it be revoked, so many more are
/// refused at most: with [`MAX_REFUSALS`] fewer than the 20 that lock the address out.
pub const MAX_UNDER_WAY: u32 = 8;

/// Whether a request may carry the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPermission {
    /// It may. Its answer must be recorded, or the request abandoned.
    Send,
    /// Not before another request with the token has its answer.
    WaitForAnswer,
    /// The token was refused and is not sent for now.
    Resting,
}

/// What the answers so far tell of the token.
#[derive(Debug, Default)]
pub struct TokenPolicy {
    /// Whether Matomo has stored a hit with the token since it was last refused.
    proved: bool,
    /// How often it was refused since then.
    refused_in_a_row: u32,
    /// How many requests carry it now.
    under_way: u32,
    /// Until when it is not sent, if it was refused too often.
    rests_until: Option<Instant>,
}

impl TokenPolicy {
    /// Whether a request may carry the token now. After `Send`, [`TokenPolicy::record`] or
    /// [`TokenPolicy::abandon`] must follow.
    pub fn ask(&mut self, now: Instant) -> TokenPermission {
        if self.rests_until.is_some_and(|until| now < until) {
            return TokenPermission::Resting;
        }
        let most = if self.proved { MAX_UNDER_WAY } else { 1 };
        if self.under_way >= most {
            return TokenPermission::WaitForAnswer;
        }
        self.under_way += 1;
        TokenPermission::Send
    }

    /// Takes in the answer to a request with the token. Returns whether the token rests from now
    /// on.
    pub fn record(&mut self, interpretation: &Interpretation, now: Instant) -> bool {
        self.abandon();
        match interpretation {
            Interpretation::Stored { .. } => (self.proved, self.refused_in_a_row) = (true, 0),
            // Of a bulk that is refused without names, one hit may be wrong. Its hits are sent
            // again alone, and then count.
            Interpretation::Refused { places: Some(_), .. } => {
                (self.proved, self.refused_in_a_row) = (false, self.refused_in_a_row + 1);
                if self.refused_in_a_row >= MAX_REFUSALS {
                    (self.refused_in_a_row, self.rests_until) = (0, Some(now + TOKEN_REST));
                    return true;
                }
            }
            Interpretation::Refused { places: None, .. }
            | Interpretation::Suspect(_)
            | Interpretation::SuspectAmbiguous(_)
            | Interpretation::Down(_)
            | Interpretation::DownAmbiguous(_)
            | Interpretation::Ambiguous(_) => {}
        }
        false
    }

    /// The request was not sent after all.
    pub fn abandon(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Interpretation = Interpretation::Stored { queued: false };

    fn refused() -> Interpretation {
        Interpretation::Refused { places: Some(vec![0]), status: 200 }
    }

    #[test]
    fn an_unproved_token_is_tried_by_one_request_at_a_time() {
        let (mut token, now) = (TokenPolicy::default(), Instant::now());
        assert_eq!(token.ask(now), TokenPermission::Send);
        assert_eq!(token.ask(now), TokenPermission::WaitForAnswer);
        token.abandon();
        assert_eq!(token.ask(now), TokenPermission::Send, "what was not sent makes room");
    }

    #[test]
    fn a_good_token_is_sent_by_several_requests_and_a_refusal_ends_that() {
        let (mut token, now) = (TokenPolicy::default(), Instant::now());
        assert_eq!(token.ask(now), TokenPermission::Send);
        assert!(!token.record(&STORED, now));
        for _ in 0..MAX_UNDER_WAY {
            assert_eq!(token.ask(now), TokenPermission::Send);
        }
        assert_eq!(token.ask(now), TokenPermission::WaitForAnswer);
        assert!(!token.record(&refused(), now));
        for left in (1..MAX_UNDER_WAY).rev() {
            assert_eq!(token.ask(now), TokenPermission::WaitForAnswer, "{left} under way");
            token.abandon();
        }
        assert_eq!(token.ask(now), TokenPermission::Send);
        assert_eq!(token.ask(now), TokenPermission::WaitForAnswer, "it has to prove itself again");
    }

    #[test]
    fn a_token_that_is_refused_in_a_row_rests_for_its_time() {
        let (mut token, now) = (TokenPolicy::default(), Instant::now());
        let refuse = |token: &mut TokenPolicy| {
            assert_eq!(token.ask(now), TokenPermission::Send);
            token.record(&refused(), now)
        };
        assert!(!refuse(&mut token) && !refuse(&mut token));
        assert_eq!(token.ask(now), TokenPermission::Send);
        assert!(!token.record(&STORED, now), "a stored hit ends the row");
        assert!(!refuse(&mut token) && !refuse(&mut token) && refuse(&mut token));
        let end = now + TOKEN_REST;
        assert_eq!(token.ask(end - Duration::from_nanos(1)), TokenPermission::Resting);
        assert_eq!(token.ask(end), TokenPermission::Send);
    }

    #[test]
    fn a_refusal_without_names_tells_nothing_of_the_token() {
        let (mut token, now) = (TokenPolicy::default(), Instant::now());
        for _ in 0..=MAX_REFUSALS {
            assert_eq!(token.ask(now), TokenPermission::Send);
            assert!(!token.record(&Interpretation::Refused { places: None, status: 200 }, now));
        }
        assert_eq!(token.ask(now), TokenPermission::Send);
    }

    #[test]
    fn a_revoked_token_cannot_lock_the_address_out() {
        let (mut token, now) = (TokenPolicy::default(), Instant::now());
        assert_eq!(token.ask(now), TokenPermission::Send);
        token.record(&STORED, now);
        let mut refusals = 0;
        while token.ask(now) == TokenPermission::Send {
            refusals += 1;
        }
        let rests = (0..refusals).filter(|_| token.record(&refused(), now)).count();
        assert!(rests > 0, "{refusals} refusals did not make it rest");
        assert_eq!(token.ask(now), TokenPermission::Resting);
        assert!(refusals < 20, "{refusals} requests were refused before the token rested");
    }
}
