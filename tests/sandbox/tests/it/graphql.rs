//! `/graphql`.

use crate::support::{Bench, invalid_token};
use fluent_sandbox::{Config, MutationSeen};
use serde_json::json;
use std::time::Duration;

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

#[tokio::test]
async fn orders_can_be_paged_through_forwards_and_backwards() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let page = "query($first: Int, $last: Int, $before: String, $after: String) {
        orders(first: $first, last: $last, before: $before, after: $after) {
            edges { cursor node { ref } } pageInfo { hasNextPage hasPreviousPage } } }";
    let (mut forwards, mut after) = (Vec::new(), serde_json::Value::Null);
    loop {
        let (_, answer) = bench
            .query_with(&token, page, json!({"first": 300, "after": after}))
            .await;
        let orders = &answer["data"]["orders"];
        assert_eq!(orders["pageInfo"]["hasPreviousPage"], json!(!after.is_null()));
        forwards.extend(orders["edges"].as_array().unwrap().clone());
        after = forwards.last().unwrap()["cursor"].clone();
        if orders["pageInfo"]["hasNextPage"] == json!(false) {
            break;
        }
    }
    let refs: std::collections::HashSet<_> = forwards
        .iter()
        .map(|edge| edge["node"]["ref"].to_string())
        .collect();
    assert_eq!((forwards.len(), refs.len()), (1_000, 1_000));
    let before = json!({"last": 2, "before": forwards[500]["cursor"]});
    let (_, answer) = bench.query_with(&token, page, before).await;
    assert_eq!(
        answer["data"]["orders"]["edges"],
        json!([forwards[498], forwards[499]])
    );
    let page_info = json!({"hasNextPage": true, "hasPreviousPage": true});
    assert_eq!(answer["data"]["orders"]["pageInfo"], page_info);
}

#[tokio::test]
async fn orders_are_filtered_and_in_the_order_of_their_making() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let data = bench
        .data(
            &token,
            r#"{ orders(first: 1000, status: "BOOKED", type: ["HD"],
                createdOn: {from: "2025-06-01T00:00:00Z"}) { edges { node { status type createdOn } } } }"#,
        )
        .await;
    let made: Vec<_> = data["orders"]["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| &edge["node"])
        .collect();
    assert!((20..200).contains(&made.len()), "{}", made.len());
    assert!(
        made.iter()
            .all(|order| order["status"] == "BOOKED" && order["type"] == "HD")
    );
    let made: Vec<_> = made
        .iter()
        .map(|order| order["createdOn"].as_str().unwrap())
        .collect();
    assert!(made.is_sorted() && made[0] >= "2025-06-01", "{made:?}");
}

#[tokio::test]
async fn the_same_seed_makes_the_same_shop() {
    let everything = r"{ orders(first: 20) { edges { node { id ref totalPrice customer { ref } items { edges
        { node { ref quantity product { ref name } } } } } } } locations { edges { node { ref name } } } }";
    let shop = async |seed| {
        let bench = Bench::with(Config {
            seed,
            ..Config::default()
        })
        .await;
        let token = bench.token().await;
        bench.data(&token, everything).await
    };
    assert_eq!(shop(7).await, shop(7).await);
    assert_ne!(shop(7).await, shop(8).await);
}

#[tokio::test]
async fn aliases_fragments_directives_and_introspection_work() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let query = r"query Real($yes: Boolean!) {
        one: orders(first: 1) { edges { node { ...o } } }
        two: orders(first: 1) { edges { node { __typename ... on Node { id } ref @include(if: $yes) type @skip(if: $yes) } } }
        __schema { types { name fields { name args { name } } } } }
        fragment o on Order { ref items(first: 2) { edges { node { product { attributes { value } } } } } }";
    let (_, answer) = bench.query_with(&token, query, json!({"yes": true})).await;
    assert_eq!(answer["errors"], json!(null), "{answer}");
    let two = &answer["data"]["two"]["edges"][0]["node"];
    assert_eq!(answer["data"]["one"]["edges"][0]["node"]["ref"], two["ref"]);
    assert_eq!((&two["__typename"], two.get("type")), (&json!("Order"), None));
    assert!(answer["data"]["__schema"]["types"].as_array().unwrap().len() > 40);
}

