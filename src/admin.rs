//! The admin listener: is it well, and if not, why.
//!
//! 1. `/livez` is 200 while the process works, whatever Fluent does.
//! 2. `/readyz` is 503 until the default instance first held a token, then 200 until the program drains.
//!    `/readyz?token` is 503 whenever that instance has no usable token, which is for monitors; it starts no login.
//! 3. `/status` tells of each token, and never its text.
//! 4. `/metrics` is what monitors scrape.
//! 5. A peer that is not loopback gets `/livez`, `/readyz` and `/metrics` only; for loopback the guard's rules on `Host` and
//!    `Origin` hold, as a browser is a neighbour too.
//! 6. `POST /retry` lets refused credentials be tried once more: those of the default instance, or of the
//!    `instance` and `user` that its JSON names. Nothing but JSON is taken, so that no form of a page can send it.
//! 7. `/` is the dashboard, whose files stand under `/dashboard`; `/events` tells it what happens (see `live`).
//! 8. `PUT /log-level` changes the level of the log while the program runs, under the rules of `/retry`; `GET` tells it.

mod live;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::live::Live;
use crate::console::Pages;
use crate::error::{Accept, ProxyError};
use crate::guard::{Guard, Payload, Rejection};
use crate::metrics::{self, Metrics};
use crate::name::Name;
use crate::server::Peer;
use crate::telemetry::log::{self, LevelError};
use crate::token::cache::{LoginState, Status, TokenCache};

/// Paths that any peer may ask.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The longest body that is read.
const LONGEST_BODY: usize = 4096;

/// What the admin listener tells of.
pub struct Admin {
    tokens: Arc<TokenCache>,
    metrics: Arc<Metrics>,
    urls: BTreeMap<Name, Url>,
    pages: Pages,
    live: Live,
    guard: Guard,
    draining: CancellationToken,
    started: Instant,
}

impl Admin {
    /// Tells of `tokens`, `metrics` and of the instances' `urls`, on the dashboard's `pages` too; `draining` is cancelled when the program begins to end.
    #[must_use]
    pub fn new(
        tokens: Arc<TokenCache>,
        metrics: Arc<Metrics>,
        urls: BTreeMap<Name, Url>,
        pages: Pages,
        guard: Guard,
        draining: CancellationToken,
    ) -> Self {
        Self {
            tokens,
            metrics,
            urls,
            pages,
            live: Live::new(),
            guard,
            draining,
            started: Instant::now(),
        }
    }

    /// Rule 2: why the default instance's own user has no usable token; `otherwise` where it is not refused.
    fn lacks_a_token(&self, otherwise: &'static str) -> Option<&'static str> {
        let status = self.tokens.source(Name::DEFAULT, Name::DEFAULT)?.status();
        if status.state.is_usable() {
            return None;
        }
        Some(match status.login {
            LoginState::Refused => {
                "the credentials of the default instance are refused: check username, password, client and scope"
            }
            LoginState::None | LoginState::Ok | LoginState::Unavailable => otherwise,
        })
    }

    /// Rule 3.
    fn status_page(&self) -> StatusPage<'_> {
        let mut instances: BTreeMap<&str, InstanceStatus<'_>> = BTreeMap::new();
        for (name, url) in &self.urls {
            let url = url.as_str().trim_end_matches('/');
            instances.insert(
                name.as_str(),
                InstanceStatus {
                    url,
                    users: BTreeMap::new(),
                },
            );
        }
        for (instance, user, status) in self.tokens.status() {
            if let Some(instance) = instances.get_mut(instance.as_str()) {
                instance.users.insert(user.as_str(), status);
            }
        }
        StatusPage {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            draining: self.draining.is_cancelled(),
            instances,
        }
    }

    /// The listener's routes; each request carries its [`Peer`] as an extension.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .route("/events", get(live::events))
            .route("/", get(page))
            .route("/dashboard/{file}", get(page))
            .route(
                "/retry",
                post(retry).fallback(|| async { refuse(Rejection::MethodNotAllowed { allow: "POST" }) }),
            )
            .route(
                "/log-level",
                get(log_level).put(set_log_level).fallback(|| async {
                    refuse(Rejection::MethodNotAllowed {
                        allow: "GET, HEAD, PUT",
                    })
                }),
            )
            .fallback(|| async { refuse(Rejection::PathNotFound) })
            .method_not_allowed_fallback(|| async {
                refuse(Rejection::MethodNotAllowed { allow: "GET, HEAD" })
            })
            .layer(DefaultBodyLimit::max(LONGEST_BODY))
            .layer(middleware::from_fn_with_state(Arc::clone(&self), admit))
            .with_state(self)
    }
}

