//! Callers of every kind, who judge each answer.
//!
//! 1. Every answer is told apart from every other: it holds what this very request asked for.
//! 2. While nothing is wrong with Fluent, every answer is good. While something is, an answer says so: it has a code of
//!    the contract, or a status that Fluent gave, or is cut after its head. No caller is ever left without an answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fluent_sandbox::{Sandbox, Seen};
use http::{Method, Request, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::support::{Answer, Body, full};
use super::ledger::{Known, Ledger};

/// Nobody waits longer for an answer: a time to connect, to log in twice and to be answered twice.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the callers live through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Things go wrong.
    Trouble,
    /// All is well.
    Calm,
    /// Nobody calls.
    Quiet,
    /// It is over.
    Over,
}

/// What all callers share.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) phase: watch::Sender<Phase>,
    pub(super) ledger: Ledger,
    /// Id and reference of orders that there are.
    pub(super) orders: Vec<(String, String)>,
    seen: Seen,
    counts: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Calls {
    pub(super) fn new(orders: Vec<(String, String)>, sandbox: &Sandbox) -> Arc<Self> {
        Arc::new(Self {
            phase: watch::Sender::new(Phase::Calm),
            ledger: Ledger::default(),
            orders,
            seen: sandbox.seen().clone(),
            counts: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    /// How often each kind of answer came.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every wrong answer.
    pub(super) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What Fluent saw of a request that was answered wrongly, and of the logins before it.
    fn story(&self, came: &Came) -> String {
        let Came::Answer(answer) = came else {
            return String::new();
        };
        let id = answer.headers.get("x-request-id");
        let now = Instant::now();
        let ago = |moment: Instant| now.duration_since(moment).as_millis();
        // A token is known by the end of its text.
        let token = |bearer: Option<&str>| bearer.map(|bearer| bearer[bearer.len() - 4..].to_owned());
        let sent = self.seen.api_requests().into_iter();
        let sent = sent.filter(|sent| sent.headers.get("x-request-id") == id);
        let sent = sent.map(|sent| {
            format!(
                "{} ms ago {:?} {:?}",
                ago(sent.moment),
                token(sent.bearer()),
                sent.status
            )
        });
        let logins = self.seen.token_requests();
        let logins = logins.iter().rev().take(6);
        let logins = logins.map(|login| {
            format!(
                "{} ms ago {:?} {:?}",
                ago(login.moment),
                login.outcome,
                login.status
            )
        });
        let (sent, logins): (Vec<_>, Vec<_>) = (sent.collect(), logins.collect());
        format!("; sent {sent:?}; logins {logins:?}")
    }

    fn count(&self, what: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what.to_owned()).or_default() += 1;
    }
}

/// Who calls one proxy, over connections that are used again.
pub(super) struct Caller {
    client: legacy::Client<HttpConnector, Body>,
    address: SocketAddr,
    calls: Arc<Calls>,
    dice: fastrand::Rng,
}

/// What comes of a request.
enum Came {
    Answer(Box<Answer>),
    /// Its head, and not its end.
    Cut,
    /// No head.
    Nothing(String),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Query,
    Get,
    Mutation,
    Event,
    Refused,
    Upload,
    Download,
    LeaveMutation,
    LeaveDownload,
}

impl Kind {
    const OFTEN: [Self; 16] = [
        Self::Query,
        Self::Query,
        Self::Query,
        Self::Get,
        Self::Mutation,
        Self::Mutation,
        Self::Mutation,
        Self::Mutation,
        Self::Event,
        Self::Event,
        Self::Event,
        Self::Refused,
        Self::Upload,
        Self::Download,
        Self::LeaveMutation,
        Self::LeaveDownload,
    ];
    const MUTATIONS: [Self; 2] = [Self::Mutation, Self::Event];
}

impl Caller {
    /// A caller of the proxy at `address`, who speaks `version`.
    pub(super) fn new(address: SocketAddr, version: Version, calls: &Arc<Calls>, seed: u64) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(500))
            .http2_only(version == Version::HTTP_2)
            .build(HttpConnector::new());
        Self {
            client,
            address,
            calls: Arc::clone(calls),
            dice: fastrand::Rng::with_seed(seed),
        }
    }

    /// Calls, about so often, until it is over.
    pub(super) async fn call(mut self, pause: Duration) {
        while self.is_on().await {
            let kind = Kind::OFTEN[self.dice.usize(..Kind::OFTEN.len())];
            self.one(kind).await;
            tokio::time::sleep(pause.mul_f64(self.dice.f64() * 2.0)).await;
        }
    }

    /// Sends nothing but mutations, until there are so many.
    pub(super) async fn change(mut self, number: usize) {
        while self.calls.ledger.len() < number && self.is_on().await {
            let kind = Kind::MUTATIONS[self.dice.usize(..Kind::MUTATIONS.len())];
            self.one(kind).await;
        }
    }

    /// Whether to go on; waits while nobody calls.
    async fn is_on(&self) -> bool {
        let mut phase = self.calls.phase.subscribe();
        let phase = phase.wait_for(|phase| *phase != Phase::Quiet).await;
        phase.is_ok_and(|phase| *phase != Phase::Over)
    }

    async fn one(&mut self, kind: Kind) {
        let calls = Arc::clone(&self.calls);
        let phase = || *calls.phase.borrow();
        let before = phase();
        let (request, field, expected) = self.request(kind);
        let known = match kind {
            Kind::LeaveMutation => {
                let while_waiting = Duration::from_millis(self.dice.u64(..20));
                let _ = tokio::time::timeout(while_waiting, self.send(request)).await;
                self.calls.count("left");
                return;
            }
            Kind::LeaveDownload => {
                if let Ok(Ok(mut answer)) = tokio::time::timeout(PATIENCE, self.client.request(request)).await
                {
                    let _ = tokio::time::timeout(PATIENCE, answer.body_mut().frame()).await;
                }
                self.calls.count("left");
                return;
            }
            Kind::Query
            | Kind::Get
            | Kind::Mutation
            | Kind::Event
            | Kind::Refused
            | Kind::Upload
            | Kind::Download => {
                let came = tokio::time::timeout(PATIENCE, self.send(request)).await;
                let came = came.unwrap_or_else(|_| Came::Nothing("nothing came in time".to_owned()));
                let calm = before == Phase::Calm && phase() == Phase::Calm;
                let known = self.judge(kind, &came, &expected, calm);
                known.map_err(|why| format!("{why}{}", calls.story(&came)))
            }
        };
        match known {
            Ok(known) => {
                if let Some(field) = field {
                    let reference = expected.as_str().unwrap();
                    self.calls.ledger.close(field, reference, known);
                }
            }
            Err(why) => {
                let story = format!("{kind:?} of {expected}, {before:?} to {:?}: {why}", phase());
                println_now(&format!("WRONG {story}"));
                self.calls
                    .wrong
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(story);
            }
        }
    }

    /// A request, the field that it changes, and what its answer must hold.
    fn request(&mut self, kind: Kind) -> (Request<Body>, Option<&'static str>, Value) {
        let (address, calls) = (self.address, Arc::clone(&self.calls));
        let post = |path: &str, body: Body| to(address, Method::POST, path).body(body).unwrap();
        match kind {
            Kind::Query => {
                let (id, reference) = &calls.orders[self.dice.usize(..calls.orders.len())];
                let query = "query Find($ref: String) { found: order(ref: $ref) { id ref __typename } }";
                let body = json!({ "query": query, "variables": { "ref": reference } });
                let expected = json!({ "id": id, "ref": reference, "__typename": "Order" });
                (post("/graphql", full(body.to_string())), None, expected)
            }
            Kind::Get => {
                let (id, reference) = &calls.orders[self.dice.usize(..calls.orders.len())];
                let query = format!("{{found:order(ref:\"{reference}\"){{id ref}}}}");
                let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
                let request = to(address, Method::GET, &format!("/graphql?query={query}"));
                let expected = json!({ "id": id, "ref": reference });
                (request.body(full("")).unwrap(), None, expected)
            }
            Kind::Mutation | Kind::LeaveMutation => {
                let reference = calls.ledger.open("createFulfilmentOption");
                let query = "mutation Make($input: CreateFulfilmentOptionInput!) { \
                             made: createFulfilmentOption(input: $input) { ref } }";
                let input = json!({ "ref": reference, "type": "STANDARD" });
                let body = json!({ "query": query, "variables": { "input": input } });
                let field = Some("createFulfilmentOption");
                (post("/graphql", full(body.to_string())), field, reference.into())
            }
            Kind::Event => {
                let reference = calls.ledger.open("event/async");
                let event = json!({ "name": "Changed", "entityType": "ORDER", "entityRef": reference });
                let request = post("/api/v4.1/event/async", full(event.to_string()));
                (request, Some("event/async"), reference.into())
            }
            Kind::Refused => {
                let body = json!({ "query": "{ me { nosuchfield } }" });
                (
                    post("/graphql", full(body.to_string())),
                    None,
                    "nosuchfield".into(),
                )
            }
            Kind::Upload => {
                let chunks: Vec<Bytes> = (0..self.dice.usize(1..8))
                    .map(|_| vec![self.dice.u8(..); self.dice.usize(1..20_000)].into())
                    .collect();
                let digest = Sha256::digest(chunks.concat());
                let digest = digest
                    .iter()
                    .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
                let frames = chunks.into_iter().map(|chunk| Ok(http_body::Frame::data(chunk)));
                let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
                (post("/api/v4.1/upload", body), None, digest.into())
            }
            Kind::Download | Kind::LeaveDownload => {
                let bytes = if self.dice.u8(..16) == 0 {
                    2_000_000
                } else {
                    self.dice.u64(..200_000)
                };
                let chunked = self.dice.u8(..2);
                let path = format!("/api/v4.1/download?bytes={bytes}&chunked={chunked}");
                let request = to(address, Method::GET, &path).body(full("")).unwrap();
                (request, None, bytes.into())
            }
        }
    }

    async fn send(&self, request: Request<Body>) -> Came {
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            // A stream that is reset takes a head along that nobody has read yet.
            Err(error) if is_reset(&error) => return Came::Cut,
            Err(error) => return Came::Nothing(format!("{error:?}")),
        };
        let (head, body) = answer.into_parts();
        let Ok(body) = body.collect().await else {
            return Came::Cut;
        };
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
        };
        answer.check(false);
        Came::Answer(Box::new(answer))
    }

    /// What the caller knows of what it asked for, or what is wrong with the answer.
    fn judge(&self, kind: Kind, came: &Came, expected: &Value, calm: bool) -> Result<Known, String> {
        let in_trouble = |known: Known, why: &str| {
            self.calls.count(why);
            if calm {
                Err(format!("{why} while all is well"))
            } else {
                Ok(known)
            }
        };
        let answer = match came {
            Came::Answer(answer) => answer,
            Came::Cut => return in_trouble(Known::Unknown, "cut"),
            Came::Nothing(error) => return Err(format!("no answer: {error}")),
        };
        if let Some(code) = answer.code() {
            let known = match (answer.status.as_u16(), code.as_str()) {
                (503, "TOKEN_UNAVAILABLE") | (502, "UPSTREAM_UNREACHABLE") => Known::NotSent,
                (502, "UPSTREAM_INTERRUPTED") | (504, "UPSTREAM_TIMEOUT") => Known::Unknown,
                (status, code) => return Err(format!("{status} {code}")),
            };
            return in_trouble(known, &code);
        }
        match answer.status.as_u16() {
            200 if is_right(kind, answer, expected) => {
                self.calls.count(&format!("{kind:?}"));
                Ok(Known::Done)
            }
            // A body that is streamed may not be at hand when its token turns out to be dead.
            401 if matches!(kind, Kind::Upload) => {
                self.calls.count("401 of an upload");
                Ok(Known::NotSent)
            }
            401 => in_trouble(Known::NotSent, "401"),
            // What the faults say.
            429 | 500 | 503 => in_trouble(Known::Unknown, answer.status.as_str()),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&answer.body))),
        }
    }
}

