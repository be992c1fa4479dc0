//! One token and its renewal: the life of what a [`Source`] hands out.
//!
//! Readers load two pointers: the source's slot, which changes with its credentials, and the token that the slot
//! holds. Writers hold the slot's book, a lock that is never held across an await; they are few, as flights are
//! numbered and each number flies once. A token's generation is the number of the flight that first brought it,
//! or that put it back after a rejection.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, Semaphore};

use super::House;
use super::book::Book;
use super::held::Held;
use super::status::{Logins, Status, TokenState};
use crate::clock::{Moment, whole_seconds};
use crate::name::Name;
use crate::token::digest::Digest;
use crate::token::grant::{Login, Policy, REFRESH_GRANT};
use crate::token::ledger::Ledger;
use crate::token::life::SECOND;
use crate::token::store::Shelf;
use crate::token::{AccessToken, BoxFuture, Rejection, Replacement, TokenError, TokenSource, Trouble};

/// How long it takes, at most, until 401s may cause one more login.
const REFILL: Duration = Duration::from_secs(10);

/// Gives the token of one user of one instance; cloning is cheap.
#[derive(Clone)]
pub struct Source(Arc<ArcSwap<Slot>>);

/// A login, its token, and all that becomes of both; changed credentials get another slot.
pub(super) struct Slot {
    /// Tells the flights of slots apart.
    pub(super) id: u64,
    /// Whom the log speaks of: the first instance and user with this login.
    pub(super) names: (Name, Name),
    pub(super) login: Login,
    pub(super) policy: Policy,
    pub(super) key: Digest,
    pub(super) credentials: Digest,
    /// Of the account, which several slots may share.
    ledger: Arc<Mutex<Ledger>>,
    /// Where processes share the login, if they do.
    pub(super) shelf: Option<Arc<dyn Shelf>>,
    pub(super) house: Arc<House>,
    /// The latest token; none before the first. Written with the book held.
    pub(super) held: ArcSwapOption<Held>,
    book: Mutex<Book>,
    /// The right to renew ahead: one at a time.
    renewal: Arc<Semaphore>,
    /// Wakes the keeper when a token was rejected, a refusal cleared, or the slot replaced.
    wake: Notify,
}

impl Source {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self(Arc::new(ArcSwap::new(slot)))
    }

    pub(super) fn slot(&self) -> Arc<Slot> {
        self.0.load_full()
    }

    /// Goes on with `slot`.
    pub(super) fn change(&self, slot: Arc<Slot>) {
        let before = self.0.swap(slot);
        before.wake.notify_one();
    }

    /// Keeps a living token at hand without traffic, for ever.
    pub(super) async fn keep(self) {
        loop {
            let slot = self.slot();
            // Read in this order, as in `obtain`.
            let flight = slot.flight();
            let due = slot.due();
            if due > slot.house.clock.now() {
                slot.wait_until(due).await;
            } else if let Err(error) = slot.successor(flight).await {
                slot.wait_until(slot.next_flight(&error)).await;
            }
        }
    }

    /// Lets refused credentials be tried once more, as an operator asks who has mended them at Fluent: at once
    /// where a token is kept, else with the next request. The ledger's window holds as before. A shared store
    /// forgets the refusal too. Says whether a refusal held them.
    pub async fn retry(&self) -> bool {
        self.slot().retry().await
    }

    /// How the token stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.load().status()
    }

    pub(super) fn has_held_a_token(&self) -> bool {
        self.0.load().held.load().is_some()
    }

    /// Its grant and its logins, under the name that it has in the log only.
    /// Refreshes are told once there was one.
    pub(super) fn logins_of(&self, instance: &Name, user: &Name) -> Vec<(&'static str, Logins)> {
        let slot = self.0.load();
        let (own_instance, own_user) = &slot.names;
        if own_instance != instance || own_user != user {
            return Vec::new();
        }
        let book = slot.book();
        let refreshes = (book.refreshes != Logins::default()).then_some((REFRESH_GRANT, book.refreshes));
        std::iter::once((slot.login.grant.name(), book.logins))
            .chain(refreshes)
            .collect()
    }
}

