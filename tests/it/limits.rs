//! The limits of `[listen]`, each where it bites and where it does not.

use std::time::Duration;

use bytes::Bytes;
use fluent_sandbox::{Fault, Place, Times};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::support::{Frozen, Proxy, Raw, fluent, full, soon, start, start_raw, streamed};

const PATHS: &str = "[listen]\npaths = [\"/graphql\", \"/api/v4.1/*\"]\n";
/// A pause that a limit of 3 s bears, with what settling takes.
const JUST_UNDER_3_S: Duration = Duration::from_millis(2_900);
/// The largest head, in bytes.
const HEAD_LIMIT: usize = 64 * 1024;
const GET: &str = "GET /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST: &str = "POST /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

async fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.address()).await
}

#[tokio::test]
async fn a_body_declared_too_long_reaches_nobody() {
    let (sandbox, proxy) = start(&format!("{PATHS}max_body = \"1KiB\"")).await;
    let mut caller = connect(&proxy).await;
    caller.send(format!("{POST}Content-Length: 1025\r\n\r\n")).await;
    caller.answer().await.assert_refused(413, "BODY_TOO_LARGE");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    let most = proxy.client().post("/api/v4.1/echo", "x".repeat(1024)).await;
    assert_eq!(most.json()["length"], 1024);
}

#[tokio::test]
async fn a_body_that_grows_too_long_is_refused_and_given_up_upstream() {
    let (sandbox, proxy) = start(&format!("{PATHS}max_body = \"1KiB\"")).await;
    proxy.client().get("/api/v4.1/echo").await;
    let mut caller = connect(&proxy).await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    caller
        .send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunk}"))
        .await;
    soon(sandbox.seen().wait_for(|counts| counts.api_requests == 2)).await;
    caller.send(format!("{chunk}1\r\nx\r\n")).await;
    let answer = caller.answer().await;
    answer.assert_refused(413, "BODY_TOO_LARGE");
    assert_eq!(
        answer.headers["proxy-status"],
        "fluent-auth-proxy; error=http_request_denied"
    );
    // The first request had an empty body, which came whole; the second never does.
    let seen = sandbox.seen().api_requests().pop().unwrap();
    assert!(!seen.body.whole && seen.body.length <= 1024);
    assert_eq!(proxy.client().get("/api/v4.1/echo").await.status, 200);
}

#[tokio::test]
async fn a_body_that_grows_to_the_limit_passes() {
    let (_sandbox, proxy) = start(&format!("{PATHS}max_body = \"1KiB\"")).await;
    let (mut sender, request) = streamed("/api/v4.1/upload");
    let client = proxy.client();
    let answer = tokio::spawn(async move { client.send(request).await });
    for _ in 0..2 {
        sender.send_data(Bytes::from(vec![1; 512])).await.unwrap();
    }
    drop(sender);
    assert_eq!(soon(answer).await.unwrap().json()["length"], 1024);
}

/// The head of a request that has so many bytes.
fn head_of(bytes: usize) -> String {
    let start = "GET /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\nX-Long: ";
    let long = "x".repeat(bytes - start.len() - 4);
    format!("{start}{long}\r\n\r\n")
}

/// Fails unless the caller is told that the head is too large, and the connection ends. It is HTTP's own answer,
/// made before there is a request.
async fn assert_head_too_large(proxy: &Proxy, head: &str) {
    let mut caller = connect(proxy).await;
    // Whoever is cut off has not always sent all.
    let _ = caller.try_send(head).await;
    let answer = caller.head().await;
    assert_eq!(answer.status(), 431);
    assert_eq!(answer.headers["content-length"], "0");
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn a_head_has_its_size_and_no_more() {
    let (sandbox, proxy) = start(PATHS).await;
    let mut caller = connect(&proxy).await;
    caller.send(head_of(HEAD_LIMIT - 1)).await;
    assert_eq!(caller.answer().await.status, 200);
    assert_head_too_large(&proxy, &head_of(HEAD_LIMIT + 1)).await;
    // A head that never ends is not waited for.
    let endless = head_of(2 * HEAD_LIMIT);
    assert_head_too_large(&proxy, endless.trim_end()).await;
    assert_eq!(sandbox.seen().counts().api_requests, 1);
}

#[tokio::test]
async fn a_head_has_its_size_over_http_2_too() {
    let (sandbox, proxy) = start(PATHS).await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    // HTTP/2 counts 32 bytes more for each field.
    for (long, status) in [(HEAD_LIMIT - 1024, 200), (HEAD_LIMIT, 431), (100, 200)] {
        let request = http::Request::get("http://localhost/api/v4.1/echo");
        let request = request.header("x-long", "x".repeat(long)).body(full("")).unwrap();
        let answer = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), status, "{long}");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 2);
}

