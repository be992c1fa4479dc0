//! What callers do.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures time awake, without a runtime whose clock it could ask"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Connection, post};
use crate::say;

/// The length of a small request's body.
const QUESTION: usize = 240;
/// The pause between two tries to be answered at all.
const RETRY: Duration = Duration::from_micros(500);
/// After this long without an answer there will be none.
const NEVER: Duration = Duration::from_secs(20);

/// One small query, as bytes.
fn question(path: &str) -> Vec<u8> {
    let frame = r#"{"query":"{ me { id } }","variables":{"filler":""}}"#;
    let filler = "x".repeat(QUESTION - frame.len());
    let body = frame.replace(r#""filler":"""#, &format!(r#""filler":"{filler}""#));
    let mut request = post(path, body.len() as u64).into_bytes();
    request.extend_from_slice(body.as_bytes());
    request
}

/// Runs `job` on as many threads as there are connections, each with its number and connection; all begin together.
fn each<T: Send>(
    address: SocketAddr,
    connections: usize,
    job: impl Fn(usize, &mut Connection, Instant) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let ready = Barrier::new(connections);
    let (ready, job) = (&ready, &job);
    thread::scope(|scope| {
        let run = |number| {
            scope.spawn(move || {
                let connection = Connection::open(address);
                ready.wait();
                job(number, &mut connection?, Instant::now())
            })
        };
        let threads: Vec<_> = (0..connections).map(run).collect();
        let done = |thread: thread::ScopedJoinHandle<'_, io::Result<T>>| {
            thread.join().map_err(|_| io::Error::other("a thread died"))?
        };
        threads.into_iter().map(done).collect()
    })
}

pub(crate) fn closed(
    address: SocketAddr,
    path: &str,
    connections: usize,
    time: Duration,
) -> io::Result<Value> {
    let question = question(path);
    let warm = Barrier::new(connections);
    let counts = each(address, connections, |_, connection, _| {
        // What a new connection costs is not what a request costs: that is asked for once it stands, all the way.
        let stands = connection.ask(&question);
        if warm.wait().is_leader() {
            say(&json!({ "open": connections }));
            io::stdin().read_line(&mut String::new())?;
        }
        warm.wait();
        stands?;
        let (since, mut count) = (Instant::now(), 0_u64);
        while since.elapsed() < time {
            connection.ask(&question)?;
            count += 1;
        }
        Ok((count, since.elapsed()))
    })?;
    let requests: u64 = counts.iter().map(|(count, _)| count).sum();
    let longest = counts.iter().map(|(_, took)| *took).max().unwrap_or_default();
    Ok(json!({ "requests": requests, "seconds": longest.as_secs_f64() }))
}

pub(crate) fn open(
    address: SocketAddr,
    path: &str,
    connections: usize,
    rate: f64,
    time: Duration,
) -> io::Result<Value> {
    let question = question(path);
    let pause = Duration::from_secs_f64(1.0 / rate);
    let per_connection = pause.saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX));
    let waits = each(address, connections, |number, connection, since| {
        // The first request warms the connection.
        connection.ask(&question)?;
        let mut due =
            since + per_connection + pause.saturating_mul(u32::try_from(number).unwrap_or_default());
        let mut waits = Vec::new();
        while due < since + time {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            connection.ask(&question)?;
            waits.push(due.elapsed());
            due += per_connection;
        }
        Ok(waits)
    })?;
    let mut waits: Vec<Duration> = waits.into_iter().flatten().collect();
    waits.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "counts of requests are small"
        )]
        let index = ((waits.len() as f64 * share).ceil() as usize).saturating_sub(1);
        waits.get(index).copied().unwrap_or_default().as_secs_f64()
    };
    Ok(json!({
        "requests": waits.len(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1.0),
    }))
}

pub(crate) fn idle(address: SocketAddr, connections: usize) -> io::Result<Value> {
    let question = question("/graphql");
    let mut kept = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = Connection::open(address)?;
        connection.ask(&question)?;
        kept.push(connection);
    }
    say(&json!({ "open": kept.len() }));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(json!({ "closed": kept.len() }))
}

pub(crate) fn download(address: SocketAddr, path: &str) -> io::Result<Value> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n");
    let mut connection = Connection::open(address)?;
    let began = Instant::now();
    let bytes = connection.ask(request.as_bytes())?;
    Ok(json!({ "bytes": bytes, "seconds": began.elapsed().as_secs_f64() }))
}

pub(crate) fn upload(address: SocketAddr, path: &str, bytes: u64) -> io::Result<Value> {
    let mut connection = Connection::open(address)?;
    let began = Instant::now();
    connection.send(post(path, bytes).as_bytes(), bytes)?;
    Ok(json!({ "bytes": bytes, "seconds": began.elapsed().as_secs_f64() }))
}

pub(crate) fn first(address: SocketAddr) -> io::Result<Value> {
    let question = question("/graphql");
    let began = Instant::now();
    loop {
        match Connection::open(address).and_then(|mut connection| connection.ask(&question)) {
            Ok(_) => return Ok(json!({ "seconds": began.elapsed().as_secs_f64() })),
            Err(error) if began.elapsed() > NEVER => return Err(error),
            Err(_) => thread::sleep(RETRY),
        }
    }
}
