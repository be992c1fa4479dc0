//! Laws that every store keeps, and those of the files.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::file::FileStore;
use super::redis::{RedisStore, Server};
use super::watched::Watched;
use super::*;
use crate::clock::Clock;
use crate::token::OAuthError;

#[path = "../../../tests/it/support/redis.rs"]
mod server;
use server::{RedisServer, garbage};

const LIFE: Duration = Duration::from_mins(1);
pub(super) const REFUSAL: Refusal = Refusal {
    status: StatusCode::BAD_REQUEST,
    error: OAuthError::InvalidGrant,
};

pub(super) fn login() -> Login {
    with_password("pw")
}

pub(super) fn with_password(password: &str) -> Login {
    Login::example("ann", password)
}

fn entry(token: &str, now: StoreTime) -> Change {
    Change {
        entry: Some(Entry {
            token: Secret::new(token.to_owned()),
            refresh_token: Some(Secret::new("refresh".to_owned())),
            issued_at: now,
            expires_at: StoreTime(now.0 + 60_000),
            gone_at: StoreTime(now.0 + 61_000),
        }),
        ..Change::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test compares what it planted")]
fn token(reading: &Reading) -> Option<&str> {
    reading.entry.as_ref().map(|entry| entry.token.expose())
}

/// The laws, on an empty store.
async fn laws(store: &dyn Store) {
    let shelf = store.shelf(&login());
    let other = store.shelf(&with_password("new"));
    let empty = shelf.read().await.unwrap();
    assert!(empty.entry.is_none() && empty.refusal.is_none() && empty.counted.is_empty());

    // One lease an account, whatever the credentials, until it is settled.
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    assert!(shelf.lease(LIFE).await.unwrap().is_none());
    assert!(other.lease(LIFE).await.unwrap().is_none());
    assert!(shelf.settle(lease, entry("one", empty.now)).await.unwrap());
    let reading = shelf.read().await.unwrap();
    assert_eq!(token(&reading), Some("one"));
    assert!(reading.now >= empty.now);
    // Other credentials, or another scope, see nothing of it.
    assert!(other.read().await.unwrap().entry.is_none());

    // A lease ends by itself, and who lost it writes no token; what Fluent counts is written all the same.
    let lost = shelf.lease(Duration::from_millis(1)).await.unwrap().unwrap();
    let next = loop {
        if let Some(lease) = shelf.lease(LIFE).await.unwrap() {
            break lease;
        }
    };
    let change = Change {
        refusal: Some((REFUSAL, LIFE)),
        counted: true,
        ..entry("stale", reading.now)
    };
    assert!(!shelf.settle(lost, change).await.unwrap());
    let reading = shelf.read().await.unwrap();
    assert_eq!(token(&reading), Some("one"));
    let (refusal, until) = reading.refusal.unwrap();
    assert_eq!(refusal, REFUSAL);
    assert!(until > reading.now);
    assert_eq!(reading.counted.len(), 1);
    // The newer lease still stands.
    assert!(shelf.lease(LIFE).await.unwrap().is_none());
    // The refusal is that of the credentials, the count that of the account.
    let elsewhere = other.read().await.unwrap();
    assert!(elsewhere.refusal.is_none());
    assert_eq!(elsewhere.counted, reading.counted);

    // Tokens end the refusal; the count stays.
    assert!(shelf.settle(next, entry("two", reading.now)).await.unwrap());
    let reading = shelf.read().await.unwrap();
    assert_eq!(token(&reading), Some("two"));
    assert!(reading.refusal.is_none());
    assert_eq!(reading.counted.len(), 1);

    // Each login counts, whoever sends it and by whatever lease.
    for logins in 2..=4 {
        let change = Change {
            counted: true,
            ..Change::default()
        };
        assert!(!other.settle(Lease::none(), change).await.unwrap());
        assert_eq!(shelf.read().await.unwrap().counted.len(), logins);
    }

    // An operator clears a refusal.
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    let change = Change {
        refusal: Some((REFUSAL, LIFE)),
        ..Change::default()
    };
    assert!(shelf.settle(lease, change).await.unwrap());
    assert!(shelf.read().await.unwrap().refusal.is_some());
    shelf.clear_refusal().await.unwrap();
    assert!(shelf.read().await.unwrap().refusal.is_none());
}

fn file_store(folder: &std::path::Path) -> FileStore {
    FileStore::new(folder.to_owned(), "test".to_owned(), None)
}

/// The one file of a kind in a folder.
fn only(folder: &std::path::Path, kind: &str) -> PathBuf {
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found = paths.filter(|path| path.extension().is_some_and(|is| is == kind));
    let only = found.next().unwrap();
    assert!(found.next().is_none());
    only
}

async fn written(store: &FileStore) {
    let shelf = store.shelf(&login());
    let now = shelf.read().await.unwrap().now;
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    assert!(shelf.settle(lease, entry("one", now)).await.unwrap());
}

#[tokio::test]
async fn files_keep_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    let store = |place| {
        let config = Config {
            place,
            prefix: "test".to_owned(),
            keys: None,
        };
        open(&config, Counter::default(), Clock::system())
    };
    let files = store(Place::File(folder.path().to_owned())).unwrap();
    laws(files.as_ref()).await;
    assert!(store(Place::Memory).is_none());
}

#[tokio::test]
async fn files_outlive_a_store_and_are_for_their_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("made");
    written(&file_store(&folder)).await;
    let reading = file_store(&folder).shelf(&login()).read().await.unwrap();
    assert_eq!(token(&reading), Some("one"));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&only(&folder, "json")), 0o600);
    assert_eq!(mode(&only(&folder, "lock")), 0o600);
    let text = std::fs::read_to_string(only(&folder, "json")).unwrap();
    assert!(!text.contains("one") && !text.contains("refresh"));
}

