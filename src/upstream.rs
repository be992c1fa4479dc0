//! The leg to Fluent: a pooled HTTP client with its clocks.
//!
//! 1. A request is sent once; sent again here is only one that was never started, because its pooled
//!    connection turned out closed.
//! 2. Connecting (name, TCP, TLS) has one clock; the wait for an answer's head has another, which starts anew
//!    with each part of the request that upstream takes, and stands still while the caller makes it wait.
//! 3. Connections are used for `max_age` at most, so that names are resolved again.
//! 4. No connection is made to where this process itself listens: a request that went there would come back.
//!    Through a proxy on the way out this cannot be seen, and is left to `Via`.
//! 5. Redirects are not followed, bodies are not touched, nothing is decompressed.

mod answered;
mod clock;
mod connect;
pub mod egress;
pub mod tls;
mod tunnel;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;

use crate::unreachable::{BoxError, Unreachable, find};
use clock::{Clocked, ResponseClock};
use connect::Connector;
use egress::Egress;

/// The client of one instance's upstream; requests carry absolute URIs.
pub struct Upstream<B> {
    // Replaced every `max_age`; the old one ends with its last request.
    pool: ArcSwap<Client<Connector, Clocked<B>>>,
    connector: Connector,
    config: Config,
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
        let connector = Connector::new(tls, &config, own);
        let pool = ArcSwap::from_pointee(client(&config, connector.clone()));
        Self {
            pool,
            connector,
            config,
        }
    }

    /// Sends `request` and waits for the head of the answer.
    ///
    /// # Errors
    /// When there is no connection, no answer or none in time. Where the request's own body failed, the error
    /// is [`UpstreamError::Request`], and whoever made the body knows why.
    pub async fn send(&self, mut request: Request<B>) -> Result<Response<Incoming>, UpstreamError> {
        *request.version_mut() = match self.config.http_version {
            HttpVersion::Http2 => Version::HTTP_2,
            HttpVersion::Http1 | HttpVersion::Auto => Version::HTTP_11,
        };
        // Beside `:authority` it has no place (RFC 9113, section 8.3.1); where HTTP/1.1 is spoken after all, the
        // client makes it again from the URI.
        if self.config.http_version != HttpVersion::Http1 {
            request.headers_mut().remove(header::HOST);
        }
        let clock = ResponseClock::new(self.config.response_timeout);
        let request = request.map(|body| Clocked::new(body, clock.clone()));
        let response = self.pool.load().request(request);
        tokio::select! {
            response = response => response.map_err(UpstreamError::from),
            () = clock.rings() => Err(UpstreamError::TimedOut),
        }
    }

    /// Counts the connections that were opened.
    #[must_use]
    pub fn opened(&self) -> &Counter {
        self.connector.opened()
    }

    /// Replaces the pool every `max_age`, for as long as it is polled.
    pub async fn age(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.config.max_age).await;
            self.pool
                .store(Arc::new(client(&self.config, self.connector.clone())));
        }
    }
}

fn client<B>(config: &Config, connector: Connector) -> Client<Connector, Clocked<B>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(config.idle_timeout)
        .http2_only(config.http_version == HttpVersion::Http2)
        .build(connector)
}

/// Why there is no answer from upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection: nothing was sent.
    #[error("no connection to upstream ({0})")]
    Unreachable(Unreachable, #[source] legacy::Error),
    /// The connection died without a byte of an answer.
    #[error("the connection to upstream died without a byte of an answer")]
    Unanswered(#[source] legacy::Error),
    /// The connection died before an answer.
    #[error("the connection to upstream died before an answer")]
    Interrupted(#[source] legacy::Error),
    /// What came in the place of an answer was no HTTP.
    #[error("upstream answered with what is no HTTP; look at the URL, and at what stands on the way")]
    Nonsense(#[source] legacy::Error),
    /// The request's own body failed, so the request was given up.
    #[error("the request was given up")]
    Request(#[source] legacy::Error),
    /// The head of the answer did not come in time.
    #[error("upstream did not answer in time")]
    TimedOut,
}

impl UpstreamError {
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

impl From<legacy::Error> for UpstreamError {
    fn from(error: legacy::Error) -> Self {
        if error.is_connect() {
            return Self::Unreachable(Unreachable::of(&error), error);
        }
        if let Some(why) = Unreachable::late(&error) {
            return Self::Unreachable(why, error);
        }
        match find::<hyper::Error>(&error) {
            Some(cause) if cause.is_user() => Self::Request(error),
            Some(cause) if cause.is_parse() => Self::Nonsense(error),
            _ if answered::died_unanswered(&error) => Self::Unanswered(error),
            _ => Self::Interrupted(error),
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
