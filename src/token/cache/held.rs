//! The token that a slot holds.

use std::time::{Duration, SystemTime};

use crate::clock::Moment;
use crate::token::answer::Answer;
use crate::token::grant::Policy;
use crate::token::life::Life;
use crate::token::{AccessToken, UnusableToken};

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

impl Held {
    /// The token of an answer, by the `moments` when it was asked for and came, while `before` was held.
    ///
    /// # Errors
    /// When it cannot stand in a header.
    pub(super) fn of_answer(
        answer: &Answer,
        flight: u64,
        moments: (Moment, Moment),
        obtained_by: &'static str,
        policy: (&Policy, f64),
        before: Option<&Self>,
    ) -> Result<Self, UnusableToken> {
        let token = AccessToken::new(&answer.token, flight)?;
        let again = before.filter(|before| before.token.same_text(&token));
        let before = again.map(|before| before.life);
        let life = Life::of_answer(answer.expires_in, moments, policy, before);
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

    /// Whether it is too early to renew it.
    pub(super) fn is_fresh(&self, now: Moment) -> bool {
        now < self.life.renew_at
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
