//! The rules for what is asked: what they refuse never reaches Fluent, what they let pass arrives as it came.

use bytes::Bytes;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::channel::Sender;
use serde_json::{Value, json};

use super::metrics::settled;
use super::support::{self, Answer, Client, full, logged, start, streamed};

const ME: &str = "{ me { id } }";
const MUTATION: &str = r#"mutation { updateInventoryQuantity(input: {ref: "LOC_002:SKU_00001:LAST_ON_HAND", quantity: 7}) { ref } }"#;
const READ_ONLY: &str = "graphql.mutations = 'deny'";

/// A POST of these bytes with these headers.
async fn post(client: Client, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(full(body)).unwrap()).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_mutation_in_whatever_dress_never_reaches_fluent() {
    let (sandbox, proxy) = start(READ_ONLY).await;
    let both = format!("query A {ME} mutation B {{ a }}");
    let spread = "mutation { ...F } fragment F on Mutation { a }";
    for body in [
        json!({ "query": MUTATION }),
        json!({ "query": format!("\u{feff}# a query\r{MUTATION}") }),
        json!({ "query": both }),
        json!({ "query": both, "operationName": "B" }),
        json!({ "query": spread }),
        json!([{ "query": ME }, { "query": MUTATION }]),
    ] {
        let answer = proxy.client().post("/graphql", body.to_string()).await;
        answer.assert_refused(403, "OPERATION_DENIED");
    }
    let escaped = r#"{"\u0071uery":"\u006dutation { a }"}"#;
    let answer = proxy.client().post("/graphql", escaped).await;
    answer.assert_refused(403, "OPERATION_DENIED");
    let get = proxy.client().get("/graphql?query=mut%61tion%7Ba%7D").await;
    get.assert_refused(403, "OPERATION_DENIED");
    let counts = sandbox.seen().counts();
    assert_eq!((counts.api_requests, counts.mutations), (0, 0));
    let named = json!({ "query": both, "operationName": "A" }).to_string();
    proxy.client().post("/graphql", named).await;
    assert_eq!(sandbox.seen().counts().api_requests, 1, "a query was meant");
}

