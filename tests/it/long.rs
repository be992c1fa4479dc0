//! Long runs: mixed traffic through the real program while everything around it fails in turn.
//!
//! 1. A round is: trouble, in which Fluent and Redis fail in every way that the simulated Fluent knows; calm, in which
//!    a secret is rolled and Redis starts again empty; quiet, in which the processes are weighed.
//! 2. No answer is wrong, see [`traffic`]; no mutation is lost in silence or done twice, see [`ledger`].
//! 3. What a process holds when nobody calls is the same at the end as after the first minutes.
//!
//! `LONG_RUN_MINUTES` says how long (10). `FLUENT_AUTH_PROXY_BIN` names another program than the one built here.

mod ledger;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use fluent_sandbox::{Config, Fault, Injection, Place, Sandbox, Times, When};
use http::Version;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fleet::{swap, with_redis};
use super::metrics::Scrape;
use super::support::{PASSWORD, Process, RedisServer, USERNAME, fluent, sandbox, soon};
use traffic::{Caller, Calls, Phase, println_now};

const TOKEN_LIFETIME: Duration = Duration::from_secs(20);
const TROUBLE: Duration = Duration::from_secs(25);
/// The longest back-off of a login, and then some.
const RECOVERY: Duration = Duration::from_mins(1);
/// The time in which the budget of logins that 401s may cause is full again.
const REFILL: Duration = Duration::from_secs(30);
/// Of logins that were sent and got no 200, so many are provoked within this time. Four would hold new credentials
/// back; a restart of Fluent in the middle of a login is one that nobody provokes.
const FAILED_LOGINS: (usize, Duration) = (2, Duration::from_mins(16));
const MUTATIONS: usize = 100_000;

/// What is attacked: a simulated Fluent, two processes before it that share a Redis, and the file of their password.
struct World {
    sandbox: Sandbox,
    redis: RedisServer,
    processes: [Process; 2],
    volume: tempfile::TempDir,
    version: u32,
    /// When logins failed in a way that counts.
    failed: Vec<Instant>,
    dice: fastrand::Rng,
}

/// What a process holds when nobody calls.
#[derive(Clone, Copy, Debug)]
struct Weight {
    kib: f64,
    descriptors: f64,
    tasks: f64,
}

impl World {
    async fn start(seed: u64) -> Self {
        let sandbox = sandbox(Config {
            token_lifetime: TOKEN_LIFETIME,
            record_limit: 1_000,
            record_body_limit: 0,
            ..fluent()
        })
        .await;
        let redis = RedisServer::start(&[]).await;
        let volume = tempfile::tempdir().unwrap();
        swap(volume.path(), "..0", PASSWORD);
        let file = volume.path().join("password");
        std::os::unix::fs::symlink("..data/password", &file).unwrap();
        let process = async |version: &str| {
            let mut command = with_redis(&sandbox.url(), redis.socket());
            command
                .env_remove("FLUENT_PASSWORD")
                .env("FLUENT_PASSWORD_FILE", &file);
            for setting in [
                "listen.paths=/graphql,/api/*",
                "fluent.token.timeout=3s",
                "upstream.connect_timeout=1s",
                "upstream.response_timeout=3s",
                "upstream.read_timeout=3s",
                "upstream.idle_timeout=2s",
                "upstream.max_age=30s",
                &format!("upstream.http_version={version}"),
            ] {
                command.args(["--set", setting]);
            }
            Process::start(command).await
        };
        Self {
            processes: [process("1.1").await, process("2").await],
            sandbox,
            redis,
            volume,
            version: 0,
            failed: Vec::new(),
            dice: fastrand::Rng::with_seed(seed),
        }
    }

    async fn orders(&self) -> Vec<(String, String)> {
        let query = "{ orders(first: 200) { edges { node { id ref } } } }";
        let answer = self.processes[0].client().graphql(query).await;
        answer.assert_good();
        let edges = answer.json()["data"]["orders"]["edges"]
            .as_array()
            .unwrap()
            .clone();
        let text = |edge: &serde_json::Value, key: &str| edge["node"][key].as_str().unwrap().to_owned();
        edges
            .iter()
            .map(|edge| (text(edge, "id"), text(edge, "ref")))
            .collect()
    }

