//! What a monitor scrapes: that it parses, moves as it should, and that no caller can make it grow.

use std::collections::BTreeMap;

use fluent_sandbox::{Fault, Place, Times};

use super::support::{Answer, Client, Proxy, sandbox, start};

const ME: &str = "{ me { id } }";

/// One scrape: each series as it is written, without the prefix, and its value.
struct Scrape {
    series: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(proxy: &Proxy) -> Self {
        Self::parse(&proxy.admin().get("/metrics").await)
    }

    /// Holds each line against the grammar of OpenMetrics, as far as we use it.
    fn parse(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.headers["content-type"],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        let page = std::str::from_utf8(&answer.body).unwrap();
        let body = page.strip_suffix("# EOF\n").expect("no end");
        let mut types = BTreeMap::new();
        let mut series = BTreeMap::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name, rest) = (words.next(), words.next().unwrap(), words.next().unwrap());
                assert!(name.starts_with("fluent_auth_proxy_"), "{line}");
                match what.unwrap() {
                    "TYPE" => assert!(types.insert(name.to_owned(), rest).is_none(), "twice: {line}"),
                    "HELP" => assert!(rest.ends_with('.') && !rest.ends_with(".."), "{line}"),
                    "UNIT" => assert!(name.ends_with(rest), "{line}"),
                    other => panic!("{other} in {line}"),
                }
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let suffixes = ["", "_total", "_bucket", "_sum", "_count", "_info"];
            let known = |suffix: &str| {
                family
                    .strip_suffix(suffix)
                    .is_some_and(|name| types.contains_key(name))
            };
            assert!(suffixes.iter().any(|suffix| known(suffix)), "untyped: {line}");
            let name = name.strip_prefix("fluent_auth_proxy_").unwrap().to_owned();
            assert!(
                series.insert(name, value.parse().unwrap()).is_none(),
                "twice: {line}"
            );
        }
        Self { series }
    }

    /// A value; zero where there is no such series.
    fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or(0.0)
    }

    /// A count, as far as counts go in tests.
    #[track_caller]
    fn assert(&self, series: &str, value: u32) {
        let found = self.value(series);
        assert!(
            (found - f64::from(value)).abs() < 1e-9,
            "{series} is {found}, not {value}, in {:#?}",
            self.series
        );
    }
}

