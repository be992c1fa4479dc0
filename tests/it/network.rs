//! Every fault of the network, between every two parties, for every kind of request: a matrix whose expectations follow
//! from a few rules.
//!
//! 1. What is merely slow changes nothing.
//! 2. On the way to Fluent: a connection that dies without a byte of an answer is `UPSTREAM_INTERRUPTED`, unless the
//!    request holds only queries and is at hand: then it is sent once more. After the first byte nothing is sent again;
//!    after the head the caller's answer is cut. A silence is `UPSTREAM_TIMEOUT`, or cuts.
//! 3. On the way from the caller: what is not whole is never done.
//! 4. On the way to the token endpoint: `TOKEN_UNAVAILABLE`, and nothing is sent.
//! 5. On the way to Redis: nothing changes.
//! 6. Whatever happens, nothing is done twice, everything ends soon, and nothing is left under way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fluent_sandbox::{Config, Sandbox};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::support::{End, Link, Point, Proxy, RedisServer, Slow, To, Wrong, fluent, sandbox, settings};

/// Cells at once.
const AT_ONCE: usize = 16;
/// The clocks that are to ring, in milliseconds.
const SOON: u64 = 500;
/// Those that are not, however busy the machine.
const LATE: u64 = 30_000;
/// A cell that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// Between which two parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Caller,
    Upstream,
    Token,
    Redis,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Query,
    Get,
    Mutation,
    /// No GraphQL, and it changes things.
    Event,
}

/// How its body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    /// Short enough for a tape.
    Short,
    /// Too long for one.
    Long,
    /// In chunks, without a length.
    Chunked,
}

/// One request under one fault.
#[derive(Clone, Copy)]
struct Cell {
    place: Place,
    wrong: Wrong,
    kind: Kind,
    body: Body,
}

/// What the caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// What it asked for.
    Good,
    /// The proxy's own answer.
    Refused(u16, &'static str),
    /// Another answer of Fluent's.
    Theirs(u16),
    /// A head that promises more than comes.
    Cut,
    /// No whole answer, which it could not get.
    Nothing,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            wrong,
            kind,
            body,
        } = self;
        write!(f, "{wrong:?} at {place:?}, {kind:?} with {body:?}")
    }
}

impl Cell {
    /// Every cell that can be.
    fn all() -> Vec<Self> {
        let slow = Slow::ALL.map(Wrong::Slow);
        let ends = End::ALL
            .into_iter()
            .flat_map(|end| Point::ALL.map(|point| Wrong::End(end, point)));
        let wrongs: Vec<_> = slow.into_iter().chain(ends).collect();
        let bodies = [Body::Short, Body::Long, Body::Chunked];
        let with_body = [Kind::Query, Kind::Mutation, Kind::Event].into_iter();
        let with_body = with_body.flat_map(|kind| bodies.map(|body| (kind, body)));
        let requests: Vec<_> = with_body.chain([(Kind::Get, Body::None)]).collect();
        let mut cells = Vec::new();
        for place in [Place::Caller, Place::Upstream, Place::Token, Place::Redis] {
            for wrong in &wrongs {
                for (kind, body) in &requests {
                    let cell = Self {
                        place,
                        wrong: *wrong,
                        kind: *kind,
                        body: *body,
                    };
                    if cell.can_be() {
                        cells.push(cell);
                    }
                }
            }
        }
        cells
    }

    fn can_be(self) -> bool {
        match (self.place, self.wrong) {
            // There is no head to find in what Redis says.
            (Place::Redis, Wrong::End(_, Point::Body | Point::Answer)) => false,
            (Place::Caller | Place::Upstream, Wrong::End(_, Point::Body)) => self.body != Body::None,
            // Where the request itself does not matter, a few stand for all.
            (Place::Token | Place::Redis, _) => self.body != Body::Long && self.kind != Kind::Event,
            (Place::Caller | Place::Upstream, Wrong::Slow(_) | Wrong::End(..)) => true,
        }
    }

    /// What must come of it: one of these answers, and how often it is done.
    fn expected(self) -> (Vec<Answer>, u64) {
        let done = u64::from(matches!(self.kind, Kind::Mutation | Kind::Event));
        let Wrong::End(end, point) = self.wrong else {
            return (vec![Answer::Good], done);
        };
        let answered = matches!(point, Point::Question | Point::AnswerHead | Point::Answer);
        let done_if_whole = if answered { done } else { 0 };
        match self.place {
            Place::Redis => (vec![Answer::Good], done),
            Place::Token => {
                let answer = match (end, point) {
                    // The token endpoint hears half a login, and refuses it.
                    (End::HalfClose, Point::Body) => Answer::Refused(502, "CREDENTIALS_REFUSED"),
                    _ => Answer::Refused(503, "TOKEN_UNAVAILABLE"),
                };
                (vec![answer], 0)
            }
            Place::Caller => (vec![Answer::Nothing], done_if_whole),
            Place::Upstream => (self.expected_of_upstream(end, point), done_if_whole),
        }
    }

