//! The server's idea of time: tokio's clock, so that paused tests work, plus a skew that tests set.

use crate::lock;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The moment every sandbox starts at, on the calendar: 2026-01-01T00:00:00Z, in Unix seconds.
const CALENDAR_START: i64 = 1_767_225_600;

/// A moment on the server's clock, from its start; the skew may make it negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(TimeDelta);

impl Moment {
    /// The moment `life` later.
    pub(crate) fn after(self, life: Duration) -> Self {
        Self(self.0.checked_add(&delta(life)).unwrap_or(TimeDelta::MAX))
    }

    /// How long until `later`; zero when it is past.
    pub(crate) fn until(self, later: Self) -> Duration {
        later
            .0
            .checked_sub(&self.0)
            .and_then(|left| left.to_std().ok())
            .unwrap_or(Duration::ZERO)
    }

    /// The same moment on the calendar.
    pub(crate) fn calendar(self) -> DateTime<Utc> {
        let start = DateTime::from_timestamp(CALENDAR_START, 0).unwrap_or_default();
        start
            .checked_add_signed(self.0)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// The clock of one sandbox.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Forward, backward.
    skew: Mutex<TimeDelta>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            skew: Mutex::new(TimeDelta::zero()),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        let elapsed = delta(self.start.elapsed());
        Moment(elapsed.checked_add(&lock(&self.skew)).unwrap_or(TimeDelta::MAX))
    }

    /// Moves the server's time forward: tokens expire early, locks end early.
    pub(crate) fn forward(&self, by: Duration) {
        let mut skew = lock(&self.skew);
        *skew = skew.checked_add(&delta(by)).unwrap_or(TimeDelta::MAX);
    }

    /// Moves the server's time back: tokens live longer than they said.
    pub(crate) fn back(&self, by: Duration) {
        let mut skew = lock(&self.skew);
        *skew = skew.checked_sub(&delta(by)).unwrap_or(TimeDelta::MIN);
    }
}

/// A calendar day of the seeded past: `seconds` before the sandbox started.
pub(crate) fn seeded(seconds_before: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(CALENDAR_START - i64::from(seconds_before), 0).unwrap_or_default()
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
