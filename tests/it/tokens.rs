//! Tokens: how few logins serve how many requests.

use std::time::Duration;

use fluent_sandbox::{Config, ExpiresIn, Fault, Place, Sandbox, Times, TokenReuse};
use tokio::task::JoinHandle;

use super::support::{Answer, Client, Frozen, fluent};

const ME: &str = "{ me { id } }";

fn new_each_time() -> Config {
    Config {
        token_reuse: TokenReuse::NewEachTime,
        ..fluent()
    }
}

fn lifetime(seconds: u64, config: Config) -> Config {
    Config {
        token_lifetime: Duration::from_secs(seconds),
        ..config
    }
}

/// So many callers at once.
fn callers(client: Client, number: usize) -> Vec<JoinHandle<Answer>> {
    let calls = std::iter::repeat_with(|| tokio::spawn(client.graphql(ME)));
    calls.take(number).collect()
}

async fn assert_all_good(calls: Vec<JoinHandle<Answer>>) {
    for call in calls {
        call.await.unwrap().assert_good();
    }
}

/// The statuses of the requests that Fluent saw, in order.
fn statuses(sandbox: &Sandbox) -> Vec<u16> {
    let requests = sandbox.seen().api_requests();
    requests.iter().filter_map(|request| request.status).collect()
}

#[tokio::test]
async fn a_thousand_callers_on_an_empty_cache_share_one_login() {
    let mut frozen = Frozen::now();
    let sandbox = super::support::sandbox(fluent()).await;
    sandbox.faults().inject(Place::Token, Times::Always, Fault::Hang);
    let proxy = frozen.proxy(&sandbox.url(), "");
    let calls = callers(proxy.client(), 1000);
    frozen.settle().await;
    assert!(calls.iter().all(|call| !call.is_finished()));
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    sandbox.faults().clear();
    assert_all_good(calls).await;
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 1000));
    frozen.end(proxy).await;
}

#[tokio::test]
async fn five_hundred_401s_at_once_cost_one_login_and_no_caller_sees_one() {
    let (frozen, sandbox, proxy) = Frozen::start(fluent(), "").await;
    proxy.client().graphql(ME).await.assert_good();
    let before = sandbox.seen().counts();
    sandbox
        .faults()
        .inject(Place::Api, Times::Count(500), Fault::Hang);
    let calls = callers(proxy.client(), 500);
    sandbox
        .seen()
        .wait_for(|counts| counts.faults == before.faults + 500)
        .await;
    sandbox.revoke_access_tokens();
    sandbox.faults().clear();
    assert_all_good(calls).await;
    let counts = sandbox.seen().counts();
    assert_eq!(counts.token_requests, before.token_requests + 1);
    assert_eq!(counts.api_unauthorized, 500);
    assert_eq!(counts.api_requests, before.api_requests + 1000);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_401_that_no_token_cures_reaches_the_caller_as_it_came_and_the_good_token_stays() {
    let (frozen, sandbox, proxy) = Frozen::start(fluent(), "").await;
    sandbox
        .faults()
        .inject(Place::Api, Times::Always, Fault::NoRetailer);
    for _ in 0..1000 {
        let answer = proxy.client().graphql(ME).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, None));
        assert_eq!(
            &answer.body[..],
            br#"{"errors":[{"code":"InvalidInput","message":"Logged in user has no retailer"}]}"#
        );
    }
    let counts = sandbox.seen().counts();
    // The first login, and the three that the budget allows while time stands still. Each gave the same token,
    // so nothing was sent twice.
    assert_eq!((counts.token_requests, counts.api_requests), (4, 1000));
    for logins in 5..8 {
        frozen.advance(Duration::from_secs(10)).await;
        for _ in 0..5 {
            proxy.client().graphql(ME).await;
        }
        assert_eq!(sandbox.seen().counts().token_requests, logins, "one each 10 s");
    }
    sandbox.faults().clear();
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(sandbox.seen().counts().token_requests, 7, "the token stayed");
    frozen.end(proxy).await;
}

