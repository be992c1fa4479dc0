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
    /// When it will be full again.
    full_at: Option<Moment>,
}

impl Budget {
    /// Takes one login, if there is one.
    pub(super) fn spend(&mut self, now: Moment, period: Duration) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + period;
        let affordable = full_at.since(now) <= period * BUDGET;
        if affordable {
            self.full_at = Some(full_at);
        }
        affordable
    }
}
