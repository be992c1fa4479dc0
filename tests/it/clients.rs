//! reqwest, pointed at the proxy: it does what its users do with it, and notices nothing. For the clients of other
//! languages see `tests/clients`.

use fluent_sandbox::{Fault, Place, Times};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::support::{soon, start};

const ME: &str = "{ me { username } }";
const CREATE: &str = "mutation Create($input: CreateOrderInput!) { createOrder(input: $input) { ref } }";

/// Who sends GraphQL to one address.
#[derive(Clone)]
struct Asker {
    client: reqwest::Client,
    url: String,
}

impl Asker {
    async fn ask(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables });
        let answer = self.client.post(&self.url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    async fn order(&self, reference: &str) -> Value {
        let items = json!([{ "ref": "i", "productRef": "SKU_00001", "quantity": 1 }]);
        let input = json!({ "ref": reference, "type": "HD", "items": items });
        self.ask(CREATE, json!({ "input": input })).await
    }
}

async fn use_it(client: reqwest::ClientBuilder) {
    let (sandbox, proxy) = start("listen.paths = ['/graphql', '/api/*']").await;
    let root = format!("http://{}", proxy.address());
    let asker = Asker {
        client: client.build().unwrap(),
        url: format!("{root}/graphql"),
    };
    let counts = || sandbox.seen().counts();
    let me = json!({ "data": { "me": { "username": "integration" } } });
    let created = |reference: &str| json!({ "data": { "createOrder": { "ref": reference } } });

    assert_eq!(asker.ask(ME, json!({})).await, me);
    assert_eq!(asker.order("ONE").await, created("ONE"));
    assert_eq!(
        asker.order("ONE").await["errors"][0]["extensions"]["code"],
        "C0120E"
    );

    let long = asker
        .client
        .get(format!("{root}/api/v4.1/download?bytes=2000000&chunked=1"));
    assert_eq!(long.send().await.unwrap().bytes().await.unwrap().len(), 2_000_000);

    let before = counts().api_requests;
    sandbox.faults().inject(Place::Api, Times::Once, Fault::Hang);
    let left = tokio::spawn({
        let asker = asker.clone();
        async move { asker.ask(ME, json!({})).await }
    });
    soon(sandbox.seen().wait_for(|counts| counts.api_requests > before)).await;
    left.abort();
    sandbox.faults().clear();
    assert_eq!(asker.ask(ME, json!({})).await, me);

    let mut many = JoinSet::new();
    for number in 0..50 {
        let (asker, reference) = (asker.clone(), format!("MANY_{number}"));
        many.spawn(async move { (asker.order(&reference).await, reference) });
    }
    for (answer, reference) in many.join_all().await {
        assert_eq!(answer, created(&reference));
    }

    let before = counts();
    sandbox.revoke_access_tokens();
    assert_eq!(asker.order("AFTER").await, created("AFTER"));
    let after = counts();
    assert_eq!(after.mutations, before.mutations + 1);
    assert_eq!(after.api_unauthorized, before.api_unauthorized + 1);
    proxy.stop().await;
}

#[tokio::test]
async fn reqwest_notices_nothing_over_http_1() {
    use_it(reqwest::Client::builder().http1_only()).await;
}

#[tokio::test]
async fn reqwest_notices_nothing_over_http_2() {
    use_it(reqwest::Client::builder().http2_prior_knowledge()).await;
}
