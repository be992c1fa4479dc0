//! Traces: whose parent is whose, what spans tell, and that they cost nobody anything.

use std::collections::BTreeMap;

use fluent_sandbox::{Fault, Injection, Place, Sandbox, Times, When};
use http::Request;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::support::{
    CLIENT_ID, Collector, Process, Proxy, Received, assert_clean, fluent, full, nobody, sandbox, start,
};

const ME: &str = "{ me { id } }";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A sandbox, a proxy before it whose traces go to a collector, and the collector.
async fn traced(toml: &str) -> (Sandbox, Proxy, Collector) {
    let collector = Collector::start().await;
    let (sandbox, proxy) = start(&format!("{}{toml}", collector.toml())).await;
    (sandbox, proxy, collector)
}

/// Asks as a caller who has begun a trace, and keeps it (`01`) or not (`00`).
async fn ask(proxy: &Proxy, flags: &str) {
    let request = Request::post("/graphql?question=secret")
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"))
        .header("tracestate", "vendor=opaque")
        .header("x-request-id", "the-id");
    let body = json!({ "query": ME }).to_string();
    let answer = proxy.client().send(request.body(full(body)).unwrap()).await;
    answer.assert_good();
}

/// The headers of a trace that Fluent got with its last request.
fn at_fluent(sandbox: &Sandbox) -> (Option<String>, Option<String>) {
    let requests = sandbox.seen().api_requests();
    let headers = &requests.last().unwrap().headers;
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    (text("traceparent"), text("tracestate"))
}

/// Ends the proxy, which sends what waits.
async fn spans(proxy: Proxy, collector: &Collector) -> Vec<Received> {
    proxy.stop().await;
    collector.spans()
}

/// The spans of this kind, as they began.
fn of_kind(spans: &[Received], kind: SpanKind, name: &str) -> Vec<Received> {
    let fits = |span: &&Received| span.span.kind() == kind && span.span.name == name;
    let mut spans: Vec<_> = spans.iter().filter(fits).cloned().collect();
    spans.sort_by_key(|span| span.span.start_time_unix_nano);
    spans
}

fn sole(spans: &[Received], kind: SpanKind, name: &str) -> Received {
    let found = of_kind(spans, kind, name);
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found.into_iter().next().unwrap()
}