impl TokenSource for Source {
    fn ready(&self) -> Option<AccessToken> {
        self.0.load().ready()
    }

    fn obtain(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        Box::pin(async {
            let slot = self.slot();
            // Read first: a flight that lands right after this is then the one that is found below.
            let flight = slot.flight();
            match slot.ready() {
                Some(token) => Ok(token),
                None => slot.successor(flight).await,
            }
        })
    }

    fn reject(&self, token: &AccessToken) -> Rejection {
        self.0.load().reject(token)
    }
}

impl Slot {
    /// A slot for this login, without a token.
    pub(super) fn new(names: (Name, Name), login: Login, policy: Policy, house: &Arc<House>) -> Self {
        Self {
            id: house.next_slot.fetch_add(1, Ordering::Relaxed),
            names,
            key: login.key(),
            credentials: login.credentials(),
            ledger: house.ledger(&login),
            shelf: house.store.as_ref().map(|store| store.shelf(&login)),
            login,
            policy,
            house: Arc::clone(house),
            held: ArcSwapOption::empty(),
            book: Mutex::default(),
            renewal: Arc::new(Semaphore::new(1)),
            wake: Notify::new(),
        }
    }

    /// A slot that goes on where `before` was, with another login: the account's token stays in use, and who was
    /// told of before goes on being counted.
    pub(super) fn after(before: &Self, names: (Name, Name), login: Login, policy: Policy) -> Self {
        let slot = Self::new(names, login, policy, &before.house);
        let mut book = before.book();
        let mut counts = Book::default();
        if slot.names == before.names {
            counts = std::mem::take(&mut *book);
        }
        if slot.login.account() == before.login.account() {
            slot.held.store(before.held.load_full());
        } else {
            counts.refresh_token = None;
        }
        *slot.book() = counts;
        drop(book);
        slot
    }

    /// See [`Source::retry`].
    pub(super) async fn retry(&self) -> bool {
        if let Some(shelf) = &self.shelf {
            self.forget_refusal(shelf.as_ref()).await;
        }
        let cleared = self
            .ledger()
            .clear_refusal(self.house.clock.now(), &self.credentials);
        if cleared {
            let (instance, user) = &self.names;
            tracing::info!(%instance, %user, "an operator lets refused credentials be tried once more");
            self.wake.notify_one();
        }
        cleared
    }

    fn ready(self: &Arc<Self>) -> Option<AccessToken> {
        let held = self.held.load();
        let held = held.as_ref()?;
        let now = self.house.clock.now();
        if !held.is_usable(now) {
            return None;
        }
        if !held.is_fresh(now) {
            self.renew_ahead(held.flight, now);
        }
        Some(held.token.clone())
    }

    /// The number of the flight that brought the latest token; zero before the first.
    fn flight(&self) -> u64 {
        self.held.load().as_ref().map_or(0, |held| held.flight)
    }

    /// When a new token is wanted.
    fn due(&self) -> Moment {
        match self.held.load().as_ref() {
            Some(held) if !held.rejected => held.life.renew_at,
            Some(_) | None => self.house.clock.now(),
        }
    }

    /// Waits until `moment`, or until a token is rejected or a refusal cleared.
    async fn wait_until(&self, moment: Moment) {
        tokio::select! {
            () = self.house.clock.reach(moment) => {}
            () = self.wake.notified() => {}
        }
    }

    /// Starts a renewal in the background, unless one is under way or no login may be sent.
    fn renew_ahead(self: &Arc<Self>, flight: u64, now: Moment) {
        let Ok(right) = Arc::clone(&self.renewal).try_acquire_owned() else {
            return;
        };
        if self.may_fly(now).is_ok() {
            let flight = self.successor(flight);
            self.house.tasks.spawn(async move {
                // Its outcome is in the log, and in the slot.
                drop(flight.await);
                drop(right);
            });
        }
    }

