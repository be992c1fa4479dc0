//! Rows of `[cache]`: what a second process makes of what a first one left.

use std::path::Path;

use fluent_sandbox::Sandbox;

use super::super::support::{Proxy, RedisServer, fluent, sandbox};
use super::ME;

/// How many logins two processes cost, one after the other, with these settings.
async fn logins(sandbox: &Sandbox, first: &str, second: &str) -> u64 {
    let before = sandbox.seen().counts().token_requests;
    for settings in [first, second] {
        let proxy = Proxy::start(&sandbox.url(), settings).await;
        proxy.client().graphql(ME).await.assert_good();
        proxy.stop().await;
    }
    sandbox.seen().counts().token_requests - before
}

fn file(folder: &Path, more: &str) -> String {
    format!("[cache]\nstore = 'file'\npath = '{}'\n{more}\n", folder.display())
}

fn redis(server: &RedisServer, more: &str) -> String {
    let socket = server.socket().display();
    format!("[cache]\nstore = 'redis'\nredis_url = 'redis+unix://{socket}'\n{more}\n")
}

pub(super) async fn store() {
    let sandbox = sandbox(fluent()).await;
    assert_eq!(logins(&sandbox, "", "").await, 2, "memory, by default");
    let folder = tempfile::tempdir().unwrap();
    let in_file = file(folder.path(), "");
    assert_eq!(logins(&sandbox, &in_file, &in_file).await, 1);
    let server = RedisServer::start(&[]).await;
    let in_redis = redis(&server, "");
    assert_eq!(logins(&sandbox, &in_redis, &in_redis).await, 1);
}

pub(super) async fn path() {
    let sandbox = sandbox(fluent()).await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (file(one.path(), ""), file(other.path(), ""));
    assert_eq!(logins(&sandbox, &one, &other).await, 2);
    assert_eq!(logins(&sandbox, &one, &one).await, 0, "both are there already");
}

pub(super) async fn redis_url() {
    let sandbox = sandbox(fluent()).await;
    let (one, other) = (RedisServer::start(&[]).await, RedisServer::start(&[]).await);
    let (one, other) = (redis(&one, ""), redis(&other, ""));
    assert_eq!(logins(&sandbox, &one, &other).await, 2);
    assert_eq!(logins(&sandbox, &one, &other).await, 0);
}

pub(super) async fn redis_url_file() {
    let sandbox = sandbox(fluent()).await;
    let server = RedisServer::start(&[]).await;
    let url = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        url.path(),
        format!("redis+unix://{}\n", server.socket().display()),
    )
    .unwrap();
    let by_file = format!(
        "[cache]\nstore = 'redis'\nredis_url_file = '{}'\n",
        url.path().display()
    );
    assert_eq!(logins(&sandbox, &by_file, &redis(&server, "")).await, 1);
}

pub(super) async fn prefix() {
    let sandbox = sandbox(fluent()).await;
    let server = RedisServer::start(&[]).await;
    let (usual, other) = (redis(&server, ""), redis(&server, "prefix = 'shop'"));
    assert_eq!(logins(&sandbox, &usual, &other).await, 2);
    let written_out = redis(&server, "prefix = 'fluent-auth-proxy'");
    assert_eq!(logins(&sandbox, &usual, &written_out).await, 0);
}

pub(super) async fn key_file() {
    let sandbox = sandbox(fluent()).await;
    let folder = tempfile::tempdir().unwrap();
    let keys = |name: &str, keys: &[&str]| {
        let path = folder.path().join(name);
        std::fs::write(&path, keys.join("\n")).unwrap();
        file(folder.path(), &format!("key_file = '{}'", path.display()))
    };
    let [a, b] = ["A", "E"].map(|letter| letter.repeat(43) + "=");
    let (old, both, new) = (keys("old", &[&a]), keys("both", &[&b, &a]), keys("new", &[&b]));
    let without = file(folder.path(), "");
    assert_eq!(logins(&sandbox, &without, &without).await, 1);
    assert_eq!(
        logins(&sandbox, &old, &old).await,
        1,
        "another seal opens nothing"
    );
    assert_eq!(logins(&sandbox, &both, &old).await, 0, "all keys open");
    assert_eq!(logins(&sandbox, &new, &new).await, 1);
    assert_eq!(logins(&sandbox, &both, &old).await, 1, "and the first one seals");
}
