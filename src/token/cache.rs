//! Holds one token for each instance and user, and renews it with as few logins as can be.
//!
//! 1. **Fresh** (before `renew_at`): one load of a pointer; no lock, no allocation.
//! 2. **Ageing** (before `expires_at`): it is served, and one new one is asked for in the background. A renewal
//!    that fails is logged; the old token serves until it dies.
//! 3. **Missing, dead or rejected:** all who ask wait for one flight, and share its outcome, good or bad.
//! 4. A flight is a task of its own: a caller who leaves never cancels it. A panic in it is an error for those
//!    who wait. It ends within the login's timeout.
//! 5. When a login may be sent, `token::ledger` decides, one for each account. Meanwhile callers get the
//!    stored failure at once; nobody sleeps.
//! 6. **Rejected** by a 401: a token goes only if it is the one held, so any number of simultaneous 401s
//!    costs one login. A budget of 3 logins, refilled by one each 10 s (each lifetime where that is shorter),
//!    bounds what a 401 that no token cures may cost; spent, the token stays. A login that gives the same
//!    token again puts it back, and nothing is to be replayed. While no login may be sent (rule 5), the token
//!    stays too: who met the 401 gets the stored failure, and whom the token still serves keeps it.
//! 7. Life counts from before the request was sent; the margin before its end is at most a fifth of it, and
//!    it is 1 s long at least. **The same token again with no more time left**, as Spring servers give it, is
//!    served until it dies and not asked for before. Servers tell whole seconds, so the rest of a second is
//!    granted, counted from the answer: asked a moment too early, they would give the dying token once more.
//!    Erring late costs a replay, which a 401 causes. Such a server gets two token requests a lifetime.
//! 8. An answer that names no lifetime gives a token of `default_lifetime`. A 200 without a usable token is
//!    trouble: nothing of it is kept.
//! 9. A **refresh token** is used in the place of the credentials when the token is dead or rejected, and with
//!    [`Refresh::Early`](super::grant::Refresh::Early) for renewals ahead too. It is used once, whatever comes of
//!    it, unless it was never sent. Refused, the same flight falls back to the credentials, once: that refusal
//!    is none of the credentials, and does not count. The ledger permits a refresh as it does any login. What an
//!    answer carries replaces the refresh token that was held, and none leaves none.
//! 10. Names whose logins agree in every input that changes a token share one ([`Login::key`]); the policy is
//!     then that of the name that comes first.
//! 11. The default instance's own user logs in at the start and is renewed without traffic, by one task
//!     ([`TokenCache::keep_default`]). Others log in on first use and are renewed while used; idle ones cost
//!     no timer.
//! 12. With a **shared store** ([`super::store`]) processes look there first: a token that is better than the one
//!     held is taken, a refusal is heeded, and what failed elsewhere counts here. Who has to ask takes the account's
//!     lease and looks again; the others wait for what it brings, no longer than a lease lives. A new token, and its
//!     refresh token with it, is stored before anybody uses it. A refresh token that the store knows is used under
//!     the lease only. While a refusal or a pause holds, the store is looked at once a second, as another process
//!     may have got a token. A store that cannot be asked is none: each process goes on alone. Processes that hold
//!     the same token renew it at moments spread over a tenth of the margin.
//! 13. **Credentials may change** ([`TokenCache::change`]): the token of the same account stays in use, the next login
//!     is one with the new ones, and what held the old ones holds them no longer. Another account's token is
//!     dropped.
//!
//! All but construction wants a tokio runtime at hand, as flights are spawned.

mod book;
mod flight;
mod held;
mod slot;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::future::Cache;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::name::Name;
use crate::token::AccessToken;
use crate::token::digest::Digest;
use crate::token::grant::{Grants, Login, Policy};
use crate::token::ledger::Ledger;
use crate::token::store::Store;

use slot::Slot;
pub use slot::Source;
pub use status::{LoginState, Logins, Status, TokenState};

/// Flights that are remembered, so that late comers find them. A slot knows its own latest one, so any bound
/// will do.
const FLIGHTS: u64 = 1024;
/// How long they are remembered.
const FLIGHTS_LIVE: Duration = Duration::from_mins(1);

/// The tokens of all instances and users.
pub struct TokenCache {
    instances: BTreeMap<Name, BTreeMap<Name, Source>>,
    house: Arc<House>,
    stop: CancellationToken,
    /// Held while logins change.
    changing: Mutex<()>,
}

/// What a cache works with.
pub struct Means {
    /// Asks token endpoints.
    pub grants: Arc<dyn Grants>,
    /// Where processes share their logins, if they do.
    pub store: Option<Arc<dyn Store>>,
    /// The time.
    pub clock: Clock,
    /// Where this process stands among those that hold the same token, from 0 to 1: they renew it one after the
    /// other.
    pub spread: f64,
}

/// What all slots share.
struct House {
    grants: Arc<dyn Grants>,
    store: Option<Arc<dyn Store>>,
    clock: Clock,
    spread: f64,
    /// Flights by the id of the slot and the number of the flight.
    flights: Cache<(u64, u64), AccessToken>,
    /// Flights and keepers; each ends by itself or with the cache.
    tasks: TaskTracker,
    next_slot: AtomicU64,
    /// The ledger of each account that was ever logged in to: what failed there counts, whatever changed since.
    ledgers: Mutex<HashMap<Digest, Arc<Mutex<Ledger>>>>,
}

