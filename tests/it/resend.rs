//! A query whose connection died without an answer is sent once more; nothing else is.

use fluent_sandbox::{Config, Fault, Injection, Place, Sandbox, Times, TokenReuse, When};
use serde_json::json;

use super::metrics::settled;
use super::support::{Answer, Frozen, Proxy, Raw, RawUpstream, fluent, full, start, start_raw};
use super::tls::{Authority, ca_file, secure, server, url};

const ME: &str = "{ me { id } }";
const MUTATION: &str = r#"mutation { updateInventoryQuantity(input: {ref: "LOC_002:SKU_00001:LAST_ON_HAND", quantity: 7}) { ref } }"#;

/// The next request's connection dies once its body has come.
fn death(fault: &Fault) -> Injection {
    Injection::new(Place::Api, fault.clone()).when(When::AfterBody)
}

#[track_caller]
fn assert_interrupted(answer: &Answer) {
    answer.assert_refused(502, "UPSTREAM_INTERRUPTED");
}

/// Fails unless so many requests were sent once more.
async fn assert_replays(proxy: &Proxy, count: u32) {
    let scrape = settled(proxy).await;
    scrape.assert(r#"replays_total{instance="default",reason="interrupted"}"#, count);
}

/// Fails unless a query reaches Fluent twice, byte for byte, and is answered.
async fn assert_sent_once_more(sandbox: &Sandbox, proxy: &Proxy, when: When, fault: Fault) {
    proxy.client().graphql(ME).await.assert_good();
    let before = sandbox.seen().counts();
    sandbox.faults().add(death(&fault).when(when));
    let body = json!({ "query": ME, "variables": { "text": "é".repeat(5_000) } }).to_string();
    proxy.client().post("/graphql", body.clone()).await.assert_good();
    let after = sandbox.seen().counts();
    assert_eq!(after.api_requests, before.api_requests + 2, "{fault:?} {when:?}");
    assert_eq!(after.token_requests, before.token_requests);
    let seen = sandbox.seen().api_requests();
    for attempt in &seen[seen.len() - 2..] {
        assert_eq!(attempt.body.kept, body);
    }
}

#[tokio::test]
async fn a_query_whose_connection_died_is_sent_once_more() {
    let (sandbox, proxy) = start("").await;
    for (count, fault) in [(2, Fault::Reset), (4, Fault::Close)] {
        for when in [When::AfterBody, When::AfterExecution] {
            assert_sent_once_more(&sandbox, &proxy, when, fault.clone()).await;
        }
        assert_replays(&proxy, count).await;
    }
    sandbox.faults().add(death(&Fault::Close));
    let before = sandbox.seen().counts().api_requests;
    proxy
        .client()
        .get("/graphql?query=%7Bme%7Bid%7D%7D")
        .await
        .assert_good();
    assert_eq!(sandbox.seen().counts().api_requests, before + 2);
}

#[tokio::test]
async fn so_it_is_over_http_2_and_over_tls_and_while_rules_are_on() {
    for toml in ["upstream.http_version = '2'", "graphql.mutations = 'deny'"] {
        let (sandbox, proxy) = start(toml).await;
        for _ in 0..2 {
            assert_sent_once_more(&sandbox, &proxy, When::AfterBody, Fault::Reset).await;
        }
    }
    let authority = Authority::new();
    let api = secure(server(&authority.issue("localhost", |_| {}), None, &[])).await;
    let proxy = Proxy::start(
        &url(&api, "localhost"),
        &format!("[upstream]\n{}", ca_file(&authority)),
    )
    .await;
    for fault in [Fault::Close, Fault::Reset] {
        assert_sent_once_more(&api, &proxy, When::AfterBody, fault).await;
    }
}

#[tokio::test]
async fn what_may_change_things_or_cannot_be_read_is_sent_once() {
    let (sandbox, proxy) = start("listen.paths = ['/graphql', '/api/*']").await;
    let both = format!("query A {ME} {MUTATION}");
    let json = "application/json";
    for (path, media, body) in [
        ("/graphql", json, json!({ "query": MUTATION }).to_string()),
        (
            "/graphql",
            json,
            json!({ "query": both, "operationName": "A" }).to_string(),
        ),
        (
            "/graphql",
            json,
            json!([{ "query": ME }, { "query": MUTATION }]).to_string(),
        ),
        (
            "/graphql",
            json,
            r#"{"query":"{ me { id } }","query":"mutation { a }"}"#.to_owned(),
        ),
        (
            "/graphql",
            json,
            r#"{"extensions":{"persistedQuery":{"sha256Hash":"a1"}}}"#.to_owned(),
        ),
        ("/graphql", json, "nonsense".to_owned()),
        ("/graphql", "application/graphql", ME.to_owned()),
        (
            "/graphql?query=%7Bme%7Bid%7D%7D",
            json,
            json!({ "query": ME }).to_string(),
        ),
        ("/api/v4.1/event", json, json!({ "query": ME }).to_string()),
    ] {
        for fault in [Fault::Close, Fault::Reset] {
            let before = sandbox.seen().counts();
            sandbox.faults().add(death(&fault));
            let request = http::Request::post(path).header("content-type", media);
            let answer = proxy
                .client()
                .send(request.body(full(body.clone())).unwrap())
                .await;
            assert_interrupted(&answer);
            let after = sandbox.seen().counts();
            assert_eq!(after.api_requests, before.api_requests + 1, "{path} {body}");
            assert_eq!(after.mutations, before.mutations);
        }
    }
    assert_replays(&proxy, 0).await;
}

#[tokio::test]
async fn a_query_is_sent_twice_at_most() {
    let (sandbox, proxy) = start("").await;
    sandbox.faults().add(death(&Fault::Close).times(Times::Count(2)));
    assert_interrupted(&proxy.client().graphql(ME).await);
    assert_eq!(sandbox.seen().counts().api_requests, 2);
}

#[tokio::test]
async fn a_401_and_a_death_together_are_two_sends_as_well() {
    let config = Config {
        token_reuse: TokenReuse::NewEachTime,
        ..fluent()
    };
    let (frozen, sandbox, proxy) = Frozen::start(config, "").await;
    sandbox.faults().add(death(&Fault::Close));
    sandbox.faults().add(death(&Fault::Unauthorized));
    let answer = proxy.client().graphql(ME).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (401, None),
        "it goes to the caller as it came"
    );
    assert_eq!(sandbox.seen().counts().api_requests, 2);
    proxy.client().graphql(ME).await.assert_good();
    let bearers: Vec<_> = sandbox
        .seen()
        .api_requests()
        .iter()
        .map(|seen| seen.bearer().map(str::to_owned))
        .collect();
    assert_eq!(bearers[0], bearers[1]);
    assert_ne!(bearers[1], bearers[2], "the token was rejected");

    sandbox.faults().add(death(&Fault::Unauthorized));
    sandbox.faults().add(death(&Fault::Close));
    assert_interrupted(&proxy.client().graphql(ME).await);
    assert_eq!(sandbox.seen().counts().api_requests, 5);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_query_that_is_not_at_hand_is_sent_once() {
    let (sandbox, proxy) = start("upstream.replay_limit = '16B'").await;
    sandbox.faults().add(death(&Fault::Close));
    assert_interrupted(&proxy.client().graphql(ME).await);
    assert_eq!(sandbox.seen().counts().api_requests, 1);
}

#[tokio::test]
async fn once_a_byte_of_an_answer_has_come_nothing_is_sent_again() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    let body = json!({ "query": ME }).to_string();
    for first in [
        "H",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        let mut caller = Raw::connect(proxy.address()).await;
        let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        caller
            .send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
            .await;
        let mut there = upstream.accept().await;
        there.head().await;
        assert_eq!(there.take(body.len()).await, body.as_bytes());
        there.send(first).await;
        drop(there);
        // Were it sent again, nobody would accept it, and no answer would come.
        assert_interrupted(&caller.answer().await);
    }
}

