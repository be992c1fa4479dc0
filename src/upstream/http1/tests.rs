//! Exchanges on connections that lead to the other end of a pipe, on a clock that stands still.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{Method, Request, Response, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::decode::{Chunk, Framing, Malformed, Part};
use super::*;
use crate::unreachable::BoxError;

mod oracle;

pub(in crate::upstream) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const ALMOST: Duration = Duration::from_secs(9);

pub(in crate::upstream) const LIFETIMES: Lifetimes = Lifetimes {
    idle: Duration::from_secs(15),
    age: Duration::from_mins(5),
};

type Exchanged = Result<Response<AnswerBody>, Unfinished>;

/// An exchange that runs by itself, where its connection goes, and the other end.
struct Run {
    exchange: JoinHandle<Exchanged>,
    ones: Arc<Ones>,
    end: DuplexStream,
}

/// Starts to send a request; the pipe takes 4 KiB each way.
fn run<B>(request: Request<B>) -> Run
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let ones = Arc::new(Ones::new(LIFETIMES));
    let (here, end) = tokio::io::duplex(4096);
    let (head, body) = request.into_parts();
    let to = Arc::clone(&ones);
    let exchange = tokio::spawn(async move {
        Box::new(One::new(here, RESPONSE_TIMEOUT))
            .exchange(&head, body, &to)
            .await
    });
    Run { exchange, ones, end }
}

fn get() -> Request<Full<Bytes>> {
    Request::get("http://upstream/x?y=1")
        .body(Full::default())
        .unwrap()
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("/x").body(Full::new(body.into())).unwrap()
}

impl Run {
    /// What has come to the other end by now.
    async fn came(&mut self) -> String {
        settled().await;
        let mut came = vec![0; 64 * 1024];
        let mut length = 0;
        while let Some(more) = self.end.read(&mut came[length..]).now_or_never() {
            match more.unwrap() {
                0 => break,
                more => length += more,
            }
            settled().await;
        }
        String::from_utf8_lossy(&came[..length]).into_owned()
    }

