//! All rules at once: any sequence of callers who stay or leave, of 401s, of time that passes or is slept through,
//! of answers of any kind, in one process or in several that share a store.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::sharing::{Board, Shared};
use super::*;
use crate::token::store::Store;

#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Another token each time, of so many seconds.
    New(u64),
    /// The same token again and again, as long as it lives.
    Same(u64),
    Refuse,
    /// Trouble that costs no attempt.
    Away,
    /// Trouble that does.
    Cut,
    /// No answer until the login's timeout.
    Hang,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Sleep(u64),
    Mood(Mood),
    Ask(usize),
    Leave(usize),
    Reject(usize),
    Retry(usize),
    Store(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let mood = prop_oneof![
        4 => prop_oneof![Just(1_u64), 2_u64..100, Just(3600)].prop_map(Mood::New),
        2 => prop_oneof![Just(1_u64), 2_u64..100].prop_map(Mood::Same),
        2 => Just(Mood::Refuse),
        1 => Just(Mood::Away),
        2 => Just(Mood::Cut),
        1 => Just(Mood::Hang),
    ];
    let process = any::<usize>();
    prop_oneof![
        6 => prop_oneof![0_u64..500, 0_u64..20_000, Just(60_000_u64), Just(960_000)].prop_map(Step::Pass),
        1 => (0_u64..100_000).prop_map(Step::Sleep),
        3 => mood.prop_map(Step::Mood),
        8 => process.prop_map(Step::Ask),
        3 => process.prop_map(Step::Leave),
        4 => process.prop_map(Step::Reject),
        1 => process.prop_map(Step::Retry),
        1 => any::<bool>().prop_map(Step::Store),
    ]
}

/// A login that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Moment,
    ended: Option<(Moment, End)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Given,
    Refused,
    Trouble { counts: bool },
}

/// The token endpoint, and its record.
struct Judge {
    clock: Clock,
    mood: Mutex<Mood>,
    sent: Mutex<Vec<Sent>>,
    /// Each token by its text, and when it is surely dead.
    given: Mutex<BTreeMap<String, Moment>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Judge {
    fn answer(&self, mood: Mood, asked_at: Moment) -> (Outcome, End) {
        let now = self.clock.now();
        let mut given = self.given.lock().unwrap();
        let (text, seconds) = match mood {
            Mood::New(seconds) => (format!("N{}", given.len()), seconds),
            Mood::Same(seconds) => {
                let living = given
                    .iter()
                    .find(|(text, dies)| text.starts_with('S') && **dies > now);
                match living {
                    Some((text, dies)) => (text.clone(), dies.since(now).as_secs()),
                    None => (format!("S{}", given.len()), seconds),
                }
            }
            Mood::Refuse => return (Err(REFUSED), End::Refused),
            Mood::Away => return (Err(UNREACHABLE), End::Trouble { counts: false }),
            Mood::Cut => return (Err(Trouble::Interrupted.into()), End::Trouble { counts: true }),
            Mood::Hang => return (Err(Trouble::TimedOut.into()), End::Trouble { counts: true }),
        };
        let told = Duration::from_secs(seconds);
        let life = told.max(Duration::from_secs(1));
        let dies = given.entry(text.clone()).or_insert(asked_at);
        *dies = (*dies).max(now + life);
        (token(&text, seconds), End::Given)
    }
}

impl Grants for Judge {
    fn request<'a>(&'a self, _: &'a Login, timeout: Duration) -> BoxFuture<'a, Outcome> {
        let at = self.clock.now();
        let number = {
            let mut sent = self.sent.lock().unwrap();
            sent.push(Sent { at, ended: None });
            sent.len() - 1
        };
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        Box::pin(async move {
            let mood = *self.mood.lock().unwrap();
            let latency = if matches!(mood, Mood::Hang) {
                timeout
            } else {
                Duration::from_millis(20)
            };
            sleep(latency).await;
            let (outcome, end) = self.answer(mood, at);
            self.sent.lock().unwrap()[number].ended = Some((self.clock.now(), end));
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            outcome
        })
    }

    fn refresh<'a>(&'a self, _: &'a Login, _: &'a Secret, _: Duration) -> BoxFuture<'a, Outcome> {
        unreachable!("its answers carry no refresh token")
    }
}

/// Processes, and what has become of their callers.
struct World {
    judge: Arc<Judge>,
    board: Arc<Board>,
    processes: Vec<(TokenCache, Source)>,
    callers: JoinSet<Result<AccessToken, TokenError>>,
    hand: Hand,
    /// The store failed at least once, or the processes lost sight of the time.
    was_alone: AtomicBool,
    retries: Vec<Moment>,
}

impl World {
    fn new(processes: usize) -> Self {
        let (clock, hand) = Clock::manual();
        let judge = Arc::new(Judge {
            clock: clock.clone(),
            mood: Mutex::new(Mood::New(100)),
            sent: Mutex::default(),
            given: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        });
        let board = Board::new(&clock);
        let process = |_| {
            let grants: Arc<dyn Grants> = Arc::<Judge>::clone(&judge);
            let store: Arc<dyn Store> = Arc::new(Shared(Arc::clone(&board)));
            let means = Means {
                store: (processes > 1).then_some(store),
                ..means(grants, &clock)
            };
            let users = BTreeMap::from([(Name::default_name(), login("ann"))]);
            let cache = TokenCache::new([(Name::default_name(), users, POLICY)], means);
            let source = cache.source("default", "default").unwrap();
            (cache, source)
        };
        Self {
            processes: (0..processes).map(process).collect(),
            judge,
            board,
            callers: JoinSet::new(),
            hand,
            was_alone: AtomicBool::new(false),
            retries: Vec::new(),
        }
    }

