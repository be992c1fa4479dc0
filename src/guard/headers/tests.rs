use http::HeaderValue;
use proptest::prelude::*;

use super::super::{PathRule, RequiredHeader, Rules, ViaId};
use super::*;
use crate::secret::Secret;

fn guard() -> Guard {
    let rules = Rules {
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
        allowed_uids: Vec::new(),
        required_header: Some(RequiredHeader {
            name: HeaderName::from_static("x-gate"),
            value: Secret::new("open".to_owned()),
        }),
        paths: vec![PathRule::Exact("/graphql".to_owned())],
    };
    Guard::new(rules, ViaId::new(1), &[])
}

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = name.parse::<HeaderName>().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn request(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = map(headers);
    guard().scrub_request(&mut map);
    map
}

fn response(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = map(headers);
    scrub_response(&mut map);
    map
}

const OF_CONNECTION: [&str; 8] = [
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Proxy-Connection",
    "TE",
    "Transfer-Encoding",
    "Upgrade",
];

const OF_REQUESTS: [&str; 20] = [
    "Authorization",
    "Proxy-Authorization",
    "Cookie",
    "Expect",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Anything",
    "X-Real-IP",
    "Origin",
    "Referer",
    "Sec-Fetch-Site",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Dest",
    "Sec-Fetch-User",
    "fluent.account",
    "x-fluent-user",
    "Trailer",
    "x-gate",
];

const OF_RESPONSES: [&str; 5] = [
    "Set-Cookie",
    "Proxy-Status",
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
];

/// Headers that pass both ways.
const OF_ALL: [&str; 12] = [
    "Accept",
    "Accept-Encoding",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Host",
    "User-Agent",
    "Via",
    "X-Forwarded",
    "x-request-id",
    "traceparent",
    "x-anything",
];

#[test]
fn rule_1_what_is_of_the_connection_stays_on_it() {
    for name in OF_CONNECTION {
        assert!(request(&[(name, "a"), (name, "b")]).is_empty(), "{name}");
        assert!(response(&[(name, "a"), (name, "b")]).is_empty(), "{name}");
    }
    let named = [
        ("connection", "close, X-One"),
        ("connection", ",x-two ,\t x-three,no name,"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "22"),
        ("x-three", "3"),
        ("x-four", "4"),
    ];
    assert_eq!(request(&named), map(&[("x-four", "4")]));
    assert_eq!(response(&named), map(&[("x-four", "4")]));
}

#[test]
fn rule_1_bytes_that_are_no_text_name_nothing_and_hide_nothing() {
    let mut headers = map(&[("x-one", "1"), ("x-two", "2")]);
    let value = HeaderValue::from_bytes(b"\xff\xfe, x-one").unwrap();
    headers.insert(header::CONNECTION, value);
    guard().scrub_request(&mut headers);
    assert_eq!(headers, map(&[("x-two", "2")]));
}

