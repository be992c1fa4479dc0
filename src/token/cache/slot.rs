//! One token and its renewal: the life of what a [`Source`] hands out.
//!
//! Readers load a pointer. Writers hold the slot's book, a lock that is never held across an await; they are
//! few, as flights are numbered and each number flies once. A token's generation is the number of the flight
//! that first brought it, or that put it back after a rejection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::House;
use super::status::{LoginState, Logins, Status, TokenState};
use crate::clock::{Moment, whole_seconds};
use crate::name::Name;
use crate::secret::Secret;
use crate::token::answer::{Answer, LONGEST_LIFE};
use crate::token::digest::Digest;
use crate::token::grant::{Login, Policy, REFRESH_GRANT, Refresh};
use crate::token::ledger::{Ledger, Permit};
use crate::token::{
    AccessToken, BoxFuture, GrantError, Refusal, Rejection, Replacement, TokenError, TokenSource, Trouble,
    UnusableToken,
};

/// The unit in which servers tell lifetimes, and the shortest life that is believed.
const SECOND: Duration = Duration::from_secs(1);
/// Logins that 401s may cause at once.
const BUDGET: u32 = 3;
/// How long it takes, at most, until they may cause one more.
const REFILL: Duration = Duration::from_secs(10);

/// Gives the token of one user of one instance; cloning is cheap.
#[derive(Clone)]
pub struct Source(Arc<Slot>);

struct Slot {
    /// Whom the log speaks of: the first instance and user with this login.
    names: (Name, Name),
    login: Login,
    policy: Policy,
    key: Digest,
    credentials: Digest,
    /// Of the account, which several slots may share.
    ledger: Arc<Mutex<Ledger>>,
    house: Arc<House>,
    /// The latest token; none before the first. Written with the book held.
    held: ArcSwapOption<Held>,
    book: Mutex<Book>,
    /// Whether a renewal ahead is under way.
    renewing: AtomicBool,
    /// Wakes the keeper when a token was rejected, or a refusal cleared.
    wake: Notify,
}

/// The latest token, and what became of it.
#[derive(Clone)]
struct Held {
    token: AccessToken,
    /// The number of the flight that brought it last.
    flight: u64,
    rejected: bool,
    lifetime: Duration,
    renew_at: Moment,
    /// The earliest moment at which the server may have it dead, or the latest where the same token came
    /// again.
    expires_at: Moment,
    /// When the server surely has it dead, if it told the truth.
    gone_at: Moment,
    obtained_by: &'static str,
    obtained_at: SystemTime,
}

/// What only writers and the status look at.
#[derive(Default)]
struct Book {
    budget: Budget,
    login: LoginState,
    /// Those by the login's own grant.
    logins: Logins,
    /// Those by a refresh token.
    refreshes: Logins,
    refresh_token: Option<Secret>,
    last_error: Option<TokenError>,
}

impl Source {
    pub(super) fn new(
        names: (Name, Name),
        login: Login,
        policy: Policy,
        ledger: Arc<Mutex<Ledger>>,
        house: Arc<House>,
    ) -> Self {
        Self(Arc::new(Slot {
            names,
            key: login.key(),
            credentials: login.credentials(),
            login,
            policy,
            ledger,
            house,
            held: ArcSwapOption::empty(),
            book: Mutex::default(),
            renewing: AtomicBool::new(false),
            wake: Notify::new(),
        }))
    }

    /// Keeps a living token at hand without traffic, for ever.
    pub(super) async fn keep(self) {
        let slot = &self.0;
        loop {
            // Read in this order, as in `obtain`.
            let flight = slot.flight();
            let due = slot.due();
            if due > slot.house.clock.now() {
                slot.wait_until(due).await;
            } else if let Err(error) = slot.successor(flight).await {
                slot.wait_until(slot.house.clock.now() + error.retry_after())
                    .await;
            }
        }
    }

    /// Lets refused credentials be tried once more, as an operator asks who has mended them at Fluent: at once
    /// where a token is kept, else with the next request. The ledger's window holds as before. Says whether
    /// a refusal held them.
    pub fn retry(&self) -> bool {
        let slot = &self.0;
        let cleared = slot
            .ledger()
            .clear_refusal(slot.house.clock.now(), &slot.credentials);
        if cleared {
            let (instance, user) = &slot.names;
            tracing::info!(%instance, %user, "an operator lets refused credentials be tried once more");
            slot.wake.notify_one();
        }
        cleared
    }

    /// How the token stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status()
    }

    pub(super) fn has_held_a_token(&self) -> bool {
        self.0.held.load().is_some()
    }

    /// Its grant and its logins, under the name that it has in the log only.
    /// Refreshes are told once there was one.
    pub(super) fn logins_of(&self, instance: &Name, user: &Name) -> Vec<(&'static str, Logins)> {
        let (own_instance, own_user) = &self.0.names;
        if own_instance != instance || own_user != user {
            return Vec::new();
        }
        let book = self.0.book();
        let refreshes = (book.refreshes != Logins::default()).then_some((REFRESH_GRANT, book.refreshes));
        std::iter::once((self.0.login.grant.name(), book.logins))
            .chain(refreshes)
            .collect()
    }
}

