//! A request as bytes of HTTP/1.1 (RFC 9112), written as the connection takes them.
//!
//! 1. The head waits for nothing; what of the body is at hand goes with it.
//! 2. A body that knows its length is sent by that length, any other in chunks. It is sent whole: one that ends before
//!    its length, or goes on after it, has failed.
//! 3. Small frames are copied together, large ones are written from where they are.
//! 4. Trailers are dropped.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderName, Method, header, request};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::failure::Failure;
use crate::unreachable::BoxError;

/// Frames up to this are copied.
const SMALL: usize = 4 * 1024;
/// What most heads, with a small body, fit into.
const ROOM: usize = 2 * 1024;

/// What of a request is to be written.
pub(super) struct Outgoing<B> {
    /// The head, sizes of chunks and small frames; `written` of them have left.
    bytes: Vec<u8>,
    written: usize,
    /// A large frame, after them.
    frame: Bytes,
    /// The end of its chunk.
    chunk_end: &'static [u8],
    /// `None` once it has ended.
    body: Option<B>,
    framing: Framing,
    /// Whether anything has left since that was asked.
    moved: bool,
    /// Whether all of it has left, the connection's own buffers too.
    sent: bool,
}

/// How the end of a body is told.
#[derive(Clone, Copy)]
enum Framing {
    /// So many bytes are to come.
    Length(u64),
    Chunked,
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// A request to be written; how its length is told follows from the body alone.
    pub(super) fn new(head: &request::Parts, body: B) -> Self {
        let mut bytes = Vec::with_capacity(ROOM);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        for part in [head.method.as_str(), " ", path, " HTTP/1.1\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
        let framing = match body.size_hint().exact() {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        match framing {
            // A method that gives a body no meaning says nothing of one that is empty (RFC 9110, section 8.6).
            Framing::Length(0) if !has_a_body(head) => {}
            Framing::Length(length) => {
                field(&mut bytes, &header::CONTENT_LENGTH, length.to_string().as_bytes());
            }
            Framing::Chunked => field(&mut bytes, &header::TRANSFER_ENCODING, b"chunked"),
        }
        for (name, value) in &head.headers {
            if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
                field(&mut bytes, name, value.as_bytes());
            }
        }
        bytes.extend_from_slice(b"\r\n");
        Self {
            bytes,
            written: 0,
            frame: Bytes::new(),
            chunk_end: b"",
            body: Some(body),
            framing,
            moved: false,
            sent: false,
        }
    }

    /// Whether all of it was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether anything has left since this was asked.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Whether all that there is has left, and more is to come.
    pub(super) fn waits_for_its_body(&self) -> bool {
        self.body.is_some() && self.bytes.len() + self.after_bytes() == 0
    }

    /// Sends what can be sent; ready when that is all.
    pub(super) fn poll_send<W>(&mut self, cx: &mut Context<'_>, io: &mut W) -> Poll<Result<(), Failure>>
    where
        W: AsyncWrite + Unpin,
    {
        while !self.sent {
            let fed = self.poll_feed(cx)?;
            ready!(self.poll_write(cx, io))?;
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            ready!(fed);
            self.sent = self.body.is_none();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what there is of the body, as far as it is copied; pending where the body makes us wait.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // What comes after a large frame must wait for it, and for the end of its chunk.
        while self.after_bytes() == 0 && self.bytes.len() < 2 * SMALL {
            let Some(body) = &mut self.body else { break };
            if body.is_end_stream() {
                self.end()?;
                break;
            }
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.add(data)?;
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(Failure::Request(error.into()))),
                None => self.end()?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn add(&mut self, data: Bytes) -> Result<(), Failure> {
        match &mut self.framing {
            // An empty chunk would be the last.
            Framing::Chunked if data.is_empty() => return Ok(()),
            Framing::Chunked => {
                self.bytes
                    .extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.chunk_end = b"\r\n";
            }
            Framing::Length(left) => {
                let after = left.checked_sub(data.len() as u64);
                *left = after.ok_or_else(|| Failure::Request("it is longer than it said".into()))?;
            }
        }
        if data.len() > SMALL {
            self.frame = data;
        } else {
            self.bytes.extend_from_slice(&data);
            self.bytes.extend_from_slice(std::mem::take(&mut self.chunk_end));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        match self.framing {
            Framing::Chunked => self.bytes.extend_from_slice(b"0\r\n\r\n"),
            Framing::Length(0) => {}
            Framing::Length(_) => return Err(Failure::Request("it is shorter than it said".into())),
        }
        self.body = None;
        Ok(())
    }

    fn poll_write<W>(&mut self, cx: &mut Context<'_>, io: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        let mut io = Pin::new(io);
        loop {
            let bytes = self.bytes.get(self.written..).unwrap_or_default();
            let after = self.after_bytes();
            if bytes.len() + after == 0 {
                break;
            }
            let taken = ready!(if after == 0 {
                io.as_mut().poll_write(cx, bytes)
            } else {
                let slices = [bytes, &self.frame, self.chunk_end].map(IoSlice::new);
                io.as_mut().poll_write_vectored(cx, &slices)
            })?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(taken);
        }
        self.bytes.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// How much is to be written after `bytes`.
    fn after_bytes(&self) -> usize {
        self.frame.len() + self.chunk_end.len()
    }

    /// So many bytes have left.
    fn advance(&mut self, taken: usize) {
        self.moved = true;
        let of_bytes = taken.min(self.bytes.len() - self.written);
        self.written += of_bytes;
        let of_frame = (taken - of_bytes).min(self.frame.len());
        self.frame.advance(of_frame);
        self.chunk_end.advance(taken - of_bytes - of_frame);
    }
}

fn field(bytes: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

/// Whether a request has a body, be it an empty one: by its method, or because the caller said so.
fn has_a_body(head: &request::Parts) -> bool {
    matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
        || head.headers.contains_key(header::CONTENT_LENGTH)
}

#[cfg(test)]
mod tests;