    /// The token that comes after that of `flight`, once for all who want it. The flight starts now and
    /// goes on whether or not the returned future is polled.
    fn successor(
        self: &Arc<Self>,
        flight: u64,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send + use<> {
        let slot = Arc::clone(self);
        let number = flight + 1;
        // moka polls a flight in the first of those who wait for it: that has to be a task.
        let task = self.house.tasks.spawn(async move {
            let flights = slot.house.flights.clone();
            let key = (slot.id, number);
            let outcome = flights.try_get_with(key, slot.fly(number)).await;
            outcome.map_err(|shared| TokenError::clone(&shared))
        });
        async move {
            task.await.unwrap_or(Err(TokenError::Unavailable {
                trouble: Trouble::Internal,
                retry_after: SECOND,
            }))
        }
    }

    fn reject(self: &Arc<Self>, token: &AccessToken) -> Rejection {
        let now = self.house.clock.now();
        let mut book = self.book();
        let held = self.held.load_full();
        let flight = held.as_ref().map_or(0, |held| held.flight);
        if let Some(held) = held.filter(|held| held.is_usable(now)) {
            if held.token.generation() != token.generation() {
                let newer = Ok(replacement(held.token.clone(), token));
                return Rejection::Replacing(Box::pin(std::future::ready(newer)));
            }
            if let Err(kept) = self.ledger().check(now, &self.credentials) {
                return Rejection::Replacing(Box::pin(std::future::ready(Err(kept))));
            }
            if !book.budget.spend(now, held.lifetime().min(REFILL)) {
                return Rejection::Kept;
            }
            self.held.store(Some(Arc::new(Held {
                rejected: true,
                ..Held::clone(&held)
            })));
            self.wake.notify_one();
        }
        drop(book);
        let successor = self.successor(flight);
        let rejected = token.clone();
        Rejection::Replacing(Box::pin(
            async move { Ok(replacement(successor.await?, &rejected)) },
        ))
    }

    fn status(&self) -> Status {
        let now = self.house.clock.now();
        let pause = self.ledger().check(now, &self.credentials).err();
        let book = self.book();
        let held = self.held.load();
        let held = held.as_ref().filter(|held| !held.rejected);
        let state = match held {
            None => TokenState::Empty,
            Some(held) if held.is_fresh(now) => TokenState::Fresh,
            Some(held) if held.is_usable(now) => TokenState::Ageing,
            Some(_) => TokenState::Expired,
        };
        Status {
            state,
            login: book.login,
            expires_in_seconds: held.map(|held| held.life.expires_at.since(now).as_secs()),
            obtained_by: held.map(|held| held.obtained_by),
            obtained_at: held
                .and_then(|held| held.obtained_at.duration_since(UNIX_EPOCH).ok())
                .map(|time| time.as_secs()),
            logins: book.logins,
            next_attempt_in_seconds: pause.map(|kept| whole_seconds(kept.retry_after())),
            last_error: book.last_error.as_ref().map(ToString::to_string),
        }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came in place of `rejected`.
fn replacement(token: AccessToken, rejected: &AccessToken) -> Replacement {
    if token.same_text(rejected) {
        Replacement::Same
    } else {
        Replacement::New(token)
    }
}

#[cfg(test)]
mod tests {
    use crate::token::TokenSource as _;
    use crate::token::cache::tests::{Endpoint, cache};

    #[tokio::test(start_paused = true)]
    async fn who_comes_too_late_for_a_flight_gets_what_it_brought() {
        let endpoint = Endpoint::new_each_time();
        let (cache, source, _) = cache(&endpoint);
        let first = source.obtain().await.unwrap();
        cache.house.flights.invalidate_all();
        let late = source.slot().successor(0).await.unwrap();
        assert_eq!(late.generation(), first.generation());
        assert_eq!(endpoint.asked(), 1);
    }
}
