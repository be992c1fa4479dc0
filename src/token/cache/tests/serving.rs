//! Rules 1 to 5 and 9: who is served what, and what a login costs.

use super::*;

#[tokio::test(start_paused = true)]
async fn rule_1_a_fresh_token_is_served_without_a_login() {
    let endpoint = Endpoint::new_each_time();
    let (_cache, source, _) = cache(&endpoint);
    assert!(source.ready().is_none());
    assert_eq!(bearer(&source.obtain().await.unwrap()), "Bearer T1");
    advance(AGEING.saturating_sub(Duration::from_millis(1))).await;
    for _ in 0..1000 {
        assert_eq!(bearer(&source.ready().unwrap()), "Bearer T1");
    }
    settle().await;
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_2_an_ageing_token_is_served_and_renewed_once() {
    let endpoint = Endpoint::closed(|n| token(&format!("T{n}"), 3600));
    let (cache, source, _) = cache(&endpoint);
    endpoint.gate.add_permits(1);
    source.obtain().await.unwrap();
    advance(AGEING).await;
    for _ in 0..100 {
        assert_eq!(bearer(&source.ready().unwrap()), "Bearer T1");
    }
    let tasks = cache.house.tasks.len();
    assert!(tasks <= 2, "{tasks} tasks, and not one or two a request");
    settle().await;
    assert_eq!(bearer(&source.ready().unwrap()), "Bearer T1");
    assert_eq!(endpoint.asked(), 2);
    endpoint.gate.add_permits(1);
    settle().await;
    assert_eq!(bearer(&source.ready().unwrap()), "Bearer T2");
    assert_eq!(endpoint.asked(), 2);
    advance(AGEING).await;
    source.ready().unwrap();
    settle().await;
    assert_eq!(endpoint.asked(), 3, "and so is the next");
}

#[tokio::test(start_paused = true)]
async fn rule_2_a_failed_renewal_leaves_the_old_token_until_it_dies() {
    let endpoint = Endpoint::open(|n| if n == 1 { token("T1", 3600) } else { Err(REFUSED) });
    let (cache, source, _) = cache(&endpoint);
    source.obtain().await.unwrap();
    advance(AGEING).await;
    source.ready().unwrap();
    settle().await;
    for _ in 0..100 {
        assert_eq!(bearer(&source.ready().unwrap()), "Bearer T1");
        assert!(
            cache.house.tasks.is_empty(),
            "no task is started for what the ledger forbids"
        );
    }
    assert_eq!(endpoint.asked(), 2);
    advance(POLICY.margin).await;
    assert!(source.ready().is_none());
    assert!(matches!(source.obtain().await, Err(TokenError::Refused { .. })));
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_3_a_thousand_callers_of_an_empty_cache_share_one_login() {
    let endpoint = Endpoint::closed(|n| token(&format!("T{n}"), 3600));
    let (_cache, source, _) = cache(&endpoint);
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let source = source.clone();
        callers.spawn(async move { bearer(&source.obtain().await.unwrap()) });
    }
    settle().await;
    endpoint.gate.add_permits(Semaphore::MAX_PERMITS);
    assert_eq!(callers.join_all().await, vec!["Bearer T1"; 1000]);
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_3_a_dead_token_is_not_served_though_the_laptop_slept_over_its_end() {
    let endpoint = Endpoint::new_each_time();
    let (cache, source, hand) = cache(&endpoint);
    source.obtain().await.unwrap();
    hand.sleep_through(HOUR);
    assert!(source.ready().is_none());
    assert_eq!(status(&cache).state, TokenState::Expired);
    assert_eq!(bearer(&source.obtain().await.unwrap()), "Bearer T2");
}

#[tokio::test(start_paused = true)]
async fn rule_4_callers_who_leave_cancel_nothing() {
    let endpoint = Endpoint::closed(|n| token(&format!("T{n}"), 3600));
    let (_cache, source, _) = cache(&endpoint);
    let mut callers = JoinSet::new();
    for _ in 0..200 {
        let source = source.clone();
        callers.spawn(async move { source.obtain().await });
    }
    // One who never polls what it asked for holds up nobody.
    let idle = source.obtain();
    settle().await;
    let last = tokio::spawn({
        let source = source.clone();
        async move { source.obtain().await }
    });
    settle().await;
    callers.shutdown().await;
    endpoint.gate.add_permits(1);
    assert_eq!(bearer(&last.await.unwrap().unwrap()), "Bearer T1");
    assert_eq!(bearer(&idle.await.unwrap()), "Bearer T1");
    assert_eq!(endpoint.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_4_a_panic_is_an_error_for_all_who_wait() {
    let endpoint = Endpoint::closed(|_| panic!("a bug"));
    let (cache, source, _) = cache(&endpoint);
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let source = source.clone();
        callers.spawn(async move { source.obtain().await.unwrap_err() });
    }
    settle().await;
    endpoint.gate.add_permits(1);
    for error in callers.join_all().await {
        assert!(
            matches!(
                error,
                TokenError::Unavailable {
                    trouble: Trouble::Internal,
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(endpoint.asked(), 1);
    assert_eq!(status(&cache).logins.unavailable, 1);
}

#[tokio::test(start_paused = true)]
async fn rule_5_a_failure_is_shared_and_kept_until_the_next_login_is_allowed() {
    let endpoint = Endpoint::open(|n| if n == 1 { Err(REFUSED) } else { token("T", 3600) });
    let (_cache, source, _) = cache(&endpoint);
    for _ in 0..100 {
        let error = source.obtain().await.unwrap_err();
        assert!(matches!(error, TokenError::Refused { .. }), "{error}");
        assert_eq!(error.retry_after(), POLICY.cool_down);
    }
    assert_eq!(endpoint.asked(), 1);
    advance(POLICY.cool_down).await;
    source.obtain().await.unwrap();
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_5_what_one_login_of_an_account_learns_holds_for_the_others() {
    let endpoint = Endpoint::open(|_| Err(REFUSED));
    let other_scope = Login {
        scope: "other".to_owned(),
        ..login("ann")
    };
    let users = [
        ("default", "default", login("ann")),
        ("other", "default", other_scope),
        ("other", "bob", login("bob")),
    ];
    let (cache, _, _) = cache_of(&users, &endpoint);
    for (instance, user) in [("default", "default"), ("other", "default"), ("other", "bob")] {
        let source = cache.source(instance, user).unwrap();
        assert!(source.obtain().await.is_err());
    }
    assert_eq!(endpoint.asked(), 2, "one for ann, one for bob");
}

#[tokio::test(start_paused = true)]
async fn rule_10_the_same_inputs_share_a_token_and_others_never_do() {
    let endpoint = Endpoint::new_each_time();
    let users = [
        ("default", "default", login("ann")),
        ("default", "bob", login("bob")),
        ("other", "default", login("ann")),
    ];
    let (cache, _, _) = cache_of(&users, &endpoint);
    let mut bearers = Vec::new();
    for (instance, user, _) in &users {
        bearers.push(bearer(
            &cache.source(instance, user).unwrap().obtain().await.unwrap(),
        ));
    }
    assert_eq!(bearers, ["Bearer T1", "Bearer T2", "Bearer T1"]);
    assert_eq!(cache.logins().count(), 2, "each login is told of once");
    assert!(cache.source("default", "carl").is_none());
    assert!(cache.source("third", "default").is_none());
}
