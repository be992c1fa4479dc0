//! The beginning of a body, for who tells of it afterwards.
//!
//! It is copied while the body goes by, which neither waits for it nor is changed.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// What has gone by of the beginning of a body; clones are of the same one.
#[derive(Clone, Default)]
pub struct Beginning(Arc<Mutex<Vec<u8>>>);

impl Beginning {
    /// The bytes, for the first who asks.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
    }
}

/// It may hold anything.
impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beginning").finish_non_exhaustive()
    }
}

/// A body whose first bytes are copied.
pub struct Overheard<B> {
    inner: B,
    left: usize,
    beginning: Beginning,
}

/// Copies the first bytes of a body, `most` of them.
pub fn overhear<B>(inner: B, most: usize) -> (Overheard<B>, Beginning) {
    let beginning = Beginning::default();
    let body = Overheard {
        inner,
        left: most,
        beginning: beginning.clone(),
    };
    (body, beginning)
}

impl<B: Body<Data = Bytes> + Unpin> Body for Overheard<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref().filter(|_| self.left > 0)
        {
            let (first, _) = data.split_at(data.len().min(self.left));
            self.beginning.add(first);
            self.left -= first.len();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::super::script::{Script, Step, data, poll};
    use super::*;

    #[tokio::test]
    async fn the_first_bytes_are_kept_as_they_go_by_and_none_is_changed() {
        let parts = [data("abc"), Step::Pending, data("de"), data("f"), Step::Trailers];
        let (mut body, beginning) = overhear(Script::new(parts), 4);
        assert_eq!(beginning.take(), b"");
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.data_ref().unwrap(), "abc");
        let rest = body.collect().await.unwrap();
        assert!(rest.trailers().is_some());
        assert_eq!(rest.to_bytes(), "def");
        assert_eq!(beginning.take(), b"abcd");
        assert_eq!(beginning.take(), b"");
    }

    #[test]
    fn a_body_that_is_overheard_tells_its_length_and_its_end_as_before() {
        let (mut body, _) = overhear(Script::of(&["abc"]).declaring(3).announcing_its_end(), 4);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
        assert!(poll(&mut body).is_ready());
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    }

    #[test]
    fn what_was_overheard_is_in_no_log() {
        let beginning = Beginning::default();
        beginning.add(b"secret");
        assert_eq!(format!("{beginning:?}"), "Beginning { .. }");
    }
}
