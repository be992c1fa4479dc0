//! Rules 6 and 7 of the guard: the path has one reading, goes somewhere, and takes the method.
//!
//! 1. The target has a path that starts with `/`: `*` and the host alone of CONNECT have none. (`http::Uri` has
//!    cut a fragment off before anybody reads it; it goes nowhere.)
//! 2. The path has **one reading**, so that no two servers on the way see two paths:
//!    - only the characters of RFC 3986, without `;`, which parts parameters off for some;
//!    - no empty segment but the last, no segment `.` or `..`;
//!    - an escape stands only for a character that needs one and means nothing in a path: not for an unreserved
//!      one (`%61`, `%2e`), not for `/ \ . % ; ? #`, not for a control character, and escapes together are UTF-8.
//!      As `%25` is among them, nothing is escaped twice.
//! 3. `/instances/NAME/…` is the path `/…` of the instance NAME. Below `/instances/` lies nothing else.
//! 4. A path in which `/oauth/token` occurs, in any case, also as the start of something longer, leads nowhere:
//!    servers are known to drop final slashes and suffixes.
//! 5. What is left is one of `listen.paths`, byte for byte, or lies under one of them.
//! 6. `/graphql` takes GET and POST, other paths all but CONNECT and TRACE (which would send our `Authorization`
//!    back as the body of the answer). The rules for GraphQL hold also for `/graphql/` and for other case, where
//!    `listen.paths` lets these pass.

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use super::{Destination, PathRule, Rejection};

const GRAPHQL: &str = "/graphql";
const TOKEN: &str = "/oauth/token";
const INSTANCES: &str = "/instances/";

/// Where the target leads.
pub(super) fn admit<'a>(
    method: &Method,
    uri: &'a Uri,
    rules: &[PathRule],
) -> Result<Destination<'a>, Rejection> {
    let target = uri
        .path_and_query()
        .map(http::uri::PathAndQuery::as_str)
        .filter(|target| target.starts_with('/'))
        .ok_or(Rejection::PathNotFound)?;
    if !has_one_reading(without_query(target)) {
        return Err(Rejection::PathNotFound);
    }
    let (instance, path_and_query) = split_instance(target)?;
    let path = without_query(path_and_query);
    if leads_to_tokens(path) || !rules.iter().any(|rule| rule.takes(path)) {
        return Err(Rejection::PathNotFound);
    }
    let graphql = path
        .strip_suffix('/')
        .unwrap_or(path)
        .eq_ignore_ascii_case(GRAPHQL);
    admit_method(method, graphql)?;
    Ok(Destination {
        instance,
        path_and_query,
        graphql,
    })
}

impl PathRule {
    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(whole) => path == whole,
            Self::Under(start) => path.starts_with(start),
        }
    }
}

fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// Rule 3.
fn split_instance(target: &str) -> Result<(Option<&str>, &str), Rejection> {
    let Some(below) = target.strip_prefix(INSTANCES) else {
        return Ok((None, target));
    };
    match below.find(['/', '?']).map(|end| below.split_at(end)) {
        Some((name, rest)) if rest.starts_with('/') => Ok((Some(name), rest)),
        Some(_) | None => Err(Rejection::PathNotFound),
    }
}

/// Rule 6.
fn admit_method(method: &Method, graphql: bool) -> Result<(), Rejection> {
    let allow = if graphql {
        if *method == Method::GET || *method == Method::POST {
            return Ok(());
        }
        "GET, POST"
    } else {
        let name = method.as_str();
        if !name.eq_ignore_ascii_case("CONNECT") && !name.eq_ignore_ascii_case("TRACE") {
            return Ok(());
        }
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    };
    Err(Rejection::MethodNotAllowed { allow })
}

