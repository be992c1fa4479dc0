//! More requests than the proxy has places for: they queue, within bounds, or are told so at once.

use std::time::Duration;

use fluent_sandbox::{Fault, Place, Sandbox, Times};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;

use tokio::time::Instant;

use super::support::{Answer, Client, Frozen, Proxy, fluent, start};

const ME: &str = "{ me { id } }";
/// A wait that no test waits out.
const LONG: &str = "60s";
/// Far less than any queue's time, far more than a refusal takes.
const AT_ONCE: Duration = Duration::from_millis(50);

/// A proxy with two places, both taken by requests that hang until the fault is cleared.
async fn full(queue: usize, queue_timeout: &str) -> (Sandbox, Proxy, [JoinHandle<Answer>; 2]) {
    let upstream =
        format!("[upstream]\nmax_in_flight = 2\nqueue = {queue}\nqueue_timeout = \"{queue_timeout}\"\n");
    let (sandbox, proxy) = start(&upstream).await;
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
    let asked = [(); 2].map(|()| ask(proxy.client()));
    sandbox.seen().wait_for(|counts| counts.api_requests == 2).await;
    (sandbox, proxy, asked)
}

fn ask(client: Client) -> JoinHandle<Answer> {
    tokio::spawn(async move { client.graphql(ME).await })
}

/// The answer that comes first, and the one that is still to come.
async fn either(mut one: JoinHandle<Answer>, mut other: JoinHandle<Answer>) -> (Answer, JoinHandle<Answer>) {
    tokio::select! {
        answer = &mut one => (answer.unwrap(), other),
        answer = &mut other => (answer.unwrap(), one),
    }
}

#[tokio::test]
async fn who_finds_the_queue_full_is_told_so_at_once() {
    let (sandbox, proxy, asked) = full(0, LONG).await;
    let mut quickest = AT_ONCE;
    for _ in 0..5 {
        let since = Instant::now();
        let refused = proxy.client().graphql(ME).await;
        quickest = quickest.min(since.elapsed());
        refused.assert_refused(503, "OVERLOADED");
    }
    assert!(quickest < AT_ONCE);
    let refused = proxy.client().graphql(ME).await;
    refused.assert_refused(503, "OVERLOADED");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(
        refused.headers["proxy-status"],
        "fluent-auth-proxy; error=connection_limit_reached"
    );
    assert_eq!(sandbox.seen().counts().api_requests, 2);
    sandbox.faults().clear();
    for answer in asked {
        answer.await.unwrap().assert_good();
    }
    proxy.client().graphql(ME).await.assert_good();
}

#[tokio::test]
async fn at_twice_what_fits_half_is_told_so_at_once_and_half_is_served() {
    const PLACES: usize = 64;
    let toml = format!("[upstream]\nmax_in_flight = {PLACES}\nqueue = {PLACES}\n");
    let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), &toml).await;
    sandbox.seen().wait_for(|counts| counts.tokens_issued == 1).await;
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
    let asked: Vec<_> = (0..4 * PLACES).map(|_| ask(proxy.client())).collect();
    // Time stands still and nobody is let go: what is answered now was answered at once.
    frozen.settle().await;
    let (refused, waiting): (Vec<_>, Vec<_>) = asked.into_iter().partition(JoinHandle::is_finished);
    assert_eq!((refused.len(), waiting.len()), (2 * PLACES, 2 * PLACES));
    for answer in refused {
        let answer = answer.await.unwrap();
        answer.assert_refused(503, "OVERLOADED");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(sandbox.seen().counts().api_requests, PLACES as u64);
    sandbox.faults().clear();
    for answer in waiting {
        answer.await.unwrap().assert_good();
    }
    assert_eq!(sandbox.seen().counts().api_requests, 2 * PLACES as u64);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn who_queues_is_served_when_a_place_comes_free() {
    let (sandbox, proxy, asked) = full(1, LONG).await;
    let (one, other) = (ask(proxy.client()), ask(proxy.client()));
    // One of the two queues; the other, whoever it is, is refused.
    let (refused, waiting) = either(one, other).await;
    refused.assert_refused(503, "OVERLOADED");
    assert_eq!(sandbox.seen().counts().api_requests, 2);
    sandbox.faults().clear();
    for answer in asked {
        answer.await.unwrap().assert_good();
    }
    waiting.await.unwrap().assert_good();
}

#[tokio::test]
async fn who_queues_for_too_long_is_told_so() {
    let (sandbox, proxy, asked) = full(1, "100ms").await;
    let since = Instant::now();
    proxy.client().graphql(ME).await.assert_refused(503, "OVERLOADED");
    assert!(since.elapsed() >= Duration::from_millis(100));
    assert_eq!(sandbox.seen().counts().api_requests, 2);
    sandbox.faults().clear();
    for answer in asked {
        answer.await.unwrap().assert_good();
    }
}

#[tokio::test]
async fn who_leaves_the_queue_makes_room_in_it() {
    let (sandbox, proxy, asked) = full(1, LONG).await;
    let (refused, leaver) = either(ask(proxy.client()), ask(proxy.client())).await;
    refused.assert_refused(503, "OVERLOADED");
    leaver.abort();
    // There is room as soon as the proxy sees that the caller left: then one of two queues again.
    let next = loop {
        let (one, other) = (ask(proxy.client()), ask(proxy.client()));
        let (refused, mut next) = either(one, other).await;
        refused.assert_refused(503, "OVERLOADED");
        match tokio::time::timeout(AT_ONCE, &mut next).await {
            Ok(answer) => answer.unwrap().assert_refused(503, "OVERLOADED"),
            Err(_) => break next,
        }
    };
    sandbox.faults().clear();
    next.await.unwrap().assert_good();
    for answer in asked {
        answer.await.unwrap().assert_good();
    }
}

#[tokio::test]
async fn a_place_is_held_to_the_end_of_the_answer_or_until_its_caller_leaves() {
    let (sandbox, proxy) =
        start("[upstream]\nmax_in_flight = 1\nqueue = 0\n[listen]\npaths = [\"/graphql\", \"/api/*\"]").await;
    let large = http::Request::get("/api/v4.1/download?bytes=268435456");
    let answer = proxy
        .client()
        .head(large.body(super::support::full("")).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    body.frame().await.unwrap().unwrap();
    proxy.client().graphql(ME).await.assert_refused(503, "OVERLOADED");
    drop(body);
    loop {
        let answer = proxy.client().graphql(ME).await;
        if answer.code().is_none() {
            answer.assert_good();
            break;
        }
        answer.assert_refused(503, "OVERLOADED");
    }
    drop(sandbox);
}
