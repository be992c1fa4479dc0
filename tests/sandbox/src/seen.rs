//! The record of what came in.
//!
//! 1. Counts are exact; the detailed record is a ring that forgets the oldest.
//! 2. Waiting is for a count, never for a time.
//! 3. Secrets are there for tests to compare, and never in `Debug`.

mod ticket;

pub(crate) use ticket::{ApiTicket, TokenTicket};

use crate::body::{BodySeen, Tally};
use crate::invariant::{LoginLog, LoginViolation};
use crate::lock;
use http::{HeaderMap, Method, Version, header, request::Parts};
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Exact counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections that are open now.
    pub open_connections: u64,
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// Requests to the token endpoint whose answer is decided.
    pub token_answers: u64,
    /// Of the token requests, those of grant `password`.
    pub password_logins: u64,
    /// Of the token requests, those of grant `refresh_token`.
    pub refreshes: u64,
    /// Of the token requests, those of grant `client_credentials`.
    pub client_logins: u64,
    /// Tokens that were new.
    pub tokens_issued: u64,
    /// Answers that gave the same token again.
    pub tokens_repeated: u64,
    /// Token requests that were refused, locks included.
    pub tokens_refused: u64,
    /// Requests to anything but the token endpoint.
    pub api_requests: u64,
    /// API requests whose whole body came.
    pub api_bodies: u64,
    /// API requests whose answer is decided.
    pub api_answers: u64,
    /// API requests that were let in: the bearer was good.
    pub api_admitted: u64,
    /// API requests answered with 401, whether for the bearer or by a fault.
    pub api_unauthorized: u64,
    /// Mutations executed.
    pub mutations: u64,
    /// Mutations refused, as what they make is there already: perhaps by a mutation that came before.
    pub clashes: u64,
    /// Faults that struck.
    pub faults: u64,
}

/// Where the parameters of a token request stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParametersIn {
    /// There were none.
    Nowhere,
    /// In a form body.
    Form,
    /// In the query string.
    Query,
    /// In both.
    Both,
}

/// What a token request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOutcome {
    /// No answer yet, or the client left before it.
    Unanswered,
    /// A new token.
    Issued,
    /// The token that the holder had, with the time left.
    Same,
    /// Wrong username or password.
    Refused,
    /// The username is locked, whatever the password.
    Locked,
    /// Wrong client.
    ClientRefused,
    /// Wrong scope.
    ScopeRefused,
    /// A refresh token that is used, unknown or expired.
    RefreshRefused,
    /// A single-sign-on user.
    SingleSignOn,
    /// Not a token request: no grant, an unknown one, a missing parameter, a wrong method.
    Malformed,
    /// A fault answered, or nobody did.
    Faulted,
}

/// One request to the token endpoint.
#[derive(Clone)]
pub struct TokenRequest {
    /// Which one it was, counted from 1 among the token requests.
    pub number: u64,
    /// When its head came.
    pub moment: Instant,
    /// Its method.
    pub method: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// The parameter `grant_type`.
    pub grant: Option<String>,
    /// The parameter `username`.
    pub username: Option<String>,
    /// Where the parameters stood.
    pub parameters_in: ParametersIn,
    /// What it came to.
    pub outcome: TokenOutcome,
    /// The status of the answer; `None` when there was none.
    pub status: Option<u16>,
    parameters: Vec<(String, String)>,
}

