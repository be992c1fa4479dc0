//! When the next login of an account may be sent: pure bookkeeping, without clock, network or lock.
//!
//! Fluent locks a username for 15 minutes after 5 failed logins within 15 minutes, and answers the right
//! password like a wrong one meanwhile. So, for each account ([`Login::account`](super::grant::Login::account)):
//!
//! 1. **Refused** credentials are left alone until their cool-down is over, they change, or an operator clears
//!    the refusal. Other credentials of the account are not held by it.
//! 2. **Trouble** is followed by a pause: exponential, with full jitter (but never under 100 ms), capped, and
//!    no shorter than `Retry-After` asked for. The cap is 30 s for credentials that were accepted before and for
//!    trouble that does not count ([`GrantError::counts`]), 5 minutes for counted failures of others.
//! 3. **Invariant:** with credentials that were never accepted, at most 4 logins that counted in any rolling
//!    15 minutes, whatever the jitter and however many run at once. A login's moment is its end; logins under
//!    way take their place beforehand. A slack covers the time that Fluent may take to see a login which was
//!    given up here.
//! 4. Refused credentials are accepted ones no longer, and whatever failed before counts then too.
//! 5. What a shared store tells of other processes ([`Ledger::learn_counted`] and its neighbours) weighs as much as
//!    what happened here. A refusal that was learned stands until it is over, though the store may lose it; only a
//!    token that was issued later shows that the credentials are good again.
//!
//! What weakens it: without a store processes do not know of each other, and a ledger does not outlive its process.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Moment;
use crate::token::digest::Digest;
use crate::token::{GrantError, Refusal, TokenError, Trouble};

/// Fluent's own window, and the slack.
const WINDOW: Duration = Duration::from_secs(15 * 60 + 15);
/// One fewer than lock an account.
pub const MOST_IN_WINDOW: usize = 4;
/// The pause after the first trouble, before jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The shortest pause that jitter may leave: what failed a moment ago would fail again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause of credentials that are known to be good, or after trouble that costs no attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause where each attempt may bring the account nearer to its lockout.
const LONGEST_COUNTED_PAUSE: Duration = Duration::from_mins(5);
/// When to ask again while logins under way have taken all places.
const UNTIL_A_LOGIN_ENDS: Duration = Duration::from_secs(1);

/// The logins of one account.
#[derive(Debug)]
pub struct Ledger {
    /// When the latest counted logins of this process ended, oldest first; [`MOST_IN_WINDOW`] of them suffice.
    counted: VecDeque<Counted>,
    /// Those that a shared store knows of, this process's own among them.
    shared: Vec<Moment>,
    /// Logins that were permitted and have not ended.
    under_way: usize,
    /// What is known of credentials: as many as the settings name.
    standings: HashMap<Digest, Standing>,
    jitter: fastrand::Rng,
}

/// A counted login of this process.
#[derive(Clone, Copy, Debug)]
struct Counted {
    end: Moment,
    known: Known,
}

/// Who knows how a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// This process alone.
    Here,
    /// A shared store too.
    Shared,
}

/// What is known of some credentials.
#[derive(Debug, Default)]
struct Standing {
    /// Whether their last login that was judged was accepted.
    accepted: bool,
    /// Troubles in a row.
    troubles: u32,
    /// Why no login may be sent.
    hold: Option<Hold>,
}

/// Why no login may be sent, since when and until when.
#[derive(Clone, Copy, Debug)]
struct Hold {
    cause: Cause,
    since: Moment,
    until: Moment,
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Refusal(Refusal),
    Trouble(Trouble),
}

/// The right to send one login; it is handed back with the outcome.
#[derive(Debug)]
#[must_use = "a login under way takes a place until its outcome is recorded"]
pub struct Permit {
    credentials: Digest,
}

impl Ledger {
    /// An empty ledger, which draws its jitter from `jitter`.
    #[must_use]
    pub fn new(jitter: fastrand::Rng) -> Self {
        Self {
            counted: VecDeque::with_capacity(MOST_IN_WINDOW),
            shared: Vec::new(),
            under_way: 0,
            standings: HashMap::new(),
            jitter,
        }
    }

