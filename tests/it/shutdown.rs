//! The end of the program: nothing that was begun is lost, and nothing takes for ever.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fluent_sandbox::{Config, Fault, FaultId, Place, Sandbox, Times};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::support::{Process, Raw, fluent, full, sandbox, soon};

const QUERY: &str = r#"{"query":"{ me { id } }"}"#;

fn query(id: &str) -> String {
    let length = QUERY.len();
    let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    format!("{head}x-request-id: {id}\r\nContent-Length: {length}\r\n\r\n{QUERY}")
}

async fn serve(sandbox: &Sandbox, settings: &[&str]) -> Process {
    let mut command = Process::command(&sandbox.url());
    for setting in settings {
        command.args(["--set", setting]);
    }
    let process = Process::start(command).await;
    process.client().graphql("{ me { id } }").await.assert_good();
    process
}

/// A request that Fluent does not answer before its fault is cleared.
async fn one_under_way(sandbox: &Sandbox, process: &Process) -> (FaultId, Raw) {
    let hang = sandbox.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let mut caller = Raw::connect(process.address()).await;
    caller.send(query("slow")).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    (hang, caller)
}

/// How a caller's last request went.
struct Last {
    answered: u64,
    /// The request that got no answer.
    lost: Option<String>,
}

/// Asks on connections of HTTP/1.1, a new one after each that ends, until nobody listens any more.
async fn ask_on_http_1(address: SocketAddr, name: String, count: Arc<AtomicU64>) -> Last {
    let mut answered = 0;
    loop {
        let Ok(mut caller) = Raw::try_connect(address).await else {
            return Last { answered, lost: None };
        };
        loop {
            let id = format!("{name}-{answered}");
            let lost = Some(id.clone());
            if caller.try_send(query(&id)).await.is_err() {
                return Last { answered, lost };
            }
            let Some(answer) = caller.try_answer().await else {
                return Last { answered, lost };
            };
            answer.assert_good();
            answered += 1;
            count.fetch_add(1, Ordering::Relaxed);
            let connection = answer.headers.get("connection");
            if connection.is_some_and(|value| value == "close") {
                break;
            }
        }
    }
}