/// Rule 5.
async fn admit(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return ProxyError::Internal.answer(Accept::Json, &HeaderValue::from_static("none"));
    };
    let near = match peer {
        Peer::Tcp { remote, .. } => remote.ip().to_canonical().is_loopback(),
        Peer::Unix { .. } => true,
    };
    let admitted = if near {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let payload = Payload::of(request.body());
        admin
            .guard
            .admit_caller(method, uri, headers, peer.into(), payload)
    } else if OPEN.contains(&request.uri().path()) {
        Ok(())
    } else {
        Err(Rejection::PathNotFound)
    };
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(rejection) => refuse(rejection),
    };
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refuse(rejection: Rejection) -> Response<Body> {
    ProxyError::Rejected(rejection).answer(Accept::Json, &HeaderValue::from_static("none"))
}

/// Rule 2.
async fn readyz(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Response {
    let reason = if admin.draining.is_cancelled() {
        Some("draining")
    } else if asks_for_token(query.as_deref()) {
        admin.lacks_a_token("the default instance has no usable token")
    } else if admin.tokens.has_held_a_token() {
        None
    } else {
        admin.lacks_a_token("the default instance has not held a token yet")
    };
    let Some(reason) = reason else {
        return Json(json!({ "ready": true })).into_response();
    };
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(json!({ "ready": false, "reason": reason })),
    )
        .into_response()
}

fn asks_for_token(query: Option<&str>) -> bool {
    let mut parameters = query.into_iter().flat_map(|query| query.split('&'));
    parameters.any(|parameter| parameter.split('=').next() == Some("token"))
}

/// Whose refusal is cleared.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Retry {
    instance: String,
    user: String,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            instance: Name::DEFAULT.to_owned(),
            user: Name::DEFAULT.to_owned(),
        }
    }
}

/// Rule 6.
async fn retry(State(admin): State<Arc<Admin>>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_json(&headers) {
        return refuse(Rejection::ContentTypeNotAllowed);
    }
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let Ok(whom) = serde_json::from_slice::<Retry>(body) else {
        let sentence = "The body is not JSON with the fields instance and user, both optional.";
        return complain(StatusCode::BAD_REQUEST, sentence);
    };
    let Some(source) = admin.tokens.source(&whom.instance, &whom.user) else {
        let known = admin.urls.contains_key(whom.instance.as_str());
        let error = if known {
            ProxyError::UserUnknown
        } else {
            ProxyError::InstanceUnknown
        };
        return error.answer(Accept::Json, &HeaderValue::from_static("none"));
    };
    let cleared = source.retry().await;
    let next = source.status().next_attempt_in_seconds;
    Json(json!({ "cleared": cleared, "next_attempt_in_seconds": next })).into_response()
}

/// The level of the log.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    level: String,
}

/// Rule 7.
async fn log_level() -> Response {
    match log::level() {
        Ok(level) => Json(LogLevel { level }).into_response(),
        Err(error) => no_level(error),
    }
}

/// Rule 7.
async fn set_log_level(headers: HeaderMap, body: Bytes) -> Response {
    if !is_json(&headers) {
        return refuse(Rejection::ContentTypeNotAllowed);
    }
    let Ok(LogLevel { level }) = serde_json::from_slice(&body) else {
        return complain(
            StatusCode::BAD_REQUEST,
            "The body is not JSON with the field level.",
        );
    };
    match log::set_level(&level) {
        Ok(()) => Json(LogLevel { level }).into_response(),
        Err(error) => no_level(error),
    }
}

fn no_level(error: LevelError) -> Response {
    match error {
        LevelError::Unknown => complain(
            StatusCode::BAD_REQUEST,
            "The level is none; write off, error, warn, info, debug, trace, or directives as log.level takes them.",
        ),
        LevelError::NotOurs => complain(
            StatusCode::CONFLICT,
            "The log of this process was not started by the proxy, and is not changed by it.",
        ),
    }
}

fn complain(status: StatusCode, sentence: &str) -> Response {
    (status, Json(json!({ "error": sentence }))).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Rule 4.
async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match admin.metrics.scrape() {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], page).into_response(),
        Err(fmt::Error) => ProxyError::Internal.answer(Accept::Json, &HeaderValue::from_static("none")),
    }
}

#[derive(Serialize)]
struct StatusPage<'a> {
    version: &'static str,
    uptime_seconds: u64,
    draining: bool,
    instances: BTreeMap<&'a str, InstanceStatus<'a>>,
}

#[derive(Serialize)]
struct InstanceStatus<'a> {
    url: &'a str,
    users: BTreeMap<&'a str, Status>,
}

/// Rule 7.
async fn page(State(admin): State<Arc<Admin>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let page = admin.pages.answer(&method, uri.path(), &headers);
    page.unwrap_or_else(|| refuse(Rejection::PathNotFound))
}

/// Rule 3.
async fn status(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.status_page()).into_response()
}
