//! Rule 11, the status and the log: what goes on without callers, and what is told of it.

use tracing::level_filters::LevelFilter;

use super::*;

#[tokio::test(start_paused = true)]
async fn rule_11_the_default_user_is_kept_logged_in_without_traffic_and_no_other_is() {
    let endpoint = Endpoint::new_each_time();
    let users = [
        ("default", "default", login("ann")),
        ("default", "bob", login("bob")),
    ];
    let (cache, _, hand) = cache_of(&users, &endpoint);
    cache.keep_default();
    settle().await;
    assert!(cache.has_held_a_token());
    assert_eq!(endpoint.asked(), 1);
    sleep(HOUR * 10).await;
    assert_eq!(endpoint.asked(), 1 + 10);
    hand.sleep_through(HOUR * 10);
    sleep(Duration::from_secs(16)).await;
    assert_eq!(endpoint.asked(), 1 + 10 + 1, "it notices that the laptop slept");
    tokio::time::timeout(Duration::from_secs(1), cache.shutdown())
        .await
        .unwrap();
    sleep(HOUR * 10).await;
    assert_eq!(endpoint.asked(), 1 + 10 + 1);
}

#[tokio::test(start_paused = true)]
async fn rule_11_nobody_is_kept_logged_in_by_a_cache_that_is_gone() {
    let endpoint = Endpoint::new_each_time();
    let (cache, source, _) = cache(&endpoint);
    cache.keep_default();
    settle().await;
    drop(cache);
    sleep(HOUR * 10).await;
    assert_eq!(endpoint.asked(), 1);
    assert!(source.ready().is_none());
}

#[tokio::test(start_paused = true)]
async fn rule_11_the_keeper_waits_out_trouble_and_refusals() {
    let endpoint = Endpoint::open(|n| match n {
        1..=5 => Err(UNREACHABLE),
        6 => Err(REFUSED),
        _ => token("T", 3600),
    });
    let (cache, source, _) = cache(&endpoint);
    cache.keep_default();
    while endpoint.asked() < 6 {
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_mins(15)).await;
    assert_eq!(endpoint.asked(), 6);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(endpoint.asked(), 7);
    assert!(source.ready().is_some());
}

#[tokio::test(start_paused = true)]
async fn rule_11_the_keeper_replaces_a_rejected_token_once_it_can() {
    let endpoint = Endpoint::failing_second(UNREACHABLE);
    let (cache, source, _) = cache(&endpoint);
    cache.keep_default();
    settle().await;
    let token = source.ready().unwrap();
    assert!(replaced(source.reject(&token)).await.is_err());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(bearer(&source.ready().unwrap()), "Bearer T3");
    assert_eq!(endpoint.asked(), 3);
    cache.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_status_speaks_the_words_of_the_admin_listener() {
    let endpoint = Endpoint::open(|n| match n {
        1 => Err(UNREACHABLE),
        2 => token("T", 3600),
        _ => Err(REFUSED),
    });
    let (cache, source, _) = cache(&endpoint);
    let read = || serde_json::to_value(status(&cache)).unwrap();
    let empty = read();
    assert_eq!(empty["state"], "empty");
    assert_eq!(empty["login"], "none");
    for field in [
        "expires_in_seconds",
        "obtained_by",
        "obtained_at",
        "next_attempt_in_seconds",
        "last_error",
    ] {
        assert!(empty[field].is_null(), "{field}");
    }
    drop(source.obtain().await);
    let failed = read();
    assert_eq!(failed["login"], "unavailable");
    assert_eq!(failed["next_attempt_in_seconds"], 1);
    assert_eq!(
        failed["last_error"],
        "no token can be had: the token endpoint cannot be reached"
    );
    advance(Duration::from_secs(1)).await;
    drop(source.obtain().await);
    let fresh = read();
    assert_eq!(fresh["state"], "fresh");
    assert_eq!(fresh["login"], "ok");
    assert_eq!(fresh["expires_in_seconds"], 3600);
    assert_eq!(fresh["obtained_by"], "password");
    assert!(fresh["obtained_at"].as_u64().unwrap() > 1_700_000_000);
    assert!(fresh["last_error"].is_null());
    drop(source.reject(&source.ready().unwrap()));
    settle().await;
    let refused = read();
    assert_eq!(refused["state"], "empty");
    assert_eq!(refused["login"], "refused");
    assert_eq!(refused["next_attempt_in_seconds"], 960);
    let logins = serde_json::json!({"ok": 1, "refused": 1, "unavailable": 1});
    assert_eq!(refused["logins"], logins);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A login of each outcome.
async fn three_logins() {
    let endpoint = Endpoint::open(|n| match n {
        1 => token("TOKEN", 3600),
        2 => Err(UNREACHABLE),
        _ => Err(REFUSED),
    });
    let (_cache, source, _) = cache(&endpoint);
    for _ in 0..3 {
        drop(source.obtain().await);
        advance(HOUR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_each_login_and_no_secret() {
    // With a single subscriber, an event that a test beside this one meets first is switched off for all.
    let silent = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::OFF)
        .finish();
    let _other = tracing::Dispatch::new(silent);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    three_logins().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for told in [
        "token obtained",
        "no token obtained",
        "credentials refused",
        "instance=default user=default",
    ] {
        assert!(log.contains(told), "{log}");
    }
    for secret in ["TOKEN", "hunter2", "client-secret", "acme.example"] {
        assert!(!log.contains(secret), "{log}");
    }
}
