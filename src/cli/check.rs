//! `check`: are the settings good, and do the credentials work?
//!
//! 1. Settings are read whole, with the files of TLS: what would stop a start stops here.
//! 2. A login is sent only when asked for, after saying so: exactly one, and one `{ me { id } }`, through the
//!    same parts as the proxy's own, with nothing sent again.
//! 3. Where processes share their logins, it is a login like theirs: a refusal that cools down, or too many that
//!    failed lately, hold it back unless it is forced; it takes the account's lease; what comes of it is stored, so
//!    that running processes use its token, or heed its refusal.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use crate::app::{self, StartError};
use crate::clock::Clock;
use crate::error::ProxyError;
use crate::name::{InvalidName, Name};
use crate::proxy::Route;
use crate::settings::{Instance, Loaded, Settings, Source};
use crate::token::answer::Answer;
use crate::token::grant::{Granter, Grants, Login};
use crate::token::ledger::MOST_IN_WINDOW;
use crate::token::life::Life;
use crate::token::store::seen::Seen;
use crate::token::store::{self, Change, LEASE_SLACK, Lease, Reading, Shelf};
use crate::token::{AccessToken, GrantError, Trouble, UnusableToken};
use crate::upstream::{Upstream, UpstreamError};

type Body = Full<Bytes>;

/// The cheapest question that needs a token.
const QUESTION: &str = r#"{"query":"{ me { id } }"}"#;
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 256 * 1024;

/// Whether a login is sent though what processes share says that it should not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caution {
    /// It is not.
    Heed,
    /// It is.
    Force,
}

/// Whose credentials are tried: `INSTANCE` or `INSTANCE/USER`.
#[derive(Clone, Debug)]
pub(super) struct Whom {
    instance: Name,
    user: Name,
}

impl FromStr for Whom {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (instance, user) = text.split_once('/').unwrap_or((text, Name::DEFAULT));
        Ok(Self {
            instance: instance.parse()?,
            user: user.parse()?,
        })
    }
}

/// What came of a check.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The command line names nobody of the settings.
    #[error("--login names {named}, whom the settings do not know; they know {known}")]
    Unknown {
        /// Who was named.
        named: String,
        /// Who could be.
        known: String,
    },
    /// The credentials, or the token that they gave, were refused.
    #[error("{0}")]
    Refused(String),
    /// Nothing could be learned of them.
    #[error("{0}")]
    Unavailable(String),
}

/// Rule 1; gives the sentence that says so, and what comes from a profile.
pub(super) fn settings(loaded: &Loaded) -> Result<String, Failed> {
    let settings = &loaded.settings;
    let (_, upstream) = app::legs(settings, &[]).map_err(unusable)?;
    for (name, instance) in &settings.instances {
        route(&upstream, name, instance)?;
    }
    let from_profiles = loaded.provenance.rows().iter().filter_map(|row| {
        let source = row.source.as_ref()?;
        matches!(source, Source::Profile { .. }).then(|| format!("{} comes from {source}.\n", row.key))
    });
    let good = format!("The settings are good; they name {}.\n", known(settings));
    Ok(std::iter::once(good).chain(from_profiles).collect())
}

/// One login that is about to be tried.
pub(super) struct Attempt<'a> {
    whom: &'a Whom,
    instance: &'a Instance,
    login: &'a Login,
}

impl<'a> Attempt<'a> {
    /// The login of `whom`, if the settings know it.
    pub(super) fn of(settings: &'a Settings, whom: &'a Whom) -> Result<Self, Failed> {
        let instance = settings.instances.get(&whom.instance);
        let found = instance.and_then(|instance| Some((instance, instance.users.get(&whom.user)?)));
        let (instance, login) = found.ok_or_else(|| Failed::Unknown {
            named: format!("{}/{}", whom.instance, whom.user),
            known: known(settings),
        })?;
        Ok(Self {
            whom,
            instance,
            login,
        })
    }

    /// What is said before anything is sent.
    pub(super) fn announcement(&self) -> String {
        format!(
            "Spending exactly one login of {}/{} at its token endpoint, and one query {{ me {{ id }} }}.\n",
            self.whom.instance, self.whom.user
        )
    }

