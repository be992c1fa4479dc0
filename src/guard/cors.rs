//! What browsers are told, so that pages of listed origins may use the proxy (CORS; Fetch, section 3.2).
//!
//! 1. Where no origin is listed, nothing is told. Where one is, every answer says `Vary: Origin`.
//! 2. An answer to a listed origin names this origin, lets credentials be (there are none: cookies go no further),
//!    and shows the page all of its headers. So do answers that the proxy makes itself: a page may read why it was
//!    turned down.
//! 3. A **preflight**, OPTIONS with one listed `Origin` and one `Access-Control-Request-Method`, is answered here
//!    and goes nowhere. It is judged as the request that it asks about, but for what browsers leave out of it: the
//!    required header and the content type. What it is told to allow is that method and the headers it names.
//! 4. A preflight that asks whether a public page may reach a private address (Private Network Access) is told
//!    so as well.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::Guard;
use super::headers::sole;

const ASKS_FOR_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// How long a browser may go by the answer to a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Who may read the answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    varies: bool,
    origin: Option<HeaderValue>,
}

impl Guard {
    /// Who may read the answer to the request with these headers.
    #[must_use]
    pub fn sharing(&self, headers: &HeaderMap) -> Sharing {
        Sharing {
            varies: !self.rules.allowed_origins.is_empty(),
            origin: listed(headers, &self.rules.allowed_origins).cloned(),
        }
    }

    /// Rule 3: the method that a preflight of a listed origin asks about.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Method> {
        if *method != Method::OPTIONS {
            return None;
        }
        listed(headers, &self.rules.allowed_origins)?;
        let asked = sole(headers, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
        Method::from_bytes(asked.as_bytes()).ok()
    }
}

impl Sharing {
    /// Rules 1 and 2: tells it by the headers of the answer.
    pub fn tell(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = self.origin else { return };
        let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
}

/// The headers of the answer to a preflight that was let pass, beside those of [`Sharing`]: rules 3 and 4.
#[must_use]
pub fn preflight_answer(asked: &HeaderMap) -> HeaderMap {
    let mut told = HeaderMap::new();
    let mut echo = |question: HeaderName, answer: HeaderName| {
        for value in asked.get_all(&question) {
            told.append(answer.clone(), value.clone());
        }
        told.append(header::VARY, HeaderValue::from(question));
    };
    echo(
        header::ACCESS_CONTROL_REQUEST_METHOD,
        header::ACCESS_CONTROL_ALLOW_METHODS,
    );
    echo(
        header::ACCESS_CONTROL_REQUEST_HEADERS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
    );
    echo(ASKS_FOR_PRIVATE_NETWORK, ALLOWS_PRIVATE_NETWORK);
    told.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    told
}

/// The origin of a request, if it names exactly one and this is listed.
pub(super) fn listed<'a>(headers: &'a HeaderMap, listed: &[String]) -> Option<&'a HeaderValue> {
    if listed.is_empty() {
        return None;
    }
    let origin = sole(headers, &header::ORIGIN)?;
    listed
        .iter()
        .any(|listed| listed.as_bytes() == origin.as_bytes())
        .then_some(origin)
}
