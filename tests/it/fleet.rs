//! Processes that share a login: one for all, and no refusal tried twice. Each is the real program.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fluent_sandbox::{Config, ExpiresIn, Fault, Place, Sandbox, Times};
use rustix::process::Signal;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::metrics::Scrape;
use super::support::{
    Client, PASSWORD, Process, RedisServer, USERNAME, account, assert_clean, fluent, garbage, sandbox, soon,
};
use super::tls::{Authority, server};

const ME: &str = "{ me { id } }";

/// A process that keeps its logins on this server.
pub(super) fn with_redis(url: &str, socket: &Path) -> Command {
    let mut command = Process::command(url);
    command.env("FLUENT_PROXY__CACHE__STORE", "redis");
    let server = format!("redis+unix://{}", socket.display());
    command.env("FLUENT_PROXY__CACHE__REDIS_URL", server);
    command
}

/// A process that keeps its logins in this folder.
fn with_folder(url: &str, folder: &Path) -> Command {
    let mut command = Process::command(url);
    command.env("FLUENT_PROXY__CACHE__STORE", "file");
    command.env("FLUENT_PROXY__CACHE__PATH", folder);
    command
}

async fn start(number: usize, command: impl Fn() -> Command) -> Vec<Process> {
    let mut starting = JoinSet::new();
    for _ in 0..number {
        starting.spawn(Process::start(command()));
    }
    starting.join_all().await
}

/// Sends each process so many requests, all at once, and counts those that were answered so.
async fn ask_all(processes: &[Process], number: usize, answered: fn(u16, Option<&str>) -> bool) -> usize {
    let mut asking = JoinSet::new();
    for process in processes {
        let client = process.client();
        asking.spawn(async move {
            let mut right = 0;
            for _ in 0..number {
                let answer = client.graphql(ME).await;
                right += usize::from(answered(answer.status.as_u16(), answer.code().as_deref()));
            }
            right
        });
    }
    asking.join_all().await.into_iter().sum()
}

fn good(status: u16, code: Option<&str>) -> bool {
    status == 200 && code.is_none()
}

fn refused(status: u16, code: Option<&str>) -> bool {
    status == 502 && code == Some("CREDENTIALS_REFUSED")
}

/// A constant load; no request of it may fail.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    callers: JoinSet<()>,
}