    /// One thing that goes wrong, for a while.
    async fn misfortune(&mut self) {
        let short = Duration::from_millis(self.dice.u64(50..1_500));
        match self.dice.u8(..24) {
            0 => {
                self.sandbox.stop_listening().await;
                tokio::time::sleep(short).await;
                self.sandbox.listen_again().await.unwrap();
            }
            1 => self.redis.restart().await,
            2 => {
                self.redis.signal(Signal::STOP);
                tokio::time::sleep(short).await;
                self.redis.signal(Signal::CONT);
            }
            3..=6 => {
                let fault = self.token_fault();
                self.sandbox.faults().inject(Place::Token, Times::Once, fault);
                self.sandbox.revoke_access_tokens();
            }
            _ => {
                let injection = self.api_fault();
                self.sandbox.faults().add(injection);
            }
        }
    }

    /// A fault of the token endpoint. After few of those that may bring an account nearer to its lockout none more
    /// come for a while: a password that is rolled then would wait for its first login, as it must.
    fn token_fault(&mut self) -> Fault {
        let status = |code, retry_after: Option<&str>| Fault::Status {
            code,
            retry_after: retry_after.map(str::to_owned),
            body: None,
        };
        let counted = [
            Fault::Hang,
            status(429, Some("2")),
            status(500, None),
            Fault::Reset,
            Fault::Close,
            Fault::Cut,
        ];
        let harmless = [
            Fault::Delay(Duration::from_millis(500)),
            status(502, None),
            status(503, Some("1")),
            status(504, None),
            Fault::Html,
            Fault::Empty,
            Fault::NoToken,
        ];
        let (most, window) = FAILED_LOGINS;
        self.failed.retain(|failed| failed.elapsed() < window);
        if self.failed.len() < most && self.dice.bool() {
            self.failed.push(Instant::now());
            self.dice.choice(counted).unwrap()
        } else {
            self.dice.choice(harmless).unwrap()
        }
    }

    /// A fault of the API. A server that answers 401 to what it has done, or 200 with nonsense, is none: nobody can
    /// tell it from one that is well.
    fn api_fault(&mut self) -> Injection {
        let status = |code| Fault::Status {
            code,
            retry_after: None,
            body: None,
        };
        let faults = [
            Fault::Delay(Duration::from_millis(200)),
            Fault::Hang,
            Fault::Unauthorized,
            Fault::RevokeTokens,
            Fault::Trickle(Duration::from_millis(2)),
            status(500),
            status(503),
            status(429),
            Fault::Reset,
            Fault::Reset,
            Fault::Close,
            Fault::Close,
            Fault::Cut,
        ];
        let fault = self.dice.choice(faults).unwrap();
        let when = if fault == Fault::Unauthorized {
            When::BeforeBody
        } else {
            let whens = [When::BeforeBody, When::AfterBody, When::AfterExecution];
            self.dice.choice(whens).unwrap()
        };
        let path = if matches!(fault, Fault::Trickle(_)) {
            // A byte at a time, of small answers only.
            "/graphql"
        } else {
            let paths = [
                "/graphql",
                "/graphql",
                "/api/v4.1/event/async",
                "/api/v4.1/download",
            ];
            self.dice.choice(paths).unwrap()
        };
        let times = Times::Count(self.dice.u64(1..6));
        Injection::new(Place::Api, fault)
            .when(when)
            .times(times)
            .path(path)
    }

    async fn trouble(&mut self, calls: &Calls, how_long: Duration) {
        calls.phase.send_replace(Phase::Trouble);
        let end = Instant::now() + how_long;
        while Instant::now() < end {
            self.misfortune().await;
            let pause = Duration::from_millis(self.dice.u64(20..600));
            tokio::time::sleep(pause).await;
        }
        self.sandbox.faults().clear();
    }

