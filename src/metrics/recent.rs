//! What people look at while they look: the last failed requests, and how requests fare at the moment.
//!
//! 1. The last failed requests are kept always, as who looks wants to know what came before. A request failed that the
//!    proxy answered or cut, and one that upstream answered with 4xx or 5xx.
//! 2. How all of them fare is gathered while somebody looks ([`Recent::watch`]); else a request costs one load.
//! 3. Nothing here holds a query string, a body or the value of a header but the request's id.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// How many failed requests are kept.
const KEPT: usize = 50;
/// Parts of each doubling of a time: a percentile is true to a twelfth.
const PARTS: u64 = 8;
/// Buckets of a [`Spread`]: the last begins at 2 minutes and takes all beyond.
const BUCKETS: usize = 200;

/// The last failed requests, and those of the moment.
#[derive(Debug, Default)]
pub struct Recent {
    failed: Mutex<Ring>,
    watchers: AtomicUsize,
    moment: Mutex<Moment>,
}

#[derive(Debug, Default)]
struct Ring {
    last: VecDeque<Failed>,
    /// How many there ever were.
    number: u64,
}

/// One failed request.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// Milliseconds since 1970, at its end.
    pub at: u64,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The instance that it went to.
    pub instance: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// The code, where the proxy itself answered or cut.
    pub code: Option<&'static str>,
    /// Whose fault it was.
    pub fault: &'static str,
    /// By which it is found in the log.
    pub request_id: String,
}

/// How one request fared, as far as [`Moment`] asks.
#[derive(Clone, Copy, Debug)]
pub struct Fared {
    /// Whose fault it was that it failed, if it did.
    pub fault: Option<&'static str>,
    /// The wait for the head of upstream's answer.
    pub upstream: Option<Duration>,
    /// What the proxy itself took of the time to that head.
    pub own: Option<Duration>,
}

/// The requests that ended within a moment.
#[derive(Debug, Default)]
pub struct Moment {
    /// How many.
    pub requests: u64,
    /// Those that failed, by whose fault it was, each word once.
    pub failed: Vec<(&'static str, u64)>,
    /// The waits for upstream.
    pub upstream: Spread,
    /// What the proxy itself took.
    pub own: Spread,
}

/// Times, counted in buckets that grow with them.
#[derive(Debug)]
pub struct Spread {
    counts: [u32; BUCKETS],
    total: u64,
}

/// Somebody looks, until dropped.
#[derive(Debug)]
pub struct Watch<'a>(&'a Recent);

impl Recent {
    /// Keeps a failed request.
    pub fn keep(&self, failed: Failed) {
        let mut ring = lock(&self.failed);
        ring.number += 1;
        ring.last.truncate(KEPT - 1);
        ring.last.push_front(failed);
    }

    /// How many failed so far, and the last of them, the latest first.
    #[must_use]
    pub fn failed(&self) -> (u64, Vec<Failed>) {
        let ring = lock(&self.failed);
        (ring.number, ring.last.iter().cloned().collect())
    }

    /// How many failed so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        lock(&self.failed).number
    }

    /// Gathers from now on how requests fare, with nothing of before.
    #[must_use]
    pub fn watch(&self) -> Watch<'_> {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        drop(self.take());
        Watch(self)
    }

    /// What was gathered since the last time.
    #[must_use]
    pub fn take(&self) -> Moment {
        mem::take(&mut lock(&self.moment))
    }

    /// Counts one request, if somebody looks.
    pub fn count(&self, fared: impl FnOnce() -> Fared) {
        if self.watchers.load(Ordering::Relaxed) > 0 {
            lock(&self.moment).count(fared());
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Moment {
    fn count(&mut self, fared: Fared) {
        self.requests += 1;
        if let Some(fault) = fared.fault {
            match self.failed.iter_mut().find(|(known, _)| *known == fault) {
                Some((_, count)) => *count += 1,
                None => self.failed.push((fault, 1)),
            }
        }
        for (time, spread) in [(fared.upstream, &mut self.upstream), (fared.own, &mut self.own)] {
            if let Some(time) = time {
                spread.count(time);
            }
        }
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
        }
    }
}

impl Spread {
    fn count(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros).min(BUCKETS - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
            self.total += 1;
        }
    }

    /// The time that so many of a hundred do not exceed, in milliseconds; none where nothing was counted.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<f64> {
        let wanted = (self.total * percent).div_ceil(100).max(1);
        let mut sum = 0;
        let bucket = self.counts.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        })?;
        #[expect(clippy::cast_precision_loss, reason = "a bucket begins below 2^28")]
        let micros = floor(bucket + 1) as f64;
        Some(micros / 1e3)
    }
}

