//! `POST /oauth/token`: parameters in, the vendor's answers out.
//!
//! 1. Parameters are read from a form body and from the query string; the client's only as parameters.
//! 2. Every answer has the documented status and body, to the letter.
//! 3. The body is read before faults strike, so that the record knows whose login it was.

use crate::config::ExpiresIn;
use crate::faults::{Place, When};
use crate::identity::{Ask, Denied, Grant, Granted, Kind};
use crate::invariant::LoginEnd;
use crate::pipeline::{Answer, Pace, World, suffer};
use crate::seen::{ParametersIn, TokenOutcome, TokenTicket};
use crate::server::Connection;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

/// The one spelling of the path.
pub(crate) const PATH: &str = "/oauth/token";

/// The largest form that is read.
const BODY_LIMIT: usize = 64 * 1024;

type Parameters = Vec<(String, String)>;

/// Answers a token request.
pub(crate) async fn answer(world: &World, connection: &Connection, request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    let mut ticket = world.seen.token_arrived(&parts);
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        ticket.answered(TokenOutcome::Malformed, Some(400), LoginEnd::NoAnswer);
        return oauth(StatusCode::BAD_REQUEST, "invalid_request", "Unreadable body");
    };
    let (parameters, found_in) = read(&parts, &body.to_bytes());
    ticket.read(&parameters, found_in);

    let mut pace = Pace::default();
    for when in [When::BeforeBody, When::AfterBody] {
        let strikes = world.faults.strike(Place::Token, when, PATH);
        if let Some(answer) = suffer(world, strikes, &mut pace).await {
            return pace.set(faulted(answer, connection, &ticket).await);
        }
    }
    let (outcome, response) = judge(world, &parts, &parameters);
    let strikes = world.faults.strike(Place::Token, When::AfterExecution, PATH);
    if let Some(answer) = suffer(world, strikes, &mut pace).await {
        return pace.set(faulted(answer, connection, &ticket).await);
    }
    let accepted = outcome == TokenOutcome::Issued || outcome == TokenOutcome::Same;
    let end = if accepted {
        LoginEnd::Accepted
    } else {
        LoginEnd::NoAnswer
    };
    ticket.answered(outcome, Some(response.status().as_u16()), end);
    pace.set(response)
}

async fn faulted(answer: Answer, connection: &Connection, ticket: &TokenTicket) -> Response {
    match answer {
        Answer::Response(response) => {
            let status = response.status().as_u16();
            // A body that is cut off has no size of its own, only a promise in the head.
            let cut = http_body::Body::size_hint(response.body()).exact().is_none();
            let excused = matches!(status, 502..=504) || (status == 200 && !cut);
            let end = if excused {
                LoginEnd::Excused
            } else {
                LoginEnd::NoAnswer
            };
            ticket.answered(TokenOutcome::Faulted, Some(status), end);
            response
        }
        Answer::End(end) => {
            ticket.answered(TokenOutcome::Faulted, None, LoginEnd::NoAnswer);
            connection.end(end).await
        }
    }
}

