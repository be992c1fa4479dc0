//! What the bytes of an answer come to (RFC 9112): its head, and its body part by part.
//!
//! 1. Nothing here reads or waits: bytes are taken from a buffer as far as they can be understood.
//! 2. Interim answers (1xx) are passed over. A switch of protocols, which nobody asks for, is no answer.
//! 3. Where an answer ends is told by section 6.3. What is doubtful is refused (lengths that differ, or are no
//!    numbers; `Transfer-Encoding` in HTTP/1.0) or makes the connection serve for this answer only (both a length and a
//!    transfer encoding).

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use httparse::{EMPTY_HEADER, Status};
use hyper::ext::ReasonPhrase;

/// The most header fields that an answer, or its trailer section, may have, and the most bytes.
const MOST_FIELDS: usize = 100;
const LONGEST_HEAD: usize = 400 * 1024;
const LONGEST_TRAILERS: usize = 16 * 1024;
/// The longest line that tells the size of a chunk, with its extensions.
const LONGEST_SIZE: usize = 16 * 1024;

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::upstream) enum Malformed {
    /// A status line or a header field that is none.
    #[error("the head is malformed: {0}")]
    Head(#[from] httparse::Error),
    /// A status that is none.
    #[error("the status is out of bounds")]
    Status,
    /// A header field that HTTP has, but this program does not know how to hold.
    #[error("a header field is malformed")]
    Field,
    /// A head, a trailer section or the size of a chunk that goes on and on.
    #[error("the head, a chunk's size or the trailer section is too long")]
    TooLong,
    /// `Content-Length` that is no length.
    #[error("the value of Content-Length is no length, or differs from another one")]
    Length,
    /// `Transfer-Encoding` before HTTP/1.1.
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    Encoding,
    /// 101.
    #[error("the protocol was switched, which nobody asked for")]
    Switched,
    /// A chunk without a size, or longer than that; lines between chunks that are none.
    #[error("a chunk or the trailer section is malformed")]
    Chunk,
}

/// The head of an answer.
pub(super) struct Head {
    pub(super) answer: Response<()>,
    pub(super) body: Framing,
    /// Whether the connection may serve for another exchange once the body has ended.
    pub(super) lasts: bool,
}

/// Takes the head of the final answer to a request with this method, if it is there whole.
pub(super) fn head(buffer: &mut BytesMut, asked: &Method) -> Result<Option<Head>, Malformed> {
    while !buffer.is_empty() {
        let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let length = match parser.parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields)? {
            Status::Complete(length) if length <= LONGEST_HEAD => length,
            Status::Partial if buffer.len() <= LONGEST_HEAD => return Ok(None),
            Status::Complete(_) | Status::Partial => return Err(Malformed::TooLong),
        };
        let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Malformed::Status)?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Malformed::Switched);
        }
        if status.is_informational() {
            buffer.advance(length);
            continue;
        }
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        *answer.version_mut() = match parsed.version {
            Some(1) => Version::HTTP_11,
            Some(_) | None => Version::HTTP_10,
        };
        let reason = parsed
            .reason
            .filter(|reason| status.canonical_reason() != Some(reason));
        if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok()) {
            answer.extensions_mut().insert(reason);
        }
        let mut told = Told::default();
        let section = buffer.get(..length).unwrap_or_default();
        *answer.headers_mut() = map(parsed.headers, section, |name, value| told.hear(name, value))?;
        buffer.advance(length);
        let (body, lasts) = told.framing(asked, &answer)?;
        return Ok(Some(Head { answer, body, lasts }));
    }
    Ok(None)
}

/// The fields that were found in `section`, of which their values are slices of one copy; each is shown to `each`.
fn map(
    fields: &[httparse::Header<'_>],
    section: &[u8],
    mut each: impl FnMut(&HeaderName, &[u8]),
) -> Result<HeaderMap, Malformed> {
    let copy = Bytes::copy_from_slice(section);
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Field)?;
        each(&name, field.value);
        let value = HeaderValue::from_maybe_shared(copy.slice(place(field.value, section)));
        map.append(name, value.map_err(|_| Malformed::Field)?);
    }
    Ok(map)
}

/// Where `part` stands in `whole`, of which it is a slice.
fn place(part: &[u8], whole: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    if part.is_empty() {
        0..0
    } else {
        start..start + part.len()
    }
}

/// How the end of a body is told, and what of it is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are to come.
    Length(u64),
    /// Chunks, one of which tells that it is the last.
    Chunked(Chunk),
    /// The connection ends with it.
    Close,
}

/// What comes next of a body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    Data(u64),
    /// The line's end after the data.
    DataEnd,
    Trailers,
    Nothing,
}

/// What a buffer held of a body.
#[derive(Debug)]
pub(super) enum Part {
    Frame(Frame<Bytes>),
    /// Nothing that is whole.
    More,
    /// The end was before it.
    End,
}

/// What the fields of a head tell of the body's end, and of the connection's.
#[derive(Default)]
struct Told {
    /// `Content-Length`, where all of them are one length.
    length: Option<Result<u64, Malformed>>,
    /// Whether the last coding of `Transfer-Encoding` is `chunked`.
    chunked: Option<bool>,
    closes: bool,
}

