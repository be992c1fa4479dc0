//! The reader of what a token endpoint answers, before any answer.
//!
//! The bytes are a line of the status, the path of the token and `Retry-After`, and the body.
//! 1. A token is a text of the answer, where the path says or in `access_token`, and never an empty one.
//! 2. No lifetime and no pause is longer than is believed.
//! 3. What is shown of an answer are words of a closed set, never its text.

#![no_main]

use fluent_auth_proxy::secret::Secret;
use fluent_auth_proxy::token::GrantError;
use fluent_auth_proxy::token::answer::{LONGEST_LIFE, LONGEST_PAUSE, declined, granted};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const ERRORS: [&str; 7] = [
    "invalid_grant",
    "invalid_client",
    "invalid_scope",
    "invalid_request",
    "unauthorized_client",
    "unsupported_grant_type",
    "",
];

#[expect(clippy::disallowed_methods, reason = "the token is compared with the answer")]
fn text(secret: &Secret) -> &str {
    secret.expose()
}

/// Laws 1 and 2 of a 200.
fn check_granted(body: &[u8], path: &[String]) {
    let Ok(answer) = granted(body, path) else { return };
    let read: Value = serde_json::from_slice(body).expect("JSON");
    let token = text(&answer.token);
    let there = path
        .iter()
        .try_fold(&read, |at, name| at.get(name))
        .and_then(Value::as_str);
    let usual = read.get("access_token").and_then(Value::as_str);
    assert!(!token.is_empty());
    assert!(
        [there, usual].contains(&Some(token)),
        "{token:?} is no token of {read}"
    );
    assert!(answer.expires_in.is_none_or(|life| life <= LONGEST_LIFE));
    if let Some(refresh) = &answer.refresh_token {
        assert_eq!(
            read.get("refresh_token").and_then(Value::as_str),
            Some(text(refresh))
        );
    }
    let refresh = answer
        .refresh_token
        .as_ref()
        .map(|_| Secret::new("other".to_owned()));
    let shown = format!(
        "Answer {{ token: Secret(set), expires_in: {:?}, refresh_token: {refresh:?} }}",
        answer.expires_in
    );
    assert_eq!(format!("{answer:?}"), shown);
}

/// Laws 2 and 3 of all others.
fn check_declined(status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    let error = declined(status, headers, body);
    if let GrantError::Unavailable { retry_after, .. } = &error {
        assert!(retry_after.is_none_or(|pause| pause <= LONGEST_PAUSE));
    }
    let shown = error.to_string();
    let known = ERRORS.iter().any(|error| {
        let body = json!({"error": error, "errors": [{"code": 400}]}).to_string();
        shown == declined(status, headers, body.as_bytes()).to_string()
    });
    let unsaid = declined(status, headers, b"").to_string();
    assert!(known || shown == unsaid, "{shown}");
}

fuzz_target!(|bytes: &[u8]| {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let Ok(line) = std::str::from_utf8(line) else {
        return;
    };
    let mut words = line.splitn(3, ' ');
    let status = words
        .next()
        .and_then(|code| code.parse().ok())
        .unwrap_or(StatusCode::BAD_REQUEST);
    let path: Vec<_> = words
        .next()
        .unwrap_or_default()
        .split('.')
        .map(str::to_owned)
        .collect();
    let pause = words.next().and_then(|pause| HeaderValue::from_str(pause).ok());
    let headers = pause
        .map(|pause| (header::RETRY_AFTER, pause))
        .into_iter()
        .collect();
    check_granted(body, &path);
    check_declined(status, &headers, body);
});
