//! How a token stands: a snapshot in the words and names of the admin listener's `/status`.

use serde::Serialize;

/// A snapshot of one user of one instance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The token.
    pub state: TokenState,
    /// The last login.
    pub login: LoginState,
    /// Whole seconds that the token has left; none without a token.
    pub expires_in_seconds: Option<u64>,
    /// The grant that gave the token.
    pub obtained_by: Option<&'static str>,
    /// When it did, in seconds since 1970 by the wall clock.
    pub obtained_at: Option<u64>,
    /// All logins so far, by their outcome.
    pub logins: Logins,
    /// Seconds, rounded up, for which no login is sent; none where nothing holds one back.
    pub next_attempt_in_seconds: Option<u64>,
    /// Why the last login failed, in a sentence of ours; none after one that did not.
    pub last_error: Option<String>,
}

/// Whether there is a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// None was held yet, or the last one was rejected.
    Empty,
    /// It lives, and it is not time to renew it.
    Fresh,
    /// It lives, and it is time to renew it.
    Ageing,
    /// It is dead.
    Expired,
}

impl TokenState {
    /// Whether the token can be sent.
    #[must_use]
    pub fn is_usable(self) -> bool {
        match self {
            Self::Fresh | Self::Ageing => true,
            Self::Empty | Self::Expired => false,
        }
    }
}

/// How the last login ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginState {
    /// None has ended yet.
    #[default]
    None,
    /// It gave a token.
    Ok,
    /// It was refused.
    Refused,
    /// There was trouble.
    Unavailable,
}

/// Logins, by their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Logins {
    /// Those that gave a token.
    pub ok: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that met trouble.
    pub unavailable: u64,
}
