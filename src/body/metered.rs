//! The answer on its way to the caller: counted, and told how it ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::patience::Patience;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its last byte, or its trailers.
    Complete,
    /// Before, by upstream; the caller's connection is cut too.
    Cut,
    /// Before, by the caller, or by us, who stopped asking.
    CallerGone,
}

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How it came.
    pub ending: Ending,
    /// Bytes of the body that were passed on.
    pub bytes: u64,
}

/// Why an answer was cut. As an error of the body, it makes the server cut the caller's connection.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// No chunk came within `read_timeout`.
    #[error("upstream paused too long within its answer")]
    Stalled,
    /// The answer ended before its declared length.
    #[error("the answer ended before its declared length")]
    Short,
    /// The connection to upstream failed.
    #[error("the connection to upstream died within its answer")]
    Broken(#[source] E),
}

/// What is told the end of an answer.
pub trait AtEnd {
    /// The answer has ended so.
    fn at_end(self, end: End);
}

impl<F: FnOnce(End)> AtEnd for F {
    fn at_end(self, end: End) {
        self(end);
    }
}

/// Streams an answer unchanged, trailers included, and tells its end once, when dropped.
///
/// An error is told a breath later than it is known. The server throws away what it has not written yet when a body
/// fails; in the breath it writes, so that a caller never takes an answer that began for a connection that died: some
/// send a request again, then, a mutation too.
#[derive(Debug)]
pub struct Metered<B, T>
where
    B: Body<Data = Bytes>,
    T: AtEnd,
{
    inner: B,
    /// The length that the body declared at its start.
    declared: Option<u64>,
    patience: Patience,
    end: End,
    /// The error that is told next.
    error: Option<AnswerError<B::Error>>,
    failed: bool,
    told: Option<T>,
}

impl<B, T> Metered<B, T>
where
    B: Body<Data = Bytes> + Unpin,
    T: AtEnd + Unpin,
{
    /// Wraps an answer; `read_timeout` is the longest pause between two chunks.
    pub fn new(inner: B, read_timeout: Duration, told: T) -> Self {
        let mut metered = Self {
            declared: inner.size_hint().exact(),
            inner,
            patience: Patience::new(read_timeout),
            end: End {
                ending: Ending::CallerGone,
                bytes: 0,
            },
            error: None,
            failed: false,
            told: Some(told),
        };
        metered.look_for_end();
        metered
    }

    /// Nobody may ask again after the last byte, so the end is looked for with each.
    fn look_for_end(&mut self) {
        let is_over = match self.declared {
            Some(declared) => self.end.bytes >= declared,
            None => self.inner.is_end_stream(),
        };
        if is_over {
            self.end.ending = Ending::Complete;
        }
    }

    fn is_short(&self) -> bool {
        self.declared.is_some_and(|declared| self.end.bytes < declared)
    }

    /// Takes a breath before the error is told.
    fn fail<P>(&mut self, error: AnswerError<B::Error>, cx: &Context<'_>) -> Poll<P> {
        self.error = Some(error);
        self.end.ending = Ending::Cut;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The error is never pinned.
impl<B, T> Unpin for Metered<B, T>
where
    B: Body<Data = Bytes> + Unpin,
    T: AtEnd + Unpin,
{
}

impl<B, T> Body for Metered<B, T>
where
    B: Body<Data = Bytes> + Unpin,
    T: AtEnd + Unpin,
{
    type Data = Bytes;
    type Error = AnswerError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Some(error) = this.error.take() {
            this.failed = true;
            return Poll::Ready(Some(Err(error)));
        }
        if this.failed {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            ready!(this.patience.poll_exhausted(cx));
            return this.fail(AnswerError::Stalled, cx);
        };
        this.patience.restore();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.end.bytes += data.len() as u64;
                    this.look_for_end();
                } else if !this.is_short() {
                    this.end.ending = Ending::Complete;
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => return this.fail(AnswerError::Broken(error), cx),
            None if this.is_short() => return this.fail(AnswerError::Short, cx),
            None => {
                this.end.ending = Ending::Complete;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.error.is_none() && !self.is_short() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B, T> Drop for Metered<B, T>
where
    B: Body<Data = Bytes>,
    T: AtEnd,
{
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            told.at_end(self.end);
        }
    }
}

#[cfg(test)]
mod tests;
