//! Flights: what brings a slot its next token, alone or together with other processes.
//!
//! A flight with a shared store, by the numbers of the cache's rule 12:
//!
//! `look → take what others brought, or their refusal → lease → look again → ask → settle → take into use`
//!
//! Where the store cannot be asked at any of these steps, the flight goes on alone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::book::Asked;
use super::held::Held;
use super::slot::Slot;
use crate::clock::{Moment, whole_seconds};
use crate::secret::Secret;
use crate::token::answer::Answer;
use crate::token::grant::{REFRESH_GRANT, Refresh};
use crate::token::ledger::{Known, Permit};
use crate::token::life::{Life, SECOND};
use crate::token::store::seen::Seen;
use crate::token::store::{Change, Entry, LEASE_SLACK, Lease, Shelf, StoreError};
use crate::token::{AccessToken, GrantError, Refusal, TokenError, Trouble, UnusableToken};

/// What a token is said to be obtained by that another process has obtained.
const SHARED: &str = "shared";
/// The pause before a second look, while another process logs in; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often the store is looked at while no login may be sent: another process may have got a token.
const LOOK: Duration = SECOND;

/// What came of asking: the token, its refresh token and by what they were asked for.
struct Brought {
    held: Held,
    asked: Asked,
    token: Secret,
    refresh_token: Option<Secret>,
}

/// An error, and what was asked by.
struct Failed {
    error: GrantError,
    asked: Asked,
    /// The refresh token, where it was never sent.
    unsent: Option<Secret>,
}

impl Slot {
    /// Flight `number`: the token that comes after that of the flight before.
    pub(super) async fn fly(self: Arc<Self>, number: u64) -> Result<AccessToken, TokenError> {
        if let Some(held) = self.held.load().as_ref().filter(|held| held.flight >= number) {
            return Ok(held.token.clone());
        }
        match &self.shelf {
            Some(store) => self.fly_together(number, store.as_ref()).await,
            None => self.fly_alone(number).await,
        }
    }

    /// Whether a flight may bring anything now: a login may be sent, or it is time to look what others have.
    ///
    /// # Errors
    /// Why no login may be sent.
    pub(super) fn may_fly(&self, now: Moment) -> Result<(), TokenError> {
        let look_at = self.book().look_at;
        if self.shelf.is_some() && look_at.is_none_or(|look_at| look_at <= now) {
            return Ok(());
        }
        self.ledger().check(now, &self.credentials)
    }

    /// When a flight that failed is worth the next, for who waits for it.
    pub(super) fn next_flight(&self, error: &TokenError) -> Moment {
        let wait = match &self.shelf {
            Some(_) => error.retry_after().min(LOOK * 5),
            None => error.retry_after(),
        };
        self.house.clock.now() + wait
    }

    async fn fly_alone(self: &Arc<Self>, number: u64) -> Result<AccessToken, TokenError> {
        let permit = self.ledger().permit(self.house.clock.now(), self.credentials)?;
        let refresh_token = self
            .is_time_to_refresh()
            .then(|| self.book().refresh_token.take());
        match self.bring(number, refresh_token.flatten()).await {
            Ok(brought) => {
                self.ledger().accept(permit);
                Ok(self.land(brought.held, brought.asked, brought.refresh_token))
            }
            Err(failed) => {
                let kept = self.failed(permit, &failed, Known::Here);
                if failed.unsent.is_some() {
                    self.book().refresh_token = failed.unsent;
                }
                Err(kept)
            }
        }
    }