    fn expected_of_upstream(self, end: End, point: Point) -> Vec<Answer> {
        let interrupted = Answer::Refused(502, "UPSTREAM_INTERRUPTED");
        match (end, point) {
            (_, Point::Answer) => vec![Answer::Cut],
            (End::BlackHole, _) => vec![Answer::Refused(504, "UPSTREAM_TIMEOUT")],
            (_, Point::AnswerHead) => vec![interrupted],
            // Fluent hears that no more comes, and says so.
            (End::HalfClose, Point::Body) => vec![Answer::Theirs(400)],
            _ => {
                let is_query = matches!(self.kind, Kind::Query | Kind::Get);
                let mut answers = match self.body {
                    // What has not come to its end yet is not at hand.
                    Body::Chunked if is_query && point != Point::Question => vec![Answer::Good, interrupted],
                    Body::None | Body::Short | Body::Chunked if is_query => vec![Answer::Good],
                    Body::None | Body::Short | Body::Long | Body::Chunked => vec![interrupted],
                };
                if (end, point) == (End::Reset, Point::Accept) {
                    // It may come before the connection has ever stood.
                    answers.push(Answer::Refused(502, "UPSTREAM_UNREACHABLE"));
                }
                answers
            }
        }
    }

    /// The request, byte for byte.
    fn request(self) -> Vec<u8> {
        let padding = if self.body == Body::Long { 40_000 } else { 200 };
        let padding = "x".repeat(padding);
        let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let (line, json) = match self.kind {
            Kind::Get => {
                let head = head("GET /graphql?query=%7Bme%7Busername%7D%7D");
                return format!("{head}\r\n").into_bytes();
            }
            Kind::Query => {
                let query = "query Who { me { username } }";
                (
                    "POST /graphql",
                    json!({ "query": query, "variables": { "padding": padding } }),
                )
            }
            Kind::Mutation => {
                let query = "mutation Make($input: CreateFulfilmentOptionInput!) \
                             { createFulfilmentOption(input: $input) { ref } }";
                let input = json!({ "ref": "ONCE", "type": "STANDARD" });
                let variables = json!({ "input": input, "padding": padding });
                ("POST /graphql", json!({ "query": query, "variables": variables }))
            }
            Kind::Event => {
                let event = json!({ "name": "Changed", "entityRef": "ONCE", "padding": padding });
                ("POST /api/v4.1/event/async", event)
            }
        };
        let (head, json) = (head(line), json.to_string());
        let head = format!("{head}Content-Type: application/json\r\n");
        if self.body == Body::Chunked {
            let chunks = json.as_bytes().chunks(64).map(|chunk| {
                let chunk = String::from_utf8_lossy(chunk);
                format!("{:x}\r\n{chunk}\r\n", chunk.len())
            });
            let chunks: String = chunks.collect();
            return format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n").into_bytes();
        }
        format!("{head}Content-Length: {}\r\n\r\n{json}", json.len()).into_bytes()
    }

