//! Rule 12: what several processes make of one store. Each process is a cache of its own.

use std::collections::HashMap;

use super::life::Spring;
use super::*;
use crate::clock::whole_seconds;
use crate::token::life::SECOND;
use crate::token::store::{Change, Entry, Lease, Reading, Shelf, StoreError, StoreTime};

/// A store in memory, on the clock of the test.
pub(super) struct Board {
    clock: Clock,
    origin: Moment,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    away: bool,
    entries: HashMap<Digest, Entry>,
    refusals: HashMap<(Digest, Digest), (Refusal, StoreTime)>,
    leases: HashMap<Digest, (String, StoreTime)>,
    counted: HashMap<Digest, Vec<StoreTime>>,
    leased: u64,
    /// When each operation came.
    asked: Vec<Moment>,
}

struct Place {
    board: Arc<Board>,
    login: Login,
}

impl Board {
    pub(super) fn new(clock: &Clock) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            origin: clock.now(),
            content: Mutex::default(),
        })
    }

    fn now(&self) -> StoreTime {
        StoreTime(1_000_000_000 + u64::try_from(self.clock.now().since(self.origin).as_millis()).unwrap())
    }

    /// For how many seconds the only lease still holds, rounded up.
    fn leased_for(&self) -> Option<u64> {
        let content = self.content.lock().unwrap();
        let left = |(_, until): &(String, StoreTime)| until.0.saturating_sub(self.now().0).div_ceil(1000);
        content.leases.values().next().map(left)
    }

    /// Lets every operation fail, or no longer.
    pub(super) fn go_away(&self, away: bool) {
        self.content.lock().unwrap().away = away;
    }

    /// When it was asked since it told the last time.
    fn asked(&self) -> Vec<Moment> {
        std::mem::take(&mut self.content.lock().unwrap().asked)
    }

    /// Loses all that it knows.
    pub(super) fn forget(&self) {
        *self.content.lock().unwrap() = Content::default();
    }

    fn with<T>(&self, work: impl FnOnce(&mut Content) -> T) -> Result<T, StoreError> {
        let mut content = self.content.lock().unwrap();
        content.asked.push(self.clock.now());
        if content.away {
            return Err(StoreError::Unreachable);
        }
        Ok(work(&mut content))
    }
}

pub(super) struct Shared(pub(super) Arc<Board>);

impl Store for Shared {
    fn shelf(&self, login: &Login) -> Arc<dyn Shelf> {
        Arc::new(Place {
            board: Arc::clone(&self.0),
            login: login.clone(),
        })
    }
}

impl Place {
    /// Answers after a moment, as a server does.
    fn answer<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut Content, &Self) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            sleep(Duration::from_millis(1)).await;
            self.board.with(|content| work(content, self))
        })
    }

    fn refusal(&self) -> (Digest, Digest) {
        (self.login.account(), self.login.credentials())
    }
}

impl Shelf for Place {
    fn read(&self) -> BoxFuture<'_, Result<Reading, StoreError>> {
        self.answer(|content, place| {
            let now = place.board.now();
            let refusal = content.refusals.get(&place.refusal()).copied();
            Reading {
                now,
                entry: content.entries.get(&place.login.key()).cloned(),
                refusal: refusal.filter(|(_, until)| *until > now),
                counted: content
                    .counted
                    .get(&place.login.account())
                    .cloned()
                    .unwrap_or_default(),
            }
        })
    }

    fn lease(&self, life: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        self.answer(move |content, place| {
            let (now, account) = (place.board.now(), place.login.account());
            if content
                .leases
                .get(&account)
                .is_some_and(|(_, until)| *until > now)
            {
                return None;
            }
            content.leased += 1;
            let by = content.leased.to_string();
            let until = StoreTime(now.0 + u64::try_from(life.as_millis()).unwrap());
            content.leases.insert(account, (by.clone(), until));
            Some(Lease(by))
        })
    }

    fn settle(&self, lease: Lease, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.answer(move |content, place| {
            let (now, account) = (place.board.now(), place.login.account());
            let held = content
                .leases
                .get(&account)
                .is_some_and(|(by, until)| *by == lease.0 && *until > now);
            if held {
                content.leases.remove(&account);
                if let Some(entry) = change.entry {
                    content.entries.insert(place.login.key(), entry);
                    content.refusals.remove(&place.refusal());
                }
            }
            if let Some((refusal, cool_down)) = change.refusal {
                let until = StoreTime(now.0 + u64::try_from(cool_down.as_millis()).unwrap());
                content.refusals.insert(place.refusal(), (refusal, until));
            }
            if change.counted {
                content.counted.entry(account).or_default().push(now);
            }
            held
        })
    }

    fn clear_refusal(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.answer(|content, place| {
            content.refusals.remove(&place.refusal());
        })
    }
}

