//! The token that a slot holds, and the moments of its life.

use std::time::{Duration, SystemTime};

use crate::clock::Moment;
use crate::token::answer::{Answer, LONGEST_LIFE};
use crate::token::grant::Policy;
use crate::token::{AccessToken, UnusableToken};

/// The unit in which servers tell lifetimes, and the shortest life that is believed.
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// The part of the margin over which processes that hold the same token spread their renewals.
const SPREAD: f64 = 0.1;

/// The latest token, and what became of it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) token: AccessToken,
    /// The number of the flight that brought it last.
    pub(super) flight: u64,
    pub(super) rejected: bool,
    pub(super) life: Life,
    pub(super) obtained_by: &'static str,
    pub(super) obtained_at: SystemTime,
}

/// The moments of a token's life.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "a moment is named by what happens at it"
)]
pub(super) struct Life {
    /// When it was asked for.
    pub(super) issued_at: Moment,
    pub(super) renew_at: Moment,
    /// The earliest moment at which the server may have it dead, or the latest where the same token came
    /// again.
    pub(super) expires_at: Moment,
    /// When the server surely has it dead, if it told the truth.
    pub(super) gone_at: Moment,
}

impl Held {
    /// The token of an answer that came at `now` to a request of `issued_at`, while `before` was held.
    ///
    /// # Errors
    /// When it cannot stand in a header.
    pub(super) fn of_answer(
        answer: &Answer,
        flight: u64,
        (issued_at, now): (Moment, Moment),
        obtained_by: &'static str,
        (policy, spread): (&Policy, f64),
        before: Option<&Self>,
    ) -> Result<Self, UnusableToken> {
        let token = AccessToken::new(&answer.token, flight)?;
        let told = answer
            .expires_in
            .unwrap_or(policy.default_lifetime)
            .min(LONGEST_LIFE);
        let gone_at = now + Duration::from_secs(told.as_secs()) + SECOND;
        let again = before.filter(|before| before.token.same_text(&token));
        let life = match again {
            Some(before) if issued_at + told <= before.life.gone_at => Life::to_its_end(issued_at, gone_at),
            Some(_) | None => {
                let expires_at = issued_at + told.max(SECOND);
                Life::new((issued_at, expires_at, gone_at), policy.margin, spread)
            }
        };
        Ok(Self {
            token,
            flight,
            rejected: false,
            life,
            obtained_by,
            obtained_at: SystemTime::now(),
        })
    }

    pub(super) fn is_usable(&self, now: Moment) -> bool {
        !self.rejected && now < self.life.expires_at
    }

    /// The whole life that it was given.
    pub(super) fn lifetime(&self) -> Duration {
        self.life.expires_at.since(self.life.issued_at)
    }

    /// Keeps the generation of `before` where it holds the same token, unless that was rejected meanwhile.
    pub(super) fn follow(&mut self, before: &Self) {
        if self.token.same_text(&before.token) && !before.rejected {
            self.token = before.token.clone();
        }
    }
}

impl Life {
    /// A life that is renewed a margin before its end, and up to `spread` of the tenth part of that later.
    pub(super) fn new(
        (issued_at, expires_at, gone_at): (Moment, Moment, Moment),
        margin: Duration,
        spread: f64,
    ) -> Self {
        let margin = margin.min(expires_at.since(issued_at) / 5);
        Self {
            issued_at,
            renew_at: expires_at - margin.mul_f64(1.0 - SPREAD * spread),
            expires_at,
            gone_at,
        }
    }

    /// A life that is lived to its end.
    pub(super) fn to_its_end(issued_at: Moment, gone_at: Moment) -> Self {
        Self {
            issued_at,
            renew_at: gone_at,
            expires_at: gone_at,
            gone_at,
        }
    }
}
