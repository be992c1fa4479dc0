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
//!
//! All but construction wants a tokio runtime at hand, as flights are spawned.

mod slot;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
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
}

/// What all slots share.
struct House {
    grants: Arc<dyn Grants>,
    clock: Clock,
    /// Flights by the key of the token and the number of the flight.
    flights: Cache<(Digest, u64), AccessToken>,
    /// Flights and keepers; each ends by itself or with the cache.
    tasks: TaskTracker,
}

impl TokenCache {
    /// A cache with no tokens yet, for each instance's users and its policy.
    #[must_use]
    pub fn new(
        instances: impl IntoIterator<Item = (Name, BTreeMap<Name, Login>, Policy)>,
        grants: Arc<dyn Grants>,
        clock: Clock,
    ) -> Self {
        let house = Arc::new(House {
            grants,
            clock,
            flights: Cache::builder()
                .max_capacity(FLIGHTS)
                .time_to_live(FLIGHTS_LIVE)
                .build(),
            tasks: TaskTracker::new(),
        });
        let mut ledgers: HashMap<Digest, Arc<Mutex<Ledger>>> = HashMap::new();
        let mut slots: HashMap<Digest, Source> = HashMap::new();
        let mut source = |instance: &Name, user: &Name, login: Login, policy: Policy| {
            let slot = slots.entry(login.key()).or_insert_with(|| {
                let ledger = ledgers
                    .entry(login.account())
                    .or_insert_with(|| Arc::new(Mutex::new(Ledger::new(fastrand::Rng::new()))));
                let names = (instance.clone(), user.clone());
                Source::new(names, login, policy, Arc::clone(ledger), Arc::clone(&house))
            });
            slot.clone()
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
        }
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
    pub fn retry(&self) -> usize {
        let sources = self.instances.values().flat_map(BTreeMap::values);
        sources.filter(|source| source.retry()).count()
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