impl Told {
    fn hear(&mut self, name: &HeaderName, value: &[u8]) {
        if *name == header::CONTENT_LENGTH {
            for length in members(value).map(length) {
                let known = *self.length.get_or_insert(length);
                self.length = Some(if known == length {
                    known
                } else {
                    Err(Malformed::Length)
                });
            }
        } else if *name == header::TRANSFER_ENCODING {
            let last = members(value).last();
            self.chunked = Some(last.is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")));
        } else if *name == header::CONNECTION {
            self.closes |= members(value).any(|member| member.eq_ignore_ascii_case(b"close"));
        }
    }

    /// Section 6.3, and whether the connection lasts.
    fn framing(self, asked: &Method, answer: &Response<()>) -> Result<(Framing, bool), Malformed> {
        let is_current = answer.version() == Version::HTTP_11;
        let both = self.chunked.is_some() && self.length.is_some();
        let lasts = is_current && !self.closes && !both;
        let none = matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match (self.chunked, self.length) {
            _ if none || *asked == Method::HEAD => Ok((Framing::Length(0), lasts)),
            (Some(_), _) if !is_current => Err(Malformed::Encoding),
            (Some(true), _) => Ok((Framing::Chunked(Chunk::Size), lasts)),
            (None, Some(length)) => Ok((Framing::Length(length?), lasts)),
            (Some(false), _) | (None, None) => Ok((Framing::Close, false)),
        }
    }
}

impl Framing {
    /// Whether nothing of the body is to come.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Nothing))
    }

    /// Whether the end of the connection, here, is the end of the body.
    pub(super) fn may_close(self) -> bool {
        self == Self::Close || self.is_over()
    }

    pub(super) fn size_hint(self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(left),
            Self::Chunked(Chunk::Nothing) => SizeHint::with_exact(0),
            Self::Chunked(_) | Self::Close => SizeHint::default(),
        }
    }

    /// Takes the next part of the body from a buffer.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Part, Malformed> {
        match self {
            Self::Length(left) => Ok(data(buffer, left)),
            Self::Close if buffer.is_empty() => Ok(Part::More),
            Self::Close => Ok(Part::Frame(Frame::data(buffer.split().freeze()))),
            Self::Chunked(chunk) => chunk.take(buffer),
        }
    }
}

impl Chunk {
    fn take(&mut self, buffer: &mut BytesMut) -> Result<Part, Malformed> {
        loop {
            match self {
                Self::Size => match size(buffer)? {
                    None => return Ok(Part::More),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::Data(size),
                },
                Self::Data(0) => *self = Self::DataEnd,
                Self::Data(left) => return Ok(data(buffer, left)),
                Self::DataEnd => match buffer.get(..2) {
                    None => return Ok(Part::More),
                    Some(b"\r\n") => {
                        buffer.advance(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(Malformed::Chunk),
                },
                Self::Trailers => {
                    let Some(trailers) = trailers(buffer)? else {
                        return Ok(Part::More);
                    };
                    *self = Self::Nothing;
                    if !trailers.is_empty() {
                        return Ok(Part::Frame(Frame::trailers(trailers)));
                    }
                }
                Self::Nothing => return Ok(Part::End),
            }
        }
    }
}

/// Takes what there is of `left` bytes.
fn data(buffer: &mut BytesMut, left: &mut u64) -> Part {
    let taken = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    if *left == 0 {
        Part::End
    } else if taken == 0 {
        Part::More
    } else {
        *left -= taken as u64;
        Part::Frame(Frame::data(buffer.split_to(taken).freeze()))
    }
}

/// Takes the line that tells the size of a chunk.
fn size(buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    // Without a digit the library reads a size of 0.
    if buffer.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return Err(Malformed::Chunk);
    }
    match httparse::parse_chunk_size(buffer).map_err(|_| Malformed::Chunk)? {
        Status::Complete((length, size)) if length <= LONGEST_SIZE => {
            take_lines(buffer, length)?;
            Ok(Some(size))
        }
        Status::Partial if buffer.len() <= LONGEST_SIZE => Ok(None),
        Status::Complete(_) | Status::Partial => Err(Malformed::TooLong),
    }
}

/// Takes the trailer section.
fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    match httparse::parse_headers(buffer, &mut fields)? {
        Status::Complete((length, fields)) if length <= LONGEST_TRAILERS => {
            let trailers = map(fields, buffer.get(..length).unwrap_or_default(), |_, _| ())?;
            take_lines(buffer, length)?;
            Ok(Some(trailers))
        }
        Status::Partial if buffer.len() <= LONGEST_TRAILERS => Ok(None),
        Status::Complete(_) | Status::Partial => Err(Malformed::TooLong),
    }
}

/// Takes lines, each of which must end with CRLF: for some, an LF alone ends one as well, and for others it does not.
fn take_lines(buffer: &mut BytesMut, length: usize) -> Result<(), Malformed> {
    let lines = buffer.split_to(length);
    let mut lines = lines.split_inclusive(|byte| *byte == b'\n');
    let all = lines.all(|line| line.ends_with(b"\r\n"));
    all.then_some(()).ok_or(Malformed::Chunk)
}

/// The length that digits tell.
fn length(digits: &[u8]) -> Result<u64, Malformed> {
    let number = std::str::from_utf8(digits)
        .ok()
        .filter(|_| digits.iter().all(u8::is_ascii_digit));
    number
        .and_then(|number| number.parse().ok())
        .ok_or(Malformed::Length)
}

/// The members of a list.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
