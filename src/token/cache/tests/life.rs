//! Rules 7 and 8: how long a token is believed to live.

use super::*;

#[tokio::test(start_paused = true)]
async fn rule_7_life_counts_from_before_the_request_was_sent() {
    let endpoint = Endpoint::closed(|n| token(&format!("T{n}"), 100));
    let (_cache, source, _) = cache(&endpoint);
    let caller = tokio::spawn({
        let source = source.clone();
        async move { source.obtain().await }
    });
    settle().await;
    advance(Duration::from_secs(5)).await;
    endpoint.gate.add_permits(1);
    caller.await.unwrap().unwrap();
    advance(Duration::from_secs(95)).await;
    assert!(source.ready().is_none());
}

#[tokio::test(start_paused = true)]
async fn rule_7_the_margin_is_a_fifth_of_a_short_life_and_no_life_is_under_a_second() {
    for (expires_in, seconds) in [(0, 1), (100, 100), (u64::MAX, 30 * 24 * 3600)] {
        let endpoint = Endpoint::open(move |n| token(&format!("T{n}"), expires_in));
        let (cache, source, _) = cache(&endpoint);
        let stands = || {
            let state = status(&cache).state;
            (state, state.is_usable())
        };
        assert_eq!(stands(), (TokenState::Empty, false));
        source.obtain().await.unwrap();
        assert_eq!(status(&cache).expires_in_seconds, Some(seconds));
        let life = Duration::from_secs(seconds);
        let margin = POLICY.margin.min(life / 5);
        advance(life.saturating_sub(margin + Duration::from_millis(1))).await;
        assert_eq!(stands(), (TokenState::Fresh, true));
        advance(Duration::from_millis(1)).await;
        assert_eq!(stands(), (TokenState::Ageing, true));
        advance(margin).await;
        assert_eq!(stands(), (TokenState::Expired, false));
    }
}

/// As Spring does: the same token until it dies, its time left told in whole seconds; answers take a while.
pub(super) struct Spring {
    clock: Clock,
    life: Duration,
    issued: Mutex<(u64, Option<Moment>)>,
    asked: AtomicUsize,
}

impl Spring {
    pub(super) fn new(clock: &Clock, life: Duration) -> Self {
        Self {
            clock: clock.clone(),
            life,
            issued: Mutex::default(),
            asked: AtomicUsize::new(0),
        }
    }

    /// How many tokens it gave, and how often it was asked.
    pub(super) fn counts(&self) -> (usize, usize) {
        let (issued, _) = *self.issued.lock().unwrap();
        (
            usize::try_from(issued).unwrap(),
            self.asked.load(Ordering::SeqCst),
        )
    }
}

impl Grants for Spring {
    fn request<'a>(&'a self, _: &'a Login, _: Duration) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(70)).await;
            let answer = {
                let mut issued = self.issued.lock().unwrap();
                let now = self.clock.now();
                if issued.1.is_none_or(|dies_at| dies_at <= now) {
                    *issued = (issued.0 + 1, Some(now + self.life));
                }
                let left = issued.1.unwrap().since(now).as_secs();
                token(&format!("T{}", issued.0), left)
            };
            sleep(Duration::from_millis(70)).await;
            answer
        })
    }

    fn refresh<'a>(&'a self, _: &'a Login, _: &'a Secret, _: Duration) -> BoxFuture<'a, Outcome> {
        unreachable!("its answers carry no refresh token")
    }
}

#[tokio::test(start_paused = true)]
async fn rule_7_the_same_token_again_costs_two_requests_a_lifetime() {
    for life in [7, 100, 86_400] {
        let (clock, _) = Clock::manual();
        let spring = Arc::new(Spring::new(&clock, Duration::from_secs(life)));
        let users = BTreeMap::from([(Name::default_name(), login("ann"))]);
        let grants: Arc<dyn Grants> = Arc::<Spring>::clone(&spring);
        let cache = TokenCache::new([(Name::default_name(), users, POLICY)], means(grants, &clock));
        cache.keep_default();
        sleep(Duration::from_secs(life * 50)).await;
        let (issued, asked) = spring.counts();
        assert!(issued >= 40, "{issued} tokens of {life} s");
        assert!(asked <= issued * 2, "{asked} logins for {issued} tokens");
        cache.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn rule_7_the_same_token_with_no_time_left_never_loops() {
    let endpoint = Endpoint::open(|_| token("T", 0));
    let (cache, source, _) = cache(&endpoint);
    cache.keep_default();
    for _ in 0..600 {
        source.obtain().await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(endpoint.asked() <= 2 * 60, "{} logins a minute", endpoint.asked());
    cache.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn rule_7_a_token_whose_life_was_made_longer_is_renewed_ahead() {
    let endpoint = Endpoint::open(|_| token("T", 3600));
    let (cache, source, _) = cache(&endpoint);
    let first = source.obtain().await.unwrap();
    advance(AGEING).await;
    source.ready().unwrap();
    settle().await;
    assert_eq!(status(&cache).expires_in_seconds, Some(3600));
    assert_eq!(source.ready().unwrap().generation(), first.generation());
    advance(AGEING).await;
    assert_eq!(status(&cache).state, TokenState::Ageing);
}

#[tokio::test(start_paused = true)]
async fn rule_8_without_a_lifetime_the_default_holds_and_an_unusable_token_is_trouble() {
    let endpoint = Endpoint::open(|n| {
        let text = if n == 1 { "T\r\nx: y" } else { "T" };
        token(text, 0).map(|answer| Answer {
            expires_in: None,
            ..answer
        })
    });
    let (cache, source, _) = cache(&endpoint);
    let error = source.obtain().await.unwrap_err();
    assert!(matches!(
        error,
        TokenError::Unavailable {
            trouble: Trouble::Nonsense(_),
            ..
        }
    ));
    assert!(!cache.has_held_a_token());
    advance(Duration::from_secs(30)).await;
    source.obtain().await.unwrap();
    assert!(cache.has_held_a_token());
    assert_eq!(
        status(&cache).expires_in_seconds,
        Some(POLICY.default_lifetime.as_secs())
    );
}
