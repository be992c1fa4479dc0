//! Listens, accepts, and drains.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
