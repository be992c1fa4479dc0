//! Messages that are none, or not the guard's: heads, names, values, bodies.
#![expect(clippy::too_many_lines, reason = "each table is one function")]

use super::super::Heard::{May, Never, Once, Twice};
use super::*;

pub(super) fn heads() -> Vec<Row> {
    let without = |name: &str| -> Vec<(&'static str, &'static str)> {
        GET.into_iter().filter(|(known, _)| *known != name).collect()
    };
    vec![
        ("a request as it should be", Once, vec![get(1, &[])]),
        ("two requests", Twice, vec![get(1, &[]), get(3, &[])]),
        ("no method", Never, only(&without(":method"))),
        ("no scheme", May, only(&without(":scheme"))),
        ("no path", Never, only(&without(":path"))),
        ("no authority", Never, only(&without(":authority"))),
        (
            "nothing but pseudo headers of an answer",
            Never,
            only(&[(":status", "200")]),
        ),
        (
            "a status beside a request",
            Never,
            only(&[&GET[..], &[(":status", "200")]].concat()),
        ),
        ("two methods", Never, only(&[&[POST], &GET[..]].concat())),
        ("two paths", Never, only(&[&GET[..], &[SMUGGLED]].concat())),
        ("two authorities", Never, only(&[&GET[..], &[AUTHORITY]].concat())),
        (
            "an unknown pseudo header",
            Never,
            only(&[&GET[..], &[(":x", "y")]].concat()),
        ),
        (
            "a pseudo header without a name",
            Never,
            only(&[&GET[..], &[(":", "y")]].concat()),
        ),
        (
            "a pseudo header after others",
            Never,
            only(&[METHOD, SCHEME, AUTHORITY, ("x-a", "b"), PATH]),
        ),
        (
            "a protocol without its method",
            Never,
            only(&[&GET[..], &[(":protocol", "websocket")]].concat()),
        ),
        (
            "CONNECT with a path",
            Never,
            only(&[(":method", "CONNECT"), SCHEME, AUTHORITY, PATH]),
        ),
        (
            "CONNECT with an authority alone",
            Never,
            only(&[(":method", "CONNECT"), (":authority", "evil.example:443")]),
        ),
        (
            "CONNECT of a protocol",
            Never,
            only(&[
                (":method", "CONNECT"),
                (":protocol", "x"),
                SCHEME,
                AUTHORITY,
                PATH,
            ]),
        ),
        (
            "an empty method",
            Never,
            only(&[(":method", ""), SCHEME, AUTHORITY, PATH]),
        ),
        (
            "a method with a blank",
            Never,
            only(&[(":method", "GET /x"), SCHEME, AUTHORITY, PATH]),
        ),
        (
            "a method with an end of line",
            Never,
            only(&[(":method", "GET\r\n"), SCHEME, AUTHORITY, PATH]),
        ),
        (
            "an empty path",
            Never,
            only(&[METHOD, SCHEME, AUTHORITY, (":path", "")]),
        ),
        (
            "a path without a slash",
            Never,
            only(&[METHOD, SCHEME, AUTHORITY, (":path", "api/v4.1/echo?case=000")]),
        ),
        (
            "a path with a blank",
            Never,
            only(&[
                METHOD,
                SCHEME,
                AUTHORITY,
                (":path", "/api/v4.1/echo?case=000 HTTP/1.1"),
            ]),
        ),
        (
            "a path with a request in it",
            Never,
            only(&[
                METHOD,
                SCHEME,
                AUTHORITY,
                (
                    ":path",
                    "/api/v4.1/echo?case=000 HTTP/1.1\r\nHost: x\r\n\r\nGET /x",
                ),
            ]),
        ),
        (
            "a path that is a URL",
            Never,
            only(&[METHOD, SCHEME, AUTHORITY, (":path", "http://evil.example/")]),
        ),
        (
            "an asterisk",
            Never,
            only(&[(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")]),
        ),
        (
            "another authority",
            Never,
            only(&[METHOD, SCHEME, (":authority", "evil.example"), PATH]),
        ),
        (
            "an authority with userinfo",
            Never,
            only(&[METHOD, SCHEME, (":authority", "x@localhost"), PATH]),
        ),
        (
            "an authority with a path",
            Never,
            only(&[METHOD, SCHEME, (":authority", "localhost/x"), PATH]),
        ),
        (
            "an authority with an end of line",
            Never,
            only(&[METHOD, SCHEME, (":authority", "localhost\r\nx: y"), PATH]),
        ),
        (
            "an empty authority",
            Never,
            only(&[METHOD, SCHEME, (":authority", ""), PATH]),
        ),
        (
            "an authority and another Host",
            Never,
            vec![get(1, &[("host", "evil.example")])],
        ),
        (
            "an authority and the same Host",
            Once,
            vec![get(1, &[("host", "localhost")])],
        ),
        (
            "an authority and two Hosts",
            Never,
            vec![get(1, &[("host", "localhost"), ("host", "localhost")])],
        ),
        (
            "Host alone",
            May,
            only(&[METHOD, SCHEME, PATH, ("host", "localhost")]),
        ),
        (
            "another Host alone",
            Never,
            only(&[METHOD, SCHEME, PATH, ("host", "evil.example")]),
        ),
        (
            "a scheme of another kind",
            May,
            only(&[METHOD, (":scheme", "gopher"), AUTHORITY, PATH]),
        ),
        (
            "a scheme with an end of line",
            Never,
            only(&[METHOD, (":scheme", "http\r\n"), AUTHORITY, PATH]),
        ),
    ]
}

pub(super) fn names_and_values() -> Vec<Row> {
    let with = |name, value| vec![get(1, &[(name, value)])];
    vec![
        ("a connection header", Never, with("connection", "close")),
        (
            "a connection header that names ours",
            Never,
            with("connection", "authorization"),
        ),
        ("keep-alive", Never, with("keep-alive", "timeout=5")),
        ("proxy-connection", Never, with("proxy-connection", "keep-alive")),
        ("an upgrade", Never, with("upgrade", "h2c")),
        ("a transfer coding", Never, with("transfer-encoding", "chunked")),
        (
            "a transfer coding with a body",
            Never,
            vec![
                post(1, &[("transfer-encoding", "chunked")]),
                frame(
                    DATA,
                    END_STREAM,
                    1,
                    b"0\r\n\r\nGET /api/v4.1/echo?smuggled=000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                ),
            ],
        ),
        ("te of something else", May, with("te", "gzip")),
        ("a name in capitals", Never, with("X-A", "b")),
        ("a name with a blank", Never, with("x a", "b")),
        ("a name with a colon", Never, with("x:a", "b")),
        ("a name with an end of line", Never, with("x-a: b\r\nx", "b")),
        ("a name with a NUL", Never, with("x\0a", "b")),
        ("a name that is not ASCII", Never, with("x\u{e9}", "b")),
        ("an empty name", Never, with("", "b")),
        ("a value with an end of line", Never, with("x-a", "b\r\nx-c: d")),
        ("a value with a bare LF", Never, with("x-a", "b\nx-c: d")),
        ("a value with a bare CR", Never, with("x-a", "b\rx-c: d")),
        ("a value with a NUL", Never, with("x-a", "b\0")),
        (
            "a value with a request",
            Never,
            with(
                "x-a",
                "b\r\n\r\nGET /api/v4.1/echo?smuggled=000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ),
        ),
        ("a foreign origin", Never, with("origin", "https://evil.example")),
        (
            "headers of the proxy's own",
            Once,
            vec![get(1, &[("authorization", "Bearer x"), ("fluent.account", "x")])],
        ),
    ]
}

pub(super) fn bodies() -> Vec<Row> {
    let body = |length: &str, data: &[u8]| {
        vec![
            post(1, &[("content-length", length)]),
            frame(DATA, END_STREAM, 1, data),
        ]
    };
    let request = b"GET /api/v4.1/echo?smuggled=000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    vec![
        ("a body as it should be", Once, body("2", b"{}")),
        (
            "a body longer than its length",
            May,
            body("2", &[b"{}", &request[..]].concat()),
        ),
        ("a body shorter than its length", May, body("200", b"{}")),
        ("a body beside a length of 0", May, body("0", request)),
        ("a length that is no number", Never, body("x", b"{}")),
        ("a length with a plus", Never, body("+2", b"{}")),
        (
            "a length over 64 bits",
            Never,
            body("18446744073709551618", b"{}"),
        ),
        (
            "two lengths that differ",
            Never,
            vec![
                post(1, &[("content-length", "2"), ("content-length", "200")]),
                frame(DATA, END_STREAM, 1, b"{}"),
            ],
        ),
        (
            "two lengths alike",
            May,
            vec![
                post(1, &[("content-length", "2"), ("content-length", "2")]),
                frame(DATA, END_STREAM, 1, b"{}"),
            ],
        ),
        (
            "a length and no body",
            May,
            vec![get(1, &[("content-length", "200")])],
        ),
        (
            "a body and no type",
            Never,
            vec![
                head(0, 1, &[POST, SCHEME, AUTHORITY, PATH]),
                frame(DATA, END_STREAM, 1, b"{}"),
            ],
        ),
        (
            "a body that does not come",
            May,
            vec![post(1, &[("content-length", "2")])],
        ),
        (
            "data in many empty frames",
            Once,
            [
                vec![post(1, &[("content-length", "2")])],
                vec![frame(DATA, 0, 1, b""); 50],
                vec![frame(DATA, END_STREAM, 1, b"{}")],
            ]
            .concat(),
        ),
        (
            "data padded",
            Once,
            vec![post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, b"\x03{}\0\0\0")],
        ),
        (
            "data padded beyond its frame",
            May,
            vec![post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, b"\x09{}")],
        ),
        (
            "data padded without a length",
            May,
            vec![post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, b"")],
        ),
        (
            "data beyond the window",
            May,
            [vec![post(1, &[])], vec![frame(DATA, 0, 1, &[b'x'; 16_000]); 20]].concat(),
        ),
        (
            "data in a frame too long",
            May,
            vec![post(1, &[]), frame(DATA, END_STREAM, 1, &[b'x'; 20_000])],
        ),
        (
            "trailers",
            Once,
            vec![
                post(1, &[]),
                frame(DATA, 0, 1, b"{}"),
                head(END_STREAM, 1, &[("x-end", "1"), ("host", "evil.example")]),
            ],
        ),
        (
            "trailers with pseudo headers",
            May,
            vec![
                post(1, &[]),
                frame(DATA, 0, 1, b"{}"),
                head(END_STREAM, 1, &[SMUGGLED]),
            ],
        ),
        (
            "trailers that do not end the stream",
            May,
            vec![post(1, &[]), head(0, 1, &[("x-end", "1")])],
        ),
        (
            "an expectation",
            May,
            vec![
                post(1, &[("expect", "100-continue")]),
                frame(DATA, END_STREAM, 1, b"{}"),
            ],
        ),
    ]
}
