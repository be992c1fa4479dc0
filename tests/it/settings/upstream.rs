//! Rows of `[upstream]`.

use std::time::Duration;

use fluent_sandbox::{Config, Fault, Injection, Place, Sandbox, Times, TokenReuse, When};
use http::Version;
use tokio::task::JoinHandle;

use super::super::egress::{FAR_AWAY, Way, far_away};
use super::super::support::{
    Answer, BlackHole, Frozen, Process, Proxy, Raw, fluent, sandbox, start, with_tokens_of,
};
use super::super::tls::{Authority, ca_file as trusting, secure, server, url};
use super::{ME, PATHS};

const GET: &str = "GET /graphql?query=x HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn ask(proxy: &Proxy) -> JoinHandle<Answer> {
    tokio::spawn(proxy.client().graphql(ME))
}

pub(super) async fn connect_timeout() {
    let hole = BlackHole::dig().await;
    for (toml, seconds) in [("", 5), ("upstream.connect_timeout = '2s'\n", 2)] {
        let mut frozen = Frozen::now();
        let sandbox = sandbox(fluent()).await;
        let proxy = frozen.proxy(&hole.url(), &with_tokens_of(&sandbox, toml));
        let answer = frozen.ends_after(Duration::from_secs(seconds), ask(&proxy)).await;
        answer.assert_refused(502, "UPSTREAM_UNREACHABLE");
        frozen.end(proxy).await;
    }
}

pub(super) async fn response_timeout() {
    for (toml, seconds) in [("", 120), ("upstream.response_timeout = '7s'", 7)] {
        let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), toml).await;
        sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
        let answer = frozen.ends_after(Duration::from_secs(seconds), ask(&proxy)).await;
        answer.assert_refused(504, "UPSTREAM_TIMEOUT");
        frozen.end(proxy).await;
    }
}

pub(super) async fn read_timeout() {
    for (toml, seconds) in [("", 120), ("upstream.read_timeout = '7s'\n", 7)] {
        let (mut frozen, _sandbox, upstream, proxy) = Frozen::start_raw(toml).await;
        let mut caller = Raw::connect(proxy.address()).await;
        caller.send(GET).await;
        let mut there = upstream.accept().await;
        there.head().await;
        there
            .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
        assert_eq!(caller.head().await.status(), 200);
        let cut = tokio::spawn(caller.whole());
        let answer = frozen.ends_after(Duration::from_secs(seconds), cut).await;
        assert_eq!(answer, "half");
        drop(there);
        frozen.end(proxy).await;
    }
}

/// The connection of the last request to Fluent, counted from 1.
async fn connection(sandbox: &Sandbox, proxy: &Proxy) -> u64 {
    proxy.client().graphql(ME).await.assert_good();
    sandbox.seen().api_requests().last().unwrap().connection
}

/// Fails unless a connection that stood for less than `time` is used again, and one that stood longer is not.
async fn assert_used_for(time: Duration, toml: &str) {
    let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), toml).await;
    let first = connection(&sandbox, &proxy).await;
    frozen.settle().await;
    frozen.advance(time.saturating_sub(Duration::from_secs(1))).await;
    frozen.settle().await;
    assert_eq!(connection(&sandbox, &proxy).await, first, "{toml}");
    frozen.settle().await;
    frozen.advance(time + Duration::from_secs(1)).await;
    frozen.settle().await;
    assert_ne!(connection(&sandbox, &proxy).await, first, "{toml}");
    frozen.end(proxy).await;
}

pub(super) async fn upstream_idle_timeout() {
    assert_used_for(Duration::from_secs(15), "").await;
    assert_used_for(Duration::from_secs(5), "upstream.idle_timeout = '5s'").await;
}

pub(super) async fn max_age() {
    let idle = "upstream.idle_timeout = '24h'\n";
    assert_used_for(Duration::from_mins(5), idle).await;
    assert_used_for(Duration::from_mins(1), &format!("{idle}upstream.max_age = '1m'")).await;
}

