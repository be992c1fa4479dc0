//! The connections of HTTP/1.1 to one origin that are not used at the moment.
//!
//! 1. The one used last is taken first, so that those that are not needed grow old.
//! 2. None is taken that is over: closed by upstream, or sent something unasked, or older than `age`, or unused for
//!    longer than `idle`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::one::One;

/// How long connections are used.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Lifetimes {
    /// Unused.
    pub(in crate::upstream) idle: Duration,
    /// At all.
    pub(in crate::upstream) age: Duration,
}

/// Connections that nobody uses.
pub(in crate::upstream) struct Ones {
    lifetimes: Lifetimes,
    unused: Mutex<Vec<Unused>>,
    /// How many wait for one.
    waiting: AtomicUsize,
    freed: Notify,
}

struct Unused {
    connection: Box<One>,
    since: Instant,
}

impl Ones {
    pub(in crate::upstream) fn new(lifetimes: Lifetimes) -> Self {
        Self {
            lifetimes,
            unused: Mutex::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// One to use `now`, if there is one.
    pub(in crate::upstream) fn take(&self, now: Instant) -> Option<Box<One>> {
        loop {
            let mut last = self.unused().pop()?;
            if last.is_good(self.lifetimes, now) {
                return Some(last.connection);
            }
        }
    }

    /// Takes one that its user no longer needs, or that was just made.
    pub(in crate::upstream) fn put(&self, connection: Box<One>) {
        let since = Instant::now();
        self.unused().push(Unused { connection, since });
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    /// Begins to wait for one.
    pub(in crate::upstream) fn wait(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waits(self)
    }

    /// Closes those that are over, and lets the others rest.
    pub(in crate::upstream) fn sweep(&self, now: Instant) {
        self.unused().retain_mut(|one| {
            one.connection.rest();
            one.is_good(self.lifetimes, now)
        });
    }

    #[cfg(test)]
    pub(in crate::upstream) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn unused(&self) -> MutexGuard<'_, Vec<Unused>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unused {
    /// Rule 2.
    fn is_good(&mut self, lifetimes: Lifetimes, now: Instant) -> bool {
        now.duration_since(self.since) <= lifetimes.idle
            && now.duration_since(self.connection.opened) <= lifetimes.age
            && self.connection.is_quiet()
    }
}

/// One who waits for a connection to come free.
pub(in crate::upstream) struct Waits<'a>(&'a Ones);

impl Waits<'_> {
    /// One came free; another may have taken it.
    pub(in crate::upstream) async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