impl Load {
    fn on(processes: &[Process]) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut callers = JoinSet::new();
        for client in processes.iter().map(Process::client) {
            callers.spawn(Self::call(client, Arc::clone(&stop), Arc::clone(&sent)));
        }
        Self { stop, sent, callers }
    }

    async fn call(client: Client, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
        while !stop.load(Ordering::Relaxed) {
            client.graphql(ME).await.assert_good();
            sent.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Goes on until the sandbox has given so many tokens more.
    async fn for_tokens(&mut self, sandbox: &Sandbox, number: u64) {
        let known = sandbox.seen().counts().tokens_issued;
        while sandbox.seen().counts().tokens_issued < known + number {
            assert!(self.callers.try_join_next().is_none(), "a request failed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it, and says how many requests were served.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        self.sent.load(Ordering::Relaxed)
    }
}

fn wrong_password(mut command: Command) -> Command {
    command.env("FLUENT_PASSWORD", "planted-p but wrong");
    command
}

fn short_lived(seconds: u64) -> Config {
    Config {
        token_lifetime: Duration::from_secs(seconds),
        ..fluent()
    }
}

#[tokio::test]
async fn a_wrong_password_in_twenty_processes_costs_one_login_in_ten_thousand_requests() {
    let sandbox = sandbox(fluent()).await;
    let redis = RedisServer::start(&[]).await;
    let command = || wrong_password(with_redis(&sandbox.url(), redis.socket()));
    let processes = start(20, command).await;
    assert_eq!(ask_all(&processes, 500, refused).await, 10_000);
    assert_eq!(sandbox.seen().counts().token_requests, 1);
    assert_eq!(sandbox.seen().counts().api_requests, 0);
    for process in &processes[..2] {
        let page = process.admin().get("/status").await.json();
        let user = &page["instances"]["default"]["users"]["default"];
        assert_eq!(user["login"], "refused");
        assert!(user["next_attempt_in_seconds"].as_u64().unwrap() > 600);
        let ready = process.admin().get("/readyz").await;
        assert_eq!(ready.status, 503);
        let reason = ready.json()["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("refused"), "{reason}");
        assert_eq!(
            process.admin().get("/livez").await.status,
            200,
            "no reason to restart"
        );
    }
}

#[tokio::test]
async fn ten_restarts_with_a_wrong_password_and_a_folder_cost_one_login() {
    let sandbox = sandbox(fluent()).await;
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        let command = wrong_password(with_folder(&sandbox.url(), folder.path()));
        let process = Process::start(command).await;
        let answer = process.client().graphql(ME).await;
        answer.assert_refused(502, "CREDENTIALS_REFUSED");
        assert!(answer.headers.contains_key("retry-after"));
        assert!(process.terminate().await.success());
    }
    assert_eq!(sandbox.seen().counts().token_requests, 1);
}

#[tokio::test]
async fn a_container_that_starts_again_finds_its_token_in_the_folder() {
    let sandbox = sandbox(fluent()).await;
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let process = Process::start(with_folder(&sandbox.url(), folder.path())).await;
        process.client().graphql(ME).await.assert_good();
        let page = process.admin().get("/status").await.json();
        let by = page["instances"]["default"]["users"]["default"]["obtained_by"].clone();
        assert_eq!(by, if round == 0 { "password" } else { "shared" });
        process.terminate().await;
    }
    assert_eq!(sandbox.seen().counts().token_requests, 1);
}

#[tokio::test]
async fn twenty_processes_on_an_empty_store_cost_one_login_and_all_serve() {
    let sandbox = sandbox(fluent()).await;
    let redis = RedisServer::start(&[]).await;
    let processes = start(20, || with_redis(&sandbox.url(), redis.socket())).await;
    assert_eq!(ask_all(&processes, 1, good).await, 20);
    assert_eq!(sandbox.seen().counts().token_requests, 1);
}

/// Eight processes under load through so many lifetimes of 2 s.
async fn live_through(lifetimes: u64) {
    let sandbox = sandbox(short_lived(2)).await;
    let redis = RedisServer::start(&[]).await;
    let processes = start(8, || with_redis(&sandbox.url(), redis.socket())).await;
    let mut load = Load::on(&processes);
    load.for_tokens(&sandbox, lifetimes).await;
    assert!(load.end().await > 100);
    let tokens = sandbox.seen().counts().tokens_issued;
    let asked = sandbox.seen().counts().token_requests;
    assert!(
        asked <= 2 * tokens + 2,
        "{asked} token requests in {tokens} lifetimes"
    );
}

#[tokio::test]
async fn a_lifetime_costs_a_fleet_two_token_requests_and_no_request_fails() {
    live_through(4).await;
}

#[tokio::test]
#[ignore = "takes more than two minutes"]
async fn fifty_lifetimes_cost_a_fleet_two_token_requests_each_and_no_request_fails() {
    live_through(50).await;
}

/// Two processes under load while something happens to their store, and through two tokens after that.
async fn trouble(what: impl AsyncFnOnce(&mut RedisServer, &Sandbox)) {
    let sandbox = sandbox(short_lived(3)).await;
    let mut redis = RedisServer::start(&[]).await;
    let processes = start(2, || with_redis(&sandbox.url(), redis.socket())).await;
    let mut load = Load::on(&processes);
    load.for_tokens(&sandbox, 1).await;
    what(&mut redis, &sandbox).await;
    load.for_tokens(&sandbox, 2).await;
    load.end().await;
    let mut errors = 0.0;
    for process in &processes {
        errors += errors_of_the_store(process).await;
    }
    assert!(errors > 0.0, "nobody saw what happened");
}

/// How often the store failed a process.
async fn errors_of_the_store(process: &Process) -> f64 {
    Scrape::of_process(process)
        .await
        .value("shared_cache_errors_total")
}

#[tokio::test]
async fn no_request_fails_when_the_server_is_killed() {
    trouble(async |redis, _| redis.kill()).await;
}

#[tokio::test]
async fn no_request_fails_when_the_server_stands_still_and_goes_on() {
    trouble(async |redis, sandbox| {
        redis.signal(Signal::STOP);
        let known = sandbox.seen().counts().token_requests;
        sandbox
            .seen()
            .wait_for(|counts| counts.token_requests >= known + 2)
            .await;
        redis.signal(Signal::CONT);
    })
    .await;
}

#[tokio::test]
async fn no_request_fails_when_the_server_starts_again_empty() {
    trouble(async |redis, _| redis.restart().await).await;
}

#[tokio::test]
async fn no_request_fails_when_the_server_is_full() {
    let sandbox = sandbox(short_lived(3)).await;
    let redis = RedisServer::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).await;
    let processes = start(2, || with_redis(&sandbox.url(), redis.socket())).await;
    let mut load = Load::on(&processes);
    load.for_tokens(&sandbox, 2).await;
    load.end().await;
    assert!(errors_of_the_store(&processes[0]).await > 0.0);
}

#[tokio::test]
async fn no_request_fails_when_the_server_answers_garbage() {
    let sandbox = sandbox(short_lived(3)).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("garbage.sock");
    let answering = garbage(&socket);
    let processes = start(2, || with_redis(&sandbox.url(), &socket)).await;
    let mut load = Load::on(&processes);
    load.for_tokens(&sandbox, 2).await;
    load.end().await;
    answering.abort();
}

#[tokio::test]
async fn who_logs_in_and_is_killed_holds_nobody_up_for_longer_than_its_lease() {
    let sandbox = sandbox(fluent()).await;
    let redis = RedisServer::start(&[]).await;
    let command = || {
        let mut command = with_redis(&sandbox.url(), redis.socket());
        command.args(["--set", "fluent.token.timeout=3s"]);
        command
    };
    sandbox
        .faults()
        .inject(Place::Token, Times::Count(1), Fault::Hang);
    let first = Process::start(command()).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    let others = start(3, command).await;
    first.signal_with(Signal::KILL);
    assert_eq!(soon(ask_all(&others, 1, good)).await, 3);
    assert_eq!(sandbox.seen().counts().token_requests, 2);
}

#[tokio::test]
async fn a_value_that_was_tampered_with_is_replaced() {
    let sandbox = sandbox(fluent()).await;
    let folder = tempfile::tempdir().unwrap();
    let first = Process::start(with_folder(&sandbox.url(), folder.path())).await;
    first.client().graphql(ME).await.assert_good();
    let files = std::fs::read_dir(folder.path()).unwrap();
    let file = files
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|kind| kind == "json"))
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let sealed = text.split("\"sealed\":\"").nth(1).unwrap();
    let (head, tail) = sealed.split_at(60);
    let other = if tail.starts_with('A') { "B" } else { "A" };
    let tampered = text.replace(sealed, &format!("{head}{other}{}", &tail[1..]));
    assert_ne!(text, tampered);
    std::fs::write(&file, tampered).unwrap();
    for logins in [2, 2] {
        let process = Process::start(with_folder(&sandbox.url(), folder.path())).await;
        process.client().graphql(ME).await.assert_good();
        assert_eq!(sandbox.seen().counts().token_requests, logins);
        process.terminate().await;
    }
}

