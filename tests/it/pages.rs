//! The pages, as browsers ask for them; what they do there is tried in `tests/browser`.

use fluent_sandbox::{Fault, Place, Times};
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::support::{Answer, Proxy, assert_clean, full, soon, start};

/// What a browser sends of itself when a page of another site makes it ask.
async fn foreign(proxy: &Proxy, path: &str, mode: &str, dest: &str) -> Answer {
    let request = Request::get(path)
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", mode)
        .header("sec-fetch-dest", dest);
    proxy.client().send(request.body(full("")).unwrap()).await
}

#[tokio::test]
async fn a_link_leads_to_graphiql_but_no_other_page_frames_or_reads_it() {
    let (_sandbox, proxy) = start("").await;
    for path in ["/", "/graphiql", "/graphiql/config.json", "/graphiql/page.js"] {
        assert_eq!(foreign(&proxy, path, "navigate", "document").await.status, 200);
        for (mode, dest) in [("navigate", "iframe"), ("no-cors", "script"), ("cors", "empty")] {
            foreign(&proxy, path, mode, dest)
                .await
                .assert_refused(403, "CROSS_ORIGIN");
        }
        let request = Request::get(path).header("host", "rebound.example");
        let rebound = proxy.client().send(request.body(full("")).unwrap()).await;
        rebound.assert_refused(421, "HOST_NOT_ALLOWED");
    }
    // A navigation to what is no page is refused as it was.
    foreign(&proxy, "/graphql?query=%7Bme%7Bid%7D%7D", "navigate", "document")
        .await
        .assert_refused(403, "CROSS_ORIGIN");
}

#[tokio::test]
async fn a_page_takes_get_and_head_and_never_reaches_fluent() {
    let (sandbox, proxy) = start("").await;
    sandbox.seen().wait_for(|counts| counts.token_answers == 1).await;
    let page = proxy.client().get("/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let head = Request::builder().method(Method::HEAD).uri("/");
    let head = proxy.client().send(head.body(full("")).unwrap()).await;
    assert_eq!(head.headers["content-length"], page.body.len().to_string());
    assert!(head.body.is_empty());
    let posted = proxy.client().post("/", "{}").await;
    posted.assert_refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(posted.headers["allow"], "GET, HEAD");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    let metrics = proxy.admin().get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(
        text.contains(r#"requests_total{instance="",status="200",code=""} 2"#),
        "{text}"
    );
}

/// The first event of the stream, and the stream.
async fn look(proxy: &Proxy) -> (Value, Incoming) {
    let request = Request::get("/events").body(full("")).unwrap();
    let response = proxy.admin().head(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut stream = response.into_body();
    let first = event(&mut stream, "start").await;
    (first, stream)
}

/// The data of the next event, which bears this name.
async fn event(stream: &mut Incoming, name: &str) -> Value {
    let frame = soon(stream.frame()).await.expect("the stream ended").unwrap();
    let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
    assert_clean(text.as_bytes(), "an event");
    let data = text.strip_prefix(&format!("event: {name}\ndata: ")).unwrap();
    serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap()
}

#[tokio::test]
async fn the_stream_tells_how_things_stand_and_then_what_is_new() {
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql("{ me { id } }").await.assert_good();
    // A query is sent once more where its connection died.
    sandbox.faults().inject(Place::Api, Times::Count(2), Fault::Close);
    let failed = proxy.client().graphql("{ me { id } }").await;
    failed.assert_refused(502, "UPSTREAM_INTERRUPTED");
    proxy.client().get("/nowhere?a=query").await;
    let (first, mut stream) = look(&proxy).await;
    // The status is that of `/status`.
    assert_eq!(
        first["status"]["instances"]["default"]["users"]["default"]["state"],
        "fresh"
    );
    let told: Vec<_> = first["failed"].as_array().unwrap().iter().collect();
    let facts = |failed: &Value| {
        let fact = |name: &str| failed[name].clone();
        ["path", "status", "code", "fault", "instance"].map(fact)
    };
    assert_eq!(
        facts(told[0]),
        [
            json!("/nowhere"),
            json!(404),
            json!("PATH_NOT_FOUND"),
            json!("client"),
            json!(null)
        ]
    );
    let wanted = [
        json!("/graphql"),
        json!(502),
        json!("UPSTREAM_INTERRUPTED"),
        json!("upstream"),
        json!("default"),
    ];
    assert_eq!(facts(told[1]), wanted);
    assert_eq!(
        told[1]["request_id"],
        failed.headers["x-request-id"].to_str().unwrap()
    );
    proxy.client().graphql("{ me { id } }").await.assert_good();
    let mut seen = 0;
    while seen == 0 {
        let news = event(&mut stream, "tick").await;
        seen += news["samples"][0]["requests"].as_u64().unwrap();
    }
    // Who comes later is told of it too.
    let (later, _) = look(&proxy).await;
    let samples = later["samples"].as_array().unwrap();
    assert!(
        samples
            .iter()
            .any(|sample| sample["requests"] == 1 && sample["own_ms"]["p99"].is_number())
    );
}

#[tokio::test]
async fn who_looks_does_not_hold_up_the_end() {
    let (_sandbox, proxy) = start("").await;
    let (_, mut stream) = look(&proxy).await;
    soon(proxy.stop()).await;
    while let Some(Ok(_)) = soon(stream.frame()).await {}
}

#[tokio::test]
async fn the_dashboard_is_for_this_machine_and_its_own_origin() {
    let (_sandbox, proxy) = start("").await;
    for path in ["/", "/events", "/dashboard/settings.json"] {
        let request = Request::get(path).header("origin", "https://evil.example");
        let refused = proxy.admin().send(request.body(full("")).unwrap()).await;
        refused.assert_refused(403, "CROSS_ORIGIN");
        let request = Request::get(path).header("host", "rebound.example");
        let refused = proxy.admin().send(request.body(full("")).unwrap()).await;
        refused.assert_refused(421, "HOST_NOT_ALLOWED");
    }
    let page = proxy.admin().get("/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(proxy.admin().get("/dashboard/settings.json").await.status, 200);
}