    /// Waits until both processes serve, again and again, and until a 401 may cost a login again.
    async fn recover(&self) {
        let recovered = async {
            for process in &self.processes {
                let mut row = 0;
                while row < 10 {
                    let status = process.client().graphql("{ me { id } }").await.status;
                    row = if status == 200 { row + 1 } else { 0 };
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        let recovered = tokio::time::timeout(RECOVERY, recovered).await;
        recovered.expect("it is well again soon after the trouble");
        tokio::time::sleep(REFILL).await;
    }

    /// Rolls the password, when no login is near, and starts Redis again; ends when the new password was used.
    async fn calm(&mut self, calls: &Calls) {
        calls.phase.send_replace(Phase::Calm);
        let issued = |sandbox: &Sandbox| sandbox.seen().counts().tokens_issued;
        let known = issued(&self.sandbox);
        soon(
            self.sandbox
                .seen()
                .wait_for(|counts| counts.tokens_issued > known),
        )
        .await;
        self.version += 1;
        let password = format!("{PASSWORD}{}", self.version);
        for process in &mut self.processes {
            process.drain();
        }
        swap(self.volume.path(), &format!("..{}", self.version), &password);
        for process in &mut self.processes {
            process
                .line_with("credentials have changed: the next login uses the new ones")
                .await;
        }
        self.sandbox.change_password(USERNAME, &password);
        self.redis.restart().await;
        let known = issued(&self.sandbox);
        soon(
            self.sandbox
                .seen()
                .wait_for(|counts| counts.tokens_issued > known),
        )
        .await;
        let last = self.sandbox.seen().token_requests().pop().unwrap();
        assert_eq!(last.parameter("password"), Some(password.as_str()));
        assert_eq!(self.sandbox.seen().counts().tokens_refused, 0);
    }

    /// Waits until nothing is under way any more, and weighs the processes.
    async fn weigh(&mut self, calls: &Calls) -> [Weight; 2] {
        calls.phase.send_replace(Phase::Quiet);
        let idle = async |process: &Process| {
            let scrape = Scrape::of_process(process).await;
            ["requests_in_flight", "connections"]
                .iter()
                .all(|gauge| scrape.value(gauge) < 1.0)
        };
        for process in &self.processes {
            soon(async {
                while !idle(process).await {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            })
            .await;
        }
        // The connections to Fluent's API are kept for a while, see `upstream.idle_timeout`.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let [first, second] = &mut self.processes;
        first.drain();
        second.drain();
        [weight(first).await, weight(second).await]
    }
}

async fn weight(process: &Process) -> Weight {
    let scrape = Scrape::of_process(process).await;
    Weight {
        kib: scrape.value("process_resident_memory_bytes") / 1024.0,
        descriptors: scrape.value("process_open_fds"),
        tasks: scrape.value("tokio_tasks"),
    }
}

/// The middle of what was weighed.
fn median(weights: &[Weight]) -> Weight {
    let of = |part: fn(&Weight) -> f64| {
        let mut values: Vec<f64> = weights.iter().map(part).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Weight {
        kib: of(|weight| weight.kib),
        descriptors: of(|weight| weight.descriptors),
        tasks: of(|weight| weight.tasks),
    }
}

/// Fails unless a process holds the same at the end as it held at first, but for what comes and goes.
fn assert_flat(process: usize, weights: &[Weight]) {
    let some = weights.len().div_ceil(4).min(5);
    let (first, last) = (median(&weights[..some]), median(&weights[weights.len() - some..]));
    println_now(&format!(
        "process {process}: at first {first:?}, at last {last:?}"
    ));
    assert!(
        last.descriptors <= first.descriptors + 2.0,
        "descriptors of process {process} grow"
    );
    assert!(last.tasks <= first.tasks + 2.0, "tasks of process {process} grow");
    assert!(
        last.kib <= first.kib * 1.1 + 1024.0,
        "memory of process {process} grows"
    );
}

fn minutes() -> Duration {
    let given = std::env::var("LONG_RUN_MINUTES").ok();
    Duration::from_mins(given.map_or(10, |minutes| {
        minutes.parse().expect("LONG_RUN_MINUTES is a number")
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes, or LONG_RUN_MINUTES"]
async fn it_answers_rightly_and_stays_as_it_is_for_as_long_as_everything_around_it_fails() {
    let (began, how_long, seed) = (Instant::now(), minutes(), fastrand::u64(..));
    println_now(&format!("{how_long:?} with the seed {seed}"));
    let mut world = World::start(seed).await;
    let calls = Calls::new(world.orders().await, &world.sandbox);
    let mut callers = JoinSet::new();
    for (number, version) in [
        Version::HTTP_11,
        Version::HTTP_11,
        Version::HTTP_2,
        Version::HTTP_2,
    ]
    .into_iter()
    .enumerate()
    {
        for process in &world.processes {
            let caller = Caller::new(process.address(), version, &calls, seed ^ (number as u64 + 1));
            callers.spawn(caller.call(Duration::from_millis(80)));
        }
    }
    // The first minutes fill what is filled once.
    let warm = Duration::from_mins(5).min(how_long / 2);
    let mut weights: [Vec<Weight>; 2] = Default::default();
    let mut round = 0;
    while began.elapsed() < how_long {
        round += 1;
        world.trouble(&calls, TROUBLE).await;
        world.recover().await;
        world.calm(&calls).await;
        let now = world.weigh(&calls).await;
        if began.elapsed() >= warm {
            weights
                .iter_mut()
                .zip(now)
                .for_each(|(weights, now)| weights.push(now));
        }
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        let mutations = calls.ledger.len();
        println_now(&format!(
            "{minutes:.1} min, round {round}: {mutations} mutations, {now:?}, {:?}",
            calls.counts()
        ));
        assert!(calls.wrong().len() < 20, "enough: {:#?}", calls.wrong());
        assert!(callers.try_join_next().is_none(), "a caller gave up");
    }
    calls.phase.send_replace(Phase::Over);
    callers.join_all().await;
    finish(&calls, &world.sandbox);
    for (number, weights) in weights.iter().enumerate() {
        assert_flat(number, weights);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn of_a_hundred_thousand_mutations_under_faults_none_is_doubled_and_none_lost_in_silence() {
    let seed = fastrand::u64(..);
    println_now(&format!("the seed is {seed}"));
    let mut world = World::start(seed).await;
    let calls = Calls::new(world.orders().await, &world.sandbox);
    calls.phase.send_replace(Phase::Trouble);
    let mut callers = JoinSet::new();
    for number in 0..8 {
        for process in &world.processes {
            let version = if number % 2 == 0 {
                Version::HTTP_11
            } else {
                Version::HTTP_2
            };
            let caller = Caller::new(process.address(), version, &calls, seed ^ number);
            callers.spawn(caller.change(MUTATIONS));
        }
    }
    while calls.ledger.len() < MUTATIONS {
        world.trouble(&calls, Duration::from_secs(10)).await;
        // Where nothing gets through, nothing is proven.
        world.recover().await;
        for process in &mut world.processes {
            process.drain();
        }
        assert!(calls.wrong().is_empty(), "{:#?}", calls.wrong());
    }
    callers.join_all().await;
    println_now(&format!("{:?}", calls.counts()));
    finish(&calls, &world.sandbox);
}

/// Fails unless every answer was right and every mutation is accounted for.
fn finish(calls: &Arc<Calls>, sandbox: &Sandbox) {
    let wrong = calls.wrong();
    assert!(wrong.is_empty(), "{} wrong answers: {wrong:#?}", wrong.len());
    let tally = calls
        .ledger
        .settle(sandbox)
        .unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    println_now(&format!(
        "{} faults struck; {tally:?}",
        sandbox.seen().counts().faults
    ));
    assert!(tally.done > tally.unknown, "most of it is well: {tally:?}");
}
