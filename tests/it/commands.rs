//! The commands for operators, on the command line and at the admin listener: their exit codes, their sentences,
//! and what they cost.

use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::time::Duration;

use fluent_sandbox::{Fault, Place, Sandbox, Times};
use tokio::time::Instant;

use super::support::{NOWHERE, Process, Proxy, assert_clean, fluent, nobody, sandbox, settings, start};

async fn output(mut command: tokio::process::Command) -> Output {
    let output = command.output().await.unwrap();
    assert_clean(&output.stdout, "the standard output of a command");
    assert_clean(&output.stderr, "the standard error stream of a command");
    output
}

/// Runs a command with the planted account at `url`.
async fn run(url: &str, arguments: &[&str]) -> Output {
    let mut command = Process::command(url);
    command.args(arguments);
    output(command).await
}

/// Runs a command without any settings but `arguments`.
async fn bare(arguments: &[&str]) -> Output {
    let mut command = Process::bare();
    command.args(arguments);
    output(command).await
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Fails unless the command ended so, with a sentence that holds all of `words`.
#[track_caller]
fn assert_ended(output: &Output, code: i32, words: &[&str]) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in {complaint}");
    }
}

async fn health(admin: SocketAddr, arguments: &[&str]) -> Output {
    let address = format!("admin.address={admin}");
    bare(&[arguments, &["--set", &address]].concat()).await
}

#[tokio::test]
async fn check_alone_reads_settings_and_sends_nothing() {
    let sandbox = sandbox(fluent()).await;
    let checked = run(&sandbox.url(), &["check"]).await;
    assert_ended(&checked, 0, &[]);
    assert!(out(&checked).contains("default/default"));
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (0, 0));
}

#[tokio::test]
async fn check_tells_every_problem_of_the_settings() {
    let problems = [
        "--set",
        "listen.max_body=many",
        "--set",
        "upstream.ca_fle=x",
        "check",
    ];
    let checked = run(NOWHERE, &problems).await;
    assert_ended(&checked, 78, &["listen.max_body", "upstream.ca_file"]);
}

/// A mistake a line but for headers, each of another kind.
const TWELVE: &str = r#"[fluent]
pasword = "planted-p"
url = "https://acme.example/graphql"
password = 007
[fluent.token]
timeout = 10
margin = "a minute"
[listen]
address = "0.0.0.0:4280"
paths = ["/oauth/token"]
max_body = "64MB"
[upstream]
http_version = "3"
client_key_file = "/nowhere"
via = "true"
[log]
level = "inof"
"#;

#[tokio::test]
async fn twelve_mistakes_are_told_in_one_run_each_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TWELVE).unwrap();
    let place = format!("{}:", file.path().display());
    for command in ["check", "serve"] {
        let mut program = Process::bare();
        let needed = [
            ("FLUENT_USERNAME", "integration"),
            ("FLUENT_CLIENT_ID", "ACME"),
            ("FLUENT_CLIENT_SECRET", "planted-client-secret"),
        ];
        program.envs(needed);
        program.arg(command).arg("--config").arg(file.path());
        let told = output(program).await;
        assert_ended(&told, 78, &[]);
        let told = String::from_utf8(told.stderr).unwrap();
        let problems = told.lines().filter_map(|line| line.strip_prefix(&place));
        let lines: Vec<_> = problems
            .map(|problem| problem.split(':').next().unwrap())
            .collect();
        let expected = ["2", "3", "4", "6", "7", "9", "10", "11", "13", "14", "15", "17"];
        assert_eq!(lines, expected, "{told}");
    }
}

#[tokio::test]
async fn config_show_and_schema_tell_sources_and_no_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "[listen]\nrequired_header = 'x-key: planted-p'\nmax_body = '1MiB'\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let shown = run(
        NOWHERE,
        &["config", "show", "--config", path, "--set", "upstream.queue=7"],
    )
    .await;
    assert_ended(&shown, 0, &[]);
    let shown = out(&shown);
    let row = |key: &str| {
        let row = shown
            .lines()
            .find(|line| line.split_whitespace().next() == Some(key));
        row.unwrap_or_else(|| panic!("{key} is not in {shown}"))
            .to_owned()
    };
    for (key, value, source) in [
        ("listen.max_body", "1MiB", format!("{path}:3:")),
        ("listen.required_header", "set", format!("{path}:2:")),
        ("upstream.queue", "7", "--set".to_owned()),
        ("fluent.password", "set", "FLUENT_PASSWORD".to_owned()),
        ("fluent.client_secret", "set", "FLUENT_CLIENT_SECRET".to_owned()),
        ("fluent.account", "unset", String::new()),
        ("listen.max_connections", "4096", "default".to_owned()),
    ] {
        let row = row(key);
        assert!(row.contains(value) && row.contains(&source), "{row}");
    }
    // What is printed is searched for secrets.
    assert_ended(&run(NOWHERE, &["config", "schema"]).await, 0, &[]);
}