#[test]
fn rule_2_framing_cannot_be_named_away() {
    let framing = [
        ("host", "localhost"),
        ("content-length", "3"),
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let mut named = framing.to_vec();
    named.push((
        "connection",
        "Host, Content-Length, content-type, content-encoding, x-request-id",
    ));
    assert_eq!(request(&named), map(&framing));
    assert_eq!(response(&named), map(&framing));
    let trailer = [("trailer", "x-sum"), ("connection", "trailer")];
    assert_eq!(response(&trailer), map(&[("trailer", "x-sum")]));
}

#[test]
fn rule_2_what_we_set_cannot_be_named_away() {
    let mut headers = map(&[
        (
            "connection",
            "authorization, host, fluent.account, via, x-request-id, te",
        ),
        ("authorization", "Basic theirs"),
        ("fluent.account", "theirs"),
        ("x-request-id", "theirs"),
        ("via", "1.0 fred"),
    ]);
    guard().scrub_request(&mut headers);
    let account = HeaderValue::from_static("ours");
    set_request_headers(
        &mut headers,
        RequestHeaders {
            host: &HeaderValue::from_static("fluent.example"),
            account: Some(&account),
            via: Some(ViaId::new(1).entry(http::Version::HTTP_11)),
            request_id: &HeaderValue::from_static("id-1"),
        },
    );
    let ours = [
        ("host", "fluent.example"),
        ("fluent.account", "ours"),
        ("via", "1.1 fluent-auth-proxy-0000000000000001"),
        ("x-request-id", "id-1"),
    ];
    assert_eq!(headers, map(&ours));
}

#[test]
fn rule_3_a_length_beside_a_coding_is_void() {
    let both = [("content-length", "3"), ("transfer-encoding", "chunked")];
    assert!(request(&both).is_empty());
    assert!(response(&both).is_empty());
    let twice = [("content-length", "3"), ("content-length", "3")];
    assert!(request(&twice).is_empty());
    let once = [("content-length", "3")];
    assert_eq!(request(&once), map(&once));
}

#[test]
fn rule_4_requests_lose_what_is_ours_to_say() {
    for name in OF_REQUESTS {
        assert!(request(&[(name, "a"), (name, "b")]).is_empty(), "{name}");
    }
}

#[test]
fn rule_4_trailers_may_be_asked_for() {
    let kept = map(&[("te", "trailers")]);
    for te in ["trailers", "Trailers", "gzip, trailers", "trailers,deflate;q=0.5"] {
        assert_eq!(request(&[("te", te), ("connection", "te, close")]), kept, "{te}");
        assert_eq!(request(&[("te", "gzip"), ("te", te)]), kept, "{te}");
    }
    for te in ["", "gzip", "trailers;q=1", "xtrailers", "\"trailers\""] {
        assert!(request(&[("te", te)]).is_empty(), "{te}");
    }
    assert!(response(&[("te", "trailers")]).is_empty());
}

#[test]
fn rule_5_responses_lose_what_is_ours_to_say() {
    for name in OF_RESPONSES {
        assert!(response(&[(name, "a"), (name, "b")]).is_empty(), "{name}");
        assert_eq!(request(&[(name, "a")]), map(&[(name, "a")]), "{name}");
    }
    let kept = [
        ("trailer", "x-sum"),
        ("www-authenticate", "Bearer"),
        ("location", "/a"),
    ];
    assert_eq!(response(&kept), map(&kept));
}

#[test]
fn rule_6_the_rest_stays_in_its_order() {
    let kept = [
        ("via", "1.0 b"),
        ("via", "1.0 a"),
        ("x-forwarded", "1"),
        ("accept", "b"),
        ("accept", "a"),
    ];
    let mut all = kept.to_vec();
    all.insert(1, ("x-forwarded-for", "1"));
    all.insert(3, ("set-cookie", "a=b"));
    all.insert(0, ("connection", "keep-alive"));
    let mut expected = map(&kept);
    expected.append("set-cookie", HeaderValue::from_static("a=b"));
    assert_eq!(request(&all), expected);
}

#[test]
fn what_is_ours_is_set_once_and_via_behind_what_stands_there() {
    let mut headers = map(&[("via", "1.0 fred"), ("accept", "*/*"), ("host", "localhost")]);
    set_request_headers(
        &mut headers,
        RequestHeaders {
            host: &HeaderValue::from_static("fluent.example"),
            account: None,
            via: Some(ViaId::new(1).entry(http::Version::HTTP_2)),
            request_id: &HeaderValue::from_static("id-1"),
        },
    );
    assert_eq!(headers.get_all(header::HOST).iter().count(), 1);
    let vias: Vec<_> = headers.get_all(header::VIA).iter().collect();
    assert_eq!(vias, ["1.0 fred", "2.0 fluent-auth-proxy-0000000000000001"]);
}

#[test]
fn what_tells_of_a_body_is_forgotten_and_nothing_else() {
    let mut headers = map(&[
        ("content-length", "3"),
        ("content-md5", "x"),
        ("digest", "x"),
        ("content-digest", "x"),
        ("repr-digest", "x"),
        ("content-type", "application/json"),
    ]);
    forget_body(&mut headers);
    assert_eq!(headers, map(&[("content-type", "application/json")]));
}

#[test]
fn a_response_keeps_the_id_that_upstream_gave() {
    let id = HeaderValue::from_static("ours");
    let mut named = map(&[("x-request-id", "theirs")]);
    set_response_headers(&mut named, None, &id);
    assert_eq!(named, map(&[("x-request-id", "theirs")]));
    let mut unnamed = HeaderMap::new();
    set_response_headers(&mut unnamed, Some(HeaderValue::from_static("1.1 us")), &id);
    assert_eq!(unnamed, map(&[("x-request-id", "ours"), ("via", "1.1 us")]));
}

#[test]
fn a_request_id_is_plain_and_alone() {
    for good in ["a", "A-Z.0_9", &"x".repeat(128)] {
        let headers = map(&[("x-request-id", good)]);
        assert_eq!(request_id(&headers).unwrap(), good);
    }
    for bad in ["", "a b", "a,b", "a\"b", "a/b", "\t", &"x".repeat(129)] {
        assert_eq!(request_id(&map(&[("x-request-id", bad)])), None, "{bad}");
    }
    let mut foreign = HeaderMap::new();
    foreign.insert(X_REQUEST_ID, HeaderValue::from_bytes(b"\xc3\xa9").unwrap());
    assert_eq!(request_id(&foreign), None);
    let twice = map(&[("x-request-id", "a"), ("x-request-id", "a")]);
    assert_eq!(request_id(&twice), None);
}

#[test]
fn the_host_of_a_url_has_its_port_where_it_needs_one() {
    for (url, host) in [
        ("https://fluent.example", "fluent.example"),
        ("https://fluent.example:443/x", "fluent.example"),
        ("https://user:word@fluent.example:8443/x", "fluent.example:8443"),
        ("http://[::1]:4281", "[::1]:4281"),
        ("http://127.0.0.1:80", "127.0.0.1"),
    ] {
        assert_eq!(upstream_host(&url.parse().unwrap()).unwrap(), host);
    }
    assert_eq!(upstream_host(&"data:x".parse().unwrap()), None);
}

/// The names that `Connection` gives, and that it may give.
fn named_away(headers: &HeaderMap) -> Vec<String> {
    let protected = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "trailer",
    ];
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.to_str().unwrap().split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !protected.contains(&name.as_str()))
        .collect()
}

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let known: Vec<&str> = [
        &OF_CONNECTION[..],
        &OF_REQUESTS[..],
        &OF_RESPONSES[..],
        &OF_ALL[..],
    ]
    .concat();
    let options = known.clone();
    let name = prop_oneof![
        3 => prop::sample::select(known).prop_map(str::to_owned),
        1 => "[a-z][a-z.-]{0,12}",
        1 => "(x-forwarded-|sec-fetch-|access-control-)[a-z]{0,6}",
    ];
    let header = prop_oneof![
        4 => (name, "[ -~]{0,12}"),
        1 => (
            Just("connection".to_owned()),
            prop::collection::vec(prop::sample::select(options), 0..4).prop_map(|names| names.join(" ,")),
        ),
    ];
    prop::collection::vec(header, 0..24).prop_map(|headers| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = name.parse::<HeaderName>().unwrap();
            map.append(name, HeaderValue::from_str(&value).unwrap());
        }
        map
    })
}

