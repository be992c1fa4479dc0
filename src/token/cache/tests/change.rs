//! Rule 13: credentials that change while the cache is at work.

use super::*;

fn with(password: &str) -> Login {
    Login::example("ann", password)
}

fn told(users: &[(&str, &str, Login)]) -> BTreeMap<Name, BTreeMap<Name, Login>> {
    let mut logins: BTreeMap<Name, BTreeMap<Name, Login>> = BTreeMap::new();
    for (instance, user, login) in users {
        let users = logins.entry(instance.parse().unwrap()).or_default();
        users.insert(user.parse().unwrap(), login.clone());
    }
    logins
}

/// Fails with the password `wrong`, and remembers which passwords came.
struct Judge(Mutex<Vec<String>>);

impl Grants for Judge {
    #[expect(clippy::disallowed_methods, reason = "tests ask which password was used")]
    fn request<'a>(&'a self, login: &'a Login, _: Duration) -> BoxFuture<'a, Outcome> {
        let crate::token::grant::Grant::Password { password, .. } = &login.grant else {
            unreachable!()
        };
        let mut seen = self.0.lock().unwrap();
        seen.push(password.expose().to_owned());
        let outcome = match password.expose() {
            "wrong" => Err(REFUSED),
            _ => token(&format!("T{}", seen.len()), 3600),
        };
        Box::pin(std::future::ready(outcome))
    }

    fn refresh<'a>(&'a self, _: &'a Login, _: &'a Secret, _: Duration) -> BoxFuture<'a, Outcome> {
        unreachable!("its answers carry no refresh token")
    }
}

fn start(users: &[(&str, &str, Login)]) -> (TokenCache, Arc<Judge>) {
    let judge = Arc::new(Judge(Mutex::default()));
    let (clock, _) = Clock::manual();
    let grants: Arc<dyn Grants> = Arc::<Judge>::clone(&judge);
    let instances = told(users).into_iter().map(|(name, users)| (name, users, POLICY));
    (TokenCache::new(instances, means(grants, &clock)), judge)
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_living_token_stays_and_the_next_login_uses_the_new_password() {
    let (cache, judge) = start(&[("default", "default", with("old"))]);
    let source = cache.source("default", "default").unwrap();
    let first = source.obtain().await.unwrap();
    assert_eq!(cache.change(&told(&[("default", "default", with("new"))])), 1);
    assert!(source.ready().unwrap().same_text(&first));
    advance(HOUR).await;
    source.obtain().await.unwrap();
    assert_eq!(*judge.0.lock().unwrap(), ["old", "new"]);
    let logins: Vec<_> = cache.logins().map(|(_, _, logins)| logins.ok).collect();
    assert_eq!(logins, [2], "what was counted goes on");
}

#[tokio::test(start_paused = true)]
async fn rule_13_a_refusal_of_the_old_password_does_not_hold_the_new_one_and_the_keeper_notices() {
    let (cache, judge) = start(&[("default", "default", with("wrong"))]);
    let source = cache.source("default", "default").unwrap();
    cache.keep_default();
    settle().await;
    assert!(source.obtain().await.is_err());
    cache.change(&told(&[("default", "default", with("right"))]));
    settle().await;
    assert!(source.ready().is_some());
    assert_eq!(*judge.0.lock().unwrap(), ["wrong", "right"]);
    cache.change(&told(&[("default", "default", with("wrong"))]));
    let again = replaced(source.reject(&source.ready().unwrap())).await;
    assert!(matches!(again, Err(TokenError::Refused { .. })));
    assert_eq!(
        judge.0.lock().unwrap().len(),
        2,
        "what was refused once stays refused"
    );
    cache.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn rule_13_another_user_never_gets_the_token_of_the_one_before() {
    let (cache, _) = start(&[("default", "default", with("pw"))]);
    let source = cache.source("default", "default").unwrap();
    source.obtain().await.unwrap();
    let bob = Login::example("bob", "pw");
    cache.change(&told(&[("default", "default", bob)]));
    assert!(source.ready().is_none());
}

#[tokio::test(start_paused = true)]
async fn rule_13_the_same_credentials_again_change_nothing() {
    let users = [("default", "default", with("pw")), ("eu", "default", with("pw"))];
    let (cache, judge) = start(&users);
    let source = cache.source("default", "default").unwrap();
    source.obtain().await.unwrap();
    let before = source.slot();
    assert_eq!(cache.change(&told(&users)), 0);
    assert_eq!(cache.change(&BTreeMap::new()), 0);
    assert!(Arc::ptr_eq(&source.slot(), &before));
    assert_eq!(
        cache
            .source("eu", "default")
            .unwrap()
            .obtain()
            .await
            .unwrap()
            .generation(),
        1
    );
    assert_eq!(judge.0.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_13_names_that_shared_a_login_part_when_one_changes_and_meet_again() {
    let (cache, judge) = start(&[("default", "default", with("pw")), ("eu", "default", with("pw"))]);
    let (one, other) = (
        cache.source("default", "default").unwrap(),
        cache.source("eu", "default").unwrap(),
    );
    one.obtain().await.unwrap();
    assert_eq!(cache.change(&told(&[("default", "default", with("new"))])), 1);
    advance(HOUR).await;
    let parted = (one.obtain().await.unwrap(), other.obtain().await.unwrap());
    assert!(!parted.0.same_text(&parted.1));
    assert_eq!(*judge.0.lock().unwrap(), ["pw", "new", "pw"]);
    let users = [("default", "default", with("x")), ("eu", "default", with("x"))];
    assert_eq!(cache.change(&told(&users)), 2);
    advance(HOUR).await;
    let met = (one.obtain().await.unwrap(), other.obtain().await.unwrap());
    assert!(met.0.same_text(&met.1));
    assert_eq!(judge.0.lock().unwrap().len(), 4);
    let ok: u64 = cache.logins().map(|(_, _, logins)| logins.ok).sum();
    assert!(ok >= 3, "{ok} logins are told of");
}
