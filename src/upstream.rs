//! The leg to Fluent: a pooled HTTP client with its clocks.
//!
//! 1. A request is sent once; sent again here is only one that was never started, because its pooled
//!    connection turned out closed.
//! 2. Connecting (name, TCP, TLS) has one clock; the wait for an answer's head has another, which starts anew
//!    with each part of the request that upstream takes, and stands still while the caller makes it wait.
//! 3. Connections are used for `max_age` at most, so that names are resolved again (`pool`).
//! 4. No connection is made to where this process itself listens: a request that went there would come back.
//!    Through a proxy on the way out this cannot be seen, and is left to `Via`.
//! 5. Redirects are not followed, bodies are not touched, nothing is decompressed.

mod clock;
mod connect;
pub mod egress;
mod http1;
mod pool;
pub mod tls;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version, header, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::unreachable::{BoxError, Unreachable, find};
use clock::{Clocked, ResponseClock};
use connect::Connector;
use egress::Egress;
use http1::{Failure, Lifetimes, Unfinished};
use pool::{Pool, Taken};

/// The way to all upstreams.
pub struct Upstream<B> {
    connector: Arc<Connector>,
    config: Config,
    pools: Mutex<Vec<Weak<Pool<B>>>>,
}

/// The way to one upstream, with its pool of connections.
pub struct Leg<B> {
    scheme: Scheme,
    authority: Authority,
    connector: Arc<Connector>,
    response_timeout: Duration,
    pool: Arc<Pool<B>>,
}

impl<B> Upstream<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// A client that trusts and shows what `tls` says, in a process that listens at `own`.
    #[must_use]
    pub fn new(config: Config, mut tls: ClientConfig, own: &[SocketAddr]) -> Self {
        tls.alpn_protocols = match config.http_version {
            HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersion::Http2 => vec![b"h2".to_vec()],
            HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Self {
            connector: Arc::new(Connector::new(tls, &config, own)),
            config,
            pools: Mutex::default(),
        }
    }

    /// The way to the host of `root`; `None` where it names none.
    #[must_use]
    pub fn leg(&self, root: &Uri) -> Option<Leg<B>> {
        let lifetimes = Lifetimes {
            idle: self.config.idle_timeout,
            age: self.config.max_age,
        };
        let pool = Arc::new(Pool::new(
            lifetimes,
            self.config.http_version == HttpVersion::Http1,
        ));
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.push(Arc::downgrade(&pool));
        Some(Leg {
            scheme: root.scheme()?.clone(),
            authority: root.authority()?.clone(),
            connector: Arc::clone(&self.connector),
            response_timeout: self.config.response_timeout,
            pool,
        })
    }

    /// Counts the connections that were opened.
    #[must_use]
    pub fn opened(&self) -> &Counter {
        self.connector.opened()
    }

    /// Closes connections that are no longer used, for as long as it is polled.
    pub async fn sweep(self) {
        let pause = self.config.idle_timeout.min(self.config.max_age) / 2;
        loop {
            tokio::time::sleep(pause.max(SHORTEST_SWEEP)).await;
            let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.retain(|pool| pool.upgrade().inspect(|pool| pool.sweep()).is_some());
        }
    }
}