    /// What a good answer holds.
    fn is_answer(self, body: &str) -> bool {
        match self.kind {
            Kind::Query | Kind::Get => body.contains(r#""username":"integration""#),
            Kind::Mutation => body.contains(r#"{"createFulfilmentOption":{"ref":"ONCE"}}"#),
            Kind::Event => body.contains(r#""entityRef":"ONCE""#),
        }
    }

    /// The answer in what came, up to the end of the connection.
    fn read(self, came: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(came);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Answer::Nothing;
        };
        let head = head.to_ascii_lowercase();
        let status: u16 = head[9..12].parse().unwrap();
        let field = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let is_whole = match field("content-length:") {
            Some(length) => body.len() == length.parse::<usize>().unwrap(),
            None => body.ends_with("0\r\n\r\n"),
        };
        if !is_whole {
            return Answer::Cut;
        }
        if field("proxy-status:").is_some() {
            let codes = [
                "CREDENTIALS_REFUSED",
                "TOKEN_UNAVAILABLE",
                "UPSTREAM_INTERRUPTED",
                "UPSTREAM_TIMEOUT",
                "UPSTREAM_UNREACHABLE",
            ];
            let code = codes.into_iter().find(|code| body.contains(code));
            return Answer::Refused(status, code.unwrap_or("another"));
        }
        if status == 200 && self.is_answer(body) {
            Answer::Good
        } else {
            Answer::Theirs(status)
        }
    }

    /// Runs it, and tells what is not as expected.
    async fn run(self, redis: Arc<RedisServer>) -> Result<(), String> {
        let sandbox = sandbox(Config {
            orders: 1,
            ..fluent()
        })
        .await;
        let lay = async |place, to, times| {
            let wrong = Some(self.wrong).filter(|_| self.place == place);
            Link::lay(to, wrong, times).await
        };
        let api = To::Tcp(sandbox.address());
        let upstream = lay(Place::Upstream, api.clone(), 1).await;
        // A login that fails is tried again, and so is Redis.
        let tokens = lay(Place::Token, api, usize::MAX).await;
        let cache = lay(Place::Redis, To::Unix(redis.socket().to_owned()), usize::MAX).await;
        let clock = |place| {
            let rings = self.place == place && matches!(self.wrong, Wrong::End(End::BlackHole, _));
            if rings { SOON } else { LATE }
        };
        let (front, back, login) = (clock(Place::Caller), clock(Place::Upstream), clock(Place::Token));
        let mut toml = format!(
            "[listen]\npaths = ['/graphql', '/api/*']\nheader_timeout = '{front}ms'\nbody_timeout = '{front}ms'\n\
             [upstream]\nresponse_timeout = '{back}ms'\nread_timeout = '{back}ms'\nreplay_limit = '16KiB'\n\
             [fluent.token]\npath = 'http://{}/oauth/token'\ntimeout = '{login}ms'\n",
            tokens.address()
        );
        if self.place == Place::Redis {
            let url = format!("redis://{}", cache.address());
            toml = format!("{toml}[cache]\nstore = 'redis'\nredis_url = '{url}'\n");
        }
        let proxy = Proxy::from_settings(&settings(&format!("http://{}", upstream.address()), &toml)).await;
        let front = lay(Place::Caller, To::Tcp(proxy.address()), 1).await;
        let began = Instant::now();
        let came = self.ask(&front, &sandbox).await;
        let answer = self.read(&came);
        let ended = self.settle(&proxy, &sandbox).await;
        let took = began.elapsed();
        proxy.stop().await;
        let (expected, done) = self.expected();
        let field = if self.kind == Kind::Event {
            "event/async"
        } else {
            "createFulfilmentOption"
        };
        let did = sandbox.seen().mutation_count(field, "ONCE");
        let twice = sandbox.seen().counts().clashes;
        let is_right = expected.iter().any(|expected| match expected {
            // The caller cannot be told; whatever part of an answer comes is no good one.
            Answer::Nothing => answer != Answer::Good,
            Answer::Good | Answer::Refused(..) | Answer::Theirs(_) | Answer::Cut => answer == *expected,
        });
        if is_right && did == done && twice == 0 && ended && took < PATIENCE {
            return Ok(());
        }
        let came = String::from_utf8_lossy(&came).into_owned();
        Err(format!(
            "{self}: {answer:?}, done {did} times, {twice} clashes, all ended: {ended}, after {took:?}; expected \
             {expected:?}, done {done} times; came {came:?}"
        ))
    }

    /// Sends the request, and gives what comes until the connection ends, or nothing comes any more.
    async fn ask(self, front: &Link, sandbox: &Sandbox) -> Vec<u8> {
        let mut came = Vec::new();
        let asking = async {
            let mut stream = TcpStream::connect(front.address()).await?;
            let (mut read, mut write) = stream.split();
            let request = self.request();
            // Whoever cannot write any more may still read.
            let writing = async {
                let _ = write.write_all(&request).await;
                std::future::pending::<()>().await;
            };
            let reading = read.read_to_end(&mut came);
            tokio::select! {
                () = writing => {}
                done = reading => drop(done?),
            }
            std::io::Result::Ok(())
        };
        let patience = async {
            match (self.place, self.wrong) {
                // In a black hole the caller is the one who gives up.
                (Place::Caller, Wrong::End(End::BlackHole, Point::Accept | Point::Head | Point::Body)) => {
                    tokio::time::sleep(Duration::from_millis(SOON / 2)).await;
                }
                (Place::Caller, Wrong::End(End::BlackHole, _)) => {
                    sandbox.seen().wait_for(|counts| counts.api_answers == 1).await;
                }
                _ => tokio::time::sleep(PATIENCE).await,
            }
        };
        tokio::select! {
            _ = asking => {}
            () = patience => {}
        }
        came
    }

    /// Waits until nothing is under way.
    async fn settle(self, proxy: &Proxy, sandbox: &Sandbox) -> bool {
        // Who is left in a black hole waits on.
        let swallowed = matches!(self.wrong, Wrong::End(End::BlackHole, _)) && self.place == Place::Upstream;
        let idle = async {
            loop {
                let page = proxy.admin().get("/metrics").await.body;
                let page = String::from_utf8_lossy(&page);
                let counts = sandbox.seen().counts();
                if page.contains("\nfluent_auth_proxy_requests_in_flight 0\n")
                    && page.contains("\nfluent_auth_proxy_connections 0\n")
                    && (swallowed || counts.api_answers == counts.api_requests)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_place_comes_to_what_the_rules_say() {
    let began = Instant::now();
    let redis = Arc::new(RedisServer::start(&[]).await);
    let (room, cells) = (Arc::new(Semaphore::new(AT_ONCE)), Cell::all());
    let number = cells.len();
    let mut running = JoinSet::new();
    for cell in cells {
        let (room, redis) = (Arc::clone(&room), Arc::clone(&redis));
        running.spawn(async move {
            let _place = room.acquire_owned().await.unwrap();
            cell.run(redis).await
        });
    }
    let wrong: Vec<_> = running
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    println!(
        "{number} cells of faults, as expected but for {}, in {:?}",
        wrong.len(),
        began.elapsed()
    );
    assert!(
        wrong.is_empty(),
        "{} of {number} cells:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
