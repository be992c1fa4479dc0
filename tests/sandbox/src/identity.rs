//! Who may have a token, which one, and until when.
//!
//! 1. One holder has one living token: asking again before it expires gives the same with the time left.
//! 2. A refresh token works once; its use kills the old access token at once.
//! 3. Failed logins lock a username, and a locked one hears what a wrong password hears, even with the right
//!    one. Tokens that are out keep working.
//! 4. The client is judged first, then the scope, then the user: only the last counts towards the lock.

use crate::clock::{Clock, Moment};
use crate::config::{Account, Config, Lockout, SignOn, TokenReuse};
use crate::lock;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many entries a table may hold before the dead ones are looked for.
const SWEEP_AT: usize = 4_096;

/// What a token request asks for.
pub(crate) struct Ask<'a> {
    pub(crate) grant: Grant<'a>,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a str,
    pub(crate) scope: Option<&'a str>,
    /// The header `fluent.account`.
    pub(crate) fluent_account: Option<&'a str>,
}

/// On what grounds a token is asked for.
pub(crate) enum Grant<'a> {
    Password { username: &'a str, password: &'a str },
    RefreshToken(&'a str),
    ClientCredentials,
}

/// A token that may be given out.
pub(crate) struct Granted {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    pub(crate) left: Duration,
    pub(crate) account: Account,
    pub(crate) kind: Kind,
}

/// Whether the holder had this very token before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    New,
    Same,
}

/// Why there is no token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Client,
    Scope,
    FluentAccount,
    Credentials,
    Locked,
    RefreshToken,
    SingleSignOn,
}

/// Whom a living token belongs to: at most one each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Holder {
    /// `None` for a client of its own.
    username: Option<String>,
    client_id: String,
}

struct Access {
    account: Account,
    expires: Moment,
    refresh_token: Option<String>,
}

struct Refresh {
    holder: Holder,
    account: Account,
    access_token: String,
    expires: Moment,
}

#[derive(Default)]
struct State {
    /// Passwords that were changed, by username.
    passwords: HashMap<String, String>,
    issued: u64,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    current: HashMap<Holder, String>,
    failures: HashMap<String, Failures>,
}

/// The failed logins of one username.
struct Failures {
    /// The last ones, at most as many as lock.
    recent: VecDeque<Moment>,
    last: Moment,
    locked_until: Option<Moment>,
}

/// The accounts and all tokens that are out.
pub(crate) struct Identity {
    config: Arc<Config>,
    clock: Arc<Clock>,
    /// What makes tokens differ from one sandbox to the next.
    salt: [u8; 16],
    state: Mutex<State>,
}

impl Identity {
    pub(crate) fn new(config: Arc<Config>, clock: Arc<Clock>) -> Self {
        let [a, b] = [(); 2].map(|()| RandomState::new().hash_one(0));
        let salt = (u128::from(a) << 64 | u128::from(b)).to_le_bytes();
        Self {
            config,
            clock,
            salt,
            state: Mutex::default(),
        }
    }

    /// Judges a token request.
    pub(crate) fn grant(&self, ask: &Ask<'_>) -> Result<Granted, Denied> {
        let of_client = |account: &&Account| {
            account.client_id == ask.client_id && account.client_secret == ask.client_secret
        };
        let client = self
            .config
            .accounts
            .iter()
            .find(of_client)
            .ok_or(Denied::Client)?;
        if ask.scope.is_some_and(|scope| scope != self.config.scope) {
            return Err(Denied::Scope);
        }
        match ask.grant {
            Grant::ClientCredentials => {
                fluent_account(client, ask)?;
                let holder = Holder {
                    username: None,
                    client_id: client.client_id.clone(),
                };
                Ok(self.give(holder, client))
            }
            Grant::Password { username, password } => {
                let account = self.log_in(username, password, ask)?;
                let username = Some(account.username.clone());
                Ok(self.give(
                    Holder {
                        username,
                        client_id: account.client_id.clone(),
                    },
                    account,
                ))
            }
            Grant::RefreshToken(token) => self.refresh(token, ask),
        }
    }

    /// Whose token this is, if it lives.
    pub(crate) fn holder_of(&self, access_token: &str) -> Option<Account> {
        let now = self.clock.now();
        let state = lock(&self.state);
        let access = state.access.get(access_token)?;
        (now < access.expires).then(|| access.account.clone())
    }

    /// Kills every access token that is out; refresh tokens live on.
    pub(crate) fn revoke_access_tokens(&self) {
        let mut state = lock(&self.state);
        state.access.clear();
        state.current.clear();
    }

    /// Kills every refresh token that is out.
    pub(crate) fn revoke_refresh_tokens(&self) {
        lock(&self.state).refresh.clear();
    }

    /// Gives a username another password; tokens that are out live on.
    pub(crate) fn change_password(&self, username: &str, password: &str) {
        let (username, password) = (username.to_owned(), password.to_owned());
        lock(&self.state).passwords.insert(username, password);
    }

    /// Whether a login of this username is refused whatever it says.
    pub(crate) fn is_locked(&self, username: &str) -> bool {
        let now = self.clock.now();
        lock(&self.state)
            .failures
            .get(username)
            .is_some_and(|failures| failures.lock_at(now))
    }

