//! What the way of a request costs, in instructions as callgrind counts them: the same on every machine, whatever else
//! it does. Each has a bound a tenth above what it was when it was written; who makes it dearer raises it knowingly.
//!
//! Run by `tests/bench/instructions`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unused_qualifications,
    clippy::needless_pass_by_value,
    clippy::must_use_candidate,
    reason = "a benchmark is a test, and its attributes make functions of their own"
)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fluent_auth_proxy::app::App;
use fluent_auth_proxy::body::{BodyLimits, Recorder, TapeBudget, TapeLimits};
use fluent_auth_proxy::clock::Clock;
use fluent_auth_proxy::guard::{self, Connection, Guard, PathRule, Payload, RequestHeaders, Rules, ViaId};
use fluent_auth_proxy::secret::Secret;
use fluent_auth_proxy::settings::{Provenance, Settings, Sources};
use fluent_auth_proxy::token::answer::Answer;
use fluent_auth_proxy::token::cache::{Means, TokenCache};
use fluent_auth_proxy::token::grant::{Grants, Login};
use fluent_auth_proxy::token::{BoxFuture, GrantError, TokenSource};
use gungraun::{
    Callgrind, Dhat, DhatMetric, EventKind, LibraryBenchmarkConfig, library_benchmark,
    library_benchmark_group, main,
};
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

const QUESTION: &str = r#"{"query":"{ me { id } }"}"#;
const ANSWER: &str = r#"{"data":{"me":{"id":"1234"}}}"#;
const TOKEN: &str = r#"{"accessToken":"0123456789","expires_in":86399}"#;

/// A message with a JSON body.
fn message(first_lines: &str, body: &str) -> String {
    let length = body.len();
    format!("{first_lines}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A bound for the instructions of a benchmark, and for its allocations.
fn at_most(instructions: u64, allocations: Option<u64>) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]));
    if let Some(blocks) = allocations {
        config.tool(Dhat::default().hard_limits([(DhatMetric::TotalBlocks, blocks)]));
    }
    config
}

fn one_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn settings(url: &str) -> Settings {
    let sources = Sources {
        environment: [("FLUENT_PASSWORD", "bench"), ("FLUENT_CLIENT_SECRET", "bench")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        set: [
            &format!("fluent.url={url}"),
            "fluent.username=bench",
            "fluent.client_id=bench",
            "listen.address=127.0.0.1:0",
            "admin.address=none",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Sources::default()
    };
    Settings::load(&sources).expect("good settings").settings
}

/// Grants every login.
struct Generous;

impl Grants for Generous {
    fn request<'a>(&'a self, _: &'a Login, _: Duration) -> BoxFuture<'a, Result<Answer, GrantError>> {
        let answer = Answer {
            token: Secret::new("0123456789".to_owned()),
            expires_in: Some(Duration::from_hours(1)),
            refresh_token: None,
        };
        Box::pin(async move { Ok(answer) })
    }

    fn refresh<'a>(
        &'a self,
        login: &'a Login,
        _: &'a Secret,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, GrantError>> {
        self.request(login, timeout)
    }
}

/// A cache that holds a token, and what gives it.
fn with_a_token() -> (Runtime, impl TokenSource) {
    let runtime = one_thread();
    let settings = settings("http://localhost");
    let logins = settings
        .instances
        .iter()
        .map(|(name, instance)| (name.clone(), instance.users.clone(), instance.policy));
    let means = Means {
        grants: Arc::new(Generous),
        store: None,
        clock: Clock::system(),
        spread: 0.5,
    };
    let source = {
        let _within = runtime.enter();
        let cache = TokenCache::new(logins, means);
        cache.source("default", "default").unwrap()
    };
    runtime.block_on(source.obtain()).unwrap();
    black_box(source.ready()).unwrap();
    (runtime, source)
}

#[library_benchmark(config = at_most(342, Some(0)), setup = with_a_token)]
#[bench::held()]
fn token((runtime, source): (Runtime, impl TokenSource)) -> impl Sized {
    let token = black_box(source.ready());
    (runtime, source, token)
}

fn a_request() -> (Guard, Uri, HeaderMap) {
    let rules = Rules {
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
        allowed_uids: Vec::new(),
        required_header: None,
        paths: vec![PathRule::Exact("/graphql".to_owned())],
    };
    let headers = [
        ("host", "localhost:4280"),
        ("user-agent", "bench"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("content-length", "25"),
        ("accept-encoding", "gzip"),
        ("connection", "keep-alive"),
    ];
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    (
        Guard::new(rules, ViaId::new(1), &["/", "/graphiql"]),
        Uri::from_static("/graphql"),
        HeaderMap::from_iter(headers),
    )
}

#[library_benchmark(config = at_most(2_940, Some(0)), setup = a_request)]
#[bench::usual()]
fn admit((guard, uri, headers): (Guard, Uri, HeaderMap)) -> impl Sized {
    let connection = Connection::Tcp(([127, 0, 0, 1], 4280).into());
    let admitted = guard.admit(&Method::POST, &uri, &headers, connection, Payload::Present);
    assert!(black_box(admitted).is_ok());
    (guard, headers)
}

#[library_benchmark(config = at_most(3_270, None), setup = a_request)]
#[bench::usual()]
fn scrub_request((guard, uri, mut headers): (Guard, Uri, HeaderMap)) -> impl Sized {
    guard.scrub_request(&mut headers);
    let set = RequestHeaders {
        host: &HeaderValue::from_static("fluent.example"),
        account: None,
        via: Some(HeaderValue::from_static("1.1 fluent-auth-proxy-1")),
        request_id: &HeaderValue::from_static("0123456789"),
    };
    guard::set_request_headers(&mut headers, set);
    (guard, uri, headers)
}

fn an_answer() -> HeaderMap {
    let headers = [
        ("server", "fluent"),
        ("date", "Wed, 25 Nov 2026 12:00:00 GMT"),
        ("content-type", "application/json"),
        ("content-length", "28"),
        ("connection", "keep-alive"),
    ];
    HeaderMap::from_iter(
        headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))),
    )
}