/// Up to [`PARTS`] microseconds each has a bucket of its own, then each doubling has [`PARTS`].
fn bucket(micros: u64) -> usize {
    let doublings = u64::from(micros.max(PARTS).ilog2() - PARTS.ilog2());
    usize::try_from(doublings * PARTS + (micros >> doublings)).unwrap_or(usize::MAX)
}

/// Where a bucket begins, in microseconds.
fn floor(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let doublings = (bucket / PARTS).saturating_sub(1);
    (bucket - doublings * PARTS) << doublings
}

/// Milliseconds since 1970 by the wall clock.
#[must_use]
pub fn wall_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whoever panicked with the lock held left whole numbers behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(request_id: usize) -> Failed {
        Failed {
            at: 0,
            method: "POST".to_owned(),
            path: "/graphql".to_owned(),
            instance: None,
            status: 502,
            code: None,
            fault: "upstream",
            request_id: request_id.to_string(),
        }
    }

    fn fared(fault: Option<&'static str>) -> Fared {
        Fared {
            fault,
            upstream: Some(Duration::from_millis(100)),
            own: None,
        }
    }

    #[test]
    fn rule_1_the_last_failures_are_kept_the_latest_first() {
        let recent = Recent::default();
        for request in 0..KEPT + 7 {
            recent.keep(failed(request));
        }
        let (number, last) = recent.failed();
        assert_eq!(usize::try_from(number).unwrap(), KEPT + 7);
        let ids: Vec<_> = last.into_iter().map(|failed| failed.request_id).collect();
        let wanted: Vec<_> = (7..KEPT + 7).rev().map(|request| request.to_string()).collect();
        assert_eq!(ids, wanted);
    }

    #[test]
    fn rule_2_nothing_is_gathered_while_nobody_looks() {
        let recent = Recent::default();
        recent.count(|| unreachable!("nobody looks"));
        let watch = recent.watch();
        recent.count(|| fared(None));
        recent.count(|| fared(Some("client")));
        recent.count(|| fared(Some("client")));
        let moment = recent.take();
        assert_eq!((moment.requests, &*moment.failed), (3, &[("client", 2)][..]));
        assert_eq!((recent.take().requests, moment.own.percentile(50)), (0, None));
        recent.count(|| fared(None));
        drop(watch);
        recent.count(|| unreachable!("nobody looks any more"));
        let _watch = recent.watch();
        assert_eq!(recent.take().requests, 0, "what an earlier one left is not told");
    }

    #[test]
    fn percentiles_are_those_of_the_times() {
        let mut spread = Spread::default();
        assert_eq!(spread.percentile(50), None);
        for millis in 1..=100 {
            spread.count(Duration::from_millis(millis));
        }
        for (percent, millis) in [(50, 50.0), (95, 95.0), (99, 99.0), (100, 100.0)] {
            let told = spread.percentile(percent).unwrap();
            assert!((millis..=millis * 1.13).contains(&told), "{percent}: {told}");
        }
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_times_and_is_narrow(micros in 0..120_000_000_u64) {
            let bucket = bucket(micros);
            let (from, to) = (floor(bucket), floor(bucket + 1));
            prop_assert!(bucket < BUCKETS);
            prop_assert!((from..to).contains(&micros), "{from} {micros} {to}");
            prop_assert!((to - from) * PARTS <= from.max(PARTS));
        }
    }
}