pub(super) async fn http_version() {
    for (toml, version) in [
        ("", Version::HTTP_11),
        ("upstream.http_version = '2'", Version::HTTP_2),
    ] {
        let (sandbox, proxy) = start(toml).await;
        proxy.client().graphql(ME).await.assert_good();
        assert_eq!(sandbox.seen().api_requests()[0].version, version);
    }
}

pub(super) async fn ca_file() {
    let authority = Authority::new();
    let api = secure(server(&authority.issue("localhost", |_| {}), None, &[])).await;
    let ask = async |upstream: &str| {
        let toml = format!("[upstream]\n{upstream}");
        let proxy = Proxy::start(&url(&api, "localhost"), &toml).await;
        proxy.client().graphql(ME).await
    };
    ask("").await.assert_refused(503, "TOKEN_UNAVAILABLE");
    ask(&trusting(&authority)).await.assert_good();
}

pub(super) async fn client_cert_file() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let tls = server(&authority.issue("localhost", |_| {}), Some(&authority), &[]);
    let api = secure(tls).await;
    let ask = async |client: &str| {
        let toml = format!("[upstream]\n{}{client}", trusting(&authority));
        let proxy = Proxy::start(&url(&api, "localhost"), &toml).await;
        proxy.client().graphql(ME).await
    };
    ask("").await.assert_refused(503, "TOKEN_UNAVAILABLE");
    let strange = stranger.client(&stranger.issue("proxy", |_| {}));
    ask(&strange).await.assert_refused(503, "TOKEN_UNAVAILABLE");
    let known = authority.client(&authority.issue("proxy", |_| {}));
    ask(&known).await.assert_good();
}

pub(super) async fn client_key_file() {
    let authority = Authority::new();
    let other = Authority::new();
    let tls = server(&authority.issue("localhost", |_| {}), Some(&authority), &[]);
    let api = secure(tls).await;
    let good = authority.client(&authority.issue("proxy", |_| {}));
    let strange = other.client(&other.issue("proxy", |_| {}));
    let line = |lines: &str, key: &str| {
        let line = lines.lines().find(|line| line.starts_with(key));
        line.unwrap().to_owned()
    };
    let certificate = line(&good, "client_cert_file");
    for (key, code) in [(&strange, 78), (&good, 0)] {
        let key = line(key, "client_key_file");
        let file = tempfile::NamedTempFile::new().unwrap();
        let toml = format!("[upstream]\n{}{certificate}\n{key}\n", trusting(&authority));
        std::fs::write(file.path(), &toml).unwrap();
        let mut command = Process::command(&url(&api, "localhost"));
        command.arg("check").arg("--config").arg(file.path());
        let output = command.output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    let toml = format!("[upstream]\n{}{good}", trusting(&authority));
    let proxy = Proxy::start(&url(&api, "localhost"), &toml).await;
    proxy.client().graphql(ME).await.assert_good();
}

pub(super) async fn proxy() {
    // Nobody but the proxy on the way out knows where that is.
    let (authority, sandbox) = far_away().await;
    let way = Way::start(sandbox.address(), None, None).await;
    let ask = async |upstream: &str| {
        let toml = format!("[upstream]\n{}{upstream}", trusting(&authority));
        let proxy = Proxy::start(FAR_AWAY, &toml).await;
        proxy.client().graphql(ME).await
    };
    ask("").await.assert_refused(503, "TOKEN_UNAVAILABLE");
    ask("proxy = 'none'")
        .await
        .assert_refused(503, "TOKEN_UNAVAILABLE");
    assert!(way.tunnels().is_empty());
    let through = format!("proxy = 'http://{}'", way.address);
    ask(&through).await.assert_good();
    assert_eq!(way.tunnels().len(), 2);
}

/// A proxy that was asked three times, by requests that hang until they are cleared.
async fn hanging(toml: &str) -> (Frozen, Sandbox, Proxy, Vec<JoinHandle<Answer>>) {
    let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), toml).await;
    sandbox.seen().wait_for(|counts| counts.tokens_issued == 1).await;
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
    let asked = (0..3).map(|_| ask(&proxy)).collect();
    frozen.settle().await;
    (frozen, sandbox, proxy, asked)
}