#[tokio::test]
async fn too_complex_is_an_error_with_its_code_and_http_200() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let (status, answer) = bench
        .query(&token, "{ orders(first: 5000) { edges { node { id ref } } } }")
        .await;
    assert_eq!(
        (status, &answer["errors"][0]["extensions"]["code"]),
        (200, &json!("C0001E")),
        "{answer}"
    );
    let (status, answer) = bench
        .query(&token, "{ orders(first: 1000) { edges { node { id ref } } } }")
        .await;
    assert_eq!((status, &answer["errors"]), (200, &json!(null)));
}

#[tokio::test]
async fn business_errors_are_http_200_with_codes() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let data = bench
        .data(&token, "{ orders(first: 1) { edges { node { ref } } } }")
        .await;
    let there = data["orders"]["edges"][0]["node"]["ref"].as_str().unwrap();
    let item = r#"[{ref: "1", productRef: "SKU_00001", quantity: 1}]"#;
    let cases = [
        (
            "{ products(first: 501) { edges { cursor } } }".to_owned(),
            "C0020E",
        ),
        (
            "{ orders(first: 1, last: 1) { edges { cursor } } }".to_owned(),
            "C0020E",
        ),
        (
            "{ orders(first: 1, after: \"?\") { edges { cursor } } }".to_owned(),
            "C0020E",
        ),
        (
            r#"mutation { createOrder(input: {ref: "E", type: "HD", items: []}) { id } }"#.to_owned(),
            "C0020E",
        ),
        (
            r#"mutation { createOrder(input: {ref: "E", type: "HD",
                items: [{ref: "1", productRef: "NO", quantity: 1}]}) { id } }"#
                .to_owned(),
            "C0020E",
        ),
        (
            format!(
                r#"mutation {{ createOrder(input: {{ref: "{there}", type: "HD", items: {item}}}) {{ id }} }}"#
            ),
            "C0120E",
        ),
        (
            r#"mutation { updateOrder(input: {id: "1"}) { id } }"#.to_owned(),
            "C0020E",
        ),
        (
            format!(
                r#"mutation {{ createOrderAndCustomer(input: {{ref: "E", type: "HD",
                    customer: {{ref: "CUST_00001"}}, items: {item}}}) {{ id }} }}"#
            ),
            "C0120E",
        ),
    ];
    for (query, code) in cases {
        let (status, answer) = bench.query(&token, &query).await;
        assert_eq!(status, 200);
        if !code.is_empty() {
            assert_eq!(
                answer["errors"][0]["extensions"]["code"],
                json!(code),
                "{query}: {answer}"
            );
        }
    }
    let data = bench.data(&token, r#"{ order(ref: "E") { id } }"#).await;
    assert_eq!(
        data,
        json!({"order": null}),
        "a change is made whole or not at all"
    );
}