#[tokio::test]
async fn what_cannot_be_judged_never_reaches_fluent() {
    let (sandbox, proxy) = start(&format!("{READ_ONLY}\nlisten.required_header = 'x-key: abc'")).await;
    let query = json!({ "query": ME }).to_string();
    let key = ("x-key", "abc");
    for (path, headers, body) in [
        (
            "/graphql",
            vec![key, JSON, ("content-encoding", "gzip")],
            query.as_str(),
        ),
        (
            "/graphql",
            vec![key, JSON, ("content-encoding", "identity")],
            &query,
        ),
        ("/graphql", vec![key], &query),
        ("/graphql", vec![key, ("content-type", "application/graphql")], ME),
        (
            "/graphql",
            vec![key, ("content-type", "application/x-www-form-urlencoded")],
            "query={me{id}}",
        ),
        (
            "/graphql",
            vec![key, ("content-type", "application/json; charset=utf-16")],
            &query,
        ),
        ("/graphql", vec![key, JSON, JSON], &query),
        ("/graphql?query=%7Bme%7Bid%7D%7D", vec![key, JSON], &query),
        (
            "/graphql",
            vec![key, JSON],
            r#"{"query":"{ me { id } }","query":"mutation { a }"}"#,
        ),
        (
            "/graphql",
            vec![key, JSON],
            "\u{feff}{\"query\":\"{ me { id } }\"}",
        ),
        ("/graphql", vec![key, JSON], r#"{"query":"{ me { id } "}"#),
        ("/graphql", vec![key, JSON], ""),
    ] {
        let answer = post(proxy.client(), path, &headers, body.to_owned()).await;
        answer.assert_refused(400, "GRAPHQL_UNREADABLE");
    }
    let get = Request::get("/graphql?query=%7Bme%7Bid%7D%7D").header("x-key", "abc");
    let get = proxy.client().send(get.body(full(query.clone())).unwrap()).await;
    get.assert_refused(400, "GRAPHQL_UNREADABLE");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    post(proxy.client(), "/graphql", &[key, JSON], query)
        .await
        .assert_good();
}

#[tokio::test]
async fn what_passes_arrives_byte_for_byte() {
    let (sandbox, proxy) = start(READ_ONLY).await;
    let bodies = [
        r#"{"query":"{ me { id } }"}"#.to_owned(),
        " {\n \"operationName\" : null,\t\"variables\":{\"a\":1.10,\"a\":2},\"query\":\"{ \\u006de { id } }\",\"x\":[] } \r\n"
            .to_owned(),
        json!({ "query": format!("{ME} # {}", "é".repeat(300_000)) }).to_string(),
    ];
    for body in bodies {
        proxy.client().post("/graphql", body.clone()).await.assert_good();
        let seen = sandbox.seen().api_requests().pop().unwrap();
        assert!(seen.body.whole);
        assert_eq!(seen.headers["content-length"], body.len().to_string());
        assert_eq!(seen.body.kept, Bytes::from(body).slice(..seen.body.kept.len()));
    }
    let target = "/graphql?query=%7b+me+%7Bid%7D%7D&x=%41";
    proxy.client().get(target).await.assert_good();
    assert_eq!(sandbox.seen().api_requests().pop().unwrap().target, target);
}

#[tokio::test]
async fn nothing_of_a_body_leaves_before_it_is_judged_whole() {
    let (sandbox, proxy) = start(READ_ONLY).await;
    let (mut sender, mut request) = streamed("/graphql");
    request
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    let call = tokio::spawn(proxy.client().send(request));
    sender
        .send(Frame::data(Bytes::from_static(
            b"{\"query\":\"query A { me { id } }",
        )))
        .await
        .unwrap();
    sender
        .send(Frame::data(Bytes::from_static(b" mutation B { a }\"}")))
        .await
        .unwrap();
    drop(sender);
    call.await.unwrap().assert_refused(403, "OPERATION_DENIED");
    assert_eq!(sandbox.seen().counts().api_requests, 0);

    let (mut sender, mut request) = streamed("/graphql");
    request
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    let call = tokio::spawn(proxy.client().send(request));
    for part in ["{\"query\":", "\"{ me { id } }\"", "}"] {
        sender.send(Frame::data(Bytes::from(part))).await.unwrap();
    }
    drop(sender);
    call.await.unwrap().assert_good();
    assert_eq!(sandbox.seen().counts().api_requests, 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_while_it_streams() {
    let (sandbox, proxy) = start("graphql.inspect_limit = '1KiB'").await;
    let (mut sender, mut request) = streamed("/graphql");
    request
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    let call = tokio::spawn(proxy.client().send(request));
    sender
        .send(Frame::data(Bytes::from(vec![b' '; 1024])))
        .await
        .unwrap();
    sender.send(Frame::data(Bytes::from_static(b" "))).await.unwrap();
    call.await.unwrap().assert_refused(413, "BODY_TOO_LARGE");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
}

#[tokio::test]
async fn the_rules_hold_for_every_spelling_of_the_path_and_every_instance() {
    let toml = format!("{READ_ONLY}\nlisten.paths = ['/*']");
    let (sandbox, proxy) = start(&toml).await;
    for path in ["/graphql", "/graphql/", "/GraphQL", "/instances/default/graphql"] {
        let body = json!({ "query": MUTATION }).to_string();
        let answer = post(proxy.client(), path, &[JSON], body).await;
        // An instance of that name there is none; what counts is that nothing went on.
        assert!(answer.code().is_some(), "{path}");
    }
    assert_eq!(sandbox.seen().counts().api_requests, 0);
}

/// A manifest of these documents, and the setting that names it.
fn manifest(documents: &Value) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), documents.to_string()).unwrap();
    let setting = format!("graphql.trusted_documents = '{}'\n", file.path().display());
    (file, setting)
}

