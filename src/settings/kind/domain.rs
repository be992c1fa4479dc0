//! Kinds that know the proxy's own words: URLs, addresses, paths, hosts, origins.
//!
//! 1. A URL is never named in a refusal, as it may hold a password; a correction is, once it holds none.
//! 2. What one value alone cannot tell (an `http://` URL that needs `danger_allow_http`) is left to `settle`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use url::{Host, Url};

use super::{Kind, Words, filled, text_of};
use crate::guard::PathRule;
use crate::secret::Secret;
use crate::server::Address;
use crate::settings::given::Given;
use crate::settings::problem::Wrong;
use crate::telemetry::{AccessLog, LogFormat, log};
use crate::token::grant::Refresh;
use crate::upstream::HttpVersion;
use crate::upstream::egress::HttpProxy;

/// The root of an instance's API.
pub(in crate::settings) enum RootUrl {}

impl Kind for RootUrl {
    type Settled = Url;

    fn read(given: &Given) -> Result<Url, Wrong> {
        let mut url = bare_url(given)?;
        let root = url.path().strip_suffix('/').unwrap_or(url.path()).to_owned();
        if root.contains("//") || root.ends_with('/') {
            return Err(Wrong::is("has a double slash in its path").instead("write one slash in its place"));
        }
        url.set_path(&root);
        if let Some(parent) = root.strip_suffix("/graphql") {
            url.set_path(parent);
            return Err(Wrong::is("ends in /graphql, which the proxy adds itself")
                .instead(format!("write \"{}\"", Self::show(&url))));
        }
        Ok(url)
    }

    fn show(settled: &Url) -> String {
        settled.as_str().trim_end_matches('/').to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}

/// What is written where a URL is wanted.
const URL_FORM: &str = "write a whole URL, such as \"https://ACCOUNT.api.fluentretail.com\"";

/// A whole URL of HTTP, userinfo and all.
pub(super) fn web_url(given: &Given) -> Result<Url, Wrong> {
    let text = filled(given)?;
    let url = Url::parse(text).map_err(|error| Wrong::is(format!("is no URL: {error}")).instead(URL_FORM))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Wrong::is("is not a URL of https").instead(URL_FORM));
    }
    // The parser forgives what no reader would: spaces round it, tabs in it, `\`, missing and further slashes.
    let slashes = text
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.starts_with('/'));
    if !slashes
        || text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '\\')
    {
        return Err(Wrong::is("holds characters that no URL has").instead(URL_FORM));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            Wrong::is("has a query or a fragment").instead("leave off everything from the '?' or '#'")
        );
    }
    Ok(url)
}

/// A whole URL with nothing in it that a root has no use for.
fn bare_url(given: &Given) -> Result<Url, Wrong> {
    let url = web_url(given)?;
    if !url.username().is_empty() || url.password().is_some() || text_of(given)?.contains('@') {
        return Err(Wrong::is("holds a username or password before an '@'")
            .instead("give the credentials by the settings username and password"));
    }
    Ok(url)
}

/// Whether nothing but this machine can be meant.
pub(in crate::settings) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Where tokens are asked for.
pub(in crate::settings) enum TokenPath {}

/// A [`TokenPath`], read.
pub(in crate::settings) enum Endpoint {
    /// Below the instance's URL.
    Path(String),
    /// Elsewhere.
    Whole(Url),
}

impl Kind for TokenPath {
    type Settled = Endpoint;

    fn read(given: &Given) -> Result<Endpoint, Wrong> {
        let text = filled(given)?;
        if text.starts_with('/') {
            return normal_path(text).map(|()| Endpoint::Path(text.to_owned()));
        }
        if !text.contains("://") {
            return Err(Wrong::is("is neither a path nor a whole URL")
                .instead("write a path that begins with '/', such as \"/oauth/token\""));
        }
        bare_url(given).map(Endpoint::Whole)
    }