#[tokio::test]
async fn every_mutation_changes_what_is_asked_later() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let data = bench
        .data(
            &token,
            r#"mutation { createOrderAndCustomer(input: {ref: "N1", type: "CC", customer: {ref: "C1", firstName: "Ada"},
                items: [{ref: "N1-1", productRef: "SKU_00002", quantity: 1}],
                attributes: [{name: "a", type: "JSON", value: {b: [1, null, "c"]}}]}) { id } }"#,
        )
        .await;
    let id = data["createOrderAndCustomer"]["id"].as_str().unwrap();
    bench
        .data(
            &token,
            &format!(r#"mutation {{ updateOrder(input: {{id: "{id}", status: "BOOKED"}}) {{ id }} }}"#),
        )
        .await;
    bench
        .data(
            &token,
            r#"mutation { updateInventoryQuantity(input: {ref: "LOC_002:SKU_00001:LAST_ON_HAND", quantity: 77}) { id } }"#,
        )
        .await;
    let data = bench
        .data(
            &token,
            r#"{ order(ref: "N1") { status customer { ref } attributes { value } } customer(ref: "C1") { firstName }
                inventoryPosition(ref: "LOC_002:SKU_00001", catalogue: {ref: "DEFAULT:1"}) { onHand }
                virtualPositions(productRef: "SKU_00001") { edges { node { quantity } } } }"#,
        )
        .await;
    assert_eq!(data["order"]["status"], json!("BOOKED"));
    assert_eq!(
        data["order"]["attributes"][0]["value"],
        json!({"b": [1, null, "c"]})
    );
    assert_eq!(
        (&data["customer"]["firstName"], &data["order"]["customer"]["ref"]),
        (&json!("Ada"), &json!("C1"))
    );
    assert_eq!(data["inventoryPosition"]["onHand"], json!(77));
}

#[tokio::test(start_paused = true)]
async fn awaiting_orchestration_holds_the_answer_but_not_the_change() {
    let config = Config {
        orchestration_time: Duration::from_hours(1),
        ..Config::default()
    };
    let bench = Bench::with(config).await;
    let token = bench.token().await;
    let begun = tokio::time::Instant::now();
    let create = r#"mutation { createFulfilmentOption(executionMode: AWAIT_ORCHESTRATION,
        input: {ref: "F1", type: "X"}) { status } }"#;
    let (answer, at) = tokio::join!(bench.data(&token, create), async {
        bench
            .sandbox
            .seen()
            .wait_for(|counts| counts.mutations == 1)
            .await;
        begun.elapsed()
    });
    assert_eq!(answer["createFulfilmentOption"]["status"], json!("PROPOSED"));
    assert!(at < Duration::from_mins(59) && begun.elapsed() >= Duration::from_hours(1));
}

#[tokio::test]
async fn over_two_megabytes_is_413_declared_or_streamed() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let send = async |body: reqwest::Body| {
        bench
            .client
            .post(bench.url("/graphql"))
            .bearer_auth(&token)
            .body(body)
            .send()
            .await
            .unwrap()
            .status()
    };
    let query = |size: usize| format!(r#"{{"query":"{{ me {{ id }} }}{}"}}"#, " ".repeat(size - 25));
    assert_eq!(send(query(2_000_000).into()).await, 200);
    assert_eq!(send(query(2_000_100).into()).await, 413);
    let chunks = query(2_000_100)
        .into_bytes()
        .chunks(100_000)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect::<Vec<_>>();
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    assert_eq!(send(streamed).await, 413);
}

#[tokio::test]
async fn a_get_asks_and_never_changes() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    let get = async |query: &str| {
        let request = bench
            .client
            .get(bench.url("/graphql"))
            .query(&[("query", query)])
            .bearer_auth(&token);
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.json::<serde_json::Value>().await.unwrap(),
        )
    };
    assert_eq!(
        get("{ me { username } }").await,
        (200, json!({"data": {"me": {"username": "demo"}}}))
    );
    let change = r#"mutation { updateOrder(input: {id: "1"}) { id } }"#;
    assert_eq!(get(change).await.0, 405);
    assert_eq!(
        bench
            .client
            .get(bench.url("/graphql?query={me{id}}"))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
}

#[tokio::test]
async fn what_is_no_request_is_a_400() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    for body in ["", "[]x", "{", "[1]"] {
        let request = bench
            .client
            .post(bench.url("/graphql"))
            .bearer_auth(&token)
            .body(body);
        assert_eq!(request.send().await.unwrap().status(), 400, "{body}");
    }
    let (status, answer) = bench.query(&token, "{ nonsense }").await;
    assert_eq!((status, answer["errors"].is_array()), (200, true));
}
