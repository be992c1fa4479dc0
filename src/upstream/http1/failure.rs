//! What keeps an exchange from its end.

use std::io;

use super::decode::Malformed;
use crate::unreachable::BoxError;

/// Why an exchange ended before its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum Failure {
    /// The request's body failed.
    #[error("the body of the request failed")]
    Request(#[source] BoxError),
    /// What came is no answer.
    #[error("what came is no HTTP/1.1")]
    Malformed(#[from] Malformed),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The connection was closed before the answer's end.
    #[error("the connection was closed before the end of the answer")]
    Closed,
    /// The head of the answer did not come in time.
    #[error("the answer did not come in time")]
    TimedOut,
}

/// An exchange that ended before its answer began.
pub(in crate::upstream) struct Unfinished {
    pub(in crate::upstream) failure: Failure,
    /// Whether a byte of the answer had come.
    pub(in crate::upstream) begun: bool,
}
