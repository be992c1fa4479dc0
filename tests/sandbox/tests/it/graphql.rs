//! `/graphql`.

use crate::support::{Bench, invalid_token};
use fluent_sandbox::MutationSeen;
use serde_json::json;

#[tokio::test]
async fn me_needs_no_argument() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let data = bench.data(&token, "{ me { id username primaryEmail } }").await;
    assert_eq!(
        data,
        json!({"me": {"id": "1", "username": "demo", "primaryEmail": "demo@example.com"}})
    );
}

#[tokio::test]
async fn only_one_living_bearer_is_let_in() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let (bearer, twice) = (
        format!("Bearer {token}"),
        format!("Bearer {token}, Bearer {token}"),
    );
    let (basic, wrong) = (format!("Basic {token}"), "Bearer wrong".to_owned());
    for headers in [
        vec![],
        vec![&basic],
        vec![&wrong],
        vec![&twice],
        vec![&bearer, &bearer],
        vec![&token],
    ] {
        let mut request = bench
            .client
            .post(bench.url("/graphql"))
            .json(&json!({"query": "{ me { id } }"}));
        for value in &headers {
            request = request.header("authorization", *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{headers:?}");
        assert_eq!(
            response.json::<serde_json::Value>().await.unwrap(),
            invalid_token()
        );
    }
    let lower = format!("bearer {token}");
    let request = bench
        .client
        .post(bench.url("/graphql"))
        .json(&json!({"query": "{ me { id } }"}));
    assert_eq!(
        request
            .header("authorization", lower)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_mutation_is_recorded_with_its_ref() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let create = r#"mutation { createOrder(input: {ref: "A1", type: "HD",
        items: [{ref: "A1-1", productRef: "SKU_00001", quantity: 2, price: 3.5}]}) { id ref totalPrice } }"#;
    let data = bench.data(&token, create).await;
    assert_eq!(data["createOrder"]["totalPrice"], json!(7.0));
    assert_eq!(bench.sandbox.seen().mutation_count("createOrder", "A1"), 1);
    let mutation = MutationSeen {
        field: "createOrder".to_owned(),
        reference: "A1".to_owned(),
    };
    assert_eq!(bench.sandbox.seen().api_requests()[0].mutations, [mutation]);
    let (status, answer) = bench.query(&token, create).await;
    assert_eq!(
        (status, &answer["errors"][0]["extensions"]["code"]),
        (200, &json!("C0120E"))
    );
    assert_eq!(bench.sandbox.seen().mutation_count("createOrder", "A1"), 1);
}
