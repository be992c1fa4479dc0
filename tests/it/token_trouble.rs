//! A token endpoint that is not well: what callers are told, how little it is asked, how all is well again.

use std::time::Duration;

use fluent_sandbox::{Account, Config, Fault, Injection, Place, Sandbox, SignOn, Times, When};
use serde_json::Value;

use super::support::{Answer, Frozen, PASSWORD, Proxy, USERNAME, account, fluent, sandbox};

const ME: &str = "{ me { id } }";
const TIMEOUT: &str = "[fluent.token]\ntimeout = \"2s\"";
const REFUSED: (u16, &str) = (502, "CREDENTIALS_REFUSED");
const UNAVAILABLE: (u16, &str) = (503, "TOKEN_UNAVAILABLE");
/// The cool-down after a refusal.
const COOL_DOWN: u64 = 16 * 60;

fn status(code: u16, body: &str) -> Fault {
    Fault::Status {
        code,
        retry_after: None,
        body: Some(body.to_owned()),
    }
}

fn retry_after(answer: &Answer) -> u64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

/// The default user's part of the status page.
async fn user(proxy: &Proxy) -> Value {
    let status = proxy.admin().get("/status").await.json();
    status["instances"]["default"]["users"]["default"].clone()
}

/// A sandbox whose token endpoint has this trouble until it is cleared, and a proxy that has met it once.
async fn start(injection: Injection) -> (Frozen, Sandbox, Proxy) {
    let mut frozen = Frozen::now();
    let sandbox = sandbox(fluent()).await;
    let hangs = injection.fault == Fault::Hang;
    sandbox.faults().add(injection.times(Times::Always));
    let proxy = frozen.proxy(&sandbox.url(), TIMEOUT);
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    if hangs {
        frozen.advance(Duration::from_secs(2)).await;
    }
    frozen.settle().await;
    (frozen, sandbox, proxy)
}

/// What every trouble has in common, from the first answer to the recovery.
async fn assert_told_kept_and_overcome(injection: Injection, (code, word): (u16, &str)) {
    let what = format!("{injection:?}");
    let (frozen, sandbox, proxy) = start(injection).await;
    let mut wait = 0;
    for _ in 0..50 {
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(code, word);
        wait = retry_after(&answer);
    }
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 0), "{what}");
    assert_eq!(proxy.admin().get("/readyz").await.status, 503, "{what}");
    let user = user(&proxy).await;
    let login = if word == REFUSED.1 {
        "refused"
    } else {
        "unavailable"
    };
    assert_eq!(
        (&user["state"], &user["login"]),
        (&"empty".into(), &login.into()),
        "{what}"
    );
    assert_eq!(user["logins"][login], 1, "{what}");
    assert!(user["last_error"].is_string(), "{what}: {user}");
    assert_eq!(user["next_attempt_in_seconds"], wait, "{what}");
    sandbox.faults().clear();
    frozen.advance(Duration::from_secs(wait)).await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(sandbox.seen().counts().token_requests, 2, "{what}");
    assert_eq!(proxy.admin().get("/readyz").await.status, 200, "{what}");
    let user = self::user(&proxy).await;
    assert_eq!(
        (&user["state"], &user["login"]),
        (&"fresh".into(), &"ok".into()),
        "{what}"
    );
    assert!(user["last_error"].is_null(), "{what}: {user}");
    assert!(user["next_attempt_in_seconds"].is_null(), "{what}: {user}");
    frozen.end(proxy).await;
}

