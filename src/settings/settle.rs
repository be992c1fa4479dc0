//! From raw to settled: every value is read, then weighed against its neighbours.
//!
//! 1. A function that settles a part reads all of its fields before it gives up, so that no problem hides another.
//! 2. `None` means that a problem has been recorded, or that an optional setting is not set.
//! 3. What is missing is no problem of its own while a source could not be read: it may stand there.

mod cache;
mod graphql;
mod instance;
mod listen;
mod telemetry;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::given::Given;
use super::key::{Catalogue, Key};
use super::kind::secret::SecretFiles;
use super::kind::{File, Kind};
use super::layers::{Entry, Gathered, Merged};
use super::problem::{Problem, Source, Wrong};
use super::raw::{self, Field};
use super::show::{Provenance, Value};
use super::{Loaded, Settings, Shutdown};
use crate::name::Name;
use crate::secret::Secret;
use crate::server::Address;

/// What is read so far, and what is wrong with it.
pub(super) struct Settler {
    entries: Vec<Entry>,
    named: BTreeMap<Key, Source>,
    incomplete: bool,
    proxies: BTreeMap<String, Given>,
    standard: BTreeSet<String>,
    /// Places whose value is refused, whatever it is.
    refused: BTreeSet<usize>,
    shown: BTreeMap<usize, String>,
    secret_files: Vec<PathBuf>,
    files: SecretFiles,
    problems: Vec<Problem>,
}

/// A setting that is either written out or in a file.
enum Either {
    Text(String),
    Secret(Secret),
}

/// Settles what was gathered.
pub(super) fn settle(
    gathered: Gathered,
    merged: &Merged,
    catalogue: &Catalogue,
) -> Result<Loaded, Vec<Problem>> {
    let mut settler = Settler::of(gathered);
    let settings = settler.settings(&merged.raw);
    match settings {
        Some(settings) if settler.problems.is_empty() => Ok(Loaded {
            settings,
            provenance: settler.provenance(merged, catalogue),
            secret_files: settler.secret_files,
        }),
        Some(_) | None => Err(settler.problems),
    }
}

/// Settles the address of the admin listener, and nothing else.
pub(super) fn admin_address(gathered: Gathered, merged: &Merged) -> Result<Option<Address>, Vec<Problem>> {
    let mut settler = Settler::of(gathered);
    let address = settler.read(&merged.raw.admin.address);
    match address {
        Some(address) if settler.problems.is_empty() => Ok(address),
        Some(_) | None => Err(settler.problems),
    }
}

impl Settler {
    fn of(gathered: Gathered) -> Self {
        Self {
            entries: gathered.entries,
            named: gathered.named,
            incomplete: gathered.incomplete,
            proxies: gathered.proxies,
            standard: gathered.standard,
            refused: BTreeSet::new(),
            shown: BTreeMap::new(),
            secret_files: gathered.secret_files,
            files: SecretFiles::default(),
            problems: gathered.problems,
        }
    }

    fn settings(&mut self, raw: &raw::Settings) -> Option<Settings> {
        let fluent = self.instance(&Key::dotted("fluent"), &raw.fluent);
        let mut instances = BTreeMap::new();
        for (name, raw) in &raw.instances {
            let key = Key::dotted("instances").join(name.as_str());
            // A name that is none was a problem where it was given.
            if let (Some(instance), Ok(name)) = (self.instance(&key, raw), name.parse::<Name>()) {
                instances.insert(name, instance);
            }
        }
        let listen = self.listen(&raw.listen);
        let admin = self.read(&raw.admin.address);
        if let (Some(listen), Some(Some(admin))) = (&listen, &admin) {
            self.listeners_apart(listen, admin, &raw.admin);
        }
        if let Some(listen) = &listen {
            if let Some(fluent) = &fluent {
                self.upstream_apart(listen, &fluent.url, &raw.fluent.url);
            }
            for (name, instance) in &instances {
                if let Some(raw) = raw.instances.get(name.as_str()) {
                    self.upstream_apart(listen, &instance.url, &raw.url);
                }
            }
        }
        let upstream = self.upstream(&raw.upstream);
        let tape = self.tape(&raw.upstream);
        let cache = self.cache(&raw.cache);
        let via = self.read(&raw.upstream.via);
        let inspection = self.inspection(&raw.graphql);
        let log = self.log(&raw.log);
        let traces = self.traces(&raw.telemetry);
        let shutdown = self.shutdown(&raw.shutdown);
        let workers = self.read(&raw.runtime.workers);
        instances.insert(Name::default_name(), fluent?);
        Some(Settings {
            instances,
            listen: listen?,
            upstream: upstream?,
            tape: tape?,
            via: via?,
            cache: cache?,
            graphql: inspection?,
            admin: admin?,
            log: log?,
            traces,
            shutdown: shutdown?,
            workers: workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        })
    }

