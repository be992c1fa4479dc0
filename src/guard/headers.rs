//! Which headers pass, both ways.
//!
//! 1. **Of this connection only** (RFC 9110, section 7.6.1) and never passed on: `Connection` and what it names,
//!    `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade`, and `Proxy-Authenticate` and
//!    `Proxy-Authentication-Info`, which are for the next client alone (sections 11.7.1, 11.7.3).
//! 2. `Connection` cannot name away what tells whose the message is and how its body is read: `Host`,
//!    `Content-Length`, `Content-Type`, `Content-Encoding` (which were judged), `Trailer` of a response. Nor what
//!    we set: that is set after all has been removed.
//! 3. `Content-Length` beside `Transfer-Encoding` is void (RFC 9112, section 6.3) and removed with it; so is one that
//!    stands there twice, as it may over HTTP/2. How long the body is, the body knows.
//! 4. **Requests** lose further what tells upstream of the caller's surroundings or would speak in our place:
//!    `Authorization`, `Proxy-Authorization`, `Cookie`, `Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `Origin`,
//!    `Referer`, `Sec-Fetch-*`, `fluent.account`, `x-fluent-user`, the required header; `Expect`, which is
//!    answered here; `Trailer`, as trailers of requests are dropped. `TE` stays as `trailers` where a member of it
//!    said so.
//! 5. **Responses** lose further `Set-Cookie`, `Proxy-Status` and `Access-Control-*`: these are the proxy's to
//!    say. `Trailer` stays.
//! 6. Everything else stays as it is, and the values of one name in their order.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::{Position, Url};

use super::Guard;

/// The account that a request is for.
const FLUENT_ACCOUNT: HeaderName = HeaderName::from_static("fluent.account");
/// What ties the logs of all hops together.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Digests of a body (RFC 1864, RFC 3230, RFC 9530).
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const DIGEST: HeaderName = HeaderName::from_static("digest");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// What the proxy sets on a request, but for `Authorization`, which each attempt sets last.
#[derive(Clone, Debug)]
pub struct RequestHeaders<'a> {
    /// Host and port of upstream, see [`upstream_host`].
    pub host: &'a HeaderValue,
    /// `fluent.account`, where the instance names one.
    pub account: Option<&'a HeaderValue>,
    /// Our entry in `Via`, where it is on: [`ViaId::entry`](super::ViaId::entry).
    pub via: Option<HeaderValue>,
    /// `x-request-id`: the caller's ([`request_id`]) or a new one.
    pub request_id: &'a HeaderValue,
}

impl Guard {
    /// Removes from a request what is not meant for upstream: rules 1 to 4.
    pub fn scrub_request(&self, headers: &mut HeaderMap) {
        let mut trailers = false;
        scrub(headers, |name, value| {
            trailers |= *name == header::TE && names_trailers(value);
            is_for_us(name.as_str())
                || self
                    .rules
                    .required_header
                    .as_ref()
                    .is_some_and(|required| required.name == *name)
        });
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Removes from a response what is not meant for the caller: rules 1 to 3 and 5.
pub fn scrub_response(headers: &mut HeaderMap) {
    scrub(headers, |name, _| {
        let name = name.as_str();
        matches!(name, "set-cookie" | "proxy-status") || name.starts_with("access-control-")
    });
}

/// Sets on a scrubbed request what is ours to say.
pub fn set_request_headers(headers: &mut HeaderMap, set: RequestHeaders<'_>) {
    headers.insert(header::HOST, set.host.clone());
    if let Some(account) = set.account {
        headers.insert(FLUENT_ACCOUNT, account.clone());
    }
    if let Some(via) = set.via {
        headers.append(header::VIA, via);
    }
    headers.insert(X_REQUEST_ID, set.request_id.clone());
}

/// Removes from a request what tells of the bytes of its body, as others are sent in their place.
pub fn forget_body(headers: &mut HeaderMap) {
    for name in [
        header::CONTENT_LENGTH,
        CONTENT_MD5,
        DIGEST,
        CONTENT_DIGEST,
        REPR_DIGEST,
    ] {
        headers.remove(name);
    }
}

/// Sets on a scrubbed response what is ours to say: `via` where it is on, `id` where upstream sent none.
pub fn set_response_headers(headers: &mut HeaderMap, via: Option<HeaderValue>, id: &HeaderValue) {
    if let Some(via) = via {
        headers.append(header::VIA, via);
    }
    headers.entry(X_REQUEST_ID).or_insert_with(|| id.clone());
}

/// The caller's `x-request-id`, if there is one that logs and headers can carry: 1 to 128 of `[A-Za-z0-9._-]`.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    sole(headers, &X_REQUEST_ID).filter(|id| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(plain)
    })
}

/// The value of `Host` for requests to `url`: its host, and its port where it is not the scheme's own. `None` for
/// a URL without a host.
#[must_use]
pub fn upstream_host(url: &Url) -> Option<HeaderValue> {
    url.host()?;
    HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()
}

/// The value of a header that stands there exactly once.
pub(super) fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Removes what rules 1 to 3 and `also` name. Walks over the headers once; where none is to go, nothing is
/// allocated.
fn scrub(headers: &mut HeaderMap, mut also: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
    let mut named: Vec<HeaderValue> = Vec::new();
    let mut doomed: Vec<HeaderName> = Vec::new();
    let mut lengths = 0;
    for (name, value) in &*headers {
        if also(name, value) || is_of_connection(name.as_str()) {
            doomed.push(name.clone());
        }
        if *name == header::CONNECTION && members(value).any(|name| !is_said_often(name)) {
            named.push(value.clone());
        } else if *name == header::CONTENT_LENGTH {
            lengths += 1;
        }
    }
    if lengths > 1 || doomed.contains(&header::TRANSFER_ENCODING) {
        doomed.push(header::CONTENT_LENGTH);
    }
    for name in doomed {
        headers.remove(name);
    }
    for name in named.iter().flat_map(members) {
        if !is_framing(name) {
            headers.remove(name);
        }
    }
}

/// The members of a list of names, without those that are not even text.
fn members(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .filter_map(|member| std::str::from_utf8(member.trim_ascii()).ok())
}

/// Options of `Connection` that name no header, or one that goes anyway.
fn is_said_often(name: &str) -> bool {
    ["keep-alive", "close", "te"]
        .iter()
        .any(|often| often.eq_ignore_ascii_case(name))
}

/// Rule 2.
fn is_framing(name: &str) -> bool {
    [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "trailer",
    ]
    .iter()
    .any(|framing| framing.eq_ignore_ascii_case(name))
}

/// Rule 1.
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Rule 4.
fn is_for_us(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cookie"
            | "expect"
            | "fluent.account"
            | "forwarded"
            | "origin"
            | "proxy-authorization"
            | "referer"
            | "trailer"
            | "x-fluent-user"
            | "x-real-ip"
    ) || name.starts_with("sec-fetch-")
        || name.starts_with("x-forwarded-")
}

fn names_trailers(te: &HeaderValue) -> bool {
    members(te).any(|member| member.eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests;