/// What should be left, said the slow way.
fn left(headers: &HeaderMap, listed: &[&str], prefixes: &[&str]) -> HeaderMap {
    let named = named_away(headers);
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let void = lengths > 1 || headers.contains_key(header::TRANSFER_ENCODING);
    let mut left = HeaderMap::new();
    for (name, value) in headers {
        let is = |listed: &&str| name.as_str().eq_ignore_ascii_case(listed);
        let goes = OF_CONNECTION.iter().any(is)
            || listed.iter().any(is)
            || prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
            || named.iter().any(|named| named == name.as_str())
            || (name == header::CONTENT_LENGTH && void);
        if !goes {
            left.append(name, value.clone());
        }
    }
    left
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scrub_removes_what_is_listed_and_nothing_else(headers in any_headers()) {
        let mut asked = headers.clone();
        guard().scrub_request(&mut asked);
        let mut expected = left(&headers, &OF_REQUESTS, &["x-forwarded-", "sec-fetch-"]);
        if headers.get_all(header::TE).iter().any(|te| {
            te.to_str().unwrap().split(',').any(|member| member.trim().eq_ignore_ascii_case("trailers"))
        }) {
            expected.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        prop_assert_eq!(asked, expected);

        let mut answered = headers.clone();
        scrub_response(&mut answered);
        let expected = left(&headers, &["set-cookie", "proxy-status"], &["access-control-"]);
        prop_assert_eq!(answered, expected);
    }
}
