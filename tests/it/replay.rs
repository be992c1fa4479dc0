//! What is sent twice, and what never is.

use std::time::Duration;

use bytes::Bytes;
use fluent_sandbox::{Config, Fault, Injection, Place, Sandbox, Times, TokenReuse, When};
use http_body::Frame;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::support::{Answer, Client, Frozen, Request, fluent, full};

const ME: &str = "{ me { id } }";
/// May be executed any number of times, so that a second time shows.
const MUTATION: &str = r#"mutation { updateInventoryQuantity(input: {ref: "LOC_002:SKU_00001:LAST_ON_HAND", quantity: 7}) { ref } }"#;
const REST: &str = "[listen]\npaths = [\"/graphql\", \"/api/*\"]";
const INVALID_TOKEN: &[u8] = br#"{"errors":[{"code":"401","message":"Invalid user, Authorization header value does not belong to a valid user"}]}"#;

fn new_each_time() -> Config {
    Config {
        token_reuse: TokenReuse::NewEachTime,
        ..fluent()
    }
}

fn unauthorized(times: Times) -> Injection {
    Injection::new(Place::Api, Fault::Unauthorized)
        .when(When::AfterBody)
        .times(times)
}

fn upload() -> http::request::Builder {
    http::Request::post("/api/v4.1/upload").header("content-type", "application/octet-stream")
}

