//! What is sent a second time, and what never is.

use std::time::Duration;

use fluent_auth_proxy::app::App;
use fluent_auth_proxy::clock::{Clock, Hand};
use fluent_sandbox::{Config, Fault, Injection, Place, Sandbox, Times, TokenReuse, When};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Client, fluent, settings, start};

/// The tape's limit in these tests.
const LIMIT: usize = 8 * 1024;
const SETTINGS: &str = "listen.paths = [\"/graphql\", \"/api/v4.1/*\"]\nupstream.replay_limit = \"8KiB\"";

/// A proxy whose budget of logins can be refilled by hand.
struct Bench {
    sandbox: Sandbox,
    app: App,
    hand: Hand,
}

impl Bench {
    /// Before a Fluent that gives a new token at each login.
    async fn new() -> Self {
        let config = Config {
            token_reuse: TokenReuse::NewEachTime,
            ..fluent()
        };
        let sandbox = Sandbox::start(config).await.unwrap();
        let (clock, hand) = Clock::manual();
        let app = App::start(&settings(&sandbox.url(), SETTINGS), clock).unwrap();
        let bench = Self { sandbox, app, hand };
        bench.client().graphql("{ me { id } }").await.assert_good();
        bench
    }

    fn client(&self) -> Client {
        Client::new(self.app.addresses()[0])
    }

    /// The next request of the API is answered with a 401, after its whole body was read.
    fn reject_once(&self) {
        self.hand.sleep_through(Duration::from_secs(10));
        let fault = Injection::new(Place::Api, Fault::Unauthorized).when(When::AfterBody);
        self.sandbox.faults().add(fault.times(Times::Once));
    }

    /// Sends `chunks` as they are, each in a write of its own, and gives the status of the answer.
    async fn send(&self, chunks: &[Vec<u8>], declared: bool) -> u16 {
        let mut stream = TcpStream::connect(self.app.addresses()[0]).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let length: usize = chunks.iter().map(Vec::len).sum();
        let framing = if declared {
            format!("Content-Length: {length}")
        } else {
            "Transfer-Encoding: chunked".into()
        };
        let head = format!(
            "POST /api/v4.1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Connection: close\r\n{framing}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        for chunk in chunks {
            if declared {
                stream.write_all(chunk).await.unwrap();
            } else if !chunk.is_empty() {
                let frame = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
                stream.write_all(&frame).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
        if !declared {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        super::support::assert_clean(&answer, "an answer");
        String::from_utf8_lossy(&answer)[9..12].parse().unwrap()
    }
}

fn digest(chunks: &[Vec<u8>]) -> String {
    let digest = Sha256::digest(chunks.concat());
    digest
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn both_attempts_are_byte_for_byte_what_the_caller_sent_at_any_chunking() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let bench = runtime.block_on(Bench::new());
    let chunk = prop::collection::vec(any::<u8>(), 0..3000);
    let course = (prop::collection::vec(chunk, 0..8), any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..Default::default()
    });
    let outcome = runner.run(&course, |(chunks, declared)| {
        runtime.block_on(async {
            bench.reject_once();
            let before = bench.sandbox.seen().counts().api_requests;
            let status = bench.send(&chunks, declared).await;
            let sent = usize::try_from(bench.sandbox.seen().counts().api_requests - before).unwrap();
            let seen = bench.sandbox.seen().api_requests();
            let attempts = &seen[seen.len() - sent..];
            let length: usize = chunks.iter().map(Vec::len).sum();
            let (expected, count) = if length <= LIMIT { (200, 2) } else { (401, 1) };
            prop_assert_eq!((status, sent), (expected, count), "{} bytes", length);
            for attempt in attempts {
                prop_assert!(attempt.body.whole);
                prop_assert_eq!(attempt.body.length, length as u64);
                prop_assert_eq!(&attempt.body.sha256, &digest(&chunks));
            }
            if let [first, second] = attempts {
                prop_assert_ne!(first.bearer(), second.bearer());
            }
            Ok(())
        })
    });
    outcome.unwrap();
    runtime.block_on(bench.app.stop());
}

#[tokio::test]
async fn a_mutation_after_a_401_is_applied_once() {
    let bench = Bench::new().await;
    bench.reject_once();
    let answer = bench.client().graphql(&create("R1")).await;
    answer.assert_good();
    assert_eq!(bench.sandbox.seen().mutation_count("createOrder", "R1"), 1);
    bench.app.stop().await;
}

#[tokio::test]
async fn a_second_401_goes_to_the_caller_as_it_came() {
    let bench = Bench::new().await;
    let before = bench.sandbox.seen().counts();
    bench
        .sandbox
        .faults()
        .inject(Place::Api, Times::Always, Fault::NoRetailer);
    let answer = bench.client().graphql("{ me { id } }").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, None));
    assert_eq!(
        answer.json()["errors"][0]["message"],
        "Logged in user has no retailer"
    );
    let after = bench.sandbox.seen().counts();
    assert_eq!(after.api_requests - before.api_requests, 2);
    assert_eq!(after.token_requests - before.token_requests, 1);
    bench.app.stop().await;
}

/// A mutation that creates the order `reference`.
fn create(reference: &str) -> String {
    format!(
        r#"mutation {{ createOrder(input: {{ref: "{reference}", type: "HD",
        items: [{{ref: "{reference}-1", productRef: "SKU_00001", quantity: 1}}]}}) {{ id ref }} }}"#
    )
}

#[tokio::test]
async fn nothing_but_a_401_makes_a_mutation_arrive_twice() {
    let (sandbox, proxy) = start("upstream.response_timeout = \"1s\"").await;
    proxy.client().graphql("{ me { id } }").await.assert_good();
    let status = |code| Fault::Status {
        code,
        retry_after: Some("1".to_owned()),
        body: None,
    };
    let faults = [
        Fault::Hang,
        status(429),
        status(500),
        status(503),
        Fault::Reset,
        Fault::Close,
        Fault::Cut,
        Fault::Html,
        Fault::Empty,
        Fault::Redirect(format!("{}/graphql", sandbox.url())),
    ];
    for (number, fault) in faults.iter().enumerate() {
        for when in [When::BeforeBody, When::AfterBody, When::AfterExecution] {
            let reference = format!("M{number}-{when:?}");
            let before = sandbox.seen().counts().api_requests;
            sandbox.faults().add(
                Injection::new(Place::Api, fault.clone())
                    .when(when)
                    .times(Times::Once),
            );
            let request = http::Request::post("/graphql").header("content-type", "application/json");
            let body = serde_json::json!({ "query": create(&reference) }).to_string();
            let answer = proxy
                .client()
                .try_send(request.body(super::support::full(body)).unwrap())
                .await;
            assert!(
                !answer.is_ok_and(|answer| answer.status == 200 && answer.body.starts_with(b"{\"data\"")),
                "{reference} shows no fault"
            );
            let sent = sandbox.seen().counts().api_requests - before;
            assert_eq!(sent, 1, "{reference} was sent {sent} times");
            let applied = sandbox.seen().mutation_count("createOrder", &reference);
            assert!(applied <= 1, "{reference} was applied {applied} times");
            sandbox.faults().clear();
        }
    }
    proxy.stop().await;
}
