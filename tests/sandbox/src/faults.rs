//! What goes wrong, on demand.
//!
//! 1. A fault is injected for a place, a number of times and a point of the request, and can be cleared.
//! 2. Several faults strike in the order of their injection; the first that answers or cuts ends the request.
//! 3. The body of a token request is always read first, so that the record knows whose login it was.

use crate::lock;
use serde::{Deserialize, Deserializer};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What goes wrong.
///
/// In JSON the variants are `snake_case` words, durations are milliseconds:
/// `"hang"`, `{"delay": 250}`, `{"status": {"code": 503, "retry_after": "7"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Waits, then goes on.
    Delay(#[serde(deserialize_with = "millis")] Duration),
    /// Waits until the fault is cleared, then goes on; a client that leaves ends it.
    Hang,
    /// 401 with the body of an invalid token.
    Unauthorized,
    /// The other 401, which no new token cures: `Logged in user has no retailer`.
    NoRetailer,
    /// A status of one's own.
    Status {
        /// The status, 200 to 599; another is answered as 500.
        code: u16,
        /// The header `Retry-After`.
        #[serde(default)]
        retry_after: Option<String>,
        /// The body, sent as JSON. Default: a small error in the vendor's form.
        #[serde(default)]
        body: Option<String>,
    },
    /// Ends the connection with a TCP RST.
    Reset,
    /// Closes the connection without an answer.
    Close,
    /// A head that promises bytes, half of them, and then the end of the connection.
    Cut,
    /// 200 with an HTML page.
    Html,
    /// 200 with an empty body.
    Empty,
    /// 200 with JSON that has everything but a token.
    NoToken,
    /// The true answer, one byte of the body each so often.
    Trickle(#[serde(deserialize_with = "millis")] Duration),
    /// Kills all access tokens that are out, then goes on.
    RevokeTokens,
    /// Moves the server's clock forward, then goes on: tokens expire early.
    SkewClock(#[serde(deserialize_with = "millis")] Duration),
    /// 302 to this URL.
    Redirect(String),
}

impl Fault {
    /// Whether the request ends here.
    fn ends(&self) -> bool {
        match self {
            Self::Delay(_) | Self::Hang | Self::Trickle(_) | Self::RevokeTokens | Self::SkewClock(_) => false,
            Self::Unauthorized
            | Self::NoRetailer
            | Self::Status { .. }
            | Self::Reset
            | Self::Close
            | Self::Cut
            | Self::Html
            | Self::Empty
            | Self::NoToken
            | Self::Redirect(_) => true,
        }
    }
}

/// Where it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The token endpoint.
    Token,
    /// Everything else.
    Api,
}

/// How often it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// For the next request.
    #[default]
    Once,
    /// For the next so many.
    Count(u64),
    /// Until cleared.
    Always,
}

/// At which point of a request it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// When the head is there, before the bearer is looked at and the body is read.
    #[default]
    BeforeBody,
    /// When the body is there, before anything is done.
    AfterBody,
    /// When everything is done, a mutation applied, a token issued: only the answer is lost.
    AfterExecution,
}

/// A fault with all that restricts it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
    /// How often. Default: once.
    #[serde(default)]
    pub times: Times,
    /// At which point. Default: before the body is read.
    #[serde(default)]
    pub when: When,
    /// Only for requests whose path is this. Default: any.
    #[serde(default)]
    pub path: Option<String>,
}

impl Injection {
    /// A fault for the next request, before its body is read.
    #[must_use]
    pub fn new(place: Place, fault: Fault) -> Self {
        Self {
            place,
            fault,
            times: Times::Once,
            when: When::BeforeBody,
            path: None,
        }
    }

    /// So many times.
    #[must_use]
    pub fn times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// At this point of the request.
    #[must_use]
    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    /// Only for this path.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..self
        }
    }
}

/// Names an injected fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultId(u64);

