//! What a monitor scrapes: that it parses, moves as it should, and that no caller can make it grow.

use std::collections::BTreeMap;

use fluent_sandbox::{Fault, Place, Times};
use http::Request;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::support::{Answer, Client, Process, Proxy, fluent, full, sandbox, start, start_raw};

const ME: &str = "{ me { id } }";

/// One scrape: each series as it is written, without our prefix, and its value.
pub(super) struct Scrape {
    series: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(proxy: &Proxy) -> Self {
        Self::parse(&proxy.admin().get("/metrics").await)
    }

    pub(super) async fn of_process(process: &Process) -> Self {
        Self::parse(&process.admin().get("/metrics").await)
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
                assert!(
                    ["fluent_auth_proxy_", "process_"]
                        .iter()
                        .any(|prefix| name.starts_with(prefix)),
                    "{line}"
                );
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
            let name = name.strip_prefix("fluent_auth_proxy_").unwrap_or(name).to_owned();
            assert!(
                series.insert(name, value.parse().unwrap()).is_none(),
                "twice: {line}"
            );
        }
        Self { series }
    }

    /// How many series there are of this name.
    pub(super) fn count(&self, name: &str) -> usize {
        let of = |series: &&String| {
            series
                .strip_prefix(name)
                .is_some_and(|labels| labels.starts_with('{'))
        };
        self.series.keys().filter(of).count()
    }

    /// A value; zero where there is no such series.
    pub(super) fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or(0.0)
    }

    /// A count, as far as counts go in tests.
    #[track_caller]
    pub(super) fn assert(&self, series: &str, value: u32) {
        let found = self.value(series);
        assert!(
            (found - f64::from(value)).abs() < 1e-9,
            "{series} is {found}, not {value}, in {:#?}",
            self.series
        );
    }
}

/// Scrapes until no request is under way: the last byte reaches a caller before its request is counted.
pub(super) async fn settled(proxy: &Proxy) -> Scrape {
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
    let mut config = fluent();
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
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut connection, running) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(running);
    for n in 0..10_000 {
        for path in [format!("/instances/unknown-{n}/graphql"), format!("/path-{n}")] {
            let request = Request::post(path)
                .header("host", "localhost")
                .header("content-type", "application/json")
                .body(full("{}"))
                .unwrap();
            connection.ready().await.unwrap();
            let answer = connection.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 404);
            answer.into_body().collect().await.unwrap();
        }
    }
    let after = settled(&proxy).await;
    assert!(before.series.keys().eq(after.series.keys()));
    after.assert(r#"rejections_total{code="INSTANCE_UNKNOWN"}"#, 10_001);
    after.assert(r#"rejections_total{code="PATH_NOT_FOUND"}"#, 10_001);
    after.assert(
        r#"requests_total{instance="",status="404",code="INSTANCE_UNKNOWN"}"#,
        10_001,
    );
}

#[tokio::test]
async fn connections_to_fluent_are_counted_as_they_are_opened() {
    let (_sandbox, upstream, proxy) = start_raw("").await;
    Scrape::of(&proxy).await.assert("upstream_connections_total", 0);
    for opened in 1..=3 {
        let asking = tokio::spawn(proxy.client().graphql(ME));
        let mut there = upstream.accept().await;
        there.head().await;
        there
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            .await;
        asking.await.unwrap().assert_good();
        settled(&proxy).await.assert("upstream_connections_total", opened);
    }
}

#[tokio::test]
async fn the_process_and_its_runtime_are_told_of_as_the_system_counts_them() {
    let sandbox = sandbox(fluent()).await;
    let mut command = Process::command(&sandbox.url());
    command.args(["--set", "runtime.workers=3"]);
    let process = Process::start(command).await;
    process.client().graphql(ME).await.assert_good();
    let scrape = Scrape::parse(&process.admin().get("/metrics").await);
    scrape.assert("tokio_workers", 3);
    assert!(scrape.value("tokio_tasks") >= 1.0);
    assert!(scrape.value("tokio_busy_seconds_total") > 0.0);
    assert!(scrape.series.contains_key("tokio_queue_depth"));

    // Only Linux tells of the process.
    let of_process = |name: &str| {
        let value = scrape.series.get(name);
        *value.unwrap_or_else(|| panic!("no {name}"))
    };
    let proc = |file: &str| format!("/proc/{}/{file}", process.id());
    let descriptors = std::fs::read_dir(proc("fd")).unwrap().count();
    let descriptors = f64::from(u32::try_from(descriptors).unwrap());
    assert!(
        (of_process("process_open_fds") - descriptors).abs() < 8.0,
        "{descriptors}"
    );
    assert!(of_process("process_max_fds") >= of_process("process_open_fds"));
    assert!(
        of_process("process_threads") >= 4.0,
        "the first one and the workers"
    );
    let peak = f64::from(u32::try_from(process.peak()).unwrap()) * 1024.0;
    let resident = of_process("process_resident_memory_bytes");
    // The system counts each core's share now and then only.
    assert!(
        1e6 < resident && resident < 2.0 * peak,
        "{resident}, with a peak of {peak}"
    );
    assert!(of_process("process_virtual_memory_bytes") >= resident);
    assert!(of_process("process_cpu_seconds_total") > 0.0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let age = now - of_process("process_start_time_seconds");
    assert!((-2.0..120.0).contains(&age), "{age}");
}

#[tokio::test]
async fn pages_of_other_origins_cannot_scrape() {
    let (_sandbox, proxy) = start("").await;
    let request = Request::get("/metrics")
        .header("origin", "http://evil.example")
        .body(http_body_util::combinators::BoxBody::default())
        .unwrap();
    let refused = Client::new(proxy.admin_address()).send(request).await;
    refused.assert_refused(403, "CROSS_ORIGIN");
}