#[tokio::test]
async fn a_persisted_query_is_sent_on_with_its_text() {
    let apollo = json!({
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [
            { "id": "a1", "name": "Order", "type": "query", "body": "query Order($id: ID!) { orderById(id: $id) { id ref } me { username } }" },
            { "id": "b2", "name": "Change", "type": "mutation", "body": MUTATION },
        ],
    });
    let (_file, setting) = manifest(&apollo);
    let (sandbox, proxy) = start(&format!("{setting}{READ_ONLY}\ngraphql.trusted_only = true")).await;
    let extensions = |hash| json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
    let body =
        json!({ "operationName": "Order", "variables": { "id": "1" }, "extensions": extensions("a1") })
            .to_string();
    let answer = post(
        proxy.client(),
        "/graphql",
        &[JSON, ("content-digest", "sha-256=:x:")],
        body.clone(),
    )
    .await;
    assert_eq!(answer.json()["data"]["me"]["username"], "integration");
    let seen = sandbox.seen().api_requests().pop().unwrap();
    let sent: Value = serde_json::from_slice(&seen.body.kept).unwrap();
    assert_eq!(sent["query"], apollo["operations"][0]["body"]);
    assert_eq!(sent["variables"], json!({ "id": "1" }));
    assert_eq!(seen.headers["content-length"], seen.body.kept.len().to_string());
    assert!(
        !seen.headers.contains_key("content-digest"),
        "it was of other bytes"
    );

    let query = form(&[
        ("variables", r#"{"id":"1"}"#),
        ("extensions", &extensions("a1").to_string()),
    ]);
    let answer = proxy.client().get(&format!("/graphql?{query}")).await;
    assert_eq!(answer.json()["data"]["me"]["username"], "integration");

    let before = sandbox.seen().counts().api_requests;
    let denied = json!({ "extensions": extensions("b2") }).to_string();
    let denied = proxy.client().post("/graphql", denied).await;
    denied.assert_refused(403, "OPERATION_DENIED");
    for unknown in [
        json!({ "extensions": extensions("c3") }),
        json!({ "query": ME }),
        json!({}),
    ] {
        let answer = proxy.client().post("/graphql", unknown.to_string()).await;
        answer.assert_refused(400, "DOCUMENT_UNKNOWN");
    }
    assert_eq!(sandbox.seen().counts().api_requests, before);
}

fn form(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    query.finish()
}

#[tokio::test]
async fn what_is_sent_in_place_of_a_hash_is_replayed_after_a_401() {
    let (_file, setting) = manifest(&json!({ "a1": ME }));
    let (sandbox, proxy) = start(&setting).await;
    let body = r#"{"extensions":{"persistedQuery":{"sha256Hash":"a1"}}}"#;
    proxy.client().post("/graphql", body).await.assert_good();
    sandbox.revoke_access_tokens();
    proxy.client().post("/graphql", body).await.assert_good();
    let seen = sandbox.seen().api_requests();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.body.kept == seen[0].body.kept));
}