impl FaultId {
    /// The fault that the control interface names so.
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The name on the control interface.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// The faults of one sandbox. Clones share them.
#[derive(Clone, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    /// How many are active, so that a sandbox without faults takes no lock.
    active: AtomicUsize,
    list: Mutex<Vec<Active>>,
}

struct Active {
    id: FaultId,
    injection: Injection,
    struck: u64,
    cleared: CancellationToken,
}

impl Active {
    fn is_used_up(&self) -> bool {
        match self.injection.times {
            Times::Once => self.struck >= 1,
            Times::Count(times) => self.struck >= times,
            Times::Always => false,
        }
    }
}

/// A fault that strikes now, and the sign that it was cleared.
pub(crate) struct Strike {
    pub(crate) fault: Fault,
    pub(crate) cleared: CancellationToken,
}

impl Faults {
    /// Injects a fault that strikes before the body is read.
    #[expect(clippy::must_use_candidate, reason = "most faults are never named again")]
    pub fn inject(&self, place: Place, times: Times, fault: Fault) -> FaultId {
        self.add(Injection::new(place, fault).times(times))
    }

    /// Injects a fault.
    #[expect(clippy::must_use_candidate, reason = "most faults are never named again")]
    pub fn add(&self, injection: Injection) -> FaultId {
        let id = FaultId(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let mut list = lock(&self.shared.list);
        list.push(Active {
            id,
            injection,
            struck: 0,
            cleared: CancellationToken::new(),
        });
        self.shared.active.store(list.len(), Ordering::Release);
        id
    }

    /// Clears one fault; requests that hang in it go on. One that was used up is gone already.
    pub fn clear_one(&self, id: FaultId) {
        self.clear_where(|active| active.id == id);
    }

    /// Clears the faults of one place; requests that hang in them go on.
    pub fn clear_place(&self, place: Place) {
        self.clear_where(|active| active.injection.place == place);
    }

    /// Clears all faults; requests that hang in them go on.
    pub fn clear(&self) {
        self.clear_where(|_| true);
    }

    /// How many faults wait to strike.
    #[must_use]
    pub fn pending(&self) -> usize {
        lock(&self.shared.list)
            .iter()
            .filter(|active| !active.is_used_up())
            .count()
    }

    /// Whether a fault may strike here, so that a body must be read for it.
    pub(crate) fn may_strike(&self, place: Place, when: When, path: &str) -> bool {
        self.shared.active.load(Ordering::Acquire) > 0
            && lock(&self.shared.list)
                .iter()
                .any(|active| hits(active, place, when, path))
    }

    /// Takes the faults that strike here, up to the first that ends the request.
    pub(crate) fn strike(&self, place: Place, when: When, path: &str) -> Vec<Strike> {
        let mut strikes = Vec::new();
        if self.shared.active.load(Ordering::Acquire) == 0 {
            return strikes;
        }
        let mut list = lock(&self.shared.list);
        for active in list.iter_mut().filter(|active| hits(active, place, when, path)) {
            active.struck += 1;
            let fault = active.injection.fault.clone();
            let ends = fault.ends();
            strikes.push(Strike {
                fault,
                cleared: active.cleared.clone(),
            });
            if ends {
                break;
            }
        }
        // A hang stays, used up, until it is cleared: somebody waits in it.
        list.retain(|active| !active.is_used_up() || active.injection.fault == Fault::Hang);
        self.shared.active.store(list.len(), Ordering::Release);
        strikes
    }

    fn clear_where(&self, which: impl Fn(&Active) -> bool) {
        let mut list = lock(&self.shared.list);
        list.retain(|active| {
            let gone = which(active);
            if gone {
                active.cleared.cancel();
            }
            !gone
        });
        self.shared.active.store(list.len(), Ordering::Release);
    }
}

fn hits(active: &Active, place: Place, when: When, path: &str) -> bool {
    let injection = &active.injection;
    injection.place == place
        && injection.when == when
        && !active.is_used_up()
        && injection.path.as_ref().is_none_or(|wanted| wanted == path)
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