#[tokio::test]
async fn a_thousand_callers_who_hang_up_cancel_nothing_for_one_who_stays() {
    let sandbox = sandbox(fluent()).await;
    sandbox.faults().inject(Place::Token, Times::Always, Fault::Hang);
    let process = Process::start(Process::command(&sandbox.url())).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        callers.spawn(process.client().graphql(ME));
    }
    let stays = tokio::spawn(process.client().graphql(ME));
    let in_flight = async || {
        let page = String::from_utf8(process.admin().get("/metrics").await.body.to_vec()).unwrap();
        page.contains("fluent_auth_proxy_requests_in_flight 1001\n")
    };
    soon(async {
        while !in_flight().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    callers.shutdown().await;
    sandbox.faults().clear();
    soon(stays).await.unwrap().assert_good();
    assert_eq!(sandbox.seen().counts().token_requests, 1);
}

/// Another version of a secret, as Kubernetes swaps it.
pub(super) fn swap(volume: &Path, version: &str, password: &str) {
    let folder = volume.join(version);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("password"), password).unwrap();
    let link = volume.join("..data_tmp");
    std::os::unix::fs::symlink(version, &link).unwrap();
    std::fs::rename(&link, volume.join("..data")).unwrap();
}

#[tokio::test]
async fn a_secret_that_is_rolled_under_load_fails_no_request_and_is_used_for_the_next_login() {
    let sandbox = sandbox(short_lived(6)).await;
    let volume = tempfile::tempdir().unwrap();
    swap(volume.path(), "..1", PASSWORD);
    let file = volume.path().join("password");
    std::os::unix::fs::symlink("..data/password", &file).unwrap();
    let mut command = Process::command(&sandbox.url());
    command
        .env_remove("FLUENT_PASSWORD")
        .env("FLUENT_PASSWORD_FILE", &file);
    let mut process = Process::start(command).await;
    let mut load = Load::on(std::slice::from_ref(&process));
    load.for_tokens(&sandbox, 1).await;
    let new = format!("{PASSWORD} rolled");
    swap(volume.path(), "..2", &new);
    process
        .line_with("credentials have changed: the next login uses the new ones")
        .await;
    sandbox.change_password(USERNAME, &new);
    load.for_tokens(&sandbox, 2).await;
    load.end().await;
    let last = sandbox.seen().token_requests().pop().unwrap();
    assert_eq!(last.parameter("password"), Some(new.as_str()));
    let counts = sandbox.seen().counts();
    assert_eq!(counts.tokens_refused, 0);
}

