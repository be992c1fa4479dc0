//! The tape: a copy of a body, in memory that is counted.
//!
//! 1. It holds copies, never slices: a slice of 20 bytes can hold a whole read buffer alive.
//! 2. It grows by segments, so that growing copies nothing again and never holds the old and the new at once. A
//!    body that comes in one frame takes one segment of exactly its size.
//! 3. Memory is taken from the [`TapeBudget`] before it is allocated, and given back with the tape.
//! 4. A tape is played once: with the first attempt, a request is sent twice at most.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::memory::{Memory, Share};
use super::{BodyError, TapeLimits};

/// The least and the most that a tape grows by, unless a frame needs more.
const SEGMENT: (usize, usize) = (4 * 1024, 256 * 1024);

/// The memory of all tapes; clones count together.
#[derive(Clone, Debug)]
pub struct TapeBudget {
    /// Bytes of one tape.
    request: usize,
    memory: Memory,
}

impl TapeBudget {
    /// A budget that nothing is taken from yet.
    #[must_use]
    pub fn new(limits: TapeLimits) -> Self {
        Self {
            request: limits.request,
            memory: Memory::new(limits.total),
        }
    }

    /// Bytes that are allocated now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.memory.used()
    }

    /// Whether a body of this length could ever fit.
    pub(super) fn could_hold(&self, length: u64) -> bool {
        let most = self.request.min(self.memory.total());
        usize::try_from(length).is_ok_and(|length| length <= most)
    }
}

/// The tape cannot take more.
#[derive(Debug)]
pub(super) struct Full;

/// A whole body, or, while it is recorded, the start of one.
#[derive(Debug)]
pub struct Tape {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
    len: usize,
    /// The most that it may take.
    most: usize,
    /// None of an empty tape.
    share: Option<Share>,
}

impl Tape {
    pub(super) fn new(budget: &TapeBudget) -> Self {
        Self {
            full: Vec::new(),
            last: Vec::new(),
            len: 0,
            most: budget.request,
            share: Some(budget.memory.share()),
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            full: Vec::new(),
            last: Vec::new(),
            len: 0,
            most: 0,
            share: None,
        }
    }

    /// Adds a frame. `expected` tells how many bytes are to come with it, where that is known.
    pub(super) fn record(&mut self, frame: &[u8], expected: Option<u64>) -> Result<(), Full> {
        let spare = self.last.capacity() - self.last.len();
        let (fits, rest) = frame.split_at(spare.min(frame.len()));
        self.last.extend_from_slice(fits);
        if !rest.is_empty() {
            let expected = expected.map(|bytes| bytes.saturating_sub(fits.len() as u64));
            self.grow(rest.len(), expected)?;
            self.last.extend_from_slice(rest);
        }
        self.len += frame.len();
        Ok(())
    }

    /// Starts another segment, with room for `needed` bytes or more. The last one is full.
    fn grow(&mut self, needed: usize, expected: Option<u64>) -> Result<(), Full> {
        let share = self.share.as_mut().ok_or(Full)?;
        let room = self.most.saturating_sub(share.bytes());
        if needed > room {
            return Err(Full);
        }
        let (least, most) = SEGMENT;
        let expected = expected.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let wanted = share.bytes().clamp(least, most).min(expected).min(room);
        let taken = share.take(wanted.max(needed), needed).ok_or(Full)?;
        let full = std::mem::replace(&mut self.last, Vec::with_capacity(taken));
        if !full.is_empty() {
            self.full.push(full);
        }
        Ok(())
    }

    /// The length of the body.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the body is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole body, to be read: copied together where it came in parts.
    #[must_use]
    pub fn contents(&self) -> Cow<'_, [u8]> {
        if self.full.is_empty() {
            return Cow::Borrowed(&self.last);
        }
        let mut whole = Vec::with_capacity(self.len);
        for segment in self.full.iter().chain([&self.last]) {
            whole.extend_from_slice(segment);
        }
        Cow::Owned(whole)
    }

    /// The body as a request's body again.
    #[must_use]
    pub fn play(self) -> Replay {
        Replay {
            full: self.full.into_iter(),
            last: self.last,
            left: self.len,
            _share: self.share,
        }
    }
}

