//! Nothing is held back and nothing is changed, whatever the size, the version or the status.

use bytes::Bytes;
use fluent_sandbox::{Config, Fault, Place, Sandbox, Times};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::support::{Process, Raw, fluent, full, sandbox, soon, start, start_raw, streamed};

const PATHS: &str = "[listen]\npaths = [\"/graphql\", \"/api/v4.1/*\"]\n";
const GIB: u64 = 1 << 30;
const CHUNK: usize = 64 * 1024;

/// The real program, warm: it has met both ways once.
async fn serve(sandbox: &Sandbox) -> Process {
    let mut command = Process::command(&sandbox.url());
    command.args(["--set", "listen.paths=/api/v4.1/*", "--set", "listen.max_body=0"]);
    let process = Process::start(command).await;
    assert_eq!(down(&process, 1 << 20).await, 1 << 20);
    assert_eq!(up(&process, 1 << 20).await, 1 << 20);
    process
}

/// Downloads, and counts.
async fn down(process: &Process, bytes: u64) -> u64 {
    let request = http::Request::get(format!("/api/v4.1/download?bytes={bytes}"));
    let answer = process.client().head(request.body(full("")).unwrap()).await;
    let mut body = answer.unwrap().into_body();
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        count += frame.unwrap().data_ref().map_or(0, Bytes::len) as u64;
    }
    count
}

