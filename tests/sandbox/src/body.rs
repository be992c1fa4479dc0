//! What is known of a request body while it streams by.
//!
//! 1. Nothing is held back: the body passes frame by frame, memory stays flat.
//! 2. Length and digest are of what really came, also when it never came to its end.

use crate::lock;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

/// What came of a request body so far.
#[derive(Clone, PartialEq, Eq)]
pub struct BodySeen {
    /// The bytes that came.
    pub length: u64,
    /// The SHA-256 of the bytes that came, in lower-case hexadecimal.
    pub sha256: String,
    /// The first bytes, up to `Config::record_body_limit`.
    pub kept: Bytes,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl fmt::Debug for BodySeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodySeen")
            .field("length", &self.length)
            .field("sha256", &self.sha256)
            .field("whole", &self.whole)
            .finish_non_exhaustive()
    }
}

/// The count of one body, shared between the stream and the record.
pub(crate) struct Tally {
    keep: usize,
    so_far: Mutex<SoFar>,
}

struct SoFar {
    length: u64,
    digest: Digest,
    kept: Vec<u8>,
    trailers: Option<HeaderMap>,
    whole: bool,
}

impl Tally {
    /// A count that keeps the first `keep` bytes.
    pub(crate) fn new(keep: usize) -> Arc<Self> {
        let digest = Digest::new(&SHA256);
        let so_far = SoFar {
            length: 0,
            digest,
            kept: Vec::new(),
            trailers: None,
            whole: false,
        };
        Arc::new(Self {
            keep,
            so_far: Mutex::new(so_far),
        })
    }

    /// What came so far.
    pub(crate) fn snapshot(&self) -> BodySeen {
        let so_far = lock(&self.so_far);
        BodySeen {
            length: so_far.length,
            sha256: hex(so_far.digest.clone().finish().as_ref()),
            kept: Bytes::copy_from_slice(&so_far.kept),
            trailers: so_far.trailers.clone(),
            whole: so_far.whole,
        }
    }

    fn add(&self, frame: &Frame<Bytes>) {
        let mut so_far = lock(&self.so_far);
        if let Some(data) = frame.data_ref() {
            so_far.length += data.len() as u64;
            so_far.digest.update(data);
            let room = self.keep.saturating_sub(so_far.kept.len()).min(data.len());
            so_far.kept.extend(data.iter().take(room));
        } else if let Some(trailers) = frame.trailers_ref() {
            so_far.trailers = Some(trailers.clone());
        }
    }

    fn end(&self) {
        lock(&self.so_far).whole = true;
    }
}

/// A request body that is counted as it passes.
pub(crate) struct Observed {
    inner: Incoming,
    tally: Arc<Tally>,
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl Observed {
    /// Counts `inner` into `tally` and calls `on_end` once the whole of it has come.
    pub(crate) fn new(inner: Incoming, tally: Arc<Tally>, on_end: Box<dyn FnOnce() + Send>) -> Self {
        let mut observed = Self {
            inner,
            tally,
            on_end: Some(on_end),
        };
        observed.notice_end();
        observed
    }

    fn notice_end(&mut self) {
        if self.inner.is_end_stream()
            && let Some(on_end) = self.on_end.take()
        {
            self.tally.end();
            on_end();
        }
    }
}

impl Body for Observed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.tally.add(frame);
                self.notice_end();
            }
            Some(Err(_)) => self.on_end = None,
            None => {
                if let Some(on_end) = self.on_end.take() {
                    self.tally.end();
                    on_end();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