    async fn fly_together(
        self: &Arc<Self>,
        number: u64,
        store: &dyn Shelf,
    ) -> Result<AccessToken, TokenError> {
        let begun = self.house.clock.now();
        self.may_fly(begun)?;
        let mut pause = FIRST_PAUSE;
        loop {
            let Ok(seen) = self.look(store).await else {
                return self.fly_alone(number).await;
            };
            if let Some(token) = self.take(number, &seen) {
                return Ok(token);
            }
            let now = self.house.clock.now();
            self.ledger().check(now, &self.credentials)?;
            let life = self.lease_life(&seen);
            match store.lease(life).await {
                Err(_) => return self.fly_alone(number).await,
                Ok(Some(lease)) => return self.fly_for_all(number, store, lease).await,
                Ok(None) if now.since(begun) > life + SECOND => {
                    return Err(TokenError::Unavailable {
                        trouble: Trouble::Elsewhere,
                        retry_after: SECOND,
                    });
                }
                Ok(None) => {
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Logs in under the lease, unless another did before it was given.
    async fn fly_for_all(
        self: &Arc<Self>,
        number: u64,
        store: &dyn Shelf,
        lease: Lease,
    ) -> Result<AccessToken, TokenError> {
        let Ok(seen) = self.look(store).await else {
            return self.fly_alone(number).await;
        };
        let permit = match self.take(number, &seen) {
            Some(brought) => Err(Ok(brought)),
            None => self
                .ledger()
                .permit(self.house.clock.now(), self.credentials)
                .map_err(Err),
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(outcome) => {
                // Who cannot give it back lets it end by itself.
                let _ = store.settle(lease, Change::default()).await;
                return outcome;
            }
        };
        // One that no store has belongs to a later login than one that the store has.
        let (own, shared) = if self.is_time_to_refresh() {
            (self.book().refresh_token.take(), seen.refresh_token().cloned())
        } else {
            (None, None)
        };
        let refresh_token = own.clone().or(shared);
        let refreshed = refresh_token.is_some();
        match self.bring(number, refresh_token).await {
            Ok(brought) => {
                let entry = seen.entry(brought.token, brought.refresh_token, &brought.held.life);
                // Stored before anybody uses it.
                let settled = store.settle(lease, Change::granted(entry)).await;
                self.ledger().accept(permit);
                if settled == Ok(false)
                    && let Ok(seen) = self.look(store).await
                    && let Some(token) = self.take(number, &seen)
                {
                    return Ok(token);
                }
                Ok(self.land(brought.held, brought.asked, None))
            }
            Err(failed) => {
                let used_up = refreshed && failed.unsent.is_none();
                if !used_up && own.is_some() {
                    self.book().refresh_token = own;
                }
                let entry = seen.reading.entry.filter(|_| used_up).map(|entry| Entry {
                    refresh_token: None,
                    ..entry
                });
                let change = Change {
                    entry,
                    ..Change::failed(&failed.error, self.policy.cool_down)
                };
                let known = match store.settle(lease, change).await {
                    Ok(_) => Known::Shared,
                    Err(_) => Known::Here,
                };
                Err(self.failed(permit, &failed, known))
            }
        }
    }

    /// Reads what other processes know, and takes it in but for the token.
    async fn look(&self, store: &dyn Shelf) -> Result<Seen, StoreError> {
        let reading = store.read().await?;
        let at = self.house.clock.now();
        let seen = Seen { reading, at };
        self.book().look_at = Some(at + LOOK);
        let counted = seen.reading.counted.iter().map(|time| seen.here(*time)).collect();
        self.ledger().learn_counted(counted);
        if let Some((refusal, until)) = seen.reading.refusal {
            self.learn_refusal(refusal, seen.here(until));
        } else if let Some(entry) = &seen.reading.entry {
            self.ledger()
                .learn_token(self.credentials, seen.here(entry.issued_at));
        }
        Ok(seen)
    }

    /// Makes all processes forget that the credentials were refused.
    pub(super) async fn forget_refusal(&self, store: &dyn Shelf) {
        // Read first, so that what is forgotten here is known here.
        let _ = self.look(store).await;
        if store.clear_refusal().await.is_err() {
            let (instance, user) = &self.names;
            tracing::warn!(%instance, %user, "other processes may still know of the refusal");
        }
    }

    fn learn_refusal(&self, reason: Refusal, until: Moment) {
        let now = self.house.clock.now();
        let news = self.ledger().learn_refusal(now, self.credentials, reason, until);
        if !news {
            return;
        }
        let retry_after = until.since(now);
        let (instance, user) = &self.names;
        tracing::warn!(
            %instance, %user, outcome = "refused", retry_after = whole_seconds(retry_after), %reason,
            "credentials refused, as another process found: check username, password, client and scope; \
             trying them again may lock the account"
        );
        self.book().note_shared_refusal(TokenError::Refused {
            refusal: reason,
            retry_after,
        });
    }

    /// Takes the token that other processes share into use, if it is better than the one held.
    fn take(&self, number: u64, seen: &Seen) -> Option<AccessToken> {
        let entry = seen.reading.entry.as_ref()?;
        let token = AccessToken::new(&entry.token, number).ok()?;
        let now = self.house.clock.now();
        let issued_at = seen.here(entry.issued_at);
        let gone_at = seen.here(entry.gone_at);
        let life = if entry.gone_at <= entry.expires_at {
            Life::to_its_end(issued_at, gone_at)
        } else {
            let moments = (issued_at, seen.here(entry.expires_at), gone_at);
            Life::new(moments, self.policy.margin, self.house.spread)
        };
        let mut held = Held {
            token,
            flight: number,
            rejected: false,
            life,
            obtained_by: SHARED,
            obtained_at: SystemTime::now()
                .checked_sub(now.since(issued_at))
                .unwrap_or(SystemTime::UNIX_EPOCH),
        };
        let mut book = self.book();
        let before = self.held.load();
        let is_better = held.is_usable(now)
            && before.as_ref().is_none_or(|before| {
                if before.token.same_text(&held.token) {
                    !before.rejected && held.is_fresh(now)
                } else {
                    !before.rejected && !before.is_usable(now) || issued_at > before.life.issued_at
                }
            });
        if !is_better {
            return None;
        }
        if let Some(before) = before.as_ref() {
            held.follow(before);
        }
        book.note_shared_token();
        book.refresh_token = None;
        let token = held.token.clone();
        let (instance, user) = &self.names;
        let expires_in = held.life.expires_at.since(now).as_secs();
        self.held.store(Some(Arc::new(held)));
        tracing::info!(%instance, %user, grant = SHARED, expires_in, "token taken from the shared cache");
        Some(token)
    }

    /// Time for all that a flight sends: the credentials may follow a refused refresh token.
    fn lease_life(&self, seen: &Seen) -> Duration {
        let may_refresh = seen.refresh_token().is_some() || self.book().refresh_token.is_some();
        self.policy.timeout * if may_refresh { 2 } else { 1 } + LEASE_SLACK
    }

    /// Whether a refresh token is to be used now.
    fn is_time_to_refresh(&self) -> bool {
        let now = self.house.clock.now();
        match self.policy.refresh {
            Refresh::Early => true,
            Refresh::Late => !self.held.load().as_ref().is_some_and(|held| held.is_usable(now)),
        }
    }

    /// Asks the token endpoint: with the refresh token, where there is one, and with the credentials where that is
    /// refused.
    async fn bring(self: &Arc<Self>, number: u64, refresh_token: Option<Secret>) -> Result<Brought, Failed> {
        if let Some(refresh_token) = refresh_token {
            match self.ask(number, Some(refresh_token)).await {
                Err(Failed {
                    error: GrantError::Refused(reason),
                    ..
                }) => self.refresh_was_refused(reason),
                outcome => return outcome,
            }
        }
        self.ask(number, None).await
    }

    /// Sends one request.
    async fn ask(self: &Arc<Self>, number: u64, refresh_token: Option<Secret>) -> Result<Brought, Failed> {
        let asked = match refresh_token {
            Some(_) => Asked::Refresh,
            None => Asked::Credentials,
        };
        let issued_at = self.house.clock.now();
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
        answer
            .and_then(|answer| self.read(number, issued_at, asked, answer))
            .map_err(|error| Failed {
                error,
                asked,
                unsent: refresh_token.filter(|_| error.was_unsent()),
            })
    }

    fn read(
        &self,
        number: u64,
        issued_at: Moment,
        asked: Asked,
        answer: Answer,
    ) -> Result<Brought, GrantError> {
        let now = self.house.clock.now();
        let held = Held::of_answer(
            &answer,
            number,
            (issued_at, now),
            self.grant(asked),
            (&self.policy, self.house.spread),
            self.held.load().as_deref(),
        );
        let held = held.map_err(|UnusableToken| Trouble::Nonsense("its token cannot stand in a header"))?;
        Ok(Brought {
            held,
            asked,
            token: answer.token,
            refresh_token: answer.refresh_token,
        })
    }

    /// Takes a token into use that this process obtained; its refresh token is kept here where no store has it.
    fn land(&self, mut held: Held, asked: Asked, refresh_token: Option<Secret>) -> AccessToken {
        let mut book = self.book();
        book.refresh_token = refresh_token;
        if let Some(before) = self.held.load().as_ref() {
            held.follow(before);
        }
        book.note_success(asked);
        let (token, life) = (held.token.clone(), held.life);
        self.held.store(Some(Arc::new(held)));
        drop(book);
        let (instance, user) = &self.names;
        let expires_in = life.expires_at.since(self.house.clock.now()).as_secs();
        tracing::info!(
            %instance, %user, grant = self.grant(asked), outcome = "ok", expires_in, "token obtained"
        );
        token
    }

    fn failed(&self, permit: Permit, failed: &Failed, known: Known) -> TokenError {
        let now = self.house.clock.now();
        let kept = self
            .ledger()
            .fail(permit, now, &failed.error, self.policy.cool_down, known);
        self.book()
            .note_failure(failed.asked, &failed.error, kept.clone());
        let (instance, user) = &self.names;
        let grant = self.grant(failed.asked);
        let retry_after = whole_seconds(kept.retry_after());
        match &failed.error {
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

    fn refresh_was_refused(&self, reason: Refusal) {
        self.book().of(Asked::Refresh).refused += 1;
        let (instance, user) = &self.names;
        tracing::info!(
            %instance, %user, grant = REFRESH_GRANT, outcome = "refused", %reason,
            "refresh token refused: logging in"
        );
    }

    fn grant(&self, asked: Asked) -> &'static str {
        match asked {
            Asked::Credentials => self.login.grant.name(),
            Asked::Refresh => REFRESH_GRANT,
        }
    }
}
