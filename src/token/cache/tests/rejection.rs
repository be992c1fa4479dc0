//! Rule 6: what follows from a 401.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rule_6_five_hundred_simultaneous_rejections_cost_one_login() {
    for _ in 0..20 {
        let endpoint = Endpoint::new_each_time();
        let (_cache, source, _) = cache(&endpoint);
        let old = source.obtain().await.unwrap();
        let mut callers = JoinSet::new();
        for _ in 0..500 {
            let (source, old) = (source.clone(), old.clone());
            callers.spawn(async move { replaced(source.reject(&old)).await.unwrap() });
        }
        for replacement in callers.join_all().await {
            assert!(matches!(replacement, Replacement::New(token) if bearer(&token) == "Bearer T2"));
        }
        assert_eq!(endpoint.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_6_a_late_rejection_of_an_older_token_costs_nothing() {
    let endpoint = Endpoint::new_each_time();
    let (_cache, source, _) = cache(&endpoint);
    let old = source.obtain().await.unwrap();
    replaced(source.reject(&old)).await.unwrap();
    advance(Duration::from_mins(10)).await;
    for _ in 0..10 {
        let replacement = replaced(source.reject(&old)).await.unwrap();
        assert!(matches!(replacement, Replacement::New(token) if bearer(&token) == "Bearer T2"));
    }
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_6_a_401_that_new_tokens_do_not_cure_costs_three_logins_and_one_each_ten_seconds() {
    let endpoint = Endpoint::new_each_time();
    let (_cache, source, _) = cache(&endpoint);
    let mut kept = 0;
    for _ in 0..1000 {
        let token = source.obtain().await.unwrap();
        match source.reject(&token) {
            Rejection::Kept => kept += 1,
            Rejection::Replacing(replacement) => drop(replacement.await.unwrap()),
        }
    }
    assert_eq!((endpoint.asked(), kept), (1 + 3, 997));
    assert_eq!(bearer(&source.ready().unwrap()), "Bearer T4");
    for refill in 1..=3 {
        advance(Duration::from_secs(10)).await;
        for _ in 0..10 {
            let token = source.obtain().await.unwrap();
            if let Rejection::Replacing(replacement) = source.reject(&token) {
                replacement.await.unwrap();
            }
        }
        assert_eq!(endpoint.asked(), 4 + refill);
    }
}

#[tokio::test(start_paused = true)]
async fn rule_6_the_budget_is_refilled_each_lifetime_where_that_is_shorter() {
    let endpoint = Endpoint::open(|n| token(&format!("T{n}"), 2));
    let (_cache, source, _) = cache(&endpoint);
    for _ in 0..3 {
        let token = source.obtain().await.unwrap();
        replaced(source.reject(&token)).await.unwrap();
    }
    let token = source.obtain().await.unwrap();
    assert!(matches!(source.reject(&token), Rejection::Kept));
    advance(Duration::from_secs(2)).await;
    let token = source.obtain().await.unwrap();
    replaced(source.reject(&token)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_6_a_login_for_a_long_life_takes_no_more_of_the_budget_than_one_for_a_short_life() {
    let endpoint = Endpoint::open(|n| token(&format!("T{n}"), if n == 1 { 3600 } else { 2 }));
    let (_cache, source, _) = cache(&endpoint);
    for _ in 0..3 {
        let token = source.obtain().await.unwrap();
        replaced(source.reject(&token)).await.unwrap();
    }
    assert_eq!(endpoint.asked(), 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn rule_6_the_same_token_again_is_put_back_and_nothing_is_replayed() {
    let endpoint = Endpoint::closed(|_| token("T", 3600));
    let (_cache, source, _) = cache(&endpoint);
    endpoint.gate.add_permits(1);
    let first = source.obtain().await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..500 {
        callers.spawn(replaced(source.reject(&first)));
    }
    assert!(
        source.ready().is_none(),
        "a rejected token is not served while it may be replaced"
    );
    settle().await;
    endpoint.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    for outcome in callers.join_all().await {
        assert!(matches!(outcome, Ok(Replacement::Same)));
    }
    assert!(
        matches!(replaced(source.reject(&first)).await, Ok(Replacement::Same)),
        "and late comers"
    );
    assert_eq!(endpoint.asked(), 2);
    for _ in 0..1000 {
        let token = source.ready().unwrap();
        if let Rejection::Replacing(replacement) = source.reject(&token) {
            assert!(matches!(replacement.await, Ok(Replacement::Same)));
        }
    }
    assert_eq!(endpoint.asked(), 1 + 3);
    assert!(source.ready().is_some());
}

#[tokio::test(start_paused = true)]
async fn rule_6_the_login_after_a_rejection_starts_though_nobody_waits() {
    let endpoint = Endpoint::new_each_time();
    let (_cache, source, _) = cache(&endpoint);
    let token = source.obtain().await.unwrap();
    drop(source.reject(&token));
    settle().await;
    assert_eq!(bearer(&source.ready().unwrap()), "Bearer T2");
}

#[tokio::test(start_paused = true)]
async fn rule_6_a_rejection_whose_login_fails_tells_all_who_wait_and_later_callers() {
    let endpoint = Endpoint::open(|n| if n == 1 { token("T", 3600) } else { Err(REFUSED) });
    let (cache, source, _) = cache(&endpoint);
    let token = source.obtain().await.unwrap();
    assert!(matches!(
        replaced(source.reject(&token)).await,
        Err(TokenError::Refused { .. })
    ));
    assert!(matches!(
        replaced(source.reject(&token)).await,
        Err(TokenError::Refused { .. })
    ));
    assert!(matches!(source.obtain().await, Err(TokenError::Refused { .. })));
    assert_eq!(endpoint.asked(), 2);
    assert_eq!(status(&cache).state, TokenState::Empty);
}

#[tokio::test(start_paused = true)]
async fn rule_6_a_renewal_under_way_serves_a_rejection_too() {
    let endpoint = Endpoint::closed(|n| token(&format!("T{n}"), 3600));
    let (_cache, source, _) = cache(&endpoint);
    endpoint.gate.add_permits(1);
    source.obtain().await.unwrap();
    advance(AGEING).await;
    let old = source.ready().unwrap();
    settle().await;
    let rejection = source.reject(&old);
    endpoint.gate.add_permits(1);
    assert!(matches!(replaced(rejection).await, Ok(Replacement::New(_))));
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_6_a_401_while_no_login_may_be_sent_drops_no_token_that_serves_others() {
    let endpoint = Endpoint::failing_second(REFUSED);
    let (_cache, source, _) = cache(&endpoint);
    let held = source.obtain().await.unwrap();
    advance(AGEING).await;
    source.ready().unwrap();
    settle().await;
    for _ in 0..10 {
        let refused = replaced(source.reject(&held)).await.unwrap_err();
        assert!(matches!(refused, TokenError::Refused { .. }));
    }
    assert!(source.ready().unwrap().same_text(&held));
    assert_eq!(endpoint.asked(), 2);
    assert!(source.retry().await);
    let cured = replaced(source.reject(&held)).await.unwrap();
    assert!(matches!(cured, Replacement::New(token) if bearer(&token) == "Bearer T3"));
}
