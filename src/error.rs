//! Every fault becomes one answer.
//!
//! 1. Whose fault it was is told twice: a fixed sentence to the caller ([`ProxyError::message`]), the whole
//!    chain to the operator (`Display` and `source`).
//! 2. A sentence to the caller holds no secret, URL, address or foreign text.
//! 3. Each answer carries `Proxy-Status` (RFC 9209), which no answer from upstream carries.
//! 4. The functions are total and name every variant: a new fault does not compile until it has an answer.

mod refused;

use std::error::Error as StdError;
use std::time::Duration;

use axum::body::Body;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;
use tracing::Level;

use crate::body::BodyError;
use crate::clock::whole_seconds;
use crate::graphql::Refusal;
use crate::guard::Rejection;
use crate::places::NoPlace;
use crate::telemetry::{CALLER_GONE, Failure, INTERNAL, caller_gone};
use crate::token::TokenError;
use crate::unreachable::Unreachable;
use crate::upstream::UpstreamError;

/// The header that tells that the proxy itself answered (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// The header by which one request is found again in every log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const GRAPHQL_JSON: &str = "application/graphql-response+json";

/// Why the proxy itself answers.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The guard let it not pass.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The rules for what is asked let it not pass.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// `/instances/NAME/…` names no instance of the settings.
    #[error("the path names an instance that the settings do not know")]
    InstanceUnknown,
    /// `x-fluent-user` names no user of the instance.
    #[error("x-fluent-user names a user that the instance does not know")]
    UserUnknown,
    /// The body is longer than `listen.max_body`.
    #[error("the request's body is longer than listen.max_body")]
    BodyTooLarge,
    /// The body is longer than `graphql.inspect_limit`.
    #[error("the request's body is longer than graphql.inspect_limit")]
    TooLargeToInspect,
    /// The caller paused for longer than `listen.body_timeout` within the body.
    #[error("the caller paused for longer than listen.body_timeout within the request's body")]
    BodyStalled,
    /// The caller left before its request was read.
    #[error("the caller left before its request was read to the end")]
    CallerGone,
    /// Too many requests are under way.
    #[error("overloaded")]
    Overloaded(#[from] NoPlace),
    /// Too many bodies are held to be judged.
    #[error("graphql.inspect_memory is used up by the bodies of requests that are judged")]
    NoMemoryToInspect,
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no answer from upstream.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The answer did not come to its end, after its head had gone to the caller.
    #[error("the answer was cut, as its end did not come from upstream")]
    Cut,
    /// A bug.
    #[error("a bug in the proxy")]
    Internal,
}

/// Whose fault it was: sets the level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's.
    Client,
    /// The proxy's own, or its settings'.
    Proxy,
    /// The credentials', or the token endpoint's.
    Identity,
    /// Fluent's, or the network's on the way there.
    Upstream,
}

impl Fault {
    /// The word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Identity => "identity",
            Self::Upstream => "upstream",
        }
    }

    /// How loudly the log tells of it: what an operator must act on is louder than what a caller did wrong.
    fn level(self) -> Level {
        match self {
            Self::Client => Level::INFO,
            Self::Identity | Self::Upstream => Level::WARN,
            Self::Proxy => Level::ERROR,
        }
    }
}

/// What an error comes to: one row of the table of answers.
struct Row {
    fault: Fault,
    status: StatusCode,
    code: &'static str,
    /// The proxy error type of RFC 9209, section 2.3.
    proxy_status: &'static str,
    message: &'static str,
}

impl Row {
    /// What a caller did wrong.
    fn client(
        status: StatusCode,
        code: &'static str,
        proxy_status: &'static str,
        message: &'static str,
    ) -> Self {
        Self {
            fault: Fault::Client,
            status,
            code,
            proxy_status,
            message,
        }
    }
}

