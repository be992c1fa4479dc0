//! Folders in which something happens.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// Folders, and how one is told of what happens in them.
pub(super) struct Folders {
    folders: BTreeSet<PathBuf>,
    #[cfg(target_os = "linux")]
    events: Option<inotify::EventStream<[u8; 4096]>>,
}

impl Folders {
    pub(super) fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }
}

#[cfg(target_os = "linux")]
impl Folders {
    pub(super) fn new(folders: BTreeSet<PathBuf>) -> Self {
        let events = inotify::Inotify::init()
            .and_then(|events| events.into_event_stream([0; 4096]))
            .inspect_err(|error| tracing::warn!(%error, "credentials are looked at each half minute only"))
            .ok();
        let folders = Self { folders, events };
        folders.watch();
        folders
    }

    /// Watches all folders; those that are watched already stay so, and those that came again are found.
    fn watch(&self) {
        use inotify::WatchMask;
        let what = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MODIFY
            | WatchMask::MOVE
            | WatchMask::ONLYDIR;
        let Some(events) = &self.events else { return };
        for folder in &self.folders {
            if let Err(error) = events.watches().add(folder, what) {
                tracing::debug!(folder = %folder.display(), %error, "a folder of credentials is not watched");
            }
        }
    }

    /// Waits until something has happened.
    pub(super) async fn event(&mut self) {
        use futures_util::{FutureExt as _, StreamExt as _};
        self.watch();
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        if let Some(Ok(_)) = events.next().await {
            // What it was is of no interest, nor how much: all is read again.
            while let Some(Some(Ok(_))) = events.next().now_or_never() {}
        } else {
            self.events = None;
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Folders {
    pub(super) fn new(folders: BTreeSet<PathBuf>) -> Self {
        Self { folders }
    }

    pub(super) async fn event(&mut self) {
        std::future::pending().await
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_happens_at_once_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut folders = Folders::new(BTreeSet::from([folder.path().to_owned()]));
        for _ in 0..3 {
            assert!(folders.event().now_or_never().is_none(), "nothing has happened");
            for name in ["username", "password", "client_secret"] {
                std::fs::write(folder.path().join(name), b"new").unwrap();
            }
            folders.event().await;
        }
    }

    #[tokio::test]
    async fn where_nothing_is_watched_nothing_is_told() {
        let mut folders = Folders {
            folders: BTreeSet::new(),
            events: None,
        };
        assert!(folders.event().now_or_never().is_none());
    }
}