    fn shutdown(&mut self, raw: &raw::Shutdown) -> Option<Shutdown> {
        let delay = self.read(&raw.delay);
        let deadline = self.read(&raw.deadline);
        let shutdown = Shutdown {
            delay: delay?,
            deadline: deadline?,
        };
        if shutdown.delay >= shutdown.deadline {
            let wrong = Wrong::is("leaves no time to drain before shutdown.deadline")
                .instead("make shutdown.delay shorter than shutdown.deadline, which includes it");
            self.refuse(&raw.delay, wrong);
        }
        Some(shutdown)
    }

    /// Reads a value, if there is one.
    fn read<K: Kind>(&mut self, field: &Field<K>) -> Option<K::Settled> {
        let place = field.place()?;
        let entry = self
            .entries
            .get(place)
            .filter(|_| !self.refused.contains(&place))?;
        match K::read(&entry.given) {
            Ok(settled) => {
                self.shown.insert(place, K::show(&settled));
                Some(settled)
            }
            Err(wrong) => {
                self.refuse(field, wrong);
                None
            }
        }
    }

    /// Reads a setting that is written out or in a file; `None` where there is neither.
    fn either<K: Kind>(
        &mut self,
        text: &Field<K>,
        file: &Field<File>,
        take: fn(K::Settled) -> Either,
    ) -> Option<Either> {
        if let Some(text) = self.read(text) {
            return Some(take(text));
        }
        let path = self.read(file)?;
        self.secret_files.push(path.clone());
        self.files
            .read(&path)
            .map(Either::Secret)
            .map_err(|wrong| self.refuse(file, wrong))
            .ok()
    }

    /// Whether anything stands there, be it right or wrong.
    fn is_given<K>(&self, field: &Field<K>) -> bool {
        self.source(field).is_some()
    }

    fn source<K>(&self, field: &Field<K>) -> Option<&Source> {
        self.entries.get(field.place()?).map(|entry| &entry.source)
    }

    /// Records what is wrong with a value that is there; one problem a value is enough.
    fn refuse<K>(&mut self, field: &Field<K>, wrong: Wrong) {
        let place = field.place().filter(|place| !self.refused.contains(place));
        if let Some((place, entry)) = place.and_then(|place| Some((place, self.entries.get(place)?))) {
            self.problems
                .push(Problem::new(&entry.key, Some(entry.source.clone()), wrong));
            self.refused.insert(place);
        }
    }

    /// Records what is wrong with a whole instance or user.
    fn refuse_table(&mut self, table: &Key, wrong: Wrong) {
        self.problems
            .push(Problem::new(table, self.named.get(table).cloned(), wrong));
    }

    /// Records that a value is missing, unless it is there and misshapen.
    fn missing(&mut self, key: &Key, table: &Key, wrong: Wrong) {
        let problem = Problem::new(key, self.named.get(table).cloned(), wrong);
        let told = self.problems.iter().any(|known| known.key == problem.key);
        if !self.incomplete && !told {
            self.problems.push(problem);
        }
    }

    /// Where each value comes from, for those who ask.
    fn provenance(&self, merged: &Merged, catalogue: &Catalogue) -> Provenance {
        let known = catalogue
            .leaves()
            .iter()
            .flat_map(|leaf| leaf.with_names(&self.named));
        // Free keys are known by being given.
        let keys: BTreeSet<Key> = known.chain(merged.places.keys().cloned()).collect();
        let row = |key: Key| {
            let place = merged.places.get(&key);
            let entry = place.and_then(|place| self.entries.get(*place));
            let value = match (place.and_then(|place| self.shown.get(place)), entry) {
                (_, None) => Value::Unset,
                (_, Some(_)) if catalogue.is_secret(&key) => Value::Secret,
                (Some(shown), Some(_)) => Value::Text(shown.clone()),
                (None, Some(entry)) => Value::Text(entry.given.spelled()),
            };
            (key.to_string(), value, entry.map(|entry| entry.source.clone()))
        };
        Provenance::of(keys.into_iter().map(row))
    }
}

impl Either {
    fn into_secret(self) -> Secret {
        match self {
            Self::Text(text) => Secret::new(text),
            Self::Secret(secret) => secret,
        }
    }

    /// The text of what is no secret, wherever it stood.
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            #[expect(
                clippy::disallowed_methods,
                reason = "a username or client id is no secret, though its file is read as one"
            )]
            Self::Secret(text) => text.expose().to_owned(),
        }
    }
}
