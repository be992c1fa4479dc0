use std::net::Ipv4Addr;

use http::header;

use super::*;

const LOCAL: Connection = Connection::Tcp(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4280));

fn rules() -> Rules {
    Rules {
        allowed_hosts: Vec::new(),
        allowed_origins: vec!["https://app.example".to_owned()],
        required_header: None,
        paths: vec![PathRule::Exact("/graphql".to_owned())],
    }
}

fn gated() -> Rules {
    Rules {
        required_header: Some(RequiredHeader {
            name: HeaderName::from_static("x-gate"),
            value: Secret::new("open sesame".to_owned()),
        }),
        ..rules()
    }
}

/// A request line, headers, and whether a body follows.
fn ask(
    rules: Rules,
    connection: Connection,
    line: &str,
    headers: &[(&str, &str)],
) -> Result<Option<String>, Rejection> {
    let (method, target) = line.split_once(' ').unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = name.parse::<HeaderName>().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let payload = if method == "POST" {
        Payload::Present
    } else {
        Payload::Empty
    };
    let uri = target.parse().unwrap();
    let method = method.parse().unwrap();
    Guard::new(rules, ViaId::new(1), &["/", "/graphiql"])
        .admit(&method, &uri, &map, connection, payload)
        .map(|admitted| match admitted.target {
            Target::Page(page) => Some(page.to_owned()),
            Target::Upstream(_) => None,
        })
}

fn post(headers: &[(&str, &str)]) -> Result<Option<String>, Rejection> {
    ask(rules(), LOCAL, "POST /graphql", headers)
}

const JSON: (&str, &str) = ("content-type", "application/json");
const HOST: (&str, &str) = ("host", "localhost:4280");
const LOOP: (&str, &str) = ("via", "1.1 fluent-auth-proxy-0000000000000001");

#[test]
fn an_honest_request_passes() {
    assert_eq!(post(&[HOST, JSON]), Ok(None));
    assert_eq!(
        ask(rules(), LOCAL, "GET /graphql?query=%7Bme%7D", &[HOST]),
        Ok(None)
    );
}

#[test]
fn each_rule_is_asked_before_the_next() {
    let bad_host = ("host", "evil.example");
    let foreign = ("origin", "http://evil.example");
    let form = ("content-type", "text/plain");
    let plain = |line, headers: &[_]| ask(rules(), LOCAL, line, headers);
    let line = "PUT /nowhere";
    assert_eq!(
        plain(line, &[LOOP, bad_host, foreign]),
        Err(Rejection::LoopDetected)
    );
    assert_eq!(plain(line, &[bad_host, foreign]), Err(Rejection::HostNotAllowed));
    assert_eq!(
        plain("POST /nowhere", &[HOST, foreign, form]),
        Err(Rejection::CrossOrigin)
    );
    assert_eq!(
        plain("POST /nowhere", &[HOST, form]),
        Err(Rejection::ContentTypeNotAllowed)
    );
    assert_eq!(plain(line, &[HOST]), Err(Rejection::PathNotFound));
    let allow = "GET, POST";
    assert_eq!(
        plain("PUT /graphql", &[HOST]),
        Err(Rejection::MethodNotAllowed { allow })
    );
    let gate = ask(gated(), LOCAL, "POST /nowhere", &[HOST, form]);
    assert_eq!(gate, Err(Rejection::HeaderRequired));
    let gate = ask(gated(), LOCAL, "POST /nowhere", &[HOST, foreign]);
    assert_eq!(gate, Err(Rejection::CrossOrigin));
}