    /// Whether a login with `credentials` may be sent now.
    ///
    /// # Errors
    /// The stored failure, with the time left until it may.
    pub fn check(&self, now: Moment, credentials: &Digest) -> Result<(), TokenError> {
        let standing = self.standings.get(credentials);
        let hold = standing.and_then(|s| s.hold).filter(|hold| hold.until > now);
        let window = match standing {
            Some(Standing { accepted: true, .. }) => None,
            Some(Standing { accepted: false, .. }) | None => self.window_opens(now),
        };
        let (cause, until) = match (hold, window) {
            (None, None) => return Ok(()),
            (None, Some(opens)) => (Cause::Trouble(Trouble::HeldBack), opens),
            (Some(Hold { cause, until, .. }), opens) => {
                (cause, opens.map_or(until, |opens| opens.max(until)))
            }
        };
        Err(cause.error(until.since(now)))
    }

    /// Takes a place for a login that is sent now.
    ///
    /// # Errors
    /// As [`Ledger::check`].
    pub fn permit(&mut self, now: Moment, credentials: Digest) -> Result<Permit, TokenError> {
        self.check(now, &credentials)?;
        self.under_way += 1;
        Ok(Permit { credentials })
    }

    /// Records that a token came.
    pub fn accept(&mut self, Permit { credentials }: Permit) {
        self.under_way = self.under_way.saturating_sub(1);
        self.standings.insert(credentials, Standing::accepted());
    }

    /// Records that none came, and returns the failure to keep meanwhile. `cool_down` follows a refusal.
    pub fn fail(
        &mut self,
        Permit { credentials }: Permit,
        now: Moment,
        error: &GrantError,
        cool_down: Duration,
        known: Known,
    ) -> TokenError {
        self.under_way = self.under_way.saturating_sub(1);
        if error.counts() {
            self.count(Counted { end: now, known });
        }
        let standing = self.standings.entry(credentials).or_default();
        let cause = match *error {
            GrantError::Refused(refusal) => {
                let cause = Cause::Refusal(refusal);
                *standing = Standing::held(cause, now, now + cool_down);
                cause
            }
            GrantError::Unavailable { trouble, retry_after } => {
                let cause = Cause::Trouble(trouble);
                let ceiling = standing.ceiling(error.counts());
                let pause = jittered(&mut self.jitter, ceiling).max(retry_after.unwrap_or_default());
                standing.troubles = standing.troubles.saturating_add(1);
                // Another login with these credentials may have been refused meanwhile.
                if !standing.is_refused(now) {
                    standing.hold = Some(Hold {
                        cause,
                        since: now,
                        until: now + pause,
                    });
                }
                cause
            }
        };
        match self.check(now, &credentials) {
            Err(kept) => kept,
            Ok(()) => cause.error(Duration::ZERO),
        }
    }