/// Asks on one connection of HTTP/2 until it ends.
async fn ask_on_http_2(address: SocketAddr, name: String, count: Arc<AtomicU64>) -> Last {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let mut answered = 0;
    loop {
        let id = format!("{name}-{answered}");
        let request = http::Request::post("http://localhost/graphql")
            .header("content-type", "application/json")
            .header("x-request-id", &id)
            .body(full(QUERY))
            .unwrap();
        let asked = async {
            let answer = sender.send_request(request).await?;
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await
        };
        if soon(asked).await.is_err() {
            let lost = Some(id);
            return Last { answered, lost };
        }
        answered += 1;
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the program while callers of both versions ask as fast as they can: whatever Fluent saw was answered.
async fn assert_nothing_begun_is_lost(settings: &[&str], delay: Duration) {
    let config = Config {
        record_limit: 1_000_000,
        ..fluent()
    };
    let sandbox = sandbox(config).await;
    let mut process = serve(&sandbox, &[settings, &["log.access=all"]].concat()).await;
    let (address, count) = (process.address(), Arc::new(AtomicU64::new(0)));
    let mut callers: Vec<JoinHandle<Last>> = Vec::new();
    for number in 0..25 {
        let (one, two) = (format!("one-{number}"), format!("two-{number}"));
        callers.push(tokio::spawn(ask_on_http_1(address, one, Arc::clone(&count))));
        callers.push(tokio::spawn(ask_on_http_2(address, two, Arc::clone(&count))));
    }
    sandbox.seen().wait_for(|counts| counts.api_answers > 500).await;
    let since = Instant::now();
    process.signal();
    let mut lost = Vec::new();
    let mut answered = 0;
    for caller in callers {
        let caller = soon(caller).await.unwrap();
        answered += caller.answered;
        lost.extend(caller.lost);
    }
    assert_eq!(process.end().await.code(), Some(0));
    let took = since.elapsed();
    assert!(delay <= took && took < Duration::from_secs(25), "{took:?}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    assert!(answered > 400, "{answered}");
    // A connection may close before a head was read, as HTTP has it; then Fluent never saw the request.
    let seen = sandbox.seen().api_requests();
    let seen: HashSet<_> = seen
        .iter()
        .filter_map(|request| request.headers.get("x-request-id")?.to_str().ok())
        .collect();
    for id in lost {
        assert!(!seen.contains(id.as_str()), "{id} was begun and got no answer");
    }
    while let Some(line) = process.line().await {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(event["message"] != "request" || event["status"] == 200, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_was_begun_fails_under_load() {
    assert_nothing_begun_is_lost(&[], Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_was_begun_fails_behind_a_delay() {
    assert_nothing_begun_is_lost(&["shutdown.delay=500ms"], Duration::from_millis(500)).await;
}

#[tokio::test]
async fn while_it_drains_nobody_new_is_taken() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &[]).await;
    let (hang, mut caller) = one_under_way(&sandbox, &process).await;
    process.signal();
    process.line_with("shutting down").await;
    // The line comes before the sockets close.
    let refused = async { while Raw::try_connect(process.address()).await.is_ok() {} };
    soon(refused).await;
    assert_eq!(
        process.admin().get("/livez").await.status,
        200,
        "the admin listener stays"
    );
    sandbox.faults().clear_one(hang);
    caller.answer().await.assert_good();
    assert!(process.end().await.success());
}

#[tokio::test]
async fn who_was_taken_just_before_it_drains_may_ask_once() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &[]).await;
    let mut fresh = Raw::connect(process.address()).await;
    let mut silent = Raw::connect(process.address()).await;
    // Connections are taken in order: where a later one is answered, the two have been taken.
    let mut later = Raw::connect(process.address()).await;
    later.send(query("later")).await;
    later.answer().await.assert_good();
    process.signal();
    process.line_with("shutting down").await;
    assert_eq!(later.rest().await, b"", "it drains");
    fresh.send(query("fresh")).await;
    let answer = fresh.answer().await;
    answer.assert_good();
    assert_eq!(answer.headers["connection"], "close");
    assert_eq!(silent.rest().await, b"", "who asks nothing holds nothing up");
    assert!(process.end().await.success());
}

#[tokio::test]
async fn a_slow_request_ends_before_the_program_does() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &[]).await;
    let mut idle = Raw::connect(process.address()).await;
    idle.send(query("idle")).await;
    idle.answer().await.assert_good();
    let (hang, mut caller) = one_under_way(&sandbox, &process).await;
    process.signal();
    process.line_with("shutting down").await;
    assert_eq!(idle.rest().await, b"", "an idle connection is closed at once");
    sandbox.faults().clear_one(hang);
    caller.answer().await.assert_good();
    assert!(process.end().await.success());
}

#[tokio::test]
async fn the_deadline_cuts_what_is_left() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &["shutdown.deadline=500ms"]).await;
    let (_, mut caller) = one_under_way(&sandbox, &process).await;
    process.signal();
    assert_eq!(caller.rest().await, b"");
    assert!(process.end().await.success());
}

#[tokio::test]
async fn an_interrupt_ends_it_as_sigterm_does() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &[]).await;
    let (hang, mut caller) = one_under_way(&sandbox, &process).await;
    process.signal_with(Signal::INT);
    process.line_with("shutting down").await;
    sandbox.faults().clear_one(hang);
    caller.answer().await.assert_good();
    assert_eq!(process.end().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &["shutdown.deadline=1h"]).await;
    let (_, _caller) = one_under_way(&sandbox, &process).await;
    process.signal();
    process.line_with("shutting down").await;
    process.signal();
    let since = Instant::now();
    assert_eq!(process.end().await.code(), Some(1));
    assert!(since.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn within_the_delay_it_serves_and_is_not_ready() {
    let sandbox = sandbox(fluent()).await;
    let settings = ["shutdown.delay=30m", "shutdown.deadline=1h"];
    let mut process = serve(&sandbox, &settings).await;
    let mut old = Raw::connect(process.address()).await;
    old.send(query("before")).await;
    let before = old.answer().await;
    before.assert_good();
    assert!(!before.headers.contains_key("connection"));
    assert_eq!(process.admin().get("/readyz").await.status, 200);
    process.signal();
    process.line_with("shutting down").await;
    let ready = process.admin().get("/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["reason"]),
        (503, &"draining".into())
    );
    assert_eq!(process.admin().get("/livez").await.status, 200);
    assert_eq!(process.admin().get("/status").await.json()["draining"], true);
    old.send(query("within")).await;
    let within = old.answer().await;
    within.assert_good();
    assert_eq!(within.headers["connection"], "close");
    assert_eq!(old.rest().await, b"");
    process.client().graphql("{ me { id } }").await.assert_good();
    process.signal();
    process.end().await;
}