#[test]
fn rule_4_the_required_header_stands_there_once_and_whole() {
    let gate = |values: &[&str]| {
        let mut headers = vec![HOST, ("content-type", "text/plain")];
        headers.extend(values.iter().map(|value| ("x-gate", *value)));
        ask(gated(), LOCAL, "POST /graphql", &headers)
    };
    assert_eq!(gate(&["open sesame"]), Ok(None));
    for bad in [
        &[][..],
        &[""],
        &["open"],
        &["Open sesame"],
        &["open sesame "],
        &["open sesamf"],
        &["open sesame", "open sesame"],
        &["open sesame", "x"],
        &["open sesame, open sesame"],
    ] {
        assert_eq!(gate(bad), Err(Rejection::HeaderRequired), "{bad:?}");
    }
    let page = ask(gated(), LOCAL, "GET /", &[HOST]);
    assert_eq!(page, Err(Rejection::HeaderRequired));
    let socket = ask(gated(), Connection::Unix, "POST /graphql", &[HOST]);
    assert_eq!(socket, Err(Rejection::HeaderRequired));
}

#[test]
fn a_unix_socket_is_not_asked_for_host_and_content_type() {
    let ask = |headers: &[_]| ask(rules(), Connection::Unix, "POST /graphql", headers);
    for headers in [
        &[][..],
        &[("host", "whatever")],
        &[("content-type", "text/plain")],
    ] {
        assert_eq!(ask(headers), Ok(None));
    }
    assert_eq!(
        ask(&[("origin", "http://evil.example")]),
        Err(Rejection::CrossOrigin)
    );
    assert_eq!(
        ask(&[HOST, ("sec-fetch-site", "cross-site")]),
        Err(Rejection::CrossOrigin)
    );
    assert_eq!(ask(&[LOOP]), Err(Rejection::LoopDetected));
}

#[test]
fn a_listed_origin_is_told() {
    let guard = Guard::new(rules(), ViaId::new(1), &[]);
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("localhost:4280"));
    headers.insert(header::ORIGIN, HeaderValue::from_static("https://app.example"));
    headers.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
    let uri = "/graphql".parse().unwrap();
    let admitted = guard.admit(&Method::GET, &uri, &headers, LOCAL, Payload::Empty);
    assert_eq!(admitted.unwrap().origin.unwrap(), "https://app.example");
    headers.remove("sec-fetch-site");
    headers.insert(header::ORIGIN, HeaderValue::from_static("http://localhost:4280"));
    let admitted = guard.admit(&Method::GET, &uri, &headers, LOCAL, Payload::Empty);
    assert_eq!(admitted.unwrap().origin, None);
}

#[test]
fn pages_are_read_and_links_lead_there() {
    let page = |line, headers: &[_]| ask(rules(), LOCAL, line, &[&[HOST], headers].concat());
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(page("GET /", &[]), Ok(Some("/".to_owned())));
    assert_eq!(
        page("HEAD /graphiql?query=x", &link),
        Ok(Some("/graphiql".to_owned()))
    );
    assert_eq!(page("GET /graphql", &link), Err(Rejection::CrossOrigin));
    assert_eq!(
        page("POST /", &[JSON]),
        Err(Rejection::MethodNotAllowed { allow: "GET, HEAD" })
    );
    assert_eq!(page("GET /graphiql/", &[]), Err(Rejection::PathNotFound));
    let none = Guard::new(rules(), ViaId::new(1), &[]);
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    let root = Uri::from_static("/");
    let judged = none.admit(&Method::GET, &root, &headers, LOCAL, Payload::Empty);
    assert_eq!(judged.unwrap_err(), Rejection::PathNotFound);
}

#[test]
fn a_payload_is_told_by_the_body() {
    use http_body_util::{Empty, Full};
    assert_eq!(Payload::of(&Empty::<bytes::Bytes>::new()), Payload::Empty);
    assert_eq!(Payload::of(&Full::new(bytes::Bytes::new())), Payload::Empty);
    assert_eq!(
        Payload::of(&Full::new(bytes::Bytes::from_static(b"x"))),
        Payload::Present
    );
}

#[test]
fn the_comparison_looks_at_every_byte() {
    assert!(same(b"", b"") && same(b"abc", b"abc"));
    assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"ab", b"abc") && !same(b"", b"a"));
}