    /// Rule 2; gives the sentence that says what came of it.
    pub(super) async fn run(&self, settings: &Settings, caution: Caution) -> Result<String, Failed> {
        let (granter, upstream) = app::legs(settings, &[]).map_err(unusable)?;
        let answer = match store::open(&settings.cache, Counter::default(), Clock::system()) {
            Some(store) => {
                let store = store.shelf(self.login);
                self.log_in_for_all(&granter, store.as_ref(), caution).await?
            }
            None => self.log_in(&granter).await,
        };
        let (answer, token) = answer.map_err(|error| self.login_failed(error))?;
        self.ask(&upstream, settings.upstream.read_timeout, &token)
            .await?;
        let told = answer.expires_in;
        let life = self.instance.policy.lifetime(told).as_secs();
        let origin = told.map_or(
            "by fluent.token.default_lifetime, as the answer names none",
            |_| "as the answer says",
        );
        Ok(format!(
            "The login was accepted and Fluent answered the query; the token lives for {life} s, {origin}.\n"
        ))
    }

    async fn log_in(&self, granter: &Granter) -> Result<(Answer, AccessToken), GrantError> {
        let answer = granter.request(self.login, self.instance.policy.timeout).await?;
        let token = AccessToken::new(&answer.token, 0)
            .map_err(|UnusableToken| Trouble::Nonsense("its token cannot stand in a header"))?;
        Ok((answer, token))
    }

    /// Rule 3.
    async fn log_in_for_all(
        &self,
        granter: &Granter,
        store: &dyn Shelf,
        caution: Caution,
    ) -> Result<Result<(Answer, AccessToken), GrantError>, Failed> {
        let policy = &self.instance.policy;
        let clock = Clock::system();
        let Ok(reading) = store.read().await else {
            return Ok(self.log_in(granter).await);
        };
        if caution == Caution::Heed {
            self.heed(&reading)?;
        }
        let at = clock.now();
        let seen = Seen { reading, at };
        let lease = match store.lease(policy.timeout + LEASE_SLACK).await {
            Ok(None) if caution == Caution::Heed => {
                return Err(Failed::Unavailable(
                    "Nothing was sent: another process is logging in to this account now.".to_owned(),
                ));
            }
            // What is settled without one counts all the same.
            Ok(None) | Err(_) => Lease::none(),
            Ok(Some(lease)) => lease,
        };
        let asked_at = clock.now();
        let answer = self.log_in(granter).await;
        let change = match &answer {
            Ok((answer, _)) => {
                let moments = (asked_at, clock.now());
                let life = Life::of_answer(answer.expires_in, moments, (policy, 0.0), None);
                Change::granted(seen.entry(answer.token.clone(), answer.refresh_token.clone(), &life))
            }
            Err(error) => Change::failed(error, policy.cool_down),
        };
        // A store that is away now is one that nobody heeds.
        let _ = store.settle(lease, change).await;
        Ok(answer)
    }

    fn heed(&self, reading: &Reading) -> Result<(), Failed> {
        let held = match reading.refusal {
            Some((refusal, until)) => {
                let seconds = until.0.saturating_sub(reading.now.0).div_ceil(1000);
                format!(
                    "these credentials were refused already ({refusal}) and cool down for {seconds} s more"
                )
            }
            None if reading.entry.is_none() && reading.counted.len() >= MOST_IN_WINDOW => {
                "too many logins of this account failed within the last 15 minutes".to_owned()
            }
            None => return Ok(()),
        };
        Err(Failed::Refused(format!(
            "Nothing was sent: {held}. Mend {} first, or add --force, which may lock the account.",
            self.table()
        )))
    }

    fn login_failed(&self, error: GrantError) -> Failed {
        let table = self.table();
        match error {
            GrantError::Refused(refusal) => Failed::Refused(format!(
                "The token endpoint refused the credentials ({refusal}). Check username, password, client_id, \
                 client_secret and scope of {table} before trying again: 5 failed logins within 15 minutes \
                 lock the account, and a locked one is refused like this too."
            )),
            GrantError::Unavailable { trouble, .. } => Failed::Unavailable(format!(
                "No token was given: {trouble}. Check url and token.path of {table}, and the network."
            )),
        }
    }