#[tokio::test]
async fn check_refuses_what_would_stop_a_start() {
    let checked = run(NOWHERE, &["--set", "upstream.ca_file=/nowhere/ca.pem", "check"]).await;
    assert_ended(&checked, 78, &["/nowhere/ca.pem"]);
}

#[tokio::test]
async fn check_login_costs_one_login_and_one_query() {
    let sandbox = sandbox(fluent()).await;
    let checked = run(&sandbox.url(), &["check", "--login", "--force"]).await;
    assert_ended(&checked, 0, &[]);
    let told = out(&checked);
    let announced = told.find("exactly one login of default/default").unwrap();
    assert!(announced < told.find("was accepted").unwrap(), "{told}");
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 1));
    let asked = &sandbox.seen().api_requests()[0];
    assert_eq!(asked.body.kept[..], br#"{"query":"{ me { id } }"}"#[..]);
}

#[tokio::test]
async fn check_login_tries_whom_it_names() {
    let sandbox = sandbox(fluent()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let toml = format!(
        "[instances.eu]\nurl = \"{}\"\nusername = \"nobody\"\npassword = \"planted-p2\"\nclient_id = \"ACME\"\n\
         client_secret = \"planted-client-secret/1e5\"\n",
        sandbox.url()
    );
    std::fs::write(file.path(), toml).unwrap();
    let config = ["--config", file.path().to_str().unwrap(), "check", "--login"];
    let checked = run(&sandbox.url(), &[&config[..], &["eu"]].concat()).await;
    assert_ended(&checked, 77, &["[instances.eu]", "invalid_grant", "password"]);
    let checked = run(&sandbox.url(), &[&config[..], &["default/default"]].concat()).await;
    assert_ended(&checked, 0, &[]);
    let checked = run(&sandbox.url(), &[&config[..], &["us"]].concat()).await;
    assert_ended(&checked, 2, &["us/default", "default/default, eu/default"]);
    assert_eq!(sandbox.seen().counts().token_requests, 2);
}

#[tokio::test]
async fn refused_credentials_cost_check_one_login_and_no_query() {
    let mut config = fluent();
    config.accounts[0].client_secret = "another".to_owned();
    let sandbox = sandbox(config).await;
    let checked = run(&sandbox.url(), &["check", "--login"]).await;
    assert_ended(&checked, 77, &["[fluent]", "client_secret", "lock the account"]);
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 0));
}

#[tokio::test]
async fn a_token_that_fluent_does_not_take_is_refused_credentials_and_never_replaced() {
    let sandbox = sandbox(fluent()).await;
    sandbox
        .faults()
        .inject(Place::Api, Times::Always, Fault::NoRetailer);
    let checked = run(&sandbox.url(), &["check", "--login"]).await;
    assert_ended(&checked, 77, &["401", "retailer"]);
    let counts = sandbox.seen().counts();
    assert_eq!((counts.token_requests, counts.api_requests), (1, 1));
}

#[tokio::test]
async fn check_login_tells_who_cannot_be_reached() {
    let checked = run(NOWHERE, &["check", "--login"]).await;
    assert_ended(&checked, 69, &["cannot be reached", "url", "the network"]);
    let sandbox = sandbox(fluent()).await;
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Close);
    let checked = run(&sandbox.url(), &["check", "--login"]).await;
    assert_ended(&checked, 69, &["the query was not answered"]);
    assert_eq!(sandbox.seen().counts().token_requests, 1);
    sandbox.faults().clear();
    sandbox.faults().inject(Place::Api, Times::Always, Fault::Html);
    let checked = run(&sandbox.url(), &["check", "--login"]).await;
    assert_ended(&checked, 69, &["the query was not answered (status 200)"]);
}

#[tokio::test]
async fn health_needs_no_credentials_and_tells_ready_from_alive() {
    let (_sandbox, proxy) = start("").await;
    proxy.client().graphql("{ me { id } }").await.assert_good();
    assert_ended(&health(proxy.admin_address(), &["health"]).await, 0, &[]);
    assert_ended(
        &health(proxy.admin_address(), &["health", "--live"]).await,
        0,
        &[],
    );
    let every = SocketAddr::from(([0, 0, 0, 0], proxy.admin_address().port()));
    assert_ended(&health(every, &["health"]).await, 0, &[]);
    let localhost = format!("admin.address=localhost:{}", proxy.admin_address().port());
    assert_ended(&bare(&["--set", &localhost, "health"]).await, 0, &[]);

    let waiting = Proxy::from_settings(&settings(NOWHERE, "")).await;
    let asked = health(waiting.admin_address(), &["health"]).await;
    assert_ended(&asked, 1, &["not ready", "not held a token"]);
    assert_ended(
        &health(waiting.admin_address(), &["health", "--live"]).await,
        0,
        &[],
    );
}

