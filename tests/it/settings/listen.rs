//! Rows of `[listen]`.

use std::time::Duration;

use http::Request;

use super::super::support::{Client, Frozen, Raw, fluent, full, start};
use super::{ME, PATHS, problems};

const GET: &str = "GET /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST: &str = "POST /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

pub(super) async fn address() {
    for (toml, ip) in [
        ("", "127.0.0.1"),
        ("listen.address = '127.0.0.2:0' # own listen address", "127.0.0.2"),
    ] {
        let (_sandbox, proxy) = start(toml).await;
        assert_eq!(proxy.address().ip().to_string(), ip);
        proxy.client().graphql(ME).await.assert_good();
    }
}

pub(super) async fn danger_allow_remote() {
    let toml = "listen.address = '0.0.0.0:0' # own listen address";
    assert!(problems("http://localhost", toml).contains("which other machines can reach"));
    let (_sandbox, proxy) = start(&format!("listen.danger_allow_remote = true\n{toml}")).await;
    assert!(proxy.address().ip().is_unspecified());
    proxy.client().graphql(ME).await.assert_good();
}

/// A GraphQL query with one more header.
fn with(name: &str, value: &str) -> super::super::support::Request {
    let request = Request::post("/graphql").header("content-type", "application/json");
    let body = serde_json::json!({ "query": ME }).to_string();
    request.header(name, value).body(full(body)).unwrap()
}

pub(super) async fn allowed_hosts() {
    let ask = async |toml| {
        let (_sandbox, proxy) = start(toml).await;
        proxy.client().send(with("host", "proxy.example")).await
    };
    ask("").await.assert_refused(421, "HOST_NOT_ALLOWED");
    ask("listen.allowed_hosts = 'proxy.example'").await.assert_good();
}

pub(super) async fn allowed_origins() {
    let ask = async |toml| {
        let (_sandbox, proxy) = start(toml).await;
        proxy.client().send(with("origin", "https://app.example")).await
    };
    ask("").await.assert_refused(403, "CROSS_ORIGIN");
    ask("listen.allowed_origins = 'https://app.example'")
        .await
        .assert_good();
}

pub(super) async fn allowed_uids() {
    let own = rustix::process::getuid().as_raw();
    for (toml, good) in [
        (String::new(), true),
        (format!("listen.allowed_uids = [{own}]"), true),
        (format!("listen.allowed_uids = [{}]", own + 1), false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listen = format!("listen.address = 'unix:{}' # own listen address", path.display());
        let (_sandbox, _proxy) = start(&format!("{toml}\n{listen}")).await;
        let answer = Client::unix(&path).graphql(ME).await;
        if good {
            answer.assert_good();
        } else {
            answer.assert_refused(403, "PEER_NOT_ALLOWED");
        }
    }
}

pub(super) async fn required_header() {
    let (_sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    let (_sandbox, proxy) = start("listen.required_header = 'x-proxy-key: open sesame'").await;
    let refused = proxy.client().graphql(ME).await;
    refused.assert_refused(412, "HEADER_REQUIRED");
    let served = proxy.client().send(with("x-proxy-key", "open sesame")).await;
    served.assert_good();
}

pub(super) async fn paths() {
    let ask = async |toml| {
        let (_sandbox, proxy) = start(toml).await;
        proxy.client().get("/api/v4.1/echo").await
    };
    ask("").await.assert_refused(404, "PATH_NOT_FOUND");
    assert_eq!(ask(PATHS).await.json()["path"], "/api/v4.1/echo");
}

pub(super) async fn max_body() {
    for (toml, max) in [("", 64 << 20), ("max_body = '1KiB'", 1024_u64)] {
        let (sandbox, proxy) = start(&format!("{PATHS}{toml}")).await;
        let mut caller = Raw::connect(proxy.address()).await;
        let over = max + 1;
        caller.send(format!("{POST}Content-Length: {over}\r\n\r\n")).await;
        caller.answer().await.assert_refused(413, "BODY_TOO_LARGE");
        let body = vec![b'x'; usize::try_from(max).unwrap()];
        let at = proxy.client().post("/api/v4.1/echo", body).await;
        // Fluent's own limit of 2 MB is no answer of the proxy.
        assert_eq!(at.code(), None);
        assert_eq!(sandbox.seen().counts().api_requests, 1);
    }
    let (sandbox, proxy) = start(&format!("{PATHS}max_body = 0")).await;
    let mut caller = Raw::connect(proxy.address()).await;
    let terabyte = 1_u64 << 40;
    caller
        .send(format!("{POST}Content-Length: {terabyte}\r\n\r\nx"))
        .await;
    sandbox.seen().wait_for(|counts| counts.api_requests == 1).await;
}

pub(super) async fn max_connections() {
    for (toml, waits) in [("", false), ("max_connections = 1", true)] {
        let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), &format!("{PATHS}{toml}")).await;
        let mut first = Raw::connect(proxy.address()).await;
        first.send(GET).await;
        first.answer().await;
        let client = proxy.client();
        let second = tokio::spawn(async move { client.get("/api/v4.1/echo").await });
        frozen.settle().await;
        assert_eq!(second.is_finished(), !waits);
        drop(first);
        assert_eq!(second.await.unwrap().status, 200);
        frozen.end(proxy).await;
    }
}

