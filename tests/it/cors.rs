//! Pages of listed origins, as browsers ask for them: what they are told on the wire.

use fluent_sandbox::Sandbox;
use http::{Method, Request};

use super::support::{Answer, Client, Proxy, full, start};

const ORIGIN: &str = "https://app.example";
const LISTED: &str = "[listen]\nallowed_origins = [\"https://app.example\", \"http://localhost:3000\"]\n";

/// A proxy with listed origins, and a sandbox whose one login is over.
async fn listed(more: &str) -> (Sandbox, Proxy) {
    let (sandbox, proxy) = start(&format!("{LISTED}{more}")).await;
    sandbox.seen().wait_for(|counts| counts.token_answers == 1).await;
    (sandbox, proxy)
}

async fn ask(client: Client, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let body = if method == Method::POST {
        r#"{"query":"{ me { id } }"}"#
    } else {
        ""
    };
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(full(body)).unwrap()).await
}

fn values(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// Fails unless a page of [`ORIGIN`] may read this answer.
#[track_caller]
fn assert_readable(answer: &Answer) {
    assert_eq!(values(answer, "access-control-allow-origin"), [ORIGIN]);
    assert_eq!(values(answer, "access-control-allow-credentials"), ["true"]);
    assert!(values(answer, "vary").contains(&"origin".to_owned()));
    let shown = values(answer, "access-control-expose-headers").join(", ");
    // Every page may read `Content-Length`; `Date` is the server's last word.
    for name in answer.headers.keys() {
        let told = name.as_str().starts_with("access-control-") || name == "date" || name == "content-length";
        assert!(told || shown.split(", ").any(|shown| shown == name), "{name}");
    }
}

/// Fails unless this answer tells browsers nothing.
#[track_caller]
fn assert_unreadable(answer: &Answer) {
    let told = |name: &http::HeaderName| name.as_str().starts_with("access-control-");
    assert!(!answer.headers.keys().any(told), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_preflight_of_a_listed_origin_is_answered_here() {
    for more in ["", "required_header = 'x-proxy-key: open sesame'"] {
        let (sandbox, proxy) = listed(more).await;
        let mut headers = vec![
            ("origin", ORIGIN),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-fluent-user"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "cors"),
        ];
        let answer = ask(proxy.client(), Method::OPTIONS, "/graphql", &headers).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
        assert_readable(&answer);
        assert_eq!(values(&answer, "access-control-allow-methods"), ["POST"]);
        assert_eq!(
            values(&answer, "access-control-allow-headers"),
            ["content-type,x-fluent-user"]
        );
        assert_eq!(values(&answer, "access-control-max-age"), ["600"]);
        assert!(values(&answer, "access-control-allow-private-network").is_empty());
        assert!(values(&answer, "vary").contains(&"access-control-request-headers".to_owned()));
        headers.push(("access-control-request-private-network", "true"));
        let answer = ask(proxy.client(), Method::OPTIONS, "/graphql", &headers).await;
        assert_eq!(values(&answer, "access-control-allow-private-network"), ["true"]);
        assert_eq!(sandbox.seen().counts().api_requests, 0);
    }
}

#[tokio::test]
async fn a_preflight_that_may_not_pass_is_refused_as_what_it_asks_about() {
    let (sandbox, proxy) = listed("").await;
    let post = ("access-control-request-method", "POST");
    let options = async |path, headers: &[_]| ask(proxy.client(), Method::OPTIONS, path, headers).await;
    let lost = options("/nowhere", &[("origin", ORIGIN), post]).await;
    lost.assert_refused(404, "PATH_NOT_FOUND");
    assert_readable(&lost);
    let put = ("access-control-request-method", "PUT");
    let put = options("/graphql", &[("origin", ORIGIN), put]).await;
    put.assert_refused(405, "METHOD_NOT_ALLOWED");
    let foreign = options("/graphql", &[("origin", "https://evil.example"), post]).await;
    foreign.assert_refused(403, "CROSS_ORIGIN");
    assert_unreadable(&foreign);
    let rebound = [("origin", ORIGIN), post, ("host", "evil.example")];
    options("/graphql", &rebound)
        .await
        .assert_refused(421, "HOST_NOT_ALLOWED");
    let no_preflight = options("/graphql", &[("origin", ORIGIN)]).await;
    no_preflight.assert_refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(sandbox.seen().counts().api_requests, 0);
}

#[tokio::test]
async fn a_listed_origin_may_read_what_fluent_says_and_what_the_proxy_says() {
    let (_sandbox, proxy) = listed("").await;
    let json = ("content-type", "application/json");
    let from = ("origin", ORIGIN);
    let post = async |path, headers: &[_]| ask(proxy.client(), Method::POST, path, headers).await;
    let good = post("/graphql", &[json, from]).await;
    good.assert_good();
    assert_readable(&good);
    for (path, headers, status) in [
        ("/nowhere", &[json, from][..], 404),
        ("/graphql", &[from], 415),
        ("/graphql", &[json, from, ("x-fluent-user", "nobody")], 400),
        ("/instances/nobody/graphql", &[json, from], 404),
    ] {
        let own = post(path, headers).await;
        assert_eq!(own.status.as_u16(), status);
        assert!(own.code().is_some());
        assert_readable(&own);
    }
    let other = ("origin", "http://localhost:3000");
    let other = post("/graphql", &[json, other]).await;
    assert_eq!(
        values(&other, "access-control-allow-origin"),
        ["http://localhost:3000"]
    );
}

#[tokio::test]
async fn nobody_else_is_told_anything_but_that_answers_vary() {
    let (_sandbox, proxy) = listed("").await;
    let json = ("content-type", "application/json");
    let own = format!("http://localhost:{}", proxy.address().port());
    for origin in [
        None,
        Some(own.as_str()),
        Some("https://evil.example"),
        Some("null"),
    ] {
        let mut headers = vec![json];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = ask(proxy.client(), Method::POST, "/graphql", &headers).await;
        assert_unreadable(&answer);
        assert!(values(&answer, "vary").contains(&"origin".to_owned()));
    }
    let (_sandbox, proxy) = start("").await;
    let answer = ask(proxy.client(), Method::POST, "/graphql", &[json]).await;
    assert_unreadable(&answer);
    assert!(!values(&answer, "vary").contains(&"origin".to_owned()));
}