/// Uploads, and gives the count of upstream.
async fn up(process: &Process, bytes: u64) -> u64 {
    let (mut sender, request) = streamed("/api/v4.1/upload");
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![7; CHUNK]);
        for _ in 0..bytes / CHUNK as u64 {
            sender.send_data(chunk.clone()).await.unwrap();
        }
    });
    let answer = process.client().send(request).await;
    answer.json()["length"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_each_way_leaves_memory_flat() {
    let sandbox = sandbox(fluent()).await;
    let process = serve(&sandbox).await;
    let before = process.peak();
    assert_eq!(down(&process, GIB).await, GIB);
    assert_eq!(up(&process, GIB).await, GIB);
    let grown = process.peak() - before;
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB");
}

#[tokio::test]
async fn the_answer_comes_while_the_question_is_asked() {
    let (sandbox, proxy) = start(PATHS).await;
    let (mut sender, request) = streamed("/api/v4.1/duplex");
    let mut answer = soon(proxy.client().head(request)).await.unwrap().into_body();
    for number in 0..100u8 {
        sender.send_data(Bytes::from(vec![number])).await.unwrap();
        let frame = soon(answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.data_ref().unwrap()[..], [number]);
    }
    assert_eq!(sandbox.seen().counts().api_bodies, 0);
    drop(sender);
    assert!(soon(answer.frame()).await.is_none());
    sandbox.seen().wait_for(|counts| counts.api_bodies == 1).await;
}

#[tokio::test]
async fn trailers_of_an_answer_arrive() {
    let (_sandbox, proxy) = start(PATHS).await;
    let request = http::Request::get("/api/v4.1/download?bytes=100000&trailers=1")
        .header("te", "trailers")
        .header("connection", "te");
    let answer = proxy.client().send(request.body(full("")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 100_000));
    assert_eq!(answer.headers["trailer"], "x-checksum");
    assert_eq!(answer.trailers.unwrap()["x-checksum"].len(), 64);
}

#[tokio::test]
async fn trailers_of_a_request_are_dropped() {
    let (sandbox, proxy) = start(PATHS).await;
    let mut caller = Raw::connect(proxy.address()).await;
    let head = "POST /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let body = "2\r\n{}\r\n0\r\nX-Late: 1\r\n\r\n";
    caller
        .send(format!(
            "{head}Trailer: x-late\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ))
        .await;
    assert_eq!(caller.answer().await.status, 200);
    let seen = sandbox.seen().api_requests().pop().unwrap();
    assert!(seen.body.whole && seen.body.trailers.is_none());
    assert_eq!(&seen.body.kept[..], b"{}");
    assert!(!seen.headers.contains_key("trailer") && !seen.headers.contains_key("x-late"));
}

#[tokio::test]
async fn bytes_pass_as_they_are_whatever_they_claim_to_be() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    let odd: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let mut caller = Raw::connect(proxy.address()).await;
    let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let length = odd.len();
    caller
        .send(format!(
            "{head}Content-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    caller.send(&odd).await;
    let mut there = upstream.accept().await;
    let asked = there.head().await;
    assert_eq!(asked.headers["content-length"], length.to_string());
    assert_eq!(asked.headers["content-encoding"], "gzip");
    assert!(!asked.headers.contains_key("transfer-encoding"));
    assert!(there.take(length).await == odd);
    there
        .send(format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    there.send(&odd).await;
    let answer = caller.answer().await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert_eq!(answer.headers["content-length"], length.to_string());
    assert!(answer.body == odd);
}

#[tokio::test]
async fn targets_arrive_byte_for_byte() {
    let (sandbox, proxy) = start(PATHS).await;
    for target in [
        "/api/v4.1/echo?context.entityType=ORDER&context.entityRef=R.1",
        "/api/v4.1/echo?a=b+c&d=%7B%22x%22%3A1%7D&e=%2f%2F&f=%20",
        "/api/v4.1/echo?a=1&a=2&&=&b",
        "/api/v4.1/echo?",
        "/api/v4.1/echo?x=//oauth/token/../;y=[1]|'",
        "/api/v4.1/echo",
    ] {
        let mut caller = Raw::connect(proxy.address()).await;
        caller
            .send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(caller.answer().await.status, 200, "{target}");
        assert_eq!(sandbox.seen().api_requests().pop().unwrap().target, target);
    }
    let instance = proxy.client().get("/instances/default/api/v4.1/echo?a.b=+").await;
    assert_eq!(instance.json()["query"], "a.b=+");
    let graphql = proxy.client().get("/graphql?query=%7B__typename%7D").await;
    assert_eq!(graphql.code(), None);
    let seen = sandbox.seen().api_requests().pop().unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/graphql?query=%7B__typename%7D")
    );
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let (_sandbox, upstream, proxy) = start_raw(PATHS).await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller
        .send("HEAD /api/v4.1/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let mut there = upstream.accept().await;
    assert_eq!(there.head().await.line, "HEAD /api/v4.1/x HTTP/1.1");
    there
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        .await;
    assert_eq!(caller.head().await.headers["content-length"], "1234");
    // The next byte is the next answer's, on both connections.
    caller
        .send("GET /api/v4.1/y HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(there.head().await.line, "GET /api/v4.1/y HTTP/1.1");
    there.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(caller.head().await.status(), 204);
}

#[tokio::test]
async fn expect_is_answered_before_the_body_is_sent() {
    let (sandbox, proxy) = start(PATHS).await;
    let mut caller = Raw::connect(proxy.address()).await;
    let head = "POST /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    caller
        .send(format!("{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"))
        .await;
    assert_eq!(caller.head().await.status(), 100);
    caller.send("{}").await;
    assert_eq!(caller.answer().await.json()["length"], 2);
    let seen = sandbox.seen().api_requests().pop().unwrap();
    assert!(!seen.headers.contains_key("expect"));
    // A body that is not wanted is not asked for.
    let mut caller = Raw::connect(proxy.address()).await;
    caller
        .send(format!(
            "{head}Origin: null\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        ))
        .await;
    caller.answer().await.assert_refused(403, "CROSS_ORIGIN");
}

#[tokio::test]
async fn old_callers_are_answered_in_their_own_way() {
    let (_sandbox, proxy) = start(PATHS).await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller
        .send("GET /api/v4.1/download?bytes=5000&chunked=1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await;
    let head = caller.head().await;
    assert_eq!(head.status(), 200);
    assert!(!head.headers.contains_key("transfer-encoding"));
    assert_eq!(caller.rest().await.len(), 5000);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (sandbox, proxy) = start(PATHS).await;
    let requests = (0..20).fold(String::new(), |all, number| {
        all + &format!("GET /api/v4.1/echo?{number} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    });
    let mut caller = Raw::connect(proxy.address()).await;
    caller.send(requests).await;
    for number in 0..20 {
        let answer = caller.answer().await;
        assert_eq!(answer.json()["query"], number.to_string());
    }
    assert_eq!(sandbox.seen().counts().api_requests, 20);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let (sandbox, proxy) = start(PATHS).await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let host = format!("http://localhost:{}", proxy.address().port());
    let asking: Vec<_> = (0..50)
        .map(|number| {
            let request = http::Request::get(format!("{host}/api/v4.1/download?bytes={number}&trailers=1"));
            let request = request.header("te", "trailers").body(full("")).unwrap();
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!(answer.version(), http::Version::HTTP_2);
                let whole = answer.into_body().collect().await.unwrap();
                assert!(whole.trailers().unwrap().contains_key("x-checksum"));
                assert_eq!(whole.to_bytes().len(), number);
            })
        })
        .collect();
    for one in asking {
        soon(one).await.unwrap();
    }
    let seen = sandbox.seen().api_requests();
    assert_eq!(seen.len(), 50);
    assert!(seen[0].headers["via"].to_str().unwrap().starts_with('2'));
    assert_eq!(seen[0].version, http::Version::HTTP_11);
}

#[tokio::test]
async fn what_fluent_says_goes_to_the_caller_as_it_came() {
    let (sandbox, proxy) = start(PATHS).await;
    let errors = proxy.client().graphql("{ nonsense }").await;
    assert_eq!((errors.status.as_u16(), errors.code()), (200, None));
    assert!(errors.json()["errors"][0]["message"].is_string());
    for code in [400, 403, 404, 409, 422, 429, 500, 502, 503, 504] {
        let body = format!("{{\"odd\": \"as it  came\", \"code\": {code}}}");
        sandbox.faults().inject(
            Place::Api,
            Times::Once,
            Fault::Status {
                code,
                retry_after: Some("7".to_owned()),
                body: Some(body.clone()),
            },
        );
        let before = sandbox.seen().counts().api_requests;
        let answer = proxy.client().graphql("{ me { id } }").await;
        assert_eq!((answer.status.as_u16(), answer.code()), (code, None));
        assert_eq!(
            (&answer.body[..], &answer.headers["retry-after"]),
            (body.as_bytes(), &"7".parse().unwrap())
        );
        assert_eq!(sandbox.seen().counts().api_requests, before + 1);
    }
}

#[tokio::test]
async fn a_body_too_large_for_fluent_is_refused_by_fluent() {
    let config = Config {
        body_limit: 1_000,
        ..fluent()
    };
    let sandbox = sandbox(config).await;
    let proxy = super::support::Proxy::start(&sandbox.url(), "").await;
    let query = format!("{{ me {{ id }} }} #{}", "x".repeat(2_000));
    let answer = proxy.client().graphql(&query).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, None));
    assert_eq!(sandbox.seen().counts().api_admitted, 1);
}

#[tokio::test]
async fn redirects_are_the_callers_to_follow() {
    let (sandbox, proxy) = start("").await;
    let elsewhere = super::support::sandbox(fluent()).await;
    let to = format!("{}/graphql", elsewhere.url());
    sandbox
        .faults()
        .inject(Place::Api, Times::Once, Fault::Redirect(to.clone()));
    let answer = proxy.client().graphql("{ me { id } }").await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.headers["location"], to);
    assert_eq!(elsewhere.seen().counts().connections, 0);
    assert_eq!(sandbox.seen().counts().api_requests, 1);
}
