//! The project's login invariant, judged from the server's side.
//!
//! 1. With credentials that were never accepted yet, at most 4 password logins of a username in any rolling
//!    15 minutes may get no 200: refused, timed out, hung up on, cut.
//! 2. Those answered 502, 503 or 504 do not count, nor those with credentials that were accepted before.
//! 3. A login under way counts until it is answered. Time is the process's, a skewed server clock is ignored.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// How many logins without a 200 a window may hold.
pub const LOGIN_LIMIT: usize = 4;
/// The rolling window.
pub const LOGIN_WINDOW: Duration = Duration::from_mins(15);

/// How many logins a username are remembered; more violate the invariant anyway.
const REMEMBERED: usize = 10_000;

/// One moment at which the login invariant did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginViolation {
    /// Whose logins.
    pub username: String,
    /// When the login that was too many came.
    pub moment: Instant,
    /// How many logins without a 200 the window that ends here holds, this one included.
    pub logins: usize,
}

/// A digest of username, password and client: the credentials as such.
pub(crate) type Credentials = [u8; 32];

/// How a password login ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginEnd {
    /// A token was given.
    Accepted,
    /// A 200 without a token, or a 502, 503 or 504.
    Excused,
    /// Anything else that was sent, or a connection that ended.
    NoAnswer,
}

/// The password logins that matter to the invariant.
#[derive(Default)]
pub(crate) struct LoginLog {
    users: HashMap<String, User>,
}

#[derive(Default)]
struct User {
    accepted: HashSet<Credentials>,
    without_200: VecDeque<(u64, Instant)>,
}

impl LoginLog {
    /// Notes the login with this number as under way.
    pub(crate) fn arrived(
        &mut self,
        number: u64,
        username: &str,
        credentials: &Credentials,
        moment: Instant,
    ) {
        let user = self.users.entry(username.to_owned()).or_default();
        if user.accepted.contains(credentials) {
            return;
        }
        user.without_200.push_back((number, moment));
        if user.without_200.len() > REMEMBERED {
            user.without_200.pop_front();
        }
    }

    /// Notes how the login ended.
    pub(crate) fn ended(&mut self, number: u64, username: &str, credentials: &Credentials, end: LoginEnd) {
        let Some(user) = self.users.get_mut(username) else {
            return;
        };
        if end != LoginEnd::NoAnswer {
            user.without_200.retain(|(other, _)| *other != number);
        }
        if end == LoginEnd::Accepted {
            user.accepted.insert(*credentials);
        }
    }

    /// Every login that was one too many.
    pub(crate) fn violations(&self) -> Vec<LoginViolation> {
        let mut violations = Vec::new();
        for (username, user) in &self.users {
            let mut window = VecDeque::new();
            for (_, moment) in &user.without_200 {
                window.push_back(*moment);
                while window
                    .front()
                    .is_some_and(|first| moment.duration_since(*first) >= LOGIN_WINDOW)
                {
                    window.pop_front();
                }
                if window.len() > LOGIN_LIMIT {
                    let (username, logins) = (username.clone(), window.len());
                    violations.push(LoginViolation {
                        username,
                        moment: *moment,
                        logins,
                    });
                }
            }
        }
        violations.sort_by_key(|violation| violation.moment);
        violations
    }
}
