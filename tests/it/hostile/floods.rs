//! Floods: frames and connections without end cost memory that has a bound, and good callers little.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::h2::{block, connection, frame, get, post};
use crate::support::{Process, fluent, sandbox, soon};

/// What a flood may leave behind, in KiB, for all of its connections: heads of 64 KiB, windows, the allocator.
const BOUND: u64 = 8 * 1024;
const CALLERS: usize = 8;
/// Bytes a caller says, unless he is cut.
const LENGTH: usize = 2 << 20;

/// Says it again and again until so much is said or the other side has enough, and reads what it answers.
async fn flood(address: SocketAddr, first: Vec<u8>, again: Vec<u8>) {
    let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
    let reading = tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
    let times = LENGTH / again.len();
    let said = async {
        to.write_all(&first).await?;
        for _ in 0..times {
            to.write_all(&again).await?;
        }
        to.shutdown().await
    };
    let _ = soon(said).await;
    let _ = soon(reading).await;
}

/// Streams that are opened and reset, 1 to `count`.
fn rapid(count: u32) -> Vec<u8> {
    let one = |number| {
        let stream = 2 * number + 1;
        [get(stream, &[]), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    };
    (0..count).flat_map(one).collect()
}

#[tokio::test]
async fn floods_are_bounded_and_good_callers_are_served_meanwhile() {
    let sandbox = sandbox(fluent()).await;
    let mut command = Process::command(&sandbox.url());
    command.args(["--set", "listen.paths=/graphql,/api/v4.1/*"]);
    let process = Process::start(command).await;
    process.client().graphql("{ me { id } }").await.assert_good();

    let begun = |flags| frame(1, flags, 1, &block(&[(":method", "GET")]));
    let many = |one: Vec<u8>| one.repeat(512);
    let floods = [
        ("rapid resets", rapid(5_000), frame(6, 0, 0, &[0; 8])),
        (
            "continuations",
            connection(&[begun(1)]),
            many(frame(9, 0, 1, b"")),
        ),
        (
            "long continuations",
            connection(&[begun(1)]),
            frame(9, 0, 1, &[b'x'; 16_000]),
        ),
        (
            "empty data",
            connection(&[post(1, &[])]),
            many(frame(0, 0, 1, b"")),
        ),
        ("empty heads", connection(&[begun(4)]), many(frame(1, 4, 1, b""))),
        ("pings", connection(&[]), many(frame(6, 0, 0, &[0; 8]))),
        (
            "settings",
            connection(&[]),
            many(frame(4, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ),
        (
            "priorities",
            connection(&[]),
            many(frame(2, 0, 3, &[0, 0, 0, 1, 16])),
        ),
        ("windows", connection(&[]), many(frame(8, 0, 0, &[0, 0, 0, 1]))),
        ("unknown frames", connection(&[]), many(frame(77, 0, 0, b"x"))),
        (
            "resets of what is idle",
            connection(&[]),
            many(frame(3, 0, 1, &[0, 0, 0, 8])),
        ),
        ("a line without end", b"GET /".to_vec(), vec![b'x'; 16_000]),
        ("empty lines", Vec::new(), b"\r\n".repeat(512)),
        (
            "headers without end",
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"x-a: b\r\n".repeat(512),
        ),
    ];
    for (name, first, again) in floods {
        let first = if name == "rapid resets" {
            connection(&[first])
        } else {
            first
        };
        let before = process.peak();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| tokio::spawn(flood(process.address(), first.clone(), again.clone())))
            .collect();
        process.client().graphql("{ me { id } }").await.assert_good();
        for caller in callers {
            soon(caller).await.unwrap();
        }
        process.client().graphql("{ me { id } }").await.assert_good();
        // The kernel counts in batches, so that a peak may seem to fall.
        let grown = process.peak().saturating_sub(before);
        assert!(grown <= BOUND, "{name}: {grown} KiB");
    }
    assert!(process.terminate().await.success());
}