/// The body of a second attempt.
#[derive(Debug)]
pub struct Replay {
    full: std::vec::IntoIter<Vec<u8>>,
    last: Vec<u8>,
    left: usize,
    _share: Option<Share>,
}

impl Body for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let segment = this.full.next().unwrap_or_else(|| std::mem::take(&mut this.last));
        if segment.is_empty() {
            return Poll::Ready(None);
        }
        this.left = this.left.saturating_sub(segment.len());
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(segment)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::drain;
    use super::*;

    const KIB: usize = 1024;

    fn budget(request: usize, total: usize) -> TapeBudget {
        TapeBudget::new(TapeLimits { request, total })
    }

    #[test]
    fn it_grows_by_segments_each_as_long_as_all_before_it_within_bounds() {
        let budget = budget(usize::MAX, usize::MAX);
        let mut tape = Tape::new(&budget);
        let mut steps = Vec::new();
        for _ in 0..1100 * KIB / 64 {
            tape.record(&[7; 64], None).unwrap();
            if steps.last() != Some(&(budget.used() / KIB)) {
                steps.push(budget.used() / KIB);
            }
        }
        assert_eq!(steps, [4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280]);
        assert_eq!(tape.len(), 1100 * KIB);
        let (played, error) = drain(&mut tape.play());
        assert!(error.is_none() && played.len() == 1100 * KIB && played.iter().all(|byte| *byte == 7));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn it_takes_no_more_than_is_to_come_and_never_less_than_has() {
        let all = budget(usize::MAX, usize::MAX);
        let mut tape = Tape::new(&all);
        tape.record(b"0123456789", Some(30)).unwrap();
        tape.record(b"0123456789", Some(20)).unwrap();
        tape.record(b"0123456789", Some(10)).unwrap();
        assert_eq!(all.used(), 30);
        // Who declared less than came is cut elsewhere.
        tape.record(b"0123456789", Some(4)).unwrap();
        assert_eq!((all.used(), tape.len()), (40, 40));
        assert_eq!(*tape.contents(), *b"0123456789".repeat(4));
        // A frame that ends one segment and begins another.
        let all = budget(usize::MAX, usize::MAX);
        let mut tape = Tape::new(&all);
        tape.record(&[1; 4000], None).unwrap();
        tape.record(&[2; 200], Some(300)).unwrap();
        assert_eq!(all.used(), 4 * KIB + 204);
        let frames = tape.contents().into_owned();
        assert_eq!(frames, [vec![1; 4000], vec![2; 200]].concat());
    }

    #[test]
    fn a_frame_fits_to_the_last_byte_and_not_beyond() {
        for (request, total) in [(10, 99), (99, 10)] {
            let limits = budget(request, total);
            let mut tape = Tape::new(&limits);
            assert!(tape.record(b"01234567", None).is_ok());
            assert!(tape.record(b"89", None).is_ok());
            assert!(tape.record(b"", None).is_ok());
            assert!(tape.record(b"x", None).is_err());
            assert_eq!(limits.used(), 10);
            assert!(limits.could_hold(10) && !limits.could_hold(11));
        }
    }

    #[test]
    fn what_is_left_of_a_replay_is_known_at_each_frame() {
        let all = budget(usize::MAX, usize::MAX);
        let mut tape = Tape::new(&all);
        assert!(tape.is_empty());
        tape.record(b"ab", Some(2)).unwrap();
        tape.record(b"c", Some(1)).unwrap();
        assert!(!tape.is_empty());
        let mut replay = tape.play();
        for (left, frame) in [(3, "ab"), (1, "c")] {
            assert_eq!(
                (replay.size_hint().exact(), replay.is_end_stream()),
                (Some(left), false)
            );
            let Poll::Ready(Some(Ok(played))) = super::super::script::poll(&mut replay) else {
                panic!("all is at hand")
            };
            assert_eq!(played.into_data().unwrap(), frame);
        }
        assert_eq!(
            (replay.size_hint().exact(), replay.is_end_stream()),
            (Some(0), true)
        );
    }
}
