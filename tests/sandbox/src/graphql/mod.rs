//! `/graphql`: the schema over a made-up shop.
//!
//! 1. Business errors are HTTP 200 with `errors[]`; only what is no GraphQL request at all is a 400.
//! 2. Over the body limit is 413, over a complexity of 11,111 is the code C0001E.
//! 3. A GET may only ask, never change.

#![expect(clippy::unused_async, reason = "the macros make resolvers of async functions")]

mod catalogue;
mod input;
mod mutation;
mod page;
mod query;
mod types;

use crate::clock::Clock;
use crate::config::Config;
use crate::pipeline::{Caller, World, error};
use async_graphql::parser::parse_query;
use async_graphql::parser::types::OperationType;
use async_graphql::{EmptySubscription, Error, ErrorExtensions, Request, Schema, ServerError};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use catalogue::Catalogue;
use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use mutation::Mutation;
use query::Query;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use types::{Extendable, Node, Orchestrateable, Referenceable};

/// The documented limit of a request's total complexity.
const COMPLEXITY_LIMIT: usize = 11_111;

type Shop = Schema<Query, Mutation, EmptySubscription>;

/// The shop: its data, and the schema over it.
pub(crate) struct Commerce {
    schema: Shop,
}

/// What resolvers work on.
struct Backend {
    catalogue: Mutex<Catalogue>,
    clock: Arc<Clock>,
    orchestration_time: Duration,
}

impl Commerce {
    pub(crate) fn new(config: &Config, clock: Arc<Clock>) -> Self {
        let catalogue = Mutex::new(Catalogue::seeded(config.seed, config.orders));
        let backend = Backend {
            catalogue,
            clock,
            orchestration_time: config.orchestration_time,
        };
        Self {
            schema: schema().data(backend).finish(),
        }
    }
}

/// The schema as it is served, in the schema definition language.
#[must_use]
pub fn schema_sdl() -> String {
    schema().finish().sdl()
}

fn schema() -> async_graphql::SchemaBuilder<Query, Mutation, EmptySubscription> {
    Schema::build(Query, Mutation, EmptySubscription)
        .limit_complexity(COMPLEXITY_LIMIT)
        .register_output_type::<Node>()
        .register_output_type::<Orchestrateable>()
        .register_output_type::<Extendable>()
        .register_output_type::<Referenceable>()
}

/// The route of `/graphql`.
pub(crate) fn routes(world: Arc<World>) -> Router {
    Router::new()
        .route("/graphql", get(ask).post(ask_or_change))
        .with_state(world)
}

async fn ask_or_change(
    State(world): State<Arc<World>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match whole(&headers, body, world.config.body_limit).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    match serde_json::from_slice::<Request>(&body) {
        Ok(request) => execute(&world, caller, request).await,
        Err(_) => error(StatusCode::BAD_REQUEST, "400", "Invalid JSON"),
    }
}

async fn ask(State(world): State<Arc<World>>, Extension(caller): Extension<Caller>, uri: Uri) -> Response {
    let Ok(request) = async_graphql::http::parse_query_string(uri.query().unwrap_or_default()) else {
        return error(StatusCode::BAD_REQUEST, "400", "Invalid query string");
    };
    if request.query.is_empty() {
        return error(StatusCode::BAD_REQUEST, "400", "Missing query");
    }
    let changes = parse_query(&request.query).is_ok_and(|document| {
        document
            .operations
            .iter()
            .any(|(_, operation)| operation.node.ty != OperationType::Query)
    });
    if changes {
        return error(StatusCode::METHOD_NOT_ALLOWED, "405", "GET allows queries only");
    }
    execute(&world, caller, request).await
}

async fn execute(world: &World, caller: Caller, request: Request) -> Response {
    let request = request.data(caller.ticket.clone()).data(caller.account);
    let mut response = world.commerce.schema.execute(request).await;
    for error in &mut response.errors {
        if is_clash(error) {
            caller.ticket.clashed();
        }
        if error.message == "Query is too complex." {
            *error = too_complex();
        }
    }
    Json(response).into_response()
}

/// Reads a body up to the limit.
///
/// # Errors
/// The 413 over it, a 400 for a body that does not come whole.
pub(crate) async fn whole(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Response> {
    let too_large = || error(StatusCode::PAYLOAD_TOO_LARGE, "413", "Request Entity Too Large");
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|declared: usize| declared > limit) {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(error(StatusCode::BAD_REQUEST, "400", "Bad Request")),
    }
}

fn is_clash(error: &ServerError) -> bool {
    let code = error
        .extensions
        .as_ref()
        .and_then(|extensions| extensions.get("code"));
    code == Some(&Code::Clash.as_str().into())
}

fn too_complex() -> ServerError {
    let message = format!("The query is too complex: its total complexity is over {COMPLEXITY_LIMIT}");
    business(Code::TooComplex, message).into_server_error(async_graphql::Pos::default())
}

/// The vendor's codes for what went wrong in the business, as far as this shop knows them.
#[derive(Clone, Copy)]
enum Code {
    /// C0001E: over the complexity limit.
    TooComplex,
    /// C0020E: an argument that cannot be, or that names nothing.
    Invalid,
    /// C0120E: a change that clashes with what there is.
    Clash,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::TooComplex => "C0001E",
            Self::Invalid => "C0020E",
            Self::Clash => "C0120E",
        }
    }
}

/// A business error.
fn business(code: Code, message: impl Into<String>) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code.as_str()))
}