impl TokenRequest {
    /// A parameter as it was read, secrets included.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The names of the parameters, in order.
    #[must_use]
    pub fn parameter_names(&self) -> Vec<&str> {
        self.parameters.iter().map(|(name, _)| name.as_str()).collect()
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("number", &self.number)
            .field("grant", &self.grant)
            .field("username", &self.username)
            .field("parameters", &self.parameter_names())
            .field("parameters_in", &self.parameters_in)
            .field("outcome", &self.outcome)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A mutation that was executed, or a REST event that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct MutationSeen {
    /// The field, such as `createOrder`; `event/sync` or `event/async` for an event.
    pub field: String,
    /// The `ref` of its input, the entity's for an event.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// One request to anything but the token endpoint.
#[derive(Clone)]
pub struct ApiRequest {
    /// Which one it was, counted from 1 among the API requests.
    pub number: u64,
    /// When its head came.
    pub moment: Instant,
    /// Which connection it came on, counted from 1.
    pub connection: u64,
    /// How often its `x-request-id` has come within the record, this time included; 1 without the header.
    pub attempt: u32,
    /// Its HTTP version.
    pub version: Version,
    /// Its method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: String,
    /// Its headers, names in the order in which they came first. HTTP/2's `:authority` is not among them.
    pub headers: HeaderMap,
    /// What came of its body.
    pub body: BodySeen,
    /// The status of the answer; `None` when there was none.
    pub status: Option<u16>,
    /// The mutations it executed.
    pub mutations: Vec<MutationSeen>,
}

impl ApiRequest {
    /// The bearer token, as it came.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        bearer(&self.headers)
    }
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        f.debug_struct("ApiRequest")
            .field("number", &self.number)
            .field("connection", &self.connection)
            .field("attempt", &self.attempt)
            .field("method", &self.method)
            .field("path", &path)
            .field("headers", &self.headers)
            .field("body", &self.body)
            .field("status", &self.status)
            .field("mutations", &self.mutations)
            .finish_non_exhaustive()
    }
}

/// The record of one sandbox. Clones share it.
#[derive(Clone)]
pub struct Seen {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    keep: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    counts: Counts,
    tokens: VecDeque<Arc<Mutex<TokenRequest>>>,
    api: VecDeque<Arc<ApiEntry>>,
    attempts: HashMap<String, u32>,
    mutations: HashMap<MutationSeen, u64>,
    given: Vec<String>,
    logins: LoginLog,
}

struct ApiEntry {
    head: ApiRequest,
    tally: Arc<Tally>,
    end: Mutex<ApiEnd>,
}

#[derive(Default)]
struct ApiEnd {
    status: Option<u16>,
    mutations: Vec<MutationSeen>,
}

impl Seen {
    /// A record of at most `limit` requests of each kind, with the first `keep` bytes of each body.
    pub(crate) fn new(limit: usize, keep: usize) -> Self {
        let shared = Shared {
            limit,
            keep,
            state: Mutex::default(),
            changed: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The counts as they stand.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.shared.state).counts
    }