    async fn says(&mut self, bytes: &str) {
        self.end.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn answer(&mut self) -> Exchanged {
        (&mut self.exchange).await.unwrap()
    }

    /// The body of an answer that comes at once.
    async fn body(&mut self, answer: &str) -> AnswerBody {
        self.says(answer).await;
        self.answer().await.ok().unwrap().into_body()
    }

    /// Whether the connection may be used again.
    async fn is_back(&self) -> bool {
        settled().await;
        self.ones.take(Instant::now()).is_some()
    }
}

/// Lets every task go as far as it can.
pub(in crate::upstream) async fn settled() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn data(body: &mut AnswerBody) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_is_written_with_its_length_in_one_of_two_ways() {
    let headers = |request: request::Builder| request.header("a", "1").header("content-length", "9");
    let whole = headers(Request::put("http://upstream/x?y=1")).body(Full::from("body"));
    let mut whole = run(whole.unwrap());
    let expected = "PUT /x?y=1 HTTP/1.1\r\ncontent-length: 4\r\na: 1\r\n\r\nbody";
    assert_eq!(whole.came().await, expected);

    let (mut caller, stream) = Channel::<Bytes>::new(1);
    let request = headers(Request::post("/")).header("transfer-encoding", "gzip");
    let mut chunked = run(request.body(stream).unwrap());
    // The head waits for nothing.
    let expected = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\na: 1\r\n\r\n";
    assert_eq!(chunked.came().await, expected);
    caller.send_data("0123456789".into()).await.unwrap();
    assert_eq!(chunked.came().await, "a\r\n0123456789\r\n");
    // An empty chunk would be the last.
    caller.send_data(Bytes::new()).await.unwrap();
    assert_eq!(chunked.came().await, "");
    let large = "x".repeat(10_000);
    caller.send_data(large.clone().into()).await.unwrap();
    assert_eq!(chunked.came().await, format!("2710\r\n{large}\r\n"));
    drop(caller);
    assert_eq!(chunked.came().await, "0\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_told_where_the_method_has_one_or_the_caller_said_so() {
    for (request, told) in [
        (get(), false),
        (post(""), true),
        (Request::delete("/").body(Full::default()).unwrap(), false),
        (
            Request::delete("/")
                .header("content-length", "0")
                .body(Full::default())
                .unwrap(),
            true,
        ),
    ] {
        let mut run = run(request);
        let came = run.came().await;
        assert!(came.ends_with("\r\n\r\n"), "{came}");
        assert_eq!(came.contains("\r\ncontent-length: 0\r\n"), told, "{came}");
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_of_a_request_are_dropped() {
    let (mut caller, stream) = Channel::<Bytes>::new(2);
    caller.send_data("a".into()).await.unwrap();
    let trailers = [(http::header::AUTHORIZATION, "late".parse().unwrap())];
    caller
        .send_trailers(trailers.into_iter().collect())
        .await
        .unwrap();
    drop(caller);
    let mut run = run(Request::post("/").body(stream).unwrap());
    assert!(run.came().await.ends_with("\r\n\r\n1\r\na\r\n0\r\n\r\n"));
}

/// A body that tells this length, be it another than it has, or none.
pub(super) struct Told<B>(pub(super) B, pub(super) Option<u64>);

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Told<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.1.map(SizeHint::with_exact).unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_or_lies_about_its_length_ends_the_exchange() {
    for length in [3, 5] {
        let mut run = run(Request::post("/")
            .body(Told(Full::from("1234"), Some(length)))
            .unwrap());
        let Err(Unfinished {
            failure: Failure::Request(error),
            ..
        }) = run.answer().await
        else {
            panic!("it said {length}")
        };
        assert!(error.to_string().starts_with("it is"), "{error}");
        // What goes on after its length would be the next request.
        assert!(!run.came().await.contains("1234") || length == 5);
    }
    let (caller, stream) = Channel::<Bytes, io::Error>::new(1);
    let mut run = run(Request::post("/").body(stream).unwrap());
    run.came().await;
    caller.abort(io::ErrorKind::Other.into());
    assert!(matches!(
        run.answer().await,
        Err(Unfinished {
            failure: Failure::Request(_),
            ..
        })
    ));
    assert!(!run.is_back().await);
}

#[tokio::test(start_paused = true)]
async fn the_last_byte_of_an_answer_gives_its_connection_back() {
    let mut run = run(get());
    let mut body = run.body("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
    assert_eq!(body.size_hint().exact(), Some(4));
    assert_eq!(data(&mut body).await, "ab");
    assert!(!run.is_back().await && !body.is_end_stream());
    run.says("cd").await;
    assert_eq!(data(&mut body).await, "cd");
    // Not first when somebody asks for more.
    assert!(body.is_end_stream());
    let mut one = run.ones.take(Instant::now()).unwrap();
    assert!(body.frame().await.is_none());
    assert!(one.is_quiet());
    run.ones.put(one);
    run.ones.sweep(Instant::now());
    let one = run.ones.take(Instant::now()).unwrap();
    assert_eq!(one.buffer.capacity(), 0, "it holds no buffer");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_body_gives_it_back_at_once() {
    let head = Request::head("/").body(Full::default()).unwrap();
    for (request, answer) in [
        (get(), "HTTP/1.1 204 No Content\r\n\r\n"),
        (get(), "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        (get(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (head, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    ] {
        let mut run = run(request);
        let body = run.body(answer).await;
        assert!(body.is_end_stream() && run.is_back().await, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_come_as_they_are_and_trailers_after_them() {
    let mut run = run(get());
    let mut body = run
        .body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3")
        .await;
    run.says(" ;of=three\r\nabc\r\nA\r\n01234").await;
    assert_eq!(data(&mut body).await, "abc");
    assert_eq!(data(&mut body).await, "01234");
    run.says("56789\r\n0\r\nX-Sum: 1\r\n").await;
    assert_eq!(data(&mut body).await, "56789");
    assert!(body.frame().now_or_never().is_none() && !run.is_back().await);
    run.says("\r\n").await;
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["x-sum"], "1");
    assert!(body.is_end_stream() && run.is_back().await);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_ends_with_its_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nab",
        "HTTP/1.0 200 OK\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\nContent-Length: 9\r\n\r\nab",
    ] {
        let mut run = run(get());
        let mut body = run.body(answer).await;
        assert_eq!(data(&mut body).await, "ab");
        run.end.shutdown().await.unwrap();
        assert!(body.frame().await.is_none() && !run.is_back().await, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_to_last_or_says_too_much_is_closed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        let mut run = run(get());
        run.says(answer).await;
        let answer = run.answer().await.ok().unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ab");
        assert!(!run.is_back().await);
        run.came().await;
        assert_eq!(run.end.read(&mut [0]).await.unwrap(), 0, "its end is told");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_or_left_gives_nothing_back() {
    for begin in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
    ] {
        let mut cut = run(get());
        let mut body = cut.body(begin).await;
        assert_eq!(data(&mut body).await, "ab");
        cut.end.shutdown().await.unwrap();
        assert!(matches!(body.frame().await, Some(Err(Failure::Closed))));
        assert!(body.frame().await.is_none() && !cut.is_back().await);

        let mut left = run(get());
        let mut body = left.body(begin).await;
        assert_eq!(data(&mut body).await, "ab");
        drop(body);
        assert!(!left.is_back().await);
        left.came().await;
        assert_eq!(left.end.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn interim_answers_are_passed_over_however_they_come() {
    let answers = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 418 Tea, please\r\n\
                   Content-Length: 0\r\nA: 1\r\nA: 2\r\n\r\n";
    for at in 0..answers.len() {
        let mut run = run(get());
        let (first, second) = answers.split_at(at);
        run.says(first).await;
        settled().await;
        run.says(second).await;
        let answer = run.answer().await.ok().unwrap();
        assert_eq!(answer.status(), 418);
        let reason = answer.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Tea, please");
        let values: Vec<_> = answer.headers().get_all("a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert!(run.is_back().await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_told_so() {
    let (long, many) = ("x".repeat(500_000), "a: 1\r\n".repeat(101));
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
    for (bytes, wanted) in [
        (
            "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
            Malformed::Head(httparse::Error::Version),
        ),
        (with("a b: 1"), Malformed::Head(httparse::Error::HeaderName)),
        (
            with("a: 1\r\n b: 1"),
            Malformed::Head(httparse::Error::HeaderName),
        ),
        (with(&many), Malformed::Head(httparse::Error::TooManyHeaders)),
        (with(&format!("a: {long}")), Malformed::TooLong),
        (format!("HTTP/1.1 200 {long}"), Malformed::TooLong),
        ("HTTP/1.1 099 X\r\n\r\n".to_owned(), Malformed::Status),
        (
            "HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n".to_owned(),
            Malformed::Switched,
        ),
        (with("Content-Length: +1"), Malformed::Length),
        (with("Content-Length: 1\r\nContent-Length: 2"), Malformed::Length),
        (with("Content-Length: 1, 2"), Malformed::Length),
        (with("Content-Length:"), Malformed::Length),
        (with("Content-Length: 99999999999999999999"), Malformed::Length),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            Malformed::Encoding,
        ),
    ] {
        let mut run = run(get());
        let (exchange, said) = tokio::join!(&mut run.exchange, run.end.write_all(bytes.as_bytes()));
        drop(said);
        match exchange.unwrap() {
            Err(Unfinished {
                failure: Failure::Malformed(malformed),
                ..
            }) => assert_eq!(malformed, wanted),
            Err(Unfinished { failure, .. }) => panic!("{failure:?} instead of {wanted:?}"),
            Ok(answer) => panic!("{} instead of {wanted:?}", answer.status()),
        }
        assert!(!run.is_back().await);
    }
    let mut run = run(get());
    let body = run.body(&with("Content-Length: 2\r\nContent-Length: 2, 2")).await;
    assert_eq!(body.size_hint().exact(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_chunk_is_told_so() {
    let long = "x".repeat(20_000);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    for (bytes, wanted) in [
        ("\r\n".to_owned(), Malformed::Chunk),
        ("-1\r\n".to_owned(), Malformed::Chunk),
        ("0x1\r\n".to_owned(), Malformed::Chunk),
        ("2;a\nb\r\n".to_owned(), Malformed::Chunk),
        ("0\r\na: 1\nb: 2\r\n\r\n".to_owned(), Malformed::Chunk),
        ("fffffffffffffffff\r\n".to_owned(), Malformed::Chunk),
        ("1\r\nabc".to_owned(), Malformed::Chunk),
        (format!("1;{long}"), Malformed::TooLong),
        (format!("0\r\na: {long}"), Malformed::TooLong),
        (format!("0\r\na: {long}\r\n\r\n"), Malformed::TooLong),
        (
            "0\r\na b: 1\r\n\r\n".to_owned(),
            Malformed::Head(httparse::Error::HeaderName),
        ),
    ] {
        let mut run = run(get());
        let mut body = run.body(chunked).await;
        assert_eq!(data(&mut body).await, "a");
        let end = async {
            let mut last = body.frame().await;
            while let Some(Ok(_)) = last {
                last = body.frame().await;
            }
            last
        };
        let (last, _) = tokio::join!(end, run.end.write_all(bytes.as_bytes()));
        match last {
            Some(Err(Failure::Malformed(malformed))) => assert_eq!(malformed, wanted, "{bytes:.20}"),
            other => panic!("{other:?} instead of {wanted:?}"),
        }
        assert!(!run.is_back().await);
    }
}

/// All that a body in chunks comes to that is there whole.
fn chunks(text: &str) -> Result<Vec<usize>, Malformed> {
    let (mut framing, mut buffer) = (Framing::Chunked(Chunk::Size), BytesMut::from(text));
    let mut lengths = Vec::new();
    loop {
        match framing.take(&mut buffer)? {
            Part::Frame(frame) => lengths.push(frame.data_ref().map_or(0, Bytes::len)),
            Part::More => panic!("it is there whole"),
            Part::End => return Ok(lengths),
        }
    }
}

#[test]
fn what_is_long_but_not_too_long_is_taken_and_what_is_longer_is_not() {
    let x = |length| "x".repeat(length);
    let head = |length| {
        let text = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", x(length));
        decode::head(&mut BytesMut::from(&*text), &Method::GET).map(|head| head.is_some())
    };
    assert_eq!(head(300_000), Ok(true));
    assert_eq!(head(500_000), Err(Malformed::TooLong));
    assert_eq!(chunks(&format!("1;{}\r\na\r\n0\r\n\r\n", x(15_000))), Ok(vec![1]));
    assert_eq!(
        chunks(&format!("1;{}\r\na\r\n0\r\n\r\n", x(17_000))),
        Err(Malformed::TooLong)
    );
    assert_eq!(chunks(&format!("0\r\na: {}\r\n\r\n", x(15_000))), Ok(vec![0]));
    assert_eq!(
        chunks(&format!("0\r\na: {}\r\n\r\n", x(17_000))),
        Err(Malformed::TooLong)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_begun_with_its_first_byte_and_not_before() {
    for (begin, begun) in [
        ("", false),
        ("HTTP/1.1 100 Continue\r\n\r\n", true),
        ("H", true),
        ("HTTP/1.1 200 OK\r\n", true),
    ] {
        let mut run = run(get());
        run.came().await;
        run.says(begin).await;
        run.end.shutdown().await.unwrap();
        let Err(unfinished) = run.answer().await else {
            panic!("{begin}")
        };
        assert!(matches!(unfinished.failure, Failure::Closed));
        assert_eq!(unfinished.begun, begun, "{begin}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_though_upstream_read_no_more_of_the_request() {
    let (here, mut end) = tokio::io::duplex(4096);
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    end.write_all(refusal.as_bytes()).await.unwrap();
    drop(end);
    let ones = Arc::new(Ones::new(LIFETIMES));
    let (head, body) = post(vec![0; 100_000]).into_parts();
    let answer = Box::new(One::new(here, RESPONSE_TIMEOUT))
        .exchange(&head, body, &ones)
        .await
        .ok()
        .unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "no");
    settled().await;
    assert!(ones.take(Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_anew_after_each_part_of_the_request_that_upstream_took() {
    let mut run = run(post(vec![b'x'; 20_000]));
    let mut part = vec![0; 4096];
    let mut last = Instant::now();
    for _ in 0..4 {
        tokio::time::sleep(ALMOST).await;
        run.end.read_exact(&mut part).await.unwrap();
        last = Instant::now();
    }
    assert!(matches!(
        run.answer().await,
        Err(Unfinished {
            failure: Failure::TimedOut,
            begun: false
        })
    ));
    assert_eq!(last.elapsed(), RESPONSE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_waited_for_while_the_caller_makes_upstream_wait() {
    let (mut caller, stream) = Channel::<Bytes>::new(1);
    let mut run = run(Request::post("/").body(stream).unwrap());
    for _ in 0..3 {
        tokio::time::sleep(RESPONSE_TIMEOUT * 3).await;
        caller.send_data("x".into()).await.unwrap();
    }
    drop(caller);
    settled().await;
    let sent = Instant::now();
    tokio::time::sleep(ALMOST).await;
    // An interim answer, or a part of the head, is none.
    run.says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2").await;
    let Err(unfinished) = run.answer().await else {
        panic!()
    };
    assert!(matches!(unfinished.failure, Failure::TimedOut) && unfinished.begun);
    assert_eq!(sent.elapsed(), RESPONSE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_takes_nothing_is_not_waited_for_longer_than_one_that_says_nothing() {
    // There is no room for the head, and no body yet.
    let (here, _end) = tokio::io::duplex(16);
    let (_caller, stream) = Channel::<Bytes>::new(1);
    let (head, body) = Request::post("/").body(stream).unwrap().into_parts();
    let (since, ones) = (Instant::now(), Arc::new(Ones::new(LIFETIMES)));
    let answer = Box::new(One::new(here, RESPONSE_TIMEOUT)).exchange(&head, body, &ones);
    let Err(unfinished) = answer.await else { panic!() };
    assert!(matches!(unfinished.failure, Failure::TimedOut));
    assert_eq!(since.elapsed(), RESPONSE_TIMEOUT);
}

/// Tells whether it was shut down.
struct Shut(DuplexStream, Arc<AtomicBool>);

impl AsyncRead for Shut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Shut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.store(true, Ordering::SeqCst);
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_dropped_says_goodbye() {
    let (here, _end) = tokio::io::duplex(16);
    let shut = Arc::new(AtomicBool::new(false));
    let one = One::new(Shut(here, Arc::clone(&shut)), RESPONSE_TIMEOUT);
    assert!(!shut.load(Ordering::SeqCst));
    drop(one);
    assert!(shut.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn each_exchange_on_a_connection_is_waited_for_by_itself() {
    let mut run = run(get());
    tokio::time::sleep(ALMOST).await;
    run.says("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(run.answer().await.is_ok());
    let one = run.ones.take(Instant::now()).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (head, body) = get().into_parts();
    let since = Instant::now();
    let answer = one.exchange(&head, body, &run.ones).await;
    assert!(matches!(
        answer,
        Err(Unfinished {
            failure: Failure::TimedOut,
            ..
        })
    ));
    assert_eq!(since.elapsed(), RESPONSE_TIMEOUT);
}

/// A request that goes on after its answer has begun.
async fn overtaken(answer: &str) -> (Run, http_body_util::channel::Sender<Bytes, io::Error>, AnswerBody) {
    let (caller, stream) = Channel::<Bytes, io::Error>::new(1);
    let mut run = run(Request::post("/").body(stream).unwrap());
    run.came().await;
    let body = run.body(answer).await;
    (run, caller, body)
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_request_is_sent_though_nobody_reads_its_answer() {
    let long = "y".repeat(20_000);
    let (run, mut caller, mut body) = overtaken("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n").await;
    let (mut read, mut write) = tokio::io::split(run.end);
    let answering = tokio::spawn(async move { write.write_all(long.as_bytes()).await.map(|()| write) });
    for _ in 0..20 {
        caller.send_data("x".repeat(1000).into()).await.unwrap();
        let mut chunk = vec![0; 1000 + 7];
        read.read_exact(&mut chunk).await.unwrap();
        assert!(chunk.starts_with(b"3e8\r\nxxx") && chunk.ends_with(b"x\r\n"));
    }
    assert_eq!(body.size_hint().exact(), Some(20_000));
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(length, 20_000);
    assert!(body.is_end_stream());
    drop(body);
    // The connection is free when both have ended.
    settled().await;
    assert!(run.ones.take(Instant::now()).is_none());
    drop(caller);
    let mut end = [0; 5];
    read.read_exact(&mut end).await.unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    settled().await;
    assert!(run.ones.take(Instant::now()).is_some());
    drop(answering.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_chunks_that_overtook_its_request_ends_where_it_says() {
    let (mut run, caller, mut body) =
        overtaken("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
    assert_eq!(data(&mut body).await, "a");
    drop(caller);
    assert_eq!(run.came().await, "0\r\n\r\n");
    assert!(!run.is_back().await && !body.is_end_stream());
    run.says("0\r\n\r\n").await;
    assert!(body.frame().await.is_none() && body.is_end_stream());
    assert!(run.is_back().await);
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_on_after_an_answer_without_a_body() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    ] {
        let (mut run, mut caller, mut body) = overtaken(answer).await;
        while !body.is_end_stream() {
            assert_eq!(data(&mut body).await, "a");
        }
        drop(body);
        settled().await;
        caller.send_data("more".into()).await.unwrap();
        drop(caller);
        assert_eq!(run.came().await, "4\r\nmore\r\n0\r\n\r\n");
        assert!(run.is_back().await, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_overtook_its_request_is_cut_with_it() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na";
    let (run, caller, mut body) = overtaken(answer).await;
    assert_eq!(data(&mut body).await, "a");
    caller.abort(io::ErrorKind::Other.into());
    assert!(matches!(body.frame().await, Some(Err(Failure::Closed))));
    assert!(body.frame().await.is_none() && !run.is_back().await);

    // Left by the caller, both end, though upstream says nothing more.
    let (mut run, mut caller, mut body) = overtaken(answer).await;
    assert_eq!(data(&mut body).await, "a");
    settled().await;
    drop(body);
    settled().await;
    assert!(caller.send_data("more".into()).await.is_err());
    run.came().await;
    assert_eq!(run.end.read(&mut [0]).await.unwrap(), 0);
}