/// A request whose body leaves in chunks of these sizes, and then the rest of it.
fn in_chunks(body: &Bytes, sizes: &[usize], declared: bool) -> Request {
    let (mut sender, channel) = Channel::<Bytes>::new(1);
    let mut rest = body.clone();
    let sizes = sizes.to_vec();
    let mut request = upload();
    if declared {
        request = request.header("content-length", body.len());
    }
    tokio::spawn(async move {
        for size in sizes.into_iter().chain([usize::MAX]) {
            let chunk = rest.split_to(size.min(rest.len()));
            if !chunk.is_empty() && sender.send(Frame::data(chunk)).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    request
        .body(channel.map_err(|never| match never {}).boxed())
        .unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

async fn assert_replay_is_byte_for_byte(
    (frozen, sandbox, client): (&Frozen, &Sandbox, Client),
    (body, sizes, declared): (Vec<u8>, Vec<usize>, bool),
) {
    // One more login may be caused by a 401.
    frozen.advance(Duration::from_secs(10)).await;
    let before = sandbox.seen().counts();
    sandbox.faults().add(unauthorized(Times::Once));
    let body = Bytes::from(body);
    let answer = client.send(in_chunks(&body, &sizes, declared)).await;
    assert_eq!(answer.json()["sha256"], sha256(&body));
    let counts = sandbox.seen().counts();
    assert_eq!(counts.api_requests, before.api_requests + 2);
    assert_eq!(counts.token_requests, before.token_requests + 1);
    let requests = sandbox.seen().api_requests();
    let attempts = &requests[requests.len() - 2..];
    for attempt in attempts {
        assert!(attempt.body.whole);
        assert_eq!(attempt.body.sha256, sha256(&body));
        assert_eq!(attempt.body.kept, body.slice(..body.len().min(64 * 1024)));
    }
    let [first, second] = [0, 1].map(|attempt| {
        let mut headers = attempts[attempt].headers.clone();
        assert!(headers.remove("authorization").is_some());
        // A body that has come whole has a length.
        headers.remove("content-length");
        headers.remove("transfer-encoding");
        headers
    });
    assert_eq!(first, second);
    assert_ne!(attempts[0].bearer(), attempts[1].bearer());
}

#[test]
fn both_attempts_carry_byte_for_byte_what_the_caller_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (frozen, sandbox, proxy) = runtime.block_on(Frozen::start(new_each_time(), REST));
    runtime.block_on(sandbox.seen().wait_for(|counts| counts.tokens_issued == 1));
    let bodies = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (0_usize..200_000, any::<u8>()).prop_map(|(length, first)| {
            std::iter::successors(Some(first), |byte| Some(byte.wrapping_mul(3).wrapping_add(7))).take(length).collect()
        }),
    ];
    let sizes = prop::collection::vec(prop_oneof![1_usize..20, 1_usize..70_000], 0..8);
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(body in bodies, sizes in sizes, declared: bool)| {
        let client = proxy.client();
        runtime.block_on(assert_replay_is_byte_for_byte((&frozen, &sandbox, client), (body, sizes, declared)));
    });
    runtime.block_on(frozen.end(proxy));
}

/// Fails unless the 401 came as Fluent sent it, after so many requests there.
#[track_caller]
fn assert_as_it_came(answer: &Answer, sandbox: &Sandbox, requests: u64) {
    assert_eq!((answer.status.as_u16(), answer.code()), (401, None));
    assert_eq!(answer.body, INVALID_TOKEN);
    assert_eq!(sandbox.seen().counts().api_requests, requests);
}

async fn post(client: Client, length: usize) -> Answer {
    client
        .send(upload().body(full(vec![b'x'; length])).unwrap())
        .await
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_replayed_and_one_at_the_limit_is() {
    let limits = format!("{REST}\n[upstream]\nreplay_limit = \"1KiB\"");
    let (frozen, sandbox, proxy) = Frozen::start(new_each_time(), &limits).await;
    sandbox.faults().add(unauthorized(Times::Once));
    assert_as_it_came(&post(proxy.client(), 1025).await, &sandbox, 1);
    sandbox.faults().add(unauthorized(Times::Once));
    assert_eq!(post(proxy.client(), 1024).await.status, 200);
    assert_eq!(sandbox.seen().counts().api_requests, 3);
    // Either way the token was replaced.
    assert_eq!(sandbox.seen().counts().token_requests, 3);
    // A body that does not tell its length is measured as it comes.
    let grown = async |length: usize| {
        let body = Bytes::from(vec![b'x'; length]);
        sandbox.faults().add(unauthorized(Times::Once));
        proxy.client().send(in_chunks(&body, &[500, 300], false)).await
    };
    assert_eq!(grown(1024).await.status, 200);
    frozen.advance(Duration::from_secs(10)).await;
    assert_as_it_came(&grown(1025).await, &sandbox, 6);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_body_that_found_no_memory_is_not_replayed() {
    let limits = format!("{REST}\n[upstream]\nreplay_limit = \"1KiB\"\nreplay_memory = \"1KiB\"");
    let (mut frozen, sandbox, proxy) = Frozen::start(new_each_time(), &limits).await;
    let hang = Injection::new(Place::Api, Fault::Hang).when(When::AfterBody);
    let hang = sandbox.faults().add(hang);
    let client = proxy.client();
    let first = tokio::spawn(post(client, 1000));
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    frozen.settle().await;
    sandbox.faults().add(unauthorized(Times::Once));
    assert_as_it_came(&post(client, 1000).await, &sandbox, 2);
    sandbox.faults().clear_one(hang);
    assert_eq!(first.await.unwrap().status, 200);
    // The memory is free again.
    sandbox.faults().add(unauthorized(Times::Once));
    assert_eq!(post(client, 1000).await.status, 200);
    assert_eq!(sandbox.seen().counts().api_requests, 4);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_body_that_was_not_read_to_its_end_is_not_replayed() {
    let (mut frozen, sandbox, proxy) = Frozen::start(new_each_time(), REST).await;
    sandbox
        .faults()
        .inject(Place::Api, Times::Always, Fault::Unauthorized);
    let (mut sender, channel) = Channel::<Bytes>::new(1);
    sender
        .send(Frame::data(Bytes::from_static(b"the first half")))
        .await
        .unwrap();
    let body = channel.map_err(|never| match never {}).boxed();
    let client = proxy.client();
    let request = upload().body(body).unwrap();
    let asked = tokio::spawn(async move { client.send(request).await });
    // The rest might have been on its way.
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    let answer = frozen.ends_after(Duration::from_secs(1), asked).await;
    assert_as_it_came(&answer, &sandbox, 1);
    drop(sender);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_second_401_is_not_answered_by_a_third_request() {
    let (frozen, sandbox, proxy) = Frozen::start(new_each_time(), REST).await;
    sandbox.faults().add(unauthorized(Times::Always));
    assert_as_it_came(&post(proxy.client(), 100).await, &sandbox, 2);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn nothing_is_replayed_with_the_same_token() {
    let (frozen, sandbox, proxy) = Frozen::start(fluent(), REST).await;
    sandbox.faults().add(unauthorized(Times::Once));
    assert_as_it_came(&post(proxy.client(), 100).await, &sandbox, 1);
    assert_eq!(sandbox.seen().counts().token_requests, 2);
    assert_eq!(post(proxy.client(), 100).await.status, 200);
    assert_eq!(sandbox.seen().counts().token_requests, 2, "it is kept");
    frozen.end(proxy).await;
}

#[tokio::test]
async fn nothing_is_replayed_once_the_budget_is_spent() {
    let (frozen, sandbox, proxy) = Frozen::start(new_each_time(), REST).await;
    for _ in 0..3 {
        sandbox.faults().add(unauthorized(Times::Once));
        assert_eq!(post(proxy.client(), 100).await.status, 200);
    }
    sandbox.faults().add(unauthorized(Times::Once));
    assert_as_it_came(&post(proxy.client(), 100).await, &sandbox, 7);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_login_that_fails_after_a_401_is_the_answer_and_nothing_is_replayed() {
    let status = |code, body: Option<&str>| Fault::Status {
        code,
        retry_after: None,
        body: body.map(str::to_owned),
    };
    let refused = status(400, Some(r#"{"error":"invalid_grant"}"#));
    for (fault, answer, code) in [
        (refused, 502, "CREDENTIALS_REFUSED"),
        (status(503, None), 503, "TOKEN_UNAVAILABLE"),
    ] {
        let (frozen, sandbox, proxy) = Frozen::start(new_each_time(), REST).await;
        assert_eq!(post(proxy.client(), 100).await.status, 200);
        sandbox.faults().add(unauthorized(Times::Once));
        sandbox.faults().inject(Place::Token, Times::Always, fault);
        post(proxy.client(), 100).await.assert_refused(answer, code);
        assert_eq!(sandbox.seen().counts().api_requests, 2);
        frozen.end(proxy).await;
    }
}

async fn mutate(client: Client) -> Result<Answer, hyper::Error> {
    let request = http::Request::post("/graphql").header("content-type", "application/json");
    let body = serde_json::json!({ "query": MUTATION }).to_string();
    client.try_send(request.body(full(body)).unwrap()).await
}

/// The status and code of an answer; none of an answer that is cut off.
type Told = Option<(u16, Option<&'static str>)>;

/// What may go wrong with a request, and the status and code of the answer; none where that is cut off.
fn trouble(elsewhere: &Sandbox) -> Vec<(Fault, Told)> {
    let status = |code| Fault::Status {
        code,
        retry_after: Some("1".to_owned()),
        body: None,
    };
    let interrupted = Some((502, Some("UPSTREAM_INTERRUPTED")));
    vec![
        (Fault::Reset, interrupted),
        (Fault::Close, interrupted),
        (Fault::Cut, None),
        (Fault::Hang, Some((504, Some("UPSTREAM_TIMEOUT")))),
        (status(500), Some((500, None))),
        (status(503), Some((503, None))),
        (status(429), Some((429, None))),
        (status(408), Some((408, None))),
        (status(403), Some((403, None))),
        (
            Fault::Redirect(format!("{}/graphql", elsewhere.url())),
            Some((302, None)),
        ),
        (Fault::Html, Some((200, None))),
        (Fault::Empty, Some((200, None))),
    ]
}

#[tokio::test]
async fn a_mutation_reaches_fluent_once_whatever_goes_wrong_but_a_401() {
    let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), "").await;
    let elsewhere = super::support::sandbox(fluent()).await;
    let client = proxy.client();
    for (fault, expected) in trouble(&elsewhere) {
        for when in [When::BeforeBody, When::AfterBody, When::AfterExecution] {
            // A pooled connection is at hand, which makes a retry look harmless.
            client.graphql(ME).await.assert_good();
            let before = sandbox.seen().counts();
            sandbox
                .faults()
                .add(Injection::new(Place::Api, fault.clone()).when(when));
            let call = tokio::spawn(mutate(client));
            sandbox
                .seen()
                .wait_for(|counts| counts.faults > before.faults)
                .await;
            if fault == Fault::Hang {
                frozen.settle().await;
                frozen.advance(Duration::from_secs(121)).await;
            }
            let answer = call.await.unwrap().ok();
            let told = answer
                .as_ref()
                .map(|answer| (answer.status.as_u16(), answer.code()));
            let expected = expected.map(|(status, code)| (status, code.map(str::to_owned)));
            assert_eq!(told, expected, "{fault:?} {when:?}");
            sandbox.faults().clear();
            frozen.settle().await;
            assert_eq!(
                sandbox.seen().counts().api_requests,
                before.api_requests + 1,
                "{fault:?} {when:?}"
            );
            let executed = sandbox.seen().counts().mutations - before.mutations;
            assert_eq!(
                executed,
                u64::from(when == When::AfterExecution),
                "{fault:?} {when:?}"
            );
        }
    }
    assert_eq!(
        elsewhere.seen().counts().connections,
        0,
        "no redirect is followed"
    );
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_mutation_is_applied_exactly_once_after_a_401() {
    let (frozen, sandbox, proxy) = Frozen::start(fluent(), "").await;
    proxy.client().graphql(ME).await.assert_good();
    for mutation in 1..=3 {
        sandbox.revoke_access_tokens();
        let answer = mutate(proxy.client()).await.unwrap();
        answer.assert_good();
        assert_eq!(sandbox.seen().counts().api_unauthorized, mutation);
        assert_eq!(sandbox.seen().counts().mutations, mutation);
    }
    frozen.end(proxy).await;
}