#[tokio::test]
async fn a_file_that_makes_no_sense_is_empty_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    written(&store).await;
    std::fs::write(only(folder.path(), "json"), b"{\"lease\":").unwrap();
    assert!(store.shelf(&login()).read().await.unwrap().entry.is_none());
    written(&store).await;
    assert_eq!(token(&store.shelf(&login()).read().await.unwrap()), Some("one"));
}

#[tokio::test]
async fn a_value_that_was_copied_to_another_name_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    written(&store).await;
    let path = only(folder.path(), "json");
    let mut other = login();
    other.scope = "other".to_owned();
    let (from, to) = (
        names::Names::of("test", &login()),
        names::Names::of("test", &other),
    );
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&from.entry, &to.entry)).unwrap();
    assert!(store.shelf(&other).read().await.unwrap().entry.is_none());
}

#[tokio::test]
async fn tokens_from_the_future_are_dead_and_refusals_from_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = file_store(folder.path()).shelf(&login());
    let now = shelf.read().await.unwrap().now;
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    let change = entry("one", StoreTime(now.0 + 3_600_000));
    assert!(shelf.settle(lease, change).await.unwrap());
    let reading = shelf.read().await.unwrap();
    assert!(reading.entry.unwrap().expires_at <= reading.now);
    let plain = record::of_refusal(REFUSAL, now.plus(LIFE), now.plus(2 * LIFE)).unwrap();
    assert!(record::refusal(&plain, now).is_none());
    assert!(record::refusal(&plain, now.plus(LIFE)).is_some());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_takes_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("file");
    std::fs::write(&taken, b"").unwrap();
    let shelf = file_store(&taken).shelf(&login());
    assert_eq!(shelf.lease(LIFE).await.unwrap_err(), StoreError::Unwritable);
    assert_eq!(shelf.read().await.unwrap_err(), StoreError::Unreachable);
}

#[tokio::test]
async fn a_folder_in_the_place_of_a_file_is_an_error_and_a_file_left_half_written_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    written(&store).await;
    let shelf = store.shelf(&login());
    let file = only(folder.path(), "json");
    let new = file.with_extension("new");
    std::fs::create_dir(&new).unwrap();
    assert_eq!(shelf.lease(LIFE).await.unwrap_err(), StoreError::Unwritable);
    assert_eq!(token(&shelf.read().await.unwrap()), Some("one"));
    std::fs::remove_dir(&new).unwrap();
    std::fs::write(&new, b"{").unwrap();
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    assert!(shelf.settle(lease, Change::default()).await.unwrap());
    assert!(!new.exists());
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(shelf.read().await.unwrap_err(), StoreError::Unreachable);
}

#[tokio::test]
async fn a_file_holds_the_largest_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = file_store(folder.path()).shelf(&login());
    let (now, large) = (shelf.read().await.unwrap().now, "t".repeat(256 * 1024));
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    assert!(shelf.settle(lease, entry(&large, now)).await.unwrap());
    assert_eq!(token(&shelf.read().await.unwrap()), Some(&*large));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the bound is one of real time")]
