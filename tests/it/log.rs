//! What an operator reads: one line a request, a quiet `info`, and a level that changes while the program runs.

use fluent_sandbox::{Fault, Place, Times};
use http::Request;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::support::{PASSWORD, Process, USERNAME, assert_clean, fluent, full, sandbox, soon};

const ME: &str = "{ me { id } }";

/// The program with a second user, at the end of these settings.
async fn start(url: &str, set: &[&str]) -> Process {
    let mut command = Process::command(url);
    command.env("FLUENT_PROXY__FLUENT__USERS__ANN__USERNAME", USERNAME);
    command.env("FLUENT_PROXY__FLUENT__USERS__ANN__PASSWORD", PASSWORD);
    for set in set {
        command.args(["--set", set]);
    }
    Process::start(command).await
}

/// Ends the program; the lines of the log since it served.
async fn lines(mut process: Process) -> Vec<String> {
    process.signal();
    assert!(process.end().await.success());
    let mut lines = Vec::new();
    while let Some(line) = process.line().await {
        lines.push(line);
    }
    lines
}

async fn events(process: Process) -> Vec<Value> {
    let lines = lines(process).await;
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The lines of requests.
async fn requests(process: Process) -> Vec<Value> {
    let events = events(process).await.into_iter();
    events.filter(|event| event["message"] == "request").collect()
}

#[tokio::test]
async fn a_line_tells_of_a_request_from_its_caller_to_fluent_and_back() {
    let sandbox = sandbox(fluent()).await;
    let process = start(&sandbox.url(), &["log.access=all"]).await;
    let body = json!({ "query": ME }).to_string();
    let request = Request::post("/graphql?secret=question")
        .header("content-type", "application/json")
        .header("x-fluent-user", "ann")
        .header("x-request-id", "the-id")
        .body(full(body.clone()))
        .unwrap();
    let answer = process.client().send(request).await;
    answer.assert_good();
    sandbox.revoke_access_tokens();
    process.client().graphql(ME).await.assert_good();
    process
        .client()
        .get("/elsewhere")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");

    let lines = requests(process).await;
    let [first, replayed, refused] = lines.as_slice() else {
        panic!("one line a request: {lines:#?}");
    };
    let time = |line: &Value, key: &str| line[key].as_f64().unwrap();
    for line in &lines {
        assert!(
            time(line, "token_ms") + time(line, "upstream_ms") <= time(line, "total_ms"),
            "{line}"
        );
        assert!(!line.to_string().contains("question"), "no query: {line}");
    }
    assert!(0.0 < time(first, "upstream_ms"), "{first}");
    // What differs from run to run has been looked at.
    let told = |line: &Value| {
        let mut line = line.clone();
        let fields = line.as_object_mut().unwrap();
        for volatile in ["timestamp", "target", "total_ms", "token_ms", "upstream_ms"] {
            assert!(fields.remove(volatile).is_some(), "{volatile}: {fields:?}");
        }
        line
    };
    let mut whole = json!({
        "level": "INFO", "message": "request", "request_id": "the-id", "method": "POST", "path": "/graphql",
        "instance": "default", "user": "ann", "status": 200, "attempts": 1,
        "bytes_in": body.len(), "bytes_out": answer.body.len(),
    });
    assert_eq!(told(first), whole);
    assert!(time(replayed, "token_ms") > 0.0, "{replayed}");
    whole["request_id"] = replayed["request_id"].clone();
    whole["user"] = json!("default");
    whole["attempts"] = json!(2);
    assert_eq!(
        told(replayed),
        whole,
        "a body is counted once, however often it was sent"
    );
    assert_eq!(
        told(refused),
        json!({
            "level": "INFO", "message": "request", "request_id": refused["request_id"], "method": "GET",
            "path": "/elsewhere", "status": 404, "code": "PATH_NOT_FOUND", "fault": "client",
            "error": "the path is not one that the proxy serves", "attempts": 0, "bytes_in": 0, "bytes_out": 0,
        })
    );
}

#[tokio::test]
async fn whose_fault_it_was_sets_how_loudly_it_is_told() {
    let sandbox = sandbox(fluent()).await;
    let process = start(&sandbox.url(), &[]).await;
    process.client().graphql(ME).await.assert_good();
    let status = Fault::Status {
        code: 503,
        retry_after: None,
        body: None,
    };
    sandbox.faults().inject(Place::Api, Times::Once, status);
    assert_eq!(process.client().graphql(ME).await.status, 503);
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Reset);
    process
        .client()
        .graphql(ME)
        .await
        .assert_refused(502, "UPSTREAM_INTERRUPTED");
    process
        .client()
        .get("/elsewhere")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    let told: Vec<_> = requests(process)
        .await
        .iter()
        .map(|line| json!([line["level"], line["status"], line["code"], line["fault"]]))
        .collect();
    let expected = [
        json!(["WARN", 503, null, null]),
        json!(["WARN", 502, "UPSTREAM_INTERRUPTED", "upstream"]),
        json!(["INFO", 404, "PATH_NOT_FOUND", "client"]),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn people_read_the_same_in_one_line_of_text() {
    let sandbox = sandbox(fluent()).await;
    let process = start(&sandbox.url(), &["log.access=all", "log.format=text"]).await;
    process.client().graphql(ME).await.assert_good();
    let told = lines(process).await;
    let lines: Vec<_> = told
        .iter()
        .filter(|line| line.contains(" INFO request "))
        .collect();
    let [line] = lines.as_slice() else {
        panic!("{told:#?}")
    };
    for field in [
        " INFO ",
        "method=POST",
        "path=\"/graphql\"",
        "user=\"default\"",
        "status=200",
        "attempts=1",
        "total_ms=",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
    assert!(
        told.iter().all(|line| !line.contains('\u{1b}')),
        "colours are for terminals: {told:?}"
    );
}

#[tokio::test]
async fn info_is_quiet_while_all_is_well() {
    let sandbox = sandbox(fluent()).await;
    let process = start(&sandbox.url(), &[]).await;
    for _ in 0..50 {
        process.client().graphql(ME).await.assert_good();
        assert_eq!(process.admin().get("/metrics").await.status, 200);
    }
    let told: Vec<_> = events(process).await;
    let messages: Vec<_> = told
        .iter()
        .map(|event| event["message"].as_str().unwrap())
        .collect();
    let beside_the_login: Vec<_> = messages
        .iter()
        .filter(|message| !message.starts_with("token obtained"))
        .collect();
    assert_eq!(beside_the_login, [&"shutting down", &"every request has ended"]);
    assert!(messages.len() <= 3, "one login: {messages:?}");
}

/// What the admin listener says of the level.
async fn level(process: &Process) -> Value {
    let answer = process.admin().get("/log-level").await;
    assert_eq!(answer.status, 200);
    answer.json()["level"].clone()
}

/// Waits until the signal has arrived.
async fn until_level(process: &Process, wanted: &str) {
    soon(async { while level(process).await != wanted {} }).await;
}

async fn set_level(process: &Process, content_type: &str, body: &str) -> (u16, Value) {
    let request = Request::put("/log-level").header("content-type", content_type);
    let answer = process
        .admin()
        .send(request.body(full(body.to_owned())).unwrap())
        .await;
    assert_clean(&answer.body, "the answer about the level");
    (answer.status.as_u16(), answer.json())
}

/// How often each of these paths was asked for, as far as the log tells.
async fn told_of(process: Process, paths: &[&str]) -> Vec<usize> {
    let lines = requests(process).await;
    let count = |path: &&str| lines.iter().filter(|line| line["path"] == **path).count();
    paths.iter().map(count).collect()
}

#[tokio::test]
async fn sigusr1_turns_to_debug_and_back() {
    // That it serves is what the test waits for.
    const QUIET: &str = "warn,fluent_auth_proxy::cli=info";
    let sandbox = sandbox(fluent()).await;
    let process = start(&sandbox.url(), &[&format!("log.level={QUIET}")]).await;
    process
        .client()
        .get("/before")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    process.signal_with(Signal::USR1);
    until_level(&process, "debug").await;
    process
        .client()
        .get("/during")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    process.signal_with(Signal::USR1);
    until_level(&process, QUIET).await;
    process
        .client()
        .get("/after")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    assert_eq!(
        told_of(process, &["/before", "/during", "/after"]).await,
        [0, 1, 0]
    );
}

#[tokio::test]
async fn the_admin_listener_changes_the_level_and_takes_no_other_word() {
    let sandbox = sandbox(fluent()).await;
    let process = start(&sandbox.url(), &[]).await;
    assert_eq!(level(&process).await, "info");
    let set = set_level(&process, "application/json", r#"{"level":"error"}"#).await;
    assert_eq!(set, (200, json!({"level": "error"})));
    process
        .client()
        .get("/quiet")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    let directives = "warn,fluent_auth_proxy::telemetry=info";
    let body = json!({ "level": directives }).to_string();
    assert_eq!(
        set_level(&process, "application/json; charset=utf-8", &body)
            .await
            .0,
        200
    );
    process
        .client()
        .get("/told")
        .await
        .assert_refused(404, "PATH_NOT_FOUND");
    for bad in [
        r#"{"level":"inof"}"#,
        r#"{"level":7}"#,
        r#"{"level":"off","more":1}"#,
        "{}",
        "",
    ] {
        let (status, answer) = set_level(&process, "application/json", bad).await;
        assert_eq!(status, 400, "{bad}");
        assert!(answer["error"].as_str().unwrap().ends_with('.'), "{answer}");
    }
    let (status, refused) = set_level(&process, "text/plain", r#"{"level":"off"}"#).await;
    assert_eq!(
        (status, &refused["errors"][0]["extensions"]["code"]),
        (415, &json!("CONTENT_TYPE_NOT_ALLOWED"))
    );
    let post = process.admin().post("/log-level", r#"{"level":"off"}"#).await;
    post.assert_refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(post.headers["allow"], "GET, HEAD, PUT");
    let foreign = Request::put("/log-level").header("content-type", "application/json");
    let foreign = foreign
        .header("origin", "http://evil.example")
        .body(full(r#"{"level":"off"}"#))
        .unwrap();
    process
        .admin()
        .send(foreign)
        .await
        .assert_refused(403, "CROSS_ORIGIN");
    assert_eq!(level(&process).await, directives, "none of these changed it");
    // SIGUSR1 leads to debug from any level, and from there to that of the settings.
    for next in ["debug", "info"] {
        process.signal_with(Signal::USR1);
        until_level(&process, next).await;
    }
    assert_eq!(told_of(process, &["/quiet", "/told"]).await, [0, 1]);
}