#[tokio::test]
async fn trouble_is_told_at_once_and_overcome_without_a_restart() {
    for fault in [
        Fault::Hang,
        Fault::Html,
        Fault::Empty,
        Fault::NoToken,
        Fault::Cut,
        Fault::Reset,
        Fault::Close,
        status(500, r#"{"error":"server_error"}"#),
        status(502, "{}"),
        status(503, "{}"),
        status(504, "{}"),
        status(404, "{}"),
        status(408, "{}"),
        status(425, "{}"),
        status(429, "{}"),
        status(204, ""),
        status(201, r#"{"access_token":"a-token-that-came-with-a-wrong-status"}"#),
    ] {
        assert_told_kept_and_overcome(Injection::new(Place::Token, fault), UNAVAILABLE).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_login_is_trouble_like_another() {
    for fault in [Fault::Hang, Fault::Cut, Fault::Reset, Fault::Close] {
        let lost = Injection::new(Place::Token, fault).when(When::AfterExecution);
        assert_told_kept_and_overcome(lost, UNAVAILABLE).await;
    }
}

#[tokio::test]
async fn refused_credentials_are_left_alone_for_the_cool_down() {
    let sso = r#"{"errors":[{"code":"400","message":"The username or password you entered is incorrect. Please try again."}]}"#;
    for fault in [
        status(
            400,
            r#"{"error":"invalid_grant","error_description":"Bad credentials"}"#,
        ),
        status(401, r#"{"error":"invalid_client"}"#),
        status(400, r#"{"error":"invalid_scope"}"#),
        status(403, "<html>"),
        status(500, sso),
    ] {
        assert_told_kept_and_overcome(Injection::new(Place::Token, fault.clone()), REFUSED).await;
        let (frozen, sandbox, proxy) = start(Injection::new(Place::Token, fault)).await;
        sandbox.faults().clear();
        let answer = proxy.client().graphql(ME).await;
        assert_eq!(retry_after(&answer), COOL_DOWN);
        frozen.advance(Duration::from_secs(COOL_DOWN - 1)).await;
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(REFUSED.0, REFUSED.1);
        assert_eq!(retry_after(&answer), 1);
        assert_eq!(sandbox.seen().counts().token_requests, 1);
        frozen.end(proxy).await;
    }
}

#[tokio::test]
async fn what_fluent_itself_refuses_costs_one_login_however_many_ask() {
    for account in [
        Account {
            password: "another".to_owned(),
            ..account()
        },
        Account {
            client_secret: "another".to_owned(),
            ..account()
        },
        Account {
            sign_on: SignOn::SingleSignOn,
            ..account()
        },
    ] {
        let config = Config {
            accounts: vec![account],
            ..fluent()
        };
        let (frozen, sandbox, proxy) = Frozen::start(config, "").await;
        for _ in 0..100 {
            let answer = proxy.client().graphql(ME).await;
            answer.assert_refused(REFUSED.0, REFUSED.1);
        }
        assert_eq!(sandbox.seen().counts().token_requests, 1);
        frozen.end(proxy).await;
    }
}

#[tokio::test]
async fn a_wrong_password_never_locks_the_account() {
    let config = Config {
        accounts: vec![Account {
            password: format!("{PASSWORD} but another"),
            ..account()
        }],
        ..fluent()
    };
    let (frozen, sandbox, proxy) = Frozen::start(config, TIMEOUT).await;
    for _ in 0..240 {
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(REFUSED.0, REFUSED.1);
        assert!(!sandbox.is_locked(USERNAME));
        frozen.advance(Duration::from_secs(30)).await;
    }
    // Two hours, one attempt each 16 minutes.
    assert_eq!(sandbox.seen().counts().password_logins, 8);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn logins_without_an_answer_are_four_in_a_quarter_of_an_hour_at_most() {
    let (frozen, sandbox, proxy) = start(Injection::new(Place::Token, Fault::Reset)).await;
    for _ in 0..360 {
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(UNAVAILABLE.0, UNAVAILABLE.1);
        frozen.advance(Duration::from_secs(10)).await;
    }
    let logins = sandbox.seen().counts().password_logins;
    assert!((8..=16).contains(&logins), "{logins} in an hour");
    assert_eq!(sandbox.seen().login_invariant_violations(), []);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn retry_after_is_honoured_and_told() {
    let busy = Fault::Status {
        code: 503,
        retry_after: Some("120".to_owned()),
        body: None,
    };
    let (frozen, sandbox, proxy) = start(Injection::new(Place::Token, busy)).await;
    let answer = proxy.client().graphql(ME).await;
    answer.assert_refused(UNAVAILABLE.0, UNAVAILABLE.1);
    assert_eq!(retry_after(&answer), 120);
    sandbox.faults().clear();
    frozen.advance(Duration::from_secs(119)).await;
    let answer = proxy.client().graphql(ME).await;
    assert_eq!(retry_after(&answer), 1);
    assert_eq!(sandbox.seen().counts().token_requests, 1);
    frozen.advance(Duration::from_secs(1)).await;
    proxy.client().graphql(ME).await.assert_good();
    frozen.end(proxy).await;
}

#[tokio::test]
async fn an_endpoint_that_is_away_is_found_when_it_is_back() {
    let frozen = Frozen::now();
    let sandbox = sandbox(fluent()).await;
    sandbox.stop_listening().await;
    let proxy = frozen.proxy(&sandbox.url(), TIMEOUT);
    let mut wait = 0;
    for _ in 0..20 {
        let answer = proxy.client().graphql(ME).await;
        answer.assert_refused(UNAVAILABLE.0, UNAVAILABLE.1);
        wait = retry_after(&answer);
        frozen.advance(Duration::from_secs(wait)).await;
    }
    assert!(wait <= 30, "{wait}");
    sandbox.listen_again().await.unwrap();
    frozen.advance(Duration::from_secs(31)).await;
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(sandbox.seen().counts().token_requests, 1);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn the_default_instance_recovers_without_traffic() {
    let (frozen, sandbox, proxy) = start(Injection::new(Place::Token, status(503, "{}"))).await;
    sandbox.faults().clear();
    frozen.advance(Duration::from_secs(31)).await;
    sandbox.seen().wait_for(|counts| counts.tokens_issued == 1).await;
    assert_eq!(sandbox.seen().counts().token_requests, 2);
    frozen.end(proxy).await;
}

#[tokio::test]
async fn credentials_never_follow_a_redirect() {
    let elsewhere = sandbox(fluent()).await;
    let fault = Fault::Redirect(format!("{}/oauth/token", elsewhere.url()));
    assert_told_kept_and_overcome(Injection::new(Place::Token, fault), UNAVAILABLE).await;
    assert_eq!(elsewhere.seen().counts().connections, 0);
}

#[tokio::test]
async fn ready_once_is_ready_though_the_token_is_gone() {
    let (frozen, sandbox, proxy) = Frozen::start(fluent(), TIMEOUT).await;
    proxy.client().graphql(ME).await.assert_good();
    sandbox.revoke_access_tokens();
    sandbox.faults().inject(
        Place::Token,
        Times::Always,
        status(400, r#"{"error":"invalid_grant"}"#),
    );
    let answer = proxy.client().graphql(ME).await;
    answer.assert_refused(REFUSED.0, REFUSED.1);
    assert_eq!(proxy.admin().get("/readyz").await.status, 200);
    let user = user(&proxy).await;
    assert_eq!(
        (&user["state"], &user["login"]),
        (&"empty".into(), &"refused".into())
    );
    frozen.end(proxy).await;
}