#[tokio::test]
async fn on_a_connection_that_has_answered_before_a_death_is_seen_as_well() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    let body = json!({ "query": ME }).to_string();
    let mut caller = Raw::connect(proxy.address()).await;
    let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    caller.send(&request).await;
    let mut there = upstream.accept().await;
    there.head().await;
    there.take(body.len()).await;
    there.send(good).await;
    assert_eq!(caller.answer().await.body, "{}");
    caller.send(&request).await;
    there.head().await;
    there.take(body.len()).await;
    drop(there);
    let mut there = upstream.accept().await;
    there.head().await;
    assert_eq!(there.take(body.len()).await, body.as_bytes());
    there.send(good).await;
    assert_eq!(caller.answer().await.body, "{}");
}

/// What an upstream of HTTP/2 says first: its settings, which are none.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The frame by which it gives up the stream 1.
fn reset(code: u8) -> Vec<u8> {
    vec![0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code]
}

/// The frame by which it gives up the connection, having looked at the streams up to `last`.
fn go_away(last: u8, code: u8) -> Vec<u8> {
    vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, code]
}

/// The head of an answer, status 200.
fn good(stream: u8, last: bool) -> Vec<u8> {
    vec![0, 0, 1, 1, 4 | u8::from(last), 0, 0, 0, stream, 0x88]
}

