//! A store that is left alone while it is away.
//!
//! 1. While a store cannot be asked, operations fail at once; one each `PROBE` is let through to see whether it
//!    is back. So a store that is away costs no caller a wait, but the one who probes.
//! 2. One warning when it goes, one line when it is back, whatever the load.
//! 3. A store that takes no writes is still read: only who writes finds out, and only a write shows that it is
//!    over.
//! 4. Each error of the store itself is counted; operations that were not tried are not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::{Change, Lease, Reading, Shelf, Store, StoreError};
use crate::clock::{Clock, Moment};
use crate::token::BoxFuture;
use crate::token::grant::Login;

/// How long a store that is away is left alone.
const PROBE: Duration = Duration::from_secs(3);

/// A store, and how it stands.
pub struct Watched {
    store: Arc<dyn Store>,
    watch: Arc<Watch>,
}

impl Watched {
    /// Watches `store`; its errors are counted in `errors`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, errors: Counter, clock: Clock) -> Self {
        let watch = Watch {
            errors,
            clock,
            away: Mutex::new(None),
        };
        Self {
            store,
            watch: Arc::new(watch),
        }
    }
}

impl Store for Watched {
    fn shelf(&self, login: &Login) -> Arc<dyn Shelf> {
        Arc::new(WatchedShelf {
            shelf: self.store.shelf(login),
            watch: Arc::clone(&self.watch),
        })
    }
}

/// What an operation shows of a store where it succeeds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

struct Away {
    error: StoreError,
    next_probe: Moment,
}

struct Watch {
    errors: Counter,
    clock: Clock,
    away: Mutex<Option<Away>>,
}

impl Watch {
    async fn run<T>(
        &self,
        kind: Kind,
        operation: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.admit(kind)?;
        let outcome = operation.await;
        match &outcome {
            Ok(_) => self.succeeded(kind),
            Err(error) => self.failed(*error),
        }
        outcome
    }

    /// Rules 1 and 3.
    fn admit(&self, kind: Kind) -> Result<(), StoreError> {
        let mut away = self.away();
        let now = self.clock.now();
        match away.as_mut() {
            None => Ok(()),
            Some(away) if away.error == StoreError::Unwritable && kind == Kind::Read => Ok(()),
            Some(away) if away.next_probe <= now => {
                away.next_probe = now + PROBE;
                Ok(())
            }
            Some(away) => Err(away.error),
        }
    }

    fn succeeded(&self, kind: Kind) {
        let mut away = self.away();
        let over = |away: &mut Away| kind == Kind::Write || away.error != StoreError::Unwritable;
        if away.take_if(over).is_some() {
            tracing::info!("the shared cache is back");
        }
    }

    fn failed(&self, error: StoreError) {
        self.errors.inc();
        let mut away = self.away();
        if away.is_none() {
            tracing::warn!(cause = %error, "the shared cache is left alone; this process goes on by itself");
        }
        *away = Some(Away {
            error,
            next_probe: self.clock.now() + PROBE,
        });
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct WatchedShelf {
    shelf: Arc<dyn Shelf>,
    watch: Arc<Watch>,
}

impl Shelf for WatchedShelf {
    fn read(&self) -> BoxFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.watch.run(Kind::Read, self.shelf.read()))
    }

    fn lease(&self, life: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        Box::pin(self.watch.run(Kind::Write, self.shelf.lease(life)))
    }