#[tokio::test]
async fn new_tokens_that_do_not_cure_a_401_cost_three_logins_and_three_replays() {
    let (frozen, sandbox, proxy) = Frozen::start(new_each_time(), "").await;
    sandbox
        .faults()
        .inject(Place::Api, Times::Always, Fault::Unauthorized);
    for call in 1_u64..=20 {
        assert_eq!(proxy.client().graphql(ME).await.status, 401);
        let counts = sandbox.seen().counts();
        assert_eq!(counts.api_requests, call + call.min(3), "call {call}");
        assert_eq!(counts.token_requests, 1 + call.min(3), "call {call}");
    }
    frozen.end(proxy).await;
}

#[tokio::test]
async fn the_budget_refills_each_lifetime_where_that_is_shorter() {
    let config = Config {
        expires_in: ExpiresIn::Exactly(5.into()),
        ..new_each_time()
    };
    let (frozen, sandbox, proxy) = Frozen::start(config, "").await;
    sandbox
        .faults()
        .inject(Place::Api, Times::Always, Fault::Unauthorized);
    for logins in [4, 6, 8] {
        for _ in 0..10 {
            assert_eq!(proxy.client().graphql(ME).await.status, 401);
        }
        // Of the two, one is for the token that died meanwhile.
        assert_eq!(sandbox.seen().counts().token_requests, logins);
        frozen.advance(Duration::from_secs(6)).await;
    }
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_token_that_dies_early_is_replaced_unseen() {
    for kill in [
        (|sandbox| sandbox.revoke_access_tokens()) as fn(&Sandbox),
        |sandbox| sandbox.skew_clock_forward(Duration::from_hours(25)),
    ] {
        let (frozen, sandbox, proxy) = Frozen::start(fluent(), "").await;
        proxy.client().graphql(ME).await.assert_good();
        kill(&sandbox);
        proxy.client().graphql(ME).await.assert_good();
        proxy.client().graphql(ME).await.assert_good();
        assert_eq!(statuses(&sandbox), [200, 401, 200, 200]);
        assert_eq!(sandbox.seen().counts().token_requests, 2);
        frozen.end(proxy).await;
    }
}

#[tokio::test]
async fn a_token_is_renewed_ahead_without_traffic() {
    let (mut frozen, sandbox, proxy) = Frozen::start(lifetime(600, new_each_time()), "").await;
    let seen = sandbox.seen();
    seen.wait_for(|counts| counts.tokens_issued == 1).await;
    for renewed in 2..6 {
        frozen.advance(Duration::from_secs(538)).await;
        frozen.settle().await;
        assert_eq!(
            seen.counts().token_requests,
            renewed - 1,
            "not before its margin of 60 s"
        );
        // Processes spread their renewals over a tenth of the margin.
        frozen.advance(Duration::from_secs(9)).await;
        seen.wait_for(|counts| counts.token_requests == renewed).await;
        frozen.settle().await;
    }
    assert_eq!(seen.counts().api_requests, 0);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn the_same_token_again_near_its_end_costs_two_token_requests_a_lifetime() {
    let (frozen, sandbox, proxy) = Frozen::start(lifetime(100, fluent()), "").await;
    for _ in 0..1000 {
        proxy.client().graphql(ME).await.assert_good();
        frozen.advance(Duration::from_secs(1)).await;
    }
    let counts = sandbox.seen().counts();
    assert!((10..=11).contains(&counts.tokens_issued), "{counts:?}");
    assert!(counts.token_requests <= 2 * counts.tokens_issued, "{counts:?}");
    assert!(
        counts.tokens_repeated >= 9,
        "the server gives the same token again"
    );
    assert!(counts.api_unauthorized <= counts.tokens_issued, "{counts:?}");
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_token_in_use_until_it_dies() {
    let (frozen, sandbox, proxy) = Frozen::start(lifetime(600, new_each_time()), "").await;
    proxy.client().graphql(ME).await.assert_good();
    let down = Fault::Status {
        code: 503,
        retry_after: None,
        body: None,
    };
    sandbox.faults().inject(Place::Token, Times::Always, down);
    frozen.advance(Duration::from_secs(550)).await;
    for _ in 0..20 {
        proxy.client().graphql(ME).await.assert_good();
    }
    sandbox.seen().wait_for(|counts| counts.token_answers == 2).await;
    let status = proxy.admin().get("/status").await.json();
    let user = &status["instances"]["default"]["users"]["default"];
    assert_eq!(
        (&user["state"], &user["login"]),
        (&"ageing".into(), &"unavailable".into())
    );
    frozen.advance(Duration::from_mins(1)).await;
    let answer = proxy.client().graphql(ME).await;
    answer.assert_refused(503, "TOKEN_UNAVAILABLE");
    sandbox.faults().clear();
    frozen.advance(Duration::from_secs(31)).await;
    proxy.client().graphql(ME).await.assert_good();
    frozen.end(proxy).await;
}

#[tokio::test]
async fn callers_who_leave_do_not_cancel_the_login_of_those_who_stay() {
    let mut frozen = Frozen::now();
    let sandbox = super::support::sandbox(fluent()).await;
    sandbox.faults().inject(Place::Token, Times::Always, Fault::Hang);
    let proxy = frozen.proxy(&sandbox.url(), "");
    let leaving = callers(proxy.client(), 50);
    frozen.settle().await;
    let staying = callers(proxy.client(), 50);
    frozen.settle().await;
    for call in &leaving {
        call.abort();
    }
    frozen.settle().await;
    sandbox.faults().clear();
    assert_all_good(staying).await;
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 50));
    frozen.end(proxy).await;
}

#[tokio::test]
async fn a_lifetime_that_is_missing_or_absurd_is_bounded() {
    for (told, seconds) in [
        (ExpiresIn::Absent, 500_u64),
        (ExpiresIn::Text, 86_400),
        (ExpiresIn::Exactly((-5).into()), 1),
        (ExpiresIn::Exactly("soon".into()), 500),
        (ExpiresIn::Exactly(1e300.into()), 30 * 86_400),
    ] {
        let config = Config {
            expires_in: told.clone(),
            ..fluent()
        };
        let settings = "[fluent.token]\ndefault_lifetime = \"500s\"";
        let (frozen, sandbox, proxy) = Frozen::start(config, settings).await;
        proxy.client().graphql(ME).await.assert_good();
        let status = proxy.admin().get("/status").await.json();
        let left = &status["instances"]["default"]["users"]["default"]["expires_in_seconds"];
        assert_eq!(left, seconds, "{told:?}");
        assert_eq!(sandbox.seen().counts().token_requests, 1);
        frozen.end(proxy).await;
    }
}

#[tokio::test]
async fn a_rejected_token_is_refreshed_and_a_dead_refresh_token_costs_one_login() {
    let config = Config {
        refresh_tokens: true,
        ..fluent()
    };
    let (frozen, sandbox, proxy) = Frozen::start(config, "").await;
    proxy.client().graphql(ME).await.assert_good();
    sandbox.revoke_access_tokens();
    proxy.client().graphql(ME).await.assert_good();
    let page = proxy.admin().get("/metrics").await;
    let metrics = String::from_utf8_lossy(&page.body);
    for (grant, outcome, count) in [("password", "ok", 1), ("refresh_token", "ok", 1)] {
        let labels = format!("grant=\"{grant}\",outcome=\"{outcome}\"");
        let line = metrics.lines().find(|line| line.contains(&labels)).unwrap();
        assert!(line.ends_with(&format!(" {count}")), "{line}");
    }
    assert_eq!(sandbox.seen().counts().token_requests, 2);

    sandbox.revoke_access_tokens();
    sandbox.revoke_refresh_tokens();
    proxy.client().graphql(ME).await.assert_good();
    let counts = sandbox.seen().counts();
    assert_eq!((counts.password_logins, counts.refreshes), (2, 2));
    let status = proxy.admin().get("/status").await.json();
    let user = &status["instances"]["default"]["users"]["default"];
    assert_eq!(
        (&user["login"], &user["obtained_by"]),
        (&"ok".into(), &"password".into())
    );
    frozen.end(proxy).await;
}
