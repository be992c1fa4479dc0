//! Asks the token endpoint for a token (RFC 6749, sections 4.3 and 4.4).

use std::time::Duration;

use http::HeaderValue;
use url::Url;

use crate::secret::Secret;

/// All that a login sends, and how its answer is read: the inputs that a token depends on.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where tokens are asked for: the instance's URL with `token.path`, or a whole URL.
    pub endpoint: Url,
    /// The grant, with what only it needs.
    pub grant: Grant,
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`: sent as a parameter, never as HTTP Basic.
    pub client_secret: Secret,
    /// `scope`; an empty one is not sent.
    pub scope: String,
    /// Further parameters, as the settings name them.
    pub extra: Vec<(String, String)>,
    /// Where the answer holds the token: the path of field names to it. `access_token` is understood too.
    pub token_key: Vec<String>,
    /// The header `fluent.account`, where the account wants it.
    pub account: Option<HeaderValue>,
}

/// How the token is asked for.
#[derive(Clone, Debug)]
pub enum Grant {
    /// The resource owner's password (RFC 6749, section 4.3).
    Password {
        /// `username`.
        username: String,
        /// `password`.
        password: Secret,
    },
    /// The client's own credentials (RFC 6749, section 4.4).
    ClientCredentials,
}

/// When a token is asked for, and how long an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long one request to the token endpoint may take, from connecting to the last byte.
    pub timeout: Duration,
    /// The lifetime of a token whose answer names none.
    pub default_lifetime: Duration,
    /// How long before its end a token is renewed; never more than a fifth of its lifetime.
    pub margin: Duration,
    /// How long no login is tried after refused credentials.
    pub cool_down: Duration,
}
