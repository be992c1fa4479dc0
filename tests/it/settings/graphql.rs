//! Rows of `[graphql]`.

use super::super::metrics::settled;
use super::super::support::{Answer, Proxy, Raw, full, soon, start};
use super::PATHS;

/// One that lets all pass that these tests ask for.
const RULE: &str = "graphql.max_depth = 256";

const DEEP: &str = "{ orders(first: 1) { edges { node { id } } } }";
const ALIASED: &str = "{ a: me { id } b: me { id } }";
const MUTATION: &str = r#"mutation { updateInventoryQuantity(input: {ref: "LOC_002:SKU_00001:LAST_ON_HAND", quantity: 7}) { ref } }"#;
const SCHEMA: &str = "{ __schema { queryType { name } } }";

async fn ask(proxy: &Proxy, query: &str) -> Answer {
    proxy.client().graphql(query).await
}

/// Asks what passes by default, and is refused with these settings.
async fn assert_refuses(toml: &str, query: &str, status: u16, code: &str) {
    let (_sandbox, proxy) = start("").await;
    ask(&proxy, query).await.assert_good();
    let (sandbox, proxy) = start(toml).await;
    ask(&proxy, query).await.assert_refused(status, code);
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    ask(&proxy, super::ME).await.assert_good();
}

/// Sends what no rule can read.
async fn nonsense(proxy: &Proxy) -> Answer {
    proxy.client().post("/graphql", "nonsense").await
}

pub(super) async fn inspect() {
    const TOLD: &str = r#"operations_total{instance="default",kind="query",operation=""}"#;
    for (toml, told) in [("", 0), ("graphql.inspect = true", 1)] {
        let (_sandbox, proxy) = start(toml).await;
        ask(&proxy, super::ME).await.assert_good();
        let answer = nonsense(&proxy).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, None),
            "it is Fluent's answer"
        );
        let scrape = settled(&proxy).await;
        assert_eq!(scrape.count("operations_total"), told);
        if told > 0 {
            scrape.assert(TOLD, 1);
        }
    }
    let (_sandbox, proxy) = start(RULE).await;
    nonsense(&proxy).await.assert_refused(400, "GRAPHQL_UNREADABLE");
}

pub(super) async fn mutations() {
    assert_refuses("graphql.mutations = 'deny'", MUTATION, 403, "OPERATION_DENIED").await;
    assert_refuses(
        "graphql.mutations = ['createOrder']",
        MUTATION,
        403,
        "OPERATION_DENIED",
    )
    .await;
    let (_sandbox, proxy) = start("graphql.mutations = ['updateInventoryQuantity']").await;
    ask(&proxy, MUTATION).await.assert_good();
}

pub(super) async fn introspection() {
    assert_refuses("graphql.introspection = 'deny'", SCHEMA, 403, "OPERATION_DENIED").await;
}

pub(super) async fn max_depth() {
    assert_refuses("graphql.max_depth = 3", DEEP, 400, "LIMIT_EXCEEDED").await;
    let (_sandbox, proxy) = start("graphql.max_depth = 4").await;
    ask(&proxy, DEEP).await.assert_good();
}

pub(super) async fn max_aliases() {
    assert_refuses("graphql.max_aliases = 1", ALIASED, 400, "LIMIT_EXCEEDED").await;
    let (_sandbox, proxy) = start("graphql.max_aliases = 2").await;
    ask(&proxy, ALIASED).await.assert_good();
}

pub(super) async fn max_root_fields() {
    assert_refuses("graphql.max_root_fields = 1", ALIASED, 400, "LIMIT_EXCEEDED").await;
    let (_sandbox, proxy) = start("graphql.max_root_fields = 2").await;
    ask(&proxy, ALIASED).await.assert_good();
}

pub(super) async fn max_tokens() {
    let of_tokens = |count: usize| format!("{{me{{{}id}}}}", "id ".repeat((count - 6) / 2));
    let (_sandbox, proxy) = start(RULE).await;
    ask(&proxy, &of_tokens(15_000)).await.assert_good();
    let over = ask(&proxy, &of_tokens(15_002)).await;
    over.assert_refused(400, "LIMIT_EXCEEDED");
    assert_refuses("graphql.max_tokens = 100", &of_tokens(102), 400, "LIMIT_EXCEEDED").await;
}

