//! Listens, accepts, and drains: connections, and nothing of what is said on them.
//!
//! 1. One loop accepts for all addresses of a listener, be they TCP or Unix sockets, bound here or handed over by
//!    systemd; over `max_connections` it stops accepting, and so it
//!    does for a while when the process runs out of descriptors.
//! 2. Each connection speaks HTTP/1.1 or cleartext HTTP/2, under the clocks of `server/pace.rs`.
//! 3. A drain stops accepting at once, lets each connection end the requests that it has begun, and closes it; one that
//!    was accepted just before may still send its first, as its caller knows nothing of the drain.
//! 4. An answer that does not wait for its request's body gets to the caller all the same, see `server/remainder.rs`.
//! 5. Whoever drops the future of [`Server::run`] cuts what is left.

mod listener;
mod pace;
mod remainder;
mod socket;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::Present;

use listener::Stream;
pub use listener::{BindError, Listener, Place};
pub use remainder::WatchedBody;

/// The largest head of a request, and of its buffer; more is answered with 431.
const HEAD_LIMIT: usize = 64 * 1024;
/// What one request over HTTP/2 may hold each way: the library's own 1 MiB and 400 KiB would let a caller make
/// the process keep far more of a request than over HTTP/1.1.
const STREAM_LIMIT: u32 = 64 * 1024;
/// Connections that the kernel may keep waiting for us.
const BACKLOG: i32 = 1024;
/// The pause after `accept` failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a drain waits for the first request of a connection.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Where a listener stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `localhost:PORT`: 127.0.0.1 and, where there is one, `::1`, on the same port.
    Localhost(u16),
    /// One address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// Sockets that systemd hands over.
    Systemd,
}

/// What a caller's connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub max_connections: usize,
    /// From the first byte of a request's head (or the start of the connection) to the last.
    pub header_timeout: Duration,
    /// How long a connection may stand between two requests.
    pub idle_timeout: Duration,
    /// How long a caller may take to read a part of an answer.
    pub write_timeout: Duration,
}

/// Who is at the other end of a caller's connection.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Somebody whose address is known.
    Tcp {
        /// Our end: the address that the caller dialled.
        local: SocketAddr,
        /// The caller's end.
        remote: SocketAddr,
    },
    /// A process of this machine.
    Unix {
        /// The user whom it ran as when it connected.
        uid: u32,
    },
}

/// Serves what one listener accepts.
pub struct Server {
    listener: Listener,
    limits: Limits,
    open: Gauge,
}

impl Server {
    /// A server of what `listener` accepts.
    #[must_use]
    pub fn new(listener: Listener, limits: Limits) -> Self {
        Self {
            listener,
            limits,
            open: Gauge::default(),
        }
    }

    /// Counts its open connections by `gauge`.
    #[must_use]
    pub fn counted_by(self, gauge: &Gauge) -> Self {
        Self {
            open: gauge.clone(),
            ..self
        }
    }

    /// Serves until `drain` is cancelled and every connection has ended; `handler` answers each request. A head is large
    /// and goes far: it is boxed.
    pub async fn run<H, F, B>(self, handler: H, drain: CancellationToken)
    where
        H: Fn(Peer, Box<request::Parts>, WatchedBody) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let room = Arc::new(Semaphore::new(self.limits.max_connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                // The semaphore is never closed.
                let place = Arc::clone(&room).acquire_owned().await.ok();
                (place, self.listener.accept().await)
            };
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Some(_) = connections.join_next() => {}
                (place, accepted) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        let held = (Present::new(&self.open), place);
                        connections.spawn(serve_connection(
                            stream,
                            peer,
                            handler.clone(),
                            self.limits,
                            drain.child_token(),
                            held,
                        ));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

/// Serves one connection to its end, which gives back what it `_held`.
async fn serve_connection<H, F, B>(
    stream: Stream,
    peer: Peer,
    handler: H,
    limits: Limits,
    drain: CancellationToken,
    _held: impl Send,
) where
    H: Fn(Peer, Box<request::Parts>, WatchedBody) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let pace = pace::Pace::new(limits);
    let io = TokioIo::new(pace::PacedIo::new(stream, pace.clone()));
    let begun = &Notify::new();
    let service = service_fn(move |request: Request<Incoming>| {
        begun.notify_one();
        let busy = pace.request_begins(request.version());
        let (head, body, remainder) = remainder::watch(request);
        // The library moves what it is given a few times: a pointer, then.
        let answer = Box::pin(handler(peer, Box::new(head), body));
        async move {
            let mut answer = answer.await;
            remainder.answered(&mut answer);
            Ok::<_, Infallible>(answer.map(|body| pace::BusyBody::new(body, busy)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(HEAD_LIMIT)
        // `pace` keeps the time, from the first byte on and between requests.
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_LIMIT)
        .max_send_buf_size(STREAM_LIMIT as usize)
        .max_header_list_size(u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX));
    let mut connection = pin!(builder.serve_connection(io, service));
    let told_to_end = async {
        drain.cancelled().await;
        let _ = tokio::time::timeout(FIRST_REQUEST, begun.notified()).await;
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told_to_end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error, "a connection ended early");
    }
}
