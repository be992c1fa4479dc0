//! Both ends of a connection, byte for byte: a caller and an upstream without manners of their own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Answer, soon};

/// A connection on which a test says what it likes. Every wait is a short one.
pub(crate) struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// The head of a message.
#[derive(Debug)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
}

/// An upstream that says what a test likes.
pub(crate) struct RawUpstream {
    listener: TcpListener,
}

impl RawUpstream {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Raw {
        Raw::new(soon(self.listener.accept()).await.unwrap().0)
    }

    /// The next connection, whenever it comes, as a mere stream.
    pub(crate) async fn accept_stream(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

/// An address where connecting never ends: a listener whose queue is full, so that the kernel lets whoever comes
/// wait.
pub(crate) struct BlackHole {
    listener: socket2::Socket,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// Needs time that goes on.
    pub(crate) async fn dig() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        let short = Duration::from_millis(300);
        while let Ok(stream) = tokio::time::timeout(short, TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
        }
        Self {
            listener,
            _queue: queue,
        }
    }

    pub(crate) fn url(&self) -> String {
        let address = self.listener.local_addr().unwrap().as_socket().unwrap();
        format!("http://{address}")
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    pub(crate) async fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        TcpStream::connect(address).await.map(Self::new)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends to one who may have hung up.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        soon(self.stream.write_all(bytes.as_ref())).await
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("the connection ended before a head")
    }

    /// Reads a head; `None` where the connection ends before its first byte.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let text = self.until(b"\r\n\r\n").await?;
        let text = String::from_utf8(text).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            let name = HeaderName::try_from(name).unwrap();
            (name, HeaderValue::try_from(value.trim()).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.map(field) {
            headers.append(name, value);
        }
        Some(Head { line, headers })
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.fill().await, "the connection ended within a body");
        }
        self.unread.drain(..count).collect()
    }

    /// Reads one chunk of a chunked body; an empty one is the last.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let size = self
            .until(b"\r\n")
            .await
            .expect("the connection ended before a chunk");
        let size = std::str::from_utf8(&size).unwrap().trim();
        let chunk = self.take(usize::from_str_radix(size, 16).unwrap()).await;
        if !chunk.is_empty() {
            assert_eq!(self.take(2).await, b"\r\n");
        }
        chunk
    }

    /// Reads an answer of a declared length or in chunks without trailers.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer()
            .await
            .expect("the connection ended before an answer")
    }

    /// Reads an answer; `None` where the connection ends before its first byte.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        let head = self.try_head().await?;
        let mut body = Vec::new();
        if let Some(length) = head.headers.get("content-length") {
            body = self.take(length.to_str().unwrap().parse().unwrap()).await;
        } else if head.headers.contains_key("transfer-encoding") {
            loop {
                let chunk = self.chunk().await;
                body.extend_from_slice(&chunk);
                if chunk.is_empty() {
                    assert_eq!(self.take(2).await, b"\r\n");
                    break;
                }
            }
        }
        let answer = Answer {
            status: head.status(),
            headers: head.headers,
            body: Bytes::from(body),
            trailers: None,
        };
        answer.check(false);
        Some(answer)
    }

    /// Everything up to the end of the connection, whether neat or not.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    /// Everything up to the end of the connection, whenever that comes.
    pub(crate) async fn whole(mut self) -> String {
        while matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..)) {}
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// Reads up to these bytes, them included; `None` where the connection ends before a byte.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|part| part == end) {
                return Some(self.unread.drain(..at + end.len()).collect());
            }
            if !self.fill().await {
                assert!(self.unread.is_empty(), "the connection ended halfway");
                return None;
            }
        }
    }

    /// Whether there was something to read.
    async fn fill(&mut self) -> bool {
        let read = soon(self.stream.read_buf(&mut self.unread)).await;
        matches!(read, Ok(1..))
    }
}

impl Head {
    /// The status of an answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}
