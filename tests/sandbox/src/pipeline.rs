//! The story of one request: written down, struck by faults, its bearer checked, answered.
//!
//! 1. What comes in is in the record before anything else happens.
//! 2. The bearer is checked strictly, before the path is looked at.
//! 3. An answer that comes before the body was read reads on for 2 MB, as the real server does, so that the
//!    connection lives; not where the client waits for `100 Continue`.

use crate::body::Observed;
use crate::clock::Clock;
use crate::config::{Account, Config};
use crate::faults::{Fault, Faults, Place, Strike, When};
use crate::graphql::Commerce;
use crate::identity::Identity;
use crate::seen::{ApiTicket, Seen, bearer};
use crate::server::{self, Connection, End};
use crate::{graphql, probe, rest, token_endpoint};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use http::{HeaderValue, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// How much of a body is read on after an early answer, and how much is held for a fault after the body.
const READ_ON: usize = 2 * 1024 * 1024;
const HELD_FOR_FAULT: usize = 64 * 1024 * 1024;

/// Everything a sandbox is, but its sockets.
pub(crate) struct World {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) identity: Identity,
    pub(crate) commerce: Arc<Commerce>,
    pub(crate) faults: Faults,
    pub(crate) seen: Seen,
}

impl World {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        let (config, clock) = (Arc::new(config), Arc::new(Clock::new()));
        Arc::new(Self {
            identity: Identity::new(config.clone(), clock.clone()),
            commerce: Arc::new(Commerce::new(&config, clock.clone())),
            faults: Faults::default(),
            seen: Seen::new(config.record_limit, config.record_body_limit),
            config,
            clock,
        })
    }
}

/// Who asks: what a handler may know of a request that was let in.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) account: Account,
    pub(crate) ticket: ApiTicket,
}

/// The service of the main listener.
pub(crate) struct Api {
    world: Arc<World>,
    router: Router,
    /// Ends the tasks that read on.
    ending: CancellationToken,
    _end: DropGuard,
}

impl Api {
    pub(crate) fn new(world: Arc<World>) -> Self {
        let ending = CancellationToken::new();
        let router = graphql::routes(world.clone())
            .merge(rest::routes(world.clone()))
            .merge(probe::routes())
            .fallback(async || error(StatusCode::NOT_FOUND, "404", "Not Found"));
        Self {
            world,
            router,
            _end: ending.clone().drop_guard(),
            ending,
        }
    }

    async fn api(&self, connection: &Connection, request: Request<Incoming>) -> Response {
        let World {
            faults,
            seen,
            identity,
            ..
        } = &*self.world;
        let (mut parts, body) = request.into_parts();
        let ticket = seen.api_arrived(&parts, connection.id);
        let path = parts.uri.path().to_owned();
        let ended = ticket.clone();
        let body = Observed::new(body, ticket.tally(), Box::new(move || ended.body_ended()));
        let mut body = Body::new(body);

        let mut pace = Pace::default();
        let strikes = faults.strike(Place::Api, When::BeforeBody, &path);
        if let Some(answer) = self.suffer(strikes, &mut pace).await {
            let response = self.finish(answer, connection, &ticket).await;
            self.read_on(&parts, body);
            return pace.set(response);
        }
        let Some(account) = bearer(&parts.headers).and_then(|token| identity.holder_of(token)) else {
            ticket.answered(Some(401));
            self.read_on(&parts, body);
            return pace.set(invalid_token());
        };
        ticket.admitted();
        if faults.may_strike(Place::Api, When::AfterBody, &path) {
            let Ok(whole) = Limited::new(body, HELD_FOR_FAULT).collect().await else {
                ticket.answered(Some(400));
                return error(StatusCode::BAD_REQUEST, "400", "Bad Request");
            };
            let strikes = faults.strike(Place::Api, When::AfterBody, &path);
            if let Some(answer) = self.suffer(strikes, &mut pace).await {
                return pace.set(self.finish(answer, connection, &ticket).await);
            }
            body = Body::new(whole);
        }
        parts.extensions.insert(Caller {
            account,
            ticket: ticket.clone(),
        });
        let done = self
            .router
            .clone()
            .oneshot(Request::from_parts(parts, body))
            .await;
        let response = done.unwrap_or_else(|never| match never {});
        let strikes = faults.strike(Place::Api, When::AfterExecution, &path);
        let answer = self.suffer(strikes, &mut pace).await;
        pace.set(
            self.finish(answer.unwrap_or(Answer::Response(response)), connection, &ticket)
                .await,
        )
    }

    async fn finish(&self, answer: Answer, connection: &Connection, ticket: &ApiTicket) -> Response {
        match answer {
            Answer::Response(response) => {
                ticket.answered(Some(response.status().as_u16()));
                response
            }
            Answer::End(end) => {
                ticket.answered(None);
                connection.end(end).await
            }
        }
    }

    async fn suffer(&self, strikes: Vec<Strike>, pace: &mut Pace) -> Option<Answer> {
        suffer(&self.world, strikes, pace).await
    }

    fn read_on(&self, parts: &http::request::Parts, body: Body) {
        if !parts.headers.contains_key(header::EXPECT) {
            let reading = Limited::new(body, READ_ON).collect();
            tokio::spawn(self.ending.clone().run_until_cancelled_owned(reading));
        }
    }
}

