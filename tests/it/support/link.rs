//! A stretch of network between two parties, with something wrong on it.
//!
//! 1. What one party says reaches the other byte for byte, as far as it reaches it at all.
//! 2. What ends a connection ends it at a [`Point`], which is found in HTTP/1.1, or counted in bytes.
//! 3. What slows it down is for both ways.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Everything arrives, but so.
    Slow(Slow),
    /// The connection ends.
    End(End, Point),
}

/// How what arrives arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Each part later.
    Delay,
    /// Each part later, some more and some less.
    Jitter,
    /// So much in a second and no more.
    Bandwidth,
    /// The first 512 bytes one by one.
    Split,
    /// As few parts as can be.
    Coalesce,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both parties are told by RST.
    Reset,
    /// Both parties are told by FIN.
    Close,
    /// By FIN, to the one who waits for more; the other way stays open.
    HalfClose,
    /// Nobody is told.
    BlackHole,
}

/// Where a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Once it is accepted.
    Accept,
    /// In the head of the question.
    Head,
    /// In its body.
    Body,
    /// When the first byte of the answer has come: the question is whole, and what it asks for is done.
    Question,
    /// In the head of the answer.
    AnswerHead,
    /// In its body.
    Answer,
}

impl Slow {
    pub(crate) const ALL: [Self; 5] = [
        Self::Delay,
        Self::Jitter,
        Self::Bandwidth,
        Self::Split,
        Self::Coalesce,
    ];
}

impl End {
    pub(crate) const ALL: [Self; 4] = [Self::Reset, Self::Close, Self::HalfClose, Self::BlackHole];
}

impl Point {
    pub(crate) const ALL: [Self; 6] = [
        Self::Accept,
        Self::Head,
        Self::Body,
        Self::Question,
        Self::AnswerHead,
        Self::Answer,
    ];
}

/// Where a link leads.
#[derive(Clone, Debug)]
pub(crate) enum To {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A link; it ends, with all its connections, when dropped.
pub(crate) struct Link {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// A link on which this is wrong for the first `times` connections.
    pub(crate) async fn lay(to: To, wrong: Option<Wrong>, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicUsize::new(times));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let take = |left: usize| left.checked_sub(1);
                let is_wrong = left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                    .is_ok();
                let wrong = wrong.filter(|_| is_wrong);
                let to = to.clone();
                connections.spawn(async move {
                    // How it ends is for the parties to judge.
                    let _ = carry(stream, to, wrong).await;
                });
            }
        });
        Self {
            address,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// How far one way goes.
#[derive(Clone, Copy)]
enum Stop {
    /// So many bytes.
    Bytes(usize),
    /// So many bytes after a head.
    AfterHead(usize),
}

/// How one way came to its end.
#[derive(PartialEq, Eq)]
enum Way {
    /// Its speaker has no more to say.
    Ended,
    /// At its stop.
    Stopped,
}

type Near = TcpStream;

async fn carry(near: Near, to: To, wrong: Option<Wrong>) -> io::Result<()> {
    near.set_nodelay(true)?;
    if let Some(Wrong::End(end, Point::Accept)) = wrong {
        return end_alone(near, end).await;
    }
    match to {
        To::Tcp(address) => {
            let far = TcpStream::connect(address).await?;
            far.set_nodelay(true)?;
            between(near, far, wrong, reset_tcp).await
        }
        To::Unix(path) => between(near, UnixStream::connect(path).await?, wrong, |_| ()).await,
    }
}

fn reset_tcp(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Ends a connection that leads nowhere.
async fn end_alone(mut near: Near, end: End) -> io::Result<()> {
    match end {
        End::Reset => near.set_zero_linger(),
        End::BlackHole => std::future::pending().await,
        End::Close | End::HalfClose => {
            near.shutdown().await?;
            discard(&mut near).await;
            Ok(())
        }
    }
}

async fn between<F>(near: Near, far: F, wrong: Option<Wrong>, reset: fn(&F)) -> io::Result<()>
where
    F: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let (slow, end, question_stop, answer_stop) = match wrong {
        None => (None, End::Close, None, None),
        Some(Wrong::Slow(slow)) => (Some(slow), End::Close, None, None),
        Some(Wrong::End(end, point)) => {
            let (question, answer) = match point {
                Point::Accept => (Some(Stop::Bytes(0)), None),
                Point::Head => (Some(Stop::Bytes(20)), None),
                Point::Body => (Some(Stop::AfterHead(10)), None),
                Point::Question => (None, Some(Stop::Bytes(0))),
                Point::AnswerHead => (None, Some(Stop::Bytes(10))),
                Point::Answer => (None, Some(Stop::AfterHead(5))),
            };
            (None, end, question, answer)
        }
    };
    let stopped_at_question = {
        let question = pump(&mut near_read, &mut far_write, slow, question_stop);
        let answer = pump(&mut far_read, &mut near_write, slow, answer_stop);
        tokio::pin!(question, answer);
        let (mut asked, mut answered) = (false, false);
        loop {
            tokio::select! {
                way = &mut question, if !asked => match way? {
                    Way::Stopped => break true,
                    Way::Ended => asked = true,
                },
                way = &mut answer, if !answered => match way? {
                    Way::Stopped => break false,
                    Way::Ended => answered = true,
                },
                else => return Ok(()),
            }
        }
    };
    match end {
        End::BlackHole => std::future::pending().await,
        End::Reset => {
            near_read.unsplit(near_write).set_zero_linger()?;
            reset(&far_read.unsplit(far_write));
        }
        End::Close => {
            let _ = tokio::join!(near_write.shutdown(), far_write.shutdown());
            tokio::join!(discard(&mut near_read), discard(&mut far_read));
        }
        End::HalfClose if stopped_at_question => {
            far_write.shutdown().await?;
            leave_open(far_read, near_write, near_read).await;
        }
        End::HalfClose => {
            near_write.shutdown().await?;
            leave_open(near_read, far_write, far_read).await;
        }
    }
    Ok(())
}

/// Carries on one way to its end, while what else comes the other way is lost.
async fn leave_open<A, B>(mut from: ReadHalf<A>, mut to: WriteHalf<B>, mut lost: ReadHalf<B>)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let carry = async {
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    };
    tokio::join!(carry, discard(&mut lost));
}