/// A request of the proxy at `address`.
fn to(address: SocketAddr, method: Method, path: &str) -> http::request::Builder {
    let request = Request::builder().method(method);
    let request = request.uri(format!("http://{address}{path}"));
    request.header("content-type", "application/json")
}

/// Whether a stream of HTTP/2 was reset by the other side.
fn is_reset(error: &dyn std::error::Error) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .last()
        .is_some_and(|cause| cause.to_string().starts_with("stream error received"))
}

/// Whether the answer is the one to this very request.
fn is_right(kind: Kind, answer: &Answer, expected: &Value) -> bool {
    match kind {
        Kind::Query | Kind::Get => answer.json() == json!({ "data": { "found": expected } }),
        Kind::Mutation | Kind::LeaveMutation => {
            answer.json() == json!({ "data": { "made": { "ref": expected } } })
        }
        Kind::Event => answer.json()["entityRef"] == *expected,
        Kind::Refused => answer.json()["errors"][0]["message"]
            .as_str()
            .is_some_and(|message| message.contains("nosuchfield")),
        Kind::Upload => answer.json()["sha256"] == *expected,
        Kind::Download | Kind::LeaveDownload => {
            let bytes = answer.body.iter().enumerate();
            let mut right = bytes.map(|(at, byte)| usize::from(*byte) == at % 65_536 % 251);
            Some(answer.body.len() as u64) == expected.as_u64() && right.all(|right| right)
        }
    }
}

/// For who watches: a run is long.
#[expect(clippy::print_stdout, reason = "a long run tells how it goes")]
pub(super) fn println_now(line: &str) {
    println!("{line}");
}
