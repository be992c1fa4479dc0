use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderValue, header};

use super::*;

const LOCAL: Connection = Connection::Tcp(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4280));

fn rules() -> Rules {
    Rules {
        allowed_hosts: Vec::new(),
        allowed_origins: vec!["https://app.example".to_owned()],
        allowed_uids: Vec::new(),
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
        .map(|target| match target {
            Target::Page(page) => Some(page.to_owned()),
            Target::Preflight => Some("preflight".to_owned()),
            Target::Upstream(_) => None,
        })
}

fn post(headers: &[(&str, &str)]) -> Result<Option<String>, Rejection> {
    ask(rules(), LOCAL, "POST /graphql", headers)
}

const UNIX: Connection = Connection::Unix { uid: 1000 };
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
        &["nepo sesame"],
        &["open sesame", "open sesame"],
        &["open sesame", "x"],
        &["open sesame, open sesame"],
    ] {
        assert_eq!(gate(bad), Err(Rejection::HeaderRequired), "{bad:?}");
    }
    let page = ask(gated(), LOCAL, "GET /", &[HOST]);
    assert_eq!(page, Err(Rejection::HeaderRequired));
    let socket = ask(gated(), UNIX, "POST /graphql", &[HOST]);
    assert_eq!(socket, Err(Rejection::HeaderRequired));
}

