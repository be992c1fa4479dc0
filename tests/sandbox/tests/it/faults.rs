//! What goes wrong on demand.

use crate::support::{Bench, form, invalid_token};
use fluent_sandbox::{Config, Fault, Injection, Place, Times, TokenOutcome, When};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ME: &str = "{ me { id } }";
const CREATE: &str = r#"mutation { createOrder(input: {ref: "A1", type: "HD",
    items: [{ref: "A1-1", productRef: "SKU_00001", quantity: 2}]}) { id } }"#;

/// Sends the head of a POST with a body yet to come, and reads to the end of the connection.
async fn raw(bench: &Bench, path: &str, body: &str, declared: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(bench.sandbox.address()).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {declared}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_fault_strikes_as_often_as_said_and_can_be_cleared() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let faults = bench.sandbox.faults();
    let status = async || bench.query(&token, ME).await.0;
    faults.inject(Place::Api, Times::Count(2), Fault::Unauthorized);
    assert_eq!([status().await, status().await, status().await], [401, 401, 200]);
    let id = faults.inject(Place::Api, Times::Always, Fault::NoRetailer);
    let (_, answer) = bench.query(&token, ME).await;
    let no_retailer = json!([{"code": "InvalidInput", "message": "Logged in user has no retailer"}]);
    assert_eq!(answer["errors"], no_retailer);
    assert_eq!(
        bench.ask(&[]).await.0,
        200,
        "a fault of the API leaves the token endpoint alone"
    );
    faults.clear_one(id);
    assert_eq!((status().await, faults.pending()), (200, 0));
    assert_eq!(bench.sandbox.seen().counts().faults, 3);
    assert_eq!(bench.sandbox.seen().counts().api_unauthorized, 3);
}

#[tokio::test]
async fn a_fault_may_be_for_one_path_only() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench
        .sandbox
        .faults()
        .add(Injection::new(Place::Api, Fault::Unauthorized).path("/api/v4.1/job"));
    assert_eq!(bench.query(&token, ME).await.0, 200);
    assert_eq!(bench.sandbox.faults().pending(), 1);
}

#[tokio::test]
async fn faults_that_answer_answer_as_said() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let strike = async |fault| {
        bench.sandbox.faults().inject(Place::Api, Times::Once, fault);
        let request = bench
            .client
            .post(bench.url("/graphql"))
            .bearer_auth(&token)
            .json(&json!({"query": ME}));
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.text().await.unwrap())
    };
    let status = |retry_after: Option<&str>, body: Option<&str>| Fault::Status {
        code: 503,
        retry_after: retry_after.map(str::to_owned),
        body: body.map(str::to_owned),
    };
    let (code, headers, body) = strike(status(Some("7"), Some("{}"))).await;
    assert_eq!(
        (code, &headers["retry-after"], body.as_str()),
        (503, &"7".parse().unwrap(), "{}")
    );
    let (code, headers, body) = strike(status(None, None)).await;
    assert_eq!(
        (code, headers.get("retry-after"), body.contains("503")),
        (503, None, true)
    );
    let (code, headers, _) = strike(Fault::Html).await;
    assert_eq!(
        (code, &headers["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    let (code, _, body) = strike(Fault::Empty).await;
    assert_eq!((code, body.as_str()), (200, ""));
    let (code, headers, _) = strike(Fault::Redirect("http://127.0.0.1:1/away".to_owned())).await;
    assert_eq!(
        (code, &headers["location"]),
        (302, &"http://127.0.0.1:1/away".parse().unwrap())
    );
    let (code, _, body) = strike(Fault::Unauthorized).await;
    assert_eq!(
        (code, serde_json::from_str::<Value>(&body).unwrap()),
        (401, invalid_token())
    );
}

#[tokio::test]
async fn a_token_answer_may_lack_its_token() {
    let bench = Bench::new().await;
    bench
        .sandbox
        .faults()
        .inject(Place::Token, Times::Once, Fault::NoToken);
    let (status, answer) = bench.ask(&[]).await;
    assert_eq!((status, answer.get("access_token")), (200, None));
    assert_eq!(
        bench.sandbox.seen().token_requests()[0].outcome,
        TokenOutcome::Faulted
    );
}

#[tokio::test]
async fn reset_is_a_rst_and_close_is_a_fin() {
    let bench = Bench::new().await;
    for path in ["/graphql", "/oauth/token"] {
        let place = if path == "/graphql" {
            Place::Api
        } else {
            Place::Token
        };
        bench.sandbox.faults().inject(place, Times::Once, Fault::Reset);
        let error = raw(&bench, path, "{}", 2).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        bench.sandbox.faults().inject(place, Times::Once, Fault::Close);
        assert_eq!(raw(&bench, path, "{}", 2).await.unwrap(), "");
    }
}

#[tokio::test]
async fn a_cut_answer_promises_more_than_comes() {
    let bench = Bench::new().await;
    bench.sandbox.faults().inject(Place::Api, Times::Once, Fault::Cut);
    let answer = raw(&bench, "/graphql", "{}", 2).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("content-length: 64"),
        "{head}"
    );
    assert_eq!(body.len(), 32);
    bench
        .sandbox
        .faults()
        .inject(Place::Token, Times::Once, Fault::Cut);
    let response = bench.send(&form(&[])).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn before_the_body_means_before_the_body() {
    let bench = Bench::new().await;
    bench
        .sandbox
        .faults()
        .inject(Place::Api, Times::Once, Fault::Unauthorized);
    let mut stream = TcpStream::connect(bench.sandbox.address()).await.unwrap();
    stream
        .write_all(b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert!(!bench.sandbox.seen().api_requests()[0].body.whole);
    stream.write_all(b"rest").await.unwrap();
    bench
        .sandbox
        .seen()
        .wait_for(|counts| counts.api_bodies == 1)
        .await;
}

#[tokio::test]
async fn who_waits_for_100_continue_gets_the_early_answer_instead() {
    let bench = Bench::new().await;
    let mut stream = TcpStream::connect(bench.sandbox.address()).await.unwrap();
    let head = "POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 401") && !answer.contains("100"),
        "{answer}"
    );
}

#[tokio::test]
async fn after_the_body_the_whole_of_it_has_come_and_nothing_is_done() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench
        .sandbox
        .faults()
        .add(Injection::new(Place::Api, Fault::Unauthorized).when(When::AfterBody));
    assert_eq!(bench.query(&token, CREATE).await.0, 401);
    let request = &bench.sandbox.seen().api_requests()[0];
    assert!(request.body.whole && request.mutations.is_empty());
    assert_eq!(bench.sandbox.seen().mutation_count("createOrder", "A1"), 0);
}

