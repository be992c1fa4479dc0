//! Sees credentials change while the program runs: the files that hold them are read again.
//!
//! 1. Folders are watched, not files: Kubernetes swaps a link beside the files (`..data`), editors rename over them.
//!    Where no events come (another system than Linux, a network's file system, a file behind a link), all is read
//!    again each half minute.
//! 2. What is new is taken after two equal readings, 250 ms apart: so no half-written file, and no old secret
//!    with a new one, is ever sent.
//! 3. What cannot be read changes nothing: the credentials at hand stay, and the log says so once.
//! 4. Nothing but credentials changes (user, password, client id and client secret): for other settings the program
//!    is started again.

mod folders;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use folders::Folders;

use super::{Loaded, Settings, Sources};
use crate::name::Name;
use crate::token::grant::Login;

/// How often all is read again, events or none.
const POLL: Duration = Duration::from_secs(30);
/// How long the files have to stay as they are.
const SETTLED: Duration = Duration::from_millis(250);

/// Logins by instance and user.
pub type Logins = BTreeMap<Name, BTreeMap<Name, Login>>;

/// Watches the files of the credentials.
pub struct Watch {
    sources: Arc<Sources>,
    /// Those in use.
    logins: Logins,
    folders: Folders,
    /// Something has happened in the folders, and what came of it was not taken yet.
    pending: bool,
    /// The last reading failed, and the log said so.
    failed: bool,
}

impl Watch {
    /// Watches what `loaded` was loaded from. Needs a tokio runtime.
    #[must_use]
    pub fn new(sources: Sources, loaded: &Loaded) -> Self {
        let folders: BTreeSet<PathBuf> = loaded
            .secret_files
            .iter()
            .filter_map(|file| file.parent())
            // A name without a folder is one in the working directory.
            .map(|folder| Path::new(".").join(folder))
            .collect();
        Self {
            sources: Arc::new(sources),
            logins: logins(&loaded.settings),
            folders: Folders::new(folders),
            pending: false,
            failed: false,
        }
    }

    /// Waits until the credentials are others, and gives them. Where there are no files, it waits for ever. It may
    /// be dropped at any time; what it has not given, the next one gives.
    pub async fn changed(&mut self) -> &Logins {
        if self.folders.is_empty() {
            return std::future::pending().await;
        }
        loop {
            if !self.pending {
                // Silence leads to the poll.
                let _ = tokio::time::timeout(POLL, self.folders.event()).await;
                self.pending = true;
            }
            let changed = self.take_settled().await;
            self.pending = false;
            if changed {
                return &self.logins;
            }
        }
    }

    /// Reads the credentials now, without waiting whether they stay as they are.
    pub async fn read_now(&mut self) -> &Logins {
        if let Some(read) = self.read().await {
            self.logins = read;
        }
        &self.logins
    }

    /// Rule 2. Says whether the credentials are others now.
    async fn take_settled(&mut self) -> bool {
        let mut last = self.read().await;
        loop {
            // Most of what happens in a folder is about other files.
            if last.as_ref().is_some_and(|read| keys(read) == keys(&self.logins)) {
                return false;
            }
            tokio::time::sleep(SETTLED).await;
            let read = self.read().await;
            match (&last, read) {
                (Some(last), Some(read)) if keys(last) == keys(&read) => {
                    self.logins = read;
                    return true;
                }
                (None, None) => return false,
                (_, read) => last = read,
            }
        }
    }

    /// Rules 3 and 4.
    async fn read(&mut self) -> Option<Logins> {
        let sources = Arc::clone(&self.sources);
        let loaded = tokio::task::spawn_blocking(move || Settings::load(&sources)).await;
        match loaded {
            Ok(Ok(loaded)) => {
                self.failed = false;
                Some(self.with_credentials_of(&logins(&loaded.settings)))
            }
            Ok(Err(problems)) => {
                if !self.failed {
                    self.failed = true;
                    tracing::warn!(
                        %problems,
                        "credentials cannot be read again; those at hand stay in use"
                    );
                }
                None
            }
            Err(_) => None,
        }
    }

    fn with_credentials_of(&self, read: &Logins) -> Logins {
        let login = |instance: &Name, user: &Name, login: &Login| {
            let new = read.get(instance).and_then(|users| users.get(user));
            new.map_or_else(|| login.clone(), |new| login.with_credentials_of(new))
        };
        let users = |(instance, users): (&Name, &BTreeMap<Name, Login>)| {
            let users = users
                .iter()
                .map(|(user, own)| (user.clone(), login(instance, user, own)));
            (instance.clone(), users.collect())
        };
        self.logins.iter().map(users).collect()
    }
}

fn logins(settings: &Settings) -> Logins {
    let instances = settings.instances.iter();
    instances
        .map(|(name, instance)| (name.clone(), instance.users.clone()))
        .collect()
}

/// What tells logins apart.
fn keys(logins: &Logins) -> Vec<crate::token::digest::Digest> {
    logins
        .values()
        .flat_map(BTreeMap::values)
        .map(Login::key)
        .collect()
}

#[cfg(test)]
mod tests;
