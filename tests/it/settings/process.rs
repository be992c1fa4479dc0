//! Rows of `[admin]`, `[log]`, `[telemetry]`, `[shutdown]` and `[runtime]`: of the program as a whole.

use std::time::Duration;

use fluent_sandbox::{Fault, Place, Times};
use tokio::net::{TcpListener, TcpStream};

use super::super::support::{
    Client, Collector, Frozen, NOWHERE, Process, assert_clean, fluent, full, sandbox, settings, start,
};
use super::ME;

pub(super) async fn admin_address() {
    for (toml, ip) in [
        ("", "127.0.0.1"),
        ("admin.address = '127.0.0.2:0' # own admin address", "127.0.0.2"),
    ] {
        let (_sandbox, proxy) = start(toml).await;
        assert_eq!(proxy.admin_address().ip().to_string(), ip);
        assert_eq!(proxy.admin().get("/livez").await.status, 200);
    }
    let (_sandbox, proxy) = start("admin.address = 'none' # own admin address").await;
    assert_eq!(
        proxy.admin_address(),
        proxy.address(),
        "there is no other listener"
    );
    let nobody = proxy.client().get("/livez").await;
    nobody.assert_refused(404, "PATH_NOT_FOUND");
}

/// What the program writes to its standard error stream where it cannot start, as its address is taken.
async fn complaint(set: &[&str]) -> String {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = Process::command(NOWHERE);
    let address = format!("listen.address={}", taken.local_addr().unwrap());
    for set in [&[address.as_str()], set].concat() {
        command.args(["--set", set]);
    }
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_clean(&output.stderr, "the log");
    String::from_utf8(output.stderr).unwrap()
}

pub(super) async fn log_format() {
    for (format, is_json) in [("auto", true), ("json", true), ("text", false)] {
        let told = complaint(&[&format!("log.format={format}")]).await;
        let line = told.lines().last().unwrap();
        assert!(line.contains("the proxy cannot run"), "{line}");
        let json = serde_json::from_str::<serde_json::Value>(line);
        assert_eq!(json.is_ok(), is_json, "{line}");
    }
}

pub(super) async fn log_level() {
    assert!(complaint(&[]).await.contains("the proxy cannot run"));
    let off = complaint(&["log.level=off"]).await;
    assert_eq!(off, "");
    let debug = complaint(&["log.level=debug"]).await;
    assert!(debug.contains(r#""level":"DEBUG""#), "{debug}");
}

pub(super) async fn log_access() {
    for (access, good, bad) in [
        ("errors", false, true),
        ("all", true, true),
        ("none", false, false),
    ] {
        let sandbox = sandbox(fluent()).await;
        let mut command = Process::command(&sandbox.url());
        // The default is not named.
        if access != "errors" {
            command.args(["--set", &format!("log.access={access}")]);
        }
        let mut process = Process::start(command).await;
        process.client().graphql(ME).await.assert_good();
        let refused = process.client().post("/elsewhere", "{}").await;
        refused.assert_refused(404, "PATH_NOT_FOUND");
        process.signal();
        assert!(process.end().await.success());
        let mut paths = Vec::new();
        while let Some(line) = process.line().await {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["message"] == "request" {
                paths.push(event["path"].as_str().unwrap().to_owned());
            }
        }
        let told = |path: &str| paths.iter().any(|told| told == path);
        assert_eq!((told("/graphql"), told("/elsewhere")), (good, bad), "{access}");
    }
}

pub(super) async fn shutdown_deadline() {
    for (toml, seconds) in [("", 25), ("shutdown.deadline = '4s'", 4)] {
        let (mut frozen, sandbox, proxy) = Frozen::start(fluent(), toml).await;
        sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
        let body = serde_json::json!({ "query": ME }).to_string();
        let request = http::Request::post("/graphql").header("content-type", "application/json");
        let request = request.body(full(body)).unwrap();
        let client = proxy.client();
        let hanging = tokio::spawn(async move { client.try_send(request).await });
        sandbox.seen().wait_for(|counts| counts.faults == 1).await;
        let ending = tokio::spawn(proxy.stop());
        frozen.ends_after(Duration::from_secs(seconds), ending).await;
        assert!(hanging.await.unwrap().is_err(), "what was left is cut");
        tokio::time::resume();
    }
}

pub(super) async fn shutdown_delay() {
    // Without a delay nobody is taken after the signal; with one, for as long as it lasts.
    let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), "").await;
    proxy.client().graphql(ME).await.assert_good();
    let address = proxy.address();
    let ending = tokio::spawn(proxy.stop());
    frozen.settle().await;
    assert!(ending.is_finished());
    assert!(TcpStream::connect(address).await.is_err());
    drop(frozen);
    tokio::time::resume();

    let (mut frozen, _sandbox, proxy) = Frozen::start(fluent(), "shutdown.delay = '10s'").await;
    let client = Client::new(proxy.address());
    let ending = tokio::spawn(proxy.stop());
    frozen.settle().await;
    let within = client.graphql(ME).await;
    within.assert_good();
    assert_eq!(within.headers["connection"], "close");
    frozen.ends_after(Duration::from_secs(10), ending).await;
    tokio::time::resume();
}

/// Threads of the runtime of a program that has served a request.
async fn threads(set: Option<usize>) -> usize {
    let sandbox = sandbox(fluent()).await;
    let mut command = Process::command(&sandbox.url());
    if let Some(workers) = set {
        command.args(["--set", &format!("runtime.workers={workers}")]);
    }
    let process = Process::start(command).await;
    process.client().graphql(ME).await.assert_good();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("tokio")).count()
}

pub(super) async fn runtime_workers() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(settings("http://localhost", "").workers, cores);
    let two = threads(Some(2)).await;
    assert_eq!(threads(Some(5)).await, two + 3);
    // A single one is the program's first thread, which bears the program's name.
    let one = two - 2;
    assert_eq!(threads(Some(1)).await, one);
    let as_many_as_cores = if cores == 1 { one } else { two + cores - 2 };
    assert_eq!(threads(None).await, as_many_as_cores);
}

/// The names of services in the spans that come of one query; each query makes the request's and the attempt's, at
/// least.
async fn services(toml: &str) -> Vec<String> {
    let collector = Collector::start().await;
    let (_sandbox, proxy) = start(&format!("{}{toml}", collector.toml())).await;
    proxy.client().graphql(ME).await.assert_good();
    proxy.stop().await;
    let spans = collector.spans().into_iter();
    spans
        .map(|span| span.service["service.name"].as_str().unwrap().to_owned())
        .collect()
}

pub(super) async fn telemetry_otlp_endpoint() {
    // By default nothing is traced: what Fluent gets shows it.
    let (sandbox, proxy) = start("").await;
    proxy.client().graphql(ME).await.assert_good();
    let requests = sandbox.seen().api_requests();
    assert!(!requests[0].headers.contains_key("traceparent"));
    assert!(services("").await.len() >= 2);
}

pub(super) async fn telemetry_service_name() {
    assert!(services("").await.iter().all(|name| name == "fluent-auth-proxy"));
    let named = services("telemetry.service_name = 'shop'").await;
    assert!(
        named.len() >= 2 && named.iter().all(|name| name == "shop"),
        "{named:?}"
    );
}

pub(super) async fn telemetry_sample_ratio() {
    assert!(services("").await.len() >= 2, "all by default");
    assert_eq!(services("telemetry.sample_ratio = 0.0").await.len(), 0);
}