/// Processes of one fleet, each with a cache and the source of its default user.
pub(super) struct Fleet {
    pub(super) board: Arc<Board>,
    pub(super) processes: Vec<(TokenCache, Source)>,
}

impl Fleet {
    fn of(number: usize, grants: &Arc<dyn Grants>, policy: Policy, clock: &Clock) -> Self {
        let board = Board::new(clock);
        let processes = (0..number).map(|_| Self::process(&board, grants, policy, clock));
        Self {
            processes: processes.collect(),
            board,
        }
    }

    fn process(
        board: &Arc<Board>,
        grants: &Arc<dyn Grants>,
        policy: Policy,
        clock: &Clock,
    ) -> (TokenCache, Source) {
        let users = BTreeMap::from([(Name::default_name(), login("ann"))]);
        let store: Arc<dyn Store> = Arc::new(Shared(Arc::clone(board)));
        let means = Means {
            store: Some(store),
            ..means(Arc::clone(grants), clock)
        };
        let cache = TokenCache::new([(Name::default_name(), users, policy)], means);
        let source = cache.source("default", "default").unwrap();
        (cache, source)
    }

    fn start(number: usize, endpoint: &Arc<Endpoint>) -> Self {
        let (clock, _) = Clock::manual();
        let grants: Arc<dyn Grants> = Arc::<Endpoint>::clone(endpoint);
        Self::of(number, &grants, POLICY, &clock)
    }

    /// What all processes get that ask at once.
    async fn obtain(&self) -> Vec<Result<AccessToken, TokenError>> {
        let mut asking = JoinSet::new();
        for (_, source) in &self.processes {
            let source = source.clone();
            asking.spawn(async move { source.obtain().await });
        }
        asking.join_all().await
    }

    /// Lets another process share a token of an hour.
    async fn share(&self, text: &str, issued_at: StoreTime) {
        let place = Shared(Arc::clone(&self.board)).shelf(&login("ann"));
        let lease = place.lease(POLICY.timeout).await.unwrap().unwrap();
        let entry = Entry {
            token: Secret::new(text.to_owned()),
            refresh_token: None,
            issued_at,
            expires_at: issued_at.plus(HOUR),
            gone_at: issued_at.plus(HOUR + SECOND),
        };
        assert!(place.settle(lease, Change::granted(entry)).await.unwrap());
    }

