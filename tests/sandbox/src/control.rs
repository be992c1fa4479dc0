//! Faults and record over HTTP, on a listener of its own: for the binary, and for tests in other languages.
//!
//! 1. `POST /faults` injects one: `{"place":"api","fault":{"delay":250},"times":{"count":3},"when":
//!    "after_body","path":"/graphql"}`, and answers its id; `DELETE /faults` clears all, `DELETE /faults/ID` one.
//! 2. `POST /revoke` kills all access tokens; `{"refresh_tokens":true}` the refresh tokens too.
//! 3. `POST /skew` moves the server's clock: `{"forward_ms":1000}`, `{"back_ms":1000}`.
//! 4. `GET /seen` tells counts, requests, mutations and broken invariants. No secret.

use crate::faults::{FaultId, Injection};
use crate::pipeline::World;
use crate::seen::{ApiRequest, TokenRequest};
use crate::server::{Connection, Service};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// The service of the control listener.
pub(crate) struct Control {
    router: Router,
}

impl Control {
    pub(crate) fn new(world: Arc<World>) -> Self {
        let router = Router::new()
            .route("/faults", post(inject).delete(clear))
            .route("/faults/{id}", delete(clear_one))
            .route("/revoke", post(revoke))
            .route("/skew", post(skew))
            .route("/seen", get(seen))
            .with_state(world);
        Self { router }
    }
}

impl Service for Control {
    fn connection_opened(&self) -> u64 {
        0
    }

    fn connection_closed(&self) {}

    async fn answer(&self, _: Arc<Connection>, request: Request<Incoming>) -> Response {
        let answer = self.router.clone().oneshot(request.map(Body::new)).await;
        answer.unwrap_or_else(|never| match never {})
    }
}

async fn inject(State(world): State<Arc<World>>, Json(injection): Json<Injection>) -> Json<Value> {
    Json(json!({"id": world.faults.add(injection).number()}))
}

async fn clear(State(world): State<Arc<World>>) -> StatusCode {
    world.faults.clear();
    StatusCode::NO_CONTENT
}

async fn clear_one(State(world): State<Arc<World>>, Path(id): Path<u64>) -> StatusCode {
    world.faults.clear_one(FaultId::from_number(id));
    StatusCode::NO_CONTENT
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    refresh_tokens: bool,
}

async fn revoke(State(world): State<Arc<World>>, revoke: Option<Json<Revoke>>) -> StatusCode {
    world.identity.revoke_access_tokens();
    if revoke.is_some_and(|Json(revoke)| revoke.refresh_tokens) {
        world.identity.revoke_refresh_tokens();
    }
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
enum Skew {
    #[serde(rename = "forward_ms")]
    Forward(u64),
    #[serde(rename = "back_ms")]
    Back(u64),
}

async fn skew(State(world): State<Arc<World>>, Json(skew): Json<Skew>) -> StatusCode {
    match skew {
        Skew::Forward(by) => world.clock.forward(Duration::from_millis(by)),
        Skew::Back(by) => world.clock.back(Duration::from_millis(by)),
    }
    StatusCode::NO_CONTENT
}

async fn seen(State(world): State<Arc<World>>) -> Json<Value> {
    let seen = &world.seen;
    let mutations: Vec<Value> = seen
        .mutations()
        .into_iter()
        .map(|(mutation, count)| json!({"field": mutation.field, "ref": mutation.reference, "count": count}))
        .collect();
    let violations: Vec<Value> = seen
        .login_invariant_violations()
        .into_iter()
        .map(|violation| json!({"username": violation.username, "logins": violation.logins}))
        .collect();
    Json(json!({
        "counts": seen.counts(),
        "token_requests": seen.token_requests().iter().map(token_request).collect::<Vec<_>>(),
        "api_requests": seen.api_requests().iter().map(api_request).collect::<Vec<_>>(),
        "mutations": mutations,
        "login_invariant_violations": violations,
        "pending_faults": world.faults.pending(),
    }))
}

fn token_request(request: &TokenRequest) -> Value {
    json!({
        "number": request.number,
        "grant": request.grant,
        "username": request.username,
        "parameters": request.parameter_names(),
        "parameters_in": request.parameters_in,
        "outcome": request.outcome,
        "status": request.status,
    })
}

fn api_request(request: &ApiRequest) -> Value {
    json!({
        "number": request.number,
        "connection": request.connection,
        "attempt": request.attempt,
        "method": request.method.as_str(),
        "target": request.target,
        "headers": request.headers.iter().filter(|(_, value)| !value.is_sensitive()).map(|(name, value)| {
            [name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()]
        }).collect::<Vec<_>>(),
        "length": request.body.length,
        "sha256": request.body.sha256,
        "whole": request.body.whole,
        "status": request.status,
        "mutations": request.mutations,
    })
}
