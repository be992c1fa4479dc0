//! The pages, as browsers ask for them; what they do there is tried in `tests/browser`.

use http::{Method, Request};

use super::support::{Answer, Proxy, full, start};

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
