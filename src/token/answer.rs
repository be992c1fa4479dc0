//! Reads what a token endpoint answered: pure functions over a status, headers and bytes.
//!
//! 1. **200** with a token is an [`Answer`]; anything else in a 200 is nonsense, and nothing of it is kept.
//! 2. The token stands where `token_key` says, else in `access_token` (RFC 6749, section 5.1). Its lifetime
//!    stands beside it or at the root, as a number or as text.
//! 3. A lifetime is taken as 0 s at least and [`LONGEST_LIFE`] at most, whatever the number.
//! 4. **Refused** is every 4xx but 404, 408, 425 and 429, and the 500 that says 400 in its body, as Fluent
//!    answers users of a single sign-on. Everything else is trouble.
//! 5. Of a failing answer, only words of closed sets are kept: its text is foreign.
//! 6. `Retry-After` (RFC 9110, section 10.2.3) is honoured in both forms, up to [`LONGEST_PAUSE`].

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use crate::secret::Secret;
use crate::token::{GrantError, OAuthError, Refusal, Trouble};

/// The longest lifetime that is believed.
pub const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);

/// The longest pause that `Retry-After` may ask for.
pub const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// A token, as the token endpoint gave it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The access token.
    pub token: Secret,
    /// How long it lives, in whole or broken seconds as told, [`LONGEST_LIFE`] at most.
    pub expires_in: Option<Duration>,
    /// The refresh token, where the account has them on.
    pub refresh_token: Option<Secret>,
}

/// Reads the body of a 200.
///
/// # Errors
/// [`Trouble::Nonsense`] when it is not JSON, or holds no token.
pub fn granted(body: &[u8], token_key: &[String]) -> Result<Answer, Trouble> {
    let mut root: Value =
        serde_json::from_slice(body).map_err(|_| Trouble::Nonsense("its body is not JSON"))?;
    let expires_in = beside(&root, token_key)
        .and_then(|fields| lifetime(fields.get("expires_in")))
        .or_else(|| lifetime(root.get("expires_in")));
    let token = text_at(&mut root, token_key)
        .or_else(|| text_at(&mut root, &["access_token"]))
        .ok_or(Trouble::Nonsense("it holds no token"))?;
    let refresh_token = text_at(&mut root, &["refresh_token"]);
    Ok(Answer {
        token,
        expires_in,
        refresh_token,
    })
}

/// Reads any answer but a 200; `body` is as much of it as could be had.
#[must_use]
pub fn declined(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> GrantError {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let refused = match status {
        StatusCode::NOT_FOUND
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::INTERNAL_SERVER_ERROR => says_400(&said),
        other => other.is_client_error(),
    };
    if refused {
        let error = said.get("error").and_then(Value::as_str).unwrap_or_default();
        GrantError::Refused(Refusal {
            status,
            error: oauth_error(error),
        })
    } else {
        GrantError::Unavailable {
            trouble: Trouble::Status(status),
            retry_after: retry_after(headers, SystemTime::now()),
        }
    }
}

/// The object that holds the token's field.
fn beside<'a>(root: &'a Value, path: &[String]) -> Option<&'a Value> {
    let (_, parents) = path.split_last()?;
    parents.iter().try_fold(root, |at, name| at.get(name))
}

/// Moves the text at `path` out of the answer, unless there is none or it is empty.
fn text_at<S: AsRef<str>>(root: &mut Value, path: &[S]) -> Option<Secret> {
    let found = path.iter().try_fold(root, |at, name| at.get_mut(name.as_ref()))?;
    if let Value::String(text) = found.take()
        && !text.is_empty()
    {
        return Some(Secret::new(text));
    }
    None
}

fn lifetime(told: Option<&Value>) -> Option<Duration> {
    let told = told?;
    let seconds = match told.as_str() {
        Some(text) => text.trim().parse().ok()?,
        None => told.as_f64()?,
    };
    if seconds.is_nan() {
        return None;
    }
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST_LIFE.as_secs_f64())).ok()
}

/// Whether one of `errors[].code` is 400.
fn says_400(said: &Value) -> bool {
    let is_400 = |code: &Value| code.as_str() == Some("400") || code.as_u64() == Some(400);
    said.get("errors")
        .and_then(Value::as_array)
        .is_some_and(|errors| errors.iter().filter_map(|error| error.get("code")).any(is_400))
}