pub(super) async fn max_in_flight() {
    for (toml, at_once) in [("", 3), ("upstream.max_in_flight = 2", 2)] {
        let (frozen, sandbox, proxy, asked) = hanging(toml).await;
        assert_eq!(sandbox.seen().counts().api_requests, at_once);
        sandbox.faults().clear();
        for one in asked {
            one.await.unwrap().assert_good();
        }
        frozen.end(proxy).await;
    }
}

pub(super) async fn queue() {
    for (toml, refused) in [("", 0), ("upstream.queue = 1", 1), ("upstream.queue = 0", 2)] {
        let toml = format!("upstream.max_in_flight = 1\n{toml}");
        let (frozen, sandbox, proxy, asked) = hanging(&toml).await;
        let told = asked.iter().filter(|one| one.is_finished()).count();
        assert_eq!(told, refused, "{toml}");
        sandbox.faults().clear();
        let mut served = 0;
        for one in asked {
            let answer = one.await.unwrap();
            if answer.code().is_some() {
                answer.assert_refused(503, "OVERLOADED");
            } else {
                served += 1;
            }
        }
        assert_eq!(served, 3 - refused, "{toml}");
        frozen.end(proxy).await;
    }
}

pub(super) async fn queue_timeout() {
    for (toml, seconds) in [("", 2), ("upstream.queue_timeout = '9s'", 9)] {
        let toml = format!("upstream.max_in_flight = 3\n{toml}");
        let (mut frozen, sandbox, proxy, asked) = hanging(&toml).await;
        let answer = frozen.ends_after(Duration::from_secs(seconds), ask(&proxy)).await;
        answer.assert_refused(503, "OVERLOADED");
        sandbox.faults().clear();
        for one in asked {
            one.await.unwrap().assert_good();
        }
        frozen.end(proxy).await;
    }
}

/// The status that a caller gets whose body of 1000 bytes met a 401 that another token cures.
async fn after_a_401(toml: &str) -> u16 {
    let config = Config {
        token_reuse: TokenReuse::NewEachTime,
        ..fluent()
    };
    let (frozen, sandbox, proxy) = Frozen::start(config, &format!("{PATHS}{toml}")).await;
    let once = Injection::new(Place::Api, Fault::Unauthorized).when(When::AfterBody);
    sandbox.faults().add(once);
    let answer = proxy.client().post("/api/v4.1/echo", vec![b'x'; 1000]).await;
    frozen.end(proxy).await;
    answer.status.as_u16()
}

pub(super) async fn replay_limit() {
    assert_eq!(after_a_401("").await, 200);
    assert_eq!(after_a_401("[upstream]\nreplay_limit = '1000B'").await, 200);
    assert_eq!(after_a_401("[upstream]\nreplay_limit = '999B'").await, 401);
    assert_eq!(after_a_401("[upstream]\nreplay_limit = 0").await, 401);
}

pub(super) async fn replay_memory() {
    assert_eq!(after_a_401("").await, 200);
    assert_eq!(after_a_401("[upstream]\nreplay_memory = '1000B'").await, 200);
    assert_eq!(after_a_401("[upstream]\nreplay_memory = '999B'").await, 401);
}

pub(super) async fn via() {
    for (toml, there) in [("", true), ("upstream.via = false", false)] {
        let (sandbox, proxy) = start(toml).await;
        let answer = proxy.client().graphql(ME).await;
        assert_eq!(answer.headers.contains_key("via"), there);
        let asked = &sandbox.seen().api_requests()[0];
        assert_eq!(asked.headers.contains_key("via"), there);
    }
}
