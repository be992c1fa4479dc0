//! A body that is read whole before anything is done with it.

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;

use super::memory::{Memory, Share};
use super::{BodyError, BodyLimits, Recorder, TapeBudget, TapeLimits};

/// The most that is reserved on a caller's word alone.
const TRUST: u64 = 64 * 1024;
/// It is no tape that is wanted.
const NO_TAPE: TapeLimits = TapeLimits { request: 0, total: 0 };

/// Why a body is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It did not come to its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The memory is used up.
    #[error("the memory for bodies that are held is used up")]
    Full,
}

/// Reads a body to its end, within the same limits as one that streams. Trailers are dropped. What it takes of `memory`
/// is given back with the bytes.
///
/// # Errors
/// When it is too long, pauses too long, or does not come to the end that it declared; when there is no memory left.
pub async fn hold<B>(body: B, limits: BodyLimits, memory: &Memory) -> Result<Bytes, HoldError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if limits.forbid(&body) {
        return Err(BodyError::TooLarge.into());
    }
    let (mut body, _) = Recorder::new(body, limits, &TapeBudget::new(NO_TAPE));
    let mut held = Held {
        bytes: Vec::new(),
        expected: usize::try_from(body.size_hint().lower().min(TRUST)).unwrap_or_default(),
        share: memory.share(),
    };
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            held.add(&data).ok_or(HoldError::Full)?;
        }
    }
    Ok(Bytes::from_owner(held))
}

/// Copies of frames, as law 3 has it: a slice can hold a whole read buffer alive.
struct Held {
    bytes: Vec<u8>,
    expected: usize,
    share: Share,
}

impl Held {
    fn add(&mut self, data: &[u8]) -> Option<()> {
        let (length, room) = (self.bytes.len(), self.bytes.capacity());
        let needed = length + data.len();
        if needed > room {
            let wanted = needed.max(self.expected).max(room * 2);
            let more = self.share.take(wanted - room, needed - room)?;
            self.bytes.reserve_exact(room + more - length);
        }
        self.bytes.extend_from_slice(data);
        Some(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::script::{Script, Step, data};
    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        max_body: Some(4),
        timeout: Duration::from_secs(30),
    };

    const TOO_LARGE: HoldError = HoldError::Body(BodyError::TooLarge);
    const GONE: HoldError = HoldError::Body(BodyError::CallerGone);

    async fn held(script: Script) -> Result<Bytes, HoldError> {
        let memory = Memory::new(usize::MAX);
        let held = hold(script, LIMITS, &memory).await;
        assert!(held.is_ok() || memory.used() == 0);
        held
    }

    #[tokio::test]
    async fn what_is_held_is_counted_until_it_is_dropped_and_stays_within_the_memory() {
        let memory = Memory::new(5);
        let three = hold(Script::of(&["ab", "c"]), LIMITS, &memory).await.unwrap();
        assert!((3..=5).contains(&memory.used()), "{}", memory.used());
        let again = three.clone();
        drop(three);
        assert_eq!(
            hold(Script::of(&["abcd"]), LIMITS, &memory).await,
            Err(HoldError::Full)
        );
        assert!((3..=5).contains(&memory.used()), "{}", memory.used());
        drop(again);
        assert_eq!(memory.used(), 0);
        let four = hold(Script::of(&["a", "b", "c", "d"]), LIMITS, &memory).await;
        assert_eq!(four.unwrap(), "abcd");
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn it_doubles_as_it_grows_and_counts_all_that_it_allocates() {
        let memory = Memory::new(usize::MAX);
        let mut held = Held {
            bytes: Vec::new(),
            expected: 2,
            share: memory.share(),
        };
        let mut sizes = Vec::new();
        for byte in 0..9 {
            held.add(&[byte]).unwrap();
            assert_eq!(held.bytes.capacity(), memory.used());
            sizes.push(memory.used());
        }
        assert_eq!(sizes, [2, 2, 4, 4, 8, 8, 8, 8, 16]);
        assert_eq!(held.bytes, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[tokio::test]
    async fn it_grows_by_what_is_needed_where_there_is_memory_for_no_more() {
        let memory = Memory::new(3);
        let held = hold(Script::of(&["ab", "c"]), LIMITS, &memory).await.unwrap();
        assert_eq!((&*held, memory.used()), (&b"abc"[..], 3));
    }

    #[tokio::test]
    async fn what_came_in_parts_is_held_whole() {
        let parts = [data("ab"), Step::Pending, data("c"), Step::Trailers];
        assert_eq!(held(Script::new(parts)).await.unwrap(), "abc");
        assert_eq!(
            held(Script::of(&["ab", "cd"]).declaring(4)).await.unwrap(),
            "abcd"
        );
        assert_eq!(held(Script::of(&[])).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_unread_where_it_says_so_and_when_it_crosses_it() {
        assert_eq!(held(Script::new([]).declaring(5)).await, Err(TOO_LARGE));
        assert_eq!(held(Script::of(&["abc", "de"])).await, Err(TOO_LARGE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_whole_is_not_held() {
        let stalled = [data("a"), Step::Pause(Duration::from_secs(31)), data("b")];
        assert_eq!(held(Script::new(stalled)).await, Err(BodyError::Stalled.into()));
        assert_eq!(held(Script::new([data("a"), Step::Fail])).await, Err(GONE));
        assert_eq!(held(Script::of(&["ab"]).declaring(3)).await, Err(GONE));
    }
}