/// Every way in which it gives up a request on the stream 1, and whether the connection ends with it.
fn given_up() -> Vec<(Vec<u8>, bool)> {
    const NO_ERROR: u8 = 0;
    const INTERNAL_ERROR: u8 = 2;
    const REFUSED_STREAM: u8 = 7;
    const CANCEL: u8 = 8;
    const ENHANCE_YOUR_CALM: u8 = 11;
    let resets = [NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL].map(|code| (reset(code), false));
    let ends = [
        (0, NO_ERROR),
        (0, ENHANCE_YOUR_CALM),
        (1, NO_ERROR),
        (1, INTERNAL_ERROR),
    ];
    let ends = ends.map(|(last, code)| (go_away(last, code), true));
    resets.into_iter().chain(ends).collect()
}

/// A request over HTTP/2 whose body has come to an upstream.
async fn asked_over_http_2(
    proxy: &Proxy,
    upstream: &RawUpstream,
    document: &'static str,
) -> (tokio::task::JoinHandle<Answer>, Raw) {
    let body = json!({ "query": document }).to_string();
    let client = proxy.client();
    let asking = tokio::spawn(async move { client.graphql(document).await });
    let mut there = upstream.accept().await;
    there.send(SETTINGS).await;
    there.until(body.as_bytes()).await.unwrap();
    (asking, there)
}

#[tokio::test]
async fn over_http_2_a_query_that_is_given_up_before_an_answer_is_sent_once_more() {
    for (frame, ends) in given_up() {
        let (_sandbox, upstream, proxy) = start_raw("upstream.http_version = '2'").await;
        let (asking, mut there) = asked_over_http_2(&proxy, &upstream, ME).await;
        there.send(&frame).await;
        let stream = if ends {
            drop(there);
            there = upstream.accept().await;
            there.send(SETTINGS).await;
            1
        } else {
            3
        };
        there
            .until(json!({ "query": ME }).to_string().as_bytes())
            .await
            .unwrap();
        there.send(good(stream, true)).await;
        assert_eq!(asking.await.unwrap().status, 200, "{frame:?}");
    }
}

#[tokio::test]
async fn over_http_2_a_mutation_is_sent_once_however_it_is_given_up() {
    for (frame, ends) in given_up() {
        let (_sandbox, upstream, proxy) = start_raw("upstream.http_version = '2'").await;
        let (asking, mut there) = asked_over_http_2(&proxy, &upstream, MUTATION).await;
        there.send(&frame).await;
        if ends {
            drop(there);
        }
        // Were it sent again, nobody would answer it.
        assert_interrupted(&asking.await.unwrap());
    }
}

#[tokio::test]
async fn over_http_2_an_answer_whose_head_has_come_is_cut_and_not_asked_for_again() {
    let (_sandbox, upstream, proxy) = start_raw("upstream.http_version = '2'").await;
    let mut caller = Raw::connect(proxy.address()).await;
    let body = json!({ "query": ME }).to_string();
    let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    caller
        .send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    let mut there = upstream.accept().await;
    there.send(SETTINGS).await;
    there.until(body.as_bytes()).await.unwrap();
    there.send(good(1, false)).await;
    assert_eq!(caller.head().await.line, "HTTP/1.1 200 OK");
    there.send(reset(8)).await;
    assert!(
        !caller.rest().await.ends_with(b"0\r\n\r\n"),
        "the end is no neat one"
    );
    assert_replays(&proxy, 0).await;
}
