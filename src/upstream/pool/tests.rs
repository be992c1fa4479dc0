//! Connections that lead to the other end of a pipe, on a clock that stands still.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::http1::tests::{LIFETIMES, RESPONSE_TIMEOUT, settled};
use super::super::{Config, Egress, HttpVersion, Leg, Tls, Upstream};
use super::*;

type Bodies = Full<Bytes>;

/// One that connects: it counts how often it was asked to, and makes what comes out of `ready`, each in its turn.
#[derive(Clone, Default)]
struct Maker {
    asked: Arc<AtomicUsize>,
    ready: Arc<Mutex<Vec<oneshot::Receiver<Made>>>>,
}

/// The hand that makes one connection.
type Hand = oneshot::Sender<Made>;

type Made = Result<Connection<Bodies>, BoxError>;

impl Maker {
    /// So many connections may be asked for.
    fn with_hands<const N: usize>() -> (Self, [Hand; N]) {
        let maker = Self::default();
        let hands = std::array::from_fn(|_| {
            let (hand, ready) = oneshot::channel();
            lock(&maker.ready).insert(0, ready);
            hand
        });
        (maker, hands)
    }

    fn connect(&self) -> Making<Bodies> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let ready = lock(&self.ready).pop().expect("nobody makes so many");
        async move { ready.await.expect("the hand stays") }.boxed()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn pool(one_by_one: bool) -> Arc<Pool<Bodies>> {
    Arc::new(Pool::new(LIFETIMES, one_by_one))
}

/// Takes a connection in a task of its own, and has waited when it returns.
async fn taking(pool: &Arc<Pool<Bodies>>, maker: &Maker) -> JoinHandle<Result<Taken<Bodies>, BoxError>> {
    let (pool, maker) = (Arc::clone(pool), maker.clone());
    let task = tokio::spawn(async move { pool.take(Instant::now(), || maker.connect()).await });
    settled().await;
    task
}

/// A connection of HTTP/1.1 that stands, and its other end.
async fn one() -> (Box<One>, DuplexStream) {
    // No two are opened at one moment, so that they can be told from each other.
    tokio::time::advance(Duration::from_millis(1)).await;
    let (here, there) = tokio::io::duplex(4096);
    (Box::new(One::new(here, RESPONSE_TIMEOUT)), there)
}

/// Has a hand make one of HTTP/2; gives its other end.
async fn makes_many(hand: Hand) -> DuplexStream {
    let (here, there) = tokio::io::duplex(4096);
    let executor = TokioExecutor::new();
    let (sender, connection) = http2::handshake(executor, TokioIo::new(here)).await.unwrap();
    tokio::spawn(connection);
    assert!(hand.send(Ok(Connection::Many(sender))).is_ok());
    there
}

/// When a connection of HTTP/1.1 was opened.
#[track_caller]
fn opened(taken: Result<Taken<Bodies>, BoxError>) -> Instant {
    match taken.map_err(|error| error.to_string()).unwrap() {
        Taken::One(one) => one.opened,
        Taken::Many(..) => panic!("it is one of HTTP/2"),
    }
}

/// Whether a connection of HTTP/2 stood before.
#[track_caller]
fn stood(taken: Result<Taken<Bodies>, BoxError>) -> bool {
    match taken.map_err(|error| error.to_string()).unwrap() {
        Taken::Many(_, stood) => stood,
        Taken::One(_) => panic!("it is one of HTTP/1.1"),
    }
}

/// Whether nothing more comes out of a connection.
async fn is_closed(there: &mut DuplexStream) -> bool {
    settled().await;
    let mut bytes = Vec::new();
    there
        .read_to_end(&mut bytes)
        .now_or_never()
        .is_some_and(|end| end.is_ok())
}

#[tokio::test(start_paused = true)]
async fn the_one_used_last_is_taken_first() {
    let pool = pool(true);
    let (maker, []) = Maker::with_hands();
    let (older, _older_end) = one().await;
    let (younger, _younger_end) = one().await;
    let (first, second) = (younger.opened, older.opened);
    pool.ones.put(younger);
    pool.ones.put(older);
    assert_eq!(
        opened(pool.take(Instant::now(), || maker.connect()).await),
        second
    );
    assert_eq!(opened(pool.take(Instant::now(), || maker.connect()).await), first);
}

#[tokio::test(start_paused = true)]
async fn one_that_upstream_closed_is_passed_over() {
    let pool = pool(true);
    let (maker, []) = Maker::with_hands();
    let (open, _end) = one().await;
    let (closed, end) = one().await;
    let wanted = open.opened;
    pool.ones.put(open);
    pool.ones.put(closed);
    drop(end);
    settled().await;
    assert_eq!(
        opened(pool.take(Instant::now(), || maker.connect()).await),
        wanted
    );
    assert!(pool.ones.take(Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_upstream_sent_something_unasked_is_closed() {
    let pool = pool(true);
    let (maker, [hand]) = Maker::with_hands();
    let (kept, mut end) = one().await;
    pool.ones.put(kept);
    // As some do before they close what was idle for too long.
    let unasked = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    end.write_all(unasked).await.unwrap();
    let (made, _made_end) = one().await;
    let wanted = made.opened;
    assert!(hand.send(Ok(Connection::One(made))).is_ok());
    assert_eq!(
        opened(pool.take(Instant::now(), || maker.connect()).await),
        wanted
    );
    assert!(is_closed(&mut end).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http_2_is_made_once_for_all_who_wait() {
    let pool = pool(false);
    let (maker, [hand]) = Maker::with_hands();
    let waiters = [
        taking(&pool, &maker).await,
        taking(&pool, &maker).await,
        taking(&pool, &maker).await,
    ];
    let _end = makes_many(hand).await;
    for waiter in waiters {
        assert!(!stood(waiter.await.unwrap()));
    }
    assert!(stood(pool.take(Instant::now(), || maker.connect()).await));
    assert_eq!(maker.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_it_fails_all_who_waited_are_told_and_the_next_makes_another() {
    let pool = pool(false);
    let (maker, [bad, good]) = Maker::with_hands();
    let waiters = [taking(&pool, &maker).await, taking(&pool, &maker).await];
    assert!(bad.send(Err("no way".into())).is_ok());
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().err().unwrap().to_string(), "no way");
    }
    let _end = makes_many(good).await;
    assert!(!stood(pool.take(Instant::now(), || maker.connect()).await));
    assert_eq!(maker.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_who_leaves_takes_the_connection_of_http_2_from_nobody() {
    let pool = pool(false);
    let (maker, [hand]) = Maker::with_hands();
    let first = taking(&pool, &maker).await;
    let second = taking(&pool, &maker).await;
    first.abort();
    settled().await;
    let _end = makes_many(hand).await;
    assert!(!stood(second.await.unwrap()));
    assert_eq!(maker.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_of_http_2_that_closed_is_replaced() {
    let pool = pool(false);
    let (maker, [first, second]) = Maker::with_hands();
    let end = makes_many(first).await;
    assert!(!stood(pool.take(Instant::now(), || maker.connect()).await));
    drop(end);
    settled().await;
    let _end = makes_many(second).await;
    assert!(!stood(pool.take(Instant::now(), || maker.connect()).await));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_turns_out_to_speak_http_1_is_asked_for_nothing_else() {
    let pool = pool(false);
    let (maker, [first, second, third]) = Maker::with_hands();
    let waiters = [taking(&pool, &maker).await, taking(&pool, &maker).await];
    assert_eq!(maker.asked(), 1);
    let ((made, _end), (own, _own_end)) = (one().await, one().await);
    let times = [made.opened, own.opened];
    assert!(first.send(Ok(Connection::One(made))).is_ok());
    assert!(second.send(Ok(Connection::One(own))).is_ok());
    // One of both takes what was made; the other makes its own.
    let mut taken = Vec::new();
    for waiter in waiters {
        taken.push(opened(waiter.await.unwrap()));
    }
    taken.sort();
    assert_eq!((&taken[..], maker.asked()), (&times[..], 2));
    let (more, _more_end) = one().await;
    let wanted = more.opened;
    assert!(third.send(Ok(Connection::One(more))).is_ok());
    assert_eq!(
        opened(pool.take(Instant::now(), || maker.connect()).await),
        wanted
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_takes_one_that_comes_free_and_the_new_one_is_put_in() {
    let pool = pool(true);
    let (maker, [hand]) = Maker::with_hands();
    let waiter = taking(&pool, &maker).await;
    let (freed, _freed_end) = one().await;
    let (made, _made_end) = one().await;
    let (was_freed, was_made) = (freed.opened, made.opened);
    pool.ones.put(freed);
    assert_eq!(opened(waiter.await.unwrap()), was_freed);
    assert!(hand.send(Ok(Connection::One(made))).is_ok());
    settled().await;
    assert_eq!(
        opened(pool.take(Instant::now(), || maker.connect()).await),
        was_made
    );
    assert_eq!(maker.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_free_is_for_one_waiter() {
    let pool = pool(true);
    let (maker, [first, second]) = Maker::with_hands();
    let waiters = [taking(&pool, &maker).await, taking(&pool, &maker).await];
    let (freed, _freed_end) = one().await;
    let was_freed = freed.opened;
    pool.ones.put(freed);
    settled().await;
    let done: Vec<_> = waiters.iter().map(JoinHandle::is_finished).collect();
    assert_eq!(done, [true, false]);
    let (made, _made_end) = one().await;
    let was_made = made.opened;
    assert!(second.send(Ok(Connection::One(made))).is_ok());
    let [one, other] = waiters;
    assert_eq!(opened(one.await.unwrap()), was_freed);
    assert_eq!(opened(other.await.unwrap()), was_made);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_not_misled_by_one_that_another_took() {
    let pool = pool(true);
    let (maker, [hand]) = Maker::with_hands();
    let waiter = taking(&pool, &maker).await;
    let (freed, _freed_end) = one().await;
    pool.ones.put(freed);
    // Before the waiter comes to look.
    assert!(pool.ones.take(Instant::now()).is_some());
    settled().await;
    assert!(!waiter.is_finished());
    let (made, _made_end) = one().await;
    let was_made = made.opened;
    assert!(hand.send(Ok(Connection::One(made))).is_ok());
    assert_eq!(opened(waiter.await.unwrap()), was_made);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_who_leaves_is_no_longer_waited_for() {
    let pool = pool(true);
    let (maker, [hand]) = Maker::with_hands();
    let waiter = taking(&pool, &maker).await;
    assert_eq!(pool.ones.waiting(), 1);
    waiter.abort();
    settled().await;
    assert_eq!(pool.ones.waiting(), 0);
    assert!(hand.is_closed(), "nobody wants the connection any more");
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_connect_is_told_to_who_waits_for_it() {
    let pool = pool(true);
    let (maker, [hand]) = Maker::with_hands();
    assert!(hand.send(Err("no way".into())).is_ok());
    let failed = pool.take(Instant::now(), || maker.connect()).await;
    assert_eq!(failed.err().unwrap().to_string(), "no way");
    assert_eq!(pool.ones.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_connect_is_none_for_who_can_have_one_that_came_free() {
    // Both come in the same moment, and which of them is seen first is left to chance.
    for _ in 0..50 {
        let pool = pool(true);
        let (maker, [hand]) = Maker::with_hands();
        let waiter = taking(&pool, &maker).await;
        let (freed, _end) = one().await;
        let wanted = freed.opened;
        pool.ones.put(freed);
        assert!(hand.send(Err("no way".into())).is_ok());
        assert_eq!(opened(waiter.await.unwrap()), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn none_is_used_that_stood_unused_too_long() {
    let pool = pool(true);
    let (kept, mut end) = one().await;
    pool.ones.put(kept);
    tokio::time::advance(LIFETIMES.idle).await;
    pool.ones.put(
        pool.ones
            .take(Instant::now())
            .expect("it is not over the limit yet"),
    );
    tokio::time::advance(LIFETIMES.idle + Duration::from_millis(1)).await;
    assert!(pool.ones.take(Instant::now()).is_none());
    assert!(is_closed(&mut end).await);
}

#[tokio::test(start_paused = true)]
async fn none_is_used_that_is_too_old_however_busy_it_is() {
    let pool = pool(true);
    let (kept, mut end) = one().await;
    pool.ones.put(kept);
    for _ in 0..30 {
        tokio::time::advance(LIFETIMES.age / 30).await;
        pool.ones.put(
            pool.ones
                .take(Instant::now())
                .expect("it is not over the limit yet"),
        );
    }
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(pool.ones.take(Instant::now()).is_none());
    assert!(is_closed(&mut end).await);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_closes_those_and_no_other() {
    let pool = pool(true);
    let (old, mut old_end) = one().await;
    pool.ones.put(old);
    tokio::time::advance(LIFETIMES.idle).await;
    let (young, mut young_end) = one().await;
    pool.ones.put(young);
    pool.sweep();
    assert!(is_closed(&mut old_end).await);
    assert!(!is_closed(&mut young_end).await);
    assert!(pool.ones.take(Instant::now()).is_some());
}

#[tokio::test(start_paused = true)]
async fn one_of_http_2_is_not_used_when_it_is_too_old() {
    let pool = pool(false);
    let (maker, [first, second]) = Maker::with_hands();
    let _end = makes_many(first).await;
    assert!(!stood(pool.take(Instant::now(), || maker.connect()).await));
    tokio::time::advance(LIFETIMES.age).await;
    assert!(stood(pool.take(Instant::now(), || maker.connect()).await));
    tokio::time::advance(Duration::from_millis(1)).await;
    let _other_end = makes_many(second).await;
    assert!(!stood(pool.take(Instant::now(), || maker.connect()).await));
    assert_eq!(maker.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_closes_one_of_http_2_that_stands_unused_but_none_that_is_being_made() {
    let pool = pool(false);
    let (maker, [hand]) = Maker::with_hands();
    let waiter = taking(&pool, &maker).await;
    pool.sweep();
    assert!(lock(&pool.many).is_some());
    let mut end = makes_many(hand).await;
    assert!(!stood(waiter.await.unwrap()));
    tokio::time::advance(LIFETIMES.idle).await;
    pool.sweep();
    assert!(
        stood(pool.take(Instant::now(), || maker.connect()).await),
        "it is used again"
    );
    tokio::time::advance(LIFETIMES.idle).await;
    pool.sweep();
    assert!(!is_closed(&mut end).await);
    tokio::time::advance(Duration::from_millis(1)).await;
    pool.sweep();
    assert!(is_closed(&mut end).await);
}

/// The way to this address, by a pool that holds what the test puts in.
fn leg(address: std::net::SocketAddr, http_version: HttpVersion) -> Leg<Bodies> {
    let minute = Duration::from_mins(1);
    let config = Config {
        connect_timeout: minute,
        response_timeout: minute,
        idle_timeout: minute,
        read_timeout: minute,
        max_age: minute,
        http_version,
        tls: Tls::default(),
        egress: Egress::straight(),
        max_in_flight: 1,
        queue: 1,
        queue_timeout: minute,
    };
    let tls = super::super::tls::config(&config.tls).unwrap();
    let root = format!("http://{address}").parse().unwrap();
    Upstream::new(config, tls, &[]).leg(&root).unwrap()
}

/// Answers one request, and gives it as it came.
async fn answering(listener: TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"\r\n\r\nmutation") {
        assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(came).unwrap()
}

/// The first rule of upstream; the new connection happens to speak another version.
#[tokio::test]
async fn what_was_never_started_on_one_of_http_2_that_closed_is_sent_on_a_new_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leg = leg(listener.local_addr().unwrap(), HttpVersion::Auto);
    let (here, mut there) = tokio::io::duplex(4096);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(here))
        .await
        .unwrap();
    let task = tokio::spawn(async move { drop(connection.await) });
    let standing = Mutex::new(Some(Connection::Many(sender)));
    let connect = || {
        let connection = lock(&standing).take().unwrap();
        async move { Ok(connection) }.boxed()
    };
    assert!(!stood(leg.pool.take(Instant::now(), connect).await));
    settled().await;
    let upstream = tokio::spawn(answering(listener));
    let uri = leg.uri("/graphql".parse().unwrap()).unwrap();
    let host = leg.authority.as_str();
    let request = Request::post(uri)
        .header("host", host)
        .body(Full::from("mutation"));
    let (head, body) = request.unwrap().into_parts();
    let mut sending = Box::pin(leg.send(&head, body, Instant::now()));
    assert!((&mut sending).now_or_never().is_none());
    // Just when the request was given to it.
    task.abort();
    assert_eq!(sending.await.unwrap().status(), 200);
    let came = upstream.await.unwrap();
    let expected = format!("POST /graphql HTTP/1.1\r\ncontent-length: 8\r\nhost: {host}\r\n\r\nmutation");
    assert_eq!(came, expected);
    // Nothing of it was on the one that closed.
    let mut bytes = Vec::new();
    there.read_to_end(&mut bytes).await.unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("mutation"));
}
