//! Hostile bytes: whatever is sent, Fluent never hears of two requests for one, nor of one that the guard refuses.
//!
//! 1. The corpus of HTTP/1.1 stands in `hostile/http1.txt`, that of HTTP/2 in `h2`, floods in `floods`.
//! 2. Each case goes over a connection of its own, all of them at once. They end by the proxy's clocks at the latest.
//! 3. Between proxy and Fluent stands a [`wire`] that keeps every byte and reads it by the letter of RFC 9112:
//!    what a lenient server would take is no excuse.

mod floods;
mod h2;
mod wire;

use std::net::SocketAddr;

use fluent_sandbox::{ApiRequest, Sandbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Proxy, fluent, sandbox, soon, with_tokens_of};
use wire::Wire;

/// Short clocks, as most cases leave the proxy waiting for more, but with time for a busy machine.
const SETTINGS: &str = "[listen]\npaths = [\"/graphql\", \"/api/v4.1/*\"]\n\
    header_timeout = '10s'\nidle_timeout = '10s'\nbody_timeout = '10s'\n";

/// What is sent, and how often Fluent may hear of it.
pub(super) struct Case {
    name: String,
    heard: Heard,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Never,
    Once,
    /// Once at most.
    May,
    Twice,
}

impl Heard {
    fn allows(self, count: usize) -> bool {
        match self {
            Self::Never => count == 0,
            Self::Once => count == 1,
            Self::May => count <= 1,
            Self::Twice => count == 2,
        }
    }
}

/// A case's own target, and one that nobody may hear of.
fn marked(text: &str, number: usize) -> String {
    text.replace("?case", &format!("?case={number:03}"))
        .replace("?smuggled", &format!("?smuggled={number:03}"))
}

/// Sends `bytes`, and reads until the proxy closes. Whatever it says is no matter here.
async fn say(address: SocketAddr, bytes: Vec<u8>) {
    let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
    let sending = tokio::spawn(async move {
        // The proxy may hang up halfway. What is sent stays open, as the end of it would say that the caller left.
        let _ = to.write_all(&bytes).await;
        to
    });
    let mut answer = Vec::new();
    let _ = soon(from.read_to_end(&mut answer)).await;
    drop(sending.await);
}

/// Sends every case, and holds what Fluent heard against it.
async fn try_all(cases: Vec<Case>) {
    let sandbox = sandbox(fluent()).await;
    let wire = Wire::before(sandbox.address()).await;
    let proxy = Proxy::start(&wire.url(), &with_tokens_of(&sandbox, SETTINGS)).await;
    proxy.client().graphql("{ me { id } }").await.assert_good();

    let mut saying = Vec::new();
    for case in &cases {
        saying.push(tokio::spawn(say(proxy.address(), case.bytes.clone())));
    }
    for said in saying {
        said.await.unwrap();
    }
    proxy.client().graphql("{ me { id } }").await.assert_good();
    proxy.stop().await;
    assert_heard(&sandbox, &cases);
    wire.assert_strict(sandbox.seen().counts().api_requests).await;
}

fn assert_heard(sandbox: &Sandbox, cases: &[Case]) {
    let heard: Vec<_> = sandbox
        .seen()
        .api_requests()
        .into_iter()
        .filter(|request| request.target != "/graphql")
        .collect();
    for request in &heard {
        let host = request.headers.get_all("host").iter().count();
        assert!(host == 1 && request.bearer().is_some(), "{:?}", request.headers);
        for name in ["origin", "x-forwarded-host", "fluent.account", "upgrade"] {
            assert!(!request.headers.contains_key(name), "{name}");
        }
    }
    let count = |target: String| {
        let of_case = |request: &&ApiRequest| request.target.starts_with(&target);
        heard.iter().filter(of_case).count()
    };
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let times = count(format!("/api/v4.1/echo?case={number:03}"));
        if !case.heard.allows(times) {
            wrong.push(format!(
                "{}: heard {times} times, not {:?}",
                case.name, case.heard
            ));
        }
        if count(format!("/api/v4.1/echo?smuggled={number:03}")) > 0 {
            wrong.push(format!("{}: what it hides was heard", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let known = count("/api/v4.1/echo?case=".to_owned());
    assert_eq!(known, heard.len(), "all that was heard is of a case");
}

/// The corpus of HTTP/1.1.
fn http1() -> Vec<Case> {
    let lines = include_str!("hostile/http1.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |(number, line): (usize, &str)| {
        let mut parts = line.splitn(3, " | ");
        let mut part = || {
            parts
                .next()
                .unwrap_or_else(|| panic!("a line of three parts: {line}"))
        };
        let (name, heard, text) = (part(), part(), part());
        let heard = match heard {
            "never" => Heard::Never,
            "once" => Heard::Once,
            "may" => Heard::May,
            "twice" => Heard::Twice,
            other => panic!("{other} is no word for how often"),
        };
        Case {
            name: name.to_owned(),
            heard,
            bytes: bytes(&marked(&filled(text), number)),
        }
    };
    lines.enumerate().map(case).collect()
}

/// A case's text with its abbreviations written out.
fn filled(text: &str) -> String {
    let rest = "/api/v4.1/echo?case HTTP/1.1\\r\\nHost: localhost\\r\\n";
    let mut text = text
        .replace("{P}", &format!("POST {rest}Content-Type: application/json\\r\\n"))
        .replace("{G}", &format!("GET {rest}"))
        .replace(
            "{S}",
            "GET /api/v4.1/echo?smuggled HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n",
        )
        .replace("{E}", "\\r\\n\\r\\n");
    while let Some((before, rest)) = text.split_once('*').filter(|(before, _)| before.contains('{')) {
        let (before, times) = before.rsplit_once('{').unwrap();
        let Ok(times) = times.parse::<usize>() else { break };
        let (what, after) = rest.split_once('}').unwrap();
        text = format!("{before}{}{after}", what.repeat(times));
    }
    text
}

/// The bytes that a text with escapes stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            bytes.extend(char.to_string().as_bytes());
            continue;
        }
        bytes.push(match rest.next().unwrap() {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let digits: String = rest.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            other => panic!("no escape: {other}"),
        });
    }
    bytes
}

#[tokio::test]
async fn whatever_is_said_in_http_1_fluent_hears_whole_requests_and_none_that_is_refused() {
    let cases = http1();
    assert!(cases.len() >= 150, "{}", cases.len());
    try_all(cases).await;
}

#[tokio::test]
async fn whatever_is_said_in_http_2_fluent_hears_whole_requests_and_none_that_is_refused() {
    let cases = h2::cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    try_all(cases).await;
}
