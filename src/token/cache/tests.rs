//! The rules of the cache, against a token endpoint that is a function, in a time that tests move.

mod change;
mod keeping;
mod life;
mod model;
mod refresh;
mod rejection;
mod serving;
mod sharing;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::*;
use crate::clock::{Hand, Moment};
use crate::secret::Secret;
use crate::token::GrantError;
use crate::token::answer::Answer;
use crate::token::grant::Refresh;
use crate::token::{
    BoxFuture, OAuthError, Refusal, Rejection, Replacement, TokenError, TokenSource as _, Trouble,
};

const HOUR: Duration = Duration::from_hours(1);
/// When a token of an hour begins to age.
const AGEING: Duration = Duration::from_mins(59);
const UNREACHABLE: GrantError = GrantError::Unavailable {
    trouble: Trouble::Unreachable,
    retry_after: None,
};
const REFUSED: GrantError = GrantError::Refused(Refusal {
    status: StatusCode::BAD_REQUEST,
    error: OAuthError::InvalidGrant,
});

type Outcome = Result<Answer, GrantError>;

/// Answers the n-th login, counted from 1, with what a function says, as soon as its gate lets it through.
pub(super) struct Endpoint {
    asked: AtomicUsize,
    gate: Semaphore,
    answer: Box<dyn Fn(usize) -> Outcome + Send + Sync>,
    /// The refresh tokens that were used, in order.
    refreshed: Mutex<Vec<String>>,
    on_refresh: fn(usize) -> Outcome,
}

impl Endpoint {
    fn open(answer: impl Fn(usize) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        let endpoint = Self::closed(answer);
        endpoint.gate.add_permits(Semaphore::MAX_PERMITS);
        endpoint
    }

    fn closed(answer: impl Fn(usize) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            answer: Box::new(answer),
            refreshed: Mutex::default(),
            on_refresh: |_| Err(REFUSED),
        })
    }

    /// Another token with each login.
    pub(super) fn new_each_time() -> Arc<Self> {
        Self::open(|n| token(&format!("T{n}"), 3600))
    }

    /// The same, but that the second login fails.
    fn failing_second(error: GrantError) -> Arc<Self> {
        Self::open(move |n| {
            if n == 2 {
                Err(error)
            } else {
                token(&format!("T{n}"), 3600)
            }
        })
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Grants for Endpoint {
    fn request<'a>(&'a self, _: &'a Login, _: Duration) -> BoxFuture<'a, Outcome> {
        let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            (self.answer)(n)
        })
    }

    #[expect(clippy::disallowed_methods, reason = "tests ask which refresh token was used")]
    fn refresh<'a>(&'a self, _: &'a Login, token: &'a Secret, _: Duration) -> BoxFuture<'a, Outcome> {
        let mut refreshed = self.refreshed.lock().unwrap();
        refreshed.push(token.expose().to_owned());
        let outcome = (self.on_refresh)(refreshed.len());
        Box::pin(std::future::ready(outcome))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it stands where outcomes stand")]
fn token(text: &str, expires_in: u64) -> Outcome {
    Ok(Answer {
        token: Secret::new(text.to_owned()),
        expires_in: Some(Duration::from_secs(expires_in)),
        refresh_token: None,
    })
}

fn login(username: &str) -> Login {
    Login::example(username, "hunter2")
}

const POLICY: Policy = Policy {
    timeout: Duration::from_secs(10),
    default_lifetime: Duration::from_mins(10),
    margin: Duration::from_mins(1),
    cool_down: Duration::from_mins(16),
    refresh: Refresh::Late,
};

fn cache_of(users: &[(&str, &str, Login)], endpoint: &Arc<Endpoint>) -> (TokenCache, Clock, Hand) {
    cache_with(users, POLICY, endpoint)
}

fn cache_with(
    users: &[(&str, &str, Login)],
    policy: Policy,
    endpoint: &Arc<Endpoint>,
) -> (TokenCache, Clock, Hand) {
    let (clock, hand) = Clock::manual();
    let mut instances: BTreeMap<Name, BTreeMap<Name, Login>> = BTreeMap::new();
    for (instance, user, login) in users {
        let users = instances.entry(instance.parse().unwrap()).or_default();
        users.insert(user.parse().unwrap(), login.clone());
    }
    let instances = instances.into_iter().map(|(name, users)| (name, users, policy));
    let grants: Arc<dyn Grants> = Arc::<Endpoint>::clone(endpoint);
    (TokenCache::new(instances, means(grants, &clock)), clock, hand)
}

/// What a process without a store works with.
fn means(grants: Arc<dyn Grants>, clock: &Clock) -> Means {
    Means {
        grants,
        store: None,
        clock: clock.clone(),
        spread: 0.0,
    }
}

/// The default instance with its own user alone.
pub(super) fn cache(endpoint: &Arc<Endpoint>) -> (TokenCache, Source, Hand) {
    let (cache, _, hand) = cache_of(&[("default", "default", login("ann"))], endpoint);
    let source = cache.source("default", "default").unwrap();
    (cache, source, hand)
}

/// Lets all tasks run until each of them waits; only for the one-threaded runtime.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn bearer(token: &AccessToken) -> String {
    token.bearer().to_str().unwrap().to_owned()
}

async fn replaced(rejection: Rejection) -> Result<Replacement, TokenError> {
    match rejection {
        Rejection::Kept => panic!("the token was kept"),
        Rejection::Replacing(replacement) => replacement.await,
    }
}

fn status(cache: &TokenCache) -> Status {
    cache.status().next().unwrap().2
}
