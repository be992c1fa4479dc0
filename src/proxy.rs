//! The story of one request.
//!
//! `guard.admit → places.take → graphql.judge (if rules are on) → guard.scrub_request → authorize.send → guard.scrub_response →
//! stream`
//!
//! Everything else in the house explains one of the lines of `Proxy::forward`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, request};
use http_body::Body as _;
use http_body_util::Either;
use url::Url;

use crate::authorize::{Answer, Passage, Resend};
use crate::body::{
    self, AtEnd, BodyError, BodyLimits, End, Ending, HoldError, Memory, Metered, Recorder, RequestBody,
    TapeBudget,
};
use crate::console::Pages;
use crate::error::{Accept, Fault, ProxyError};
use crate::graphql::{self, Instead, Judge, Operation, Purpose, Question};
use crate::guard::{self, Connection, Destination, Guard, Payload, RequestHeaders, Target, ViaId};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::places::{Place, Places};
use crate::server::{Peer, WatchedBody};
use crate::telemetry::trace::Tracer;
use crate::telemetry::{AccessLog, Exchange, Failure, Overheard};
use crate::token::TokenSource;
use crate::unreachable::BoxError;
use crate::upstream::{self, Leg, Upstream};

/// Bytes of a body in which the operation is looked for, where no rule holds it whole.
const OVERHEARD: usize = 64 * 1024;
/// Chooses one of an instance's users.
const FLUENT_USER: HeaderName = HeaderName::from_static("x-fluent-user");

/// A caller's body: as it comes, or as it is or was read.
pub type CallerBody = Either<WatchedBody, Body>;
/// The body of an answer: upstream's as it comes, or the proxy's own.
pub type AnswerBody = Either<Box<Metered<upstream::AnswerBody, UnderWay>>, Body>;

/// Takes requests without a token and answers them with what Fluent says.
pub struct Proxy {
    /// Who may ask.
    pub guard: Guard,
    /// Our entry in `Via`, where `upstream.via` is on.
    pub via: Option<ViaId>,
    /// GraphiQL, where it is served.
    pub pages: Option<Pages>,
    /// The instances by name.
    pub instances: BTreeMap<Name, Route<RequestBody<CallerBody>>>,
    /// What requests are read for, where they are.
    pub inspection: Option<Inspection>,
    /// Requests at once.
    pub places: Places,
    /// What a request's body may take.
    pub body_limits: BodyLimits,
    /// The memory of all tapes.
    pub tapes: TapeBudget,
    /// The longest pause within an answer's body.
    pub read_timeout: Duration,
    /// Which requests the log tells of.
    pub access: AccessLog,
    /// Where all of them are counted.
    pub metrics: Arc<Metrics>,
    /// What makes a span of each.
    pub tracer: Tracer,
}

/// What requests are read for, and by whom.
pub struct Inspection {
    /// What they are read for.
    pub purpose: Purpose,
    /// Judges requests.
    pub judge: Arc<Judge>,
    /// Bytes of a body that is judged; `None` where `max_body` is the only limit.
    pub limit: Option<u64>,
    /// The memory of all bodies that are held to be judged.
    pub memory: Memory,
}

/// One instance, as requests with bodies `B` are sent to it.
pub struct Route<B> {
    leg: Leg<B>,
    host: HeaderValue,
    /// What stands before every path: the path of the instance's URL, without a final slash.
    prefix: String,
    account: Option<HeaderValue>,
    users: BTreeMap<Name, Arc<dyn TokenSource>>,
}

