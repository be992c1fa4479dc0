//! A connection to upstream: its name resolved, TCP, a tunnel where a proxy is on the way, TLS, all under one clock.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body::Body;
use hyper::client::conn::http2;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};

use super::egress::Egress;
use super::http1::One;
use super::pool::{Connection, Making};
use super::tunnel::tunnel;
use super::{Config, HttpVersion};
use crate::unreachable::{Because, BoxError, Unreachable};

/// After this much silence the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// TCP, or TLS to a proxy.
type Wire = MaybeHttpsStream<TokioIo<TcpStream>>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Makes connections, each within the same time.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<WayOut>,
    timeout: Duration,
    response_timeout: Duration,
    /// Whether HTTP/2 is spoken without being asked for.
    http2: bool,
    opened: Counter,
}

/// The bytes' way to the target's port, be it straight or through a tunnel.
#[derive(Clone)]
struct WayOut {
    tcp: HttpConnector,
    to_proxy: HttpsConnector<HttpConnector>,
    egress: Egress,
    /// Where this process itself listens.
    own: Arc<[SocketAddr]>,
}

impl Connector {
    /// `tls` tells the protocols to be spoken to the target; a proxy on the way is spoken to in HTTP/1.1. What
    /// leads to one of `own` is no connection.
    pub(super) fn new(tls: ClientConfig, config: &Config, own: &[SocketAddr]) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        let mut proxy_tls = tls.clone();
        proxy_tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let way_out = WayOut {
            to_proxy: HttpsConnector::from((tcp.clone(), proxy_tls)),
            tcp,
            egress: config.egress.clone(),
            own: own.into(),
        };
        Self {
            https: HttpsConnector::from((way_out, tls)),
            timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            http2: config.http_version == HttpVersion::Http2,
            opened: Counter::default(),
        }
    }

    /// Makes a connection to the host of `uri`, and begins to speak HTTP on it.
    pub(super) fn connect<B>(&self, uri: Uri) -> Making<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let wire = tokio::time::timeout(self.timeout, self.https.clone().oneshot(uri));
        let (opened, http2, patience) = (self.opened.clone(), self.http2, self.response_timeout);
        Box::pin(async move {
            let wire = wire.await??;
            opened.inc();
            if http2 || wire.connected().is_negotiated_h2() {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new());
                let (sender, connection) = builder.handshake(wire).await?;
                tokio::spawn(drive(connection));
                return Ok(Connection::Many(sender));
            }
            // Without what stands between the libraries, where that can be left out.
            let one = match wire {
                MaybeHttpsStream::Http(MaybeHttpsStream::Http(tcp)) => One::new(tcp.into_inner(), patience),
                MaybeHttpsStream::Https(tls) => One::new(tls.into_inner(), patience),
                wire @ MaybeHttpsStream::Http(_) => One::new(TokioIo::new(wire), patience),
            };
            Ok(Connection::One(Box::new(one)))
        })
    }

    /// How many connections were made.
    pub(super) fn opened(&self) -> &Counter {
        &self.opened
    }
}

/// Runs a connection to its end. Its requests are told of its errors.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to upstream ended early");
    }
}

impl Service<Uri> for WayOut {
    type Response = Wire;
    type Error = BoxError;
    type Future = Connecting<Wire>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Both connectors are always ready; each call asks the one it takes.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let Some(proxy) = self.egress.proxy_for(&target).cloned() else {
            let (tcp, own) = (self.tcp.clone(), Arc::clone(&self.own));
            return Box::pin(async move {
                let stream = tcp.oneshot(target).await?;
                if leads_to(stream.inner(), &own)? {
                    return Err(Because {
                        why: Unreachable::Itself,
                        source: None,
                    }
                    .into());
                }
                Ok(MaybeHttpsStream::Http(stream))
            });
        };
        let to_proxy = self.to_proxy.clone();
        Box::pin(async move {
            let unreachable = |source| Because {
                why: Unreachable::Proxy,
                source: Some(source),
            };
            let stream = to_proxy.oneshot(proxy.uri()).await.map_err(unreachable)?;
            Ok(tunnel(stream, &target, proxy.authorization()).await?)
        })
    }
}

/// Whether a connection has one of these listeners at its other end.
fn leads_to(stream: &TcpStream, listeners: &[SocketAddr]) -> std::io::Result<bool> {
    let (here, there) = (stream.local_addr()?, stream.peer_addr()?);
    let on_this_machine = there.ip().is_loopback() || there.ip() == here.ip();
    Ok(listeners.iter().any(|listener| {
        let every = listener.ip().is_unspecified() && listener.is_ipv4() == there.is_ipv4();
        listener.port() == there.port() && (listener.ip() == there.ip() || (every && on_this_machine))
    }))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_listener_is_known_by_its_address_or_as_one_of_every_address() {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for dialled in ["127.0.0.1", "127.0.0.9"] {
            let stream = TcpStream::connect((dialled, port)).await.unwrap();
            let leads = |to: &str, port: u16| {
                leads_to(&stream, &[SocketAddr::new(to.parse().unwrap(), port)]).unwrap()
            };
            assert!(leads(dialled, port) && leads("0.0.0.0", port));
            for other in ["127.0.0.2", "10.0.0.1", "::", "::1"] {
                assert!(!leads(other, port), "{other}");
            }
            assert!(!leads(dialled, port ^ 1) && !leads("0.0.0.0", port ^ 1));
        }
    }
}
