//! The store of one machine: a folder, with a file for each account.
//!
//! 1. Whoever changes a file holds the lock beside it (`flock`), for the time of a read and a write; waiting for
//!    it has an end. Readers need no lock: a file is replaced whole, by a rename.
//! 2. Files are for their owner alone (0600), in a folder that is made so (0700) where there is none.
//! 3. The clock is the wall clock. What it puts in the future was written by a clock that was wrong: a token is
//!    dead, a refusal, a lease or a count is none.
//! 4. A file that cannot be understood is as good as empty. It need not outlive a power cut: nothing is synced.
//! 5. The disk is touched on threads for waiting only, a few at a time, so that a disk that hangs holds up
//!    nothing else.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::names::Names;
use super::record::{self, MOST_COUNTED, PATIENCE, lately, millis};
use super::seal::{KeyRing, Seal};
use super::{Change, Lease, Reading, Shelf, Store, StoreError, StoreTime};
use crate::token::BoxFuture;
use crate::token::grant::Login;

/// How long one may wait for the lock: shorter than `PATIENCE`, so that its thread ends before it is given up.
const LOCK_PATIENCE: Duration = Duration::from_millis(800);
/// Between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Operations at once.
const THREADS: usize = 4;
/// More than any account has.
const LONGEST: u64 = 1024 * 1024;
/// Sealed values of a kind in a file; more come only of secrets that change all the time.
const MOST_VALUES: usize = 64;

/// The store of one machine.
#[derive(Debug)]
pub struct FileStore {
    folder: PathBuf,
    prefix: String,
    keys: Option<KeyRing>,
    threads: Arc<Semaphore>,
}

impl FileStore {
    /// A store in `folder`, which is not looked at before it is needed.
    #[must_use]
    pub fn new(folder: PathBuf, prefix: String, keys: Option<KeyRing>) -> Self {
        Self {
            folder,
            prefix,
            keys,
            threads: Arc::new(Semaphore::new(THREADS)),
        }
    }
}

impl Store for FileStore {
    fn shelf(&self, login: &Login) -> Arc<dyn Shelf> {
        let names = Names::of(&self.prefix, login);
        Arc::new(FileShelf {
            place: Arc::new(Place {
                file: self.folder.join(format!("{}.json", names.account)),
                lock: self.folder.join(format!("{}.lock", names.account)),
                folder: self.folder.clone(),
                seal: Seal::of(login, self.keys.as_ref()),
                names,
            }),
            threads: Arc::clone(&self.threads),
        })
    }
}

struct FileShelf {
    place: Arc<Place>,
    threads: Arc<Semaphore>,
}

/// Where the values of a login are.
struct Place {
    folder: PathBuf,
    file: PathBuf,
    lock: PathBuf,
    names: Names,
    seal: Seal,
}

/// What a file holds of an account.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    lease: Option<Held>,
    counted: Vec<u64>,
    /// Sealed values by their names.
    values: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Held {
    by: String,
    since: u64,
    until: u64,
}

#[derive(Serialize, Deserialize)]
struct Value {
    sealed: String,
    until: u64,
}

impl FileShelf {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = Arc::clone(&self.place);
        let threads = Arc::clone(&self.threads);
        let working = async move {
            let permit = threads.acquire_owned().await;
            let work = move || {
                let _permit = permit;
                work(&place)
            };
            let done = tokio::task::spawn_blocking(work).await;
            done.unwrap_or(Err(StoreError::Unreachable))
        };
        let done = tokio::time::timeout(PATIENCE, working).await;
        done.unwrap_or(Err(StoreError::TimedOut))
    }
}

impl Shelf for FileShelf {
    fn read(&self) -> BoxFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.run(Place::read))
    }

    fn lease(&self, life: Duration) -> BoxFuture<'_, Result<Option<Lease>, StoreError>> {
        Box::pin(self.run(move |place| place.lease(life)))
    }

    fn settle(&self, lease: Lease, change: Change) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.run(move |place| place.settle(&lease, &change)))
    }

    fn clear_refusal(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run(|place| {
            place.change(|content, _| {
                content.values.remove(&place.names.refusal);
                Ok(())
            })
        }))
    }
}

impl Place {
    fn read(&self) -> Result<Reading, StoreError> {
        let content = self.content()?;
        let now = now();
        let sealed = |name: &str| STANDARD.decode(&content.values.get(name)?.sealed).ok();
        let values = (sealed(&self.names.entry), sealed(&self.names.refusal));
        let place = (&self.names, &self.seal);
        Ok(record::reading(now, place, values, content.counted))
    }