/// Scrapes until no request is under way: the last byte reaches a caller before its request is counted.
async fn settled(proxy: &Proxy) -> Scrape {
    loop {
        let scrape = Scrape::of(proxy).await;
        if scrape.value("requests_in_flight") < 0.5 {
            return scrape;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn series_stand_from_the_start_and_move_with_requests() {
    let (sandbox, proxy) = start("").await;
    let scrape = Scrape::of(&proxy).await;
    assert!(
        scrape
            .series
            .contains_key(r#"requests_total{instance="default",status="200",code=""}"#)
    );
    assert!(
        scrape
            .series
            .contains_key(r#"replays_total{instance="default",reason="unauthorized"}"#)
    );
    let build = format!(r#"build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    scrape.assert(&build, 1);
    for _ in 0..3 {
        proxy.client().graphql(ME).await.assert_good();
    }
    sandbox.faults().inject(
        Place::Api,
        Times::Once,
        Fault::Status {
            code: 503,
            retry_after: None,
            body: None,
        },
    );
    assert_eq!(proxy.client().graphql(ME).await.status, 503);
    let scrape = settled(&proxy).await;
    scrape.assert(r#"requests_total{instance="default",status="200",code=""}"#, 3);
    scrape.assert(r#"requests_total{instance="default",status="503",code=""}"#, 1);
    scrape.assert(r#"request_duration_seconds_count{instance="default"}"#, 4);
    scrape.assert(r#"upstream_duration_seconds_count{instance="default"}"#, 4);
    scrape.assert(
        r#"request_duration_seconds_bucket{le="+Inf",instance="default"}"#,
        4,
    );
    let sum = r#"_duration_seconds_sum{instance="default"}"#;
    let (request, upstream) = (
        scrape.value(&format!("request{sum}")),
        scrape.value(&format!("upstream{sum}")),
    );
    assert!(0.0 < upstream && upstream <= request);
    scrape.assert(
        r#"token_requests_total{instance="default",grant="password",outcome="ok"}"#,
        1,
    );
    scrape.assert(r#"token_ready{instance="default",user="default"}"#, 1);
    let left = scrape.value(r#"token_expires_in_seconds{instance="default",user="default"}"#);
    assert!((86_000.0..=86_400.0).contains(&left), "{left}");
}

#[tokio::test]
async fn what_is_under_way_is_counted_until_it_ends() {
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    let fault = sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
    let asking = tokio::spawn(proxy.client().graphql(ME));
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    let scrape = Scrape::of(&proxy).await;
    scrape.assert("requests_in_flight", 1);
    assert!(scrape.value("connections") >= 1.0);
    asking.abort();
    let _ = asking.await;
    let scrape = settled(&proxy).await;
    scrape.assert(
        r#"requests_total{instance="default",status="499",code="CALLER_GONE"}"#,
        1,
    );
    sandbox.faults().clear_one(fault);
    while Scrape::of(&proxy).await.value("connections") > 0.5 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_replay_is_counted_once_and_its_logins_too() {
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    sandbox.revoke_access_tokens();
    proxy.client().graphql(ME).await.assert_good();
    let scrape = settled(&proxy).await;
    scrape.assert(r#"replays_total{instance="default",reason="unauthorized"}"#, 1);
    scrape.assert(
        r#"token_requests_total{instance="default",grant="password",outcome="ok"}"#,
        2,
    );
    scrape.assert(r#"requests_total{instance="default",status="200",code=""}"#, 2);
}

#[tokio::test]
async fn refused_credentials_show_in_every_place() {
    let mut config = super::support::fluent();
    config.accounts[0].client_secret = "another".to_owned();
    let sandbox = sandbox(config).await;
    let proxy = Proxy::start(&sandbox.url(), "").await;
    let refused = proxy.client().graphql(ME).await;
    refused.assert_refused(502, "CREDENTIALS_REFUSED");
    let scrape = settled(&proxy).await;
    scrape.assert(
        r#"requests_total{instance="default",status="502",code="CREDENTIALS_REFUSED"}"#,
        1,
    );
    scrape.assert(
        r#"token_requests_total{instance="default",grant="password",outcome="refused"}"#,
        1,
    );
    scrape.assert(r#"token_ready{instance="default",user="default"}"#, 0);
    scrape.assert(r#"upstream_duration_seconds_count{instance="default"}"#, 0);
    scrape.assert(r#"rejections_total{code="CREDENTIALS_REFUSED"}"#, 0);
    let expires = r#"token_expires_in_seconds{instance="default",user="default"}"#;
    assert!(!scrape.series.contains_key(expires));
}

#[tokio::test]
async fn a_login_that_two_names_share_is_counted_once() {
    let same = "[fluent.users.ann]\nusername = \"integration\"\npassword = \"planted-pässword &=+%zz \"\n";
    let (_sandbox, proxy) = start(same).await;
    proxy.client().graphql(ME).await.assert_good();
    let scrape = settled(&proxy).await;
    scrape.assert(
        r#"token_requests_total{instance="default",grant="password",outcome="ok"}"#,
        1,
    );
    for user in ["ann", "default"] {
        scrape.assert(&format!(r#"token_ready{{instance="default",user="{user}"}}"#), 1);
    }
}

#[tokio::test]
async fn callers_cannot_make_series() {
    let (_sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    for path in ["/elsewhere", "/instances/nobody/graphql"] {
        proxy.client().post(path, "{}").await;
    }
    let before = settled(&proxy).await;
    for n in 0..1000 {
        let path = if n % 2 == 0 {
            format!("/instances/unknown-{n}/graphql")
        } else {
            format!("/path-{n}")
        };
        assert_eq!(proxy.client().post(&path, "{}").await.status, 404);
    }
    let after = settled(&proxy).await;
    assert!(before.series.keys().eq(after.series.keys()));
    after.assert(r#"rejections_total{code="INSTANCE_UNKNOWN"}"#, 501);
    after.assert(r#"rejections_total{code="PATH_NOT_FOUND"}"#, 501);
    after.assert(
        r#"requests_total{instance="",status="404",code="INSTANCE_UNKNOWN"}"#,
        501,
    );
}

#[tokio::test]
async fn pages_of_other_origins_cannot_scrape() {
    let (_sandbox, proxy) = start("").await;
    let request = http::Request::get("/metrics")
        .header("origin", "http://evil.example")
        .body(http_body_util::combinators::BoxBody::default())
        .unwrap();
    let refused = Client::new(proxy.admin_address()).send(request).await;
    refused.assert_refused(403, "CROSS_ORIGIN");
}