    fn show(settled: &Endpoint) -> String {
        match settled {
            Endpoint::Path(path) => path.clone(),
            Endpoint::Whole(url) => url.to_string(),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^(/|https?://)" })
    }
}

/// Whether a path is written in the one way that cannot be read in two.
fn normal_path(path: &str) -> Result<(), Wrong> {
    let refused = |what: &str| {
        Err(Wrong::is(format!("{path:?} {what}"))
            .instead("write a plain path: '/' first, no empty, '.' or '..' segments, no escapes"))
    };
    if !path.starts_with('/') {
        return refused("does not begin with '/'");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()+,=:@".contains(&b);
    if !path.bytes().all(plain) {
        return refused("holds a character that a path of the proxy cannot have");
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if matches!(segment, "." | "..") || (segment.is_empty() && !last) {
            return refused("is not in its normal form");
        }
    }
    Ok(())
}

/// A path that goes upstream, or `/…/*` for all below one.
pub(in crate::settings) enum PathPattern {}

impl Kind for PathPattern {
    type Settled = PathRule;

    fn read(given: &Given) -> Result<PathRule, Wrong> {
        let text = filled(given)?;
        let under = text.strip_suffix('*').filter(|parent| parent.ends_with('/'));
        let path = under.unwrap_or(text);
        normal_path(path)?;
        let within = |root: &str| {
            let start = path
                .get(..root.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(root));
            start
                && path
                    .get(root.len()..)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if within("/oauth/token") {
            return Err(Wrong::is(format!(
                "{text:?} is the token endpoint, which is never forwarded"
            ))
            .instead("leave it out: the proxy asks for tokens itself"));
        }
        if within("/instances") {
            return Err(
                Wrong::is(format!("{text:?} is where the proxy keeps its instances"))
                    .instead("leave it out: every path is also served below /instances/NAME"),
            );
        }
        Ok(match under {
            Some(parent) => PathRule::Under(parent.to_owned()),
            None => PathRule::Exact(path.to_owned()),
        })
    }

    fn show(settled: &PathRule) -> String {
        match settled {
            PathRule::Exact(path) => path.clone(),
            PathRule::Under(path) => format!("{path}*"),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^/" })
    }
}

/// Where the proxy listens.
pub(in crate::settings) enum ListenAddress {}

impl Kind for ListenAddress {
    type Settled = Address;

    fn read(given: &Given) -> Result<Address, Wrong> {
        let text = filled(given)?;
        match text.strip_prefix("unix:") {
            Some("") => Err(Wrong::is("names no path after \"unix:\"")),
            Some(path) => Ok(Address::Unix(PathBuf::from(path))),
            None if text == "systemd" => Ok(Address::Systemd),
            None => tcp(text),
        }
    }

    fn show(settled: &Address) -> String {
        match settled {
            Address::Localhost(port) => format!("localhost:{port}"),
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Systemd => "systemd".to_owned(),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

fn tcp(text: &str) -> Result<Address, Wrong> {
    let localhost = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
        .map(Address::Localhost);
    localhost
        .or_else(|| text.parse::<SocketAddr>().ok().map(Address::Tcp))
        .ok_or_else(|| {
            Wrong::is(format!("{text:?} is no address"))
                .instead("write \"localhost:4280\", \"127.0.0.1:4280\" or \"[::1]:4280\"")
        })
}

/// Where the admin listener stands, or `none`.
pub(in crate::settings) enum AdminAddress {}

impl Kind for AdminAddress {
    type Settled = Option<Address>;

    fn read(given: &Given) -> Result<Self::Settled, Wrong> {
        match filled(given)? {
            "none" => Ok(None),
            text => tcp(text).map(Some),
        }
    }

    fn show(settled: &Self::Settled) -> String {
        settled
            .as_ref()
            .map_or_else(|| "none".to_owned(), ListenAddress::show)
    }

    fn schema() -> Value {
        ListenAddress::schema()
    }
}

/// A name that `Host` may hold, without a port.
pub(in crate::settings) enum HostName {}

impl Kind for HostName {
    type Settled = String;

    fn read(given: &Given) -> Result<String, Wrong> {
        let text = filled(given)?;
        let name = text.to_ascii_lowercase();
        let v6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let label = |label: &str| {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !label.is_empty() && label.bytes().all(legal)
        };
        let legal = match v6 {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => name.split('.').all(label),
        };
        legal.then_some(name).ok_or_else(|| {
            Wrong::is(format!("{text:?} is not the name of a host"))
                .instead("write the name alone, without scheme, port or '*', such as \"proxy.example\"")
        })
    }

    fn show(settled: &String) -> String {
        settled.clone()
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// An origin as browsers write it.
pub(in crate::settings) enum OriginText {}

impl Kind for OriginText {
    type Settled = String;

    fn read(given: &Given) -> Result<String, Wrong> {
        const FORM: &str =
            "write scheme, host and a port that is not the scheme's own, such as \"https://app.example\"";
        let text = filled(given)?;
        if text.contains(['@', '*', ',']) {
            return Err(Wrong::is("is no origin").instead(FORM));
        }
        let refused = || Wrong::is(format!("{text:?} is no origin"));
        let url = Url::parse(text)
            .ok()
            .filter(Url::has_host)
            .ok_or_else(|| refused().instead(FORM))?;
        // Schemes that are not the web's (a desktop application's) have origins that `url` calls opaque.
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let origin = format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default());
        if origin == text {
            Ok(origin)
        } else {
            Err(refused().instead(format!("write {origin:?}")))
        }
    }

    fn show(settled: &String) -> String {
        settled.clone()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[a-z][a-z0-9+.-]*://[^/]+$" })
    }
}

/// The value of the header `fluent.account`.
pub(in crate::settings) enum Account {}

impl Kind for Account {
    type Settled = HeaderValue;

    fn read(given: &Given) -> Result<HeaderValue, Wrong> {
        let text = filled(given)?;
        let legal = text.bytes().all(|b| b.is_ascii_graphic());
        HeaderValue::from_str(text).ok().filter(|_| legal).ok_or_else(|| {
            Wrong::is("is no value that a header may carry")
                .instead("write the account's id: printable ASCII, no spaces")
        })
    }

    fn show(settled: &HeaderValue) -> String {
        settled.to_str().unwrap_or_default().to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[!-~]+$" })
    }
}

/// The dotted path of field names to the token in an answer.
pub(in crate::settings) enum FieldPath {}

impl Kind for FieldPath {
    type Settled = Vec<String>;

    fn read(given: &Given) -> Result<Vec<String>, Wrong> {
        let text = text_of(given)?;
        if text.split('.').any(str::is_empty) {
            return Err(Wrong::is("has an empty field name")
                .instead("write a name such as \"accessToken\", or a dotted path such as \"data.token\""));
        }
        Ok(text.split('.').map(str::to_owned).collect())
    }

    fn show(settled: &Vec<String>) -> String {
        settled.join(".")
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A level of the log, or directives as `tracing` writes them.
pub(in crate::settings) enum Level {}

impl Kind for Level {
    type Settled = String;

    fn read(given: &Given) -> Result<String, Wrong> {
        let text = filled(given)?;
        log::filter(text).map(|_| text.to_owned()).map_err(|_| {
            Wrong::is(format!("{text:?} is no level of the log")).instead(
                "write \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or directives such as \
                 \"info,fluent_auth_proxy::token=debug\"",
            )
        })
    }

    fn show(settled: &String) -> String {
        settled.clone()
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The way out of the machine.
pub(in crate::settings) enum WayOut {}

/// A [`WayOut`], read.
pub(in crate::settings) enum Way {
    /// As the environment says.
    Environment,
    /// Straight.
    None,
    /// Through a proxy.
    Proxy(Box<HttpProxy>),
}

impl Kind for WayOut {
    type Settled = Way;

    fn read(given: &Given) -> Result<Way, Wrong> {
        match filled(given)? {
            "environment" => Ok(Way::Environment),
            "none" => Ok(Way::None),
            _ => http_proxy(given).map(|proxy| Way::Proxy(Box::new(proxy))),
        }
    }

    fn show(settled: &Way) -> String {
        match settled {
            Way::Environment => "environment".to_owned(),
            Way::None => "none".to_owned(),
            Way::Proxy(proxy) => proxy.url().to_string(),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The URL of a proxy, its credentials apart.
pub(in crate::settings) fn http_proxy(given: &Given) -> Result<HttpProxy, Wrong> {
    const FORM: &str =
        "write the URL of an HTTP proxy, such as \"http://proxy.example:3128\"; a SOCKS proxy cannot be used";
    let mut url = web_url(given).map_err(|wrong| wrong.instead(FORM))?;
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(String::from)
            .map_err(|_| Wrong::is("has escapes before its '@' that are not UTF-8"))
    };
    let password = url.password().map(decoded).transpose()?.unwrap_or_default();
    let username = decoded(url.username())?;
    // A header could not carry such a pair apart (RFC 7617, section 2).
    if username.contains(':') {
        return Err(Wrong::is("has a ':' in its username"));
    }
    let credentials = (!username.is_empty()).then(|| (username, Secret::new(password)));
    // Both can only fail for a URL that has no host, and this one has.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_path("");
    HttpProxy::new(url, credentials).ok_or_else(|| Wrong::is("is no URL that a proxy can have").instead(FORM))
}

/// Who shares logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::settings) enum StoreKind {
    Memory,
    File,
    Redis,
}

impl Words for StoreKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("memory", Self::Memory),
        ("file", Self::File),
        ("redis", Self::Redis),
    ];
}

/// What names in a store begin with. Braces would change which part of a name a Redis Cluster goes by.
pub(in crate::settings) enum Prefix {}

impl Kind for Prefix {
    type Settled = String;

    fn read(given: &Given) -> Result<String, Wrong> {
        let text = filled(given)?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if text.len() > 128 || !text.bytes().all(legal) {
            return Err(Wrong::is(format!("is {text:?}, which cannot begin a name"))
                .instead("write at most 128 letters, digits, '.', '_', ':' and '-'"));
        }
        Ok(text.to_owned())
    }

    fn show(settled: &String) -> String {
        settled.clone()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$" })
    }
}

/// How a login is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::settings) enum GrantType {
    Password,
    ClientCredentials,
}

impl Words for GrantType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("password", Self::Password),
        ("client_credentials", Self::ClientCredentials),
    ];
}

impl Words for Refresh {
    const WORDS: &'static [(&'static str, Self)] = &[("late", Self::Late), ("early", Self::Early)];
}

impl Words for HttpVersion {
    const WORDS: &'static [(&'static str, Self)] =
        &[("1.1", Self::Http1), ("2", Self::Http2), ("auto", Self::Auto)];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

impl Words for AccessLog {
    const WORDS: &'static [(&'static str, Self)] =
        &[("errors", Self::Errors), ("all", Self::All), ("none", Self::None)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_out_parts_credentials_from_the_url() {
        let given = Given::plain("http://us%65r:p%40ss@proxy.example:3128");
        let Ok(Way::Proxy(proxy)) = WayOut::read(&given) else {
            panic!("is a proxy")
        };
        assert!(proxy.has_credentials());
        assert_eq!(WayOut::show(&Way::Proxy(proxy)), "http://proxy.example:3128/");
    }

    #[test]
    fn only_what_cannot_leave_the_machine_is_loopback() {
        let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        for here in [
            "http://localhost",
            "http://LOCALHOST:1",
            "http://127.1.2.3",
            "http://[::1]",
            "http://127.1",
        ] {
            assert!(loopback(here), "{here}");
        }
        for away in [
            "http://localhost.example",
            "http://x.localhost",
            "http://128.0.0.1",
            "http://[::2]",
            "http://0.0.0.0",
        ] {
            assert!(!loopback(away), "{away}");
        }
    }
}