#[tokio::test]
async fn a_password_that_is_mended_in_its_file_ends_a_refusal_without_a_restart() {
    let sandbox = sandbox(fluent()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "planted-p but wrong").unwrap();
    let mut command = Process::command(&sandbox.url());
    command
        .env_remove("FLUENT_PASSWORD")
        .env("FLUENT_PASSWORD_FILE", &file);
    let mut process = Process::start(command).await;
    let refused = process.client().graphql(ME).await;
    refused.assert_refused(502, "CREDENTIALS_REFUSED");
    std::fs::write(&file, &account().password).unwrap();
    process.line_with("token obtained").await;
    process.client().graphql(ME).await.assert_good();
    assert_eq!(sandbox.seen().counts().token_requests, 2);
}

#[tokio::test]
async fn sighup_reads_secrets_at_once_and_a_refusal_is_cleared_for_the_fleet() {
    let sandbox = sandbox(fluent()).await;
    let redis = RedisServer::start(&[]).await;
    // The right password, before it is that of the account.
    let new = format!("{PASSWORD} of tomorrow");
    let command = || {
        let mut command = with_redis(&sandbox.url(), redis.socket());
        command.env("FLUENT_PASSWORD", &new);
        command
    };
    let processes = start(3, command).await;
    assert_eq!(ask_all(&processes, 2, refused).await, 6);
    sandbox.change_password(USERNAME, &new);
    processes[0].signal_with(Signal::HUP);
    for process in &processes {
        soon(async {
            while process.client().graphql(ME).await.status != 200 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(sandbox.seen().counts().token_requests, 2);
}

/// Runs `check --login` with this folder, and gives its exit code and what it said.
async fn check(url: &str, folder: &Path, password: &str, more: &[&str]) -> (i32, String) {
    let mut command = with_folder(url, folder);
    command
        .env("FLUENT_PASSWORD", password)
        .args(["check", "--login"])
        .args(more);
    let output = soon(command.output()).await.unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert_clean(&told, "what check says");
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

#[tokio::test]
async fn check_login_heeds_and_writes_the_refusals_that_processes_share() {
    let sandbox = sandbox(fluent()).await;
    let (url, folder) = (sandbox.url(), tempfile::tempdir().unwrap());
    let logins = || sandbox.seen().counts().token_requests;
    let wrong = "planted-p but wrong";
    let (code, told) = check(&url, folder.path(), wrong, &[]).await;
    assert_eq!((code, logins()), (77, 1), "{told}");
    let (code, told) = check(&url, folder.path(), wrong, &[]).await;
    assert_eq!((code, logins()), (77, 1), "{told}");
    assert!(
        told.contains("Nothing was sent") && told.contains("--force"),
        "{told}"
    );
    let process = Process::start(wrong_password(with_folder(&url, folder.path()))).await;
    process
        .client()
        .graphql(ME)
        .await
        .assert_refused(502, "CREDENTIALS_REFUSED");
    assert_eq!(logins(), 1, "a process that starts heeds it too");
    let (code, told) = check(&url, folder.path(), wrong, &["--force"]).await;
    assert_eq!((code, logins()), (77, 2), "{told}");
    sandbox.change_password(USERNAME, wrong);
    let (code, told) = check(&url, folder.path(), wrong, &["--force"]).await;
    assert_eq!((code, logins()), (0, 3), "{told}");
    // The process that runs takes the token that check got.
    soon(async {
        while process.client().graphql(ME).await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(logins(), 3);
}

#[tokio::test]
async fn check_login_waits_for_no_process_that_logs_in_now_and_logs_in_beside_it_if_forced() {
    let sandbox = sandbox(fluent()).await;
    let (url, folder) = (sandbox.url(), tempfile::tempdir().unwrap());
    sandbox
        .faults()
        .inject(Place::Token, Times::Count(1), Fault::Hang);
    let mut command = with_folder(&url, folder.path());
    command.args(["--set", "fluent.token.timeout=60s"]);
    let _process = Process::start(command).await;
    sandbox.seen().wait_for(|counts| counts.faults == 1).await;
    let (code, told) = check(&url, folder.path(), PASSWORD, &[]).await;
    assert_eq!(code, 69, "{told}");
    assert!(told.contains("another process is logging in"), "{told}");
    assert_eq!(sandbox.seen().counts().token_requests, 1);
    let (code, told) = check(&url, folder.path(), PASSWORD, &["--force"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(sandbox.seen().counts().token_requests, 2);
}

#[tokio::test]
async fn a_token_that_check_got_lives_no_longer_than_any() {
    let sandbox = sandbox(Config {
        expires_in: ExpiresIn::Absent,
        ..fluent()
    })
    .await;
    let (url, folder) = (sandbox.url(), tempfile::tempdir().unwrap());
    let lifetime = ["--set", "fluent.token.default_lifetime=8760h"];
    let (code, told) = check(&url, folder.path(), PASSWORD, &lifetime).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("lives for 2592000 s"), "{told}");
    let mut command = with_folder(&url, folder.path());
    command.args(lifetime);
    let process = Process::start(command).await;
    process.client().graphql(ME).await.assert_good();
    let page = process.admin().get("/status").await.json();
    let user = &page["instances"]["default"]["users"]["default"];
    assert_eq!(user["obtained_by"], "shared");
    assert!(
        user["expires_in_seconds"].as_u64().unwrap() <= 30 * 24 * 3600,
        "{user}"
    );
}

/// Takes TLS off for a Redis server; ends with the test.
async fn tls_before(redis: &RedisServer, authority: &Authority) -> String {
    let issued = authority.issue("localhost", |_| {});
    let acceptor = tokio_rustls::TlsAcceptor::from(server(&issued, None, &[]));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = redis.socket().to_owned();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                // Who does not trust us leaves in the middle.
                if let Ok(mut outside) = acceptor.accept(stream).await {
                    let mut inside = tokio::net::UnixStream::connect(socket).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                }
            });
        }
    });
    format!("rediss://localhost:{port}")
}

#[tokio::test]
async fn a_server_is_spoken_to_by_tls_where_its_url_says_so() {
    let sandbox = sandbox(fluent()).await;
    let redis = RedisServer::start(&[]).await;
    let authority = Authority::new();
    let url = tls_before(&redis, &authority).await;
    let command = |trusted: bool| {
        let mut command = with_redis(&sandbox.url(), redis.socket());
        command.env("FLUENT_PROXY__CACHE__REDIS_URL", &url);
        if trusted {
            command.env("SSL_CERT_FILE", authority.file());
        }
        command
    };
    for (trusted, logins) in [(true, 1), (true, 0), (false, 1)] {
        // On a machine that is busy enough the store may be too slow for one, which then goes on alone.
        let mut tries = 0..10;
        loop {
            tries.next().expect("the store is in time now and then");
            let known = sandbox.seen().counts().token_requests;
            let process = Process::start(command(trusted)).await;
            process.client().graphql(ME).await.assert_good();
            let (missed, came) = (
                errors_of_the_store(&process).await > 0.0,
                sandbox.seen().counts().token_requests - known,
            );
            process.terminate().await;
            if missed == trusted {
                continue;
            }
            assert_eq!(came, logins, "trusted: {trusted}");
            break;
        }
    }
}

#[tokio::test]
async fn a_thousand_instances_that_nobody_uses_cost_no_thread_and_no_task() {
    let sandbox = sandbox(fluent()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let instance = |number: usize| {
        let url = sandbox.url();
        format!(
            "[instances.i{number}]\nurl = '{url}'\nusername = 'u{number}'\npassword = 'planted-p{number}'\n\
             client_id = 'c'\nclient_secret = 'planted-client-secret'\n"
        )
    };
    let instances: String = (0..1000).map(instance).collect();
    std::fs::write(file.path(), instances).unwrap();
    let mut costs = Vec::new();
    for with_instances in [false, true] {
        let mut command = Process::command(&sandbox.url());
        if with_instances {
            command.arg("--config").arg(file.path());
        }
        let process = Process::start(command).await;
        process.client().graphql(ME).await.assert_good();
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.id()))
            .unwrap()
            .count();
        let tasks = Scrape::of_process(&process).await.value("tokio_tasks");
        assert!(tasks > 0.0, "it is told");
        costs.push((threads, tasks));
    }
    // Connections that are not closed yet, and threads that waited for a disk, come and go.
    let (without, with) = (costs[0], costs[1]);
    assert!(with.0 < without.0 + 10 && with.1 < without.1 + 10.0, "{costs:?}");
}
