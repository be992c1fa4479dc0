//! Sockets that listen.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::{Address, Peer};

/// Connections that the kernel may keep waiting for us.
const BACKLOG: i32 = 1024;

/// The sockets of one listener, which may stand at several addresses.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
}

/// A listener could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    address: String,
    source: io::Error,
}

impl Listener {
    /// Binds every address.
    ///
    /// # Errors
    /// When one of them cannot be bound; `localhost` does with 127.0.0.1 alone.
    pub fn bind(addresses: &[Address]) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for address in addresses {
            tracing::debug!(?address, "binding");
            match address {
                Address::Localhost(port) => bind_localhost(*port, &mut sockets)?,
                Address::Tcp(address) => sockets.push(bind(*address)?),
                Address::Unix(path) => return Err(unsupported(format!("unix:{}", path.display()))),
                Address::Systemd => return Err(unsupported("systemd".to_owned())),
            }
        }
        Ok(Self { sockets })
    }

    /// The addresses as they were bound, with the ports that the system chose for 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// The next connection, of whichever socket has one.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, remote) = poll_fn(|cx| {
            for socket in &self.sockets {
                if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await?;
        let local = stream.local_addr()?;
        Ok((stream, Peer { local, remote }))
    }
}

fn bind_localhost(port: u16, sockets: &mut Vec<TcpListener>) -> Result<(), BindError> {
    let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let port = v4.local_addr().map_or(port, |address| address.port());
    sockets.push(v4);
    match bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Ok(v6) => sockets.push(v6),
        // Many containers have no IPv6 at all. An address in use, though, would answer our callers in our place.
        Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(error) => tracing::debug!(%error, "listening on 127.0.0.1 only"),
    }
    Ok(())
}

fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|source| BindError {
        address: address.to_string(),
        source,
    })
}

fn unsupported(address: String) -> BindError {
    BindError {
        address,
        source: io::ErrorKind::Unsupported.into(),
    }
}