#[tokio::test]
async fn a_head_has_so_many_headers_and_no_more() {
    // Fluent's own limit is for Fluent to tell.
    let (_sandbox, upstream, proxy) = start_raw(PATHS).await;
    let head = |headers: usize| {
        let start = "GET /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\n".to_owned();
        let more = (1..headers).map(|number| format!("X-{number}: x\r\n"));
        [start].into_iter().chain(more).collect::<String>() + "\r\n"
    };
    let mut caller = connect(&proxy).await;
    caller.send(head(100)).await;
    let mut there = upstream.accept().await;
    assert_eq!(there.head().await.headers["x-99"], "x");
    there.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(caller.head().await.status(), 204);
    assert_head_too_large(&proxy, &head(101)).await;
}

#[tokio::test]
async fn a_body_that_grows_too_long_after_the_answer_began_cuts_it() {
    let (_sandbox, proxy) = start(&format!("{PATHS}max_body = \"1KiB\"")).await;
    let (mut sender, request) = streamed("/api/v4.1/duplex");
    let mut answer = soon(proxy.client().head(request)).await.unwrap().into_body();
    sender.send_data(Bytes::from(vec![1; 1024])).await.unwrap();
    let mut count = 0;
    while count < 1024 {
        let frame = soon(answer.frame()).await.unwrap().unwrap();
        count += frame.data_ref().unwrap().len();
    }
    sender.send_data(Bytes::from_static(b"x")).await.unwrap();
    assert!(soon(answer.frame()).await.unwrap().is_err(), "ended neatly");
}

#[tokio::test]
async fn a_caller_who_pauses_within_a_body_is_told() {
    let (sandbox, proxy) = start(&format!("{PATHS}body_timeout = \"200ms\"")).await;
    let mut caller = connect(&proxy).await;
    caller.send(format!("{POST}Content-Length: 10\r\n\r\nhalf")).await;
    caller.answer().await.assert_refused(408, "REQUEST_TIMEOUT");
    let seen = sandbox.seen().api_requests();
    assert!(seen.iter().all(|request| !request.body.whole));
    assert_eq!(caller.rest().await, b"");
}

