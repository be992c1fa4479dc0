//! What a request's body leaves behind: how far it got, how it ended, and its tape.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

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

/// The handle of a body that is on its way upstream; outlives it. Clones tell of the same body.
#[derive(Clone, Debug)]
pub struct Recording(Option<Arc<State>>);

/// What the body writes and the handles read. `None` in its place stands for a body that was empty from the start.
#[derive(Debug)]
struct State {
    taken: AtomicU64,
    awaits_caller: AtomicBool,
    end: Mutex<End>,
    ended: Notify,
}

#[derive(Debug)]
struct End {
    outcome: Outcome,
    tape: Option<Tape>,
}

impl Recording {
    pub(super) fn new(empty: bool) -> Self {
        let end = End {
            outcome: Outcome::InProgress,
            tape: None,
        };
        let state = || {
            Arc::new(State {
                taken: AtomicU64::new(0),
                awaits_caller: AtomicBool::new(false),
                end: Mutex::new(end),
                ended: Notify::new(),
            })
        };
        Self((!empty).then(state))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0
            .as_ref()
            .map_or(Outcome::Finished, |state| state.end().outcome)
    }

    /// The tape of a body that has finished, for the first who asks.
    #[must_use]
    pub fn take_tape(&self) -> Option<Tape> {
        match &self.0 {
            Some(state) => state.end().tape.take(),
            None => Some(Tape::empty()),
        }
    }

    /// Bytes that upstream took.
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |state| state.taken.load(Ordering::Relaxed))
    }

    /// Waits until upstream took the last byte, or none will be taken any more. Cancelling it loses nothing.
    pub async fn sent(&self) {
        let Some(state) = &self.0 else { return };
        // Made before it looks: from here on it hears of an end, polled or not.
        let ended = state.ended.notified();
        if state.end().outcome == Outcome::InProgress {
            ended.await;
        }
    }

    /// Waits until upstream has kept still for `timeout`: since the last byte, or, while bytes are at hand that it
    /// does not take, for up to twice as long since the latest. Pauses of the caller do not count.
    pub async fn overdue(&self, timeout: Duration) {
        while self.outcome() == Outcome::InProgress {
            let before = self.progress();
            let pause = tokio::time::timeout(timeout, self.sent()).await;
            if pause.is_err() && before == self.progress() && !self.awaits_caller() {
                return;
            }
        }
        tokio::time::sleep(timeout).await;
    }

    fn awaits_caller(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|state| state.awaits_caller.load(Ordering::Relaxed))
    }

    /// Nobody but the body itself holds the handle: nobody will ask for a tape.
    pub(super) fn is_unwatched(&self) -> bool {
        self.0.as_ref().is_none_or(|state| Arc::strong_count(state) == 1)
    }

    /// Upstream asks for more than the caller has sent so far.
    pub(super) fn pause(&self) {
        if let Some(state) = &self.0 {
            state.awaits_caller.store(true, Ordering::Relaxed);
        }
    }

    /// Upstream took bytes.
    pub(super) fn advance(&self, bytes: usize) {
        if let Some(state) = &self.0 {
            state.awaits_caller.store(false, Ordering::Relaxed);
            state.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// The body is dropped. That says nothing of one that has ended.
    pub(super) fn abandon(&self) {
        self.end(Outcome::Abandoned, None);
    }

    /// The first end is the one that counts.
    pub(super) fn end(&self, outcome: Outcome, tape: Option<Tape>) {
        let Some(state) = &self.0 else { return };
        let mut end = state.end();
        if end.outcome == Outcome::InProgress {
            *end = End { outcome, tape };
            drop(end);
            state.ended.notify_waiters();
        }
    }
}

impl State {
    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
