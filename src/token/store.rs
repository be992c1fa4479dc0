//! What processes share of a login, so that a fleet costs one: the token, its refresh token, refusals, and how
//! many logins failed lately.
//!
//! 1. A store is a help, never a need: every [`StoreError`] is a cache miss, and each process then goes on alone.
//! 2. Times are absolute, on the store's own clock: each [`Reading`] tells what time it is there.
//! 3. **One lease an account** ([`Shelf::lease`]): who holds it may log in. It is not renewed and ends by itself;
//!    what is written under it is written only while it still holds, so that no late writer overwrites a newer
//!    token.
//! 4. An entry that was tampered with, or copied from elsewhere, is as good as none.

pub mod file;
pub mod names;
pub mod record;
pub mod redis;
pub mod seal;
pub(crate) mod seen;
#[cfg(test)]
mod tests;
pub mod watched;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prometheus_client::metrics::counter::Counter;

use crate::clock::Clock;
use crate::secret::Secret;
use crate::token::grant::Login;
use crate::token::{BoxFuture, GrantError, Refusal};

/// How much longer than its request a lease lives, for what stands round it.
pub(crate) const LEASE_SLACK: Duration = Duration::from_secs(2);

/// Which store there is, and how its values are named and sealed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it is.
    pub place: Place,
    /// What the names of its values begin with.
    pub prefix: String,
    /// The keys that seal; without them, the credentials do.
    pub keys: Option<seal::KeyRing>,
}

/// Where a store is.
#[derive(Clone, Debug)]
pub enum Place {
    /// Nowhere: each process is alone.
    Memory,
    /// In a folder of this machine.
    File(PathBuf),
    /// On a server of Redis or Valkey.
    Redis(Box<redis::Server>),
}

/// Opens a store, where there is one; it is not touched before it is needed, and its errors are counted in `errors`.
#[must_use]
pub fn open(config: &Config, errors: Counter, clock: Clock) -> Option<Arc<dyn Store>> {
    let (prefix, keys) = (config.prefix.clone(), config.keys.clone());
    let store: Arc<dyn Store> = match &config.place {
        Place::Memory => return None,
        Place::File(folder) => Arc::new(file::FileStore::new(folder.clone(), prefix, keys)),
        Place::Redis(server) => Arc::new(redis::RedisStore::new((**server).clone(), prefix, keys)),
    };
    Some(Arc::new(watched::Watched::new(store, errors, clock)))
}

/// A store of many logins.
pub trait Store: Send + Sync {
    /// The place of one login. Costs no look at the store.
    fn shelf(&self, login: &Login) -> Arc<dyn Shelf>;
}

/// The place of one login in a store: the token is that of [`Login::key`], refusals are those of
/// [`Login::credentials`], the lease and the count of failed logins those of [`Login::account`].
pub trait Shelf: Send + Sync {
    /// What is known.
    fn read(&self) -> BoxFuture<'_, Result<Reading, StoreError>>;

    /// Takes the account's lease for `life`; none while another holds it.
    fn lease(&self, life: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>>;

    /// Writes `change` and gives the lease back. Says whether the lease still held: if not, nothing was written
    /// but a count and a refusal, which are true whoever tells them.
    fn settle(&self, lease: Lease, change: Change) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Lets refused credentials be tried once more.
    fn clear_refusal(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A moment on a store's own clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreTime(pub u64);

/// What a store knows of a login.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What time it is there.
    pub now: StoreTime,
    /// The latest tokens, dead ones too where their refresh token may live.
    pub entry: Option<Entry>,
    /// The refusal of these credentials, and when their cool-down is over.
    pub refusal: Option<(Refusal, StoreTime)>,
    /// When the latest counted logins of the account ended ([`GrantError::counts`](super::GrantError::counts)).
    pub counted: Vec<StoreTime>,
}

/// Tokens, as they came in one answer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The access token.
    pub token: Secret,
    /// The refresh token, where there is one; it may be used once, under the lease.
    pub refresh_token: Option<Secret>,
    /// When it was asked for.
    pub issued_at: StoreTime,
    /// When the access token may be dead.
    pub expires_at: StoreTime,
    /// When it surely is. No later than `expires_at` where the token has come again when it was asked for: then
    /// asking before it dies would give it once more.
    pub gone_at: StoreTime,
}

/// The right to log in to an account, for as long as it was taken for; told apart by a random text.
#[derive(Debug)]
#[must_use = "a lease holds everybody else back until it is settled"]
pub struct Lease(pub String);

impl Lease {
    /// One that nobody gave: what is settled under it writes no token, but counts.
    pub fn none() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }
}

/// What a login changed.
#[derive(Debug, Default)]
pub struct Change {
    /// The tokens that came. They replace the entry, and the refusal of these credentials goes.
    pub entry: Option<Entry>,
    /// The refusal that came, and how long its cool-down lasts.
    pub refusal: Option<(Refusal, Duration)>,
    /// A login that counts was sent.
    pub counted: bool,
}

impl Change {
    /// What a login changed that brought tokens.
    pub(crate) fn granted(entry: Entry) -> Self {
        Self {
            entry: Some(entry),
            ..Self::default()
        }
    }

    /// What a login changed that failed; a refusal of it lasts for `cool_down`.
    pub(crate) fn failed(error: &GrantError, cool_down: Duration) -> Self {
        Self {
            entry: None,
            refusal: match error {
                GrantError::Refused(refusal) => Some((*refusal, cool_down)),
                GrantError::Unavailable { .. } => None,
            },
            counted: error.counts(),
        }
    }
}

/// A store could not be asked, or did not answer as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or its file cannot be used.
    #[error("the shared cache cannot be reached")]
    Unreachable,
    /// It did not answer in time.
    #[error("the shared cache did not answer in time")]
    TimedOut,
    /// It takes nothing more: it is full, or read-only.
    #[error("the shared cache takes no writes")]
    Unwritable,
    /// Its answer made no sense.
    #[error("the shared cache answered with nonsense")]
    Nonsense,
}

/// A text that nobody else has; nothing where the system gives no random bytes.
fn random() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}
