//! The store of a fleet: Redis or Valkey.
//!
//! 1. The clock is the server's (`TIME`), so that processes need not agree on the time.
//! 2. A lease is `SET NX PX` with a random value; one script settles it: tokens are written only while the lease
//!    holds that value, a refusal and a count always.
//! 3. Each operation ends within `PATIENCE`, connecting included. A connection is made when it is needed, shared
//!    by all, and dropped after the first error that is not the server's own refusal.
//! 4. Errors of the server become one of the four of [`StoreError`]; their text, which may hold anything, goes
//!    nowhere.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Script, ServerErrorKind};

use super::names::Names;
use super::record::{self, COUNTED_LIVES, MOST_COUNTED, PATIENCE, millis};
use super::seal::{KeyRing, Seal};
use super::{Change, Lease, Reading, Shelf, Store, StoreError, StoreTime};
use crate::secret::Secret;
use crate::token::BoxFuture;
use crate::token::grant::Login;

/// Rule 2. Keys: lease, entry, refusal, counted. Arguments: the lease's value; tokens and their life; refusal and
/// its life; 1 for a login that counts; the time; how long it is remembered, and how many are.
const SETTLE: &str = r"
local held = redis.call('GET', KEYS[1]) == ARGV[1]
if held and ARGV[2] ~= '' then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
  redis.call('DEL', KEYS[3])
end
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5])
end
if ARGV[6] == '1' then
  redis.call('ZADD', KEYS[4], ARGV[7], ARGV[1])
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - ARGV[9])
  redis.call('PEXPIRE', KEYS[4], ARGV[8])
end
if held then
  redis.call('DEL', KEYS[1])
end
return held and 1 or 0
";

/// The store of a fleet.
pub struct RedisStore {
    link: Arc<Link>,
    prefix: String,
    keys: Option<KeyRing>,
}

/// The URL of a server cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no URL of a Redis server")]
pub struct BadUrl;

/// Where a server is, and who we are there: a URL may hold a password, and is never shown.
#[derive(Clone)]
pub struct Server(Client);

impl Server {
    /// Reads a URL: `redis://`, `rediss://` for TLS, or `redis+unix://`.
    ///
    /// # Errors
    /// When the URL is not one of these.
    pub fn parse(url: &Secret) -> Result<Self, BadUrl> {
        #[expect(clippy::disallowed_methods, reason = "the URL is used to connect")]
        Client::open(url.expose()).map(Self).map_err(|_| BadUrl)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server(..)")
    }
}

impl RedisStore {
    /// A store on `server`, which is not connected to before it is needed.
    #[must_use]
    pub fn new(server: Server, prefix: String, keys: Option<KeyRing>) -> Self {
        let link = Link {
            client: server.0,
            connection: Mutex::new(None),
            settle: Script::new(SETTLE),
        };
        Self {
            link: Arc::new(link),
            prefix,
            keys,
        }
    }
}

impl Store for RedisStore {
    fn shelf(&self, login: &Login) -> Arc<dyn Shelf> {
        Arc::new(RedisShelf {
            link: Arc::clone(&self.link),
            names: Names::of(&self.prefix, login),
            seal: Seal::of(login, self.keys.as_ref()),
        })
    }
}

/// A server and the connection to it.
struct Link {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    settle: Script,
}

impl Link {
    /// Rules 3 and 4.
    async fn run<T>(
        &self,
        work: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let working = async { work(self.connected().await?).await };
        let done = tokio::time::timeout(PATIENCE, working).await;
        done.unwrap_or(Err(Failure::lost(StoreError::TimedOut)))
            .map_err(|failure| {
                if failure.lost {
                    self.keep(None);
                }
                failure.error
            })
    }

    async fn connected(&self) -> Result<MultiplexedConnection, Failure> {
        let known = self.connection().clone();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        self.keep(Some(made.clone()));
        Ok(made)
    }

    fn keep(&self, connection: Option<MultiplexedConnection>) {
        *self.connection() = connection;
    }

    fn connection(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error, and whether it costs the connection.
struct Failure {
    error: StoreError,
    lost: bool,
}

impl Failure {
    fn lost(error: StoreError) -> Self {
        Self { error, lost: true }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { error, lost: false }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::lost(StoreError::TimedOut);
        }
        let unreachable = matches!(
            error.kind(),
            ErrorKind::Io | ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::BusyLoading)
        );
        match error.code() {
            Some("OOM" | "READONLY" | "MISCONF" | "NOREPLICAS" | "NOPERM") => StoreError::Unwritable.into(),
            Some("NOAUTH" | "WRONGPASS") => Self::lost(StoreError::Unreachable),
            Some(_) | None if unreachable => Self::lost(StoreError::Unreachable),
            Some(_) | None => Self::lost(StoreError::Nonsense),
        }
    }
}

/// `TIME`: seconds, and microseconds of the next.
type Time = (u64, u64);