fn read(parts: &Parts, body: &[u8]) -> (Parameters, ParametersIn) {
    let is_form = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| {
            value
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    let parse = |bytes| form_urlencoded::parse(bytes).into_owned().collect::<Parameters>();
    let mut parameters = parse(parts.uri.query().unwrap_or_default().as_bytes());
    let form = if is_form { parse(body) } else { Parameters::new() };
    let place = match (form.is_empty(), parameters.is_empty()) {
        (true, true) => ParametersIn::Nowhere,
        (true, false) => ParametersIn::Query,
        (false, true) => ParametersIn::Form,
        (false, false) => ParametersIn::Both,
    };
    parameters.extend(form);
    (parameters, place)
}

fn judge(world: &World, parts: &Parts, parameters: &Parameters) -> (TokenOutcome, Response) {
    let malformed = |error, text: &str| {
        (
            TokenOutcome::Malformed,
            oauth(StatusCode::BAD_REQUEST, error, text),
        )
    };
    if parts.method != Method::POST {
        let response = oauth(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Request method not supported",
        );
        return (TokenOutcome::Malformed, response);
    }
    let value = |name: &str| {
        parameters
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    };
    let missing = |name: &str| malformed("invalid_request", &format!("Missing parameter: {name}"));
    let Some(grant_type) = value("grant_type") else {
        return malformed("invalid_request", "Missing grant type");
    };
    let grant = match grant_type {
        "password" => match (value("username"), value("password")) {
            (Some(username), Some(password)) => Grant::Password { username, password },
            (None, _) => return missing("username"),
            (Some(_), None) => return missing("password"),
        },
        "refresh_token" => match value("refresh_token") {
            Some(token) => Grant::RefreshToken(token),
            None => return missing("refresh_token"),
        },
        "client_credentials" => Grant::ClientCredentials,
        other => {
            return malformed(
                "unsupported_grant_type",
                &format!("Unsupported grant type: {other}"),
            );
        }
    };
    let ask = Ask {
        grant,
        client_id: value("client_id").unwrap_or_default(),
        client_secret: value("client_secret").unwrap_or_default(),
        scope: value("scope"),
        fluent_account: parts
            .headers
            .get("fluent.account")
            .and_then(|value| value.to_str().ok()),
    };
    match world.identity.grant(&ask) {
        Ok(granted) => {
            let tokens = [Some(granted.access_token.clone()), granted.refresh_token.clone()];
            world.seen.given(tokens.into_iter().flatten());
            let outcome = match granted.kind {
                Kind::New => TokenOutcome::Issued,
                Kind::Same => TokenOutcome::Same,
            };
            (outcome, no_store(Json(token(world, &granted)).into_response()))
        }
        Err(denied) => refusal(denied, ask.scope.unwrap_or_default()),
    }
}

fn refusal(denied: Denied, scope: &str) -> (TokenOutcome, Response) {
    let bad = StatusCode::BAD_REQUEST;
    match denied {
        Denied::Client => {
            let response = oauth(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "Bad client credentials",
            );
            (TokenOutcome::ClientRefused, response)
        }
        Denied::Scope => (
            TokenOutcome::ScopeRefused,
            oauth(bad, "invalid_scope", &format!("Invalid scope: {scope}")),
        ),
        Denied::FluentAccount => (
            TokenOutcome::Malformed,
            oauth(bad, "invalid_request", "Missing or unknown fluent.account"),
        ),
        Denied::Credentials => (
            TokenOutcome::Refused,
            oauth(bad, "invalid_grant", "Bad credentials"),
        ),
        Denied::Locked => (
            TokenOutcome::Locked,
            oauth(bad, "invalid_grant", "Bad credentials"),
        ),
        Denied::RefreshToken => (
            TokenOutcome::RefreshRefused,
            oauth(bad, "invalid_grant", "Invalid refresh token"),
        ),
        Denied::SingleSignOn => {
            let message = "The username or password you entered is incorrect. Please try again.";
            let response = crate::pipeline::error(StatusCode::INTERNAL_SERVER_ERROR, "400", message);
            (TokenOutcome::SingleSignOn, response)
        }
    }
}

/// The answer that holds a token, with the vendor's extra fields of mixed case.
fn token(world: &World, granted: &Granted) -> Value {
    let mut answer = Map::new();
    put(
        &mut answer,
        &world.config.token_field,
        json!(granted.access_token),
    );
    answer.insert("token_type".to_owned(), json!("bearer"));
    if let Some(refresh_token) = &granted.refresh_token {
        answer.insert("refresh_token".to_owned(), json!(refresh_token));
    }
    let left = granted.left.as_secs();
    let expires_in = match &world.config.expires_in {
        ExpiresIn::Number => Some(json!(left)),
        ExpiresIn::Text => Some(json!(left.to_string())),
        ExpiresIn::Absent => None,
        ExpiresIn::Exactly(value) => Some(value.clone()),
    };
    if let Some(expires_in) = expires_in {
        answer.insert("expires_in".to_owned(), expires_in);
    }
    answer.insert("scope".to_owned(), json!(world.config.scope));
    answer.insert("Retailer_id".to_owned(), json!(1));
    answer.insert("FirstName".to_owned(), json!("Demo"));
    answer.insert("LastName".to_owned(), json!(granted.account.username));
    answer.insert(
        "Roles".to_owned(),
        json!([{"name": "ADMIN"}, {"name": "RETAILER"}]),
    );
    Value::Object(answer)
}

/// Puts a value under a dotted path.
fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = object.entry(head).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn oauth(status: StatusCode, error: &str, description: &str) -> Response {
    let body = Json(json!({"error": error, "error_description": description}));
    no_store((status, body).into_response())
}

fn no_store(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