async fn a_lock_that_is_never_given_back_holds_nobody_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let store = file_store(folder.path());
    written(&store).await;
    let lock = std::fs::File::open(only(folder.path(), "lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let shelf = store.shelf(&login());
    let start = Instant::now();
    // As many as there are threads: none of these is still at it when they are told.
    for outcome in futures_util::future::join_all((0..4).map(|_| shelf.lease(LIFE))).await {
        assert_eq!(outcome.unwrap_err(), StoreError::TimedOut);
    }
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(500), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    // Who only reads needs no lock.
    assert_eq!(token(&shelf.read().await.unwrap()), Some("one"));
    drop(lock);
    assert!(shelf.lease(LIFE).await.unwrap().is_some());
}

fn redis_at(socket: &std::path::Path) -> RedisStore {
    let url = Secret::new(format!("redis+unix://{}", socket.display()));
    RedisStore::new(Server::parse(&url).unwrap(), "test".to_owned(), None)
}

#[tokio::test]
async fn redis_keeps_the_laws() {
    let server = RedisServer::start(&[]).await;
    laws(&redis_at(server.socket())).await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the bound is one of real time")]
async fn a_paused_server_holds_nobody_for_long_and_is_used_again_when_it_goes_on() {
    let server = RedisServer::start(&[]).await;
    let shelf = redis_at(server.socket()).shelf(&login());
    shelf.read().await.unwrap();
    server.signal(Signal::STOP);
    let start = Instant::now();
    assert_eq!(shelf.read().await.unwrap_err(), StoreError::TimedOut);
    assert_eq!(shelf.lease(LIFE).await.unwrap_err(), StoreError::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(6));
    server.signal(Signal::CONT);
    shelf.read().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_at_once() {
    let mut server = RedisServer::start(&[]).await;
    let shelf = redis_at(server.socket()).shelf(&login());
    shelf.read().await.unwrap();
    server.kill();
    assert_eq!(shelf.read().await.unwrap_err(), StoreError::Unreachable);
    assert_eq!(shelf.lease(LIFE).await.unwrap_err(), StoreError::Unreachable);
}

#[tokio::test]
async fn a_connection_is_made_once_and_shared() {
    let server = RedisServer::start(&[]).await;
    let client = ::redis::Client::open(format!("redis+unix://{}", server.socket().display())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut connections = async || -> u64 {
        let stats: ::redis::InfoDict = ::redis::cmd("INFO").query_async(&mut connection).await.unwrap();
        stats.get("total_connections_received").unwrap()
    };
    let before = connections().await;
    let store = redis_at(server.socket());
    for login in [login(), with_password("new"), login()] {
        store.shelf(&login).read().await.unwrap();
    }
    assert_eq!(connections().await - before, 1);
}

#[tokio::test]
async fn a_full_server_takes_no_writes_and_is_still_read() {
    let server = RedisServer::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).await;
    let shelf = redis_at(server.socket()).shelf(&login());
    assert_eq!(shelf.lease(LIFE).await.unwrap_err(), StoreError::Unwritable);
    let settled = shelf.settle(
        Lease("lost".to_owned()),
        Change {
            counted: true,
            ..Change::default()
        },
    );
    assert_eq!(settled.await.unwrap_err(), StoreError::Unwritable);
    assert!(shelf.read().await.unwrap().entry.is_none());
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_told_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("garbage.sock");
    let answering = garbage(&socket);
    let error = redis_at(&socket).shelf(&login()).read().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Nonsense | StoreError::Unreachable),
        "{error}"
    );
    answering.abort();
}

#[tokio::test]
async fn a_store_that_is_away_is_left_alone_and_noticed_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let errors = Counter::default();
    let (clock, hand) = Clock::manual();
    let blocked = folder.path().join("store");
    std::fs::write(&blocked, b"").unwrap();
    let watched = Watched::new(Arc::new(file_store(&blocked)), errors.clone(), clock);
    let shelf = watched.shelf(&login());
    for _ in 0..10 {
        shelf.lease(LIFE).await.unwrap_err();
    }
    assert_eq!(errors.get(), 1);
    // Once it is there again, the next probe finds out.
    std::fs::remove_file(&blocked).unwrap();
    shelf.lease(LIFE).await.unwrap_err();
    hand.sleep_through(Duration::from_secs(3));
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    assert!(shelf.settle(lease, Change::default()).await.unwrap());
    assert_eq!(errors.get(), 1);
}

#[tokio::test]
async fn a_value_in_redis_that_was_changed_or_copied_is_none() {
    let server = RedisServer::start(&[]).await;
    let store = redis_at(server.socket());
    let shelf = store.shelf(&login());
    let now = shelf.read().await.unwrap().now;
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    assert!(shelf.settle(lease, entry("one", now)).await.unwrap());
    let mut other = login();
    other.scope = "other".to_owned();
    let (from, to) = (
        names::Names::of("test", &login()).entry,
        names::Names::of("test", &other).entry,
    );
    let client = ::redis::Client::open(format!("redis+unix://{}", server.socket().display())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let copied: bool = ::redis::cmd("COPY")
        .arg(&from)
        .arg(&to)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(copied);
    assert!(store.shelf(&other).read().await.unwrap().entry.is_none());
    let _: u64 = ::redis::cmd("SETRANGE")
        .arg(&from)
        .arg(40)
        .arg("tampered")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(shelf.read().await.unwrap().entry.is_none());
    // What is refused is replaced by the next login.
    let lease = shelf.lease(LIFE).await.unwrap().unwrap();
    assert!(shelf.settle(lease, entry("two", now)).await.unwrap());
    assert_eq!(token(&shelf.read().await.unwrap()), Some("two"));
}

#[tokio::test]
async fn a_server_that_restarts_empty_is_used_again() {
    let mut server = RedisServer::start(&[]).await;
    let shelf = redis_at(server.socket()).shelf(&login());
    shelf.read().await.unwrap();
    let _held = shelf.lease(LIFE).await.unwrap().unwrap();
    server.restart().await;
    // The old connection costs one error at most.
    let reading = match shelf.read().await {
        Err(StoreError::Unreachable) => shelf.read().await,
        first => first,
    };
    assert!(reading.unwrap().entry.is_none());
    assert!(shelf.lease(LIFE).await.unwrap().is_some());
}
