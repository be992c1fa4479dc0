//! A relay before Fluent that keeps what the proxy sends, and reads it by the letter.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::soon;

/// The bytes of each connection, as the proxy sent them.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

pub(super) struct Wire {
    address: SocketAddr,
    kept: Kept,
    relay: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// A relay to the server at `fluent`.
    pub(super) async fn before(fluent: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept::default();
        let all = Arc::clone(&kept);
        let relay = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((proxy, _)) = listener.accept().await {
                let number = {
                    let mut kept = all.lock().unwrap();
                    kept.push(Vec::new());
                    kept.len() - 1
                };
                connections.spawn(relay(proxy, fluent, Arc::clone(&all), number));
            }
        });
        Self { address, kept, relay }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Fails unless all that was sent is well-formed and holds exactly so many whole heads.
    pub(super) async fn assert_strict(self, heads: u64) {
        self.relay.abort();
        let _ = soon(self.relay).await;
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        let sum: u64 = kept.iter().map(|bytes| read(bytes)).sum();
        assert_eq!(sum, heads, "heads on the wire, and requests that Fluent saw");
    }
}

async fn relay(proxy: TcpStream, fluent: SocketAddr, kept: Kept, number: usize) {
    let (mut from_proxy, mut to_proxy) = proxy.into_split();
    let (mut from_fluent, mut to_fluent) = TcpStream::connect(fluent).await.unwrap().into_split();
    let there = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_proxy.read(&mut buffer).await {
            kept.lock().unwrap()[number].extend_from_slice(&buffer[..read]);
            if to_fluent.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to_fluent.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_fluent, &mut to_proxy).await;
        let _ = to_proxy.shutdown().await;
    };
    tokio::join!(there, back);
}

/// Reads all requests of a connection, of which the last may be cut, and counts their heads.
fn read(mut bytes: &[u8]) -> u64 {
    let mut heads = 0;
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let (head, rest) = bytes.split_at(end);
        heads += 1;
        match body(head, &rest[4..]) {
            Some(next) => bytes = next,
            None => return heads,
        }
    }
    assert!(bytes.is_empty(), "no head: {:?}", String::from_utf8_lossy(bytes));
    heads
}

/// Judges a head, and gives what follows its body; `None` where the body was cut.
fn body<'a>(head: &[u8], rest: &'a [u8]) -> Option<&'a [u8]> {
    let shown = String::from_utf8_lossy(head);
    let strange = shown.replace("\r\n", "").contains(['\r', '\n', '\0']);
    assert!(!strange, "{shown}");
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.next().unwrap();
    let words: Vec<_> = line.split(|byte| *byte == b' ').collect();
    assert!(
        words.len() == 3 && words[1].starts_with(b"/") && words[2] == b"HTTP/1.1",
        "{shown}"
    );
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or_else(|| panic!("{shown}"));
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        assert!(!name.is_empty() && name.iter().all(token), "{shown}");
        match name.as_slice() {
            b"content-length" => {
                let digits = value.iter().all(u8::is_ascii_digit) && !value.is_empty();
                assert!(digits && length.is_none(), "{shown}");
                length = Some(String::from_utf8_lossy(value).parse::<usize>().unwrap());
            }
            b"transfer-encoding" => {
                assert!(value == b"chunked" && !chunked, "{shown}");
                chunked = true;
            }
            _ => {}
        }
    }
    match (length, chunked) {
        (Some(_), true) => panic!("two lengths: {shown}"),
        (Some(length), false) => rest.get(length..),
        (None, false) => Some(rest),
        (None, true) => chunks(rest),
    }
}

/// What follows the last chunk. The proxy sends no extensions and no trailers.
fn chunks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        assert!(
            size.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "{size:?} is no size"
        );
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = rest.get(end + 2 + size..)?;
        let (close, next) = (rest.get(..2)?, rest.get(2..)?);
        assert_eq!(close, b"\r\n", "a chunk of another size");
        if size == 0 {
            return Some(next);
        }
        rest = next;
    }
}