#[tokio::test]
async fn health_ends_soon_whoever_is_there() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let since = Instant::now();
    let asked = health(silent.local_addr().unwrap(), &["health"]).await;
    assert_ended(&asked, 1, &["did not answer"]);
    assert!(since.elapsed() < Duration::from_secs(10));
    let (_held, address) = nobody();
    assert_ended(&health(address, &["health"]).await, 1, &["not running"]);
    let stranger = sandbox(fluent()).await;
    assert_ended(
        &health(stranger.address(), &["health"]).await,
        1,
        &["not this proxy"],
    );
    let nobody = bare(&["health", "--set", "admin.address=none"]).await;
    assert_ended(&nobody, 1, &["there is nobody to ask"]);
    let wrong = bare(&["health", "--set", "admin.adress=localhost:1"]).await;
    assert_ended(&wrong, 1, &["admin.address"]);
}

#[tokio::test]
async fn completions_and_the_manual_page_come_from_the_arguments() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = bare(&["completions", shell]).await;
        assert_ended(&printed, 0, &[]);
        assert!(out(&printed).contains("health"), "{shell}");
    }
    let printed = bare(&["man"]).await;
    assert_ended(&printed, 0, &[]);
    let page = out(&printed);
    for words in [
        ".TH fluent-auth-proxy 1",
        "check",
        "config show",
        "INSTANCE",
        "EXIT STATUS",
    ] {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
}

#[tokio::test]
async fn wrong_usage_exits_with_2() {
    for wrong in [
        &["chekc"][..],
        &["check", "--login", "EU"],
        &["health", "--alive"],
        &["completions", "tcsh"],
        &["serve", "now"],
    ] {
        assert_ended(&bare(wrong).await, 2, &["error"]);
    }
}

/// Refuses logins as Fluent refuses a wrong password.
fn refusal() -> Fault {
    Fault::Status {
        code: 400,
        retry_after: None,
        body: Some(r#"{"error":"invalid_grant","error_description":"Bad credentials"}"#.to_owned()),
    }
}

/// A proxy whose first login was refused.
async fn refused(times: Times) -> (Sandbox, Proxy) {
    let sandbox = sandbox(fluent()).await;
    sandbox.faults().inject(Place::Token, times, refusal());
    let proxy = Proxy::start(&sandbox.url(), "").await;
    let answer = proxy.client().graphql("{ me { id } }").await;
    answer.assert_refused(502, "CREDENTIALS_REFUSED");
    (sandbox, proxy)
}

#[tokio::test]
async fn readyz_token_tells_of_the_token_and_starts_no_login() {
    let (sandbox, proxy) = refused(Times::Once).await;
    for _ in 0..5 {
        let answer = proxy.admin().get("/readyz?token").await;
        assert_eq!(answer.status, 503);
        assert_eq!(
            answer.json()["reason"],
            "the credentials of the default instance are refused: check username, password, client and scope"
        );
    }
    assert_eq!(sandbox.seen().counts().token_requests, 1);

    let (sandbox, proxy) = start("").await;
    proxy.client().graphql("{ me { id } }").await.assert_good();
    assert_eq!(proxy.admin().get("/readyz?token").await.status, 200);
    // Dead before its time, and nobody gives another: the listener for probes stays ready.
    sandbox.faults().inject(Place::Token, Times::Always, Fault::Close);
    sandbox.revoke_access_tokens();
    proxy
        .client()
        .graphql("{ me { id } }")
        .await
        .assert_refused(503, "TOKEN_UNAVAILABLE");
    assert_eq!(proxy.admin().get("/readyz?token").await.status, 503);
    assert_eq!(proxy.admin().get("/readyz").await.status, 200);
}

#[tokio::test]
async fn retry_clears_a_refusal_and_the_login_follows_without_a_request() {
    let (sandbox, proxy) = refused(Times::Once).await;
    let answer = proxy.admin().post("/retry", "{}").await;
    assert_eq!(answer.json()["cleared"], true);
    sandbox.seen().wait_for(|counts| counts.tokens_issued == 1).await;
    while proxy.admin().get("/readyz?token").await.status != 200 {
        tokio::task::yield_now().await;
    }
    let again = proxy.admin().post("/retry", "").await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["cleared"]),
        (200, &false.into())
    );
    proxy.client().graphql("{ me { id } }").await.assert_good();
    assert_eq!(sandbox.seen().counts().token_requests, 2);
}

