//! The laws that hyper must agree with, on the wire.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::script::{Script, Step, data};
use super::*;

const LIMITS: BodyLimits = BodyLimits {
    max_body: Some(100),
    timeout: Duration::from_secs(30),
};

fn budget() -> TapeBudget {
    TapeBudget::new(TapeLimits {
        request: 50,
        total: 1000,
    })
}

/// Sends a body as a client does, and gives what upstream reads until `last` or the end of the connection.
async fn sent(body: RequestBody<Script>, last: &str) -> String {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post("/graphql")
        .header(header::HOST, "fluent.example")
        .body(body)
        .unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).ends_with(last) {
        if theirs.read_buf(&mut read).await.unwrap() == 0 {
            break;
        }
    }
    drop(theirs);
    assert!(answer.await.unwrap().is_err());
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn a_declared_length_goes_upstream_on_both_attempts() {
    let script = Script::of(&["ab", "c"]).declaring(3);
    let (recorder, recording) = Recorder::new(script, LIMITS, &budget());
    let first = sent(RequestBody::First(Box::new(recorder)), "abc").await;
    assert!(
        first.contains("\r\ncontent-length: 3\r\n") && first.ends_with("\r\n\r\nabc"),
        "{first}"
    );
    assert_eq!(recording.outcome(), Outcome::Finished);
    let replay = recording.take_tape().unwrap().play();
    assert_eq!(sent(RequestBody::Again(replay), "abc").await, first);
}

#[tokio::test]
async fn an_undeclared_length_is_chunked_first_and_known_to_the_replay() {
    let (recorder, recording) = Recorder::new(Script::of(&["ab", "c"]), LIMITS, &budget());
    let first = sent(RequestBody::First(Box::new(recorder)), "0\r\n\r\n").await;
    assert!(first.contains("transfer-encoding: chunked\r\n"), "{first}");
    assert!(first.ends_with("2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), "{first}");
    let replay = recording.take_tape().unwrap().play();
    let second = sent(RequestBody::Again(replay), "abc").await;
    assert!(second.contains("\r\ncontent-length: 3\r\n"), "{second}");
}

#[tokio::test]
async fn a_body_that_fails_is_never_ended_neatly() {
    let long = Step::Data(Bytes::from(vec![b'x'; 200]));
    for script in [
        Script::new([data("ab"), Step::Fail]),
        Script::new([data("ab"), long]),
    ] {
        let (recorder, recording) = Recorder::new(script, LIMITS, &budget());
        let read = sent(RequestBody::First(Box::new(recorder)), "0\r\n\r\n").await;
        assert!(!read.ends_with("0\r\n\r\n"), "{read}");
        assert!(matches!(recording.outcome(), Outcome::Failed(_)));
    }
}

/// The heads of bodies of which some is still to come.
const MIDWAY: [&str; 2] = [
    "content-length: 10\r\n\r\nabc",
    "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
];

/// A caller's connection to a real server, the task that serves it, and the bodies that arrive there.
fn serve() -> (
    DuplexStream,
    tokio::task::JoinHandle<()>,
    mpsc::UnboundedReceiver<Incoming>,
) {
    let (caller, ours) = tokio::io::duplex(4096);
    let (bodies, arrived) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        bodies.send(request.into_body()).unwrap();
        std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    let task = tokio::spawn(async move {
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(ours), service)
            .await;
    });
    (caller, task, arrived)
}

#[tokio::test]
async fn a_caller_who_leaves_midway_is_noticed() {
    for head in MIDWAY {
        let (mut caller, _task, mut arrived) = serve();
        let request = format!("POST / HTTP/1.1\r\nhost: localhost\r\n{head}");
        caller.write_all(request.as_bytes()).await.unwrap();
        let (mut recorder, recording) = Recorder::new(arrived.recv().await.unwrap(), LIMITS, &budget());
        assert!(recorder.frame().await.unwrap().is_ok());
        drop(caller);
        assert_eq!(
            recorder.frame().await.unwrap().unwrap_err(),
            BodyError::CallerGone
        );
        assert_eq!(recording.outcome(), Outcome::Failed(BodyError::CallerGone));
    }
}

#[tokio::test]
async fn a_body_whose_server_task_is_gone_is_cut() {
    for head in MIDWAY {
        let (mut caller, task, mut arrived) = serve();
        let request = format!("POST / HTTP/1.1\r\nhost: localhost\r\n{head}");
        caller.write_all(request.as_bytes()).await.unwrap();
        let (mut recorder, _recording) = Recorder::new(arrived.recv().await.unwrap(), LIMITS, &budget());
        assert!(recorder.frame().await.unwrap().is_ok());
        task.abort();
        assert_eq!(
            recorder.frame().await.unwrap().unwrap_err(),
            BodyError::CallerGone
        );
    }
}

#[tokio::test]
async fn a_whole_body_of_hyper_is_recorded() {
    for (head, declared) in [
        ("content-length: 6\r\n\r\nabcdef", Some(6)),
        (
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nx-sum: 1\r\n\r\n",
            None,
        ),
    ] {
        let (mut caller, _task, mut arrived) = serve();
        let request = format!("POST / HTTP/1.1\r\nhost: localhost\r\n{head}");
        caller.write_all(request.as_bytes()).await.unwrap();
        let (recorder, recording) = Recorder::new(arrived.recv().await.unwrap(), LIMITS, &budget());
        assert_eq!(recorder.size_hint().exact(), declared);
        let whole = recorder.collect().await.unwrap();
        assert!(whole.trailers().is_none());
        assert_eq!(whole.to_bytes(), "abcdef");
        assert_eq!(&*recording.take_tape().unwrap().contents(), b"abcdef");
    }
}
