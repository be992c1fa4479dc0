//! Requests at once: a bounded number of places, and a bounded queue before them.
//!
//! 1. A request takes a place before it waits for anything or anybody else, and holds it until the last byte of
//!    its answer has left or its caller has: what is in memory for requests is bounded by the number of places
//!    and of those who queue.
//! 2. Where no place is free, it queues, in the order of arrival, for at most the queue's time.
//! 3. Where the queue is full, it is told so at once.
//! 4. Who leaves, leaves nothing taken: neither in the queue nor of a place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of all requests.
#[derive(Clone, Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    queue_timeout: Duration,
}

/// A place among the requests in flight: free again when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Nobody more may wait.
    #[error("upstream.max_in_flight requests are under way, and upstream.queue more wait")]
    QueueFull,
    /// The wait was over before a place was free.
    #[error("upstream.max_in_flight requests are under way, and none ended within upstream.queue_timeout")]
    TimedOut,
}

impl Places {
    /// `max_in_flight` places; `queue` requests may wait for one, each for `queue_timeout`.
    #[must_use]
    pub fn new(max_in_flight: usize, queue: usize, queue_timeout: Duration) -> Self {
        let semaphore = |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self {
            free: semaphore(max_in_flight),
            queue: semaphore(queue),
            queue_timeout,
        }
    }

    /// Takes a place, waiting for one where the queue has room.
    ///
    /// # Errors
    /// When the queue is full, or the wait was too long.
    pub async fn take(&self) -> Result<Place, NoPlace> {
        // A place that comes free goes to the first who waits: this overtakes nobody.
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let _queued = self.queue.try_acquire().map_err(|_| NoPlace::QueueFull)?;
        let waiting = Arc::clone(&self.free).acquire_owned();
        match tokio::time::timeout(self.queue_timeout, waiting).await {
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            // The semaphore is never closed; were it, there would be no place either.
            Ok(Err(_)) | Err(_) => Err(NoPlace::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    async fn settle() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_it_is_dropped() {
        let places = Places::new(1, 0, PATIENCE);
        let place = places.take().await.unwrap();
        assert_eq!(places.take().await.unwrap_err(), NoPlace::QueueFull);
        drop(place);
        places.take().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_queues_waits_for_its_time_and_no_longer() {
        let places = Places::new(1, 1, PATIENCE);
        let _held = places.take().await.unwrap();
        let since = tokio::time::Instant::now();
        assert_eq!(places.take().await.unwrap_err(), NoPlace::TimedOut);
        assert_eq!(since.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_those_who_wait_in_the_order_of_arrival() {
        let places = Places::new(1, 2, PATIENCE);
        let held = places.take().await.unwrap();
        let waiter = |places: &Places| {
            let places = places.clone();
            tokio::spawn(async move { places.take().await })
        };
        let first = waiter(&places);
        settle().await;
        let second = waiter(&places);
        settle().await;
        drop(held);
        let place = first.await.unwrap().unwrap();
        settle().await;
        assert!(!second.is_finished());
        drop(place);
        second.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_makes_room_in_it() {
        let places = Places::new(1, 1, PATIENCE);
        let held = places.take().await.unwrap();
        let impatient = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        settle().await;
        assert_eq!(places.take().await.unwrap_err(), NoPlace::QueueFull);
        impatient.abort();
        let _ = impatient.await;
        let next = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        settle().await;
        drop(held);
        next.await.unwrap().unwrap();
    }
}
