//! Tokens: what they are, who gives them, and why there may be none.
//!
//! A token's way through the house: `Secret → token::grant → token::cache → authorize → header`.
//! This file is the vocabulary that all of them share; the rules of the cache stand in `token/cache.rs`.

pub mod answer;
pub mod cache;
pub mod digest;
pub mod grant;
pub mod ledger;
pub(crate) mod life;
pub mod store;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::secret::Secret;

/// A future on the heap, for the slow ways of a [`TokenSource`].
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An access token, ready to be sent; cloning allocates nothing.
#[derive(Clone)]
pub struct AccessToken {
    bearer: HeaderValue,
    generation: u64,
}

impl AccessToken {
    /// The token as the value of an `Authorization` header, marked sensitive.
    ///
    /// # Errors
    /// When the token holds a byte that no header may carry.
    pub fn new(token: &Secret, generation: u64) -> Result<Self, UnusableToken> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the token becomes the header that is its purpose"
        )]
        let text = token.expose();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UnusableToken);
        }
        let mut bearer = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| UnusableToken)?;
        bearer.set_sensitive(true);
        Ok(Self { bearer, generation })
    }

    /// The value of the `Authorization` header (RFC 6750, section 2.1).
    #[must_use]
    pub fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// Counts up with each token that a source has held: tells a newer token from the one it replaced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether both carry the same text, whatever their generation.
    #[must_use]
    pub fn same_text(&self, other: &Self) -> bool {
        self.bearer == other.bearer
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(generation {})", self.generation)
    }
}

/// The token endpoint gave a token that cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token holds characters that no header may carry")]
pub struct UnusableToken;

/// Gives tokens, and takes back those that upstream rejected.
pub trait TokenSource: Send + Sync {
    /// The token at hand, if there is one that lives: no lock, no allocation, no waiting.
    fn ready(&self) -> Option<AccessToken>;

    /// Waits for a token where none is ready; all who wait share one login and its outcome.
    fn obtain(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>>;

    /// Upstream answered this very token with 401: it is dropped if it is still the one held.
    fn reject(&self, token: &AccessToken) -> Rejection;
}

/// What follows from a rejected token.
pub enum Rejection {
    /// The budget of logins caused by 401s is spent: the token stays, the 401 goes to the caller.
    Kept,
    /// Another token is on its way, whether or not somebody waits for it.
    Replacing(BoxFuture<'static, Result<Replacement, TokenError>>),
}

/// What came in place of a rejected token.
#[derive(Clone, Debug)]
pub enum Replacement {
    /// Another token: the request may be sent once more.
    New(AccessToken),
    /// The same token again: it is kept, and sending it once more would change nothing.
    Same,
}

/// Why there is no token. Shared by all who wait, hence cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The token endpoint refused the credentials; nothing is tried until the cool-down is over.
    #[error("the token endpoint refused the credentials: {refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
        /// The time left until the next attempt.
        retry_after: Duration,
    },
    /// The token endpoint is in trouble: not reachable, not understood, or left alone after trouble.
    #[error("no token can be had: {trouble}")]
    Unavailable {
        /// What went wrong.
        trouble: Trouble,
        /// The time left until the next attempt.
        retry_after: Duration,
    },
}

impl TokenError {
    /// The time left until the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
        }
    }
}

/// How the credentials were refused, in words from a closed set: foreign text is never kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status {}, {error}", .status.as_u16())]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// The error that the answer named.
    pub error: OAuthError,
}

/// The error codes of RFC 6749, section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// Wrong username or password, a locked account, or a dead refresh token.
    #[error("invalid_grant")]
    InvalidGrant,
    /// Unknown client, or wrong client secret.
    #[error("invalid_client")]
    InvalidClient,
    /// Unknown or excessive scope.
    #[error("invalid_scope")]
    InvalidScope,
    /// A parameter is missing or doubled.
    #[error("invalid_request")]
    InvalidRequest,
    /// The client may not use this grant.
    #[error("unauthorized_client")]
    UnauthorizedClient,
    /// The server does not know this grant.
    #[error("unsupported_grant_type")]
    UnsupportedGrantType,
    /// The answer named none of these.
    #[error("no error code of RFC 6749")]
    Unnamed,
}

/// What kept the token endpoint from giving a token, short of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No connection: nothing was sent.
    #[error("the token endpoint cannot be reached")]
    Unreachable,
    /// Sent, and no whole answer in time.
    #[error("the token endpoint did not answer in time")]
    TimedOut,
    /// The connection died, or the answer was cut.
    #[error("the connection to the token endpoint died")]
    Interrupted,
    /// A status that tells of trouble.
    #[error("the token endpoint answered with status {}", .0.as_u16())]
    Status(StatusCode),
    /// 200, but not an answer of a token endpoint.
    #[error("the answer of the token endpoint was not understood: {0}")]
    Nonsense(&'static str),
    /// A login was not tried: too many were sent lately without being accepted.
    #[error("too many logins were sent lately without being accepted")]
    HeldBack,
    /// A login was not tried: another process that shares the cache has been at it for too long.
    #[error("another process is logging in to the account, and has not come to an end")]
    Elsewhere,
    /// A bug in the proxy.
    #[error("the login failed inside the proxy")]
    Internal,
}

/// Why a login gave no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The credentials were refused: trying them again would only lock the account.
    #[error("the token endpoint refused the credentials: {0}")]
    Refused(Refusal),
    /// Trouble, which may pass.
    #[error("{trouble}")]
    Unavailable {
        /// What went wrong.
        trouble: Trouble,
        /// The pause that the answer asked for.
        retry_after: Option<Duration>,
    },
}

impl GrantError {
    /// Whether this login may have cost one of the attempts that Fluent grants a username.
    #[must_use]
    pub fn counts(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Unavailable { trouble, .. } => match trouble {
                // What answered was not the login itself, but something before it.
                Trouble::Status(status) => ![
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ]
                .contains(status),
                Trouble::TimedOut | Trouble::Interrupted | Trouble::Internal => true,
                Trouble::Unreachable | Trouble::Nonsense(_) | Trouble::HeldBack | Trouble::Elsewhere => false,
            },
        }
    }

    /// Whether nothing left for the token endpoint: what was to be sent is as good as before.
    #[must_use]
    pub fn was_unsent(&self) -> bool {
        matches!(
            self,
            Self::Unavailable {
                trouble: Trouble::Unreachable,
                ..
            }
        )
    }
}

impl From<Trouble> for GrantError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable {
            trouble,
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_by_its_generation_and_never_shown() {
        let token = AccessToken::new(&Secret::new("T-secret".to_owned()), 7).unwrap();
        assert_eq!(format!("{token:?}"), "AccessToken(generation 7)");
    }

    #[test]
    fn a_token_is_visible_ascii_and_not_nothing() {
        let token = |text: &str| AccessToken::new(&Secret::new(text.to_owned()), 1);
        token("!a.b-c_d~+/=").unwrap();
        for unusable in ["", " ", "a b", "a\tb", "a\r\nb: c", "a\u{7f}", "\u{e9}"] {
            assert_eq!(token(unusable).unwrap_err(), UnusableToken, "{unusable:?}");
        }
    }
}
