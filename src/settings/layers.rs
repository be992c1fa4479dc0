//! The layers: what was given where, and what of it is in force.
//!
//! 1. Later wins: `config/default.toml`, a profile, the file, the environment, the command line.
//! 2. `x` and `x_file` are one setting: a later layer replaces both, and both in one layer are a problem. So are
//!    two variables for one key.
//! 3. A named instance has the defaults of `[fluent]`, not what was set there.
//! 4. `config` lays the layers over each other. It gets the places of values instead of the values: its
//!    conversions and its errors never meet one.

mod environment;
mod file;
mod profile;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;

use config::{Map, Value, ValueKind};

use super::given::Given;
use super::key::{Catalogue, Key, Node, name_of};
use super::problem::{Layer, Problem, Source, Wrong};
use super::{CATALOGUE, DEFAULT, Sources, raw};

/// The built-in layer, read once.
static BUILT_IN: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut gathered = Gathered::default();
    file::read_text(&mut gathered, &CATALOGUE, DEFAULT, &|_| Source::Default);
    gathered.entries
});

/// A value that was given somewhere.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) given: Given,
    pub(super) source: Source,
}

/// What was given, and what went wrong in gathering it.
#[derive(Default)]
pub(super) struct Gathered {
    /// Everything given, layer by layer; an entry's place in it is its number.
    pub(super) entries: Vec<Entry>,
    /// Where each instance and user is first named, by its key.
    pub(super) named: BTreeMap<Key, Source>,
    pub(super) problems: Vec<Problem>,
    /// The variables that tell of proxies on the way out, by their names.
    pub(super) proxies: BTreeMap<String, Given>,
    /// The standard variables of OpenTelemetry that are set.
    pub(super) standard: BTreeSet<String>,
    /// The files of profiles.
    pub(super) secret_files: Vec<PathBuf>,
    /// A source could not be read to its end: what is missing may stand there.
    pub(super) incomplete: bool,
}

/// What is in force.
pub(super) struct Merged {
    /// By key and kind.
    pub(super) raw: raw::Settings,
    /// The place of the value of each key that has one.
    pub(super) places: BTreeMap<Key, usize>,
}

impl Gathered {
    /// Reads all sources.
    pub(super) fn of(sources: &Sources, catalogue: &Catalogue) -> Self {
        let mut gathered = Self::read(sources, catalogue);
        profile::read(&mut gathered, catalogue, &sources.environment);
        gathered.complete(catalogue)
    }

    /// Reads the sources but profiles, which hold nothing but where and as whom to log in.
    pub(super) fn without_profiles(sources: &Sources, catalogue: &Catalogue) -> Self {
        Self::read(sources, catalogue).complete(catalogue)
    }

    fn read(sources: &Sources, catalogue: &Catalogue) -> Self {
        let mut gathered = Self {
            entries: BUILT_IN.clone(),
            ..Self::default()
        };
        let named = environment::settings_file(&sources.environment);
        if let Some(path) = sources.file.clone().or(named) {
            file::read(&mut gathered, catalogue, &path);
        }
        environment::read(&mut gathered, catalogue, &sources.environment);
        gathered.proxies = environment::proxies(&sources.environment);
        gathered.standard = environment::standard(&sources.environment);
        for assignment in &sources.set {
            gathered.assign(catalogue, assignment);
        }
        gathered
    }

    fn complete(mut self, catalogue: &Catalogue) -> Self {
        self.default_instances();
        self.twins(catalogue);
        self
    }

    /// Takes a value in, and the names that its key holds.
    fn give(&mut self, catalogue: &Catalogue, key: Key, given: Given, source: Source) {
        let mut table = Key::default();
        for part in key.parts() {
            let named = matches!(catalogue.node(&table), Some(Node::Named(_)));
            table = table.join(part);
            if named {
                self.named.entry(table.clone()).or_insert_with(|| source.clone());
            }
        }
        self.entries.push(Entry { key, given, source });
    }

    /// The entry of a key that wins.
    fn in_force(&self, key: &Key) -> Option<&Entry> {
        let entries = self.entries.iter().filter(|entry| entry.key == *key);
        entries.max_by_key(|entry| entry.source.layer())
    }

    /// Reads one `--set section.key=value`.
    fn assign(&mut self, catalogue: &Catalogue, assignment: &str) {
        let source = Some(Source::CommandLine);
        let Some((key, value)) = assignment.split_once('=') else {
            // What it is may be a secret that lost its key.
            let wrong = Wrong::is("has no '='").instead("write --set section.key=value");
            self.problems.push(Problem::of_source(source, wrong));
            return;
        };
        let key = Key::dotted(key.trim());
        let problem = match catalogue.node(&key) {
            None => Problem::new(&key, source, Wrong::is("is unknown")).nearest(catalogue.nearest(&key)),
            Some(Node::Leaf { secret: true }) => {
                let wrong = Wrong::is("is a secret, and command lines can be read by others")
                    .instead("give it by a file or a variable");
                Problem::new(&key, source, wrong)
            }
            Some(Node::Table(_) | Node::Named(_) | Node::Free(_)) => Problem::new(
                &key,
                source,
                Wrong::is("is a table").instead("set one of the keys in it"),
            ),
            Some(Node::Leaf { secret: false }) => match ill_named(catalogue, &key) {
                Some((named, wrong)) => Problem::new(&named, source, wrong),
                None => return self.give(catalogue, key, Given::plain(value), Source::CommandLine),
            },
        };
        self.problems.push(problem);
    }

