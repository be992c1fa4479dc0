//! The guard and the scrubber, before the head of any request.
//!
//! The bytes are a head as HTTP/1.1 writes it: method and target, then a header a line. What is admitted
//! 1. never names the token endpoint, however often it is decoded and whoever resolves its dots;
//! 2. goes where it was judged to go: URLs are joined without changing it;
//! 3. names a host that is listed, and comes from no page that is not;
//!
//! and what was scrubbed holds nothing that it must not, and would not be scrubbed any further.

#![no_main]

use std::str::FromStr as _;

use fluent_auth_proxy::guard::{
    Connection, Guard, PathRule, Payload, RequiredHeader, Rules, Target, ViaId, scrub_response,
};
use fluent_auth_proxy::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use url::Url;

const HOSTS: [&str; 4] = ["localhost", "127.0.0.1", "[::1]", "proxy.example"];
const ORIGIN: &str = "https://app.example";
const REQUIRED: &str = "x-required";

/// What no request may carry on.
const KEPT_BACK: [&str; 20] = [
    "authorization",
    "connection",
    "cookie",
    "expect",
    "fluent.account",
    "forwarded",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-fluent-user",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    REQUIRED,
];

struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let first = lines.next()?;
        let space = first.iter().position(|byte| *byte == b' ')?;
        let (method, target) = first.split_at(space);
        let header = |line: &[u8]| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = line.split_at(colon);
            let name = HeaderName::from_bytes(name).ok()?;
            Some((name, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(header) {
            headers.append(name, value);
        }
        Some(Self {
            method: Method::from_bytes(method).ok()?,
            uri: Uri::try_from(&target[1..]).ok()?,
            headers,
        })
    }
}

fn guard(required: bool) -> Guard {
    let rules = Rules {
        allowed_hosts: vec!["proxy.example".to_owned()],
        allowed_origins: vec![ORIGIN.to_owned()],
        allowed_uids: vec![1000],
        required_header: required.then(|| RequiredHeader {
            name: HeaderName::from_static(REQUIRED),
            value: Secret::new("wanted".to_owned()),
        }),
        paths: vec![PathRule::Under("/".to_owned())],
    };
    Guard::new(rules, ViaId::new(7), &["/", "/graphiql"])
}

/// What a path may be read as: decoded again and again, with its dots resolved, by a server that is a stickler
/// and by one that takes a backslash for a slash.
fn readings(path: &str) -> Vec<String> {
    let mut readings = vec![path.to_owned()];
    for _ in 0..3 {
        let last = readings.last().map(String::as_str).unwrap_or_default();
        let next = percent_decode_str(last).decode_utf8_lossy().into_owned();
        readings.push(next);
    }
    let resolved = |path: &String| {
        let url = Url::parse("https://fluent.example").ok()?.join(path).ok()?;
        Some(url.path().to_owned())
    };
    let resolved: Vec<_> = readings.iter().filter_map(resolved).collect();
    readings.extend(resolved);
    readings
}

fn names_tokens(path: &str) -> bool {
    let plain = path.replace('\\', "/").to_lowercase();
    let mut plain: String = plain.chars().filter(|c| !c.is_control()).collect();
    while plain.contains("//") {
        plain = plain.replace("//", "/");
    }
    plain.contains("/oauth/token")
}

fn host_of(named: &str) -> String {
    let name = match named.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        Some(_) | None => named,
    };
    name.to_ascii_lowercase()
}

/// Law 3, for a connection by TCP to 127.0.0.1.
fn check_caller(head: &Head, page: bool) {
    let names: Vec<_> = head.headers.get_all(header::HOST).iter().collect();
    assert!(names.len() <= 1, "two hosts");
    let sent = names.first().and_then(|name| name.to_str().ok());
    let named = sent.or(head.uri.authority().map(http::uri::Authority::as_str));
    let named = named.expect("a host that was admitted");
    let host = host_of(named);
    let loopback = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| std::net::Ipv6Addr::from_str(host).is_ok_and(|address| address.is_loopback()));
    assert!(HOSTS.contains(&host.as_str()) || loopback, "admitted {named:?}");
    let origin = head
        .headers
        .get(header::ORIGIN)
        .and_then(|origin| origin.to_str().ok());
    if origin == Some(ORIGIN) {
        return;
    }
    if let Some(origin) = origin {
        assert_eq!(origin, format!("http://{named}"), "a foreign page");
    }
    for site in head.headers.get_all("sec-fetch-site") {
        assert!(page || site == "same-origin" || site == "none", "a foreign page");
    }
}

fn check_target(target: &Target<'_>) {
    let Target::Upstream(to) = target else { return };
    let path = to.path_and_query.split('?').next().unwrap_or_default();
    for reading in readings(path) {
        assert!(!names_tokens(&reading), "{path} is read as {reading}");
    }
    let root = Url::parse("https://fluent.example/base/").expect("a URL");
    let joined = root.join(&format!("/base{path}")).expect("a path that joins");
    assert_eq!(
        joined.path(),
        format!("/base{path}"),
        "another path than was judged"
    );
    assert_eq!(joined.host_str(), Some("fluent.example"));
    let graphql = path.strip_suffix('/').unwrap_or(path);
    assert_eq!(to.graphql, graphql.eq_ignore_ascii_case("/graphql"));
}

fn check_scrubs(guard: &Guard, headers: &HeaderMap) {
    let mut asked = headers.clone();
    guard.scrub_request(&mut asked);
    for name in KEPT_BACK {
        assert!(!asked.contains_key(name), "{name} goes upstream");
    }
    assert!(asked.get_all(header::CONTENT_LENGTH).iter().count() <= 1);
    assert!(asked.get_all(header::TE).iter().all(|te| te == "trailers"));
    let mut again = asked.clone();
    guard.scrub_request(&mut again);
    assert_eq!(asked, again);

    let mut answered = headers.clone();
    scrub_response(&mut answered);
    let leaks = |name: &HeaderName| {
        let name = name.as_str();
        [
            "set-cookie",
            "proxy-status",
            "connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ]
        .contains(&name)
            || name.starts_with("access-control-")
    };
    assert!(!answered.keys().any(leaks), "{answered:?}");
    let mut again = answered.clone();
    scrub_response(&mut again);
    assert_eq!(answered, again);
}

fuzz_target!(|bytes: &[u8]| {
    let Some(head) = Head::read(bytes) else { return };
    let payload = if head.method == Method::POST {
        Payload::Present
    } else {
        Payload::Empty
    };
    let tcp = Connection::Tcp(([127, 0, 0, 1], 4280).into());
    let (open, closed) = (guard(false), guard(true));
    let ask = |guard: &Guard, connection| {
        guard
            .admit(&head.method, &head.uri, &head.headers, connection, payload)
            .inspect(check_target)
    };
    if let Ok(target) = ask(&open, tcp) {
        check_caller(&head, matches!(target, Target::Page(_)));
    }
    if let Ok(target) = ask(&closed, tcp)
        && target != Target::Preflight
    {
        assert_eq!(
            head.headers.get(REQUIRED).map(HeaderValue::as_bytes),
            Some(&b"wanted"[..])
        );
    }
    let _ = ask(&open, Connection::Unix { uid: 1000 });
    assert!(ask(&open, Connection::Unix { uid: 1001 }).is_err());
    check_scrubs(&closed, &head.headers);
});