impl<B> Route<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// The way by `upstream` to the API whose root is `url`; `None` where no request can be sent to it.
    #[must_use]
    pub fn new(
        upstream: &Upstream<B>,
        url: &Url,
        account: Option<HeaderValue>,
        users: BTreeMap<Name, Arc<dyn TokenSource>>,
    ) -> Option<Self> {
        let root: Uri = url.as_str().parse().ok()?;
        Some(Self {
            leg: upstream.leg(&root)?,
            host: guard::upstream_host(url)?,
            prefix: root.path().trim_end_matches('/').to_owned(),
            account,
            users,
        })
    }

    /// The head of a POST to the GraphQL endpoint, ready but for `Authorization`.
    ///
    /// # Errors
    /// Where the instance's URL leaves no room for it.
    pub(crate) fn graphql_head(&self) -> Result<Box<request::Parts>, ProxyError> {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = Method::POST;
        head.uri = self.uri(Destination {
            instance: None,
            path_and_query: "/graphql",
            graphql: true,
        })?;
        head.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        guard::set_request_headers(
            &mut head.headers,
            RequestHeaders {
                host: &self.host,
                account: self.account.as_ref(),
                via: None,
                request_id: &new_request_id(),
            },
        );
        Ok(Box::new(head))
    }

    /// The way upstream.
    pub(crate) fn leg(&self) -> &Leg<B> {
        &self.leg
    }

    /// The user that the request names, or the instance's own.
    fn user(&self, headers: &HeaderMap) -> Result<(&Name, &dyn TokenSource), ProxyError> {
        let mut named = headers.get_all(FLUENT_USER).iter();
        let name = match (named.next(), named.next()) {
            (None, _) => Name::DEFAULT,
            (Some(name), None) => name.to_str().map_err(|_| ProxyError::UserUnknown)?,
            (Some(_), Some(_)) => return Err(ProxyError::UserUnknown),
        };
        self.users
            .get_key_value(name)
            .map(|(name, source)| (name, source.as_ref()))
            .ok_or(ProxyError::UserUnknown)
    }

    fn uri(&self, to: Destination<'_>) -> Result<Uri, ProxyError> {
        let path = if self.prefix.is_empty() {
            to.path_and_query.parse()
        } else {
            PathAndQuery::try_from(format!("{}{}", self.prefix, to.path_and_query))
        };
        let path = path.map_err(|_| ProxyError::Internal)?;
        self.leg.uri(path).map_err(|_| ProxyError::Internal)
    }
}

impl Proxy {
    /// Answers one request, whatever becomes of it.
    pub async fn handle(
        &self,
        peer: Peer,
        head: Box<request::Parts>,
        body: WatchedBody,
    ) -> Response<AnswerBody> {
        let accept = Accept::of(&head.headers);
        let id = guard::request_id(&head.headers)
            .cloned()
            .unwrap_or_else(new_request_id);
        let mut exchange = Exchange::begin(
            self.access,
            &self.metrics,
            head.method.clone(),
            head.uri.clone(),
            id,
        );
        exchange.span = self
            .tracer
            .request(&head.method, &head.uri, head.version, &head.headers);
        let sharing = self.guard.sharing(&head.headers);
        let mut answer = match self.forward(peer, head, body, &mut exchange).await {
            Ok(Served::Upstream(answer, place)) => self.stream(*answer, place, exchange),
            Ok(Served::Here(answer)) => serve(answer, exchange).map(Either::Right),
            Err(error) => refuse(&error, accept, exchange).map(Either::Right),
        };
        sharing.tell(answer.headers_mut());
        answer
    }

