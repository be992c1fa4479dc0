//! Time that stands still until a test moves it, for the proxy and the sandbox alike.
//!
//! tokio's paused time jumps to the next timer whenever the runtime is idle, which it is while bytes are on
//! their way through a socket; but it does not jump while a blocking task runs. So one is kept running. No
//! timeout and no back-off ends by itself, and none makes a test slow.
//!
//! The runtime has to be of one thread, as that of `#[tokio::test]` is.

use std::sync::mpsc;
use std::time::Duration;

use fluent_auth_proxy::clock::Clock;
use fluent_sandbox::{Config, Sandbox};
use tokio::task::JoinHandle;

use super::{Proxy, RawUpstream, settings, with_tokens_of};

/// Holds time still.
pub(crate) struct Frozen {
    hold: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Frozen {
    /// Stops time.
    pub(crate) fn now() -> Self {
        tokio::time::pause();
        Self { hold: Some(hold()) }
    }

    /// Stops time, and starts a sandbox and a proxy before it, with `toml` on top of what connects the two.
    pub(crate) async fn start(config: Config, toml: &str) -> (Self, Sandbox, Proxy) {
        let frozen = Self::now();
        let sandbox = super::sandbox(config).await;
        let proxy = frozen.proxy(&sandbox.url(), toml);
        (frozen, sandbox, proxy)
    }

    /// Stops time, and starts a proxy before an upstream of raw bytes; its tokens come from a sandbox.
    pub(crate) async fn start_raw(toml: &str) -> (Self, Sandbox, RawUpstream, Proxy) {
        let frozen = Self::now();
        let sandbox = super::sandbox(super::fluent()).await;
        let upstream = RawUpstream::bind().await;
        let proxy = frozen.proxy(&upstream.url(), &with_tokens_of(&sandbox, toml));
        (frozen, sandbox, upstream, proxy)
    }

    /// A proxy that goes by the time that stands still.
    #[expect(clippy::unused_self, reason = "time has to stand still")]
    pub(crate) fn proxy(&self, url: &str, toml: &str) -> Proxy {
        let (clock, _) = Clock::manual();
        Proxy::with_clock(&settings(url, toml), clock)
    }

    /// Moves time.
    pub(crate) async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    /// Lets time go on, and ends the proxy, which needs time to end.
    pub(crate) async fn end(mut self, proxy: Proxy) {
        self.let_go().await;
        proxy.stop().await;
        tokio::time::resume();
    }

    /// Waits until nothing moves any more: whatever can happen without time passing has happened.
    pub(crate) async fn settle(&mut self) {
        self.let_go().await;
        // The one timer that is due next; time jumps there once the runtime is idle.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.hold = Some(hold());
    }

    /// Fails unless `task` ends once this much time has passed, and not before.
    pub(crate) async fn ends_after<T>(&mut self, time: Duration, task: JoinHandle<T>) -> T {
        // More than the milliseconds that settling takes, and less than anybody sets.
        let margin = Duration::from_millis(100);
        self.settle().await;
        assert!(!task.is_finished(), "ended at once, not after {time:?}");
        self.advance(time.saturating_sub(margin)).await;
        self.settle().await;
        assert!(!task.is_finished(), "ended before {time:?}");
        self.advance(margin).await;
        self.settle().await;
        assert!(task.is_finished(), "did not end after {time:?}");
        task.await.unwrap()
    }

    async fn let_go(&mut self) {
        if let Some((held, blocking)) = self.hold.take() {
            drop(held);
            blocking.await.unwrap();
        }
    }
}

fn hold() -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (hold, ended) = mpsc::channel::<()>();
    let blocking = tokio::task::spawn_blocking(move || {
        // Until the sender is dropped.
        let _ = ended.recv();
    });
    (hold, blocking)
}
