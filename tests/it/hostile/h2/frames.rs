//! Streams, frames, settings and compression that break the protocol.
#![expect(clippy::too_many_lines, reason = "each table is one function")]

use super::super::Heard::{May, Never, Once};
use super::*;

pub(super) fn streams() -> Vec<Row> {
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    vec![
        ("a head on stream 0", Never, vec![get(0, &[])]),
        ("a head on an even stream", Never, vec![get(2, &[])]),
        (
            "a head on an older stream",
            May,
            vec![
                get(3, &[]),
                head(END_STREAM, 1, &[METHOD, SCHEME, AUTHORITY, SMUGGLED]),
            ],
        ),
        (
            "a second head on a stream that has ended",
            May,
            vec![
                get(1, &[]),
                head(END_STREAM, 1, &[METHOD, SCHEME, AUTHORITY, SMUGGLED]),
            ],
        ),
        (
            "a second head within a body",
            May,
            vec![
                post(1, &[]),
                head(END_STREAM, 1, &[METHOD, SCHEME, AUTHORITY, SMUGGLED]),
            ],
        ),
        ("a head that is reset", May, vec![get(1, &[]), reset(1)]),
        (
            "a head that is reset twice",
            May,
            vec![get(1, &[]), reset(1), reset(1)],
        ),
        (
            "a head after a reset of its stream",
            Never,
            vec![reset(1), get(1, &[])],
        ),
        (
            "data on stream 0",
            Never,
            vec![frame(DATA, 0, 0, b"x"), get(1, &[])],
        ),
        (
            "data on an idle stream",
            Never,
            vec![frame(DATA, 0, 1, b"x"), get(3, &[])],
        ),
        (
            "data after the end",
            May,
            vec![get(1, &[]), frame(DATA, END_STREAM, 1, b"x")],
        ),
        ("a reset of stream 0", Never, vec![reset(0), get(1, &[])]),
        (
            "a reset of a wrong length",
            Never,
            vec![frame(RST_STREAM, 0, 1, &[0, 0, 8]), get(1, &[])],
        ),
        (
            "a window of stream 0 that grows by nothing",
            Never,
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 4]), get(1, &[])],
        ),
        (
            "a window that overflows",
            May,
            vec![get(1, &[]), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])],
        ),
        (
            "a window of a wrong length",
            Never,
            vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3]), get(1, &[])],
        ),
        (
            "a window of an idle stream",
            Never,
            vec![frame(WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1]), get(1, &[])],
        ),
        (
            "a stream that depends on itself",
            May,
            vec![frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 16][..], &block(&GET)].concat(),
            )],
        ),
        (
            "a priority on stream 0",
            Never,
            vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 16]), get(1, &[])],
        ),
        (
            "a priority of a wrong length",
            May,
            vec![frame(PRIORITY, 0, 1, &[0; 4]), get(3, &[])],
        ),
        (
            "a promise of a client",
            Never,
            vec![
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2][..], &block(&GET)].concat(),
                ),
                get(1, &[]),
            ],
        ),
        (
            "a client that goes away",
            May,
            vec![frame(GOAWAY, 0, 0, &[0; 8]), get(1, &[])],
        ),
        (
            "a client that goes away on a stream",
            Never,
            vec![frame(GOAWAY, 0, 1, &[0; 8]), get(1, &[])],
        ),
    ]
}

