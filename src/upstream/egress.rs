//! The way out of the machine: straight, or through an HTTP proxy.
//!
//! 1. Both legs, to the API and to the token endpoint, ask the same [`Egress`].
//! 2. A proxy of the environment is never asked for a loopback target, nor for one that `NO_PROXY` names; a proxy
//!    that the settings name is asked for every target.
//! 3. The API leg reaches every target through a tunnel (`CONNECT`), those of `http://` too: whatever version of
//!    HTTP is spoken, the proxy on the way sees credentials of its own only, and never a token. The token
//!    endpoint's client does so for `https://`; it asks for `http://` targets in the absolute form.
//! 4. The environment is read once, with the settings.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::secret::Secret;

/// Which targets are reached through which proxy.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    http: Option<Arc<HttpProxy>>,
    https: Option<Arc<HttpProxy>>,
    /// Targets that are reached straight, where the proxies are the environment's.
    spared: Option<Spared>,
}

/// An HTTP proxy on the way out.
#[derive(Debug)]
pub struct HttpProxy {
    url: Url,
    uri: Uri,
    credentials: Option<(String, Secret)>,
}

/// What `NO_PROXY` names.
#[derive(Clone)]
struct Spared(Arc<Matcher>);

impl Egress {
    /// Straight, whatever the target.
    #[must_use]
    pub fn straight() -> Self {
        Self::default()
    }

    /// Through `proxy`, whatever the target.
    #[must_use]
    pub fn through(proxy: HttpProxy) -> Self {
        let proxy = Arc::new(proxy);
        Self {
            http: Some(Arc::clone(&proxy)),
            https: Some(proxy),
            spared: None,
        }
    }

    /// As the environment says: a proxy for `http://`, one for `https://`, and the hosts to reach straight, in
    /// the form of `NO_PROXY`.
    #[must_use]
    pub fn environment(http: Option<HttpProxy>, https: Option<HttpProxy>, no_proxy: &str) -> Self {
        // Of the library's rules only those for exceptions are wanted: the proxy in them is never called.
        let rules = Matcher::builder().all("http://proxy.invalid").no(no_proxy);
        Self {
            http: http.map(Arc::new),
            https: https.map(Arc::new),
            spared: Some(Spared(Arc::new(rules.build()))),
        }
    }

    /// The same way, but straight to loopback whoever named the proxies: for what is no part of Fluent.
    #[must_use]
    pub fn sparing_loopback(self) -> Self {
        let none_named = || Spared(Arc::new(Matcher::builder().all("http://proxy.invalid").build()));
        Self {
            spared: self.spared.or_else(|| Some(none_named())),
            ..self
        }
    }

    /// The proxy on the way to `target`.
    #[must_use]
    pub fn proxy_for(&self, target: &Uri) -> Option<&Arc<HttpProxy>> {
        let proxy = match target.scheme_str() {
            Some("https") => self.https.as_ref(),
            Some("http") => self.http.as_ref(),
            Some(_) | None => None,
        };
        proxy.filter(|_| !self.spares(target))
    }

    fn spares(&self, target: &Uri) -> bool {
        let named = |spared: &Spared| spared.0.intercept(target).is_none();
        self.spared
            .as_ref()
            .is_some_and(|spared| is_loopback(target) || named(spared))
    }

    /// A builder for clients that take the same way.
    pub fn client_builder(&self) -> reqwest::ClientBuilder {
        let egress = self.clone();
        let way = reqwest::Proxy::custom(move |target| {
            let target: Uri = target.as_str().parse().ok()?;
            Some(egress.proxy_for(&target)?.with_credentials())
        });
        reqwest::Client::builder().no_proxy().proxy(way)
    }
}

impl HttpProxy {
    /// The proxy at `url`, which holds no userinfo; `None` where no request can be sent to it.
    #[must_use]
    pub fn new(url: Url, credentials: Option<(String, Secret)>) -> Option<Self> {
        let uri = url.as_str().parse().ok()?;
        Some(Self {
            url,
            uri,
            credentials,
        })
    }