    async fn forward(
        &self,
        peer: Peer,
        mut head: Box<request::Parts>,
        body: WatchedBody,
        exchange: &mut Exchange,
    ) -> Result<Served, ProxyError> {
        let uri = std::mem::take(&mut head.uri);
        let target = self
            .guard
            .admit(&head.method, &uri, &head.headers, peer.into(), Payload::of(&body))?;
        let to = match target {
            Target::Upstream(to) => to,
            Target::Preflight => return Ok(Served::Here(preflight(&head.headers))),
            Target::Page(path) => {
                let page = self
                    .pages
                    .as_ref()
                    .and_then(|pages| pages.answer(&head.method, path, &head.headers));
                return page.map(Served::Here).ok_or(ProxyError::Internal);
            }
        };
        let (name, route) = self.route(to)?;
        exchange.instance = Some(name.clone());
        let (user, tokens) = route.user(&head.headers)?;
        exchange.user = Some(user.clone());
        if self.body_limits.forbid(&body) {
            return Err(ProxyError::BodyTooLarge);
        }
        head.uri = route.uri(to)?;
        let place = self.places.take().await?;
        let body = match &self.inspection {
            Some(inspection) => match inspection.purpose {
                Purpose::Telling => inspection.overhear(to, &head, body, exchange),
                Purpose::Ruling => {
                    let inspecting = Box::pin(self.inspect(inspection, route, to, &mut head, body));
                    let (body, operation) = inspecting.await?;
                    exchange.operation = operation;
                    body
                }
            },
            None => Either::Left(body),
        };
        self.guard.scrub_request(&mut head.headers);
        let ours = RequestHeaders {
            host: &route.host,
            account: route.account.as_ref(),
            via: self.via.as_ref().map(|via| via.entry(head.version)),
            request_id: &exchange.request_id,
        };
        guard::set_request_headers(&mut head.headers, ours);
        let (body, recording) = Recorder::new(body, self.body_limits, &self.tapes);
        exchange.bytes_in = body.tally();
        let resend = if to.graphql {
            Resend::Queries
        } else {
            Resend::Nothing
        };
        let passage = Passage {
            leg: &route.leg,
            tokens,
            exchange: &mut *exchange,
        };
        let mut answer = passage.send(head, Box::new(body), recording, resend).await?;
        guard::scrub_response(answer.headers_mut());
        let via = self.via.as_ref().map(|via| via.entry(answer.version()));
        guard::set_response_headers(answer.headers_mut(), via, &exchange.request_id);
        Ok(Served::Upstream(answer, place))
    }

    /// Judges a request whole before anything of it is sent; gives the body to be sent, and what it asks for.
    async fn inspect(
        &self,
        inspection: &Inspection,
        route: &Route<RequestBody<CallerBody>>,
        to: Destination<'_>,
        head: &mut request::Parts,
        body: WatchedBody,
    ) -> Result<(CallerBody, Option<Operation>), ProxyError> {
        if !to.graphql {
            inspection.judge.judge_rest()?;
            return Ok((Either::Left(body), None));
        }
        let body = inspection.hold(body, self.body_limits).await?;
        let (path, query) = match to.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (to.path_and_query, None),
        };
        let judged = inspection.judge.judge(Question {
            method: &head.method,
            headers: &head.headers,
            query,
            body: &body,
        })?;
        let body = match judged.instead {
            None => body,
            Some(Instead::Body(body)) => {
                guard::forget_body(&mut head.headers);
                Bytes::from(body)
            }
            Some(Instead::Query(query)) => {
                let path_and_query = format!("{path}?{query}");
                let to = Destination {
                    path_and_query: &path_and_query,
                    ..to
                };
                // A URI has a longest length; the caller's own was within it.
                head.uri = route.uri(to).map_err(|_| ProxyError::TooLargeToInspect)?;
                Bytes::new()
            }
        };
        Ok((Either::Right(Body::from(body)), judged.operation))
    }

    /// Hands the answer on as it comes; its end is the end of the exchange, and frees its place.
    fn stream(
        &self,
        answer: Response<upstream::AnswerBody>,
        place: Place,
        mut exchange: Box<Exchange>,
    ) -> Response<AnswerBody> {
        exchange.answered(answer.status());
        let under_way = UnderWay { place, exchange };
        answer.map(|body| Either::Left(Box::new(Metered::new(body, self.read_timeout, under_way))))
    }

    fn route(&self, to: Destination<'_>) -> Result<(&Name, &Route<RequestBody<CallerBody>>), ProxyError> {
        self.instances
            .get_key_value(to.instance.unwrap_or(Name::DEFAULT))
            .ok_or(ProxyError::InstanceUnknown)
    }
}

