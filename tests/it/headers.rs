//! Which headers pass, both ways.

use fluent_sandbox::{ApiRequest, Sandbox};
use http::HeaderMap;

use super::support::{Answer, Proxy, Raw, full, start, start_raw};

const ECHO: &str = "[listen]\npaths = [\"/graphql\", \"/api/v4.1/*\"]\n";

/// Sends these headers to the echo, and gives what upstream saw.
async fn sent(sandbox: &Sandbox, proxy: &Proxy, headers: &[(&str, &str)]) -> (ApiRequest, Answer) {
    let mut request = http::Request::post("/api/v4.1/echo").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = proxy.client().send(request.body(full("{}")).unwrap()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    (sandbox.seen().api_requests().pop().unwrap(), answer)
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn upstream_gets_what_is_meant_for_it_and_nothing_else() {
    let (sandbox, proxy) = start(&format!("{ECHO}[fluent]\naccount = \"ACME\"")).await;
    let own = format!("http://localhost:{}", proxy.address().port());
    let removed = [
        ("connection", "keep-alive, X-Hop, te"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("te", "deflate;q=0.5"),
        ("proxy-authorization", "Basic eDp5"),
        ("cookie", "session=1"),
        ("cookie", "other=2"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-anything", "1"),
        ("x-real-ip", "192.0.2.1"),
        ("origin", own.as_str()),
        ("referer", "http://localhost/page?secret=1"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-dest", "empty"),
        ("x-fluent-user", "default"),
    ];
    let replaced = [
        ("authorization", "Bearer of-the-caller"),
        ("fluent.account", "EVIL"),
    ];
    let kept = [
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("user-agent", "test/1"),
        ("x-custom", "first"),
        ("x-custom", "second"),
        ("cache-control", "no-cache"),
        ("if-none-match", "\"a\""),
        ("x-forward", "stays"),
        ("sec-ch-ua", "stays"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    let headers = [&removed[..], &replaced[..], &kept[..]].concat();
    let (seen, _) = sent(&sandbox, &proxy, &headers).await;
    for (name, _) in kept {
        let wanted: Vec<_> = kept.iter().filter(|(other, _)| *other == name).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|(_, value)| *value).collect();
        assert_eq!(all(&seen.headers, name), wanted, "{name}");
    }
    let mut expected: Vec<_> = kept.iter().map(|(name, _)| *name).collect();
    expected.extend([
        "authorization",
        "content-length",
        "content-type",
        "fluent.account",
    ]);
    expected.extend(["host", "via", "x-request-id"]);
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(names(&seen.headers), expected);
    assert_eq!(all(&seen.headers, "fluent.account"), ["ACME"]);
    assert_eq!(all(&seen.headers, "host"), [sandbox.address().to_string()]);
    assert_eq!(all(&seen.headers, "authorization").len(), 1);
    assert_ne!(seen.bearer(), Some("of-the-caller"));
    assert_eq!(seen.headers.keys().last().unwrap(), "authorization");
}

#[tokio::test]
async fn connection_cannot_name_our_headers_away() {
    let (sandbox, proxy) = start(&format!("{ECHO}[fluent]\naccount = \"ACME\"")).await;
    let named = "authorization, host, content-type, content-length, fluent.account, via, x-request-id";
    let (seen, _) = sent(&sandbox, &proxy, &[("connection", named), ("via", "1.0 fred")]).await;
    let expected = [
        "authorization",
        "content-length",
        "content-type",
        "fluent.account",
        "host",
        "via",
        "x-request-id",
    ];
    assert_eq!(names(&seen.headers), expected);
    assert!(seen.bearer().is_some());
    // What the caller named was for this connection; our own entry stays.
    assert_eq!(all(&seen.headers, "via").len(), 1);
    assert_ne!(all(&seen.headers, "via"), ["1.0 fred"]);
}

#[tokio::test]
async fn a_good_request_id_stays_and_any_other_is_replaced() {
    let (sandbox, proxy) = start(ECHO).await;
    let long = "x".repeat(128);
    for good in ["a", "A-b_c.9", long.as_str()] {
        let (seen, answer) = sent(&sandbox, &proxy, &[("x-request-id", good)]).await;
        assert_eq!(all(&seen.headers, "x-request-id"), [good]);
        assert_eq!(all(&answer.headers, "x-request-id"), [good]);
    }
    let longer = "x".repeat(129);
    let mut ids = Vec::new();
    for bad in [
        &[][..],
        &[""],
        &["a b"],
        &["a/b"],
        &["<x>"],
        &[longer.as_str()],
        &["one", "two"],
    ] {
        let headers: Vec<_> = bad.iter().map(|id| ("x-request-id", *id)).collect();
        let (seen, answer) = sent(&sandbox, &proxy, &headers).await;
        let id = all(&seen.headers, "x-request-id");
        assert_eq!(id.len(), 1);
        assert_eq!(id, all(&answer.headers, "x-request-id"));
        assert!(!bad.contains(&id[0]) && !id[0].is_empty());
        ids.push(id[0].to_owned());
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "each request has an id of its own");
}

#[tokio::test]
async fn a_refusal_carries_the_request_id_of_its_request() {
    let (_sandbox, proxy) = start("").await;
    let request = http::Request::post("/nowhere").header("x-request-id", "mine-1");
    let request = request.header("content-type", "application/json");
    let answer = proxy.client().send(request.body(full("{}")).unwrap()).await;
    answer.assert_refused(404, "PATH_NOT_FOUND");
    assert_eq!(answer.headers["x-request-id"], "mine-1");
}

#[tokio::test]
async fn via_grows_both_ways_and_can_be_off() {
    let (sandbox, proxy) = start(ECHO).await;
    let (seen, answer) = sent(&sandbox, &proxy, &[("via", "1.0 fred")]).await;
    let there = all(&seen.headers, "via");
    assert_eq!(there.len(), 2);
    assert_eq!(there[0], "1.0 fred");
    assert!(there[1].starts_with("1.1 "), "{there:?}");
    assert_eq!(all(&answer.headers, "via"), [there[1]]);

    let (sandbox, proxy) = start(&format!("{ECHO}[upstream]\nvia = false")).await;
    let (seen, answer) = sent(&sandbox, &proxy, &[]).await;
    assert!(!seen.headers.contains_key("via") && !answer.headers.contains_key("via"));
}

#[tokio::test]
async fn te_says_trailers_where_the_caller_did() {
    let (sandbox, proxy) = start(ECHO).await;
    for (te, wanted) in [
        ("trailers", &["trailers"][..]),
        ("gzip;q=0.5, Trailers", &["trailers"]),
        ("gzip", &[]),
    ] {
        let headers = [("te", te), ("connection", "te")];
        let (seen, _) = sent(&sandbox, &proxy, &headers).await;
        assert_eq!(all(&seen.headers, "te"), wanted);
    }
}

#[tokio::test]
async fn the_caller_gets_what_is_meant_for_it_and_nothing_else() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    let mut caller = Raw::connect(proxy.address()).await;
    caller
        .send("GET /graphql?query=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let mut there = upstream.accept().await;
    there.head().await;
    let removed = "Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\n\
        Set-Cookie: session=1\r\nSet-Cookie: other=2\r\nProxy-Status: evil; error=dns_error\r\n\
        Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
        Access-Control-Expose-Headers: x\r\nTE: x\r\nUpgrade: h2c\r\n";
    let kept = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: fluent\r\nContent-Type: text/odd\r\n\
        Content-Encoding: odd\r\nETag: \"a\"\r\nX-Custom: first\r\nX-Custom: second\r\n\
        Cache-Control: private\r\nVia: 1.1 theirs\r\nX-Request-Id: of upstream\r\nRetry-After: 7\r\n\
        WWW-Authenticate: Bearer\r\n";
    there
        .send(format!(
            "HTTP/1.1 418 Odd Reason\r\n{removed}{kept}Content-Length: 4\r\n\r\nodd!"
        ))
        .await;
    let answer = caller.answer().await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (418, &b"odd!"[..]));
    let mut expected = vec!["content-length"];
    for line in kept.split_terminator("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        let name = name.to_ascii_lowercase();
        assert!(all(&answer.headers, &name).contains(&value), "{line}");
        expected.push(Box::leak(name.into_boxed_str()));
    }
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(names(&answer.headers), expected);
    assert_eq!(all(&answer.headers, "x-custom"), ["first", "second"]);
    assert_eq!(all(&answer.headers, "via")[0], "1.1 theirs");
    assert_eq!(all(&answer.headers, "via").len(), 2);
    assert_eq!(all(&answer.headers, "x-request-id"), ["of upstream"]);
}