    fn lease(&self, life: Duration) -> Result<Option<Lease>, StoreError> {
        self.change(|content, now| {
            if content.lease.as_ref().is_some_and(|held| held.holds(now)) {
                return Ok(None);
            }
            let by = super::random().ok_or(StoreError::Unwritable)?;
            content.lease = Some(Held {
                by: by.clone(),
                since: now.0,
                until: now.plus(life).0,
            });
            Ok(Some(Lease(by)))
        })
    }

    fn settle(&self, lease: &Lease, change: &Change) -> Result<bool, StoreError> {
        self.change(|content, now| {
            let held = content.lease.as_ref();
            let held = held.is_some_and(|held| held.by == lease.0 && held.holds(now));
            if held {
                content.lease = None;
                if let Some(entry) = &change.entry {
                    let plain = record::of_entry(entry).ok_or(StoreError::Nonsense)?;
                    self.put(content, &self.names.entry, &plain, record::end_of(entry))?;
                    content.values.remove(&self.names.refusal);
                }
            }
            if let Some((refusal, cool_down)) = &change.refusal {
                let until = now.plus(*cool_down);
                let plain = record::of_refusal(*refusal, now, until).ok_or(StoreError::Nonsense)?;
                self.put(content, &self.names.refusal, &plain, until)?;
            }
            if change.counted {
                content.counted.push(now.0);
            }
            Ok(held)
        })
    }

    fn put(
        &self,
        content: &mut Content,
        name: &str,
        plain: &[u8],
        until: StoreTime,
    ) -> Result<(), StoreError> {
        let sealed = self.seal.seal(name, plain).ok_or(StoreError::Unwritable)?;
        let sealed = STANDARD.encode(sealed);
        let value = Value {
            sealed,
            until: until.0,
        };
        content.values.insert(name.to_owned(), value);
        Ok(())
    }

    /// Changes the file under its lock.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Content, StoreTime) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.locked()?;
        let mut content = self.content()?;
        let now = now();
        let changed = change(&mut content, now)?;
        content.tidy(now);
        self.replace(&content).map_err(|_| StoreError::Unwritable)?;
        Ok(changed)
    }

    /// The lock, until the file is dropped.
    fn locked(&self) -> Result<File, StoreError> {
        let open = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&self.lock)
        };
        let file = open().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)?;
            open()
        });
        let file = file.map_err(|_| StoreError::Unwritable)?;
        // Pauses take longer on a busy machine: they are measured, not counted.
        let since = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK) if since.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(StoreError::TimedOut),
                Err(_) => return Err(StoreError::Unreachable),
            }
        }
    }

    fn content(&self) -> Result<Content, StoreError> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(_) => return Err(StoreError::Unreachable),
        };
        let mut text = Vec::new();
        let read = file.take(LONGEST).read_to_end(&mut text);
        read.map_err(|_| StoreError::Unreachable)?;
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    fn replace(&self, content: &Content) -> io::Result<()> {
        let text = serde_json::to_vec(content)?;
        // The lock keeps the name free; what a killed process left there is written over.
        let new = self.file.with_extension("new");
        let written = write_new(&new, &text).and_then(|()| fs::rename(&new, &self.file));
        written.inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}

impl Held {
    fn holds(&self, now: StoreTime) -> bool {
        (self.since..self.until).contains(&now.0)
    }
}

impl Content {
    /// Drops what is over, and keeps within the bounds.
    fn tidy(&mut self, now: StoreTime) {
        self.counted.retain(lately(now));
        let surplus = self.counted.len().saturating_sub(MOST_COUNTED);
        self.counted.drain(..surplus);
        self.values.retain(|_, value| value.until > now.0);
        while self.values.len() > MOST_VALUES {
            let first = self.values.iter().min_by_key(|(_, value)| value.until);
            let Some(name) = first.map(|(name, _)| name.clone()) else {
                return;
            };
            self.values.remove(&name);
        }
    }
}

fn now() -> StoreTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    StoreTime(millis(now.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_dropped_and_of_the_rest_the_latest_are_kept() {
        let now = StoreTime(10_000_000);
        let most = u64::try_from(MOST_VALUES).unwrap();
        let value = |until| Value {
            sealed: String::new(),
            until,
        };
        let mut content = Content {
            lease: None,
            counted: (now.0 - 20..=now.0 + 1).collect(),
            // The first ends now; one more is left than there is room for.
            values: (0..most + 2)
                .map(|n| (format!("{n:03}"), value(now.0 + n)))
                .collect(),
        };
        for (passed, first) in [(0, 2), (2, 3)] {
            content.tidy(StoreTime(now.0 + passed));
            assert_eq!(content.counted, (now.0 - 15..=now.0).collect::<Vec<_>>());
            let kept: Vec<u64> = content.values.values().map(|value| value.until - now.0).collect();
            assert_eq!(kept, (first..most + 2).collect::<Vec<_>>());
        }
    }
}
