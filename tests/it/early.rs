//! Answers that do not wait for their request's body, or fail before their own end: they get to the caller as far as
//! they came, and no further request is lost.

use fluent_sandbox::{Fault, Place, Times};

use super::support::{Proxy, Raw, soon, start, start_raw};

const HEAD: &str = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
const ME: &str = r#"{"query":"{ me { id } }"}"#;
const REFUSED: &str = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

async fn ask_on(caller: &mut Raw) {
    caller
        .send(format!("{HEAD}Content-Length: {}\r\n\r\n{ME}", ME.len()))
        .await;
    caller.answer().await.assert_good();
}

#[tokio::test]
async fn after_the_rest_of_a_short_body_the_connection_goes_on() {
    let (_sandbox, proxy) = start("").await;
    let mut caller = Raw::connect(proxy.address()).await;
    for _ in 0..3 {
        caller.send(format!("{REFUSED}Content-Length: 5\r\n\r\n")).await;
        let answer = caller.answer().await;
        answer.assert_refused(404, "PATH_NOT_FOUND");
        assert!(!answer.headers.contains_key("connection"));
        caller.send("12345").await;
        ask_on(&mut caller).await;
    }
    proxy.stop().await;
}

#[tokio::test]
async fn before_the_rest_of_a_body_of_unknown_length_it_says_that_it_ends() {
    let (_sandbox, proxy) = start("").await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller
        .send(format!("{REFUSED}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"))
        .await;
    let answer = caller.answer().await;
    answer.assert_refused(404, "PATH_NOT_FOUND");
    assert_eq!(answer.headers["connection"], "close");
    caller.send("0\r\n\r\n").await;
    assert!(caller.rest().await.is_empty());
    proxy.stop().await;
}

/// A caller who sends all of a long body before it reads the answer.
async fn upload_and_read(proxy: &Proxy, head: &str, status: u16) {
    let mut caller = Raw::connect(proxy.address()).await;
    let length = 4 * 1024 * 1024;
    caller
        .send(format!("{head}Content-Length: {length}\r\n\r\n"))
        .await;
    for _ in 0..64 {
        caller.send(vec![b'x'; length / 64]).await;
    }
    let answer = caller.answer().await;
    assert_eq!(answer.status, status);
    assert_eq!(answer.headers["connection"], "close");
    assert!(caller.rest().await.is_empty());
}

#[tokio::test]
async fn a_caller_who_sends_a_long_body_to_its_end_gets_the_answer() {
    let (sandbox, proxy) = start("listen.paths = ['/graphql', '/api/*']\nlisten.max_body = '1MiB'").await;
    upload_and_read(&proxy, REFUSED, 404).await;
    upload_and_read(&proxy, HEAD, 413).await;
    let fault = Fault::Status {
        code: 503,
        retry_after: None,
        body: None,
    };
    sandbox.faults().inject(Place::Api, Times::Always, fault);
    let head = "POST /api/v4.1/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let proxy_without_limit = Proxy::start(&sandbox.url(), "listen.paths = ['/api/*']").await;
    upload_and_read(&proxy_without_limit, head, 503).await;
    proxy.stop().await;
    proxy_without_limit.stop().await;
}

#[tokio::test]
async fn who_waits_to_be_told_to_send_is_told_that_the_connection_ends() {
    let (_sandbox, proxy) = start("").await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller
        .send(format!(
            "{REFUSED}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
    let answer = caller.answer().await;
    answer.assert_refused(404, "PATH_NOT_FOUND");
    assert_eq!(answer.headers["connection"], "close");
    assert!(caller.rest().await.is_empty(), "and nothing more");
    proxy.stop().await;
}

#[tokio::test]
async fn a_401_that_overtakes_the_body_is_replayed_when_the_body_has_come() {
    let (sandbox, upstream, proxy) = start_raw("").await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller
        .send(format!("{HEAD}Content-Length: {}\r\n\r\n", ME.len()))
        .await;
    let mut there = upstream.accept().await;
    let first = there.head().await.headers["authorization"].clone();
    // The next login gives another one.
    sandbox.revoke_access_tokens();
    there.send("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").await;
    // The proxy has seen the answer: it logs in.
    soon(sandbox.seen().wait_for(|counts| counts.token_requests == 2)).await;
    caller.send(ME).await;
    assert_eq!(there.take(ME.len()).await, ME.as_bytes());
    let again = there.head().await;
    assert_ne!(again.headers["authorization"], first);
    assert_eq!(there.take(ME.len()).await, ME.as_bytes());
    there.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(caller.answer().await.status, 200);
    proxy.stop().await;
}

#[tokio::test]
async fn the_head_of_an_answer_that_fails_at_once_gets_to_the_caller() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    for _ in 0..100 {
        let mut caller = Raw::connect(proxy.address()).await;
        caller
            .send(format!("{HEAD}Content-Length: {}\r\n\r\n{ME}", ME.len()))
            .await;
        let mut there = upstream.accept().await;
        there.head().await;
        there.take(ME.len()).await;
        there.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{}").await;
        drop(there);
        // A caller who saw nothing might take it for a connection that nobody read from, and send once more.
        assert_eq!(caller.head().await.status(), 200);
        assert_eq!(caller.rest().await, b"{}");
    }
    proxy.stop().await;
}