impl ProxyError {
    /// Whose fault it was.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.row().fault
    }

    /// The status of the answer; 499 stands in logs only, as nobody is there to read it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.row().status
    }

    /// The code in the answer's `extensions`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// The sentence that the caller reads.
    #[must_use]
    pub fn message(&self) -> &'static str {
        self.row().message
    }

    fn row(&self) -> Row {
        match self {
            Self::Rejected(rejection) => rejected(*rejection),
            Self::Refused(refusal) => refused::row(*refusal),
            Self::InstanceUnknown => Row {
                fault: Fault::Client,
                status: StatusCode::NOT_FOUND,
                code: "INSTANCE_UNKNOWN",
                proxy_status: "destination_not_found",
                message: "The path names an instance that this proxy does not know.",
            },
            Self::UserUnknown => Row {
                fault: Fault::Client,
                status: StatusCode::BAD_REQUEST,
                code: "USER_UNKNOWN",
                proxy_status: "http_request_error",
                message: "The header x-fluent-user names a user that this proxy does not know.",
            },
            Self::BodyTooLarge => Row {
                fault: Fault::Client,
                status: StatusCode::PAYLOAD_TOO_LARGE,
                code: "BODY_TOO_LARGE",
                proxy_status: "http_request_denied",
                message: "The request's body is longer than this proxy takes.",
            },
            Self::TooLargeToInspect => Row {
                fault: Fault::Client,
                status: StatusCode::PAYLOAD_TOO_LARGE,
                code: "BODY_TOO_LARGE",
                proxy_status: "http_request_denied",
                message: "The request's body is longer than the rules of this proxy read.",
            },
            Self::BodyStalled => Row {
                fault: Fault::Client,
                status: StatusCode::REQUEST_TIMEOUT,
                code: "REQUEST_TIMEOUT",
                proxy_status: "http_request_error",
                message: "The rest of the request's body did not come in time.",
            },
            Self::CallerGone => Row {
                fault: Fault::Client,
                status: caller_gone(),
                code: CALLER_GONE,
                proxy_status: "http_request_error",
                message: "The caller left.",
            },
            Self::Overloaded(NoPlace::QueueFull | NoPlace::TimedOut) => Row {
                fault: Fault::Proxy,
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "OVERLOADED",
                proxy_status: "connection_limit_reached",
                message: "The proxy has as many requests under way as it takes; this one was not sent.",
            },
            Self::NoMemoryToInspect => Row {
                fault: Fault::Proxy,
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "OVERLOADED",
                proxy_status: "connection_limit_reached",
                message: "The proxy holds as many bodies of requests as it takes; this one was not sent.",
            },
            Self::Token(TokenError::Refused { .. }) => Row {
                fault: Fault::Identity,
                status: StatusCode::BAD_GATEWAY,
                code: "CREDENTIALS_REFUSED",
                proxy_status: "proxy_configuration_error",
                message: "Fluent refused the proxy's credentials; no login is tried until the cool-down is over.",
            },
            Self::Token(TokenError::Unavailable { .. }) => Row {
                fault: Fault::Identity,
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "TOKEN_UNAVAILABLE",
                proxy_status: "destination_unavailable",
                message: "The proxy cannot get a token from Fluent at the moment.",
            },
            Self::Upstream(error) => upstream(error),
            Self::Cut => Row {
                fault: Fault::Upstream,
                status: StatusCode::BAD_GATEWAY,
                code: "UPSTREAM_INTERRUPTED",
                proxy_status: "http_response_incomplete",
                message: "The answer of Fluent did not come to its end.",
            },
            Self::Internal => Row {
                fault: Fault::Proxy,
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: INTERNAL,
                proxy_status: "proxy_internal_error",
                message: "The proxy failed on this request; this is a bug.",
            },
        }
    }

    /// The time after which the same request may succeed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Token(
                TokenError::Refused { retry_after, .. } | TokenError::Unavailable { retry_after, .. },
            ) => Some(*retry_after),
            // Places and memory come free all the time.
            Self::Overloaded(_) | Self::NoMemoryToInspect => Some(Duration::from_secs(1)),
            Self::Rejected(_)
            | Self::Refused(_)
            | Self::InstanceUnknown
            | Self::UserUnknown
            | Self::BodyTooLarge
            | Self::TooLargeToInspect
            | Self::BodyStalled
            | Self::CallerGone
            | Self::Upstream(_)
            | Self::Cut
            | Self::Internal => None,
        }
    }

    /// The answer to a caller who sent `accept` (its `Accept` headers) and is known as `request_id`.
    #[must_use]
    pub fn answer(&self, accept: Accept, request_id: &HeaderValue) -> Response<Body> {
        let row = self.row();
        let id = request_id.to_str().unwrap_or_default();
        let body = json!({
            "errors": [{
                "message": row.message,
                "extensions": { "code": row.code, "requestId": id },
            }],
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(accept.media_type()));
        headers.insert(REQUEST_ID, request_id.clone());
        if let Ok(value) = HeaderValue::try_from(format!("fluent-auth-proxy; error={}", row.proxy_status)) {
            headers.insert(PROXY_STATUS, value);
        }
        if let Some(time) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(header_seconds(time)));
        }
        if let Self::Rejected(Rejection::MethodNotAllowed { allow }) = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }

    /// The error with all its causes, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let sentence = error.to_string();
            // Transparent errors repeat the one above them.
            if !text.ends_with(&sentence) {
                text.push_str(": ");
                text.push_str(&sentence);
            }
            cause = error.source();
        }
        text
    }
}

