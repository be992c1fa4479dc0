//! What every store keeps to: how tokens and refusals are written before they are sealed, what is believed when
//! they are read, and how long anything is waited for and remembered.
//!
//! 1. What cannot be read is as good as nothing.
//! 2. What was written in the future comes from a clock that was wrong: tokens are dead then, a refusal or a
//!    count is none.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::names::Names;
use super::seal::Seal;
use super::{Entry, Reading, StoreTime};
use crate::secret::Secret;
use crate::token::{OAuthError, Refusal};

/// How long an operation on a store may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// How long a counted login is remembered: Fluent's window.
pub(super) const COUNTED_LIVES: Duration = Duration::from_mins(16);
/// How many counted logins of an account are remembered: more than lock it.
pub(super) const MOST_COUNTED: usize = 16;
/// How long tokens are kept past their end where there is a refresh token, whose life nothing tells.
const REFRESHABLE: Duration = Duration::from_hours(30 * 24);

const ERRORS: [OAuthError; 7] = [
    OAuthError::InvalidGrant,
    OAuthError::InvalidClient,
    OAuthError::InvalidScope,
    OAuthError::InvalidRequest,
    OAuthError::UnauthorizedClient,
    OAuthError::UnsupportedGrantType,
    OAuthError::Unnamed,
];

#[derive(Serialize, Deserialize)]
struct EntryRecord {
    token: Zeroizing<String>,
    refresh_token: Option<Zeroizing<String>>,
    issued_at: u64,
    expires_at: u64,
    gone_at: u64,
}

#[derive(Serialize, Deserialize)]
struct RefusalRecord {
    status: u16,
    error: String,
    at: u64,
    until: u64,
}

