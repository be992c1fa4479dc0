//! The control interface, and the binary that serves it.

use crate::support::Bench;
use fluent_sandbox::Config;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

async fn bench() -> (Bench, String) {
    let control_address = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let bench = Bench::with(Config {
        control_address,
        ..Config::default()
    })
    .await;
    let control = bench.sandbox.control_url().unwrap();
    (bench, control)
}

#[tokio::test]
async fn faults_are_injected_and_cleared_over_http() {
    let (bench, control) = bench().await;
    let token = bench.token().await;
    let faults = format!("{control}/faults");
    for fault in [
        json!("hang"),
        json!({"delay": 1}),
        json!({"status": {"code": 503, "retry_after": "7"}}),
        json!({"redirect": "http://127.0.0.1:1"}),
        json!({"trickle": 1}),
        json!({"skew_clock": 1}),
        json!("revoke_tokens"),
        json!("no_token"),
    ] {
        let body = json!({"place": "token", "fault": fault, "times": {"count": 2}, "when": "after_body", "path": "/x"});
        assert_eq!(
            bench
                .client
                .post(&faults)
                .json(&body)
                .send()
                .await
                .unwrap()
                .status(),
            200,
            "{body}"
        );
    }
    assert_eq!(bench.client.delete(&faults).send().await.unwrap().status(), 204);
    assert_eq!(bench.sandbox.faults().pending(), 0);
    let body = json!({"place": "api", "fault": "unauthorized", "times": "always"});
    let answer: Value = bench
        .client
        .post(&faults)
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(bench.query(&token, "{ me { id } }").await.0, 401);
    bench
        .client
        .delete(format!("{faults}/{}", answer["id"]))
        .send()
        .await
        .unwrap();
    assert_eq!(bench.query(&token, "{ me { id } }").await.0, 200);
    let unknown = json!({"place": "api", "fault": "unauthorised"});
    assert_eq!(
        bench
            .client
            .post(&faults)
            .json(&unknown)
            .send()
            .await
            .unwrap()
            .status(),
        422
    );
}

#[tokio::test]
async fn tokens_are_revoked_and_the_clock_is_moved_over_http() {
    let (bench, control) = bench().await;
    let token = bench.token().await;
    let post = async |path: &str, body: Value| {
        bench
            .client
            .post(format!("{control}{path}"))
            .json(&body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(post("/skew", json!({"forward_ms": 90_000_000})).await, 204);
    assert_eq!(bench.query(&token, "{ me { id } }").await.0, 401);
    assert_eq!(post("/skew", json!({"back_ms": 90_000_000})).await, 204);
    assert_eq!(bench.query(&token, "{ me { id } }").await.0, 200);
    let revoke = bench
        .client
        .post(format!("{control}/revoke"))
        .send()
        .await
        .unwrap();
    assert_eq!(revoke.status(), 204);
    assert_eq!(bench.query(&token, "{ me { id } }").await.0, 401);
}

#[tokio::test]
async fn the_record_is_shown_without_secrets() {
    let (bench, control) = bench().await;
    let token = bench.token().await;
    bench.data(&token, "{ me { id } }").await;
    let text = bench
        .client
        .get(format!("{control}/seen"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for secret in [token.as_str(), "demo-password", "demo-client-secret"] {
        assert!(!text.contains(secret), "{text}");
    }
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (
            &seen["counts"]["api_requests"],
            &seen["counts"]["password_logins"]
        ),
        (&json!(1), &json!(1))
    );
    assert_eq!(seen["token_requests"][0]["outcome"], json!("issued"));
    assert_eq!(seen["api_requests"][0]["target"], json!("/graphql"));
    assert_eq!(seen["login_invariant_violations"], json!([]));
}

#[tokio::test]
async fn the_binary_says_where_it_listens_and_stops_on_a_signal() {
    for signal in ["-TERM", "-INT"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fluent-sandbox"))
            .args([
                "--address",
                "127.0.0.1:0",
                "--control-address",
                "127.0.0.1:0",
                "--orders",
                "3",
            ])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .next_line()
            .await
            .unwrap()
            .unwrap()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        let control = lines
            .next_line()
            .await
            .unwrap()
            .unwrap()
            .strip_prefix("control on ")
            .unwrap()
            .to_owned();
        assert_eq!(
            reqwest::get(format!("{url}/graphql")).await.unwrap().status(),
            401
        );
        let seen: Value = reqwest::get(format!("{control}/seen"))
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(seen["counts"]["api_requests"], json!(1));
        let id = child.id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .await
                .unwrap()
                .success()
        );
        assert!(child.wait().await.unwrap().success());
    }
}
