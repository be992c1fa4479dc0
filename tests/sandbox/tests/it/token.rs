//! The token endpoint.

use crate::support::{Bench, form, invalid_token};
use fluent_sandbox::{Account, Config, ExpiresIn, ParametersIn, SignOn, TokenOutcome, TokenReuse};
use serde_json::{Value, json};
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);

fn bad_credentials() -> Value {
    json!({"error": "invalid_grant", "error_description": "Bad credentials"})
}

#[tokio::test]
async fn a_login_gives_an_opaque_token_with_the_vendors_fields() {
    let bench = Bench::new().await;
    let (status, answer) = bench.ask(&[]).await;
    assert_eq!(status, 200);
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(token.len(), 27);
    assert!(
        token
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    );
    assert_eq!(
        (&answer["token_type"], &answer["scope"]),
        (&json!("bearer"), &json!("api"))
    );
    assert!((86_390..=86_400).contains(&answer["expires_in"].as_u64().unwrap()));
    assert_eq!(
        (&answer["Retailer_id"], &answer["FirstName"]),
        (&json!(1), &json!("Demo"))
    );
    assert_eq!(answer.get("refresh_token"), None);
}

#[tokio::test]
async fn parameters_are_read_from_form_and_query() {
    let bench = Bench::new().await;
    let query: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form(&[]))
        .finish();
    let url = bench.url(&format!("/oauth/token?{query}"));
    assert_eq!(bench.client.post(&url).send().await.unwrap().status(), 200);
    bench.token().await;
    let url = bench.url("/oauth/token?grant_type=password&scope=api");
    let rest = form(&[("grant_type", ""), ("scope", "")]);
    assert_eq!(
        bench.client.post(&url).form(&rest).send().await.unwrap().status(),
        200
    );
    let places: Vec<_> = bench
        .sandbox
        .seen()
        .token_requests()
        .iter()
        .map(|request| request.parameters_in)
        .collect();
    assert_eq!(
        places,
        [ParametersIn::Query, ParametersIn::Form, ParametersIn::Both]
    );
}