impl StoreTime {
    /// The moment `later` after this one.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(millis(later)))
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a store tells, from the sealed values that it has.
#[must_use]
pub fn reading(
    now: StoreTime,
    (names, seal): (&Names, &Seal),
    (sealed_entry, sealed_refusal): (Option<Vec<u8>>, Option<Vec<u8>>),
    counted: impl IntoIterator<Item = u64>,
) -> Reading {
    let open = |name: &str, sealed: Option<Vec<u8>>| seal.open(name, &sealed?);
    Reading {
        now,
        entry: open(&names.entry, sealed_entry).and_then(|plain| entry(&plain, now)),
        refusal: open(&names.refusal, sealed_refusal).and_then(|plain| refusal(&plain, now)),
        counted: counted.into_iter().filter(lately(now)).map(StoreTime).collect(),
    }
}

/// Whether a login ended in the time that counts.
pub(super) fn lately(now: StoreTime) -> impl Fn(&u64) -> bool {
    move |at| *at <= now.0 && now.0 - at < millis(COUNTED_LIVES)
}

/// When nobody can use an entry any more.
pub(super) fn end_of(entry: &Entry) -> StoreTime {
    let past = entry
        .refresh_token
        .as_ref()
        .map_or(Duration::ZERO, |_| REFRESHABLE);
    entry.expires_at.plus(past)
}

pub(super) fn of_entry(entry: &Entry) -> Option<Zeroizing<Vec<u8>>> {
    #[expect(clippy::disallowed_methods, reason = "tokens are what a store shares, sealed")]
    let text = |secret: &Secret| Zeroizing::new(secret.expose().to_owned());
    let record = EntryRecord {
        token: text(&entry.token),
        refresh_token: entry.refresh_token.as_ref().map(text),
        issued_at: entry.issued_at.0,
        expires_at: entry.expires_at.0,
        gone_at: entry.gone_at.0,
    };
    serde_json::to_vec(&record).map(Zeroizing::new).ok()
}

pub(super) fn entry(plain: &[u8], now: StoreTime) -> Option<Entry> {
    let record: EntryRecord = serde_json::from_slice(plain).ok()?;
    let secret = |mut text: Zeroizing<String>| Secret::new(std::mem::take(&mut *text));
    let mut entry = Entry {
        token: secret(record.token),
        refresh_token: record.refresh_token.map(secret),
        issued_at: StoreTime(record.issued_at),
        expires_at: StoreTime(record.expires_at),
        gone_at: StoreTime(record.gone_at),
    };
    if entry.issued_at > now {
        entry.expires_at = entry.expires_at.min(now);
    }
    (end_of(&entry) > now).then_some(entry)
}

pub(super) fn of_refusal(refusal: Refusal, at: StoreTime, until: StoreTime) -> Option<Vec<u8>> {
    let record = RefusalRecord {
        status: refusal.status.as_u16(),
        error: refusal.error.to_string(),
        at: at.0,
        until: until.0,
    };
    serde_json::to_vec(&record).ok()
}

pub(super) fn refusal(plain: &[u8], now: StoreTime) -> Option<(Refusal, StoreTime)> {
    let record: RefusalRecord = serde_json::from_slice(plain).ok()?;
    let refusal = Refusal {
        status: StatusCode::from_u16(record.status).ok()?,
        error: *ERRORS.iter().find(|error| error.to_string() == record.error)?,
    };
    (record.at <= now.0 && now.0 < record.until).then_some((refusal, StoreTime(record.until)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{REFUSAL, login};
    use super::*;

    const NOW: StoreTime = StoreTime(1_000_000);

    fn later(milliseconds: i64) -> StoreTime {
        StoreTime(NOW.0.saturating_add_signed(milliseconds))
    }

    #[test]
    fn tokens_are_believed_until_they_die_and_for_thirty_days_more_where_they_can_be_refreshed() {
        let thirty_days = 30 * 24 * 3600 * 1000;
        for (refreshable, read_at, believed) in [
            (false, 999, true),
            (false, 1000, false),
            (false, -1, false),
            (true, 999 + thirty_days, true),
            (true, 1000 + thirty_days, false),
        ] {
            let written = of_entry(&Entry {
                token: Secret::new("T".to_owned()),
                refresh_token: refreshable.then(|| Secret::new("R".to_owned())),
                issued_at: NOW,
                expires_at: later(1000),
                gone_at: later(2000),
            });
            let read = entry(&written.unwrap(), later(read_at));
            assert_eq!(read.is_some(), believed, "{read_at} ms later");
        }
    }

    #[test]
    fn tokens_live_from_the_moment_at_which_they_were_asked_for() {
        for (issued_at, expires_at) in [(0, 1000), (1, 0)] {
            let plain = serde_json::json!({
                "token": "T", "refresh_token": "R",
                "issued_at": later(issued_at).0, "expires_at": later(1000).0, "gone_at": later(2000).0,
            });
            let read = entry(plain.to_string().as_bytes(), NOW).unwrap();
            assert_eq!(
                read.expires_at,
                later(expires_at),
                "issued {issued_at} ms from now"
            );
        }
    }

    #[test]
    fn a_refusal_holds_from_when_it_came_until_it_is_over() {
        for (at, until, believed) in [(0, 1, true), (1, 2, false), (-1, 0, false)] {
            let written = of_refusal(REFUSAL, later(at), later(until)).unwrap();
            let expected = believed.then_some((REFUSAL, later(until)));
            assert_eq!(refusal(&written, NOW), expected, "from {at} until {until}");
        }
    }

    #[test]
    fn logins_count_for_sixteen_minutes() {
        let minutes = 16 * 60 * 1000;
        let (names, seal) = (Names::of("p", &login()), Seal::of(&login(), None));
        let ended = [1, 0, 1 - minutes, -minutes].map(|at| later(at).0);
        let read = reading(NOW, (&names, &seal), (None, None), ended);
        assert_eq!(read.counted, [later(0), later(1 - minutes)]);
    }

    fn time() -> impl Strategy<Value = u64> {
        prop_oneof![NOW.0 - 2..NOW.0 + 3, any::<u64>()]
    }

    /// An entry or a refusal as other versions and hands might write them.
    fn written() -> impl Strategy<Value = String> {
        let word = || "(T|R|invalid_grant|unnamed|400|99|\"|é)";
        let entry = (word(), prop::option::of(word()), time(), time(), time()).prop_map(
            |(token, refresh_token, issued_at, expires_at, gone_at)| {
                serde_json::json!({
                    "token": token, "refresh_token": refresh_token,
                    "issued_at": issued_at, "expires_at": expires_at, "gone_at": gone_at,
                })
                .to_string()
            },
        );
        let refusal = (0_u16..1100, word(), time(), time()).prop_map(|(status, error, at, until)| {
            serde_json::json!({"status": status, "error": error, "at": at, "until": until}).to_string()
        });
        prop_oneof![4 => entry, 4 => refusal, 1 => ".{0,60}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_is_believed_that_has_ended_or_was_sealed_elsewhere(plain in written()) {
            let login = login();
            let (names, seal) = (Names::of("p", &login), Seal::of(&login, None));
            let read = |entry, refusal| reading(NOW, (&names, &seal), (Some(entry), Some(refusal)), []);
            let entry = seal.seal(&names.entry, plain.as_bytes()).unwrap();
            let refusal = seal.seal(&names.refusal, plain.as_bytes()).unwrap();

            for nothing in [
                read(plain.clone().into_bytes(), plain.clone().into_bytes()),
                read(refusal.clone(), entry.clone()),
            ] {
                prop_assert!(nothing.entry.is_none() && nothing.refusal.is_none());
            }
            let believed = read(entry, refusal);
            if let Some(entry) = believed.entry {
                let lives = entry.expires_at > NOW;
                prop_assert!(lives || entry.refresh_token.is_some());
                prop_assert!(entry.issued_at <= NOW || !lives);
            }
            prop_assert!(believed.refusal.is_none_or(|(_, until)| until > NOW));
        }
    }
}