#[tokio::test]
async fn a_body_may_take_for_ever_if_no_pause_is_too_long() {
    let settings = format!("{PATHS}body_timeout = \"3s\"");
    let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), &settings).await;
    let mut caller = connect(&proxy).await;
    caller.send(format!("{POST}Content-Length: 9\r\n\r\n")).await;
    for _ in 0..9 {
        frozen.settle().await;
        frozen.advance(JUST_UNDER_3_S).await;
        frozen.settle().await;
        caller.send("x").await;
    }
    assert_eq!(caller.answer().await.json()["length"], 9);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn an_answer_may_be_read_for_ever_if_no_pause_is_too_long() {
    const BYTES: usize = 64 << 20;
    let settings = format!("{PATHS}write_timeout = \"3s\"");
    let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), &settings).await;
    let mut caller = connect(&proxy).await;
    caller
        .send(format!(
            "GET /api/v4.1/download?bytes={BYTES} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
    assert_eq!(caller.head().await.status(), 200);
    for _ in 0..4 {
        frozen.settle().await;
        frozen.advance(JUST_UNDER_3_S).await;
        // More than the buffers on the way, so that the proxy can write again.
        caller.take(BYTES / 8).await;
    }
    caller.take(BYTES / 2).await;
    caller.send(GET).await;
    assert_eq!(caller.answer().await.status, 200);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let (sandbox, proxy) = start(&format!("{PATHS}header_timeout = \"200ms\"")).await;
    let mut silent = connect(&proxy).await;
    let mut slow = connect(&proxy).await;
    slow.send("GET /api/v4.1/echo HTTP/1.1\r\nHost: loc").await;
    assert_eq!(silent.rest().await, b"");
    assert_eq!(slow.rest().await, b"");
    // The second head on a connection has the same clock.
    let mut second = connect(&proxy).await;
    second.send(GET).await;
    second.answer().await;
    second.send("GET /api").await;
    assert_eq!(second.rest().await, b"");
    assert_eq!(sandbox.seen().counts().api_requests, 1);
}

#[tokio::test]
async fn a_kept_connection_outlives_the_clock_of_heads() {
    let settings = format!("{PATHS}header_timeout = \"200ms\"\nidle_timeout = \"1h\"");
    let (_sandbox, proxy) = start(&settings).await;
    let mut kept = connect(&proxy).await;
    kept.send(GET).await;
    kept.answer().await;
    // The clock of a silent connection that came later has run out: that of the kept one would have, too.
    for _ in 0..2 {
        assert_eq!(connect(&proxy).await.rest().await, b"");
    }
    kept.send(GET).await;
    assert_eq!(kept.answer().await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let (sandbox, proxy) = start(&format!("{PATHS}idle_timeout = \"200ms\"")).await;
    let hang = sandbox.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let mut busy = connect(&proxy).await;
    busy.send(GET).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    for _ in 0..2 {
        let mut idle = connect(&proxy).await;
        idle.send(GET).await;
        idle.answer().await;
        assert_eq!(idle.rest().await, b"");
    }
    sandbox.faults().clear_one(hang);
    assert_eq!(busy.answer().await.status, 200);
    assert_eq!(busy.rest().await, b"");
}

#[tokio::test]
async fn pings_neither_cut_an_idle_connection_nor_keep_it() {
    let settings = format!("{PATHS}header_timeout = \"2s\"\nidle_timeout = \"20s\"");
    let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), &settings).await;
    let second = Duration::from_secs(1);
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(second)
        .keep_alive_while_idle(true);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://localhost/api/v4.1/echo")
        .body(full(""))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().trailers(), None);
    for _ in 0..19 {
        frozen.settle().await;
        assert!(!connection.is_finished(), "cut as a slow head");
        frozen.advance(second).await;
    }
    frozen.settle().await;
    frozen.advance(second).await;
    frozen.settle().await;
    assert!(connection.is_finished(), "kept by pings");
    drop(sender);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_its_time_however_long_its_request_took() {
    let settings = format!("{PATHS}idle_timeout = \"20s\"");
    let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), &settings).await;
    let hang = sandbox.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let mut caller = connect(&proxy).await;
    caller.send(GET).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    frozen.settle().await;
    frozen.advance(Duration::from_secs(15)).await;
    sandbox.faults().clear_one(hang);
    assert_eq!(caller.answer().await.status, 200);
    let cut = tokio::spawn(caller.whole());
    assert_eq!(frozen.ends_after(Duration::from_secs(20), cut).await, "");
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_caller_who_does_not_read_is_cut_and_upstream_let_go() {
    let (sandbox, proxy) = start(&format!("{PATHS}write_timeout = \"300ms\"")).await;
    proxy.client().get("/api/v4.1/echo").await;
    let before = sandbox.seen().counts().open_connections;
    let mut caller = connect(&proxy).await;
    caller
        .send("GET /api/v4.1/download?bytes=1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(caller.head().await.status(), 200);
    soon(sandbox.seen().wait_for(|counts| counts.open_connections < before)).await;
    assert!(caller.rest().await.len() < 1_000_000_000);
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let (sandbox, proxy) = start(&format!("{PATHS}max_connections = 1")).await;
    let mut first = connect(&proxy).await;
    first.send(GET).await;
    first.answer().await;
    let client = proxy.client();
    let second = tokio::spawn(async move {
        client
            .send(
                http::Request::get("/api/v4.1/echo?second")
                    .body(full(""))
                    .unwrap(),
            )
            .await
    });
    for _ in 0..20 {
        first.send(GET).await;
        assert_eq!(first.answer().await.status, 200);
    }
    assert!(!second.is_finished());
    assert_eq!(sandbox.seen().counts().api_requests, 21);
    drop(first);
    assert_eq!(soon(second).await.unwrap().json()["query"], "second");
}
