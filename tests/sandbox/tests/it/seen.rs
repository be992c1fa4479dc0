//! The record, and the login invariant.

use crate::support::{Bench, form};
use fluent_sandbox::{Config, Fault, LOGIN_LIMIT, Place, Times};
use std::time::Duration;

const ME: &str = "{ me { id } }";
const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_api_request_is_recorded_whole() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let request = bench.client.post(bench.url("/graphql?x=%20")).bearer_auth(&token);
    let request = request
        .header("x-request-id", "r1")
        .body(r#"{"query":"{ me { id } }"}"#);
    request.send().await.unwrap();
    let seen = &bench.sandbox.seen().api_requests()[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/graphql?x=%20")
    );
    assert_eq!((seen.number, seen.attempt, seen.status), (1, 1, Some(200)));
    assert_eq!(seen.body.kept, r#"{"query":"{ me { id } }"}"#);
    assert_eq!(
        (seen.body.length, seen.body.whole, seen.bearer()),
        (25, true, Some(token.as_str()))
    );
}

#[tokio::test]
async fn a_request_sent_again_is_another_attempt() {
    let bench = Bench::new().await;
    for id in ["r1", "r2", "r1"] {
        bench
            .client
            .get(bench.url("/graphql"))
            .header("x-request-id", id)
            .send()
            .await
            .unwrap();
    }
    let attempts: Vec<_> = bench
        .sandbox
        .seen()
        .api_requests()
        .iter()
        .map(|request| request.attempt)
        .collect();
    assert_eq!(attempts, [1, 1, 2]);
}

#[tokio::test]
async fn the_record_is_bounded_and_the_counts_are_exact() {
    let bench = Bench::with(Config {
        record_limit: 3,
        ..Config::default()
    })
    .await;
    for _ in 0..5 {
        bench.query(&bench.token().await, ME).await;
    }
    let seen = bench.sandbox.seen();
    assert_eq!((seen.counts().api_requests, seen.counts().token_requests), (5, 5));
    let numbers: Vec<_> = seen.api_requests().iter().map(|request| request.number).collect();
    assert_eq!((numbers, seen.token_requests().len()), (vec![3, 4, 5], 3));
}

#[tokio::test]
async fn a_body_that_stops_midway_is_not_whole() {
    use tokio::io::AsyncWriteExt;
    let bench = Bench::new().await;
    let token = bench.token().await;
    let mut stream = tokio::net::TcpStream::connect(bench.sandbox.address())
        .await
        .unwrap();
    let head = format!(
        "POST /api/v4.1/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 9\r\n\r\nhalf"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    bench
        .sandbox
        .seen()
        .wait_for(|counts| counts.api_admitted == 1)
        .await;
    drop(stream);
    bench
        .sandbox
        .seen()
        .wait_for(|counts| counts.open_connections == 1)
        .await;
    let body = &bench.sandbox.seen().api_requests()[0].body;
    assert_eq!((body.length, body.whole), (4, false));
}

#[tokio::test(start_paused = true)]
async fn the_fifth_unaccepted_login_in_a_quarter_of_an_hour_breaks_the_invariant() {
    let bench = Bench::new().await;
    let wrong = [("password", "wrong")];
    for _ in 0..LOGIN_LIMIT {
        bench.ask(&wrong).await;
    }
    assert_eq!(bench.sandbox.seen().login_invariant_violations(), []);
    tokio::time::advance(14 * MINUTE).await;
    bench.ask(&wrong).await;
    let violations = bench.sandbox.seen().login_invariant_violations();
    assert_eq!(
        (
            violations.len(),
            violations[0].username.as_str(),
            violations[0].logins
        ),
        (1, "demo", 5)
    );
}

#[tokio::test(start_paused = true)]
async fn logins_spread_over_time_keep_the_invariant() {
    let bench = Bench::new().await;
    for _ in 0..12 {
        bench.ask(&[("password", "wrong")]).await;
        tokio::time::advance(4 * MINUTE).await;
    }
    assert_eq!(bench.sandbox.seen().login_invariant_violations(), []);
}

#[tokio::test]
async fn what_was_excused_or_accepted_before_does_not_count() {
    let bench = Bench::new().await;
    let fault = |code| Fault::Status {
        code,
        retry_after: None,
        body: None,
    };
    for code in [502, 503, 504] {
        bench
            .sandbox
            .faults()
            .inject(Place::Token, Times::Count(3), fault(code));
        for _ in 0..3 {
            bench.send(&form(&[])).await.unwrap();
        }
    }
    assert_eq!(bench.sandbox.seen().login_invariant_violations(), []);
    bench.token().await;
    bench
        .sandbox
        .faults()
        .inject(Place::Token, Times::Count(9), fault(500));
    for _ in 0..9 {
        bench.send(&form(&[])).await.unwrap();
    }
    assert_eq!(bench.sandbox.seen().login_invariant_violations(), []);
}

#[tokio::test]
async fn logins_without_an_answer_count() {
    for fault in [Fault::Close, Fault::Reset, Fault::Cut, Fault::Unauthorized] {
        let bench = Bench::new().await;
        bench
            .sandbox
            .faults()
            .inject(Place::Token, Times::Always, fault.clone());
        for _ in 0..5 {
            if let Ok(response) = bench.send(&form(&[])).await {
                let _ = response.bytes().await;
            }
        }
        let seen = bench.sandbox.seen();
        let logins = usize::try_from(seen.counts().password_logins).unwrap();
        assert_eq!(
            seen.login_invariant_violations().len(),
            logins - LOGIN_LIMIT,
            "{fault:?}"
        );
    }
}
