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

mod answered;
mod clock;
mod connect;
pub mod egress;
mod pool;
pub mod tls;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header, request};
use http_body::Body;
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::unreachable::{BoxError, Unreachable};
use clock::{Clocked, ResponseClock};
use connect::Connector;
use egress::Egress;
use pool::{Connection, Lifetimes, Pool, Taken, WayBack};

pub use pool::AnswerBody;

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
    http_version: HttpVersion,
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
            http_version: self.config.http_version,
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

    /// Sends a request, which is done `now`, and waits for the head of the answer. Both go through many hands: boxed.
    ///
    /// # Errors
    /// When there is no connection, no answer or none in time. Where the request's own body failed, the error
    /// is [`UpstreamError::Request`], and whoever made the body knows why.
    pub async fn send(
        &self,
        head: Box<request::Parts>,
        body: B,
        now: Instant,
    ) -> Result<Box<Response<AnswerBody<B>>>, UpstreamError> {
        let clock = ResponseClock::new(self.response_timeout, now);
        tokio::select! {
            biased;
            answer = self.exchange(head, Clocked::new(body, clock.clone())) => answer,
            () = clock.rings() => Err(UpstreamError::TimedOut),
        }
    }

    /// Sends a request on the first connection that takes it (rule 1 of this module).
    async fn exchange(
        &self,
        mut head: Box<request::Parts>,
        mut body: Clocked<B>,
    ) -> Result<Box<Response<AnswerBody<B>>>, UpstreamError> {
        loop {
            let taken = self.pool.take(|| self.connector.connect(self.root())).await;
            let (connection, again) = match taken.map_err(UpstreamError::unreachable)? {
                Taken::Again(connection) => (connection, true),
                Taken::New(connection) => (connection, false),
            };
            let failed = match connection {
                Connection::One(mut one) => {
                    self.address_one(&mut head);
                    match one
                        .sender
                        .try_send_request(Request::from_parts(*head, body))
                        .await
                    {
                        Ok(answer) => {
                            let way_back = WayBack {
                                connection: one,
                                pool: Arc::clone(&self.pool),
                            };
                            let answer = answer.map(|body| AnswerBody::new(body, Some(way_back)));
                            return Ok(Box::new(answer));
                        }
                        Err(failed) => (failed, one.seen),
                    }
                }
                Connection::Many(mut sender) => {
                    self.address_many(&mut head);
                    match sender.try_send_request(Request::from_parts(*head, body)).await {
                        Ok(answer) => {
                            return Ok(Box::new(answer.map(|body| AnswerBody::new(body, None))));
                        }
                        Err(failed) => (failed, answered::Seen::Frames),
                    }
                }
            };
            let (mut failed, seen) = failed;
            match failed.take_message() {
                Some(unsent) if again => {
                    let (parts, unread) = unsent.into_parts();
                    (head, body) = (Box::new(parts), unread);
                }
                Some(_) | None => return Err(UpstreamError::of(failed.into_error(), &seen)),
            }
        }
    }

    /// Where connections go.
    fn root(&self) -> Uri {
        self.uri(PathAndQuery::from_static("/")).unwrap_or_default()
    }

    /// HTTP/1.1 names the host in a header, and nothing but the path in its first line.
    fn address_one(&self, head: &mut request::Parts) {
        head.version = Version::HTTP_11;
        let path = std::mem::take(&mut head.uri).into_parts().path_and_query;
        head.uri = path.map(Uri::from).unwrap_or_default();
        if self.http_version != HttpVersion::Http1
            && let Ok(host) = HeaderValue::from_str(self.authority.as_str())
        {
            head.headers.entry(header::HOST).or_insert(host);
        }
    }

    /// HTTP/2 names it by `:authority`, beside which the header has no place (RFC 9113, section 8.3.1).
    fn address_many(&self, head: &mut request::Parts) {
        head.version = Version::HTTP_2;
        head.headers.remove(header::HOST);
        if head.uri.authority().is_none()
            && let Some(path) = head.uri.path_and_query()
            && let Ok(uri) = self.uri(path.clone())
        {
            head.uri = uri;
        }
    }
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
    Unanswered(#[source] hyper::Error),
    /// The connection died before an answer.
    #[error("the connection to upstream died before an answer")]
    Interrupted(#[source] hyper::Error),
    /// What came in the place of an answer was no HTTP.
    #[error("upstream answered with what is no HTTP; look at the URL, and at what stands on the way")]
    Nonsense(#[source] hyper::Error),
    /// The request's own body failed, so the request was given up.
    #[error("the request was given up")]
    Request(#[source] hyper::Error),
    /// The head of the answer did not come in time.
    #[error("upstream did not answer in time")]
    TimedOut,
}

impl UpstreamError {
    /// No connection was made.
    fn unreachable(error: BoxError) -> Self {
        Self::Unreachable(Unreachable::of(&*error), error)
    }

    /// What befell a request on a connection of which this was seen.
    fn of(error: hyper::Error, seen: &answered::Seen) -> Self {
        if let Some(why) = Unreachable::late(&error) {
            Self::Unreachable(why, error.into())
        } else if error.is_user() {
            Self::Request(error)
        } else if error.is_parse() {
            Self::Nonsense(error)
        } else if seen.died_unanswered(&error) {
            Self::Unanswered(error)
        } else {
            Self::Interrupted(error)
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
