//! Sockets that listen.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::task::{Context, Poll};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::socket::{self, SocketFile};
use super::{Address, BACKLOG, Peer};

/// The sockets of one listener, which may stand at several addresses.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        /// Its file, if that is ours. It is dropped first: as long as its socket is open, nobody else has its inode.
        _file: Option<SocketFile>,
        socket: UnixListener,
    },
}

/// A caller's connection.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// Where a socket listens.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// An address, with the port that the system chose for 0.
    Tcp(SocketAddr),
    /// A file; without a name where another process made the socket so.
    Unix(PathBuf),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listener could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct BindError {
    address: String,
    cause: io::Error,
}

impl Listener {
    /// Binds every address, or takes what systemd hands over.
    ///
    /// # Errors
    /// When one of them cannot be had; `localhost` does with 127.0.0.1 alone.
    pub fn bind(addresses: &[Address]) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for address in addresses {
            tracing::debug!(?address, "binding");
            match address {
                Address::Localhost(port) => bind_localhost(*port, &mut sockets)?,
                Address::Tcp(address) => sockets.push(Socket::Tcp(bind(*address)?)),
                Address::Unix(path) => {
                    let (file, socket) = socket::bind(path)
                        .map_err(|source| cannot(format!("unix:{}", path.display()), source))?;
                    sockets.push(Socket::Unix {
                        _file: Some(file),
                        socket,
                    });
                }
                Address::Systemd => {
                    inherit(&mut sockets).map_err(|source| cannot("what systemd hands over", source))?;
                }
            }
        }
        Ok(Self { sockets })
    }

    /// Where its sockets listen.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let place = |socket: &Socket| match socket {
            Socket::Tcp(socket) => socket.local_addr().map(Place::Tcp),
            Socket::Unix { socket, .. } => socket
                .local_addr()
                .map(|address| Place::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default())),
        };
        self.sockets
            .iter()
            .filter_map(|socket| place(socket).ok())
            .collect()
    }

    /// The next connection, of whichever socket has one.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        poll_fn(|cx| {
            for socket in &self.sockets {
                if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Socket {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        match self {
            Self::Tcp(socket) => socket.poll_accept(cx)?.map(|(stream, remote)| {
                // Answers are written whole: waiting for more to send only delays them.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr()?;
                Ok((Either::Left(stream), Peer::Tcp { local, remote }))
            }),
            Self::Unix { socket, .. } => socket.poll_accept(cx)?.map(|(stream, _)| {
                let uid = stream.peer_cred()?.uid();
                Ok((Either::Right(stream), Peer::Unix { uid }))
            }),
        }
    }
}

/// Takes the sockets that this process was started with (`LISTEN_FDS`).
fn inherit(sockets: &mut Vec<Socket>) -> io::Result<()> {
    let mut handed = ListenFd::from_env();
    for at in 0..handed.len() {
        let socket = if let Ok(Some(socket)) = handed.take_tcp_listener(at) {
            socket.set_nonblocking(true)?;
            Socket::Tcp(TcpListener::from_std(socket)?)
        } else if let Some(socket) = handed.take_unix_listener(at)? {
            socket.set_nonblocking(true)?;
            Socket::Unix {
                _file: None,
                socket: UnixListener::from_std(socket)?,
            }
        } else {
            continue;
        };
        sockets.push(socket);
    }
    if handed.len() == 0 {
        let sentence = "no socket was handed over: LISTEN_FDS and LISTEN_PID do not name this process; start it by \
                        the socket unit";
        return Err(io::Error::new(io::ErrorKind::NotFound, sentence));
    }
    Ok(())
}

fn bind_localhost(port: u16, sockets: &mut Vec<Socket>) -> Result<(), BindError> {
    let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let port = v4.local_addr().map_or(port, |address| address.port());
    sockets.push(Socket::Tcp(v4));
    match bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Ok(v6) => sockets.push(Socket::Tcp(v6)),
        // Many containers have no IPv6 at all. An address in use, though, would answer our callers in our place.
        Err(error) if error.cause.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(error) => tracing::debug!(%error, "listening on 127.0.0.1 only"),
    }
    Ok(())
}

fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|source| cannot(address.to_string(), source))
}

fn cannot(address: impl Into<String>, cause: io::Error) -> BindError {
    BindError {
        address: address.into(),
        cause,
    }
}