fn oauth_error(said: &str) -> OAuthError {
    match said {
        "invalid_grant" => OAuthError::InvalidGrant,
        "invalid_client" => OAuthError::InvalidClient,
        "invalid_scope" => OAuthError::InvalidScope,
        "invalid_request" => OAuthError::InvalidRequest,
        "unauthorized_client" => OAuthError::UnauthorizedClient,
        "unsupported_grant_type" => OAuthError::UnsupportedGrantType,
        _ => OAuthError::Unnamed,
    }
}

/// A date is compared with the server's own `Date`, where there is one: its clock may not be ours.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::to_str)?.ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    let pause = if !asked.is_empty() && asked.bytes().all(|b| b.is_ascii_digit()) {
        // So many digits that they do not fit are a long time.
        asked.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let date = |text| httpdate::parse_http_date(text).ok();
        let now = text(DATE).and_then(date).unwrap_or(now);
        date(asked)?.duration_since(now).unwrap_or_default()
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    use serde_json::json;

    use super::*;

    fn path(dotted: &str) -> Vec<String> {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "the test compares the text")]
    fn text(secret: &Secret) -> String {
        secret.expose().to_owned()
    }

    fn token(body: &Value, key: &str) -> Result<String, Trouble> {
        granted(body.to_string().as_bytes(), &path(key)).map(|answer| text(&answer.token))
    }

    #[test]
    fn the_token_stands_where_the_key_says_else_in_access_token() {
        for (key, body) in [
            (
                "accessToken",
                json!({"accessToken": "T", "access_token": "other"}),
            ),
            ("accessToken", json!({"access_token": "T"})),
            ("accessToken", json!({"accessToken": "", "access_token": "T"})),
            ("accessToken", json!({"accessToken": 7, "access_token": "T"})),
            ("access_token", json!({"access_token": "T"})),
            ("data.session.token", json!({"data": {"session": {"token": "T"}}})),
            ("data.session.token", json!({"data": "x", "access_token": "T"})),
            (
                "data.session.token",
                json!({"data": {"session": null}, "access_token": "T"}),
            ),
        ] {
            assert_eq!(token(&body, key).as_deref(), Ok("T"), "{key} in {body}");
        }
    }

    #[test]
    fn a_200_without_a_token_is_nonsense() {
        let none = Err(Trouble::Nonsense("it holds no token"));
        for body in [
            json!({}),
            json!([]),
            json!("T"),
            json!(null),
            json!({"access_token": {"a": 1}}),
        ] {
            assert_eq!(token(&body, "accessToken"), none, "{body}");
        }
        for body in [
            "",
            "<html>T</html>",
            r#"{"access_token":"T""#,
            "{\"access_token\":\"\u{0}\"}",
        ] {
            let read = granted(body.as_bytes(), &path("accessToken"));
            assert_eq!(
                read.unwrap_err(),
                Trouble::Nonsense("its body is not JSON"),
                "{body}"
            );
        }
    }

    #[test]
    fn a_lifetime_may_come_in_any_form() {
        for (told, seconds) in [
            (json!(86386), Some(86_386.0)),
            (json!("3600"), Some(3600.0)),
            (json!(" 3600 "), Some(3600.0)),
            (json!(1.5), Some(1.5)),
            (json!("59.5"), Some(59.5)),
            (json!(0), Some(0.0)),
            (json!(-1), Some(0.0)),
            (json!("-86400"), Some(0.0)),
            (json!(1e30), Some(LONGEST_LIFE.as_secs_f64())),
            (json!(u64::MAX), Some(LONGEST_LIFE.as_secs_f64())),
            (json!("inf"), Some(LONGEST_LIFE.as_secs_f64())),
            (json!("NaN"), None),
            (json!("soon"), None),
            (json!(null), None),
            (json!(true), None),
            (json!([60]), None),
        ] {
            let body = json!({"access_token": "T", "expires_in": told}).to_string();
            let answer = granted(body.as_bytes(), &path("accessToken")).unwrap();
            assert_eq!(answer.expires_in.map(|d| d.as_secs_f64()), seconds, "{told}");
        }
        let nested = json!({"data": {"t": "T", "expires_in": 60}}).to_string();
        let answer = granted(nested.as_bytes(), &path("data.t")).unwrap();
        assert_eq!(answer.expires_in, Some(Duration::from_mins(1)));
    }

    #[test]
    fn a_refresh_token_is_understood() {
        let body = json!({"access_token": "T", "refresh_token": "R", "Retailer_id": 1}).to_string();
        let answer = granted(body.as_bytes(), &path("accessToken")).unwrap();
        assert_eq!(answer.refresh_token.as_ref().map(text).as_deref(), Some("R"));
        assert!(!format!("{answer:?}").contains("\"T\""), "{answer:?}");
    }

    #[test]
    fn every_4xx_is_a_refusal_but_those_that_pass() {
        for code in 100..600 {
            let status = StatusCode::from_u16(code).unwrap();
            let refused = matches!(
                declined(status, &HeaderMap::new(), b"<html>"),
                GrantError::Refused(refusal) if refusal.status == status
            );
            let passing = [404, 408, 425, 429].contains(&code);
            assert_eq!(refused, (400..500).contains(&code) && !passing, "{code}");
        }
    }

    #[test]
    fn a_500_that_says_400_is_a_refusal() {
        let refused = |body: Value| {
            let error = declined(
                StatusCode::INTERNAL_SERVER_ERROR,
                &HeaderMap::new(),
                body.to_string().as_bytes(),
            );
            matches!(error, GrantError::Refused(_))
        };
        assert!(refused(
            json!({"errors": [{"code": "400", "message": "incorrect"}]})
        ));
        assert!(refused(json!({"errors": [{"code": "1"}, {"code": 400}]})));
        assert!(!refused(json!({"errors": [{"code": "500"}]})));
        assert!(!refused(json!({"errors": [{"message": "400"}]})));
        assert!(!refused(json!({"errors": "400"})));
        assert!(!refused(json!({"error": "invalid_grant"})));
    }

    #[test]
    fn a_refusal_names_an_error_of_the_closed_set() {
        for (said, error) in [
            ("invalid_grant", OAuthError::InvalidGrant),
            ("invalid_client", OAuthError::InvalidClient),
            ("invalid_scope", OAuthError::InvalidScope),
            ("invalid_request", OAuthError::InvalidRequest),
            ("unauthorized_client", OAuthError::UnauthorizedClient),
            ("unsupported_grant_type", OAuthError::UnsupportedGrantType),
            ("password hunter2 is wrong", OAuthError::Unnamed),
        ] {
            let body = json!({"error": said, "error_description": "hunter2"}).to_string();
            let declined = declined(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes());
            let shown = format!("{declined} {declined:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(matches!(declined, GrantError::Refused(refusal) if refusal.error == error));
        }
    }

    #[test]
    fn retry_after_is_honoured_in_seconds_and_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // the RFC's own example
        let read = |value: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            headers.extend(date.map(|date| (DATE, HeaderValue::from_static(date))));
            retry_after(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(read("120", None), Some(120));
        assert_eq!(read(" 0 ", None), Some(0));
        assert_eq!(read("99999999999999999999999", None), Some(3600));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT", None), Some(10));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:27 GMT", None), Some(0));
        assert_eq!(read("Sat, 06 Nov 1999 08:49:37 GMT", None), Some(3600));
        let server = Some("Sun, 06 Nov 1994 08:49:40 GMT");
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT", server), Some(7));
        for nonsense in [
            "",
            "-1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994 08:49:47",
            "Sun, 06 Foo 1994 08:49:47 GMT",
        ] {
            assert_eq!(read(nonsense, None), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_an_endpoint_says_makes_the_reader_panic(
            body in prop::collection::vec(any::<u8>(), 0..200),
            header in "[ -~]{0,40}",
            status in 100_u16..600,
        ) {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(&header).unwrap())]);
            let _ = declined(StatusCode::from_u16(status).unwrap(), &headers, &body);
            let _ = granted(&body, &path("a.b"));
            let _ = retry_after(&headers, SystemTime::now());
        }
    }
}
