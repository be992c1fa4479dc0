//! A body that is read whole before anything is done with it.

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;

use super::{BodyError, BodyLimits, Recorder, TapeBudget, TapeLimits};

/// The most that is reserved on a caller's word alone.
const TRUST: u64 = 64 * 1024;
/// It is no tape that is wanted.
const NO_TAPE: TapeLimits = TapeLimits { request: 0, total: 0 };

/// Reads a body to its end, within the same limits as one that streams. Trailers are dropped.
///
/// # Errors
/// When it is too long, pauses too long, or does not come to the end that it declared.
pub async fn hold<B>(body: B, limits: BodyLimits) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if limits.forbid(&body) {
        return Err(BodyError::TooLarge);
    }
    let (mut body, _) = Recorder::new(body, limits, &TapeBudget::new(NO_TAPE));
    let declared = body.size_hint().lower().min(TRUST);
    // Copied, as law 3 has it: a slice can hold a whole read buffer alive.
    let mut whole = Vec::with_capacity(usize::try_from(declared).unwrap_or_default());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(Bytes::from(whole))
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

    async fn held(script: Script) -> Result<Bytes, BodyError> {
        hold(script, LIMITS).await
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
        assert_eq!(held(Script::new([]).declaring(5)).await, Err(BodyError::TooLarge));
        assert_eq!(held(Script::of(&["abc", "de"])).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_whole_is_not_held() {
        let stalled = [data("a"), Step::Pause(Duration::from_secs(31)), data("b")];
        assert_eq!(held(Script::new(stalled)).await, Err(BodyError::Stalled));
        assert_eq!(
            held(Script::new([data("a"), Step::Fail])).await,
            Err(BodyError::CallerGone)
        );
        assert_eq!(
            held(Script::of(&["ab"]).declaring(3)).await,
            Err(BodyError::CallerGone)
        );
    }
}
