//! What goes wrong between the proxy and Fluent, and that it goes no further.

use std::time::Duration;

use fluent_sandbox::{Fault, Injection, Place, Times, When};

use super::support::{
    Answer, BlackHole, Frozen, Process, Raw, fluent, logged, sandbox, soon, start, start_raw,
};

const ME: &str = "{ me { id } }";
const UPDATE: &str = r#"mutation { updateOrder(input: { id: "1", ref: "R-1", status: "BOOKED" }) { id } }"#;
const GET: &str = "GET /graphql?query=x HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[track_caller]
fn assert_failed(answer: &Answer, status: u16, code: &str, word: &str) {
    answer.assert_refused(status, code);
    let wanted = format!("fluent-auth-proxy; error={word}");
    assert_eq!(answer.headers["proxy-status"].to_str().unwrap(), wanted);
}

#[tokio::test]
async fn fluent_may_go_away_and_come_back() {
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    sandbox.stop_listening().await;
    for _ in 0..2 {
        let answer = proxy.client().graphql(ME).await;
        assert_failed(&answer, 502, "UPSTREAM_UNREACHABLE", "connection_refused");
    }
    sandbox.listen_again().await.unwrap();
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(sandbox.seen().counts().password_logins, 1);
}

#[tokio::test]
async fn a_mutation_whose_connection_dies_is_sent_once() {
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    for fault in [Fault::Reset, Fault::Close] {
        for when in [When::BeforeBody, When::AfterBody, When::AfterExecution] {
            let before = sandbox.seen().counts().api_requests;
            sandbox
                .faults()
                .add(Injection::new(Place::Api, fault.clone()).when(when));
            let answer = proxy.client().graphql(UPDATE).await;
            assert_failed(&answer, 502, "UPSTREAM_INTERRUPTED", "connection_terminated");
            assert_eq!(sandbox.seen().counts().api_requests, before + 1);
            proxy.client().graphql(ME).await.assert_good();
        }
    }
}

#[tokio::test]
async fn a_silent_fluent_is_given_up_and_others_are_served_meanwhile() {
    let (sandbox, proxy) =
        start("[upstream]\nresponse_timeout = \"1s\"\n[listen]\npaths = [\"/graphql\", \"/api/v4.1/*\"]")
            .await;
    proxy.client().graphql(ME).await.assert_good();
    let open = sandbox.seen().counts().open_connections;
    let hang = Injection::new(Place::Api, Fault::Hang).times(Times::Always);
    sandbox.faults().add(hang.path("/api/v4.1/echo"));
    let client = proxy.client();
    let silent = tokio::spawn(async move { client.post("/api/v4.1/echo", "{}").await });
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    proxy.client().graphql(ME).await.assert_good();
    let answer = silent.await.unwrap();
    assert_failed(&answer, 504, "UPSTREAM_TIMEOUT", "http_response_timeout");
    // The request is given up, not only its answer.
    soon(sandbox.seen().wait_for(|counts| counts.open_connections <= open)).await;
    assert_eq!(sandbox.seen().counts().api_requests, 3);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_never_ended_neatly() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    for (head, part) in [
        ("Content-Length: 64", "half gone"),
        ("Transfer-Encoding: chunked", "9\r\nhalf gone\r\n"),
    ] {
        let mut caller = Raw::connect(proxy.address()).await;
        caller.send(GET).await;
        let mut there = upstream.accept().await;
        there.head().await;
        there
            .send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{part}"))
            .await;
        assert_eq!(caller.head().await.status(), 200);
        // What has come is passed on before it is cut.
        assert_eq!(caller.take(part.len()).await, part.as_bytes());
        drop(there);
        assert_eq!(caller.rest().await, b"", "{head}");
    }
}

#[tokio::test]
async fn an_answer_that_pauses_too_long_is_cut() {
    let (_sandbox, upstream, proxy) = start_raw("[upstream]\nread_timeout = \"300ms\"\n").await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller.send(GET).await;
    let mut there = upstream.accept().await;
    there.head().await;
    there
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        .await;
    caller.head().await;
    assert_eq!(caller.chunk().await, b"ok");
    assert_eq!(caller.rest().await, b"");
    assert_eq!(there.rest().await, b"", "upstream is hung up on, too");
}

#[tokio::test]
async fn an_answer_may_take_for_ever_if_no_pause_is_too_long() {
    let toml = "upstream.read_timeout = \"3s\"\nupstream.response_timeout = \"3s\"";
    let (mut frozen, _sandbox, upstream, proxy) = Frozen::start_raw(toml).await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller.send(GET).await;
    let mut there = upstream.accept().await;
    there.head().await;
    let just_under = Duration::from_millis(2_900);
    let parts = ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"].into_iter();
    for part in parts.chain(["x"; 9]) {
        frozen.settle().await;
        frozen.advance(just_under).await;
        frozen.settle().await;
        there.send(part).await;
    }
    assert_eq!(caller.answer().await.body, "xxxxxxxxx");
    frozen.end(proxy).await;
}

#[tokio::test]
async fn what_is_no_http_is_an_interruption() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    for garbage in [
        "220 mail.example ESMTP\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "\0\0\0\r\n\r\n",
    ] {
        let mut caller = Raw::connect(proxy.address()).await;
        caller.send(GET).await;
        let mut there = upstream.accept().await;
        there.head().await;
        there.send(garbage).await;
        let answer = caller.answer().await;
        assert_failed(&answer, 502, "UPSTREAM_INTERRUPTED", "http_protocol_error");
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let says = |line: &str| line.contains(id) && line.contains("answered with what is no HTTP");
        assert!(logged().lines().any(says));
    }
}

#[tokio::test]
async fn a_page_of_html_passes_as_it_came() {
    let (sandbox, proxy) = start("").await;
    sandbox.faults().inject(Place::Api, Times::Once, Fault::Html);
    let answer = proxy.client().graphql(ME).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (200, None));
    assert!(answer.body.starts_with(b"<!doctype html>"));
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
}

#[tokio::test]
async fn connecting_has_a_clock_of_its_own() {
    let hole = BlackHole::dig().await;
    let sandbox = sandbox(fluent()).await;
    let settings = format!(
        "[upstream]\nconnect_timeout = \"200ms\"\n[fluent.token]\npath = \"{}/oauth/token\"",
        sandbox.url()
    );
    let proxy = super::support::Proxy::start(&hole.url(), &settings).await;
    let answer = proxy.client().graphql(ME).await;
    assert_failed(&answer, 502, "UPSTREAM_UNREACHABLE", "connection_timeout");
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_request_along() {
    let sandbox = sandbox(fluent()).await;
    let mut process = Process::start(Process::command(&sandbox.url())).await;
    process.client().graphql(ME).await.assert_good();
    let open = sandbox.seen().counts().open_connections;
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
    let mut caller = Raw::connect(process.address()).await;
    caller.send(GET).await;
    let hanging = sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    assert!(hanging.open_connections >= open);
    drop(caller);
    soon(
        sandbox
            .seen()
            .wait_for(|counts| counts.open_connections < hanging.open_connections),
    )
    .await;
    let line = process.line_with("request").await;
    assert_eq!(
        (&line["code"], &line["status"], &line["level"]),
        (&"CALLER_GONE".into(), &499.into(), &"INFO".into())
    );
    sandbox.faults().clear();
    process.client().graphql(ME).await.assert_good();
    assert!(process.terminate().await.success());
}