    async fn ask(
        &self,
        upstream: &Upstream<Body>,
        read_timeout: Duration,
        token: &AccessToken,
    ) -> Result<(), Failed> {
        let route = route(upstream, &self.whom.instance, self.instance)?;
        let mut head = route
            .graphql_head()
            .map_err(|error| Failed::Unavailable(format!("The query cannot be sent: {error}.")))?;
        head.headers.insert(header::AUTHORIZATION, token.bearer());
        let (head, body) = route
            .leg()
            .send(&head, Body::from(QUESTION), Instant::now())
            .await
            .map_err(not_asked)?
            .into_parts();
        let read = tokio::time::timeout(read_timeout, Limited::new(body, LONGEST_ANSWER).collect()).await;
        let body = match read {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        match head.status {
            StatusCode::OK if knows_me(&body) => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failed::Refused(format!(
                "The login was accepted, but Fluent refused its token (status {}). Check that url and the token \
                 endpoint of {} belong together, and that the user has a retailer.",
                head.status.as_u16(),
                self.table()
            ))),
            status => Err(Failed::Unavailable(format!(
                "The login was accepted, but the query was not answered (status {}). Check that url of {} is \
                 the root of a GraphQL API.",
                status.as_u16(),
                self.table()
            ))),
        }
    }

    /// The table of the settings that holds these credentials.
    fn table(&self) -> String {
        let own = |name: &Name| name.as_str() == Name::DEFAULT;
        let instance = if own(&self.whom.instance) {
            "fluent".to_owned()
        } else {
            format!("instances.{}", self.whom.instance)
        };
        if own(&self.whom.user) {
            format!("[{instance}]")
        } else {
            format!("[{instance}.users.{}] and [{instance}]", self.whom.user)
        }
    }
}

fn route(upstream: &Upstream<Body>, name: &Name, instance: &Instance) -> Result<Route<Body>, Failed> {
    Route::new(upstream, &instance.url, instance.account.clone(), BTreeMap::new())
        .ok_or_else(|| unusable(StartError::Url(name.clone())))
}

/// Everyone whom the settings know, as `--login` would name them.
fn known(settings: &Settings) -> String {
    let users = settings.instances.iter().flat_map(|(name, instance)| {
        let users = instance.users.keys();
        users.map(move |user| format!("{name}/{user}"))
    });
    users.collect::<Vec<_>>().join(", ")
}

/// What stops a start, with its causes.
#[expect(clippy::needless_pass_by_value, reason = "it is the end of an error")]
fn unusable(error: StartError) -> Failed {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        if !text.ends_with(&sentence) {
            text = format!("{text}: {sentence}");
        }
        cause = error.source();
    }
    Failed::Settings(text)
}

fn not_asked(error: UpstreamError) -> Failed {
    let error = ProxyError::Upstream(error);
    Failed::Unavailable(format!(
        "The login was accepted, but the query was not answered: {}. Check the network, and [upstream].",
        error.chain()
    ))
}

/// Whether Fluent told who asked.
fn knows_me(body: &[u8]) -> bool {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    answer
        .pointer("/data/me")
        .is_some_and(serde_json::Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_named_is_the_default() {
        for (text, whom) in [
            ("default", "default/default"),
            ("eu", "eu/default"),
            ("eu/ann", "eu/ann"),
        ] {
            let Whom { instance, user } = text.parse().unwrap();
            assert_eq!(format!("{instance}/{user}"), whom);
        }
        for bad in ["", "/", "eu/", "/ann", "eu/ann/bob", "EU"] {
            bad.parse::<Whom>().unwrap_err();
        }
    }

    #[test]
    fn an_answer_that_names_nobody_is_no_success() {
        assert!(knows_me(br#"{"data":{"me":{"id":"1"}}}"#));
        for body in [
            &br#"{"data":{"me":null}}"#[..],
            br#"{"errors":[]}"#,
            b"<html>",
            b"",
        ] {
            assert!(!knows_me(body));
        }
    }
}
