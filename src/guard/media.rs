//! Rule 5 of the guard: no form of a page could have sent this.
//!
//! 1. Browsers send a POST of these three types for any page without asking first:
//!    `application/x-www-form-urlencoded`, `multipart/form-data`, `text/plain` (Fetch, "CORS-safelisted
//!    request-header"). They are refused, by type and subtype, in any case and with any parameters.
//! 2. So is a POST with a body and no type, which `fetch` can send too.
//! 3. So is a type that cannot be read, a list of them, and a second `Content-Type`.
//!
//! Other methods that change things make a browser ask first by themselves.

use http::{HeaderMap, Method, header};

use super::headers::sole;
use super::{Payload, Rejection};

/// What pages may send without being asked.
const FORMS: [&str; 3] = [
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/plain",
];

/// Judges the content type of a request.
pub(super) fn admit(method: &Method, headers: &HeaderMap, payload: Payload) -> Result<(), Rejection> {
    if *method != Method::POST || (payload == Payload::Empty && !headers.contains_key(header::CONTENT_TYPE)) {
        return Ok(());
    }
    let media_type = sole(headers, &header::CONTENT_TYPE);
    // Nearly every request says this; the rest has to be read.
    if media_type.is_some_and(|value| value == "application/json") {
        return Ok(());
    }
    let essence = media_type.and_then(|value| value.to_str().ok()).and_then(essence);
    match essence {
        Some(essence) if !FORMS.iter().any(|form| form.eq_ignore_ascii_case(essence)) => Ok(()),
        Some(_) | None => Err(Rejection::ContentTypeNotAllowed),
    }
}

/// `type/subtype` of a media type (RFC 9110, section 8.3.1), if it is exactly one.
fn essence(value: &str) -> Option<&str> {
    let blank = |c| c == ' ' || c == '\t';
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let essence = essence.trim_matches(blank);
    let (kind, subtype) = essence.split_once('/')?;
    let whole = is_token(kind) && is_token(subtype) && !lists(parameters);
    whole.then_some(essence)
}

/// Whether a comma stands outside of quotes, or a quote stays open.
fn lists(parameters: &str) -> bool {
    let mut quoted = false;
    let mut escaped = false;
    for byte in parameters.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return true,
            _ => {}
        }
    }
    quoted
}

/// A `token` of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judge(method: &Method, types: &[&[u8]], payload: Payload) -> Result<(), Rejection> {
        let mut headers = HeaderMap::new();
        for value in types {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap());
        }
        admit(method, &headers, payload)
    }

    fn post(content_type: &str) -> Result<(), Rejection> {
        judge(&Method::POST, &[content_type.as_bytes()], Payload::Present)
    }

    #[test]
    fn what_makes_a_browser_ask_first_passes() {
        for good in [
            "application/json",
            "APPLICATION/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"a,b\"",
            "application/json; a=\"b\\\"c,d\"",
            "application/graphql",
            "application/graphql-response+json ; a=b",
            "application/octet-stream",
            "text/plain2",
            "multipart/mixed; boundary=x",
            "multipart/form-data-x",
        ] {
            assert_eq!(post(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn rule_1_what_a_form_can_send_is_refused() {
        for form in FORMS {
            for dressed in [
                form.to_owned(),
                form.to_uppercase(),
                format!("{form};"),
                format!("{form}; charset=application/json"),
                format!("\t{form} \t; boundary=application/json"),
            ] {
                assert_eq!(post(&dressed), Err(Rejection::ContentTypeNotAllowed), "{dressed}");
                let empty = judge(&Method::POST, &[dressed.as_bytes()], Payload::Empty);
                assert_eq!(empty, Err(Rejection::ContentTypeNotAllowed), "{dressed}, empty");
            }
        }
    }

    #[test]
    fn rule_2_a_body_has_a_type() {
        assert_eq!(
            judge(&Method::POST, &[], Payload::Present),
            Err(Rejection::ContentTypeNotAllowed)
        );
        assert_eq!(judge(&Method::POST, &[], Payload::Empty), Ok(()));
    }

    #[test]
    fn rule_3_a_type_has_one_reading() {
        for bad in [
            "",
            "json",
            "/",
            "application/",
            "/json",
            "application /json",
            "application/json/x",
            "application/json text/plain",
            "application/json, text/plain",
            "application/json,text/plain",
            "application/json; a=b, text/plain",
            "application/json; a=\\, text/plain",
            "application/json; a=\"b",
            "application/json; a=\"\\\", text/plain",
            "*/ *",
            ";application/json",
        ] {
            assert_eq!(post(bad), Err(Rejection::ContentTypeNotAllowed), "{bad}");
        }
        for two in [
            [&b"application/json"[..], b"application/json"],
            [b"application/json", b"text/plain"],
        ] {
            assert!(judge(&Method::POST, &two, Payload::Present).is_err());
        }
        assert!(judge(&Method::POST, &[b"application/json; a=\xff"], Payload::Present).is_err());
    }

    #[test]
    fn other_methods_are_not_asked() {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(judge(&method, &[b"text/plain"], Payload::Present), Ok(()));
        }
    }
}
