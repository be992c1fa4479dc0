//! A token endpoint in trouble: what callers hear, what is tried again and when.

use std::time::Duration;

use fluent_sandbox::{Account, Config, Fault, Place, Sandbox, SignOn, Times};

use super::support::{Answer, Client, Proxy, fluent, start};

const ME: &str = "{ me { id } }";

fn retry_after(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

/// A client that comes back when it is told to, a few times.
async fn served_in_the_end(client: Client) {
    for _ in 0..10 {
        let answer = client.graphql(ME).await;
        if answer.status == 200 {
            return answer.assert_good();
        }
        tokio::time::sleep(Duration::from_secs(retry_after(&answer))).await;
    }
    panic!("no recovery");
}

async fn assert_not_ready(proxy: &Proxy) {
    let ready = proxy.admin().get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.json()["reason"].is_string());
    assert_eq!(proxy.admin().get("/livez").await.status, 200);
}

/// Starts before a token endpoint with this fault, sees it told, mends it and sees the recovery.
async fn trouble(fault: Fault, settings: &str) {
    let sandbox = Sandbox::start(fluent()).await.unwrap();
    sandbox.faults().inject(Place::Token, Times::Always, fault);
    let proxy = Proxy::start(&sandbox.url(), settings).await;
    let answer = proxy.client().graphql(ME).await;
    answer.assert_refused(503, "TOKEN_UNAVAILABLE");
    assert!(retry_after(&answer) >= 1);
    assert_not_ready(&proxy).await;
    let user = proxy.admin().get("/status").await.json()["instances"]["default"]["users"]["default"].clone();
    assert_eq!(
        (&user["state"], &user["login"]),
        (&"empty".into(), &"unavailable".into())
    );
    assert!(user["last_error"].is_string());
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    sandbox.faults().clear();
    served_in_the_end(proxy.client()).await;
    assert_eq!(proxy.admin().get("/readyz").await.status, 200);
    assert!(sandbox.seen().login_invariant_violations().is_empty());
    proxy.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_given_up_in_time() {
    trouble(Fault::Hang, "fluent.token.timeout = \"500ms\"").await;
}

#[tokio::test]
async fn an_endpoint_that_talks_nonsense_is_trouble() {
    let cases = [Fault::Html, Fault::Empty, Fault::Cut, Fault::NoToken];
    let cases = cases.map(|fault| tokio::spawn(trouble(fault, "")));
    for case in cases {
        case.await.unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_whose_connections_die_is_trouble() {
    let cases = [Fault::Reset, Fault::Close].map(|fault| tokio::spawn(trouble(fault, "")));
    for case in cases {
        case.await.unwrap();
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let elsewhere = Sandbox::start(fluent()).await.unwrap();
    trouble(Fault::Redirect(format!("{}/oauth/token", elsewhere.url())), "").await;
    assert_eq!(elsewhere.seen().counts().connections, 0);
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_trouble_until_it_is_back() {
    let sandbox = Sandbox::start(fluent()).await.unwrap();
    sandbox.stop_listening().await;
    let proxy = Proxy::start(&sandbox.url(), "").await;
    proxy
        .client()
        .graphql(ME)
        .await
        .assert_refused(503, "TOKEN_UNAVAILABLE");
    assert_not_ready(&proxy).await;
    sandbox.listen_again().await.unwrap();
    served_in_the_end(proxy.client()).await;
    proxy.stop().await;
}

#[tokio::test]
async fn retry_after_is_honoured_and_the_stored_failure_told_at_once() {
    let sandbox = Sandbox::start(fluent()).await.unwrap();
    let busy = Fault::Status {
        code: 503,
        retry_after: Some("600".to_owned()),
        body: None,
    };
    sandbox.faults().inject(Place::Token, Times::Always, busy);
    let proxy = Proxy::start(&sandbox.url(), "").await;
    sandbox.seen().wait_for(|counts| counts.token_answers == 1).await;
    for _ in 0..100 {
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(503, "TOKEN_UNAVAILABLE");
        assert!((590..=600).contains(&retry_after(&answer)));
    }
    assert_eq!(sandbox.seen().counts().token_requests, 1);
    proxy.stop().await;
}

/// Starts before a Fluent that refuses the credentials: one login, and no more however many ask.
async fn refused(config: Config) {
    let sandbox = Sandbox::start(config).await.unwrap();
    let proxy = Proxy::start(&sandbox.url(), "").await;
    for _ in 0..100 {
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(502, "CREDENTIALS_REFUSED");
        assert!(
            (900..=960).contains(&retry_after(&answer)),
            "the default cool-down is 16 minutes"
        );
    }
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 0));
    assert_not_ready(&proxy).await;
    let user = proxy.admin().get("/status").await.json()["instances"]["default"]["users"]["default"].clone();
    assert_eq!(user["login"], "refused");
    assert!(
        user["next_attempt_in_seconds"]
            .as_u64()
            .is_some_and(|seconds| seconds > 900)
    );
    proxy.stop().await;
}

#[tokio::test]
async fn a_wrong_password_costs_one_login() {
    let account = Account {
        password: "another".to_owned(),
        ..super::support::account()
    };
    refused(Config {
        accounts: vec![account],
        ..fluent()
    })
    .await;
}

#[tokio::test]
async fn a_wrong_client_costs_one_login() {
    let account = Account {
        client_secret: "another".to_owned(),
        ..super::support::account()
    };
    refused(Config {
        accounts: vec![account],
        ..fluent()
    })
    .await;
}

#[tokio::test]
async fn a_user_of_single_sign_on_costs_one_login_though_fluent_says_500() {
    let account = Account {
        sign_on: SignOn::SingleSignOn,
        ..super::support::account()
    };
    refused(Config {
        accounts: vec![account],
        ..fluent()
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_over_with_its_cool_down() {
    let sandbox = Sandbox::start(fluent()).await.unwrap();
    let refusal = Fault::Status {
        code: 400,
        retry_after: None,
        body: None,
    };
    sandbox.faults().inject(Place::Token, Times::Once, refusal);
    let proxy = Proxy::start(&sandbox.url(), "fluent.token.cool_down = \"1s\"").await;
    proxy
        .client()
        .graphql(ME)
        .await
        .assert_refused(502, "CREDENTIALS_REFUSED");
    served_in_the_end(proxy.client()).await;
    assert_eq!(sandbox.seen().counts().token_requests, 2);
    proxy.stop().await;
}

#[tokio::test]
async fn a_401_while_the_endpoint_is_down_is_told_as_the_failure_of_the_login() {
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    sandbox.revoke_access_tokens();
    sandbox.faults().inject(Place::Token, Times::Once, Fault::Close);
    proxy
        .client()
        .graphql(ME)
        .await
        .assert_refused(503, "TOKEN_UNAVAILABLE");
    served_in_the_end(proxy.client()).await;
    assert_eq!(proxy.admin().get("/readyz").await.status, 200);
    proxy.stop().await;
}
