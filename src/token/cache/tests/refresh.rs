//! Rule 9: refresh tokens.

use super::*;
use crate::token::grant::REFRESH_GRANT;

/// A token of an hour that comes with a refresh token.
fn pair(text: &str, refresh_token: &str) -> Outcome {
    let answer = token(text, 3600)?;
    Ok(Answer {
        refresh_token: Some(Secret::new(refresh_token.to_owned())),
        ..answer
    })
}

/// Logins give `T1` with `R1` and so on; refreshes go by `on_refresh`.
fn start(refresh: Refresh, on_refresh: fn(usize) -> Outcome) -> (Arc<Endpoint>, TokenCache, Source) {
    let mut endpoint = Endpoint::open(|n| pair(&format!("T{n}"), &format!("R{n}")));
    Arc::get_mut(&mut endpoint).unwrap().on_refresh = on_refresh;
    let users = [("default", "default", login("ann"))];
    let (cache, ..) = cache_with(&users, Policy { refresh, ..POLICY }, &endpoint);
    let source = cache.source("default", "default").unwrap();
    (endpoint, cache, source)
}

fn refreshed(endpoint: &Endpoint) -> Vec<String> {
    endpoint.refreshed.lock().unwrap().clone()
}

async fn new_token(source: &Source, old: &AccessToken) -> String {
    match replaced(source.reject(old)).await.unwrap() {
        Replacement::New(token) => bearer(&token),
        Replacement::Same => panic!("the same token came again"),
    }
}

#[tokio::test(start_paused = true)]
async fn rule_9_a_rejected_token_is_refreshed_with_the_latest_refresh_token() {
    let (endpoint, cache, source) = start(Refresh::Late, |n| pair(&format!("F{n}"), &format!("N{n}")));
    let first = source.obtain().await.unwrap();
    assert_eq!(new_token(&source, &first).await, "Bearer F1");
    let second = source.ready().unwrap();
    assert_eq!(new_token(&source, &second).await, "Bearer F2");
    assert_eq!(refreshed(&endpoint), ["R1", "N1"]);
    assert_eq!(endpoint.asked(), 1);
    let status = status(&cache);
    assert_eq!(status.obtained_by, Some(REFRESH_GRANT));
    let logins: Vec<_> = cache
        .logins()
        .map(|(_, grant, logins)| (grant, logins.ok))
        .collect();
    assert_eq!(logins, [("password", 1), (REFRESH_GRANT, 2)]);
}

#[tokio::test(start_paused = true)]
async fn rule_9_a_dead_token_is_refreshed_and_one_that_only_ages_is_not() {
    let (endpoint, _cache, source) = start(Refresh::Late, |n| pair(&format!("F{n}"), &format!("N{n}")));
    source.obtain().await.unwrap();
    advance(AGEING).await;
    source.ready().unwrap();
    settle().await;
    assert_eq!(endpoint.asked(), 2);
    assert_eq!(refreshed(&endpoint), Vec::<String>::new());
    advance(HOUR).await;
    assert_eq!(bearer(&source.obtain().await.unwrap()), "Bearer F1");
    assert_eq!(refreshed(&endpoint), ["R2"]);
}

#[tokio::test(start_paused = true)]
async fn rule_9_an_early_refresh_renews_ahead() {
    let (endpoint, _cache, source) = start(Refresh::Early, |n| pair(&format!("F{n}"), &format!("N{n}")));
    source.obtain().await.unwrap();
    advance(AGEING).await;
    source.ready().unwrap();
    settle().await;
    assert_eq!(bearer(&source.ready().unwrap()), "Bearer F1");
    assert_eq!(
        (endpoint.asked(), refreshed(&endpoint)),
        (1, vec!["R1".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn rule_9_a_refused_refresh_token_falls_back_to_the_credentials_once() {
    let (endpoint, cache, source) = start(Refresh::Late, |_| Err(REFUSED));
    let first = source.obtain().await.unwrap();
    assert_eq!(new_token(&source, &first).await, "Bearer T2");
    assert_eq!((endpoint.asked(), refreshed(&endpoint).len()), (2, 1));
    let status = status(&cache);
    assert_eq!((status.login, status.logins.refused), (LoginState::Ok, 0));
    let refused: Vec<_> = cache
        .logins()
        .map(|(_, grant, logins)| (grant, logins.refused))
        .collect();
    assert_eq!(refused, [("password", 0), (REFRESH_GRANT, 1)]);
}

#[tokio::test(start_paused = true)]
async fn rule_9_a_refresh_token_whose_fate_is_unknown_is_never_used_again() {
    let (endpoint, _cache, source) = start(Refresh::Late, |_| Err(Trouble::TimedOut.into()));
    let first = source.obtain().await.unwrap();
    assert!(replaced(source.reject(&first)).await.is_err());
    assert_eq!(endpoint.asked(), 1);
    advance(Duration::from_secs(30)).await;
    assert_eq!(bearer(&source.obtain().await.unwrap()), "Bearer T2");
    assert_eq!(refreshed(&endpoint), ["R1"]);
}

#[tokio::test(start_paused = true)]
async fn rule_9_a_refresh_token_that_was_never_sent_is_used_when_it_can_be() {
    let (endpoint, _cache, source) = start(Refresh::Late, |n| match n {
        1 => Err(UNREACHABLE),
        _ => pair("F", "N"),
    });
    let first = source.obtain().await.unwrap();
    assert!(replaced(source.reject(&first)).await.is_err());
    advance(Duration::from_secs(30)).await;
    assert_eq!(bearer(&source.obtain().await.unwrap()), "Bearer F");
    assert_eq!(
        (endpoint.asked(), refreshed(&endpoint)),
        (1, vec!["R1".to_owned(); 2])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rule_9_any_number_of_callers_use_a_refresh_token_once() {
    let (endpoint, _cache, source) = start(Refresh::Late, |n| pair(&format!("F{n}"), &format!("N{n}")));
    let old = source.obtain().await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..500 {
        let (source, old) = (source.clone(), old.clone());
        callers.spawn(async move { new_token(&source, &old).await });
    }
    for bearer in callers.join_all().await {
        assert_eq!(bearer, "Bearer F1");
    }
    assert_eq!(
        (endpoint.asked(), refreshed(&endpoint)),
        (1, vec!["R1".to_owned()])
    );
}
