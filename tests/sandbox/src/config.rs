//! What can be set on a sandbox, and the account it has by default.
//!
//! 1. `Config::default()` is the real thing as far as it is known: one account, 24 hours, the same token until
//!    it expires, 1,000 orders.
//! 2. No secret shows in `Debug`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The username of the default account.
pub const DEFAULT_USERNAME: &str = "demo";
/// The password of the default account.
pub const DEFAULT_PASSWORD: &str = "demo-password";
/// The client id of the default account.
pub const DEFAULT_CLIENT_ID: &str = "demo-client";
/// The client secret of the default account.
pub const DEFAULT_CLIENT_SECRET: &str = "demo-client-secret";

/// How a sandbox behaves. Build it with struct update syntax on `Config::default()`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen. Default: `127.0.0.1:0`, a free port.
    pub address: SocketAddr,
    /// Where the control interface listens, see the binary. Default: `None`, there is none.
    pub control_address: Option<SocketAddr>,
    /// Who may log in. Default: the one [`Account::default`].
    pub accounts: Vec<Account>,
    /// How long an access token lives. Default: 86,400 s.
    pub token_lifetime: Duration,
    /// How long a refresh token lives, which no answer tells. Default: 30 days.
    pub refresh_token_lifetime: Duration,
    /// Whether answers carry a single-use refresh token. Default: `false`.
    pub refresh_tokens: bool,
    /// What a login gives while an older token still lives. Default: [`TokenReuse::SameUntilExpiry`].
    pub token_reuse: TokenReuse,
    /// The field of the answer that holds the token; dots make nested objects. Default: `access_token`.
    pub token_field: String,
    /// What the answer says of the token's life. Default: [`ExpiresIn::Number`].
    pub expires_in: ExpiresIn,
    /// The only scope that is granted. Default: `api`.
    pub scope: String,
    /// When failed logins lock a username. Default: the documented 5 in 15 minutes.
    pub lockout: Lockout,
    /// How many orders there are from the start. Default: 1,000.
    pub orders: usize,
    /// What all made-up data comes from; the same seed gives the same data. Default: 42.
    pub seed: u64,
    /// The largest body `/graphql` and the REST paths take, in bytes. Default: 2,000,000 (2 MB).
    pub body_limit: usize,
    /// How long `createFulfilmentOption` with `AWAIT_ORCHESTRATION` holds its answer. Default: 1 s.
    pub orchestration_time: Duration,
    /// How many token and how many API requests the detailed record keeps. Default: 10,000 each.
    pub record_limit: usize,
    /// How many bytes of each body the record keeps. Default: 64 `KiB`.
    pub record_body_limit: usize,
    /// Serve TLS with this. Default: `None`, plain text. Its `alpn_protocols` are taken as they are.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            control_address: None,
            accounts: vec![Account::default()],
            token_lifetime: Duration::from_hours(24),
            refresh_token_lifetime: Duration::from_hours(30 * 24),
            refresh_tokens: false,
            token_reuse: TokenReuse::SameUntilExpiry,
            token_field: "access_token".to_owned(),
            expires_in: ExpiresIn::Number,
            scope: "api".to_owned(),
            lockout: Lockout::default(),
            orders: 1_000,
            seed: 42,
            body_limit: 2_000_000,
            orchestration_time: Duration::from_secs(1),
            record_limit: 10_000,
            record_body_limit: 64 * 1024,
            tls: None,
        }
    }
}

/// One user with the client that may log it in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The username; also the `ref` of the user in the schema.
    pub username: String,
    /// The password, any Unicode.
    pub password: String,
    /// The client id.
    pub client_id: String,
    /// The client secret.
    pub client_secret: String,
    /// What the header `fluent.account` of a token request must say. Default: `None`, it is not looked at.
    pub fluent_account: Option<String>,
    /// How this user signs on. Default: [`SignOn::Password`].
    pub sign_on: SignOn,
}

impl Account {
    /// An account with the default client.
    #[must_use]
    pub fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            ..Self::default()
        }
    }
}

impl Default for Account {
    fn default() -> Self {
        Self {
            username: DEFAULT_USERNAME.to_owned(),
            password: DEFAULT_PASSWORD.to_owned(),
            client_id: DEFAULT_CLIENT_ID.to_owned(),
            client_secret: DEFAULT_CLIENT_SECRET.to_owned(),
            fluent_account: None,
            sign_on: SignOn::Password,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("username", &self.username)
            .field("client_id", &self.client_id)
            .field("fluent_account", &self.fluent_account)
            .field("sign_on", &self.sign_on)
            .finish_non_exhaustive()
    }
}

/// How a user signs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignOn {
    /// With a password at the token endpoint.
    #[default]
    Password,
    /// Elsewhere: a password login answers the documented 500.
    SingleSignOn,
}

/// What a login gives while an older token still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenReuse {
    /// The same token with the time left, as the real thing does.
    #[default]
    SameUntilExpiry,
    /// A new token each time; older ones live on.
    NewEachTime,
}

/// What an answer says of the token's life in `expires_in`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ExpiresIn {
    /// The seconds left, as a number.
    #[default]
    Number,
    /// The seconds left, as a string.
    Text,
    /// Nothing: the field is missing.
    Absent,
    /// This very value, whatever the truth: negative, absurd, of a wrong type.
    Exactly(serde_json::Value),
}

/// When failed logins lock a username.
///
/// A login that is refused while the lock holds counts as a failure too, whatever its password; a success in
/// between takes no failure back. The vendor tells neither: this is the stricter reading of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lockout {
    /// Failures within the window that lock. Default: 5; 0 never locks.
    pub failures: usize,
    /// The rolling window. Default: 15 minutes.
    pub window: Duration,
    /// How long the lock holds, from the last failure. Default: 15 minutes.
    pub lock: Duration,
}

impl Default for Lockout {
    fn default() -> Self {
        let quarter = Duration::from_mins(15);
        Self {
            failures: 5,
            window: quarter,
            lock: quarter,
        }
    }
}