    fn settle(&self, lease: Lease, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.watch.run(Kind::Write, self.shelf.settle(lease, change)))
    }

    fn clear_refusal(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.watch.run(Kind::Write, self.shelf.clear_refusal()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;

    use super::super::StoreTime;
    use super::super::tests::login;
    use super::*;
    use crate::clock::Hand;

    type Outcome = Result<(), StoreError>;

    const AWAY: Outcome = Err(StoreError::Unreachable);

    /// A store whose operations end as it is told, or never, and that counts them.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<[Option<Outcome>; 2]>>, Arc<AtomicUsize>);

    impl Told {
        fn reads_and_writes(&self, reads: Option<Outcome>, writes: Option<Outcome>) {
            *self.0.lock().unwrap() = [reads, writes];
        }

        fn asked(&self) -> usize {
            self.1.load(Ordering::SeqCst)
        }

        fn answer<T: Send + 'static>(&self, kind: Kind, answer: T) -> BoxFuture<'_, Result<T, StoreError>> {
            Box::pin(async move {
                self.1.fetch_add(1, Ordering::SeqCst);
                let [reads, writes] = *self.0.lock().unwrap();
                match if kind == Kind::Read { reads } else { writes } {
                    Some(outcome) => outcome.map(|()| answer),
                    None => std::future::pending().await,
                }
            })
        }
    }

    impl Store for Told {
        fn shelf(&self, _: &Login) -> Arc<dyn Shelf> {
            Arc::new(self.clone())
        }
    }

    impl Shelf for Told {
        fn read(&self) -> BoxFuture<'_, Result<Reading, StoreError>> {
            let reading = Reading {
                now: StoreTime(0),
                entry: None,
                refusal: None,
                counted: Vec::new(),
            };
            self.answer(Kind::Read, reading)
        }

        fn lease(&self, _: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
            self.answer(Kind::Write, None)
        }

        fn settle(&self, _: Lease, _: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
            self.answer(Kind::Write, true)
        }

        fn clear_refusal(&self) -> BoxFuture<'_, Result<(), StoreError>> {
            self.answer(Kind::Write, ())
        }
    }

    fn watched() -> (Told, Arc<dyn Shelf>, Counter, Hand) {
        let (store, errors, (clock, hand)) = (Told::default(), Counter::default(), Clock::manual());
        let watched = Watched::new(Arc::new(store.clone()), errors.clone(), clock);
        (store, watched.shelf(&login()), errors, hand)
    }

    #[tokio::test(start_paused = true)]
    async fn rule_1_a_store_that_is_away_is_asked_once_each_three_seconds() {
        let (store, shelf, errors, hand) = watched();
        store.reads_and_writes(Some(AWAY), Some(AWAY));
        for asked in 1..=3 {
            for _ in 0..10 {
                assert_eq!(shelf.read().await.unwrap_err(), StoreError::Unreachable);
                assert_eq!(shelf.clear_refusal().await, AWAY);
                assert_eq!(store.asked(), asked);
            }
            hand.sleep_through(PROBE);
        }
        store.reads_and_writes(None, Some(Ok(())));
        let mut probe = shelf.read();
        assert!((&mut probe).now_or_never().is_none());
        assert_eq!(shelf.clear_refusal().await, AWAY, "one probe at a time");
        drop(probe);
        hand.sleep_through(PROBE);
        store.reads_and_writes(Some(Ok(())), Some(Ok(())));
        shelf.read().await.unwrap();
        assert!(shelf.settle(Lease::none(), Change::default()).await.unwrap());
        assert!(shelf.lease(PROBE).await.unwrap().is_none());
        assert_eq!(errors.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn rule_3_a_store_that_takes_no_writes_is_read_and_only_a_write_ends_that() {
        let (store, shelf, errors, hand) = watched();
        store.reads_and_writes(Some(Ok(())), Some(Err(StoreError::Unwritable)));
        for _ in 0..10 {
            shelf.read().await.unwrap();
            assert_eq!(shelf.clear_refusal().await, Err(StoreError::Unwritable));
        }
        assert_eq!((store.asked(), errors.get()), (10 + 1, 1));
        store.reads_and_writes(Some(Ok(())), Some(Ok(())));
        hand.sleep_through(PROBE);
        for _ in 0..10 {
            shelf.clear_refusal().await.unwrap();
        }
        assert_eq!(errors.get(), 1);
    }
}
