//! Rule 3 of the guard: no page of another origin asks.
//!
//! 1. There is at most one `Origin`. It is the proxy's own, `http://` and exactly the host and port that the
//!    request names, or listed in `listen.allowed_origins`, byte for byte. Another port, `null`, nothing: foreign.
//! 2. `Sec-Fetch-Site` is `same-origin` or `none` (the address bar) in every instance, unless the origin is listed.
//! 3. Following a link to a page of the proxy is no request of the page with the link: a GET or HEAD of such a
//!    page passes rule 2 when it fills a whole tab (`Sec-Fetch-Mode: navigate`, `Sec-Fetch-Dest: document`).
//!
//! A request with neither header comes from no browser of this decade, or from none at all.

use http::{HeaderMap, HeaderName, header};

use super::Rejection;
use super::cors::listed;
use super::headers::sole;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Judges where a request comes from. `named` is the host and port of the request; `page` tells whether a page of
/// the proxy itself is read.
pub(super) fn admit(
    headers: &HeaderMap,
    named: Option<&str>,
    allowed: &[String],
    page: bool,
) -> Result<(), Rejection> {
    if listed(headers, allowed).is_some() {
        return Ok(());
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = sole(headers, &header::ORIGIN).ok_or(Rejection::CrossOrigin)?;
        let host = origin.as_bytes().strip_prefix(b"http://");
        if host.is_none() || host != named.map(str::as_bytes) {
            return Err(Rejection::CrossOrigin);
        }
    }
    let near = headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .all(|site| site == "same-origin" || site == "none");
    if near || (page && navigates(headers)) {
        Ok(())
    } else {
        Err(Rejection::CrossOrigin)
    }
}

fn navigates(headers: &HeaderMap) -> bool {
    sole(headers, &SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate")
        && sole(headers, &SEC_FETCH_DEST).is_some_and(|dest| dest == "document")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judge(headers: &[(&'static str, &str)], page: bool) -> Result<(), Rejection> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let listed = [
            "https://app.example".to_owned(),
            "http://localhost:3000".to_owned(),
        ];
        admit(&map, Some("localhost:4280"), &listed, page)
    }

    #[test]
    fn rule_1_the_origin_is_own_or_listed() {
        assert_eq!(judge(&[], false), Ok(()));
        assert_eq!(judge(&[("origin", "http://localhost:4280")], false), Ok(()));
        for listed in ["https://app.example", "http://localhost:3000"] {
            assert_eq!(judge(&[("origin", listed)], false), Ok(()));
        }
        for foreign in [
            "",
            "null",
            "*",
            "http://localhost",
            "http://localhost:4281",
            "http://localhost:42800",
            "https://localhost:4280",
            "HTTP://localhost:4280",
            "http://localhost:4280/",
            "http://127.0.0.1:4280",
            "http://evil.example",
            "http://localhost:4280.evil.example",
            "http://user@localhost:4280",
            "localhost:4280",
            "http://localhost:4280 http://evil.example",
            "http://localhost:4280, http://localhost:4280",
            "https://app.example:443",
            "https://app.example.evil.example",
            "https://xapp.example",
            "https://APP.example",
            "http://app.example",
            "file://",
            "chrome-extension://abc",
        ] {
            let judged = judge(&[("origin", foreign), ("sec-fetch-site", "same-origin")], true);
            assert_eq!(judged, Err(Rejection::CrossOrigin), "{foreign}");
        }
        for twice in ["http://localhost:4280", "https://app.example"] {
            let judged = judge(&[("origin", twice), ("origin", twice)], false);
            assert_eq!(judged, Err(Rejection::CrossOrigin), "{twice} twice");
        }
    }

    #[test]
    fn rule_1_without_a_host_there_is_no_own_origin() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://"));
        assert_eq!(admit(&headers, None, &[], false), Err(Rejection::CrossOrigin));
        assert_eq!(admit(&HeaderMap::new(), None, &[], false), Ok(()));
    }

    #[test]
    fn rule_2_the_site_is_the_same_origin() {
        for near in ["same-origin", "none"] {
            assert_eq!(judge(&[("sec-fetch-site", near)], false), Ok(()));
        }
        for far in [
            "same-site",
            "cross-site",
            "",
            "Same-Origin",
            "same-origin, none",
            "new-word",
        ] {
            assert_eq!(
                judge(&[("sec-fetch-site", far)], false),
                Err(Rejection::CrossOrigin)
            );
            let own = [("origin", "http://localhost:4280"), ("sec-fetch-site", far)];
            assert_eq!(judge(&own, false), Err(Rejection::CrossOrigin));
            let listed = [("origin", "https://app.example"), ("sec-fetch-site", far)];
            assert!(judge(&listed, false).is_ok());
        }
        let both = [("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(judge(&both, false), Err(Rejection::CrossOrigin));
    }

    #[test]
    fn rule_3_a_link_may_lead_to_a_page() {
        let site = ("sec-fetch-site", "cross-site");
        let navigation = [
            site,
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(judge(&navigation, true), Ok(()));
        assert_eq!(judge(&navigation, false), Err(Rejection::CrossOrigin));
        for other in [
            [site, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
            [site, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
            [
                site,
                ("sec-fetch-mode", "no-cors"),
                ("sec-fetch-dest", "document"),
            ],
        ] {
            assert_eq!(judge(&other, true), Err(Rejection::CrossOrigin), "{other:?}");
        }
        assert_eq!(judge(&[site], true), Err(Rejection::CrossOrigin));
    }
}
