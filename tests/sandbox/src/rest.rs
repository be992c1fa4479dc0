//! The vendor's REST paths: events, jobs with batches, transitions, plugins. Simple but plausible.
//!
//! 1. A synchronous event fails as the vendor says: HTTP 400 with `eventStatus` `FAILED`, or `NO_MATCH`; here
//!    one whose name contains that word.
//! 2. Listing events filters by dotted keys and says which it understood.
//! 3. An event that is taken stands in the record like a mutation: field `event/sync` or `event/async`, its
//!    `entityRef` as `ref`.

use crate::graphql::whole;
use crate::lock;
use crate::pipeline::{Caller, World, error};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How many events are remembered.
const REMEMBERED: usize = 1_000;

type Shared = Arc<Desk>;

/// What the REST paths work on.
struct Desk {
    world: Arc<World>,
    ids: AtomicU64,
    events: Mutex<VecDeque<Value>>,
}

impl Desk {
    fn id(&self) -> String {
        self.ids.fetch_add(1, Ordering::Relaxed).to_string()
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Value, Response> {
        let body = whole(headers, body, self.world.config.body_limit).await?;
        serde_json::from_slice(&body).map_err(|_| error(StatusCode::BAD_REQUEST, "400", "Invalid JSON"))
    }
}

/// The routes of the REST paths.
pub(crate) fn routes(world: Arc<World>) -> Router {
    let desk = Desk {
        world,
        ids: AtomicU64::new(1),
        events: Mutex::default(),
    };
    Router::new()
        .route("/api/v4.1/event", get(events))
        .route("/api/v4.1/event/{kind}", post(event).get(event_by_id))
        .route("/api/v4.1/job", post(job))
        .route("/api/v4.1/job/{job}", get(job_by_id))
        .route("/api/v4.1/job/{job}/results", get(results))
        .route("/api/v4.1/job/{job}/batch", post(batch))
        .route("/api/v4.1/job/{job}/batch/{batch}", get(batch_by_id))
        .route("/api/v4.1/transition", post(transition))
        .route("/orchestration/rest/v1/plugin/", get(async || Json(json!({}))))
        .route(
            "/orchestration/rest/v1/plugin/{*path}",
            get(async || Json(json!({}))),
        )
        .with_state(Arc::new(desk))
}

async fn event(
    State(desk): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (field, done) = match kind.as_str() {
        "async" => ("event/async", "PENDING"),
        "sync" => ("event/sync", "COMPLETE"),
        _ => return error(StatusCode::NOT_FOUND, "404", "Not Found"),
    };
    let given = match desk.read(&headers, body).await {
        Ok(given) => given,
        Err(response) => return response,
    };
    let Some(name) = given.get("name").and_then(Value::as_str) else {
        return error(StatusCode::BAD_REQUEST, "400", "An event has a name");
    };
    let failure = ["FAILED", "NO_MATCH"]
        .into_iter()
        .find(|word| kind == "sync" && name.contains(word));
    let id = desk.id();
    let part = |key: &str| given.get(key).cloned().unwrap_or_default();
    let context: Map<String, Value> = [
        "entityType",
        "entityId",
        "entityRef",
        "rootEntityType",
        "rootEntityRef",
    ]
    .into_iter()
    .map(|key| (key.to_owned(), part(key)))
    .collect();
    let event = json!({
        "id": id,
        "name": name,
        "type": "NORMAL",
        "eventStatus": failure.unwrap_or(done),
        "retailerId": part("retailerId"),
        "context": context,
        "attributes": part("attributes"),
    });
    {
        let mut events = lock(&desk.events);
        events.push_back(event);
        if events.len() > REMEMBERED {
            events.pop_front();
        }
    }
    let reference = given.get("entityRef").and_then(Value::as_str).unwrap_or_default();
    let answer = json!({"id": id, "entityRef": reference, "eventStatus": failure.unwrap_or(done)});
    if failure.is_some() {
        return (StatusCode::BAD_REQUEST, Json(answer)).into_response();
    }
    caller.ticket.mutated(field, reference);
    Json(answer).into_response()
}

async fn events(State(desk): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let filters: Vec<_> = query
        .into_iter()
        .filter(|(key, _)| key != "start" && key != "count")
        .collect();
    let results: Vec<Value> = lock(&desk.events)
        .iter()
        .filter(|event| {
            filters
                .iter()
                .all(|(key, value)| at(event, key).is_none_or(|found| found == *value))
        })
        .cloned()
        .collect();
    let filters: Map<String, Value> = filters
        .into_iter()
        .map(|(key, value)| (key, json!(value)))
        .collect();
    let count = results.len();
    Json(json!({"start": 1, "count": count, "total": count, "hasMore": false, "filters": filters, "results": results}))
        .into_response()
}

async fn event_by_id(State(desk): State<Shared>, Path(id): Path<String>) -> Response {
    let found = lock(&desk.events)
        .iter()
        .find(|event| at(event, "id") == Some(id.as_str().into()))
        .cloned();
    match found {
        Some(event) => Json(event).into_response(),
        None => error(StatusCode::NOT_FOUND, "404", "No such event"),
    }
}

async fn job(State(desk): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match desk.read(&headers, body).await {
        Ok(_) => Json(json!({"id": desk.id()})).into_response(),
        Err(response) => response,
    }
}

async fn job_by_id(Path(job): Path<String>) -> Json<Value> {
    Json(json!({"jobId": job, "status": "OPEN", "batch": []}))
}

async fn results(Path(job): Path<String>) -> Json<Value> {
    Json(json!({"jobId": job, "start": 1, "count": 0, "total": 0, "results": []}))
}

async fn batch(State(desk): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match desk.read(&headers, body).await {
        Ok(given) if given.get("entities").is_some_and(Value::is_array) => {
            Json(json!({"id": desk.id()})).into_response()
        }
        Ok(_) => error(StatusCode::BAD_REQUEST, "400", "A batch has entities"),
        Err(response) => response,
    }
}

async fn batch_by_id(Path((job, batch)): Path<(String, String)>) -> Json<Value> {
    Json(json!({"jobId": job, "batchId": batch, "status": "COMPLETE"}))
}

async fn transition(State(desk): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    match desk.read(&headers, body).await {
        Ok(given) => {
            let triggers = given.get("triggers").cloned().unwrap_or_else(|| json!([]));
            Json(json!({"response": [{"triggers": triggers, "userActions": []}]})).into_response()
        }
        Err(response) => response,
    }
}

/// The value under a dotted key, as text.
fn at(event: &Value, key: &str) -> Option<String> {
    match key.split('.').try_fold(event, Value::get)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Some(other.to_string())
        }
    }
}