#[tokio::test]
async fn basic_authentication_of_the_client_is_refused() {
    let bench = Bench::new().await;
    let form = form(&[("client_id", ""), ("client_secret", "")]);
    let request = bench.client.post(bench.url("/oauth/token")).form(&form);
    let response = request
        .basic_auth("demo-client", Some("demo-client-secret"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test(start_paused = true)]
async fn asking_again_gives_the_same_token_with_the_time_left() {
    let bench = Bench::new().await;
    let (_, first) = bench.ask(&[]).await;
    tokio::time::advance(60 * MINUTE).await;
    let (_, second) = bench.ask(&[]).await;
    assert_eq!(first["access_token"], second["access_token"]);
    let fallen = first["expires_in"].as_u64().unwrap() - second["expires_in"].as_u64().unwrap();
    assert!((3_599..3_700).contains(&fallen), "{fallen}");
    tokio::time::advance(23 * 60 * MINUTE).await;
    assert_ne!(bench.token().await, first["access_token"].as_str().unwrap());
    let outcomes: Vec<_> = bench
        .sandbox
        .seen()
        .token_requests()
        .iter()
        .map(|request| request.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [TokenOutcome::Issued, TokenOutcome::Same, TokenOutcome::Issued]
    );
}

#[tokio::test]
async fn a_server_that_gives_a_new_token_each_time_keeps_the_old_one_alive() {
    let config = Config {
        token_reuse: TokenReuse::NewEachTime,
        ..Config::default()
    };
    let bench = Bench::with(config).await;
    let (old, new) = (bench.token().await, bench.token().await);
    assert_ne!(old, new);
    bench.data(&old, "{ me { id } }").await;
    bench.data(&new, "{ me { id } }").await;
}

#[tokio::test]
async fn a_refresh_token_works_once_and_kills_the_old_access_token() {
    let bench = Bench::with(Config {
        refresh_tokens: true,
        ..Config::default()
    })
    .await;
    let (_, first) = bench.ask(&[]).await;
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", first["refresh_token"].as_str().unwrap()),
    ];
    let (status, second) = bench.ask(&refresh).await;
    assert_eq!(status, 200);
    assert_ne!(first["access_token"], second["access_token"]);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let (status, answer) = bench
        .query(first["access_token"].as_str().unwrap(), "{ me { id } }")
        .await;
    assert_eq!((status, answer), (401, invalid_token()));
    bench
        .data(second["access_token"].as_str().unwrap(), "{ me { id } }")
        .await;
    let (status, answer) = bench.ask(&refresh).await;
    let used = json!({"error": "invalid_grant", "error_description": "Invalid refresh token"});
    assert_eq!((status, answer), (400, used));
}

#[tokio::test]
async fn a_client_has_a_token_of_its_own() {
    let bench = Bench::new().await;
    let grant = [
        ("grant_type", "client_credentials"),
        ("username", ""),
        ("password", ""),
    ];
    let (status, answer) = bench.ask(&grant).await;
    assert_eq!(status, 200);
    let token = answer["access_token"].as_str().unwrap();
    assert_ne!(token, bench.token().await);
    bench.data(token, "{ me { id } }").await;
}

#[tokio::test]
async fn refusals_are_the_vendors_to_the_letter() {
    let sso = Account {
        sign_on: SignOn::SingleSignOn,
        ..Account::new("sso", "pw")
    };
    let accounts = vec![Account::default(), sso];
    let bench = Bench::with(Config {
        accounts,
        ..Config::default()
    })
    .await;
    let oauth = |error: &str, text: &str| json!({"error": error, "error_description": text});
    let cases = [
        (vec![("password", "wrong")], 400, bad_credentials()),
        (vec![("username", "nobody")], 400, bad_credentials()),
        (
            vec![("client_secret", "wrong")],
            401,
            oauth("invalid_client", "Bad client credentials"),
        ),
        (
            vec![("client_id", "")],
            401,
            oauth("invalid_client", "Bad client credentials"),
        ),
        (
            vec![("scope", "all")],
            400,
            oauth("invalid_scope", "Invalid scope: all"),
        ),
        (
            vec![("grant_type", "")],
            400,
            oauth("invalid_request", "Missing grant type"),
        ),
        (
            vec![("grant_type", "magic")],
            400,
            oauth("unsupported_grant_type", "Unsupported grant type: magic"),
        ),
        (
            vec![("username", "sso"), ("password", "pw")],
            500,
            json!({"errors": [{
                "code": "400",
                "message": "The username or password you entered is incorrect. Please try again.",
            }]}),
        ),
    ];
    for (changes, status, body) in cases {
        assert_eq!(bench.ask(&changes).await, (status, body), "{changes:?}");
    }
    assert_eq!(
        bench
            .client
            .get(bench.url("/oauth/token"))
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
}

#[tokio::test]
async fn an_account_may_require_its_header() {
    let account = Account {
        fluent_account: Some("ACME".to_owned()),
        ..Account::default()
    };
    let bench = Bench::with(Config {
        accounts: vec![account],
        ..Config::default()
    })
    .await;
    assert_eq!(bench.ask(&[]).await.0, 400);
    let request = bench
        .client
        .post(bench.url("/oauth/token"))
        .header("fluent.account", "ACME");
    assert_eq!(request.form(&form(&[])).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn any_unicode_password_works() {
    let password = "pä ss+w&rd=%25 ü🔑\u{0000}\n\"\\";
    let accounts = vec![Account::new("unicode", password)];
    let bench = Bench::with(Config {
        accounts,
        ..Config::default()
    })
    .await;
    assert_eq!(
        bench
            .ask(&[("username", "unicode"), ("password", password)])
            .await
            .0,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn five_failures_lock_even_the_right_password_while_tokens_keep_working() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    for _ in 0..4 {
        assert_eq!(
            bench.ask(&[("password", "wrong")]).await,
            (400, bad_credentials())
        );
    }
    assert!(!bench.sandbox.is_locked("demo"));
    assert_eq!(
        bench.ask(&[("password", "wrong")]).await,
        (400, bad_credentials())
    );
    assert!(bench.sandbox.is_locked("demo"));
    assert_eq!(bench.ask(&[]).await, (400, bad_credentials()));
    bench.data(&token, "{ me { id } }").await;
    tokio::time::advance(14 * MINUTE).await;
    assert_eq!(bench.ask(&[]).await, (400, bad_credentials()));
    tokio::time::advance(14 * MINUTE).await;
    assert!(
        bench.sandbox.is_locked("demo"),
        "a refusal while locked is a failure too"
    );
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(bench.ask(&[]).await.0, 200);
    let seen = bench.sandbox.seen().token_requests();
    assert_eq!(seen[5].outcome, TokenOutcome::Refused);
    assert_eq!(seen[6].outcome, TokenOutcome::Locked);
}

#[tokio::test(start_paused = true)]
async fn failures_further_apart_than_the_window_do_not_lock() {
    let bench = Bench::new().await;
    for _ in 0..12 {
        bench.ask(&[("password", "wrong")]).await;
        tokio::time::advance(4 * MINUTE).await;
    }
    assert!(!bench.sandbox.is_locked("demo"));
    assert_eq!(bench.ask(&[]).await.0, 200);
}

#[tokio::test]
async fn a_skewed_clock_lets_tokens_die_early() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench.sandbox.skew_clock_forward(Duration::from_hours(25));
    assert_eq!(bench.query(&token, "{ me { id } }").await, (401, invalid_token()));
    bench.sandbox.skew_clock_back(Duration::from_hours(25));
    bench.data(&token, "{ me { id } }").await;
}

#[tokio::test]
async fn revoked_tokens_are_dead_and_the_next_login_gives_another() {
    let bench = Bench::new().await;
    let token = bench.token().await;
    bench.sandbox.revoke_access_tokens();
    assert_eq!(bench.query(&token, "{ me { id } }").await, (401, invalid_token()));
    assert_ne!(bench.token().await, token);
}

#[tokio::test]
async fn the_answer_can_be_shaped() {
    let shaped = async |token_field: &str, expires_in| {
        let config = Config {
            token_field: token_field.to_owned(),
            expires_in,
            ..Config::default()
        };
        Bench::with(config).await.ask(&[]).await.1
    };
    assert!(shaped("accessToken", ExpiresIn::Number).await["accessToken"].is_string());
    assert!(shaped("data.token", ExpiresIn::Number).await["data"]["token"].is_string());
    assert!(shaped("t", ExpiresIn::Text).await["expires_in"].is_string());
    assert_eq!(shaped("t", ExpiresIn::Absent).await.get("expires_in"), None);
    assert_eq!(
        shaped("t", ExpiresIn::Exactly(json!(-5))).await["expires_in"],
        json!(-5)
    );
}

#[tokio::test]
async fn no_secret_shows_in_debug() {
    let bench = Bench::with(Config {
        refresh_tokens: true,
        ..Config::default()
    })
    .await;
    let token = bench.token().await;
    bench.data(&token, "{ me { id } }").await;
    let seen = bench.sandbox.seen();
    let shown = format!(
        "{:?} {:?} {:?} {:?} {seen:?}",
        bench.sandbox.config(),
        bench.sandbox,
        seen.token_requests(),
        seen.api_requests(),
    );
    for secret in ["demo-password", "demo-client-secret", token.as_str()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(
        seen.token_requests()[0].parameter("password"),
        Some("demo-password")
    );
    assert_eq!(seen.api_requests()[0].bearer(), Some(token.as_str()));
}