impl From<BodyError> for ProxyError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge,
            BodyError::Stalled => Self::BodyStalled,
            BodyError::CallerGone => Self::CallerGone,
        }
    }
}

impl From<&ProxyError> for Failure {
    fn from(error: &ProxyError) -> Self {
        let row = error.row();
        Self {
            code: row.code,
            fault: row.fault.as_str(),
            level: row.fault.level(),
            detail: error.chain(),
        }
    }
}

fn rejected(rejection: Rejection) -> Row {
    let denied = "http_request_denied";
    match rejection {
        Rejection::LoopDetected => loop_detected(),
        Rejection::HostNotAllowed => Row::client(
            StatusCode::MISDIRECTED_REQUEST,
            "HOST_NOT_ALLOWED",
            denied,
            "The header Host names nobody whom this proxy answers for; listen.allowed_hosts can allow it.",
        ),
        Rejection::PeerNotAllowed => Row::client(
            StatusCode::FORBIDDEN,
            "PEER_NOT_ALLOWED",
            denied,
            "The user who runs the caller may not use this proxy; listen.allowed_uids can allow it.",
        ),
        Rejection::CrossOrigin => Row::client(
            StatusCode::FORBIDDEN,
            "CROSS_ORIGIN",
            denied,
            "The request comes from a page of another origin; listen.allowed_origins can allow it.",
        ),
        Rejection::HeaderRequired => Row::client(
            StatusCode::PRECONDITION_FAILED,
            "HEADER_REQUIRED",
            denied,
            "The request lacks the header that listen.required_header asks for.",
        ),
        Rejection::ContentTypeNotAllowed => Row::client(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "CONTENT_TYPE_NOT_ALLOWED",
            denied,
            "The header Content-Type is missing or one that a form can send; send application/json.",
        ),
        Rejection::PathNotFound => Row::client(
            StatusCode::NOT_FOUND,
            "PATH_NOT_FOUND",
            "destination_not_found",
            "The path is not one that this proxy serves; listen.paths can add it.",
        ),
        Rejection::MethodNotAllowed { .. } => Row::client(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            denied,
            "The path does not take this method.",
        ),
    }
}

/// Whether the request came back, or was about to.
fn loop_detected() -> Row {
    Row {
        fault: Fault::Proxy,
        status: StatusCode::LOOP_DETECTED,
        code: "LOOP_DETECTED",
        proxy_status: "proxy_loop_detected",
        message: "The upstream URL of this proxy leads back to it, so the request would go round for ever.",
    }
}

