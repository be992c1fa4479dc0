//! What a request's body leaves behind: how it ended, and its tape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::{BodyError, Tape};

/// How a request's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not: bytes may still come.
    InProgress,
    /// Upstream took all of it, and there is, or was, a tape of it.
    Finished,
    /// Upstream took all of it, but it was too long for a tape, or no memory was left for one.
    TooLong,
    /// The caller did not bring it to an end.
    Failed(BodyError),
    /// Upstream did not want the rest: the connection died, or its answer came before.
    Abandoned,
}

/// The handle of a body that is on its way upstream; outlives it.
///
/// `None` stands for a body that was empty from the start.
#[derive(Clone, Debug)]
pub struct Recording(Option<Arc<Mutex<End>>>);

/// How many bytes of a request's body came from its caller so far.
///
/// It tells so beside the body, and after its end; holding it keeps no tape alive.
#[derive(Clone, Debug, Default)]
pub struct Tally(Option<Arc<AtomicU64>>);

impl Tally {
    pub(super) fn new(empty: bool) -> Self {
        Self((!empty).then(Arc::default))
    }

    pub(super) fn set(&self, bytes: u64) {
        if let Some(tally) = &self.0 {
            tally.store(bytes, Ordering::Relaxed);
        }
    }

    /// The bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |tally| tally.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct End {
    outcome: Outcome,
    tape: Option<Tape>,
    /// Who waits for the end.
    waits: Option<Waker>,
}

impl Recording {
    pub(super) fn new(empty: bool) -> Self {
        let end = || {
            Arc::new(Mutex::new(End {
                outcome: Outcome::InProgress,
                tape: None,
                waits: None,
            }))
        };
        Self((!empty).then(end))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0
            .as_deref()
            .map_or(Outcome::Finished, |end| lock(end).outcome)
    }

    /// Waits until it has ended, whichever way; one may wait at a time.
    pub async fn ended(&self) {
        let Some(end) = &self.0 else { return };
        std::future::poll_fn(|cx| {
            let mut end = lock(end);
            if end.outcome != Outcome::InProgress {
                return Poll::Ready(());
            }
            end.waits = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The tape of a body that has finished, for the first who asks.
    #[must_use]
    pub fn take_tape(&self) -> Option<Tape> {
        match &self.0 {
            Some(end) => lock(end).tape.take(),
            None => Some(Tape::empty()),
        }
    }

    /// Nobody but the body itself holds the handle: nobody will ask for a tape.
    pub(super) fn is_unwatched(&self) -> bool {
        self.0.as_ref().is_none_or(|end| Arc::strong_count(end) == 1)
    }

    /// The first end is the one that counts.
    pub(super) fn end(&self, outcome: Outcome, tape: Option<Tape>) {
        let Some(end) = &self.0 else { return };
        let mut end = lock(end);
        if end.outcome == Outcome::InProgress {
            end.outcome = outcome;
            end.tape = tape;
            if let Some(waits) = end.waits.take() {
                waits.wake();
            }
        }
    }
}

fn lock(end: &Mutex<End>) -> MutexGuard<'_, End> {
    end.lock().unwrap_or_else(PoisonError::into_inner)
}