#[library_benchmark(config = at_most(2_370, None), setup = an_answer)]
#[bench::usual()]
fn scrub_response(mut headers: HeaderMap) -> HeaderMap {
    guard::scrub_response(&mut headers);
    let via = Some(HeaderValue::from_static("1.1 fluent-auth-proxy-1"));
    guard::set_response_headers(&mut headers, via, &HeaderValue::from_static("0123456789"));
    headers
}

fn a_body(length: usize) -> (Runtime, TapeBudget, Full<Bytes>) {
    let limits = TapeLimits {
        request: 2 << 20,
        total: 64 << 20,
    };
    let body = Full::new(Bytes::from(vec![b'x'; length]));
    (one_thread(), TapeBudget::new(limits), body)
}

#[library_benchmark(config = at_most(4_750, Some(4)), setup = a_body)]
#[bench::of_240_bytes(240)]
fn tape((runtime, budget, body): (Runtime, TapeBudget, Full<Bytes>)) -> impl Sized {
    let limits = BodyLimits {
        max_body: Some(64 << 20),
        timeout: Duration::from_secs(30),
    };
    let (mut recorder, recording) = Recorder::new(body, limits, &budget);
    let frame = runtime.block_on(recorder.frame());
    let tape = recording.take_tape();
    assert!(tape.is_some());
    (frame, tape, runtime)
}

/// A running proxy before an upstream that says always the same, and a caller's connection to it.
struct Running {
    runtime: Runtime,
    app: App,
    caller: tokio::net::TcpStream,
}

/// Answers every request with a head of known length, one after the other.
fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || answer_all(stream));
        }
    });
    url
}

fn answer_all(mut stream: TcpStream) {
    let [token, answer] = [TOKEN, ANSWER].map(|body| message("HTTP/1.1 200 OK", body));
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let asked = String::from_utf8_lossy(buffer.get(..count).unwrap()).into_owned();
        let answer = if asked.contains("/oauth/token") {
            &token
        } else {
            &answer
        };
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

impl Running {
    fn start() -> Self {
        let settings = settings(&upstream());
        let runtime = one_thread();
        let (app, caller) = runtime.block_on(async {
            let app = App::start(&settings, &Provenance::default(), Clock::system()).unwrap();
            let caller = tokio::net::TcpStream::connect(*app.addresses().first().unwrap());
            (app, caller.await.unwrap())
        });
        let mut running = Self { runtime, app, caller };
        running.ask(20);
        running
    }

    fn ask(&mut self, times: usize) {
        let Self { runtime, caller, .. } = self;
        let question = message(
            "POST /graphql HTTP/1.1\r\nHost: localhost:4280\r\nUser-Agent: bench\r\nAccept: application/json",
            QUESTION,
        );
        runtime.block_on(async {
            let mut buffer = [0; 4096];
            for _ in 0..times {
                caller.write_all(question.as_bytes()).await.unwrap();
                let mut length = 0;
                while !buffer.get(..length).unwrap().ends_with(b"}") {
                    let count = caller.read(buffer.get_mut(length..).unwrap()).await.unwrap();
                    assert!(count > 0, "the proxy has closed the connection");
                    length += count;
                }
                let answer = String::from_utf8_lossy(buffer.get(..length).unwrap());
                assert!(answer.ends_with(ANSWER), "{answer}");
            }
        });
    }
}

// A caller's question, all of the proxy's way, and the caller's reading of the answer, a hundred times.
#[library_benchmark(config = at_most(6_250_000, None), setup = Running::start)]
#[bench::a_hundred()]
fn request(mut running: Running) -> impl Sized {
    running.ask(100);
    (running.app, running.runtime)
}

library_benchmark_group!(
    name = way;
    benchmarks = token, admit, scrub_request, scrub_response, tape, request
);
main!(library_benchmark_groups = way);