fn upstream(error: &UpstreamError) -> Row {
    let row = |status, code, proxy_status, message| Row {
        fault: Fault::Upstream,
        status,
        code,
        proxy_status,
        message,
    };
    match error {
        UpstreamError::Unreachable(Unreachable::Itself, _) => loop_detected(),
        UpstreamError::Unreachable(cause, _) => row(
            StatusCode::BAD_GATEWAY,
            "UPSTREAM_UNREACHABLE",
            match cause {
                Unreachable::Name => "dns_error",
                Unreachable::Time => "connection_timeout",
                Unreachable::Refused => "connection_refused",
                Unreachable::CertificateName
                | Unreachable::CertificateTime
                | Unreachable::CertificateAuthority
                | Unreachable::Certificate
                | Unreachable::ClientCertificate => "tls_certificate_error",
                Unreachable::Tls => "tls_protocol_error",
                Unreachable::ProxyCredentials => "proxy_configuration_error",
                Unreachable::Itself => "proxy_loop_detected",
                Unreachable::ProxyRefused(_) | Unreachable::Proxy | Unreachable::Other => {
                    "destination_unavailable"
                }
            },
            "The proxy cannot connect to Fluent.",
        ),
        UpstreamError::Nonsense(_) => row(
            StatusCode::BAD_GATEWAY,
            "UPSTREAM_INTERRUPTED",
            "http_protocol_error",
            "What Fluent answered is no HTTP; whether the request took effect is not known.",
        ),
        UpstreamError::Unanswered(_) | UpstreamError::Interrupted(_) | UpstreamError::Request(_) => row(
            StatusCode::BAD_GATEWAY,
            "UPSTREAM_INTERRUPTED",
            "connection_terminated",
            "The connection to Fluent died before an answer; whether the request took effect is not known.",
        ),
        UpstreamError::TimedOut => row(
            StatusCode::GATEWAY_TIMEOUT,
            "UPSTREAM_TIMEOUT",
            "http_response_timeout",
            "Fluent did not answer in time; whether the request took effect is not known.",
        ),
    }
}

/// `Retry-After` knows whole seconds only: at least one, as zero would ask for a loop.
fn header_seconds(time: Duration) -> u64 {
    whole_seconds(time).max(1)
}

/// The media type in which a caller wants answers of the proxy itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// `application/graphql-response+json`: named by the caller.
    GraphQl,
    /// `application/json`: for all others, as GraphQL over HTTP says.
    Json,
}

impl Accept {
    /// What the caller's `Accept` headers ask for. A wildcard is no wish for the newer type.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let ranges = headers
            .get_all(http::header::ACCEPT)
            .into_iter()
            // What is shorter cannot name it, and most are.
            .filter(|value| value.len() >= GRAPHQL_JSON.len())
            .filter_map(|value| value.to_str().ok());
        let named = ranges.flat_map(|value| value.split(',')).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            media.eq_ignore_ascii_case(GRAPHQL_JSON) && !parts.any(is_zero_weight)
        });
        if named { Self::GraphQl } else { Self::Json }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::GraphQl => GRAPHQL_JSON,
            Self::Json => "application/json",
        }
    }
}

fn is_zero_weight(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q")
            && weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0)
    })
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    fn accept(value: &'static str) -> Accept {
        Accept::of(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_newer_media_type_is_for_callers_who_name_it() {
        assert_eq!(accept("application/graphql-response+json"), Accept::GraphQl);
        assert_eq!(
            accept("text/html, Application/GraphQL-Response+JSON;q=0.9"),
            Accept::GraphQl
        );
        assert_eq!(
            accept("application/graphql-response+json;q=0, application/json"),
            Accept::Json
        );
        assert_eq!(accept("*/*"), Accept::Json);
        assert_eq!(Accept::of(&HeaderMap::new()), Accept::Json);
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_too_early() {
        assert_eq!(header_seconds(Duration::from_millis(1)), 1);
        assert_eq!(header_seconds(Duration::from_secs(16)), 16);
        assert_eq!(header_seconds(Duration::from_millis(16_001)), 17);
        assert_eq!(header_seconds(Duration::ZERO), 1);
    }

    #[test]
    fn an_answer_has_the_shape_of_graphql_over_http() {
        let id = HeaderValue::from_static("abc");
        let error = ProxyError::Rejected(Rejection::MethodNotAllowed { allow: "GET, POST" });
        let response = error.answer(Accept::GraphQl, &id);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET, POST");
        assert_eq!(response.headers()[CONTENT_TYPE], GRAPHQL_JSON);
        assert_eq!(response.headers()[REQUEST_ID], "abc");
        assert_eq!(
            response.headers()[PROXY_STATUS],
            "fluent-auth-proxy; error=http_request_denied"
        );
    }

    #[test]
    fn a_bug_is_the_proxys_own_fault() {
        let response = ProxyError::Internal.answer(Accept::Json, &HeaderValue::from_static("abc"));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            response.headers()[PROXY_STATUS],
            "fluent-auth-proxy; error=proxy_internal_error"
        );
        assert_eq!(ProxyError::Internal.fault(), Fault::Proxy);
    }
}