/// Rule 2.
fn has_one_reading(path: &str) -> bool {
    let mut bytes = path.bytes();
    let mut last = 0;
    let mut escaped = false;
    while let Some(byte) = bytes.next() {
        let fits = match byte {
            b'/' => last != b'/',
            b'%' => {
                escaped = true;
                let high = bytes.next().and_then(hex);
                let low = bytes.next().and_then(hex);
                matches!((high, low), (Some(high), Some(low)) if needs_escape(high << 4 | low))
            }
            plain => is_unreserved(plain) || b"!$&'()*+,=:@".contains(&plain),
        };
        if !fits {
            return false;
        }
        last = byte;
    }
    let dots = path.split('/').any(|segment| segment == "." || segment == "..");
    let text = || {
        percent_decode_str(path)
            .decode_utf8()
            .is_ok_and(|text| !text.contains(char::is_control))
    };
    !dots && (!escaped || text())
}

/// Whether an escape of this byte can be read as nothing but this byte.
fn needs_escape(byte: u8) -> bool {
    !is_unreserved(byte) && !byte.is_ascii_control() && !b"/\\%;?#".contains(&byte)
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Rule 4. Unreserved characters are never escaped here, but U+212A, the Kelvin sign, is a `k` in lower case.
fn leads_to_tokens(path: &str) -> bool {
    if path.contains('%') {
        let text = percent_decode_str(path).decode_utf8_lossy();
        return text.to_lowercase().contains(TOKEN);
    }
    path.as_bytes()
        .windows(TOKEN.len())
        .any(|window| window.eq_ignore_ascii_case(TOKEN.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn rules(paths: &[&str]) -> Vec<PathRule> {
        paths
            .iter()
            .map(|path| match path.strip_suffix('*') {
                Some(start) => PathRule::Under(start.to_owned()),
                None => PathRule::Exact((*path).to_owned()),
            })
            .collect()
    }

    fn judge(
        method: &Method,
        target: &str,
        paths: &[&str],
    ) -> Result<(Option<String>, String, bool), Rejection> {
        let uri = target.parse::<Uri>().expect(target);
        admit(method, &uri, &rules(paths)).map(|to| {
            let instance = to.instance.map(str::to_owned);
            (instance, to.path_and_query.to_owned(), to.graphql)
        })
    }

    fn lost(target: &str) -> bool {
        judge(&Method::POST, target, &["/*"]) == Err(Rejection::PathNotFound)
    }

    #[test]
    fn rule_1_there_is_a_path() {
        for target in ["*", "localhost:4280", "http://localhost?x=1", "http://localhost"] {
            let uri = target.parse::<Uri>().unwrap();
            let judged = admit(&Method::OPTIONS, &uri, &rules(&["/graphql"]));
            assert_eq!(judged, Err(Rejection::PathNotFound), "{target}");
        }
        assert!(lost("*") && lost("localhost:4280") && lost("http://localhost?x=1"));
        let whole = judge(
            &Method::GET,
            "http://localhost:4280/graphql?query=%7Bme%7D",
            &["/graphql"],
        );
        assert_eq!(whole, Ok((None, "/graphql?query=%7Bme%7D".to_owned(), true)));
    }

    #[test]
    fn a_fragment_goes_nowhere() {
        let judged = judge(&Method::GET, "/graphql?a=b#/../oauth/token", &["/graphql"]);
        assert_eq!(judged, Ok((None, "/graphql?a=b".to_owned(), true)));
    }

    #[test]
    fn rule_2_a_path_has_one_reading() {
        for bad in [
            "//",
            "//graphql",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/a/..",
            "/a/../b",
            "/a/./",
            "/a/%2e%2e/b",
            "/a/%2E%2E/b",
            "/a/.%2e/b",
            "/%2e/a",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%5Cb",
            "/a\\b",
            "/a%25b",
            "/a%252fb",
            "/%252e%252e/a",
            "/a%3bb",
            "/a%3Bb=c",
            "/a;b",
            "/a/;/b",
            "/..;/a",
            "/graphql;jsessionid=1",
            "/a%3fb",
            "/a%23b",
            "/a%00",
            "/a%0a",
            "/a%0D",
            "/a%1f",
            "/a%7f",
            "/a%C2%85",
            "/gr%61phql",
            "/a%7Eb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/a%u002f",
            "/a%C0%AE",
            "/a%c0%af",
            "/a%E0%80%AF",
            "/a%ff",
            "/a%ED%A0%80",
            "/a\"b",
            "/a{b}",
            "/a|b",
            "/a^b",
            "/a`b",
            "/é",
        ] {
            if bad.parse::<Uri>().is_ok() {
                assert!(lost(bad), "{bad}");
                assert!(lost(&format!("/instances/a{bad}")), "{bad} of an instance");
            }
            assert!(!has_one_reading(bad), "{bad}");
        }
        for good in [
            "/",
            "/a/",
            "/a/b-._~!$&'()*+,=:@",
            "/...",
            "/a..b/.c",
            "/a%20b",
            "/a%2Bb%26%3D%40%3A",
            "/caf%C3%A9",
            "/caf%c3%a9",
            "/%F0%9F%98%80",
            "/%7B%22a%22%7D",
        ] {
            let judged = judge(&Method::POST, good, &["/*"]);
            assert_eq!(judged, Ok((None, good.to_owned(), false)), "{good}");
        }
    }

    #[test]
    fn rule_2_says_nothing_of_the_query() {
        for query in [
            "",
            "a=%2e%2e%2f&b=//..;%00",
            "query=%7Bme%7Bid%7D%7D",
            "?",
            "a/../b",
            "%zz",
        ] {
            let target = format!("/graphql?{query}");
            let judged = judge(&Method::GET, &target, &["/graphql"]);
            assert_eq!(judged, Ok((None, target.clone(), true)), "{target}");
            let below = judge(&Method::GET, &format!("/instances/eu{target}"), &["/graphql"]);
            assert_eq!(below, Ok((Some("eu".to_owned()), target, true)));
        }
    }

    #[test]
    fn rule_3_an_instance_stands_before_the_path() {
        let named = |target: &str, paths: &[&str]| judge(&Method::POST, target, paths);
        let to = |name: &str, path: &str, graphql| Ok((Some(name.to_owned()), path.to_owned(), graphql));
        assert_eq!(
            named("/instances/eu/graphql", &["/graphql"]),
            to("eu", "/graphql", true)
        );
        assert_eq!(
            named("/instances/No_Such/graphql", &["/graphql"]),
            to("No_Such", "/graphql", true)
        );
        assert_eq!(named("/instances/eu/", &["/*"]), to("eu", "/", false));
        let nested = "/instances/a/instances/b/graphql";
        assert_eq!(named(nested, &["/graphql"]), Err(Rejection::PathNotFound));
        assert_eq!(named(nested, &["/*"]), to("a", "/instances/b/graphql", false));
        for bad in [
            "/instances/",
            "/instances/eu",
            "/instances//graphql",
            "/instances/eu?/graphql",
            "/instances/?/a",
        ] {
            assert_eq!(named(bad, &["/*"]), Err(Rejection::PathNotFound), "{bad}");
        }
    }

    #[test]
    fn rule_4_no_path_leads_to_tokens() {
        for spelling in [
            "/oauth/token",
            "/OAuth/Token",
            "/oauth/token/",
            "/oauth/token.json",
            "/oauth/token%20",
            "/oauth/token/x",
            "/oauth/tokens",
            "/oauth/token?a=b",
            "/a/oauth/token",
            "//oauth/token",
            "/oauth//token",
            "/./oauth/token",
            "/oauth/./token",
            "/a/../oauth/token",
            "/a/..;/oauth/token",
            "/oauth%2ftoken",
            "/oauth%252ftoken",
            "/oauth%5ctoken",
            "/%6fauth/token",
            "/%256fauth/token",
            "/oauth/%74oken",
            "/oauth/to%E2%84%AAen",
            "/oauth;a=b/token",
            "/oauth/token;a=b",
            "/oauth/token%3ba=b",
            "/oauth/token%3Fa",
            "/oauth/token%00",
        ] {
            assert!(lost(spelling), "{spelling}");
            assert!(
                lost(&format!("/instances/eu{spelling}")),
                "{spelling} of an instance"
            );
            let named = judge(&Method::POST, spelling, &["/oauth/token", "/oauth/*"]);
            assert_eq!(named, Err(Rejection::PathNotFound), "{spelling}, listed");
        }
        assert!(!lost("/oauth/userinfo") && !lost("/graphql?path=/oauth/token"));
    }

    #[test]
    fn rule_5_the_path_is_listed() {
        let paths = ["/graphql", "/api/*"];
        for good in ["/graphql", "/api/", "/api/v4.1/order", "/api/x?y"] {
            assert!(judge(&Method::POST, good, &paths).is_ok(), "{good}");
        }
        for bad in [
            "/",
            "/graphql/",
            "/Graphql",
            "/graphqlx",
            "/graphql/x",
            "/api",
            "/apix",
            "/API/x",
            "/x/api/",
        ] {
            assert_eq!(
                judge(&Method::POST, bad, &paths),
                Err(Rejection::PathNotFound),
                "{bad}"
            );
        }
    }

    #[test]
    fn rule_6_a_path_takes_its_methods() {
        let custom = Method::from_bytes(b"PROPFIND").unwrap();
        let small = Method::from_bytes(b"trace").unwrap();
        for graphql in ["/graphql", "/graphql/", "/GraphQL", "/instances/eu/graphql"] {
            for good in [Method::GET, Method::POST] {
                assert!(judge(&good, graphql, &["/*"]).is_ok_and(|(_, _, graphql)| graphql));
            }
            for bad in [
                &Method::HEAD,
                &Method::OPTIONS,
                &Method::PUT,
                &Method::TRACE,
                &Method::CONNECT,
                &custom,
            ] {
                let refused = Err(Rejection::MethodNotAllowed { allow: "GET, POST" });
                assert_eq!(judge(bad, graphql, &["/*"]), refused, "{bad} {graphql}");
            }
        }
        for good in [Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, custom] {
            assert!(judge(&good, "/api/x", &["/api/*"]).is_ok());
        }
        for bad in [Method::TRACE, Method::CONNECT, small] {
            let judged = judge(&bad, "/api/x", &["/api/*"]);
            assert!(matches!(judged, Err(Rejection::MethodNotAllowed { .. })), "{bad}");
        }
    }

    /// What upstream, or a server before it, might make of a path: escapes read, then dots resolved.
    fn reread(path: &str) -> String {
        let read = percent_decode_str(path).decode_utf8().unwrap();
        let mut url = Url::parse("https://fluent.example/").unwrap();
        url.set_path(&read);
        percent_decode_str(url.path()).decode_utf8().unwrap().into_owned()
    }

    fn hostile_target() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z]{1,3}",
            2 => Just("/".to_owned()),
            1 => "%[0-9a-fA-F]{2}",
            1 => "%25[0-9a-fA-F]{2}",
            1 => "[ -~]",
            1 => prop::sample::select(vec![
                "/oauth/token", "/OAuth/Token", "oauth", "token", "/oauth", "/token", "OAUTH", "graphql", "instances/", "..", ".", "%2e", "%2F",
                "%5c", ";", "\\", "//", "%C3%A9", "%20", "%E2%84%AA", "é",
            ]).prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_passes_is_what_was_judged(target in hostile_target(), base in "(/[a-z]{1,4}){0,2}") {
            let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
            let Ok(to) = admit(&Method::POST, &uri, &rules(&["/*"])) else { return Ok(()) };
            let path = without_query(to.path_and_query);
            let joined = format!("{base}{path}");

            let url = Url::parse(&format!("https://fluent.example{base}{}", to.path_and_query)).unwrap();
            prop_assert_eq!(url.path(), &joined);
            prop_assert_eq!(url.fragment(), None);

            let resolved = Url::parse(&format!("https://fluent.example{base}/")).unwrap().join(&joined).unwrap();
            prop_assert_eq!(resolved.path(), &joined);

            let once = percent_decode_str(&joined).decode_utf8().unwrap().into_owned();
            let twice = percent_decode_str(&once).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(&reread(&joined), &once);
            prop_assert_eq!(&reread(&once), &once);
            prop_assert!(!once.to_lowercase().contains(TOKEN));
        }
    }
}