    /// Gives each named instance the defaults of `[fluent]`.
    fn default_instances(&mut self) {
        let instances: BTreeSet<_> = self.named.keys().filter_map(Key::instance).collect();
        let defaults = self
            .entries
            .iter()
            .filter(|entry| entry.source == Source::Default);
        let moved: Vec<_> = defaults
            .flat_map(|entry| {
                instances.iter().filter_map(|instance| {
                    Some(Entry {
                        key: entry.key.moved(instance)?,
                        given: entry.given.clone(),
                        source: Source::Default,
                    })
                })
            })
            .collect();
        self.entries.extend(moved);
    }

    /// Finds settings that one layer gives twice, and drops what a later layer's twin replaces.
    fn twins(&mut self, catalogue: &Catalogue) {
        let mut latest: BTreeMap<Key, (Layer, usize)> = BTreeMap::new();
        let mut problems = Vec::new();
        let mut order: Vec<_> = (0..).zip(&self.entries).collect();
        order.sort_by_key(|(_, entry)| entry.source.layer());
        for (place, entry) in order {
            let layer = entry.source.layer();
            let twin = entry.key.twin().filter(|twin| catalogue.node(twin).is_some());
            for other in twin.iter().chain([&entry.key]) {
                let Some((_, earlier)) = latest.get(other).filter(|(of, _)| *of == layer) else {
                    continue;
                };
                // A `--set` that comes later on the line wins, as flags do everywhere.
                if *other == entry.key && layer == Layer::CommandLine {
                    continue;
                }
                if let Some(earlier) = self.entries.get(*earlier) {
                    problems.push(given_twice(entry, earlier));
                }
            }
            latest.insert(entry.key.clone(), (layer, place));
        }
        let layer_of = |key: &Key| latest.get(key).map(|(layer, _)| *layer);
        let replaced = |entry: &Entry| {
            let twin = entry.key.twin().filter(|twin| catalogue.node(twin).is_some());
            twin.and_then(|twin| layer_of(&twin)) > layer_of(&entry.key)
        };
        let replaced: BTreeSet<Key> = self
            .entries
            .iter()
            .filter(|entry| replaced(entry))
            .map(|entry| entry.key.clone())
            .collect();
        self.entries.retain(|entry| !replaced.contains(&entry.key));
        self.problems.append(&mut problems);
    }

    /// Lays the layers over each other.
    pub(super) fn merge(&self) -> Result<Merged, config::ConfigError> {
        let layers = [
            Layer::Default,
            Layer::Profile,
            Layer::File,
            Layer::Environment,
            Layer::CommandLine,
        ];
        let merged = layers
            .iter()
            .fold(config::Config::builder(), |builder, layer| {
                builder.add_source(self.tree(*layer))
            })
            .build()?;
        let mut places = BTreeMap::new();
        collect_places(&merged.cache, &Key::default(), &mut places);
        Ok(Merged {
            raw: merged.try_deserialize()?,
            places,
        })
    }

    /// A layer as `config` wants it, with the places of its values.
    fn tree(&self, layer: Layer) -> Tree {
        let mut tree = Tree::default();
        for (key, source) in &self.named {
            if source.layer() == layer {
                insert(&mut tree.0, key, Map::<String, Value>::new().into());
            }
        }
        for (place, entry) in (0_u64..).zip(&self.entries) {
            if entry.source.layer() == layer {
                insert(&mut tree.0, &entry.key, place.into());
            }
        }
        tree
    }
}

fn given_twice(entry: &Entry, earlier: &Entry) -> Problem {
    let wrong = if entry.key == earlier.key {
        Wrong::is(format!("is given by {} as well", earlier.source)).instead("keep one of the two")
    } else {
        Wrong::is(format!(
            "is given together with {} ({})",
            earlier.key, earlier.source
        ))
        .instead("keep one of the two: they are one setting")
    };
    Problem::new(&entry.key, Some(entry.source.clone()), wrong)
}

/// The first name of a key that no instance or user can have.
fn ill_named(catalogue: &Catalogue, key: &Key) -> Option<(Key, Wrong)> {
    let mut table = Key::default();
    for part in key.parts() {
        let named = matches!(catalogue.node(&table), Some(Node::Named(_)));
        table = table.join(part);
        if named && let Err(wrong) = name_of(part) {
            return Some((table, wrong));
        }
    }
    None
}

/// One layer for `config`.
#[derive(Clone, Debug, Default)]
struct Tree(Map<String, Value>);

impl config::Source for Tree {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn insert(tree: &mut Map<String, Value>, key: &Key, value: ValueKind) {
    let mut parts = key.parts().peekable();
    let mut table = tree;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            // The last of a layer wins, but a name that has keys already keeps them.
            if !(matches!(value, ValueKind::Table(_)) && table.contains_key(part)) {
                table.insert(part.to_owned(), Value::new(None, value));
            }
            return;
        }
        let below = table
            .entry(part.to_owned())
            .or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
        let ValueKind::Table(inner) = &mut below.kind else {
            return;
        };
        table = inner;
    }
}

fn collect_places(value: &Value, key: &Key, places: &mut BTreeMap<Key, usize>) {
    if let ValueKind::Table(table) = &value.kind {
        for (part, value) in table {
            collect_places(value, &key.join(part.as_str()), places);
        }
    } else if let ValueKind::U64(place) = &value.kind {
        places.extend(usize::try_from(*place).ok().map(|place| (key.clone(), place)));
    }
}