    fn source(&self, process: usize) -> Source {
        self.processes[process % self.processes.len()].1.clone()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Pass(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
            Step::Sleep(milliseconds) => {
                // A machine that sleeps over a lease wakes up with a login that has lost it.
                self.was_alone
                    .fetch_or(self.processes.len() > 1, Ordering::SeqCst);
                self.hand.sleep_through(Duration::from_millis(milliseconds));
            }
            Step::Mood(mood) => *self.judge.mood.lock().unwrap() = mood,
            Step::Ask(process) => {
                let source = self.source(process);
                self.callers.spawn(async move { source.obtain().await });
            }
            Step::Leave(process) => {
                let source = self.source(process);
                let caller = tokio::spawn(async move { source.obtain().await });
                tokio::task::yield_now().await;
                caller.abort();
            }
            Step::Reject(process) => {
                let source = self.source(process);
                if let Some(token) = source.ready()
                    && let Rejection::Replacing(replacement) = source.reject(&token)
                {
                    self.callers.spawn(async move {
                        let replacement = replacement.await?;
                        match &replacement {
                            Replacement::New(new) => assert!(!new.same_text(&token)),
                            Replacement::Same => {}
                        }
                        Ok(token)
                    });
                }
            }
            Step::Retry(process) => {
                self.source(process).retry().await;
                self.retries.push(self.judge.clock.now());
            }
            Step::Store(away) => {
                self.was_alone.fetch_or(away, Ordering::SeqCst);
                self.board.go_away(away);
            }
        }
        self.nobody_serves_what_is_dead();
    }

    /// What is served was given, and the server has it still.
    fn nobody_serves_what_is_dead(&self) {
        let now = self.judge.clock.now();
        let given = self.judge.given.lock().unwrap();
        // The rest of a second that is granted, and what a store may be late by.
        let grace = Duration::from_millis(1_100);
        for (_, source) in &self.processes {
            if let Some(token) = source.ready() {
                let text = bearer(&token);
                let dies = given.get(text.trim_start_matches("Bearer ")).copied();
                assert!(dies.unwrap() + grace > now, "{text} is dead");
            }
        }
    }

    /// Everybody who stays is answered, whatever happened before.
    async fn end(mut self) {
        *self.judge.mood.lock().unwrap() = Mood::New(3600);
        self.board.go_away(false);
        let all = async {
            while self
                .callers
                .join_next()
                .await
                .is_some_and(|caller| caller.is_ok())
            {}
        };
        tokio::time::timeout(Duration::from_mins(2), all)
            .await
            .expect("somebody waits for ever");
        assert!(self.callers.is_empty(), "a caller's law was broken");
        sleep(POLICY.cool_down * 2).await;
        for (_, source) in &self.processes {
            source.obtain().await.expect("it recovers");
        }
        self.laws();
        for (cache, _) in &self.processes {
            cache.shutdown().await;
        }
    }

    fn laws(&self) {
        let sent = self.judge.sent.lock().unwrap();
        let ends: Vec<_> = sent.iter().filter_map(|sent| sent.ended).collect();
        assert_eq!(ends.len(), sent.len(), "every login has ended");
        if !self.was_alone.load(Ordering::SeqCst) {
            assert!(
                self.judge.most_under_way.load(Ordering::SeqCst) <= 1,
                "one login at a time"
            );
            for (refused, _) in ends.iter().filter(|(_, end)| *end == End::Refused) {
                let tried = |sent: &&Sent| sent.at > *refused && sent.at < *refused + POLICY.cool_down;
                let next = sent.iter().find(tried);
                let cleared = |at: Moment| {
                    self.retries
                        .iter()
                        .any(|retry| *retry >= *refused && *retry <= at)
                };
                assert!(
                    next.is_none_or(|next| cleared(next.at)),
                    "tried again while refused"
                );
            }
        }
        if self.processes.len() == 1 {
            for (failed, end) in &ends {
                let at_once = *failed + Duration::from_millis(100);
                let next = sent.iter().find(|sent| sent.at > *failed && sent.at < at_once);
                let trouble = matches!(end, End::Trouble { .. });
                assert!(!trouble || next.is_none(), "no pause after trouble");
            }
        }
        self.never_five_in_a_quarter_of_an_hour(&ends);
    }

    /// Rule 5's invariant: of logins before the first that was accepted, and for processes that were never alone.
    fn never_five_in_a_quarter_of_an_hour(&self, ends: &[(Moment, End)]) {
        let counted: Vec<Moment> = ends
            .iter()
            .take_while(|(_, end)| *end != End::Given)
            .filter(|(_, end)| matches!(end, End::Refused | End::Trouble { counts: true }))
            .map(|(at, _)| *at)
            .collect();
        let most = if self.was_alone.load(Ordering::SeqCst) {
            4 * self.processes.len()
        } else {
            4
        };
        for first in &counted {
            let quarter = Duration::from_mins(15);
            let within = counted
                .iter()
                .filter(|at| *at >= first && at.since(*first) <= quarter);
            assert!(within.count() <= most);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_in_any_order_of_events(
        processes in 1_usize..4,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(processes);
            for step in steps {
                world.take(step).await;
            }
            world.end().await;
        });
    }
}
