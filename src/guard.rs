//! Who may ask, and which headers pass: pure functions over a request's head.

use http::HeaderName;

use crate::secret::Secret;

/// What [`crate::guard`] asks of each request.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Names that `Host` may hold beside loopback names and the connection's own address; lower case, no port.
    pub allowed_hosts: Vec<String>,
    /// Origins beside the proxy's own that may send requests, as browsers write them (`https://app.example`).
    pub allowed_origins: Vec<String>,
    /// A header that each request must carry.
    pub required_header: Option<RequiredHeader>,
    /// The paths that go upstream.
    pub paths: Vec<PathRule>,
}

/// A header that each request must carry, with its value.
#[derive(Clone, Debug)]
pub struct RequiredHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value, compared without telling by the time it takes where they differ.
    pub value: Secret,
}

/// One entry of `listen.paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// This very path.
    Exact(String),
    /// Everything under this path, which ends in `/`.
    Under(String),
}