fn time((seconds, micros): Time) -> StoreTime {
    StoreTime(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

struct RedisShelf {
    link: Arc<Link>,
    names: Names,
    seal: Seal,
}

impl RedisShelf {
    async fn reading(&self, mut connection: MultiplexedConnection) -> Result<Reading, Failure> {
        type Answer = (Time, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, u64)>);
        let (now, entry, refusal, counted): Answer = redis::pipe()
            .cmd("TIME")
            .get(&self.names.entry)
            .get(&self.names.refusal)
            .zrange_withscores(&self.names.counted, 0, -1)
            .query_async(&mut connection)
            .await?;
        let place = (&self.names, &self.seal);
        let counted = counted.into_iter().map(|(_, at)| at);
        Ok(record::reading(time(now), place, (entry, refusal), counted))
    }

    async fn leased(
        &self,
        mut connection: MultiplexedConnection,
        life: Duration,
    ) -> Result<Option<Lease>, Failure> {
        let by = super::random().ok_or(StoreError::Unwritable)?;
        let taken: Option<String> = redis::cmd("SET")
            .arg(&self.names.lease)
            .arg(&by)
            .arg("NX")
            .arg("PX")
            .arg(millis(life).max(1))
            .query_async(&mut connection)
            .await?;
        Ok(taken.map(|_| Lease(by)))
    }

    async fn settled(
        &self,
        mut connection: MultiplexedConnection,
        lease: Lease,
        change: Change,
    ) -> Result<bool, Failure> {
        let now = time(redis::cmd("TIME").query_async(&mut connection).await?);
        let seal = |name: &str, plain: &[u8]| self.seal.seal(name, plain).ok_or(StoreError::Unwritable);
        let (mut entry, mut entry_life) = (Vec::new(), 0);
        if let Some(tokens) = &change.entry {
            let plain = record::of_entry(tokens).ok_or(StoreError::Nonsense)?;
            entry = seal(&self.names.entry, &plain)?;
            entry_life = record::end_of(tokens).0.saturating_sub(now.0);
        }
        let (mut refusal, mut refusal_life) = (Vec::new(), 0);
        if let Some((refused, cool_down)) = &change.refusal {
            let plain =
                record::of_refusal(*refused, now, now.plus(*cool_down)).ok_or(StoreError::Nonsense)?;
            refusal = seal(&self.names.refusal, &plain)?;
            refusal_life = millis(*cool_down);
        }
        let mut call = self.link.settle.key(&self.names.lease);
        call.key(&self.names.entry)
            .key(&self.names.refusal)
            .key(&self.names.counted)
            .arg(&lease.0)
            .arg(entry)
            .arg(entry_life.max(1))
            .arg(refusal)
            .arg(refusal_life.max(1))
            .arg(u8::from(change.counted))
            .arg(now.0)
            .arg(millis(COUNTED_LIVES))
            .arg(MOST_COUNTED);
        Ok(call.invoke_async(&mut connection).await?)
    }
}

impl Shelf for RedisShelf {
    fn read(&self) -> BoxFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.link.run(async |connection| self.reading(connection).await))
    }

    fn lease(&self, life: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        Box::pin(
            self.link
                .run(async move |connection| self.leased(connection, life).await),
        )
    }

    fn settle(&self, lease: Lease, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        let settled = async move |connection| self.settled(connection, lease, change).await;
        Box::pin(self.link.run(settled))
    }

    fn clear_refusal(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.link.run(async |mut connection| {
            let clear = redis::cmd("DEL").arg(&self.names.refusal).to_owned();
            Ok(clear.query_async(&mut connection).await?)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_server_is_shown_without_its_url() {
        let parse = |url: &str| Server::parse(&Secret::new(url.to_owned()));
        for url in [
            "redis://:hunter2@host",
            "rediss://host:1/2",
            "redis+unix:///socket",
        ] {
            assert_eq!(format!("{:?}", parse(url).unwrap()), "Server(..)");
        }
        for url in ["", "host", "https://host"] {
            parse(url).unwrap_err();
        }
    }

    #[test]
    fn the_time_is_told_in_milliseconds() {
        assert_eq!(time((1, 2_999)), StoreTime(1_002));
    }

    #[test]
    fn an_error_tells_whether_the_server_or_the_connection_is_at_fault() {
        let says = |code: &str| redis::make_extension_error(code.to_owned(), None);
        for (error, told, lost) in [
            (says("NOPERM"), StoreError::Unwritable, false),
            (says("NOAUTH"), StoreError::Unreachable, true),
            (says("WHATEVER"), StoreError::Nonsense, true),
            (
                io::Error::from(io::ErrorKind::BrokenPipe).into(),
                StoreError::Unreachable,
                true,
            ),
            (
                io::Error::from(io::ErrorKind::TimedOut).into(),
                StoreError::TimedOut,
                true,
            ),
            ((ErrorKind::Parse, "").into(), StoreError::Nonsense, true),
        ] {
            let shown = error.to_string();
            let failure = Failure::from(error);
            assert_eq!((failure.error, failure.lost), (told, lost), "{shown}");
        }
    }
}