pub(super) fn frames() -> Vec<Row> {
    let whole = block(&GET);
    let (start, end) = whole.split_at(10);
    let settings = |payload: &[u8]| vec![frame(SETTINGS, 0, 0, payload), get(1, &[])];
    vec![
        (
            "a head in three frames",
            Once,
            vec![
                frame(HEADERS, END_STREAM, 1, start),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, end),
            ],
        ),
        (
            "a continuation of nothing",
            Never,
            vec![frame(CONTINUATION, END_HEADERS, 1, &whole)],
        ),
        (
            "a continuation on another stream",
            Never,
            vec![
                frame(HEADERS, END_STREAM, 1, start),
                frame(CONTINUATION, END_HEADERS, 3, end),
            ],
        ),
        (
            "a frame within a head",
            Never,
            vec![
                frame(HEADERS, END_STREAM, 1, start),
                frame(PING, 0, 0, &[0; 8]),
                frame(CONTINUATION, END_HEADERS, 1, end),
            ],
        ),
        (
            "another head within a head",
            Never,
            vec![frame(HEADERS, END_STREAM, 1, start), get(3, &[])],
        ),
        (
            "data within a head",
            Never,
            vec![
                frame(HEADERS, 0, 1, start),
                frame(DATA, END_STREAM, 1, b"x"),
                frame(CONTINUATION, END_HEADERS, 1, end),
            ],
        ),
        (
            "a head that never ends",
            Never,
            vec![frame(HEADERS, END_STREAM, 1, &whole)],
        ),
        (
            "a head padded beyond its frame",
            Never,
            vec![frame(
                HEADERS,
                END_STREAM | END_HEADERS | PADDED,
                1,
                &[&[255][..], &whole].concat(),
            )],
        ),
        (
            "a head too short for its priority",
            Never,
            vec![frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                1,
                &[0; 3],
            )],
        ),
        (
            "an empty head",
            Never,
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, b"")],
        ),
        (
            "a ping of a wrong length",
            Never,
            vec![frame(PING, 0, 0, &[0; 7]), get(1, &[])],
        ),
        (
            "a ping on a stream",
            Never,
            vec![frame(PING, 0, 1, &[0; 8]), get(1, &[])],
        ),
        (
            "settings on a stream",
            Never,
            vec![frame(SETTINGS, 0, 1, b""), get(1, &[])],
        ),
        ("settings of a wrong length", Never, settings(&[0; 5])),
        (
            "settings that acknowledge with words",
            Never,
            vec![frame(SETTINGS, ACK, 0, &[0; 6]), get(1, &[])],
        ),
        (
            "settings with a window too large",
            Never,
            settings(&[0, 4, 255, 255, 255, 255]),
        ),
        (
            "settings with a frame too small",
            Never,
            settings(&[0, 5, 0, 0, 0, 1]),
        ),
        (
            "settings with a push that is no switch",
            Never,
            settings(&[0, 2, 0, 0, 0, 2]),
        ),
        (
            "settings that nobody knows",
            Once,
            settings(&[255, 255, 0, 0, 0, 1]),
        ),
        (
            "a frame that nobody knows",
            Once,
            vec![frame(77, 255, 0, b"xyz"), get(1, &[])],
        ),
        (
            "a frame of 16 MiB that does not come",
            Never,
            vec![vec![255, 255, 255, HEADERS, END_STREAM | END_HEADERS, 0, 0, 0, 1]],
        ),
        ("half of a frame", Never, vec![vec![0, 0, 9, HEADERS]]),
        (
            "HTTP/1.1 after the preface",
            Never,
            vec![b"GET /api/v4.1/echo?smuggled=000 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()],
        ),
    ]
}

pub(super) fn compression() -> Vec<Row> {
    let raw = |bytes: &[u8]| vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, bytes)];
    let after = |bytes: &[u8]| raw(&[&block(&GET), bytes].concat());
    vec![
        ("an index of 0", Never, after(&[0x80])),
        ("an index of nothing", Never, after(&[0xff, 0xff, 0xff, 0x03])),
        (
            "an index without an end",
            Never,
            after(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("a length beyond the block", Never, after(&[0, 0x7e, b'x'])),
        (
            "a length without an end",
            Never,
            after(&[0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ),
        ("a field without a value", Never, after(&[0, 1, b'x'])),
        (
            "a table too large",
            Never,
            raw(&[&[0x3f, 0xff, 0xff, 0xff, 0x7f][..], &block(&GET)].concat()),
        ),
        ("a table that changes within the block", Never, after(&[0x20])),
        (
            "a Huffman code with the end within",
            Never,
            after(&[0, 0x84, 0xff, 0xff, 0xff, 0xff, 1, b'x']),
        ),
        (
            "a Huffman code padded too long",
            Never,
            after(&[0, 0x82, 0xff, 0xff, 1, b'x']),
        ),
        (
            "one large field a thousand times",
            Never,
            vec![frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                &[
                    &block(&GET)[..],
                    &[0x40, 3, b'x', b'-', b'a'],
                    &length(4000),
                    &[b'x'; 4000],
                    &[0xbe; 1000],
                ]
                .concat(),
            )],
        ),
    ]
}