    /// Waits until the counts are as wanted, and returns them. Has no timeout of its own.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Counts) -> bool) -> Counts {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let counts = self.counts();
            if wanted(&counts) {
                return counts;
            }
            changed.await;
        }
    }

    /// The token requests that the record still holds, oldest first.
    #[must_use]
    pub fn token_requests(&self) -> Vec<TokenRequest> {
        let entries: Vec<_> = lock(&self.shared.state).tokens.iter().cloned().collect();
        entries.iter().map(|entry| lock(entry).clone()).collect()
    }

    /// The API requests that the record still holds, oldest first.
    #[must_use]
    pub fn api_requests(&self) -> Vec<ApiRequest> {
        let entries: Vec<_> = lock(&self.shared.state).api.iter().cloned().collect();
        entries.iter().map(|entry| entry.snapshot()).collect()
    }

    /// How often a mutation was executed on this `ref`; exact, whatever the record forgot.
    #[must_use]
    pub fn mutation_count(&self, field: &str, reference: &str) -> u64 {
        let key = MutationSeen {
            field: field.to_owned(),
            reference: reference.to_owned(),
        };
        lock(&self.shared.state)
            .mutations
            .get(&key)
            .copied()
            .unwrap_or_default()
    }

    /// Every mutation executed, with how often.
    #[must_use]
    pub fn mutations(&self) -> Vec<(MutationSeen, u64)> {
        let state = lock(&self.shared.state);
        state
            .mutations
            .iter()
            .map(|(mutation, count)| (mutation.clone(), *count))
            .collect()
    }

    /// Every token that was given out, access and refresh tokens alike, but for the first `known` of them; a
    /// token that was given again is there again.
    #[must_use]
    pub fn tokens_since(&self, known: usize) -> Vec<String> {
        let state = lock(&self.shared.state);
        state.given.iter().skip(known).cloned().collect()
    }

    /// Every moment at which the login invariant did not hold: with credentials that were never accepted
    /// before, more than [`LOGIN_LIMIT`](crate::LOGIN_LIMIT) password logins of a username within
    /// [`LOGIN_WINDOW`](crate::LOGIN_WINDOW) that got no 200. Logins answered 502, 503 or 504 do not count.
    #[must_use]
    pub fn login_invariant_violations(&self) -> Vec<LoginViolation> {
        lock(&self.shared.state).logins.violations()
    }

    pub(crate) fn connection_opened(&self) -> u64 {
        self.change(|state| {
            state.counts.connections += 1;
            state.counts.open_connections += 1;
            state.counts.connections
        })
    }

    pub(crate) fn connection_closed(&self) {
        self.change(|state| state.counts.open_connections -= 1);
    }

    pub(crate) fn given(&self, tokens: impl IntoIterator<Item = String>) {
        lock(&self.shared.state).given.extend(tokens);
    }

    pub(crate) fn fault_struck(&self) {
        self.change(|state| state.counts.faults += 1);
    }

    pub(crate) fn token_arrived(&self, head: &Parts) -> TokenTicket {
        let request = self.change(|state| {
            state.counts.token_requests += 1;
            let request = Arc::new(Mutex::new(TokenRequest {
                number: state.counts.token_requests,
                moment: Instant::now(),
                method: head.method.clone(),
                headers: redacted(&head.headers),
                grant: None,
                username: None,
                parameters_in: ParametersIn::Nowhere,
                outcome: TokenOutcome::Unanswered,
                status: None,
                parameters: Vec::new(),
            }));
            state.tokens.push_back(request.clone());
            if state.tokens.len() > self.shared.limit {
                state.tokens.pop_front();
            }
            request
        });
        TokenTicket::new(self.clone(), request)
    }

    pub(crate) fn api_arrived(&self, head: &Parts, connection: u64) -> ApiTicket {
        let tally = Tally::new(self.shared.keep);
        let body = BodySeen {
            length: 0,
            sha256: String::new(),
            kept: bytes::Bytes::new(),
            trailers: None,
            whole: false,
        };
        let mut request = ApiRequest {
            number: 0,
            moment: Instant::now(),
            connection,
            attempt: 1,
            version: head.version,
            method: head.method.clone(),
            target: head
                .uri
                .path_and_query()
                .map_or("*", |target| target.as_str())
                .to_owned(),
            headers: redacted(&head.headers),
            body,
            status: None,
            mutations: Vec::new(),
        };
        let entry = self.change(|state| {
            state.counts.api_requests += 1;
            request.number = state.counts.api_requests;
            if let Some(id) = request_id(&request.headers) {
                let attempts = state.attempts.entry(id.to_owned()).or_default();
                *attempts += 1;
                request.attempt = *attempts;
            }
            let entry = Arc::new(ApiEntry {
                head: request,
                tally,
                end: Mutex::default(),
            });
            state.api.push_back(entry.clone());
            if state.api.len() > self.shared.limit
                && let Some(oldest) = state.api.pop_front()
                && let Some(id) = request_id(&oldest.head.headers)
            {
                let newest = state.attempts.get(id) == Some(&oldest.head.attempt);
                if newest {
                    state.attempts.remove(id);
                }
            }
            entry
        });
        ApiTicket::new(self.clone(), entry)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut lock(&self.shared.state));
        self.shared.changed.notify_waiters();
        result
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl ApiEntry {
    fn snapshot(&self) -> ApiRequest {
        let end = lock(&self.end);
        let (status, mutations) = (end.status, end.mutations.clone());
        ApiRequest {
            body: self.tally.snapshot(),
            status,
            mutations,
            ..self.head.clone()
        }
    }
}

/// The token of an `Authorization: Bearer` header; the scheme in any case, exactly one header, one token.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let one = !token.is_empty() && !token.contains(|c: char| c.is_ascii_whitespace() || c == ',');
    (scheme.eq_ignore_ascii_case("bearer") && one).then_some(token)
}

fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-request-id").and_then(|id| id.to_str().ok())
}

/// The headers, with those that hold secrets marked so that `Debug` hides them.
fn redacted(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for (name, value) in &mut headers {
        if [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(name) {
            value.set_sensitive(true);
        }
    }
    headers
}
