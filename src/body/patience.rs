//! The longest wait for what another has to send or to take (law 6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Where the clock ends, for waits that are longer than it can tell.
const FAR: Duration = Duration::from_hours(24 * 365);

/// Counts a wait from the first poll that found nothing. The timer is made at the first such poll, and used again.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Patience {
    /// Waits of so long at most.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: None,
            waiting: false,
        }
    }

    /// Nothing has come; ready when that has lasted too long.
    pub fn poll_exhausted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit.min(FAR);
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.waiting {
                    timer.as_mut().reset(Instant::now() + limit);
                }
                timer
            }
            none => none.insert(Box::pin(tokio::time::sleep(limit))),
        };
        self.waiting = true;
        timer.as_mut().poll(cx)
    }

    /// Something has come.
    pub fn restore(&mut self) {
        self.waiting = false;
    }
}
