//! The end of the program: nothing that was begun is lost, and nothing takes for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fluent_sandbox::{Config, Fault, Place, Sandbox, Times};
use tokio::time::Instant;

use super::support::{Process, Raw, fluent, sandbox, soon};

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

/// Asks on one connection until it ends; gives the id of the request that got no answer, if there is one.
async fn ask_on(address: std::net::SocketAddr, name: String, answered: Arc<AtomicU64>) -> Option<String> {
    let mut caller = Raw::connect(address).await;
    for number in 0.. {
        let id = format!("{name}-{number}");
        if caller.try_send(query(&id)).await.is_err() {
            return Some(id);
        }
        let Some(answer) = caller.try_answer().await else {
            return Some(id);
        };
        answer.assert_good();
        answered.fetch_add(1, Ordering::Relaxed);
        if answer
            .headers
            .get("connection")
            .is_some_and(|value| value == "close")
        {
            return None;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_was_begun_fails_under_load() {
    let config = Config {
        record_limit: 1_000_000,
        ..fluent()
    };
    let sandbox = sandbox(config).await;
    let mut process = serve(&sandbox, &["log.access=all"]).await;
    let answered = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..50)
        .map(|number| {
            tokio::spawn(ask_on(
                process.address(),
                format!("caller-{number}"),
                Arc::clone(&answered),
            ))
        })
        .collect();
    sandbox.seen().wait_for(|counts| counts.api_answers > 500).await;
    process.signal();
    let mut unanswered = Vec::new();
    for caller in callers {
        unanswered.extend(soon(caller).await.unwrap());
    }
    assert!(process.end().await.success());
    assert!(answered.load(Ordering::Relaxed) > 400);
    // A connection may close before a head was read, as HTTP has it; then Fluent never saw the request.
    let seen = sandbox.seen().api_requests();
    for id in unanswered {
        let sent = seen.iter().any(|request| {
            request
                .headers
                .get("x-request-id")
                .is_some_and(|seen| seen == id.as_str())
        });
        assert!(!sent, "{id} was begun and got no answer");
    }
    while let Some(line) = process.line().await {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(event["message"] != "request" || event["status"] == 200, "{line}");
    }
}

#[tokio::test]
async fn a_slow_request_ends_before_the_program_does() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &[]).await;
    let mut idle = Raw::connect(process.address()).await;
    idle.send(query("idle")).await;
    idle.answer().await.assert_good();
    let hang = sandbox.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let mut caller = Raw::connect(process.address()).await;
    caller.send(query("slow")).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
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
    sandbox.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let mut caller = Raw::connect(process.address()).await;
    caller.send(query("hanging")).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    process.signal();
    assert_eq!(caller.rest().await, b"");
    assert!(process.end().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_the_program_at_once() {
    let sandbox = sandbox(fluent()).await;
    let mut process = serve(&sandbox, &["shutdown.deadline=1h"]).await;
    sandbox.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let mut caller = Raw::connect(process.address()).await;
    caller.send(query("hanging")).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
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
