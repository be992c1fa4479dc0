//! Bodies on their way through: neither held back nor changed, and watched.
//!
//! - [`Recorder`] streams the caller's body upstream and keeps a copy of it while that is cheap; [`Recording`] tells
//!   afterwards how that ended, and gives the [`Tape`] that a replay is played from.
//! - [`hold`] reads a body to its end first, for who has to judge it whole.
//! - [`overhear`] copies its beginning as it goes by, for who tells of it afterwards.
//! - [`Metered`] streams the answer back, counts it, and tells how it ended.
//!
//! Laws, tested as properties where that fits:
//! 1. What upstream gets on each attempt is byte for byte what the caller sent, at any chunking.
//! 2. There is no tape of a body that did not come to its end, nor of one over its limit.
//! 3. A tape takes at most its limit, counted as allocated; all of them together stay within the [`TapeBudget`],
//!    which gets everything back. So do bodies that are held within their [`Memory`].
//! 4. The length that a body declares is taken at its start and survives. One that ends before it is cut, however
//!    politely it ends.
//! 5. The end is known with the last byte: hyper does not ask again once a declared length is reached.
//! 6. A wait is timed only while somebody waits: a body at hand costs no timer, and the time in which nobody
//!    asks for the next chunk is not the sender's.
//! 7. A body that is known to be empty costs nothing.

mod beginning;
mod held;
mod memory;
mod metered;
mod patience;
mod recorder;
mod recording;
#[cfg(test)]
mod script;
mod tape;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

pub use self::beginning::{Beginning, overhear};
pub use self::held::{HoldError, hold};
pub use self::memory::Memory;
pub use self::metered::{AnswerError, AtEnd, End, Ending, Metered};
pub use self::patience::Patience;
pub use self::recorder::{BodyLimits, Recorder};
pub use self::recording::{Outcome, Recording, Tally};
pub use self::tape::{Replay, Tape, TapeBudget};

/// What tapes may hold.
#[derive(Clone, Copy, Debug)]
pub struct TapeLimits {
    /// Bytes of one request; a longer body streams on without a tape.
    pub request: usize,
    /// Bytes of all tapes together; used up, requests stream without a tape.
    pub total: usize,
}

/// Why a request's body ended before its end. All of it is the caller's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than `max_body`.
    #[error("the body of the request is too large")]
    TooLarge,
    /// No chunk came within `body_timeout`.
    #[error("the caller paused too long within the body of the request")]
    Stalled,
    /// The caller left, or sent what is no body.
    #[error("the body of the request was cut")]
    CallerGone,
}

/// The body of a request to upstream: one type for both attempts.
#[derive(Debug)]
pub enum RequestBody<B> {
    /// The caller's, as it comes. A request is handed on many times: boxed, its body is small.
    First(Box<Recorder<B>>),
    /// The same from the tape.
    Again(Replay),
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::First(recorder) => Pin::new(recorder).poll_frame(cx),
            Self::Again(replay) => Pin::new(replay).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::First(recorder) => recorder.is_end_stream(),
            Self::Again(replay) => replay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::First(recorder) => recorder.size_hint(),
            Self::Again(replay) => replay.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests;
