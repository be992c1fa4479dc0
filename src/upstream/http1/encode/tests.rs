//! Requests on connections that take them bit by bit.

use std::fmt::Write;

use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::tests::Told;
use super::*;

/// Takes so many bytes at each turn, and none at every zero.
struct Slow {
    turns: Vec<usize>,
    next: usize,
    vectored: bool,
    taken: Vec<u8>,
}

impl AsyncWrite for Slow {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = self.turns[self.next % self.turns.len()];
        self.next += 1;
        if turn == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut bytes: Vec<u8> = match slices.iter().find(|slice| !slice.is_empty()) {
            Some(first) if !self.vectored => first.to_vec(),
            Some(_) | None => slices.iter().flat_map(|slice| slice.to_vec()).collect(),
        };
        bytes.truncate(turn);
        self.taken.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_byte_leaves_once_and_in_order_however_the_connection_takes_them(
        lengths in prop::collection::vec(select(&[0, 1, 17, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL][..]), 0..6),
        turns in prop::collection::vec(select(&[0, 1, 2, 3, 300, SMALL, 4 * SMALL][..]), 1..8),
        (is_told, vectored) in any::<(bool, bool)>(),
    ) {
        let turns = [&turns[..], &[4 * SMALL]].concat();
        let frames: Vec<_> = (b'a'..).zip(&lengths).map(|(byte, length)| Bytes::from(vec![byte; *length])).collect();
        let mut expected = String::from("POST / HTTP/1.1\r\n");
        if is_told {
            write!(expected, "content-length: {}\r\n\r\n", frames.concat().len()).unwrap();
            expected += std::str::from_utf8(&frames.concat()).unwrap();
        } else {
            expected += "transfer-encoding: chunked\r\n\r\n";
            for frame in frames.iter().filter(|frame| !frame.is_empty()) {
                let data = std::str::from_utf8(frame).unwrap();
                    write!(expected, "{:x}\r\n{data}\r\n", frame.len()).unwrap();
            }
            expected += "0\r\n\r\n";
        }
        let told = is_told.then(|| frames.concat().len() as u64);
        let body = StreamBody::new(stream::iter(frames.into_iter().map(|data| Ok(Frame::data(data)))));
        let (head, ()) = Request::post("/").body(()).unwrap().into_parts();
        let mut outgoing = Outgoing::new(&head, Told(body, told));
        let mut slow = Slow { turns, next: 0, vectored, taken: Vec::new() };
        let sending = std::future::poll_fn(|cx| outgoing.poll_send(cx, &mut slow));
        let sent = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(sending);
        prop_assert!(sent.is_ok() && outgoing.is_sent());
        prop_assert_eq!(String::from_utf8(slow.taken).unwrap(), expected);
    }
}
