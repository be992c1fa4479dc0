//! The caller's body on its way upstream, with a tape running along.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::patience::Patience;
use super::{BodyError, Outcome, Recording, Tally, Tape, TapeBudget};

/// What a caller's body may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes; `None` without a limit.
    pub max_body: Option<u64>,
    /// The longest pause between two chunks.
    pub timeout: Duration,
}

impl BodyLimits {
    /// Whether a body says at its start that it is too long: no connection is needed to refuse it.
    pub fn forbid(&self, body: &impl Body) -> bool {
        self.max_body.is_some_and(|max| body.size_hint().lower() > max)
    }
}

/// Streams a request's body unchanged, and keeps a copy while it may. Trailers are dropped.
#[derive(Debug)]
pub struct Recorder<B> {
    inner: B,
    /// The length that the body declared at its start.
    declared: Option<u64>,
    taken: u64,
    tally: Tally,
    max: u64,
    patience: Patience,
    ended: bool,
    tape: Option<Tape>,
    recording: Recording,
}

impl<B> Recorder<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Wraps the caller's body; what it leaves behind is told by the handle.
    pub fn new(inner: B, limits: BodyLimits, budget: &TapeBudget) -> (Self, Recording) {
        let hint = inner.size_hint();
        let empty = inner.is_end_stream() || hint.exact() == Some(0);
        let recording = Recording::new(empty);
        let tape = (!empty && budget.could_hold(hint.lower())).then(|| Tape::new(budget));
        let recorder = Self {
            inner,
            declared: if empty { Some(0) } else { hint.exact() },
            taken: 0,
            tally: Tally::new(empty),
            max: limits.max_body.unwrap_or(u64::MAX),
            patience: Patience::new(limits.timeout),
            ended: empty,
            tape,
            recording: recording.clone(),
        };
        (recorder, recording)
    }

    /// Tells how much of the body has come, for who asks meanwhile and afterwards.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Judges a chunk, and copies it.
    fn take(&mut self, data: &Bytes) -> Result<(), BodyError> {
        let expected = self.declared.map(|declared| declared.saturating_sub(self.taken));
        self.taken = self.taken.saturating_add(data.len() as u64);
        self.tally.set(self.taken);
        if self.taken > self.max {
            return Err(BodyError::TooLarge);
        }
        if self.declared.is_some_and(|declared| self.taken > declared) {
            return Err(BodyError::CallerGone);
        }
        if self.recording.is_unwatched() {
            self.tape = None;
        }
        if let Some(tape) = &mut self.tape
            && tape.record(data, expected).is_err()
        {
            self.tape = None;
        }
        if self.declared == Some(self.taken) || self.inner.is_end_stream() {
            self.finish()?;
        }
        Ok(())
    }

    /// The inner body has ended: all is well if that is the end it declared.
    fn finish(&mut self) -> Result<(), BodyError> {
        if self.declared.is_some_and(|declared| self.taken < declared) {
            return Err(BodyError::CallerGone);
        }
        self.ended = true;
        let tape = self.tape.take();
        let outcome = if tape.is_some() {
            Outcome::Finished
        } else {
            Outcome::TooLong
        };
        self.recording.end(outcome, tape);
        Ok(())
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.ended = true;
        self.tape = None;
        self.recording.end(Outcome::Failed(error), None);
        error
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        while !self.ended {
            let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
                return self.patience.poll_exhausted(cx).map(|()| Err(BodyError::Stalled));
            };
            self.patience.restore();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => return Poll::Ready(self.take(&data).map(|()| Some(data))),
                Some(Ok(Err(_trailers))) => {}
                Some(Err(_)) => return Poll::Ready(Err(BodyError::CallerGone)),
                None => self.finish()?,
            }
        }
        Poll::Ready(Ok(None))
    }
}

impl<B> Body for Recorder<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.poll_chunk(cx)
            .map(|chunk| chunk.map_err(|error| this.fail(error)).transpose())
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared {
            Some(declared) => SizeHint::with_exact(declared.saturating_sub(self.taken)),
            None if self.ended => SizeHint::with_exact(0),
            None => self.inner.size_hint(),
        }
    }
}

impl<B> Drop for Recorder<B> {
    fn drop(&mut self) {
        self.recording.end(Outcome::Abandoned, None);
    }
}

#[cfg(test)]
mod tests;
