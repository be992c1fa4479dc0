//! Memory with every limit reached at once: no more than the settings say.

use fluent_sandbox::{Fault, Injection, Place, Times, When};
use http::Version;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::support::{Process, Raw, fluent, full, sandbox, soon};

const KIB: usize = 1024;
/// The largest head, and what the server holds of it in one buffer.
const HEAD: usize = 64 * KIB;
/// What the client to Fluent holds in one buffer: hyper's own limit, 8 KiB and 100 pages.
const LEG: usize = 408 * KIB;
/// For what does not grow with the load: the allocator, the record of a page of metrics.
const FIXED: usize = 8 * 1024 * KIB;

/// Uploads that Fluent has taken and not answered, and downloads that nobody reads.
const IN_FLIGHT: [usize; 2] = [8, 8];
const QUEUE: usize = 32;
const HALF_HEADS: usize = 32;
/// One more, to ask whether all the others are in the way.
const CONNECTIONS: usize = IN_FLIGHT[0] + IN_FLIGHT[1] + QUEUE + HALF_HEADS + 1;
/// Beyond them: the kernel keeps these.
const WAITING: usize = 32;
const REPLAY_LIMIT: usize = 256 * KIB;
/// For half of the uploads.
const REPLAY_MEMORY: usize = 1024 * KIB;

/// Says all of `bytes` if it ever may, and stays.
fn say(process: &Process, bytes: String) -> JoinHandle<()> {
    let address = process.address();
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(bytes.as_bytes()).await;
        std::future::pending::<()>().await;
    })
}

fn upload(length: usize, body: usize) -> String {
    let head = "POST /api/v4.1/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {length}\r\n\r\n{}", "x".repeat(body))
}

/// Sends a request over a connection of HTTP/2 of its own, with a body as long as anybody takes it, and stays;
/// nothing of an answer is read but its head.
fn multiplexed(process: &Process, request: http::request::Builder, body: usize) -> JoinHandle<()> {
    let address = process.address();
    tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.unwrap();
        let connection = tokio::spawn(connection);
        let _ended = AbortOnDropHandle::new(connection);
        let answer = sender.send_request(request.body(full(vec![b'x'; body])).unwrap());
        let _answer = answer.await.unwrap();
        std::future::pending::<()>().await;
    })
}

/// Waits until a gauge of the metrics has this value.
async fn gauge(process: &Process, name: &str, value: usize) {
    let line = format!("\nfluent_auth_proxy_{name} {value}\n");
    let reached = async {
        loop {
            let page = process.admin().get("/metrics").await;
            if String::from_utf8_lossy(&page.body).contains(&line) {
                return;
            }
        }
    };
    soon(reached).await;
}

/// The peak once it no longer rises, in KiB.
async fn settled_peak(process: &Process) -> u64 {
    let mut last = 0;
    loop {
        for _ in 0..200 {
            process.admin().get("/livez").await;
        }
        let peak = process.peak();
        if peak == last {
            return peak;
        }
        last = peak;
    }
}

