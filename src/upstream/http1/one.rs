//! A connection, with what has come on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::body::Patience;

/// What a read asks for at first, and at most: twice as much after each that was filled.
const READ: (usize, usize) = (8 * 1024, 512 * 1024);

/// The bytes' way to upstream.
pub(in crate::upstream) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection of HTTP/1.1.
pub(in crate::upstream) struct One {
    pub(super) wire: Box<dyn Wire>,
    /// What came, and was not taken yet.
    pub(super) buffer: BytesMut,
    /// Whether a byte has come in this exchange.
    pub(super) begun: bool,
    /// With an upstream that has to take a request, or to answer it.
    pub(super) patience: Patience,
    /// What the next read asks for.
    read: usize,
    pub(in crate::upstream) opened: Instant,
}

impl One {
    /// A connection that was just made, where an answer may take so long.
    pub(in crate::upstream) fn new(wire: impl Wire + 'static, response_timeout: Duration) -> Self {
        Self {
            wire: Box::new(wire),
            buffer: BytesMut::new(),
            begun: false,
            patience: Patience::new(response_timeout),
            read: READ.0,
            opened: Instant::now(),
        }
    }

    /// Whether nothing has come on a connection that is not used: neither its end, nor what nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        let mut nobody = Context::from_waker(Waker::noop());
        Pin::new(&mut self.wire)
            .poll_read(&mut nobody, &mut read)
            .is_pending()
    }

    /// Forgets the exchange that has ended: the next begins anew.
    pub(super) fn forget(&mut self) {
        self.begun = false;
        self.patience.restore();
        self.read = READ.0;
    }

    /// Gives back what is only needed in use.
    pub(super) fn rest(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// Reads what has come; none is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.reserve(self.read);
        let room = self.buffer.capacity() - self.buffer.len();
        let came = ready!(poll_read_buf(Pin::new(&mut self.wire), cx, &mut self.buffer))?;
        self.begun |= came > 0;
        if came == room {
            self.read = (self.read * 2).min(READ.1);
        }
        Poll::Ready(Ok(came))
    }
}

/// TLS says goodbye; nobody waits for it to leave.
impl Drop for One {
    fn drop(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.wire).poll_shutdown(&mut nobody);
    }
}