/// Sends SIGHUP, and waits until it is heeded; gives the number of refusals that it cleared.
async fn hang_up(process: &mut Process) -> u64 {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let heeded = process
        .line_with("SIGHUP lets refused logins be tried once more")
        .await;
    heeded["cleared"].as_u64().unwrap()
}

/// A process whose first login was refused.
async fn refused_process(times: Times) -> (Sandbox, Process) {
    let sandbox = sandbox(fluent()).await;
    sandbox.faults().inject(Place::Token, times, refusal());
    let process = Process::start(Process::command(&sandbox.url())).await;
    let answer = process.client().graphql("{ me { id } }").await;
    answer.assert_refused(502, "CREDENTIALS_REFUSED");
    (sandbox, process)
}

#[tokio::test]
async fn sighup_clears_a_refusal_and_ends_nothing() {
    let (sandbox, mut process) = refused_process(Times::Once).await;
    assert_eq!(hang_up(&mut process).await, 1);
    sandbox.seen().wait_for(|counts| counts.tokens_issued == 1).await;
    process.client().graphql("{ me { id } }").await.assert_good();
    assert_eq!(hang_up(&mut process).await, 0);
    process.client().graphql("{ me { id } }").await.assert_good();
    assert_eq!(sandbox.seen().counts().token_requests, 2);
    assert!(process.terminate().await.success());
}

#[tokio::test]
async fn sighups_cannot_lock_the_account() {
    let (sandbox, mut process) = refused_process(Times::Always).await;
    for _ in 0..12 {
        hang_up(&mut process).await;
        let answer = process.client().graphql("{ me { id } }").await;
        assert!([502, 503].contains(&answer.status.as_u16()), "{}", answer.status);
    }
    assert_eq!(sandbox.seen().counts().token_requests, 4);
    assert!(sandbox.seen().login_invariant_violations().is_empty());
}

#[tokio::test]
async fn retries_cannot_lock_the_account() {
    let (sandbox, proxy) = refused(Times::Always).await;
    let mut held_back = false;
    for _ in 0..12 {
        let answer = proxy.admin().post("/retry", r#"{"instance":"default"}"#).await;
        assert_eq!(answer.status, 200);
        held_back |= answer.json()["next_attempt_in_seconds"].is_number();
        let answer = proxy.client().graphql("{ me { id } }").await;
        assert!([502, 503].contains(&answer.status.as_u16()), "{}", answer.status);
    }
    assert!(held_back);
    assert_eq!(sandbox.seen().counts().token_requests, 4);
    assert!(sandbox.seen().login_invariant_violations().is_empty());
}

#[tokio::test]
async fn retry_takes_json_from_here_alone() {
    let (sandbox, proxy) = refused(Times::Once).await;
    let send = |method: &str, content_type: &str, body: &'static str| {
        let request = http::Request::builder().method(method).uri("/retry");
        let request = if content_type.is_empty() {
            request
        } else {
            request.header("content-type", content_type)
        };
        let body = http_body_util::Full::new(bytes::Bytes::from_static(body.as_bytes()));
        let body = http_body_util::BodyExt::map_err(body, |never| match never {});
        let request = request.body(http_body_util::BodyExt::boxed(body)).unwrap();
        proxy.admin().send(request)
    };
    let refused = send("POST", "", "").await;
    refused.assert_refused(415, "CONTENT_TYPE_NOT_ALLOWED");
    let refused = send("POST", "text/plain", "{}").await;
    refused.assert_refused(415, "CONTENT_TYPE_NOT_ALLOWED");
    let refused = send("POST", "application/graphql", "{}").await;
    refused.assert_refused(415, "CONTENT_TYPE_NOT_ALLOWED");
    let refused = send("GET", "", "").await;
    refused.assert_refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(refused.headers["allow"], "POST");
    let json = "application/json";
    let refused = send("POST", json, r#"{"instance":"nobody"}"#).await;
    refused.assert_refused(404, "INSTANCE_UNKNOWN");
    let refused = send("POST", json, r#"{"user":"nobody"}"#).await;
    refused.assert_refused(400, "USER_UNKNOWN");
    for wrong in ["[", r#"{"instnace":"x"}"#, r#"{"user":1}"#] {
        assert_eq!(send("POST", json, wrong).await.status, 400);
    }
    assert_eq!(sandbox.seen().counts().token_requests, 1);
}
