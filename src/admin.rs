//! The admin listener: is it well, and if not, why.
//!
//! 1. `/livez` is 200 while the process works, whatever Fluent does.
//! 2. `/readyz` is 503 until the default instance first held a token, then 200 until the program drains.
//! 3. `/status` tells of each token, and never its text.
//! 4. `/metrics` is what monitors scrape.
//! 5. A peer that is not loopback gets `/livez`, `/readyz` and `/metrics` only; for loopback the guard's rules on `Host` and
//!    `Origin` hold, as a browser is a neighbour too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::error::{Accept, ProxyError};
use crate::guard::{Connection, Guard, Payload, Rejection};
use crate::metrics::{self, Metrics};
use crate::name::Name;
use crate::server::Peer;
use crate::token::cache::{Status, TokenCache};

/// Paths that any peer may ask.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// What the admin listener tells of.
pub struct Admin {
    tokens: Arc<TokenCache>,
    metrics: Arc<Metrics>,
    urls: BTreeMap<Name, Url>,
    guard: Guard,
    draining: CancellationToken,
    started: Instant,
}

impl Admin {
    /// Tells of `tokens`, `metrics` and of the instances' `urls`; `draining` is cancelled when the program begins to end.
    #[must_use]
    pub fn new(
        tokens: Arc<TokenCache>,
        metrics: Arc<Metrics>,
        urls: BTreeMap<Name, Url>,
        guard: Guard,
        draining: CancellationToken,
    ) -> Self {
        Self {
            tokens,
            metrics,
            urls,
            guard,
            draining,
            started: Instant::now(),
        }
    }

    /// The listener's routes; each request carries its [`Peer`] as an extension.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/status", get(status))
            .fallback(|| async { refuse(Rejection::PathNotFound) })
            .method_not_allowed_fallback(|| async {
                refuse(Rejection::MethodNotAllowed { allow: "GET, HEAD" })
            })
            .layer(middleware::from_fn_with_state(Arc::clone(&self), admit))
            .with_state(self)
    }
}

/// Rule 5.
async fn admit(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Arc<Peer>>().cloned() else {
        return ProxyError::Internal.answer(Accept::Json, &HeaderValue::from_static("none"));
    };
    let admitted = if peer.remote.ip().to_canonical().is_loopback() {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let payload = Payload::of(request.body());
        admin
            .guard
            .admit_caller(method, uri, headers, Connection::Tcp(peer.local), payload)
            .map(drop)
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
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(rejection: Rejection) -> Response<Body> {
    ProxyError::Rejected(rejection).answer(Accept::Json, &HeaderValue::from_static("none"))
}

/// Rule 2.
async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let reason = if admin.draining.is_cancelled() {
        "draining"
    } else if admin.tokens.has_held_a_token() {
        return Json(json!({ "ready": true })).into_response();
    } else {
        "the default instance has not held a token yet"
    };
    (
        StatusCode::SERVICE_UNAVAILABLE,
        Json(json!({ "ready": false, "reason": reason })),
    )
        .into_response()
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

/// Rule 3.
async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let mut instances: BTreeMap<&str, InstanceStatus<'_>> = BTreeMap::new();
    for (name, url) in &admin.urls {
        let url = url.as_str().trim_end_matches('/');
        instances.insert(
            name.as_str(),
            InstanceStatus {
                url,
                users: BTreeMap::new(),
            },
        );
    }
    for (instance, user, status) in admin.tokens.status() {
        if let Some(instance) = instances.get_mut(instance.as_str()) {
            instance.users.insert(user.as_str(), status);
        }
    }
    let page = StatusPage {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: admin.started.elapsed().as_secs(),
        draining: admin.draining.is_cancelled(),
        instances,
    };
    Json(page).into_response()
}