    /// Lets refused credentials be tried once more, as far as the window allows. Says whether a refusal held
    /// them.
    pub fn clear_refusal(&mut self, now: Moment, credentials: &Digest) -> bool {
        match self.standings.get_mut(credentials) {
            Some(standing) if standing.is_refused(now) => {
                standing.hold = None;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes in when the counted logins ended that a shared store knows of.
    pub fn learn_counted(&mut self, shared: Vec<Moment>) {
        self.shared = shared;
    }

    /// Takes in that a login of another process was refused. Says whether that is news.
    pub fn learn_refusal(
        &mut self,
        now: Moment,
        credentials: Digest,
        refusal: Refusal,
        until: Moment,
    ) -> bool {
        let standing = self.standings.entry(credentials).or_default();
        let news = !standing.is_refused(now);
        if news {
            *standing = Standing::held(Cause::Refusal(refusal), now, until);
        }
        news
    }

    /// Takes in that a login of another process was accepted at `issued_at`.
    pub fn learn_token(&mut self, credentials: Digest, issued_at: Moment) {
        let standing = self.standings.entry(credentials).or_default();
        if standing.hold.is_none_or(|hold| hold.since < issued_at) {
            *standing = Standing::accepted();
        }
    }

    fn count(&mut self, counted: Counted) {
        if self.counted.len() == MOST_IN_WINDOW {
            self.counted.pop_front();
        }
        self.counted.push_back(counted);
        // Until the store is read again.
        if counted.known == Known::Shared {
            self.shared.push(counted.end);
        }
    }

    /// When credentials that were never accepted may be tried, unless that is now. The store may have lost what
    /// happened here, and does not know what ended while it was away.
    fn window_opens(&self, now: Moment) -> Option<Moment> {
        let own = self.counted.iter().map(|counted| counted.end);
        let untold = self.counted.iter().filter(|counted| counted.known == Known::Here);
        let all = self
            .shared
            .iter()
            .copied()
            .chain(untold.map(|counted| counted.end));
        let own = self.opens(now, own);
        own.max(self.opens(now, all))
    }

    /// When the window opens, if the logins that counted ended at `ends`.
    fn opens(&self, now: Moment, ends: impl Iterator<Item = Moment>) -> Option<Moment> {
        let mut leaving: Vec<_> = ends
            .map(|end| end + WINDOW)
            .filter(|leaves| *leaves > now)
            .collect();
        let surplus = (leaving.len() + self.under_way).checked_sub(MOST_IN_WINDOW)?;
        leaving.sort_unstable();
        Some(leaving.get(surplus).copied().unwrap_or(now + UNTIL_A_LOGIN_ENDS))
    }
}

impl Standing {
    fn accepted() -> Self {
        Self {
            accepted: true,
            ..Self::default()
        }
    }

    fn held(cause: Cause, since: Moment, until: Moment) -> Self {
        Self {
            hold: Some(Hold { cause, since, until }),
            ..Self::default()
        }
    }

    fn is_refused(&self, now: Moment) -> bool {
        matches!(self.hold, Some(Hold { cause: Cause::Refusal(_), until, .. }) if until > now)
    }

    /// The longest pause after the next trouble. Attempts that count are spread much sooner: four of them
    /// have to last for a quarter of an hour.
    fn ceiling(&self, counts: bool) -> Duration {
        let (factor, cap) = if counts && !self.accepted {
            (8_u32, LONGEST_COUNTED_PAUSE)
        } else {
            (2, LONGEST_PAUSE)
        };
        FIRST_PAUSE
            .saturating_mul(factor.saturating_pow(self.troubles))
            .min(cap)
    }
}

impl Cause {
    fn error(self, retry_after: Duration) -> TokenError {
        match self {
            Self::Refusal(refusal) => TokenError::Refused { refusal, retry_after },
            Self::Trouble(trouble) => TokenError::Unavailable { trouble, retry_after },
        }
    }
}

/// Any pause up to `ceiling`, all alike likely.
fn jittered(jitter: &mut fastrand::Rng, ceiling: Duration) -> Duration {
    ceiling.mul_f64(jitter.f64()).max(SHORTEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;
    use crate::token::OAuthError;
    use crate::token::grant::Login;

    const COOL_DOWN: Duration = Duration::from_mins(16);
    const REFUSED: GrantError = GrantError::Refused(Refusal {
        status: StatusCode::BAD_REQUEST,
        error: OAuthError::InvalidGrant,
    });

    fn credentials(password: &str) -> Digest {
        Login::example("ann", password).credentials()
    }

    fn ledger() -> (Ledger, Moment) {
        (Ledger::new(fastrand::Rng::with_seed(7)), Clock::system().now())
    }

    fn trouble(trouble: Trouble) -> GrantError {
        trouble.into()
    }

    /// One login at `now` that fails.
    fn fail(ledger: &mut Ledger, now: Moment, credentials: Digest, error: GrantError) -> TokenError {
        let permit = ledger.permit(now, credentials).unwrap();
        ledger.fail(permit, now, &error, COOL_DOWN, Known::Here)
    }

    #[test]
    fn refused_credentials_are_left_alone_until_their_cool_down_is_over() {
        let (mut ledger, now) = ledger();
        let (wrong, right) = (credentials("wrong"), credentials("right"));
        let kept = fail(&mut ledger, now, wrong, REFUSED);
        assert!(matches!(kept, TokenError::Refused { retry_after, .. } if retry_after == COOL_DOWN));
        let later = now + Duration::from_mins(15);
        let kept = ledger.check(later, &wrong).unwrap_err();
        assert!(
            matches!(kept, TokenError::Refused { retry_after, .. } if retry_after == Duration::from_mins(1))
        );
        ledger.check(later, &right).unwrap();
        ledger.check(now + COOL_DOWN, &wrong).unwrap();
    }

    #[test]
    fn an_operator_may_clear_a_refusal_but_not_a_pause() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        fail(&mut ledger, now, credentials, REFUSED);
        assert!(ledger.clear_refusal(now, &credentials));
        fail(&mut ledger, now, credentials, trouble(Trouble::Unreachable));
        assert!(!ledger.clear_refusal(now, &credentials));
        assert!(ledger.check(now, &credentials).is_err());
    }

    #[test]
    fn a_refusal_elsewhere_is_news_once_and_holds_until_it_is_over() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        let GrantError::Refused(refusal) = REFUSED else {
            unreachable!()
        };
        let until = now + COOL_DOWN;
        assert!(ledger.learn_refusal(now, credentials, refusal, until));
        assert!(!ledger.learn_refusal(now, credentials, refusal, until + COOL_DOWN));
        let kept = ledger.check(now, &credentials).unwrap_err();
        assert!(matches!(kept, TokenError::Refused { retry_after, .. } if retry_after == COOL_DOWN));
        ledger.check(until, &credentials).unwrap();
        assert!(ledger.learn_refusal(until, credentials, refusal, until + COOL_DOWN));
        assert!(ledger.check(until, &credentials).is_err());
    }

    #[test]
    fn counted_logins_elsewhere_take_places_until_the_store_tells_otherwise() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        ledger.learn_counted(vec![now; MOST_IN_WINDOW]);
        assert_eq!(ledger.check(now, &credentials).unwrap_err().retry_after(), WINDOW);
        ledger.learn_counted(vec![now; MOST_IN_WINDOW - 1]);
        ledger.check(now, &credentials).unwrap();
    }

    #[test]
    fn what_ended_here_counts_beside_what_a_store_knows_and_nothing_counts_twice() {
        for (known, places_left) in [(Known::Here, false), (Known::Shared, true)] {
            let (mut ledger, now) = ledger();
            for password in ["wrong", "wrong too"] {
                let permit = ledger.permit(now, credentials(password)).unwrap();
                let _ = ledger.fail(permit, now, &REFUSED, COOL_DOWN, known);
            }
            ledger.learn_counted(vec![now; 2]);
            assert_eq!(ledger.check(now, &credentials("right")).is_ok(), places_left);
        }
    }

    #[test]
    fn a_token_elsewhere_shows_that_credentials_are_good_where_it_is_newer_than_what_holds_them() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        let second = Duration::from_secs(1);
        fail(&mut ledger, now + second, credentials, REFUSED);
        for issued_at in [now, now + second] {
            ledger.learn_token(credentials, issued_at);
            assert!(ledger.check(now + second, &credentials).is_err());
        }
        ledger.learn_token(credentials, now + 2 * second);
        ledger.check(now + 2 * second, &credentials).unwrap();
        // Accepted credentials are not held by the window.
        ledger.learn_counted(vec![now; MOST_IN_WINDOW]);
        ledger.check(now + 2 * second, &credentials).unwrap();
    }