    /// Where it is, without credentials.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether it is asked with a password.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Where it is, as the connector wants it.
    pub(super) fn uri(&self) -> Uri {
        self.uri.clone()
    }

    /// The value of `Proxy-Authorization` (RFC 7617), marked sensitive.
    #[expect(
        clippy::disallowed_methods,
        reason = "the password becomes the header that is its purpose"
    )]
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let (username, password) = self.credentials.as_ref()?;
        let pair = zeroize::Zeroizing::new(format!("{username}:{}", password.expose()));
        let mut value =
            HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the client of the token endpoint takes a proxy's credentials within its URL"
    )]
    fn with_credentials(&self) -> Url {
        let mut url = self.url.clone();
        if let Some((username, password)) = &self.credentials {
            let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            // Both can only fail for a URL without a host.
            let _ = url.set_username(&escaped(username));
            let _ = url.set_password(Some(&escaped(password.expose())));
        }
        url
    }
}

impl fmt::Debug for Spared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spared")
    }
}

fn is_loopback(target: &Uri) -> bool {
    let host = target.host().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    address.is_ok_and(|address| address.to_canonical().is_loopback())
        || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(host: &str) -> Option<HttpProxy> {
        HttpProxy::new(Url::parse(&format!("http://{host}")).unwrap(), None)
    }

    fn way(egress: &Egress, target: &str) -> Option<String> {
        let proxy = egress.proxy_for(&target.parse().unwrap())?;
        Some(proxy.url().host_str().unwrap().to_owned())
    }

    #[test]
    fn the_environment_has_a_proxy_for_each_scheme() {
        let egress = Egress::environment(proxy("plain"), proxy("secure"), "");
        assert_eq!(way(&egress, "http://fluent.example/x").as_deref(), Some("plain"));
        assert_eq!(
            way(&egress, "https://fluent.example/x").as_deref(),
            Some("secure")
        );
        let none = Egress::environment(None, proxy("secure"), "");
        assert_eq!(way(&none, "http://fluent.example/x"), None);
    }

    #[test]
    fn what_no_proxy_names_is_reached_straight() {
        let egress = Egress::environment(
            proxy("p"),
            proxy("p"),
            "internal.example, 10.0.0.0/8,[2001:db8::1]",
        );
        for straight in [
            "https://internal.example/",
            "https://api.internal.example:8443/",
            "http://10.1.2.3/",
        ] {
            assert_eq!(way(&egress, straight), None, "{straight}");
        }
        assert!(way(&egress, "https://notinternal.example/").is_some());
        assert_eq!(
            way(
                &Egress::environment(proxy("p"), proxy("p"), "*"),
                "https://a.example"
            ),
            None
        );
    }

    #[test]
    fn loopback_is_spared_by_the_environment_and_by_nothing_else() {
        let environment = Egress::environment(proxy("p"), proxy("p"), "");
        let named = Egress::through(proxy("p").unwrap());
        for loopback in [
            "http://localhost:1/",
            "https://LOCALHOST/",
            "http://127.1.2.3/",
            "http://[::1]:80/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert_eq!(way(&environment, loopback), None, "{loopback}");
            assert!(way(&named, loopback).is_some(), "{loopback}");
        }
        assert!(way(&environment, "http://localhost.example/").is_some());
        let sparing = named.sparing_loopback();
        assert_eq!(way(&sparing, "http://localhost:4318/"), None);
        assert!(way(&sparing, "http://collector.example/").is_some());
    }

    #[test]
    fn credentials_are_one_header_and_never_shown() {
        let secret = Secret::new("p:ä@/".to_owned());
        let url = Url::parse("http://proxy.example:3128").unwrap();
        let proxy = HttpProxy::new(url, Some(("user".to_owned(), secret))).unwrap();
        let header = proxy.authorization().unwrap();
        assert!(header.is_sensitive());
        assert_eq!(header, format!("Basic {}", BASE64_STANDARD.encode("user:p:ä@/")));
        assert_eq!(
            proxy.with_credentials().as_str(),
            "http://user:p%3A%C3%A4%40%2F@proxy.example:3128/"
        );
        assert!(!format!("{:?}", Egress::through(proxy)).contains("ä"));
    }
}
