//! What time it is, for judging how long a token lives.
//!
//! 1. The clock goes on while a laptop sleeps (`CLOCK_BOOTTIME` on Linux), unlike `std::time::Instant`.
//! 2. It never goes back, and knows nothing of the calendar.
//! 3. Tests move it: [`Clock::manual`] follows tokio's clock, which can be paused, and can be pushed ahead of
//!    it by [`Hand::sleep_through`], as sleep does to a laptop.
//!
//! Timers are tokio's, and stand still while a machine sleeps: who waits for a moment of this clock waits in
//! slices ([`Clock::reach`]).

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest wait without a look at the clock: what a laptop that woke up may be late by.
const SLICE: Duration = Duration::from_secs(15);

/// A moment on a [`Clock`]: the time since an origin that only that clock knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The time from `earlier` to this moment; zero when `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}

/// A time in whole seconds, rounded up: nobody is told to come back too early.
#[must_use]
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// A source of [`Moment`]s; clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Boot,
    Manual {
        origin: tokio::time::Instant,
        slept: Arc<AtomicU64>,
    },
}

/// Moves a manual [`Clock`].
#[derive(Clone, Debug)]
pub struct Hand(Arc<AtomicU64>);

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::Boot)
    }

    /// A clock for tests: tokio's, plus what its [`Hand`] adds. Needs a running tokio runtime.
    #[must_use]
    pub fn manual() -> (Self, Hand) {
        let slept = Arc::new(AtomicU64::new(0));
        let source = Source::Manual {
            origin: tokio::time::Instant::now(),
            slept: Arc::clone(&slept),
        };
        (Self(source), Hand(slept))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::Boot => Moment(since_boot()),
            Source::Manual { origin, slept } => {
                Moment(origin.elapsed() + Duration::from_millis(slept.load(Ordering::SeqCst)))
            }
        }
    }

    /// Waits until this clock has reached `moment`, though the machine may sleep meanwhile.
    pub async fn reach(&self, moment: Moment) {
        loop {
            let left = moment.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(SLICE)).await;
        }
    }
}

impl Hand {
    /// Moves the clock ahead of all timers, as a machine's sleep does.
    pub fn sleep_through(&self, time: Duration) {
        self.0.fetch_add(
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Ordering::SeqCst,
        );
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
/// Elsewhere the monotonic clock is the one that goes on in sleep (macOS), or the best there is.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(CLOCK);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_goes_forward() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert_eq!(first.since(first + Duration::from_secs(1)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn reach_notices_that_the_machine_slept() {
        let (clock, hand) = Clock::manual();
        let alarm = clock.now() + Duration::from_hours(1);
        let started = tokio::time::Instant::now();
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.reach(alarm).await }
        });
        tokio::time::advance(Duration::from_secs(1)).await;
        hand.sleep_through(Duration::from_hours(2));
        waiting.await.unwrap();
        assert!(started.elapsed() <= SLICE + Duration::from_secs(1));
    }
}
