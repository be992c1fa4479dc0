//! What hyper, which is of another house, makes of the same answers.

use http::HeaderMap;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Pieces of which answers are made, good and bad.
const LINES: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 404 Nothing here",
    "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1 999 ",
    "HTTP/1.1 200",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 20 OK",
    "HTTP/2 200 OK",
    "\r\nHTTP/1.1 500 Oh",
];
const FIELDS: &[&str] = &[
    "Content-Length: 5",
    "content-length:5",
    "Content-Length: 0",
    "Content-Length: 5, 5",
    "Content-Length: 7",
    "Content-Length: -5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "transfer-encoding: gzip, Chunked",
    "Transfer-Encoding: chunked, gzip",
    "Connection: close",
    "Connection: keep-alive",
    "X: \u{e4} \t",
    "X:",
    " X: folded",
    "X : y",
    "Trailer: sum",
];
const BODIES: &[&str] = &[
    "",
    "01234",
    "0123",
    "0123456",
    "5\r\n01234\r\n0\r\n\r\n",
    "2\r\n01\r\n3;x=\"y\"\r\n234\r\n0\r\n\r\n",
    "5 \r\n01234\r\n0\r\nsum: 1\r\nx: 2\r\n\r\n",
    "05\r\n01234\r\n00\r\n\r\n",
    "5\r\n01234\r\n0\r\n",
    "5\r\n012345\r\n0\r\n\r\n",
    "5\n01234\r\n0\r\n\r\n",
    "g\r\n",
    "ffffffffffffffff\r\n01",
];

/// An answer, one of its bytes perhaps another (no LF: hyper takes some that stand alone), in parts.
fn written() -> impl Strategy<Value = (Vec<u8>, Vec<Index>)> {
    let interim = select(&["", "", "", "HTTP/1.1 100 Continue\r\n\r\n"][..]);
    let head = (
        interim,
        select(LINES),
        prop::collection::vec(select(FIELDS), 0..4),
    );
    let mutation = prop::option::weighted(0.3, (any::<Index>(), select(&b"\r :;0a,\0\x7f"[..])));
    let splits = prop::collection::vec(any::<Index>(), 0..4);
    (head, select(BODIES), mutation, splits).prop_map(|((interim, line, fields), body, mutation, splits)| {
        let head = [&[line], &fields[..], &[""]].concat().join("\r\n");
        let mut bytes = format!("{interim}{head}\r\n{body}").into_bytes();
        if let Some((at, byte)) = mutation {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        (bytes, splits)
    })
}

/// What an answer came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    reason: Option<Vec<u8>>,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    whole: bool,
}

async fn read<B>(answer: Response<B>) -> Outcome
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, mut body) = answer.into_parts();
    let reason = head.extensions.get::<hyper::ext::ReasonPhrase>();
    let mut outcome = Outcome {
        status: head.status.as_u16(),
        reason: reason.map(|reason| reason.as_bytes().to_vec()),
        headers: head.headers,
        body: Vec::new(),
        trailers: None,
        whole: true,
    };
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => outcome.body.extend_from_slice(&data),
            Ok(Err(trailers)) => outcome.trailers = trailers.into_trailers().ok(),
            Err(_) => outcome.whole = false,
        }
    }
    outcome
}

/// Sends an answer in parts, and ends the connection.
async fn send(mut end: DuplexStream, bytes: Vec<u8>, splits: Vec<Index>) {
    let mut cuts: Vec<_> = splits.iter().map(|split| split.index(bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for part in cuts.windows(2) {
        if end.write_all(&bytes[part[0]..part[1]]).await.is_err() {
            return;
        }
        settled().await;
    }
    let _ = end.shutdown().await;
    let _ = end.read_to_end(&mut Vec::new()).await;
}

async fn by_hyper(bytes: Vec<u8>, splits: Vec<Index>) -> Option<Outcome> {
    let (here, end) = tokio::io::duplex(4096);
    let (mut sender, connection) = http1::handshake(TokioIo::new(here)).await.unwrap();
    tokio::spawn(connection);
    tokio::spawn(send(end, bytes, splits));
    Some(read(sender.send_request(get()).await.ok()?).await)
}

async fn by_us(bytes: Vec<u8>, splits: Vec<Index>) -> Option<Outcome> {
    let Run { exchange, end, .. } = run(get());
    tokio::spawn(send(end, bytes, splits));
    Some(read(exchange.await.unwrap().ok()?).await)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_comes_to_the_same((bytes, splits) in written()) {
        let told = bytes.escape_ascii().to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (ours, theirs) = runtime.block_on(async {
            tokio::join!(by_us(bytes.clone(), splits.clone()), by_hyper(bytes, splits))
        });
        prop_assert_eq!(ours, theirs, "{}", told);
    }
}