    async fn assert_all_have(&self, text: &str) {
        for token in self.obtain().await {
            assert_eq!(bearer(&token.unwrap()), text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_who_may_not_log_in_looks_every_five_seconds() {
    let endpoint = Endpoint::open(|_| Err(REFUSED));
    let fleet = Fleet::start(1, &endpoint);
    let [(cache, _)] = &fleet.processes[..] else {
        panic!("it is one")
    };
    cache.keep_default();
    sleep(Duration::from_secs(1)).await;
    fleet.board.asked();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(fleet.board.asked().len(), 60 / 5);
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_12_while_a_refusal_holds_callers_cost_one_look_a_second() {
    let endpoint = Endpoint::open(|_| Err(REFUSED));
    let fleet = Fleet::start(1, &endpoint);
    fleet.obtain().await;
    fleet.board.asked();
    for _ in 0..100 {
        fleet.obtain().await;
        advance(Duration::from_millis(100)).await;
    }
    let looks = fleet.board.asked().len();
    assert!((9..=10).contains(&looks), "{looks} looks in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn rule_12_twenty_processes_on_an_empty_store_cost_one_login() {
    let endpoint = Endpoint::new_each_time();
    let fleet = Fleet::start(20, &endpoint);
    fleet.assert_all_have("Bearer T1").await;
    assert_eq!(endpoint.asked(), 1);
    let by: Vec<_> = fleet
        .processes
        .iter()
        .filter_map(|(cache, _)| status(cache).obtained_by)
        .collect();
    assert_eq!(by.iter().filter(|by| **by == "password").count(), 1);
    assert_eq!(by.iter().filter(|by| **by == "shared").count(), 19);
    let expiries: std::collections::BTreeSet<_> = fleet
        .processes
        .iter()
        .map(|(cache, _)| status(cache).expires_in_seconds)
        .collect();
    assert_eq!(expiries.len(), 1, "all mean the same moment: {expiries:?}");
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_refusal_is_everybodys() {
    let endpoint = Endpoint::open(|n| if n <= 2 { Err(REFUSED) } else { token("T", 3600) });
    let fleet = Fleet::start(20, &endpoint);
    for round in 0..50 {
        for outcome in fleet.obtain().await {
            assert!(matches!(outcome, Err(TokenError::Refused { .. })), "{round}");
        }
        for (cache, _) in &fleet.processes {
            let status = status(cache);
            assert_eq!(status.login, LoginState::Refused, "{round}");
            assert!(status.next_attempt_in_seconds.unwrap() > 15 * 60 - 60);
            assert!(status.last_error.unwrap().contains("refused"));
        }
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(endpoint.asked(), 1);
    advance(POLICY.cool_down).await;
    for outcome in fleet.obtain().await {
        assert!(matches!(outcome, Err(TokenError::Refused { .. })));
    }
    assert_eq!(endpoint.asked(), 2, "and so is the next");
}

#[tokio::test(start_paused = true)]
async fn rule_12_what_an_operator_clears_in_one_process_serves_all_once_it_works() {
    let endpoint = Endpoint::open(|n| if n == 1 { Err(REFUSED) } else { token("T", 3600) });
    let fleet = Fleet::start(5, &endpoint);
    fleet.obtain().await;
    let (_, last) = fleet.processes.last().unwrap();
    assert!(last.retry().await);
    last.obtain().await.unwrap();
    advance(Duration::from_secs(2)).await;
    fleet.assert_all_have("Bearer T").await;
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_12_names_that_share_a_login_cost_one_look_to_clear_its_refusal() {
    let endpoint = Endpoint::open(|_| Err(REFUSED));
    let (clock, _) = Clock::manual();
    let board = Board::new(&clock);
    let means = Means {
        store: Some(Arc::new(Shared(Arc::clone(&board)))),
        ..means(Arc::<Endpoint>::clone(&endpoint), &clock)
    };
    let names = ["default", "reader", "writer"];
    let users = names.map(|name| (name.parse().unwrap(), login("ann")));
    let cache = TokenCache::new([(Name::default_name(), users.into(), POLICY)], means);
    let refused = cache.source("default", "default").unwrap().obtain().await;
    assert!(matches!(refused, Err(TokenError::Refused { .. })));
    board.asked();
    assert_eq!(cache.retry().await, 1);
    assert_eq!(board.asked().len(), 2, "one look, one change");
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_store_that_lost_a_refusal_is_no_reason_to_try_again() {
    let endpoint = Endpoint::open(|_| Err(REFUSED));
    let fleet = Fleet::start(5, &endpoint);
    fleet.obtain().await;
    fleet.board.forget();
    for _ in 0..60 {
        advance(Duration::from_secs(10)).await;
        fleet.obtain().await;
    }
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_401_in_every_process_costs_one_login() {
    let endpoint = Endpoint::new_each_time();
    let fleet = Fleet::start(20, &endpoint);
    fleet.assert_all_have("Bearer T1").await;
    let mut rejected = JoinSet::new();
    for (_, source) in &fleet.processes {
        let token = source.ready().unwrap();
        rejected.spawn(replaced(source.reject(&token)));
    }
    for replacement in rejected.join_all().await {
        assert!(matches!(replacement.unwrap(), Replacement::New(token) if bearer(&token) == "Bearer T2"));
    }
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_fleet_costs_two_token_requests_a_lifetime_where_the_same_token_comes_again() {
    for life in [2, 60, 3600] {
        let (clock, _) = Clock::manual();
        let spring = Arc::new(Spring::new(&clock, Duration::from_secs(life)));
        let grants: Arc<dyn Grants> = Arc::<Spring>::clone(&spring);
        let fleet = Fleet::of(8, &grants, POLICY, &clock);
        for (cache, _) in &fleet.processes {
            cache.keep_default();
        }
        sleep(Duration::from_secs(life * 50)).await;
        let (issued, asked) = spring.counts();
        assert!(issued >= 30, "{issued} tokens of {life} s");
        assert!(
            asked <= issued * 2 + 2,
            "{asked} logins for {issued} tokens of {life} s"
        );
        for (cache, _) in &fleet.processes {
            cache.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_who_holds_the_lease_and_dies_holds_nobody_up_for_longer_than_the_lease() {
    let endpoint = Endpoint::new_each_time();
    let fleet = Fleet::start(8, &endpoint);
    let dead = Shared(Arc::clone(&fleet.board)).shelf(&login("ann"));
    let lease = dead.lease(POLICY.timeout + Duration::from_secs(2)).await.unwrap();
    assert!(lease.is_some());
    let begun = tokio::time::Instant::now();
    fleet.assert_all_have("Bearer T1").await;
    let waited = whole_seconds(begun.elapsed());
    assert!((12..=14).contains(&waited), "{waited} s");
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_12_who_waits_for_a_lease_pauses_ever_longer_between_looks() {
    let endpoint = Endpoint::new_each_time();
    let fleet = Fleet::start(1, &endpoint);
    let other = Shared(Arc::clone(&fleet.board)).shelf(&login("ann"));
    let _lease = other.lease(Duration::from_secs(10)).await.unwrap().unwrap();
    fleet.board.asked();
    fleet.assert_all_have("Bearer T1").await;
    let asked = fleet.board.asked();
    let between = asked.windows(2).map(|two| two[1].since(two[0]));
    let (reads, rounding) = (Duration::from_millis(2), Duration::from_millis(2));
    let pauses: Vec<_> = between.filter(|between| *between > reads).collect();
    assert!(pauses.len() > 30, "{pauses:?}");
    let mut longest = Duration::from_millis(20);
    for pause in &pauses {
        let bounds = longest / 2..=longest + rounding;
        assert!(bounds.contains(pause), "{pauses:?}");
        longest = (longest * 2).min(Duration::from_millis(250));
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_lease_that_never_ends_is_told_in_time() {
    let endpoint = Endpoint::new_each_time();
    let fleet = Fleet::start(2, &endpoint);
    let other = Shared(Arc::clone(&fleet.board)).shelf(&login("ann"));
    let _lease = other.lease(HOUR).await.unwrap().unwrap();
    for outcome in fleet.obtain().await {
        let told = matches!(
            outcome,
            Err(TokenError::Unavailable {
                trouble: Trouble::Elsewhere,
                ..
            })
        );
        assert!(told);
    }
    assert_eq!(endpoint.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_late_writer_takes_the_newer_token_that_came_meanwhile() {
    let endpoint = Endpoint::closed(|n| token(&format!("T{n}"), 3600));
    let fleet = Fleet::start(2, &endpoint);
    let [(_, slow), (_, fast)] = &fleet.processes[..] else {
        unreachable!()
    };
    let late = tokio::spawn({
        let slow = slow.clone();
        async move { slow.obtain().await }
    });
    while endpoint.asked() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // Its lease is over before its answer comes.
    sleep(POLICY.timeout + Duration::from_secs(3)).await;
    let newer = tokio::spawn({
        let fast = fast.clone();
        async move { fast.obtain().await }
    });
    while endpoint.asked() == 1 {
        sleep(Duration::from_millis(1)).await;
    }
    // The first in the queue is the late one; the newer ends before it.
    endpoint.gate.add_permits(2);
    newer.await.unwrap().unwrap();
    late.await.unwrap().unwrap();
    let held = fast.ready().unwrap();
    let shelf = Shared(Arc::clone(&fleet.board)).shelf(&login("ann"));
    let entry = shelf.read().await.unwrap().entry.unwrap();
    assert!(AccessToken::new(&entry.token, 0).unwrap().same_text(&held));
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_store_that_is_away_costs_each_process_a_login_and_no_request() {
    let endpoint = Endpoint::open(|_| token("T", 3600));
    let fleet = Fleet::start(4, &endpoint);
    fleet.board.go_away(true);
    fleet.assert_all_have("Bearer T").await;
    assert_eq!(endpoint.asked(), 4);
    fleet.board.go_away(false);
    sleep(AGEING).await;
    fleet.assert_all_have("Bearer T").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(endpoint.asked(), 5, "one for all, once it is back");
}

#[tokio::test(start_paused = true)]
async fn rule_12_logins_that_failed_elsewhere_count_here() {
    let endpoint = Endpoint::open(|_| Err(Trouble::TimedOut.into()));
    let fleet = Fleet::start(10, &endpoint);
    for _ in 0..14 * 60 {
        fleet.obtain().await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(endpoint.asked() <= 4, "{} logins", endpoint.asked());
}

fn pair(text: &str, refresh_token: &str, expires_in: u64) -> Outcome {
    Ok(Answer {
        refresh_token: Some(Secret::new(refresh_token.to_owned())),
        ..token(text, expires_in)?
    })
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_shared_refresh_token_is_used_once_by_one_process() {
    let mut endpoint = Endpoint::open(|n| pair(&format!("T{n}"), &format!("R{n}"), 100));
    Arc::get_mut(&mut endpoint).unwrap().on_refresh = |n| pair(&format!("F{n}"), &format!("N{n}"), 100);
    let fleet = Fleet::start(8, &endpoint);
    fleet.assert_all_have("Bearer T1").await;
    for lifetime in 1..=5 {
        advance(Duration::from_secs(101)).await;
        fleet.assert_all_have(&format!("Bearer F{lifetime}")).await;
    }
    let refreshed = endpoint.refreshed.lock().unwrap().clone();
    assert_eq!(refreshed, ["R1", "N1", "N2", "N3", "N4"]);
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_shared_refresh_token_whose_fate_is_unknown_is_used_by_nobody_else() {
    let mut endpoint = Endpoint::open(|n| pair(&format!("T{n}"), &format!("R{n}"), 100));
    Arc::get_mut(&mut endpoint).unwrap().on_refresh = |_| Err(Trouble::TimedOut.into());
    let fleet = Fleet::start(8, &endpoint);
    fleet.assert_all_have("Bearer T1").await;
    advance(Duration::from_secs(101)).await;
    fleet.obtain().await;
    sleep(Duration::from_secs(40)).await;
    fleet.assert_all_have("Bearer T2").await;
    assert_eq!(*endpoint.refreshed.lock().unwrap(), ["R1"]);
}

#[tokio::test(start_paused = true)]
async fn rule_12_without_the_store_no_process_uses_a_refresh_token_that_others_have() {
    let endpoint = Endpoint::open(|n| pair(&format!("T{n}"), "R", 100));
    let fleet = Fleet::start(8, &endpoint);
    fleet.assert_all_have("Bearer T1").await;
    fleet.board.go_away(true);
    advance(Duration::from_secs(101)).await;
    for token in fleet.obtain().await {
        token.unwrap();
    }
    assert_eq!(*endpoint.refreshed.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_lease_lasts_for_a_refresh_and_the_login_that_may_follow() {
    for stored in [true, false] {
        let endpoint = Endpoint::closed(|n| pair(&format!("T{n}"), "R", 100));
        let fleet = Fleet::start(1, &endpoint);
        let source = &fleet.processes[0].1;
        let ask = || {
            let source = source.clone();
            tokio::spawn(async move { source.obtain().await })
        };
        let sent = async |n| {
            while endpoint.asked() < n {
                sleep(Duration::from_millis(1)).await;
            }
        };
        fleet.board.go_away(!stored);
        let first = ask();
        sent(1).await;
        assert_eq!(fleet.board.leased_for(), stored.then_some(12));
        endpoint.gate.add_permits(1);
        first.await.unwrap().unwrap();
        fleet.board.go_away(false);
        advance(Duration::from_secs(101)).await;
        ask();
        sent(2).await;
        assert_eq!(fleet.board.leased_for(), Some(22), "stored: {stored}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_a_refresh_token_is_kept_until_it_was_sent_and_no_longer() {
    for stored in [true, false] {
        let mut endpoint = Endpoint::open(|n| match n {
            2 => Err(UNREACHABLE),
            _ => pair(&format!("T{n}"), "R", 3600),
        });
        Arc::get_mut(&mut endpoint).unwrap().on_refresh = |n| match n {
            1 => Err(UNREACHABLE),
            _ => Err(Trouble::TimedOut.into()),
        };
        let fleet = Fleet::start(1, &endpoint);
        let (_, source) = &fleet.processes[0];
        fleet.board.go_away(!stored);
        source.obtain().await.unwrap();
        fleet.board.go_away(false);
        // A renewal ahead, by the credentials, and two refreshes fail.
        sleep(AGEING).await;
        source.ready().unwrap();
        for _ in 0..2 {
            sleep(HOUR).await;
            source.obtain().await.unwrap_err();
        }
        sleep(HOUR).await;
        assert_eq!(bearer(&source.obtain().await.unwrap()), "Bearer T3");
        assert_eq!(
            *endpoint.refreshed.lock().unwrap(),
            ["R", "R"],
            "stored: {stored}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rule_12_another_token_is_better_if_it_is_newer_or_the_one_held_is_dead() {
    for (held, newer_by, better) in [
        ("ageing", 0, false),
        ("ageing", 1, true),
        ("rejected", 0, false),
        ("rejected", 1, true),
        ("dead", 0, true),
    ] {
        let endpoint = Endpoint::open(|n| token(&format!("T{n}"), 100));
        let fleet = Fleet::start(1, &endpoint);
        let (_, source) = &fleet.processes[0];
        fleet.board.go_away(true);
        let first = source.obtain().await.unwrap();
        let issued_at = fleet.board.now();
        fleet.board.go_away(false);
        fleet.share("S", StoreTime(issued_at.0 + newer_by)).await;
        match held {
            "ageing" => {
                sleep(Duration::from_secs(80)).await;
                source.ready().unwrap();
                sleep(SECOND).await;
            }
            "rejected" => drop(replaced(source.reject(&first)).await.unwrap()),
            _ => {
                sleep(Duration::from_secs(100)).await;
                source.obtain().await.unwrap();
            }
        }
        let expected = if better { "Bearer S" } else { "Bearer T2" };
        assert_eq!(
            bearer(&source.ready().unwrap()),
            expected,
            "{held}, {newer_by} ms"
        );
    }
}