#[test]
fn a_unix_socket_is_not_asked_for_host_and_content_type() {
    let ask = |headers: &[_]| ask(rules(), UNIX, "POST /graphql", headers);
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

const LISTED: (&str, &str) = ("origin", "https://app.example");
const ASKS: (&str, &str) = ("access-control-request-method", "POST");

#[test]
fn a_preflight_of_a_listed_origin_is_judged_as_what_it_asks_about() {
    let options = |path, headers: &[_]| {
        let line = format!("OPTIONS {path}");
        ask(gated(), LOCAL, &line, &[&[HOST], headers].concat())
    };
    assert_eq!(
        options("/graphql", &[LISTED, ASKS]),
        Ok(Some("preflight".to_owned()))
    );
    assert_eq!(options("/nowhere", &[LISTED, ASKS]), Err(Rejection::PathNotFound));
    let put = ("access-control-request-method", "PUT");
    let allow = "GET, POST";
    assert_eq!(
        options("/graphql", &[LISTED, put]),
        Err(Rejection::MethodNotAllowed { allow })
    );
    for none in [
        &[LISTED][..],
        &[LISTED, ASKS, ASKS],
        &[LISTED, ("access-control-request-method", "P OST")],
        &[("origin", "http://localhost:4280"), ASKS],
        &[ASKS],
    ] {
        assert_eq!(
            options("/graphql", none),
            Err(Rejection::HeaderRequired),
            "{none:?}"
        );
    }
    let foreign = [("origin", "https://evil.example"), ASKS];
    assert_eq!(options("/graphql", &foreign), Err(Rejection::CrossOrigin));
    assert_eq!(
        options("/graphql", &[LISTED, LISTED, ASKS]),
        Err(Rejection::CrossOrigin)
    );
    assert_eq!(
        options("/graphql", &[LISTED, ASKS, LOOP]),
        Err(Rejection::LoopDetected)
    );
    let evil = [("host", "evil.example"), LISTED, ASKS];
    let rebound = ask(gated(), LOCAL, "OPTIONS /graphql", &evil);
    assert_eq!(rebound, Err(Rejection::HostNotAllowed));
    assert_eq!(post(&[HOST, LISTED, ASKS]), Err(Rejection::ContentTypeNotAllowed));
}

/// The headers of an answer to a request with these headers.
fn told(rules: Rules, headers: &[(&'static str, &str)], answer: &[(&'static str, &str)]) -> HeaderMap {
    let map = |headers: &[(&'static str, &str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    };
    let mut answer = map(answer);
    Guard::new(rules, ViaId::new(1), &[])
        .sharing(&map(headers))
        .tell(&mut answer);
    answer
}

#[test]
fn without_listed_origins_nothing_is_told() {
    let unlisted = Rules {
        allowed_origins: Vec::new(),
        ..rules()
    };
    for headers in [&[][..], &[LISTED], &[("origin", "http://localhost:4280")]] {
        assert_eq!(told(unlisted.clone(), headers, &[]), HeaderMap::new());
    }
}

#[test]
fn with_listed_origins_every_answer_varies_and_only_they_may_read_it() {
    for headers in [
        &[][..],
        &[("origin", "https://evil.example")],
        &[LISTED, LISTED],
        &[("origin", "null")],
    ] {
        let told = told(rules(), headers, &[("vary", "accept")]);
        let vary: Vec<_> = told.get_all("vary").iter().collect();
        assert_eq!(
            (vary.as_slice(), told.len()),
            (
                &["accept", "origin"].map(HeaderValue::from_static).each_ref()[..],
                2
            )
        );
    }
    let told = told(
        rules(),
        &[LISTED],
        &[("x-request-id", "id"), ("content-length", "2")],
    );
    assert_eq!(told["access-control-allow-origin"], "https://app.example");
    assert_eq!(told["access-control-allow-credentials"], "true");
    assert_eq!(
        told["access-control-expose-headers"],
        "x-request-id, content-length, vary"
    );
    assert_eq!(told["vary"], "origin");
}

#[test]
fn a_preflight_is_told_what_it_asked_and_no_more() {
    let mut asked = HeaderMap::new();
    asked.insert("access-control-request-method", HeaderValue::from_static("POST"));
    let told = preflight_answer(&asked);
    assert_eq!(told["access-control-allow-methods"], "POST");
    assert_eq!(told["access-control-max-age"], "600");
    assert_eq!(told.get_all("vary").iter().count(), 3);
    assert!(!told.contains_key("access-control-allow-headers"));
    assert!(!told.contains_key("access-control-allow-private-network"));
    let names = HeaderValue::from_static("content-type, x-fluent-user");
    asked.insert("access-control-request-headers", names.clone());
    asked.insert(
        "access-control-request-private-network",
        HeaderValue::from_static("true"),
    );
    let told = preflight_answer(&asked);
    assert_eq!(told["access-control-allow-headers"], names);
    assert_eq!(told["access-control-allow-private-network"], "true");
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
fn only_listed_users_call_by_a_unix_socket_where_some_are_listed() {
    let ask = |uids: &[u32], connection, headers: &[_]| {
        let rules = Rules {
            allowed_uids: uids.to_vec(),
            ..rules()
        };
        ask(rules, connection, "POST /graphql", headers)
    };
    assert_eq!(ask(&[], UNIX, &[]), Ok(None));
    assert_eq!(ask(&[0, 1000], UNIX, &[]), Ok(None));
    assert_eq!(ask(&[0, 1001], UNIX, &[]), Err(Rejection::PeerNotAllowed));
    assert_eq!(ask(&[0], UNIX, &[LOOP]), Err(Rejection::LoopDetected));
    assert_eq!(ask(&[0], LOCAL, &[HOST, JSON]), Ok(None));
}

#[test]
fn a_payload_is_told_by_the_body() {
    use http_body_util::{Empty, Full};
    assert_eq!(Payload::of(&Empty::<bytes::Bytes>::new()), Payload::Empty);
    assert_eq!(Payload::of(&Full::new(bytes::Bytes::new())), Payload::Empty);
    // Either is enough: the head that ended the stream, or the length of nothing.
    for (ended, length, payload) in [
        (true, None, Payload::Empty),
        (false, Some(0), Payload::Empty),
        (false, None, Payload::Present),
        (false, Some(1), Payload::Present),
    ] {
        assert_eq!(
            Payload::of(&Says { ended, length }),
            payload,
            "{ended} {length:?}"
        );
    }
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

/// A body that says this of itself.
struct Says {
    ended: bool,
    length: Option<u64>,
}

impl Body for Says {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        panic!("nobody reads it")
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length
            .map_or_else(http_body::SizeHint::new, http_body::SizeHint::with_exact)
    }
}