/// An exchange whose answer is on its way to the caller, and its place among those that may be at once.
pub struct UnderWay {
    place: Place,
    exchange: Box<Exchange>,
}

impl AtEnd for UnderWay {
    fn at_end(self, End { ending, bytes }: End) {
        let Self { place, mut exchange } = self;
        drop(place);
        match ending {
            Ending::Complete => exchange.end(bytes),
            Ending::CallerGone => exchange.caller_gone(bytes),
            Ending::Cut => {
                exchange.failure = Some(Failure::from(&ProxyError::Cut));
                exchange.end(bytes);
            }
        }
    }
}

impl From<Peer> for Connection {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Tcp { local, .. } => Self::Tcp(local),
            Peer::Unix { uid } => Self::Unix { uid },
        }
    }
}

/// Whose answer a request gets.
enum Served {
    /// Upstream's, while it holds its place.
    Upstream(Answer, Place),
    /// The proxy's own, which is no refusal.
    Here(Response<Body>),
}

/// The answer to a preflight that may pass.
fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    *answer.headers_mut() = guard::preflight_answer(asked);
    answer
}

/// Ends an exchange with an answer of the proxy itself.
fn serve(mut answer: Response<Body>, mut exchange: Box<Exchange>) -> Response<Body> {
    guard::set_response_headers(answer.headers_mut(), None, &exchange.request_id);
    exchange.status = answer.status();
    exchange.end(answer.body().size_hint().exact().unwrap_or_default());
    answer
}

impl Inspection {
    /// Lets the exchange tell of what is asked for, once it has ended; nothing waits for that.
    fn overhear(
        &self,
        to: Destination<'_>,
        head: &request::Parts,
        body: WatchedBody,
        exchange: &mut Exchange,
    ) -> CallerBody {
        if !to.graphql {
            return Either::Left(body);
        }
        if head.method == Method::GET {
            let query = to.path_and_query.split_once('?').map(|(_, query)| query);
            exchange.operation = query.and_then(|query| self.judge.overhear_query(query));
            return Either::Left(body);
        }
        if !graphql::is_json(&head.headers) {
            return Either::Left(body);
        }
        let (body, beginning) = body::overhear(body, OVERHEARD);
        exchange.overheard = Some(Overheard {
            judge: Arc::clone(&self.judge),
            beginning,
        });
        Either::Right(Body::new(body))
    }

    /// Reads a body whole.
    async fn hold(&self, body: WatchedBody, limits: BodyLimits) -> Result<Bytes, ProxyError> {
        let shorter = self
            .limit
            .filter(|limit| limits.max_body.is_none_or(|max| *limit < max));
        let held = match shorter {
            Some(limit) => BodyLimits {
                max_body: Some(limit),
                ..limits
            },
            None => limits,
        };
        body::hold(body, held, &self.memory)
            .await
            .map_err(|error| match (error, shorter) {
                (HoldError::Body(BodyError::TooLarge), Some(_)) => ProxyError::TooLargeToInspect,
                (HoldError::Body(error), _) => error.into(),
                (HoldError::Full, _) => ProxyError::NoMemoryToInspect,
            })
    }
}

fn refuse(error: &ProxyError, accept: Accept, mut exchange: Box<Exchange>) -> Response<Body> {
    let answer = error.answer(accept, &exchange.request_id);
    exchange.status = answer.status();
    exchange.rejected = error.fault() == Fault::Client && !matches!(error, ProxyError::CallerGone);
    exchange.failure = Some(Failure::from(error));
    exchange.end(0);
    answer
}

/// 32 hexadecimal digits.
fn new_request_id() -> HeaderValue {
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(fastrand::u128(..).to_le_bytes()) {
        pair.copy_from_slice(&[byte >> 4, byte & 15].map(|digit| match digit {
            0..=9 => b'0' + digit,
            _ => b'a' + digit - 10,
        }));
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