impl TokenSource for Source {
    fn ready(&self) -> Option<AccessToken> {
        let held = self.0.held.load();
        let held = held.as_ref()?;
        let now = self.0.house.clock.now();
        if !held.is_usable(now) {
            return None;
        }
        if now >= held.renew_at {
            self.0.renew_ahead(held.flight, now);
        }
        Some(held.token.clone())
    }

    fn obtain(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        Box::pin(async {
            // Read first: a flight that lands right after this is then the one that is found below.
            let flight = self.0.flight();
            match self.ready() {
                Some(token) => Ok(token),
                None => self.0.successor(flight).await,
            }
        })
    }

    fn reject(&self, token: &AccessToken) -> Rejection {
        self.0.reject(token)
    }
}

impl Held {
    fn is_usable(&self, now: Moment) -> bool {
        !self.rejected && now < self.expires_at
    }
}

impl Slot {
    /// The number of the flight that brought the latest token; zero before the first.
    fn flight(&self) -> u64 {
        self.held.load().as_ref().map_or(0, |held| held.flight)
    }

    /// When a new token is wanted.
    fn due(&self) -> Moment {
        match self.held.load().as_ref() {
            Some(held) if !held.rejected => held.renew_at,
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
        if self.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let done = Renewing(Arc::clone(self));
        if self.ledger().check(now, &self.credentials).is_ok() {
            let flight = self.successor(flight);
            self.house.tasks.spawn(async move {
                // Its outcome is in the log, and in the slot.
                drop(flight.await);
                drop(done);
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
            let key = (slot.key, number);
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

    /// One login, if the ledger permits it.
    async fn fly(self: Arc<Self>, number: u64) -> Result<AccessToken, TokenError> {
        if let Some(held) = self.held.load().as_ref().filter(|held| held.flight >= number) {
            return Ok(held.token.clone());
        }
        let permit = self.ledger().permit(self.house.clock.now(), self.credentials)?;
        let refresh_token = self.refresh_token_for_now();
        let mut landed = self.ask(number, refresh_token).await;
        if let Err((REFRESH_GRANT, GrantError::Refused(reason))) = landed {
            self.refresh_was_refused(reason);
            landed = self.ask(number, None).await;
        }
        match landed {
            Ok(held) => {
                self.accepted(permit, &held);
                Ok(held.token.clone())
            }
            Err((grant, error)) => Err(self.failed(permit, grant, &error)),
        }
    }

    /// Sends one request of flight `number`, and takes its token into use; an error tells by which grant.
    async fn ask(
        self: &Arc<Self>,
        number: u64,
        refresh_token: Option<Secret>,
    ) -> Result<Arc<Held>, (&'static str, GrantError)> {
        let asked_at = self.house.clock.now();
        let grant = match refresh_token {
            Some(_) => REFRESH_GRANT,
            None => self.login.grant.name(),
        };
        let (slot, sent) = (Arc::clone(self), refresh_token.clone());
        // A task of its own, so that a panic is an outcome like others.
        let request = self.house.tasks.spawn(async move {
            let (grants, timeout) = (&slot.house.grants, slot.policy.timeout);
            match &sent {
                Some(refresh_token) => grants.refresh(&slot.login, refresh_token, timeout).await,
                None => grants.request(&slot.login, timeout).await,
            }
        });
        let answer = request.await.unwrap_or(Err(Trouble::Internal.into()));
        if let Err(error) = &answer
            && error.was_unsent()
            && refresh_token.is_some()
        {
            self.book().refresh_token = refresh_token;
        }
        answer
            .and_then(|answer| self.land(number, asked_at, grant, answer))
            .map_err(|error| (grant, error))
    }

    /// The refresh token, where this is the time to use it; it is used once.
    fn refresh_token_for_now(&self) -> Option<Secret> {
        let now = self.house.clock.now();
        let wanted = match self.policy.refresh {
            Refresh::Early => true,
            Refresh::Late => !self.held.load().as_ref().is_some_and(|held| held.is_usable(now)),
        };
        let mut book = self.book();
        if wanted { book.refresh_token.take() } else { None }
    }

    fn refresh_was_refused(&self, reason: Refusal) {
        self.book().refreshes.refused += 1;
        let (instance, user) = &self.names;
        tracing::info!(
            %instance, %user, grant = REFRESH_GRANT, outcome = "refused", %reason,
            "refresh token refused: logging in"
        );
    }

    /// Takes the token of flight `number` into use.
    fn land(
        &self,
        number: u64,
        asked_at: Moment,
        grant: &'static str,
        answer: Answer,
    ) -> Result<Arc<Held>, GrantError> {
        let token = AccessToken::new(&answer.token, number)
            .map_err(|UnusableToken| Trouble::Nonsense("its token cannot stand in a header"))?;
        let told = answer
            .expires_in
            .unwrap_or(self.policy.default_lifetime)
            .min(LONGEST_LIFE);
        let lifetime = told.max(SECOND);
        let expires_at = asked_at + lifetime;
        let rest_of_a_second = Duration::from_secs(told.as_secs()) + SECOND;
        let mut held = Held {
            token,
            flight: number,
            rejected: false,
            lifetime,
            renew_at: expires_at - self.policy.margin.min(lifetime / 5),
            expires_at,
            gone_at: self.house.clock.now() + rest_of_a_second,
            obtained_by: grant,
            obtained_at: SystemTime::now(),
        };
        let mut book = self.book();
        book.refresh_token = answer.refresh_token;
        let before = self.held.load();
        if let Some(before) = before
            .as_ref()
            .filter(|before| before.token.same_text(&held.token))
        {
            if !before.rejected {
                held.token = before.token.clone();
            }
            if asked_at + told <= before.gone_at {
                held.expires_at = held.gone_at;
                held.renew_at = held.gone_at;
            }
        }
        let held = Arc::new(held);
        self.held.store(Some(Arc::clone(&held)));
        Ok(held)
    }

    fn accepted(&self, permit: Permit, held: &Held) {
        self.ledger().accept(permit);
        let grant = held.obtained_by;
        self.book().note_success(grant);
        let (instance, user) = &self.names;
        let expires_in = held.expires_at.since(self.house.clock.now()).as_secs();
        tracing::info!(%instance, %user, grant, outcome = "ok", expires_in, "token obtained");
    }

    fn failed(&self, permit: Permit, grant: &'static str, error: &GrantError) -> TokenError {
        let now = self.house.clock.now();
        let kept = self.ledger().fail(permit, now, error, self.policy.cool_down);
        let (instance, user) = &self.names;
        let retry_after = whole_seconds(kept.retry_after());
        self.book().note_failure(grant, error, kept.clone());
        match error {
            GrantError::Refused(reason) => tracing::warn!(
                %instance, %user, grant, outcome = "refused", retry_after, %reason,
                "credentials refused: check username, password, client and scope; \
                 trying them again may lock the account"
            ),
            GrantError::Unavailable { trouble, .. } => tracing::warn!(
                %instance, %user, grant, outcome = "unavailable", retry_after, reason = %trouble,
                "no token obtained: check that the token endpoint can be reached and is one"
            ),
        }
        kept
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
            if !book.budget.spend(now, held.lifetime.min(REFILL)) {
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
            Some(held) if now >= held.expires_at => TokenState::Expired,
            Some(held) if now >= held.renew_at => TokenState::Ageing,
            Some(_) => TokenState::Fresh,
        };
        Status {
            state,
            login: book.login,
            expires_in_seconds: held.map(|held| held.expires_at.since(now).as_secs()),
            obtained_by: held.map(|held| held.obtained_by),
            obtained_at: held
                .and_then(|held| held.obtained_at.duration_since(UNIX_EPOCH).ok())
                .map(|time| time.as_secs()),
            logins: book.logins,
            next_attempt_in_seconds: pause.map(|kept| whole_seconds(kept.retry_after())),
            last_error: book.last_error.as_ref().map(ToString::to_string),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn of(&mut self, grant: &'static str) -> &mut Logins {
        if grant == REFRESH_GRANT {
            &mut self.refreshes
        } else {
            &mut self.logins
        }
    }

    fn note_success(&mut self, grant: &'static str) {
        self.of(grant).ok += 1;
        self.login = LoginState::Ok;
        self.last_error = None;
    }

    fn note_failure(&mut self, grant: &'static str, error: &GrantError, kept: TokenError) {
        self.login = match error {
            GrantError::Refused(_) => {
                self.of(grant).refused += 1;
                LoginState::Refused
            }
            GrantError::Unavailable { .. } => {
                self.of(grant).unavailable += 1;
                LoginState::Unavailable
            }
        };
        self.last_error = Some(kept);
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

/// A renewal ahead under way; dropped, another may start.
struct Renewing(Arc<Slot>);

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.renewing.store(false, Ordering::Release);
    }
}

/// Logins that 401s may still cause: [`BUDGET`] at once, and one more with each period that passes.
#[derive(Default)]
struct Budget {
    /// When it will be full again.
    full_at: Option<Moment>,
}

impl Budget {
    /// Takes one login, if there is one.
    fn spend(&mut self, now: Moment, period: Duration) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + period;
        let affordable = full_at.since(now) <= period * BUDGET;
        if affordable {
            self.full_at = Some(full_at);
        }
        affordable
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
        let late = source.0.successor(0).await.unwrap();
        assert_eq!(late.generation(), first.generation());
        assert_eq!(endpoint.asked(), 1);
    }
}