async fn discard(from: &mut (impl AsyncRead + Unpin)) {
    let _ = tokio::io::copy(from, &mut tokio::io::sink()).await;
}

/// Carries one way, up to where it stops.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    slow: Option<Slow>,
    stop: Option<Stop>,
) -> io::Result<Way> {
    let mut dice = fastrand::Rng::new();
    let mut head = Vec::new();
    // Bytes that may still pass, once that is known.
    let mut left = match stop {
        Some(Stop::Bytes(bytes)) => Some(bytes),
        Some(Stop::AfterHead(_)) | None => None,
    };
    let mut whole = 0;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(Way::Ended);
        }
        let mut data = buffer[..read].to_vec();
        if let Some(Stop::AfterHead(bytes)) = stop
            && left.is_none()
        {
            let before = head.len();
            head.extend_from_slice(&data);
            let end = head.windows(4).position(|part| part == b"\r\n\r\n");
            left = end.map(|end| end + 4 + bytes - before);
        }
        if slow == Some(Slow::Coalesce) {
            let quiet = Duration::from_millis(20);
            while let Ok(Ok(more @ 1..)) = tokio::time::timeout(quiet, from.read(&mut buffer)).await {
                data.extend_from_slice(&buffer[..more]);
            }
        }
        let passes = left.map_or(data.len(), |left| left.min(data.len()));
        match slow {
            Some(Slow::Split) => {
                let (alone, together) = data.split_at(data.len().min(512 - whole));
                whole += alone.len();
                for byte in alone {
                    to.write_all(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
                to.write_all(together).await?;
            }
            Some(Slow::Bandwidth) => {
                for part in data.chunks(2048) {
                    to.write_all(part).await?;
                    // A megabyte in a second.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            Some(Slow::Delay) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                to.write_all(&data).await?;
            }
            Some(Slow::Jitter) => {
                tokio::time::sleep(Duration::from_millis(dice.u64(..40))).await;
                to.write_all(&data).await?;
            }
            Some(Slow::Coalesce) | None => to.write_all(&data[..passes]).await?,
        }
        if let Some(left) = &mut left {
            *left -= passes;
            if *left == 0 {
                return Ok(Way::Stopped);
            }
        }
    }
}