impl<B> Leg<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Where `path_and_query` is on this upstream.
    ///
    /// # Errors
    /// Where the URI would be none.
    pub fn uri(&self, path_and_query: PathAndQuery) -> Result<Uri, http::uri::InvalidUriParts> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts)
    }

    /// Sends a request, which is done `now`, and waits for the head of the answer, which goes through many hands: boxed.
    /// The head of the request names the host in its URI, and in `Host`.
    ///
    /// # Errors
    /// When there is no connection, no answer or none in time. Where the request's own body failed, the error
    /// is [`UpstreamError::Request`], and whoever made the body knows why.
    pub async fn send(
        &self,
        head: &request::Parts,
        mut body: B,
        now: Instant,
    ) -> Result<Box<Response<AnswerBody>>, UpstreamError> {
        loop {
            let taken = self.pool.take(now, || self.connector.connect(self.root())).await;
            match taken.map_err(UpstreamError::unreachable)? {
                Taken::One(one) => {
                    let answer = one.exchange(head, body, self.pool.ones()).await?;
                    return Ok(Box::new(answer.map(|body| AnswerBody(Either::Left(body)))));
                }
                Taken::Many(sender, stood) => {
                    // Most upstreams speak HTTP/1.1: what this takes is not kept ready for it.
                    match Box::pin(self.send_among_many(head, body, sender)).await? {
                        Sent::Answered(answer) => return Ok(answer),
                        // Rule 1 of this module.
                        Sent::NeverStarted(unsent, _) if stood => body = unsent,
                        Sent::NeverStarted(_, error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Sends a request on a connection that it shares with others.
    async fn send_among_many(
        &self,
        head: &request::Parts,
        body: B,
        mut sender: http2::SendRequest<Clocked<B>>,
    ) -> Result<Sent<B>, UpstreamError> {
        let clock = ResponseClock::new(self.response_timeout);
        let request = Request::from_parts(for_http2(head), Clocked::new(body, clock.clone()));
        let sent = tokio::select! {
            biased;
            sent = sender.try_send_request(request) => sent,
            () = clock.rings() => return Err(UpstreamError::TimedOut),
        };
        match sent {
            Ok(answer) => {
                let answer = answer.map(|body| AnswerBody(Either::Right(body)));
                Ok(Sent::Answered(Box::new(answer)))
            }
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => {
                    let body = unsent.into_body().into_inner();
                    Ok(Sent::NeverStarted(body, failed.into_error().into()))
                }
                None => Err(failed.into_error().into()),
            },
        }
    }

    /// Where connections go.
    fn root(&self) -> Uri {
        self.uri(PathAndQuery::from_static("/")).unwrap_or_default()
    }
}

/// What became of a request on a connection that others share.
enum Sent<B> {
    Answered(Box<Response<AnswerBody>>),
    /// The connection turned out closed; here is the body, untouched.
    NeverStarted(B, UpstreamError),
}

/// HTTP/2 names the host by `:authority`, beside which the header has no place (RFC 9113, section 8.3.1).
fn for_http2(head: &request::Parts) -> request::Parts {
    let mut head = head.clone();
    head.version = Version::HTTP_2;
    head.headers.remove(header::HOST);
    head
}

/// No pool is swept more often.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

/// Why there is no answer from upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: nothing was sent.
    #[error("no connection to upstream ({0})")]
    Unreachable(Unreachable, #[source] BoxError),
    /// The connection died without a byte of an answer.
    #[error("the connection to upstream died without a byte of an answer")]
    Unanswered(#[source] BoxError),
    /// The connection died before an answer.
    #[error("the connection to upstream died before an answer")]
    Interrupted(#[source] BoxError),
    /// What came in the place of an answer was no HTTP.
    #[error("upstream answered with what is no HTTP; look at the URL, and at what stands on the way")]
    Nonsense(#[source] BoxError),
    /// The request's own body failed, so the request was given up.
    #[error("the request was given up")]
    Request(#[source] BoxError),
    /// The head of the answer did not come in time.
    #[error("upstream did not answer in time")]
    TimedOut,
}

impl UpstreamError {
    /// No connection was made.
    fn unreachable(error: BoxError) -> Self {
        Self::Unreachable(Unreachable::of(&*error), error)
    }

    /// The connection died; `begun` where an answer had come in part.
    fn died(error: impl Into<BoxError>, begun: bool) -> Self {
        let error = error.into();
        match Unreachable::late(&*error) {
            Some(why) => Self::Unreachable(why, error),
            None if begun => Self::Interrupted(error),
            None => Self::Unanswered(error),
        }
    }

    /// The error in a word, for traces.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreachable(..) => "unreachable",
            Self::Unanswered(_) => "unanswered",
            Self::Interrupted(_) => "interrupted",
            Self::Nonsense(_) => "no_http",
            Self::Request(_) => "request_failed",
            Self::TimedOut => "timeout",
        }
    }
}

impl From<Unfinished> for UpstreamError {
    fn from(Unfinished { failure, begun }: Unfinished) -> Self {
        match failure {
            Failure::Request(error) => Self::Request(error),
            Failure::Malformed(error) => Self::Nonsense(error.into()),
            Failure::Io(_) | Failure::Closed => Self::died(failure, begun),
            Failure::TimedOut => Self::TimedOut,
        }
    }
}

/// Of HTTP/2. Its frames are of all streams alike, but of an answer whose head has come there is no error here. So it is
/// enough that the connection died, or that upstream gave the stream or the connection up (`RST_STREAM`, `GOAWAY`):
/// what it sent was HTTP/2, and of this request's answer nothing. Interim answers (1xx) are none.
impl From<hyper::Error> for UpstreamError {
    fn from(error: hyper::Error) -> Self {
        if error.is_user() {
            return Self::Request(error.into());
        }
        if error.is_parse() {
            return Self::Nonsense(error.into());
        }
        let given_up = find::<h2::Error>(&error).is_some_and(h2::Error::is_remote);
        let died = find::<io::Error>(&error).is_some();
        Self::died(error, !(given_up || died))
    }
}

/// The body of upstream's answer, over HTTP/1.1 or HTTP/2.
pub struct AnswerBody(Either<http1::AnswerBody, Incoming>);

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        Pin::new(&mut self.0).poll_frame(cx).map_err(CutShort)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The answer ended before its end.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CutShort(BoxError);

/// How upstream is reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// For name resolution, connecting and the TLS handshake together.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the head of the answer.
    pub response_timeout: Duration,
    /// How long a pooled connection may stand unused.
    pub idle_timeout: Duration,
    /// Between two chunks of an answer.
    pub read_timeout: Duration,
    /// The age at which a pooled connection is no longer used, so that names are resolved again.
    pub max_age: Duration,
    /// The version spoken to upstream.
    pub http_version: HttpVersion,
    /// Whom to trust, and who we are.
    pub tls: Tls,
    /// The way out.
    pub egress: Egress,
    /// Requests upstream at once.
    pub max_in_flight: usize,
    /// Requests that may wait for a place among them.
    pub queue: usize,
    /// How long they may wait.
    pub queue_timeout: Duration,
}

/// The HTTP version spoken to upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// What ALPN settles on; HTTP/1.1 without TLS.
    Auto,
}

/// Files of TLS, all PEM.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authorities to trust beside the machine's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain and key, where upstream wants them.
    pub client: Option<(PathBuf, PathBuf)>,
}
