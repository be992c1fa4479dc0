//! What only writers of a slot, and its status, look at.

use std::time::Duration;

use super::status::{LoginState, Logins};
use crate::clock::Moment;
use crate::secret::Secret;
use crate::token::{GrantError, TokenError};

/// Logins that 401s may cause at once.
const BUDGET: u32 = 3;

/// Which of a slot's two ways to the token endpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The login's own grant.
    Credentials,
    /// A refresh token.
    Refresh,
}

/// How a slot's logins went, and what the next one may use.
#[derive(Default)]
pub(super) struct Book {
    pub(super) budget: Budget,
    pub(super) login: LoginState,
    /// Those by the login's own grant.
    pub(super) logins: Logins,
    /// Those by a refresh token.
    pub(super) refreshes: Logins,
    /// The latest refresh token, where no store keeps it.
    pub(super) refresh_token: Option<Secret>,
    pub(super) last_error: Option<TokenError>,
    /// When the shared store may be looked at again while no login may be sent.
    pub(super) look_at: Option<Moment>,
}

impl Book {
    pub(super) fn of(&mut self, asked: Asked) -> &mut Logins {
        match asked {
            Asked::Credentials => &mut self.logins,
            Asked::Refresh => &mut self.refreshes,
        }
    }

    pub(super) fn note_success(&mut self, asked: Asked) {
        self.of(asked).ok += 1;
        self.note_shared_token();
    }

    pub(super) fn note_failure(&mut self, asked: Asked, error: &GrantError, kept: TokenError) {
        self.login = match error {
            GrantError::Refused(_) => {
                self.of(asked).refused += 1;
                LoginState::Refused
            }
            GrantError::Unavailable { .. } => {
                self.of(asked).unavailable += 1;
                LoginState::Unavailable
            }
        };
        self.last_error = Some(kept);
    }

    /// A login of another process gave a token.
    pub(super) fn note_shared_token(&mut self) {
        self.login = LoginState::Ok;
        self.last_error = None;
    }

    /// A login of another process was refused.
    pub(super) fn note_shared_refusal(&mut self, kept: TokenError) {
        self.login = LoginState::Refused;
        self.last_error = Some(kept);
    }
}

/// Logins that 401s may still cause: [`BUDGET`] at once, and one more with each period that passes.
#[derive(Default)]
pub(super) struct Budget {
    /// How many were left when, if not all.
    left: Option<(f64, Moment)>,
}

impl Budget {
    /// Takes one login, if there is one. A period need not be as long as the one before.
    pub(super) fn spend(&mut self, now: Moment, period: Duration) -> bool {
        let full = f64::from(BUDGET);
        let left = self.left.map_or(full, |(left, at)| {
            // A token without a life leaves nothing to wait for.
            let periods = now.since(at).as_secs_f64() / period.as_secs_f64();
            (left + if periods.is_nan() { full } else { periods }).min(full)
        });
        let affordable = left >= 1.0;
        if affordable {
            self.left = Some((left - 1.0, now));
        }
        affordable
    }
}