pub(super) async fn header_timeout() {
    for (toml, seconds) in [("", 10), ("header_timeout = '2s'", 2)] {
        let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), &format!("{PATHS}{toml}")).await;
        let mut caller = Raw::connect(proxy.address()).await;
        caller.send("GET /api/v4.1/echo HTTP/1.1\r\nHost: loc").await;
        let cut = tokio::spawn(caller.whole());
        let answer = frozen.ends_after(Duration::from_secs(seconds), cut).await;
        assert_eq!(answer, "");
        frozen.end(proxy).await;
    }
}

pub(super) async fn idle_timeout() {
    for (toml, seconds) in [("", 75), ("idle_timeout = '20s'", 20)] {
        let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), &format!("{PATHS}{toml}")).await;
        let mut caller = Raw::connect(proxy.address()).await;
        caller.send(GET).await;
        assert_eq!(caller.answer().await.status, 200);
        let cut = tokio::spawn(caller.whole());
        let answer = frozen.ends_after(Duration::from_secs(seconds), cut).await;
        assert_eq!(answer, "");
        frozen.end(proxy).await;
    }
}

pub(super) async fn body_timeout() {
    for (toml, seconds) in [("", 30), ("body_timeout = '3s'", 3)] {
        let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), &format!("{PATHS}{toml}")).await;
        let mut caller = Raw::connect(proxy.address()).await;
        caller.send(format!("{POST}Content-Length: 10\r\n\r\nhalf")).await;
        let told = tokio::spawn(caller.whole());
        let answer = frozen.ends_after(Duration::from_secs(seconds), told).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
        frozen.end(proxy).await;
    }
}

pub(super) async fn write_timeout() {
    for (toml, seconds) in [("", 60), ("write_timeout = '5s'", 5)] {
        let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), &format!("{PATHS}{toml}")).await;
        let request = "GET /api/v4.1/download?bytes=1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut caller = Raw::connect(proxy.address()).await;
        caller.send(request).await;
        assert_eq!(caller.head().await.status(), 200);
        frozen.settle().await;
        let before = sandbox.seen().counts().open_connections;
        let seen = sandbox.seen().clone();
        let cut = tokio::spawn(async move {
            seen.wait_for(|counts| counts.open_connections < before).await;
        });
        frozen.ends_after(Duration::from_secs(seconds), cut).await;
        // The caller is here to the end, and does not read.
        drop(caller);
        frozen.end(proxy).await;
    }
}

pub(super) async fn graphiql() {
    let ask = async |toml| {
        let (_sandbox, proxy) = start(toml).await;
        proxy.client().get("/graphiql").await
    };
    let page = ask("").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    ask("listen.graphiql = false")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    let remote = "listen.danger_allow_remote = true\nlisten.address = '0.0.0.0:0' # own listen address";
    ask(remote).await.assert_refused(404, "PATH_NOT_FOUND");
    let page = ask(&format!("{remote}\nlisten.graphiql = true")).await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
}