    fn log_in(&self, username: &str, password: &str, ask: &Ask<'_>) -> Result<&Account, Denied> {
        let of_user = |account: &&Account| account.username == username && account.client_id == ask.client_id;
        let account = self.config.accounts.iter().find(of_user);
        if let Some(account) = account {
            fluent_account(account, ask)?;
            if account.sign_on == SignOn::SingleSignOn {
                return Err(Denied::SingleSignOn);
            }
        }
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let locked = state
            .failures
            .get(username)
            .is_some_and(|failures| failures.lock_at(now));
        let right = account.filter(|account| {
            let changed = state.passwords.get(username);
            changed.unwrap_or(&account.password) == password
        });
        if let (Some(account), false) = (right, locked) {
            return Ok(account);
        }
        let rule = self.config.lockout;
        if state.failures.len() >= SWEEP_AT {
            let horizon = rule.window.max(rule.lock);
            state
                .failures
                .retain(|_, failures| now < failures.last.after(horizon));
        }
        let fresh = || Failures {
            recent: VecDeque::new(),
            last: now,
            locked_until: None,
        };
        let failures = state.failures.entry(username.to_owned()).or_insert_with(fresh);
        failures.add(now, rule, locked);
        Err(if locked {
            Denied::Locked
        } else {
            Denied::Credentials
        })
    }

    fn refresh(&self, token: &str, ask: &Ask<'_>) -> Result<Granted, Denied> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let ours = |refresh: &Refresh| refresh.account.client_id == ask.client_id && now < refresh.expires;
        if !state.refresh.get(token).is_some_and(ours) {
            return Err(Denied::RefreshToken);
        }
        let refresh = state.refresh.remove(token).ok_or(Denied::RefreshToken)?;
        fluent_account(&refresh.account, ask)?;
        state.access.remove(&refresh.access_token);
        Ok(self.issue(&mut state, refresh.holder, &refresh.account))
    }

    fn give(&self, holder: Holder, account: &Account) -> Granted {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if self.config.token_reuse == TokenReuse::SameUntilExpiry
            && let Some(token) = state.current.get(&holder)
            && let Some(access) = state.access.get(token)
            && now < access.expires
        {
            return Granted {
                access_token: token.clone(),
                refresh_token: access.refresh_token.clone(),
                left: now.until(access.expires),
                account: account.clone(),
                kind: Kind::Same,
            };
        }
        self.issue(&mut state, holder, account)
    }

    fn issue(&self, state: &mut State, holder: Holder, account: &Account) -> Granted {
        let now = self.clock.now();
        if state.access.len() >= SWEEP_AT {
            state.access.retain(|_, access| now < access.expires);
            state.refresh.retain(|_, refresh| now < refresh.expires);
        }
        let access_token = self.opaque(state);
        let expires = now.after(self.config.token_lifetime);
        let refresh_token = self.config.refresh_tokens.then(|| {
            let refresh_token = self.opaque(state);
            let refresh = Refresh {
                holder: holder.clone(),
                account: account.clone(),
                access_token: access_token.clone(),
                expires: now.after(self.config.refresh_token_lifetime),
            };
            state.refresh.insert(refresh_token.clone(), refresh);
            refresh_token
        });
        state.current.insert(holder, access_token.clone());
        let access = Access {
            account: account.clone(),
            expires,
            refresh_token: refresh_token.clone(),
        };
        state.access.insert(access_token.clone(), access);
        let left = now.until(expires);
        Granted {
            access_token,
            refresh_token,
            left,
            account: account.clone(),
            kind: Kind::New,
        }
    }

    /// 27 base64url characters that nobody guesses and no two share.
    fn opaque(&self, state: &mut State) -> String {
        state.issued += 1;
        let hash = digest(
            &SHA256,
            &[self.salt.as_slice(), &state.issued.to_le_bytes()].concat(),
        );
        URL_SAFE_NO_PAD.encode(hash.as_ref().first_chunk::<20>().unwrap_or(&[0; 20]))
    }
}

impl Failures {
    fn lock_at(&self, now: Moment) -> bool {
        self.locked_until.is_some_and(|end| now < end)
    }

    fn add(&mut self, now: Moment, rule: Lockout, locked: bool) {
        self.last = now;
        self.recent.push_back(now);
        if self.recent.len() > rule.failures {
            self.recent.pop_front();
        }
        let full = rule.failures > 0 && self.recent.len() >= rule.failures;
        let rolling = self
            .recent
            .front()
            .is_some_and(|first| now < first.after(rule.window));
        if locked || (full && rolling) {
            self.locked_until = Some(now.after(rule.lock));
        }
    }
}

/// The `fluent.account` header of a request, where the account wants one.
fn fluent_account(account: &Account, ask: &Ask<'_>) -> Result<(), Denied> {
    match account.fluent_account.as_deref() {
        Some(wanted) if ask.fluent_account != Some(wanted) => Err(Denied::FluentAccount),
        Some(_) | None => Ok(()),
    }
}
