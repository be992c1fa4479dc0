//! The leg to Fluent: a pooled HTTP client with its timeouts.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::secret::Secret;

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

/// The way out of the machine.
#[derive(Clone, Debug)]
pub enum Egress {
    /// As `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    Environment,
    /// Straight.
    None,
    /// Through an HTTP proxy; `credentials` go into `Proxy-Authorization`.
    Proxy {
        /// The proxy, without userinfo.
        url: Url,
        /// Username and password.
        credentials: Option<(String, Secret)>,
    },
}
