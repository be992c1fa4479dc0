//! Frames of HTTP/2 (RFC 9113) as no client should send them.

mod frames;
mod messages;

use super::{Case, Heard, marked};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;

/// What is said at first, and then in frames.
pub(super) fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, b""), frames.concat()].concat()
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A header block in which every field is written out (RFC 7541, section 6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [length(text.len()), text.as_bytes().to_vec()].concat();
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// An integer with a prefix of 7 bits (RFC 7541, section 5.1).
fn length(number: usize) -> Vec<u8> {
    let Some(mut rest) = number.checked_sub(127) else {
        return vec![u8::try_from(number).unwrap()];
    };
    let mut bytes = vec![127];
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

const METHOD: (&str, &str) = (":method", "GET");
const POST: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "localhost");
const PATH: (&str, &str) = (":path", "/api/v4.1/echo?case=000");
const SMUGGLED: (&str, &str) = (":path", "/api/v4.1/echo?smuggled=000");
const JSON: (&str, &str) = ("content-type", "application/json");

const GET: [(&str, &str); 4] = [METHOD, SCHEME, AUTHORITY, PATH];

/// A whole request without a body.
pub(super) fn get(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    head(END_STREAM, stream, &[&GET, more].concat())
}

/// A request whose body is to come.
pub(super) fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    head(
        0,
        stream,
        &[&[POST, SCHEME, AUTHORITY, PATH, JSON], more].concat(),
    )
}

fn head(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

/// A request of these fields alone.
fn only(fields: &[(&str, &str)]) -> Vec<Vec<u8>> {
    vec![head(END_STREAM, 1, fields)]
}

/// The corpus: heads, framing, streams, settings, compression.
pub(super) fn cases() -> Vec<Case> {
    use frames::{compression, frames, streams};
    use messages::{bodies, heads, names_and_values};
    let rows = [
        heads(),
        names_and_values(),
        bodies(),
        streams(),
        frames(),
        compression(),
    ]
    .concat();
    let case = |(number, (name, heard, frames)): (usize, Row)| Case {
        name: name.to_owned(),
        heard,
        bytes: mark(&connection(&frames), number),
    };
    rows.into_iter().enumerate().map(case).collect()
}

/// Puts the number of the case where its bytes leave room for it. Lengths are counted with it.
fn mark(bytes: &[u8], number: usize) -> Vec<u8> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let text = marked(
        &text
            .replace("?case=000", "?case")
            .replace("?smuggled=000", "?smuggled"),
        number,
    );
    text.chars().map(|char| u8::try_from(char).unwrap()).collect()
}

type Row = (&'static str, Heard, Vec<Vec<u8>>);