/// Sends a query in a body of so many bytes.
async fn of_length(proxy: &Proxy, length: usize) -> Answer {
    let query = r#"{"query":"{ me { id } }"}"#;
    let body = format!("{query}{}", " ".repeat(length - query.len()));
    proxy.client().post("/graphql", body).await
}

pub(super) async fn inspect_limit() {
    // Above Fluent's own limit as well, so that it is seen who refuses.
    let (_sandbox, proxy) = start(RULE).await;
    let whole = of_length(&proxy, 2 * 1024 * 1024).await;
    assert_eq!(
        (whole.status.as_u16(), whole.code()),
        (413, None),
        "Fluent's own limit"
    );
    of_length(&proxy, 2 * 1024 * 1024 + 1)
        .await
        .assert_refused(413, "BODY_TOO_LARGE");
    let (sandbox, proxy) = start("graphql.inspect_limit = '1KiB'").await;
    of_length(&proxy, 1024).await.assert_good();
    of_length(&proxy, 1025)
        .await
        .assert_refused(413, "BODY_TOO_LARGE");
    assert_eq!(sandbox.seen().counts().api_requests, 1);
}

pub(super) async fn inspect_memory() {
    let toml = "[graphql]\nmutations = 'deny'\ninspect_limit = '2KiB'\ninspect_memory = '2KiB'";
    let (sandbox, proxy) = start(toml).await;
    // At the limit, one after the other.
    for _ in 0..3 {
        of_length(&proxy, 2048).await.assert_good();
    }
    // One that is held takes what it declared, until its end has come and it is sent.
    let query = format!(r#"{{"query":"{}"}}"#, super::ME);
    let mut caller = Raw::connect(proxy.address()).await;
    let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    caller
        .send(format!("{head}Content-Length: 2048\r\n\r\n{query}"))
        .await;
    let refused = soon(async {
        loop {
            let answer = of_length(&proxy, 30).await;
            if answer.status != 200 {
                return answer;
            }
        }
    })
    .await;
    refused.assert_refused(503, "OVERLOADED");
    assert_eq!(refused.headers["retry-after"], "1");
    let before = sandbox.seen().counts().api_requests;
    caller.send(" ".repeat(2048 - query.len())).await;
    assert_eq!(caller.answer().await.status, 200);
    of_length(&proxy, 2048).await.assert_good();
    assert_eq!(sandbox.seen().counts().api_requests, before + 2);
}

/// Sends to a path that is not GraphQL's.
async fn elsewhere(proxy: &Proxy) -> Answer {
    let request = http::Request::post("/api/v4.1/event").header("content-type", "application/octet-stream");
    proxy.client().send(request.body(full("x")).unwrap()).await
}

pub(super) async fn rest() {
    let (_sandbox, proxy) = start(&format!("{RULE}\n{PATHS}")).await;
    assert_eq!(elsewhere(&proxy).await.code(), None);
    let (sandbox, proxy) = start(&format!("graphql.rest = 'deny'\n{PATHS}")).await;
    elsewhere(&proxy).await.assert_refused(403, "OPERATION_DENIED");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    ask(&proxy, super::ME).await.assert_good();
}

/// A manifest of one document, and the setting that names it.
fn manifest() -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::json!({ "abc": super::ME }).to_string()).unwrap();
    let setting = format!("graphql.trusted_documents = '{}'\n", file.path().display());
    (file, setting)
}

pub(super) async fn trusted_documents() {
    let hash = r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"abc"}}}"#;
    let (_sandbox, proxy) = start(RULE).await;
    let unknown = proxy.client().post("/graphql", hash).await;
    unknown.assert_refused(400, "DOCUMENT_UNKNOWN");
    let (_file, setting) = manifest();
    let (_sandbox, proxy) = start(&setting).await;
    proxy.client().post("/graphql", hash).await.assert_good();
    ask(&proxy, DEEP).await.assert_good();
}

pub(super) async fn trusted_only() {
    let (_file, setting) = manifest();
    assert_refuses(
        &format!("{setting}graphql.trusted_only = true"),
        DEEP,
        400,
        "DOCUMENT_UNKNOWN",
    )
    .await;
}