#[tokio::test]
async fn after_the_execution_the_change_is_made_and_the_answer_lost() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench
        .sandbox
        .faults()
        .add(Injection::new(Place::Api, Fault::Reset).when(When::AfterExecution));
    let body = json!({"query": CREATE});
    let request = bench
        .client
        .post(bench.url("/graphql"))
        .bearer_auth(&token)
        .json(&body);
    assert!(request.send().await.is_err());
    assert_eq!(bench.sandbox.seen().mutation_count("createOrder", "A1"), 1);
    assert_eq!(bench.sandbox.seen().api_requests()[0].status, None);
}

#[tokio::test]
async fn a_hang_ends_when_it_is_cleared() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench
        .sandbox
        .faults()
        .inject(Place::Api, Times::Once, Fault::Hang);
    let (answer, ()) = tokio::join!(bench.query(&token, ME), async {
        bench.sandbox.seen().wait_for(|counts| counts.faults == 1).await;
        assert_eq!(
            bench.query(&token, ME).await.0,
            200,
            "it was for one request only"
        );
        bench.sandbox.faults().clear();
    });
    assert_eq!(answer.0, 200);
}

#[tokio::test]
async fn a_client_that_leaves_a_hang_frees_its_connection() {
    let bench = Bench::new().await;
    bench
        .sandbox
        .faults()
        .inject(Place::Token, Times::Always, Fault::Hang);
    let mut stream = TcpStream::connect(bench.sandbox.address()).await.unwrap();
    stream
        .write_all(b"POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    bench.sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    drop(stream);
    bench
        .sandbox
        .seen()
        .wait_for(|counts| counts.open_connections == 0)
        .await;
    assert_eq!(
        bench.sandbox.seen().token_requests()[0].outcome,
        TokenOutcome::Unanswered
    );
}

#[tokio::test(start_paused = true)]
async fn delay_and_trickle_take_their_time() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let second = Duration::from_secs(1);
    let begun = tokio::time::Instant::now();
    bench
        .sandbox
        .faults()
        .inject(Place::Api, Times::Once, Fault::Delay(60 * second));
    bench.data(&token, ME).await;
    assert!(begun.elapsed() >= 60 * second);
    let begun = tokio::time::Instant::now();
    bench
        .sandbox
        .faults()
        .inject(Place::Api, Times::Once, Fault::Trickle(second));
    let data = bench.data(&token, ME).await;
    assert_eq!(data, json!({"me": {"id": "1"}}));
    assert!(begun.elapsed() >= 20 * second, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn faults_may_kill_tokens_by_revocation_or_by_time() {
    let bench = Bench::with(Config::default()).await;
    for fault in [Fault::RevokeTokens, Fault::SkewClock(Duration::from_hours(25))] {
        let token = bench.token().await;
        assert_eq!(bench.query(&token, ME).await.0, 200);
        bench.sandbox.faults().inject(Place::Api, Times::Once, fault);
        assert_eq!(bench.query(&token, ME).await, (401, invalid_token()));
    }
}

#[tokio::test]
async fn an_early_answer_reads_the_body_on_so_that_the_connection_lives() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        let body = "x".repeat(1_000_000);
        let request = bench
            .client
            .post(bench.url("/graphql"))
            .bearer_auth("wrong")
            .body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        response.bytes().await.unwrap();
    }
    let counts = bench
        .sandbox
        .seen()
        .wait_for(|counts| counts.api_bodies == 3)
        .await;
    assert_eq!((counts.connections, counts.api_unauthorized), (1, 3));
}