    #[test]
    fn clearing_refusals_does_not_open_the_window() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        for _ in 0..MOST_IN_WINDOW {
            fail(&mut ledger, now, credentials, REFUSED);
            ledger.clear_refusal(now, &credentials);
        }
        let held = ledger.check(now, &credentials).unwrap_err();
        assert!(matches!(
            held,
            TokenError::Unavailable {
                trouble: Trouble::HeldBack,
                ..
            }
        ));
        let window = Duration::from_mins(15) + Duration::from_secs(15);
        assert_eq!(held.retry_after(), window);
        ledger.check(now + window, &credentials).unwrap();
    }

    #[test]
    fn a_changed_password_waits_for_the_window_that_the_old_one_filled() {
        let (mut ledger, now) = ledger();
        let (old, new) = (credentials("old"), credentials("new"));
        for _ in 0..MOST_IN_WINDOW {
            ledger.check(now, &new).unwrap();
            fail(&mut ledger, now, old, REFUSED);
            ledger.clear_refusal(now, &old);
        }
        assert!(!ledger.clear_refusal(now, &new));
        assert_eq!(ledger.check(now, &new).unwrap_err().retry_after(), WINDOW);
        ledger.check(now + WINDOW, &new).unwrap();
    }

    #[test]
    fn pauses_double_up_to_half_a_minute_and_are_jittered_in_full() {
        for (accepted, error) in [
            (true, Trouble::TimedOut),
            (true, Trouble::Unreachable),
            (false, Trouble::Unreachable),
        ] {
            let (mut ledger, mut now) = ledger();
            let credentials = credentials("pw");
            if accepted {
                let permit = ledger.permit(now, credentials).unwrap();
                ledger.accept(permit);
            }
            let mut pauses = Vec::new();
            for attempt in 0..200 {
                let pause = fail(&mut ledger, now, credentials, trouble(error)).retry_after();
                let ceiling = Duration::from_secs(2_u64.saturating_pow(attempt)).min(LONGEST_PAUSE);
                assert!(pause <= ceiling, "{pause:?} after {attempt} troubles");
                assert!(pause >= SHORTEST_PAUSE, "{pause:?} is none");
                pauses.push(pause);
                now = now + LONGEST_PAUSE;
            }
            assert!(pauses.iter().any(|pause| *pause > Duration::from_secs(28)));
            assert!(pauses[10..].iter().any(|pause| *pause < Duration::from_secs(2)));
        }
    }

    #[test]
    fn counted_failures_of_unknown_credentials_pause_up_to_five_minutes() {
        let (mut ledger, mut now) = ledger();
        let credentials = credentials("unknown");
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            fail(&mut ledger, now, credentials, trouble(Trouble::TimedOut));
            let hold = ledger.standings[&credentials].hold.unwrap();
            longest = longest.max(hold.until.since(now));
            now = now + WINDOW;
        }
        assert!((280..=300).contains(&longest.as_secs()), "{longest:?}");
    }

    #[test]
    fn retry_after_makes_a_pause_longer_but_never_shorter() {
        let (mut ledger, now) = ledger();
        let asked = Duration::from_mins(20);
        let error = GrantError::Unavailable {
            trouble: Trouble::Status(StatusCode::SERVICE_UNAVAILABLE),
            retry_after: Some(asked),
        };
        assert_eq!(
            fail(&mut ledger, now, credentials("pw"), error).retry_after(),
            asked
        );
    }

    #[test]
    fn success_ends_the_growth_of_pauses() {
        let (mut ledger, mut now) = ledger();
        let credentials = credentials("pw");
        for _ in 0..20 {
            fail(&mut ledger, now, credentials, trouble(Trouble::Unreachable));
            now = now + LONGEST_PAUSE;
        }
        let permit = ledger.permit(now, credentials).unwrap();
        ledger.accept(permit);
        let pause = fail(&mut ledger, now, credentials, trouble(Trouble::TimedOut)).retry_after();
        assert!(pause <= FIRST_PAUSE, "{pause:?}");
    }

    #[test]
    fn trouble_does_not_hide_a_refusal_that_came_first() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        let [one, other] = [(); 2].map(|()| ledger.permit(now, credentials).unwrap());
        ledger.fail(one, now, &REFUSED, COOL_DOWN, Known::Here);
        let kept = ledger.fail(other, now, &trouble(Trouble::Unreachable), COOL_DOWN, Known::Here);
        assert!(matches!(kept, TokenError::Refused { retry_after, .. } if retry_after == COOL_DOWN));
    }

    #[test]
    fn logins_under_way_take_their_places_beforehand() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        let mut permits: Vec<_> = (0..MOST_IN_WINDOW)
            .map(|_| ledger.permit(now, credentials).unwrap())
            .collect();
        assert_eq!(
            ledger.check(now, &credentials).unwrap_err().retry_after(),
            UNTIL_A_LOGIN_ENDS
        );
        ledger.accept(permits.pop().unwrap());
        let _permit = ledger.permit(now, credentials).unwrap();
    }

    #[test]
    fn refused_credentials_are_accepted_ones_no_longer() {
        let (mut ledger, now) = ledger();
        let credentials = credentials("pw");
        let permit = ledger.permit(now, credentials).unwrap();
        ledger.accept(permit);
        // The password was changed at Fluent, whose answers came too late three times and then in time.
        for _ in 0..3 {
            fail(&mut ledger, now, credentials, trouble(Trouble::TimedOut));
            ledger.standings.get_mut(&credentials).unwrap().hold = None;
        }
        fail(&mut ledger, now, credentials, REFUSED);
        ledger.clear_refusal(now, &credentials);
        assert!(ledger.check(now, &credentials).is_err());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Pass(u64),
        Start { password: u8 },
        End { login: usize, outcome: u8 },
        Clear { password: u8 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop_oneof![0_u64..2_000, 0_u64..400_000, Just(900_000)].prop_map(Step::Pass),
            4 => (0_u8..3).prop_map(|password| Step::Start { password }),
            4 => (any::<usize>(), 0_u8..8).prop_map(|(login, outcome)| Step::End { login, outcome }),
            1 => (0_u8..3).prop_map(|password| Step::Clear { password }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Rule 3: none of the passwords here is ever accepted.
        #[test]
        fn four_counted_logins_at_most_in_any_quarter_of_an_hour(
            seed in any::<u64>(),
            steps in prop::collection::vec(step(), 1..400),
        ) {
            let passwords = ["a", "b", "c"].map(credentials);
            let mut ledger = Ledger::new(fastrand::Rng::with_seed(seed));
            let mut now = Clock::system().now();
            let mut under_way = Vec::new();
            let mut ends: Vec<Moment> = Vec::new();
            for step in steps {
                match step {
                    Step::Pass(milliseconds) => now = now + Duration::from_millis(milliseconds),
                    Step::Start { password } => {
                        under_way.extend(ledger.permit(now, passwords[usize::from(password)]));
                    }
                    Step::Clear { password } => {
                        ledger.clear_refusal(now, &passwords[usize::from(password)]);
                    }
                    Step::End { login, outcome } => {
                        if under_way.is_empty() {
                            continue;
                        }
                        let permit = under_way.swap_remove(login % under_way.len());
                        let error = match outcome {
                            0..=2 => REFUSED,
                            3..=4 => trouble(Trouble::TimedOut),
                            5 => trouble(Trouble::Interrupted),
                            6 => trouble(Trouble::Unreachable),
                            _ => trouble(Trouble::Nonsense("no token")),
                        };
                        let kept = ledger.fail(permit, now, &error, Duration::from_secs(1), Known::Here);
                        prop_assert!(kept.retry_after() <= WINDOW);
                        if error.counts() {
                            ends.push(now);
                        }
                    }
                }
                prop_assert!(under_way.len() <= MOST_IN_WINDOW);
            }
            for first in &ends {
                let quarter = Duration::from_mins(15);
                let within = ends.iter().filter(|end| *end >= first && end.since(*first) <= quarter);
                prop_assert!(within.count() <= MOST_IN_WINDOW);
            }
        }
    }
}