#[tokio::test]
async fn hostile_documents_are_refused_and_counted() {
    let (sandbox, proxy) = start(READ_ONLY).await;
    let circle = "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }";
    for (document, code) in [
        ("{".repeat(100_000), "LIMIT_EXCEEDED"),
        ("{a".repeat(5_000), "LIMIT_EXCEEDED"),
        (format!("{{{}}}", "a ".repeat(900_000)), "LIMIT_EXCEEDED"),
        (circle.to_owned(), "GRAPHQL_UNREADABLE"),
    ] {
        let answer = proxy.client().graphql(&document).await;
        answer.assert_refused(400, code);
    }
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    let page = proxy.admin().get("/metrics").await;
    let page = String::from_utf8_lossy(&page.body);
    for line in [
        r#"fluent_auth_proxy_rejections_total{code="LIMIT_EXCEEDED"} 3"#,
        r#"fluent_auth_proxy_rejections_total{code="GRAPHQL_UNREADABLE"} 1"#,
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[tokio::test]
async fn where_no_rule_is_on_nothing_is_refused_or_held_back() {
    for toml in ["", "graphql.inspect = true"] {
        let (sandbox, proxy) = start(toml).await;
        let deep = json!({ "query": "{".repeat(100_000) }).to_string();
        for body in ["nonsense".to_owned(), r#"{"query":1,"query":2}"#.to_owned(), deep] {
            let answer = proxy.client().post("/graphql", body.clone()).await;
            assert_eq!(answer.code(), None);
            let seen = sandbox.seen().api_requests().pop().unwrap();
            assert_eq!(seen.body.kept, Bytes::from(body).slice(..seen.body.kept.len()));
        }
        let (mut sender, request) = chunked();
        let before = sandbox.seen().counts().api_requests;
        let call = tokio::spawn(proxy.client().send(request));
        send(&mut sender, "{\"query\":").await;
        sandbox
            .seen()
            .wait_for(|counts| counts.api_requests > before)
            .await;
        send(&mut sender, "\"{ me { id } }\"}").await;
        drop(sender);
        call.await.unwrap().assert_good();
    }
}

/// A POST of JSON whose body is sent part by part.
fn chunked() -> (Sender<Bytes, std::io::Error>, support::Request) {
    let (sender, mut request) = streamed("/graphql");
    *request.method_mut() = Method::POST;
    let json = "application/json".parse().unwrap();
    request.headers_mut().insert("content-type", json);
    (sender, request)
}

async fn send(sender: &mut Sender<Bytes, std::io::Error>, part: &str) {
    let part = Bytes::copy_from_slice(part.as_bytes());
    sender.send(Frame::data(part)).await.unwrap();
}

#[tokio::test]
async fn what_is_asked_is_told_as_the_first_64_kib_have_it() {
    const FIRST: usize = 64 * 1024;
    let (_sandbox, proxy) = start("graphql.inspect = true").await;
    let query = |name: &str| format!(r#""query":"query {name} {ME}""#);
    let long = format!(r#""variables":{{"text":"{}"}}"#, "x".repeat(300_000));
    let padding = |length: usize| " ".repeat(length);
    let up_to = |body: &str, length: usize| format!("{}{body}", padding(length - body.len()));
    for body in [
        format!("{{{},{long}}}", query("BeforeLongVariables")),
        format!("{{{long},{}}}", query("AfterLongVariables")),
        format!(
            r#"{{"operationName":"Two",{},{long}}}"#,
            query(&format!("One {ME} query Two"))
        ),
        format!("{}}}", up_to(&format!("{{{}", query("AtTheLimit")), FIRST)),
        format!("{}}}", up_to(&format!("{{{}", query("OverTheLimit")), FIRST + 1)),
    ] {
        proxy.client().post("/graphql", body).await.assert_good();
    }
    let (mut sender, request) = chunked();
    let call = tokio::spawn(proxy.client().send(request));
    for part in [r#"{"que"#, r#"ry":"que"#, "ry InParts ", ME, "\"", "}"] {
        send(&mut sender, part).await;
    }
    drop(sender);
    call.await.unwrap().assert_good();
    let get = proxy
        .client()
        .get("/graphql?query=query%20ByGet%7Bme%7Bid%7D%7D")
        .await;
    get.assert_good();
    let scrape = settled(&proxy).await;
    let told = ["BeforeLongVariables", "Two", "AtTheLimit", "InParts", "ByGet"];
    for name in told {
        let series = format!(r#"operations_total{{instance="default",kind="query",operation="{name}"}}"#);
        scrape.assert(&series, 1);
    }
    assert_eq!(scrape.count("operations_total"), told.len());
}

#[tokio::test]
async fn the_metrics_tell_what_was_asked_for_and_no_caller_makes_them_grow() {
    let (_sandbox, proxy) = start("graphql.inspect = true").await;
    let series = |operation: &str| {
        format!(r#"operations_total{{instance="default",kind="query",operation="{operation}"}}"#)
    };
    assert_eq!(settled(&proxy).await.count("operations_total"), 0);
    for number in 0..210 {
        proxy
            .client()
            .graphql(&format!("query Name{number} {ME}"))
            .await
            .assert_good();
    }
    proxy.client().graphql(ME).await.assert_good();
    let scrape = settled(&proxy).await;
    scrape.assert(&series("Name0"), 1);
    scrape.assert(&series("other"), 10);
    scrape.assert(&series(""), 1);
    assert_eq!(scrape.count("operations_total"), 202);
    let (_sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(
        settled(&proxy).await.count("operations_total"),
        0,
        "nothing is read"
    );
}

#[tokio::test]
async fn the_log_tells_what_was_asked_for_where_it_is_read() {
    let (_sandbox, proxy) = start("graphql.inspect = true\nlog.access = 'all'").await;
    let both = "query TheLogTellsOfMe { me { id } } mutation AndNotOfMe { a }";
    let body = json!({ "query": both, "operationName": "TheLogTellsOfMe" }).to_string();
    let answer = proxy.client().post("/graphql", body).await;
    let id = answer.headers["x-request-id"].to_str().unwrap();
    proxy.stop().await;
    let log = logged();
    let line = log
        .lines()
        .find(|line| line.contains(id) && line.contains("\"status\""))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["operation"], "TheLogTellsOfMe");
    assert_eq!(line["operation_kind"], "query");
}
