//! As much of HTTP/1.1 as the measurements speak.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest head that is read.
const HEAD_LIMIT: usize = 16 * 1024;
/// What is read at once of a large body.
const CHUNK: usize = 256 * 1024;
/// Nothing that is measured here takes that long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A client's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of a message, and how many bytes of its body came with it.
pub(crate) struct Head {
    pub(crate) text: String,
    pub(crate) body_so_far: u64,
}

impl Head {
    /// The status of an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.text.split(' ').nth(1)?.parse().ok()
    }

    /// The length of the body; one without a length is none.
    pub(crate) fn length(&self) -> u64 {
        let value = self.text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim())
        });
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }
}

/// Reads up to the end of a head; `buffer` is scratch. `None` where the other side ended before one began.
pub(crate) fn read_head(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    buffer.clear();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 && buffer.is_empty() {
            return Ok(None);
        }
        let Some(new) = chunk.get(..count).filter(|new| !new.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        buffer.extend_from_slice(new);
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, body) = buffer.split_at(end + 4);
            return Ok(Some(Head {
                text: String::from_utf8_lossy(head).into_owned(),
                body_so_far: body.len() as u64,
            }));
        }
        if buffer.len() > HEAD_LIMIT {
            return Err(io::Error::other("a head without end"));
        }
    }
}

/// Reads `left` bytes and forgets them.
pub(crate) fn skip(stream: &mut impl Read, mut left: u64) -> io::Result<()> {
    if left == 0 {
        return Ok(());
    }
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a request as it stands and reads the whole answer, which must be a 200.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<u64> {
        self.stream.write_all(request)?;
        self.answer()
    }

    /// Sends `bytes` of a body, whose head stands in `head`, and reads the whole answer.
    pub(crate) fn send(&mut self, head: &[u8], mut bytes: u64) -> io::Result<u64> {
        self.stream.write_all(head)?;
        let chunk = vec![b'x'; CHUNK];
        while bytes > 0 {
            let now = bytes.min(CHUNK as u64);
            let part = usize::try_from(now).ok().and_then(|now| chunk.get(..now));
            self.stream.write_all(part.unwrap_or(&chunk))?;
            bytes -= now;
        }
        self.answer()
    }

    /// The length of the body of an answer that is a 200.
    fn answer(&mut self) -> io::Result<u64> {
        let head = read_head(&mut self.stream, &mut self.buffer)?;
        let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = head.length();
        skip(&mut self.stream, length.saturating_sub(head.body_so_far))?;
        match head.status() {
            Some(200) => Ok(length),
            _ => Err(io::Error::other(head.text)),
        }
    }
}

/// The head of a request with a body of `length` bytes.
pub(crate) fn post(path: &str, length: u64) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}
