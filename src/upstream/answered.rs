//! Whether any of an answer has come before its connection died.
//!
//! 1. HTTP/1.1: no byte has come since the last byte of a request was sent. Looked at above TLS, whose own messages
//!    are none of the answer's.
//! 2. HTTP/2: its frames are of all streams alike, but of an answer whose head has come there is no error here. So
//!    it is enough that the connection died, or that upstream gave the stream or the connection up (`RST_STREAM`,
//!    `GOAWAY`): what upstream sent was HTTP/2, and of this request's answer nothing.
//!
//! What weakens rule 1: bytes of an answer that come before the last of the request has left are not seen. What weakens
//! rule 2: interim answers (1xx) are none.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::unreachable::find;

/// A connection that is watched; its errors carry what was seen.
pub(super) struct Watched<T> {
    inner: TokioIo<T>,
    seen: Seen,
}

/// What was seen on a connection.
#[derive(Clone)]
pub(super) enum Seen {
    /// Whether a byte has come since one was sent.
    Bytes(Arc<AtomicBool>),
    /// Nothing: many answers share it.
    Frames,
}

impl<T: Connection + Read + Write> Watched<T> {
    /// `multiplexed` where HTTP/2 is spoken without being asked for by TLS.
    pub(super) fn new(connection: T, multiplexed: bool) -> Self {
        let seen = if multiplexed || connection.connected().is_negotiated_h2() {
            Seen::Frames
        } else {
            Seen::Bytes(Arc::default())
        };
        Self {
            inner: TokioIo::new(connection),
            seen,
        }
    }

    /// What is seen on it, as long as it stands.
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Seen {
    /// Whether the connection of a request that met `error` has died before any of its answer came.
    pub(super) fn died_unanswered(&self, error: &hyper::Error) -> bool {
        match self {
            Self::Bytes(came) => !came.load(Ordering::Relaxed),
            Self::Frames => {
                find::<io::Error>(error).is_some()
                    || find::<h2::Error>(error).is_some_and(h2::Error::is_remote)
            }
        }
    }

    fn came(&self, answer: bool) {
        match self {
            Self::Bytes(came) => came.store(answer, Ordering::Relaxed),
            Self::Frames => {}
        }
    }
}

impl<T: Read + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.seen.came(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.seen.came(false);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.seen.came(false);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bytes)
    }
}