async fn serve(url: &str) -> Process {
    let mut command = Process::command(url);
    let [uploads, downloads] = IN_FLIGHT;
    let in_flight = uploads + downloads;
    for setting in [
        "listen.paths=/api/v4.1/*".to_owned(),
        format!("listen.max_connections={CONNECTIONS}"),
        "listen.header_timeout=1h".to_owned(),
        "listen.write_timeout=1h".to_owned(),
        "listen.body_timeout=1h".to_owned(),
        format!("upstream.max_in_flight={in_flight}"),
        format!("upstream.queue={QUEUE}"),
        "upstream.queue_timeout=1h".to_owned(),
        format!("upstream.replay_limit={REPLAY_LIMIT}B"),
        format!("upstream.replay_memory={REPLAY_MEMORY}B"),
        "runtime.workers=2".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    Process::start(command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stays_within_its_bound_with_every_limit_reached_at_once() {
    assert_bounded(Version::HTTP_11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stays_within_the_same_bound_over_http_2() {
    assert_bounded(Version::HTTP_2).await;
}

/// Downloads and those who queue come over this version.
#[expect(clippy::print_stdout, reason = "the figure is worth reading")]
async fn assert_bounded(version: Version) {
    let sandbox = sandbox(fluent()).await;
    let process = serve(&sandbox.url()).await;
    // Warm: each way was gone once.
    let warm = process.client().post("/api/v4.1/upload", "x".repeat(KIB)).await;
    assert_eq!(warm.json()["length"], KIB);
    assert_eq!(
        process
            .client()
            .get("/api/v4.1/download?bytes=100000")
            .await
            .status,
        200
    );
    let before = settled_peak(&process).await;

    let hang = Injection::new(Place::Api, Fault::Hang).when(When::AfterBody);
    let hang = sandbox
        .faults()
        .add(hang.times(Times::Always).path("/api/v4.1/upload"));
    let [uploads, downloads] = IN_FLIGHT;
    let asked = sandbox.seen().counts();
    let mut load: Vec<_> = (0..uploads)
        .map(|_| say(&process, upload(REPLAY_LIMIT, REPLAY_LIMIT)))
        .collect();
    let taken = asked.api_bodies + uploads as u64;
    soon(sandbox.seen().wait_for(|counts| counts.api_bodies == taken)).await;
    let in_flight = asked.api_requests + (uploads + downloads) as u64;
    if version == Version::HTTP_2 {
        let download = || http::Request::get("http://localhost/api/v4.1/download?bytes=1000000000");
        load.extend((0..downloads).map(|_| multiplexed(&process, download(), 0)));
        soon(sandbox.seen().wait_for(|counts| counts.api_requests == in_flight)).await;
        let upload = || {
            let request = http::Request::post("http://localhost/api/v4.1/upload");
            request.header("content-type", "application/json")
        };
        load.extend((0..QUEUE).map(|_| multiplexed(&process, upload(), 8 << 20)));
    } else {
        let download = "GET /api/v4.1/download?bytes=1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        load.extend((0..downloads).map(|_| say(&process, download.to_owned())));
        soon(sandbox.seen().wait_for(|counts| counts.api_requests == in_flight)).await;
        load.extend((0..QUEUE).map(|_| say(&process, upload(8 << 20, 8 << 20))));
    }
    gauge(&process, "requests_in_flight", uploads + downloads + QUEUE).await;
    let half = format!(
        "GET /api/v4.1/echo HTTP/1.1\r\nX-Long: {}",
        "x".repeat(HEAD - KIB)
    );
    load.extend((0..HALF_HEADS).map(|_| say(&process, half.clone())));
    gauge(&process, "connections", CONNECTIONS - 1).await;
    let mut last = Raw::connect(process.address()).await;
    last.send(upload(1, 1)).await;
    last.answer().await.assert_refused(503, "OVERLOADED");
    load.extend((0..WAITING).map(|_| say(&process, half.clone())));
    let grown = settled_peak(&process).await - before;
    gauge(&process, "connections", CONNECTIONS).await;

    // Each connection holds what it reads, what it parses and what it writes; each request two buffers upstream.
    let bound = CONNECTIONS * 3 * HEAD + (uploads + downloads) * 2 * LEG + REPLAY_MEMORY + FIXED;
    let bound = bound as u64 / 1024;
    println!("{version:?}: memory grew by {grown} KiB; its bound is {bound} KiB");
    assert!(grown <= bound, "memory grew by {grown} KiB, over {bound} KiB");

    // Nothing of it is left behind.
    load.iter().for_each(JoinHandle::abort);
    drop(last);
    sandbox.faults().clear_one(hang);
    gauge(&process, "requests_in_flight", 0).await;
    let after = process.client().post("/api/v4.1/upload", "x").await;
    assert_eq!(after.json()["length"], 1);
    assert!(process.terminate().await.success());
}