impl House {
    fn ledger(&self, login: &Login) -> Arc<Mutex<Ledger>> {
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Mutex::new(Ledger::new(fastrand::Rng::new())));
        Arc::clone(ledgers.entry(login.account()).or_insert_with(new))
    }
}

impl TokenCache {
    /// A cache with no tokens yet, for each instance's users and its policy.
    #[must_use]
    pub fn new(
        instances: impl IntoIterator<Item = (Name, BTreeMap<Name, Login>, Policy)>,
        means: Means,
    ) -> Self {
        let house = Arc::new(House {
            grants: means.grants,
            store: means.store,
            clock: means.clock,
            spread: means.spread,
            flights: Cache::builder()
                .max_capacity(FLIGHTS)
                .time_to_live(FLIGHTS_LIVE)
                .build(),
            tasks: TaskTracker::new(),
            next_slot: AtomicU64::new(0),
            ledgers: Mutex::default(),
        });
        let mut slots: HashMap<Digest, Arc<Slot>> = HashMap::new();
        let mut source = |instance: &Name, user: &Name, login: Login, policy: Policy| {
            let names = (instance.clone(), user.clone());
            let slot = slots
                .entry(login.key())
                .or_insert_with(|| Arc::new(Slot::new(names, login, policy, &house)));
            Source::new(Arc::clone(slot))
        };
        let instances = instances
            .into_iter()
            .map(|(instance, users, policy)| {
                let users = users
                    .into_iter()
                    .map(|(user, login)| {
                        let source = source(&instance, &user, login, policy);
                        (user, source)
                    })
                    .collect();
                (instance, users)
            })
            .collect();
        Self {
            instances,
            house,
            stop: CancellationToken::new(),
            changing: Mutex::default(),
        }
    }

    /// Goes on with these logins, where they are not those in use: a refusal of the old ones holds the new ones no
    /// longer, and the account's token stays in use until it dies. Names that are not told go on as they are.
    /// Says how many names have another login now.
    pub fn change(&self, logins: &BTreeMap<Name, BTreeMap<Name, Login>>) -> usize {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots: HashMap<Digest, Arc<Slot>> = HashMap::new();
        let mut changed = 0;
        for (instance, users) in &self.instances {
            for (user, source) in users {
                let before = source.slot();
                let told = logins.get(instance).and_then(|users| users.get(user));
                let login = told.unwrap_or(&before.login);
                let names = (instance.clone(), user.clone());
                let slot = slots.entry(login.key()).or_insert_with(|| {
                    if login.key() == before.key && names == before.names {
                        Arc::clone(&before)
                    } else {
                        Arc::new(Slot::after(&before, names, login.clone(), before.policy))
                    }
                });
                changed += usize::from(slot.key != before.key);
                if !Arc::ptr_eq(slot, &before) {
                    source.change(Arc::clone(slot));
                }
            }
        }
        changed
    }

    /// The token source of an instance's user, if the settings name both.
    #[must_use]
    pub fn source(&self, instance: &str, user: &str) -> Option<Source> {
        self.instances.get(instance)?.get(user).cloned()
    }

    /// Starts the task of rule 11; it ends with [`TokenCache::shutdown`]. To be called once.
    pub fn keep_default(&self) {
        let Some(source) = self.default_source().cloned() else {
            return;
        };
        let stop = self.stop.clone();
        self.house.tasks.spawn(async move {
            let _: Option<()> = stop.run_until_cancelled(source.keep()).await;
        });
    }

    /// Whether the default instance's own user ever held a token; never undone.
    #[must_use]
    pub fn has_held_a_token(&self) -> bool {
        self.default_source().is_some_and(Source::has_held_a_token)
    }

    /// Lets every refused login be tried once more, see [`Source::retry`]; says how many a refusal held. Names
    /// that share a login count once.
    pub async fn retry(&self) -> usize {
        let sources = self.instances.values().flat_map(BTreeMap::values);
        let slots = sources.map(Source::slot).map(|slot| (slot.id, slot));
        let slots: BTreeMap<u64, Arc<Slot>> = slots.collect();
        let mut cleared = 0;
        for slot in slots.values() {
            cleared += usize::from(slot.retry().await);
        }
        cleared
    }

    /// How each user of each instance stands, in the order of their names.
    pub fn status(&self) -> impl Iterator<Item = (&Name, &Name, Status)> {
        self.instances.iter().flat_map(|(instance, users)| {
            users
                .iter()
                .map(move |(user, source)| (instance, user, source.status()))
        })
    }

    /// Each login once, however many names share it (rule 10): its instance, its grant, and how often it was
    /// sent.
    pub fn logins(&self) -> impl Iterator<Item = (&Name, &'static str, Logins)> {
        self.instances.iter().flat_map(|(instance, users)| {
            let own = move |(user, source): (_, &Source)| source.logins_of(instance, user);
            users
                .iter()
                .flat_map(own)
                .map(move |(grant, logins)| (instance, grant, logins))
        })
    }

    /// Ends the keeper, as dropping the cache does, and waits for flights to end, which they do within their
    /// timeouts.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.house.tasks.close();
        self.house.tasks.wait().await;
    }

    fn default_source(&self) -> Option<&Source> {
        let name = Name::default_name();
        self.instances.get(&name)?.get(&name)
    }
}

impl Drop for TokenCache {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
