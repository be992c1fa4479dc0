//! Unauthenticated GraphQL in, bearer injected, streamed to Fluent.

use super::support::{Process, assert_clean, fluent, logged, sandbox, start};

const ORDERS: &str = "{ orders(first: 2) { edges { node { id ref } } } }";

#[tokio::test]
async fn a_query_without_a_token_is_answered_by_fluent() {
    let (sandbox, proxy) = start("").await;
    let answer = proxy.client().graphql(ORDERS).await;
    answer.assert_good();
    assert_eq!(
        answer.json()["data"]["orders"]["edges"].as_array().unwrap().len(),
        2
    );
    assert_eq!(sandbox.seen().counts().password_logins, 1);
    proxy.stop().await;
    assert!(logged().contains("token obtained"));
}

#[tokio::test]
async fn the_program_serves_and_ends_on_sigterm() {
    let sandbox = sandbox(fluent()).await;
    let process = Process::start(Process::command(&sandbox.url())).await;
    process.client().graphql(ORDERS).await.assert_good();
    let status = process.admin().get("/status").await;
    assert_eq!(
        status.json()["instances"]["default"]["users"]["default"]["state"],
        "fresh"
    );
    assert_clean(&status.body, "the status page");
    assert!(process.terminate().await.success());
}