impl server::Service for Api {
    fn connection_opened(&self) -> u64 {
        self.world.seen.connection_opened()
    }

    fn connection_closed(&self) {
        self.world.seen.connection_closed();
    }

    async fn answer(&self, connection: Arc<Connection>, request: Request<Incoming>) -> Response {
        if request.uri().path() == token_endpoint::PATH {
            token_endpoint::answer(&self.world, &connection, request).await
        } else {
            self.api(&connection, request).await
        }
    }
}

/// How a request is answered.
pub(crate) enum Answer {
    /// With this.
    Response(Response),
    /// With the end of its connection.
    End(End),
}

/// Lets faults strike, in order; gives the answer of the first that ends the request.
pub(crate) async fn suffer(world: &World, strikes: Vec<Strike>, pace: &mut Pace) -> Option<Answer> {
    for Strike { fault, cleared } in strikes {
        world.seen.fault_struck();
        let response = match fault {
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
            Fault::Hang => {
                cleared.cancelled().await;
                continue;
            }
            Fault::Trickle(every) => {
                pace.every = Some(every);
                continue;
            }
            Fault::RevokeTokens => {
                world.identity.revoke_access_tokens();
                continue;
            }
            Fault::SkewClock(by) => {
                world.clock.forward(by);
                continue;
            }
            Fault::Reset => return Some(Answer::End(End::Reset)),
            Fault::Close => return Some(Answer::End(End::Close)),
            Fault::Unauthorized => invalid_token(),
            Fault::NoRetailer => error(
                StatusCode::UNAUTHORIZED,
                "InvalidInput",
                "Logged in user has no retailer",
            ),
            Fault::Status {
                code,
                retry_after,
                body,
            } => status(code, retry_after, body),
            Fault::Cut => cut(),
            Fault::Html => axum::response::Html("<!doctype html><title>Sign in</title><p>Maintenance</p>")
                .into_response(),
            Fault::Empty => StatusCode::OK.into_response(),
            Fault::NoToken => {
                axum::Json(json!({"token_type": "bearer", "expires_in": 86_386, "scope": "api"}))
                    .into_response()
            }
            Fault::Redirect(to) => {
                let to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/"));
                (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
            }
        };
        return Some(Answer::Response(response));
    }
    None
}

/// The documented answer to a bearer that is no good.
fn invalid_token() -> Response {
    let message = "Invalid user, Authorization header value does not belong to a valid user";
    error(StatusCode::UNAUTHORIZED, "401", message)
}

/// An error in the vendor's form.
pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        axum::Json(json!({"errors": [{"code": code, "message": message}]})),
    )
        .into_response()
}

/// A status of one's own; one that cannot be is a 500.
pub(crate) fn status(code: u16, retry_after: Option<String>, body: Option<String>) -> Response {
    let known = StatusCode::from_u16(code)
        .ok()
        .filter(|code| code.as_u16() >= 200);
    let status = known.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return status.into_response();
    }
    let mut response = match body {
        Some(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        None => error(
            status,
            status.as_str(),
            status.canonical_reason().unwrap_or("Unknown"),
        ),
    };
    if let Some(Ok(after)) = retry_after.map(HeaderValue::try_from) {
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

/// A head that promises 64 bytes, and half of them.
fn cut() -> Response {
    const HALF: Bytes = Bytes::from_static(br#"{"data":{"me":{"id":"1","usernam"#);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CONTENT_LENGTH, HeaderValue::from(HALF.len() * 2)),
    ];
    (headers, Body::new(CutBody { state: 0, half: HALF })).into_response()
}

/// Half a body, a breath in which it is flushed, and a fault.
struct CutBody {
    state: u8,
    half: Bytes,
}

impl http_body::Body for CutBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.state += 1;
        match self.state {
            1 => Poll::Ready(Some(Ok(Frame::data(self.half.clone())))),
            2 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Some(Err(std::io::Error::other("cut, as asked for")))),
        }
    }
}

/// How fast the body of an answer leaves.
#[derive(Default)]
pub(crate) struct Pace {
    every: Option<Duration>,
}

impl Pace {
    /// Slows the body down, where a fault asked for it.
    pub(crate) fn set(self, response: Response) -> Response {
        let Some(every) = self.every else { return response };
        response.map(|inner| {
            let wait = Box::pin(tokio::time::sleep(every));
            Body::new(Trickle {
                inner,
                every,
                rest: Bytes::new(),
                wait,
            })
        })
    }
}

/// A body of which one byte leaves at a time.
struct Trickle {
    inner: Body,
    every: Duration,
    rest: Bytes,
    wait: Pin<Box<Sleep>>,
}

impl http_body::Body for Trickle {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        while !this.rest.has_remaining() {
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        std::task::ready!(this.wait.as_mut().poll(cx));
        let next = tokio::time::Instant::now() + this.every;
        this.wait.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(1)))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let mut hint = self.inner.size_hint();
        if let Some(exact) = hint.exact() {
            hint.set_exact(exact + self.rest.len() as u64);
        }
        hint
    }
}