fn table(value: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_request_is_a_span_below_its_callers_and_fluent_gets_the_attempts() {
    let (sandbox, proxy, collector) = traced("").await;
    ask(&proxy, "01").await;
    let (parent, state) = at_fluent(&sandbox);
    let host = sandbox.url();
    let port: u16 = host.rsplit(':').next().unwrap().parse().unwrap();
    let spans = spans(proxy, &collector).await;

    let request = sole(&spans, SpanKind::Server, "POST");
    assert_eq!(
        (request.trace(), request.parent()),
        (TRACE.to_owned(), CALLER.to_owned())
    );
    let length = json!({ "query": ME }).to_string().len();
    let mut attributes = request.attributes.clone();
    assert!(
        attributes
            .remove("http.response.body.size")
            .unwrap()
            .as_u64()
            .unwrap()
            > 0
    );
    let expected = json!({
        "http.request.method": "POST", "url.scheme": "http", "url.path": "/graphql", "network.protocol.version": "1.1",
        "http.response.status_code": 200, "http.request.body.size": length,
        "fluent_auth_proxy.request_id": "the-id", "fluent_auth_proxy.instance": "default",
        "fluent_auth_proxy.user": "default",
    });
    assert_eq!(attributes, table(expected));

    let attempt = sole(&spans, SpanKind::Client, "POST");
    assert_eq!(
        (attempt.trace(), attempt.parent()),
        (TRACE.to_owned(), request.id())
    );
    let expected = json!({
        "http.request.method": "POST", "url.full": format!("{host}/graphql"), "server.address": "127.0.0.1",
        "server.port": port, "http.response.status_code": 200,
    });
    assert_eq!(attempt.attributes, table(expected));
    assert_eq!(parent, Some(format!("00-{TRACE}-{}-01", attempt.id())));
    assert_eq!(state.as_deref(), Some("vendor=opaque"));

    let login = sole(&spans, SpanKind::Client, "login");
    assert_eq!(
        login.parent(),
        "",
        "a login is for all who wait, and a trace of its own"
    );
    assert_ne!(login.trace(), TRACE);
    let expected = json!({
        "http.request.method": "POST", "url.full": format!("{host}/oauth/token"), "server.address": "127.0.0.1",
        "server.port": port, "http.response.status_code": 200, "fluent_auth_proxy.grant": "password",
    });
    assert_eq!(login.attributes, table(expected));
    for span in &spans {
        assert!(!span.is_error(), "{span:?}");
        assert!(span.span.end_time_unix_nano >= span.span.start_time_unix_nano);
        assert_eq!(span.service["service.name"], "fluent-auth-proxy");
        assert_eq!(span.service["service.version"], env!("CARGO_PKG_VERSION"));
        let told = format!("{span:?}");
        for foreign in ["question", CLIENT_ID, "integration"] {
            assert!(!told.contains(foreign), "{foreign} in {told}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_is_told_where_it_is_looked_at() {
    let (_sandbox, proxy, collector) = traced("graphql.inspect = true\n").await;
    proxy
        .client()
        .graphql("query Whoami { me { id } }")
        .await
        .assert_good();
    let spans = spans(proxy, &collector).await;
    let request = sole(&spans, SpanKind::Server, "POST");
    assert_eq!(request.attributes["graphql.operation.type"], "query");
    assert_eq!(request.attributes["graphql.operation.name"], "Whoami");
}

#[tokio::test]
async fn a_replay_is_two_attempts_with_a_wait_between() {
    let (sandbox, proxy, collector) = traced("").await;
    proxy.client().graphql(ME).await.assert_good();
    sandbox.revoke_access_tokens();
    ask(&proxy, "01").await;
    let spans = spans(proxy, &collector).await;
    let of_it: Vec<_> = spans.into_iter().filter(|span| span.trace() == TRACE).collect();
    let request = sole(&of_it, SpanKind::Server, "POST");
    let wait = sole(&of_it, SpanKind::Internal, "wait for a token");
    let attempts = of_kind(&of_it, SpanKind::Client, "POST");
    let told: Vec<_> = attempts
        .iter()
        .map(|span| {
            let attribute = |key: &str| span.attributes.get(key).cloned();
            (
                attribute("http.response.status_code"),
                attribute("http.request.resend_count"),
                attribute("error.type"),
                span.is_error(),
            )
        })
        .collect();
    let expected = [
        (Some(json!(401)), None, Some(json!("401")), true),
        (Some(json!(200)), Some(json!(1)), None, false),
    ];
    assert_eq!(told, expected);
    for span in attempts.iter().chain([&wait]) {
        assert_eq!(span.parent(), request.id());
    }
    assert!(!request.is_error());
}

#[tokio::test]
async fn what_goes_wrong_is_told_where_it_went_wrong() {
    let mut config = fluent();
    config.accounts[0].client_secret = "another".to_owned();
    let (collector, sandbox) = (Collector::start().await, sandbox(config).await);
    let proxy = Proxy::start(&sandbox.url(), &collector.toml()).await;
    proxy
        .client()
        .graphql(ME)
        .await
        .assert_refused(502, "CREDENTIALS_REFUSED");
    proxy
        .client()
        .get("/elsewhere")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    let brew = Request::builder()
        .method("BREW")
        .uri("/graphql")
        .body(full(""))
        .unwrap();
    proxy
        .client()
        .send(brew)
        .await
        .assert_refused(405, "METHOD_NOT_ALLOWED");
    let spans = spans(proxy, &collector).await;
    let login = sole(&spans, SpanKind::Client, "login");
    assert!(login.is_error());
    assert!(login.attributes["http.response.status_code"].as_u64().unwrap() >= 400);
    let told = |span: &Received| {
        let status = &span.attributes["http.response.status_code"];
        json!([span.attributes["error.type"], status, span.is_error()])
    };
    assert_eq!(
        told(&sole(&spans, SpanKind::Server, "POST")),
        json!(["CREDENTIALS_REFUSED", 502, true])
    );
    // What a caller did wrong is no error of this program.
    assert_eq!(
        told(&sole(&spans, SpanKind::Server, "GET")),
        json!(["PATH_NOT_FOUND", 404, false])
    );
    let brew = sole(&spans, SpanKind::Server, "HTTP");
    assert_eq!(told(&brew), json!(["METHOD_NOT_ALLOWED", 405, false]));
    assert_eq!(brew.attributes["http.request.method"], "_OTHER");
    assert_eq!(
        of_kind(&spans, SpanKind::Client, "POST").len(),
        0,
        "nothing was sent to Fluent"
    );
}

#[tokio::test]
async fn an_attempt_without_an_answer_says_why_and_a_caller_who_left_has_no_status() {
    let (sandbox, proxy, collector) = traced("").await;
    proxy.client().graphql(ME).await.assert_good();
    // A query is sent once more.
    let twice = Injection::new(Place::Api, Fault::Close)
        .when(When::AfterBody)
        .times(Times::Count(2));
    let fault = sandbox.faults().add(twice);
    proxy
        .client()
        .graphql(ME)
        .await
        .assert_refused(502, "UPSTREAM_INTERRUPTED");
    sandbox.faults().clear_one(fault);
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Hang);
    let asking = tokio::spawn(proxy.client().graphql(ME));
    sandbox.seen().wait_for(|counts| counts.faults == 3).await;
    asking.abort();
    let _ = asking.await;
    let spans = spans(proxy, &collector).await;
    let attempts = of_kind(&spans, SpanKind::Client, "POST");
    let requests = of_kind(&spans, SpanKind::Server, "POST");
    assert_eq!((attempts.len(), requests.len()), (4, 3));
    for attempt in &attempts[1..3] {
        assert_eq!(attempt.attributes["error.type"], "unanswered");
        assert!(attempt.is_error());
        assert!(!attempt.attributes.contains_key("http.response.status_code"));
    }
    assert_eq!(requests[1].attributes["error.type"], "UPSTREAM_INTERRUPTED");
    assert_eq!(requests[2].attributes["error.type"], "CALLER_GONE");
    assert!(
        !requests[2].attributes.contains_key("http.response.status_code"),
        "499 was never sent"
    );
}

#[tokio::test]
async fn off_it_leaves_a_callers_trace_as_it_came() {
    let (sandbox, proxy) = start("").await;
    for parent in [&format!("00-{TRACE}-{CALLER}-01"), "not a traceparent"] {
        let request = Request::post("/graphql")
            .header("content-type", "application/json")
            .header("traceparent", parent)
            .header("tracestate", "vendor=1,other=2");
        let request = request.body(full(json!({ "query": ME }).to_string())).unwrap();
        proxy.client().send(request).await.assert_good();
        let expected = (Some(parent.to_owned()), Some("vendor=1,other=2".to_owned()));
        assert_eq!(at_fluent(&sandbox), expected);
    }
    proxy.client().graphql(ME).await.assert_good();
    assert_eq!(at_fluent(&sandbox), (None, None), "and makes none");
}

#[tokio::test]
async fn a_caller_who_began_a_trace_decides_whether_it_is_kept() {
    // All that begin here are kept, but not this one.
    let (sandbox, proxy, collector) = traced("").await;
    ask(&proxy, "00").await;
    let (parent, _) = at_fluent(&sandbox);
    let parent = parent.unwrap();
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"),
        "{parent}"
    );
    let kept = spans(proxy, &collector).await;
    assert_eq!(kept.iter().filter(|span| span.trace() == TRACE).count(), 0);

    // None that begins here is kept, but this one.
    let (sandbox, proxy, collector) = traced("telemetry.sample_ratio = 0.0\n").await;
    proxy.client().graphql(ME).await.assert_good();
    let (parent, state) = at_fluent(&sandbox);
    assert!(parent.unwrap().ends_with("-00"));
    assert_eq!(state, None, "nothing is said where there is nothing to say");
    ask(&proxy, "01").await;
    let kept = spans(proxy, &collector).await;
    assert!(kept.iter().all(|span| span.trace() == TRACE), "{kept:#?}");
    sole(&kept, SpanKind::Server, "POST");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_request_and_one_line() {
    let sandbox = sandbox(fluent()).await;
    let (_held, address) = nobody();
    let mut command = Process::command(&sandbox.url());
    command.args(["--set", &format!("telemetry.otlp_endpoint=http://{address}")]);
    command
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "4");
    let mut process = Process::start(command).await;
    let told = process
        .line_with("traces cannot be sent to the collector; what cannot wait is dropped")
        .await;
    assert_eq!(told["level"], "WARN");
    assert!(
        told["cause"]
            .as_str()
            .unwrap()
            .starts_with("the connection was refused"),
        "{told}"
    );
    for _ in 0..40 {
        process.client().graphql(ME).await.assert_good();
    }
    process.signal();
    assert!(process.end().await.success());
    while let Some(line) = process.line().await {
        assert!(!line.contains("traces"), "told once: {line}");
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_the_end_up() {
    let sandbox = sandbox(fluent()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = Process::command(&sandbox.url());
    let endpoint = format!("telemetry.otlp_endpoint=http://{}", silent.local_addr().unwrap());
    // The end is waited for less long than this.
    command.args(["--set", &endpoint, "--set", "shutdown.deadline=1h"]);
    let process = Process::start(command).await;
    process.client().graphql(ME).await.assert_good();
    assert!(process.terminate().await.success());
}

#[tokio::test]
async fn the_standard_variables_hold_for_what_the_settings_do_not_say() {
    let collector = Collector::start().await;
    let sandbox = sandbox(fluent()).await;
    let with = |variables: &[(&str, &str)], set: &[&str]| {
        let mut command = Process::command(&sandbox.url());
        command.envs(variables.iter().copied());
        for set in set {
            command.args(["--set", set]);
        }
        command
    };
    let root = collector.url();
    let traces = format!("{root}/v1/traces");
    let named = format!("telemetry.otlp_endpoint={root}");
    for (variables, set, service) in [
        (
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", root.as_str())],
            vec![],
            "fluent-auth-proxy",
        ),
        (
            vec![
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.as_str()),
                ("OTEL_SERVICE_NAME", "by-variable"),
            ],
            vec![],
            "by-variable",
        ),
        (
            // Settings outweigh them.
            vec![
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=by-attribute"),
                ("OTEL_TRACES_SAMPLER", "always_off"),
            ],
            vec![named.as_str(), "telemetry.sample_ratio=1.0"],
            "by-attribute",
        ),
        (
            vec![("OTEL_SERVICE_NAME", "by-variable")],
            vec![named.as_str(), "telemetry.service_name=by-setting"],
            "by-setting",
        ),
        (
            vec![
                ("OTEL_TRACES_SAMPLER", "always_off"),
                ("OTEL_SERVICE_NAME", "never"),
            ],
            vec![named.as_str()],
            "",
        ),
    ] {
        let known = collector.spans().len();
        let process = Process::start(with(&variables, &set)).await;
        process.client().graphql(ME).await.assert_good();
        assert!(process.terminate().await.success());
        let services: Vec<_> = collector.spans()[known..]
            .iter()
            .map(|span| span.service["service.name"].clone())
            .collect();
        // The request, its attempt and the login; perhaps a wait for it.
        let expected = if service.is_empty() { 0..=0 } else { 3..=4 };
        assert!(expected.contains(&services.len()), "{variables:?}: {services:?}");
        assert!(
            services.iter().all(|name| name == service),
            "{variables:?}: {services:?}"
        );
    }
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:planted-p@[")];
    let output = with(&variables, &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_clean(&output.stderr, "the log");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("look at those that begin with OTEL_EXPORTER_OTLP_"),
        "{told}"
    );
}
