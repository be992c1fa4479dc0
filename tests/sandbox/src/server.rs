//! Sockets: the accept loop, TLS, and connections that can be cut at will.
//!
//! 1. HTTP/1.1 and HTTP/2 without TLS are told apart by their first bytes.
//! 2. A request may end its connection: with a RST, or with a FIN and nothing more.
//! 3. Ending the server ends every connection at once. No timers run but those that a test asked for, so that
//!    paused time stays put.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many unread bytes are thrown away so that closing sends a FIN and no RST.
const UNREAD_LIMIT: usize = 4 * 1024 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How a connection is ended by a request on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a TCP RST.
    Reset,
    /// With a FIN.
    Close,
}

/// A connection, as the requests on it see it.
pub(crate) struct Connection {
    /// Counted from 1.
    pub(crate) id: u64,
    how: AtomicU8,
    ended: CancellationToken,
}

impl Connection {
    fn new(id: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            how: AtomicU8::new(0),
            ended: CancellationToken::new(),
        })
    }

    /// Ends the connection; never returns, since the caller ends with it.
    pub(crate) async fn end(&self, how: End) -> ! {
        self.how
            .store(if how == End::Reset { 1 } else { 2 }, Ordering::Release);
        self.ended.cancel();
        std::future::pending().await
    }
}

/// A listener that accepts until it is told to stop.
pub(crate) struct Server {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Serves `service` on `listener`, in tasks of the current runtime.
    pub(crate) fn spawn<S: Service>(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        service: Arc<S>,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(listener, tls, service, stop.clone(), tasks.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self { stop, tasks }
    }

    /// Closes the listener and every connection, and waits until they are closed.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An address to listen on, again and again.
///
/// A port that the system chose is held while nothing listens there: it would soon be given to somebody else.
pub(crate) struct Port {
    address: SocketAddr,
    hold: Option<TcpSocket>,
}

impl Port {
    /// Takes `address`.
    pub(crate) fn take(address: SocketAddr) -> io::Result<Self> {
        if address.port() != 0 {
            return Ok(Self { address, hold: None });
        }
        let hold = shared_socket(address)?;
        hold.bind(address)?;
        Ok(Self {
            address: hold.local_addr()?,
            hold: Some(hold),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens; connections are refused whenever nobody does.
    pub(crate) async fn listen(&self) -> io::Result<TcpListener> {
        if self.hold.is_none() {
            return TcpListener::bind(self.address).await;
        }
        let socket = shared_socket(self.address)?;
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }
}

/// A socket that may have the same port as another of this kind.
fn shared_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    Ok(socket)
}

async fn accept<S: Service>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: Arc<S>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, tls.clone(), service.clone());
                tasks.spawn(stop.clone().run_until_cancelled_owned(serving));
            }
            // Out of file descriptors, most likely: let some close.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

async fn serve<S: Service>(stream: TcpStream, tls: Option<TlsAcceptor>, service: Arc<S>) {
    // Without it a small answer may wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let connection = Connection::new(service.connection_opened());
    let _closed = OnDrop(|| service.connection_closed());
    let socket = Socket {
        stream,
        connection: connection.clone(),
    };
    let ended = connection.ended.clone();
    let serving = async {
        match tls {
            None => talk(socket, connection, &service).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(socket).await {
                    talk(stream, connection, &service).await;
                }
            }
        }
    };
    ended.run_until_cancelled(serving).await;
}

async fn talk<S: Service, IO>(io: IO, connection: Arc<Connection>, service: &Arc<S>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(|request: http::Request<Incoming>| {
        let (service, connection) = (service.clone(), connection.clone());
        async move { Ok::<_, std::convert::Infallible>(service.answer(connection, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(1_024);
    // How a connection ends is the client's business, and the record's.
    let _ = builder.serve_connection(TokioIo::new(io), answer).await;
}

/// A TCP stream that knows how it is to end.
struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        match self.connection.how.load(Ordering::Acquire) {
            1 => {
                let _ = self.stream.set_zero_linger();
            }
            2 => {
                let (mut unread, mut buffer) = (0, [0; 16 * 1024]);
                while let Ok(read @ 1..) = self.stream.try_read(&mut buffer)
                    && unread < UNREAD_LIMIT
                {
                    unread += read;
                }
            }
            _ => {}
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Runs a closure when dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What a server serves.
pub(crate) trait Service: Send + Sync + 'static {
    /// Counts a connection and numbers it.
    fn connection_opened(&self) -> u64;
    /// Counts a connection out.
    fn connection_closed(&self);
    /// Answers one request.
    fn answer(
        &self,
        connection: Arc<Connection>,
        request: http::Request<Incoming>,
    ) -> impl Future<Output = http::Response<axum::body::Body>> + Send;
}
