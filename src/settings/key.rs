//! The keys that there are, and the nearest one to a key that there is not.
//!
//! 1. What is known is read out of the schema of [`super::raw`]; nothing lists keys a second time.
//! 2. The schema marks a secret with `writeOnly`.
//! 3. In a variable, a key's parts are upper case and parted by `__`; as names know no `_`, one in a name
//!    stands for `-` (`FLUENT_PROXY__INSTANCES__EU_PROD__URL` is `instances.eu-prod.url`).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::problem::Wrong;
use crate::name::Name;

/// What all our own variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "FLUENT_PROXY__";
/// Stands for any name in the key of a catalogue.
pub(super) const ANY: &str = "*";

/// A key as the way to it: `listen.max_body` has two parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<String>);

impl Key {
    pub(super) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }

    pub(super) fn join(&self, part: impl Into<String>) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.into());
        Self(parts)
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The table that the key stands in.
    pub(super) fn parent(&self) -> Self {
        let parents = self.0.split_last().map(|(_, parents)| parents.to_vec());
        Self(parents.unwrap_or_default())
    }

    /// The key as one of another instance: of `fluent.url` and `instances.eu`, `instances.eu.url`.
    pub(super) fn moved(&self, instance: &Self) -> Option<Self> {
        let (root, rest) = self.0.split_first()?;
        (root == "fluent").then(|| Self(instance.0.iter().chain(rest).cloned().collect()))
    }

    /// The instance that the key belongs to, where it is a named one.
    pub(super) fn instance(&self) -> Option<Self> {
        match self.0.as_slice() {
            [root, name, ..] if root == "instances" => Some(Self(vec![root.clone(), name.clone()])),
            _ => None,
        }
    }

    /// The key as the comments of `default.toml` know it: instances have
    /// the keys of `fluent`, and any user is `*`.
    pub(super) fn general(&self) -> String {
        let own = match self.0.as_slice() {
            [root, _, rest @ ..] if root == "instances" => std::iter::once("fluent".to_owned())
                .chain(rest.iter().cloned())
                .collect(),
            parts => parts.to_vec(),
        };
        match own.as_slice() {
            [root, users, _, rest @ ..] if root == "fluent" && users == "users" => {
                format!("fluent.users.{ANY}.{}", rest.join("."))
            }
            [root, token, extra, _] if root == "fluent" && token == "token" && extra == "extra" => {
                format!("fluent.token.extra.{ANY}")
            }
            parts => parts.join("."),
        }
    }

    /// The same setting from a file, or the other way round: of `x` `x_file`, of `x_file` `x`.
    pub(super) fn twin(&self) -> Option<Self> {
        let (last, parents) = self.0.split_last()?;
        let twin = last
            .strip_suffix("_file")
            .map_or_else(|| format!("{last}_file"), str::to_owned);
        Some(Self(parents.iter().cloned().chain([twin]).collect()))
    }

    /// The keys that this one of a catalogue stands for: one for each name among the keys of `named`, none where
    /// it holds [`ANY`] in another place.
    pub(super) fn with_names<T>(&self, named: &BTreeMap<Self, T>) -> Vec<Self> {
        self.0.iter().fold(vec![Self::default()], |tables, part| {
            let below = |table: &Self| -> Vec<Self> {
                if part != ANY {
                    return vec![table.join(part.as_str())];
                }
                named
                    .keys()
                    .filter(|key| key.0.split_last().is_some_and(|(_, t)| t == table.0))
                    .cloned()
                    .collect()
            };
            tables.iter().flat_map(below).collect()
        })
    }

    fn variable(&self) -> String {
        let parts: Vec<_> = self
            .parts()
            .map(|part| part.replace('-', "_").to_ascii_uppercase())
            .collect();
        format!("{VARIABLE_PREFIX}{}", parts.join("__"))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '*';
            if !part.is_empty() && part.chars().all(bare) {
                f.write_str(part)?;
            } else {
                write!(f, "{part:?}")?;
            }
        }
        Ok(())
    }
}

/// What may stand at a key.
pub(super) enum Node {
    /// A table of known keys.
    Table(BTreeMap<String, Node>),
    /// A table of names, each with the same below it.
    Named(Box<Node>),
    /// A table of free keys.
    Free(Box<Node>),
    /// A value.
    Leaf {
        /// Whether it must never be shown.
        secret: bool,
    },
}

/// Every key that there is.
pub(super) struct Catalogue {
    root: Node,
    leaves: Vec<Key>,
}

impl Catalogue {
    /// Reads the keys out of the schema, all of whose parts stand in place.
    pub(super) fn of(schema: &Value) -> Self {
        let root = Node::of(schema);
        let mut leaves = Vec::new();
        root.collect(&Key::default(), &mut leaves);
        Self { root, leaves }
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// Each key of a value; a name is [`ANY`].
    pub(super) fn leaves(&self) -> &[Key] {
        &self.leaves
    }

    pub(super) fn node(&self, key: &Key) -> Option<&Node> {
        key.parts().try_fold(&self.root, Node::below)
    }

    pub(super) fn is_secret(&self, key: &Key) -> bool {
        matches!(self.node(key), Some(Node::Leaf { secret: true }))
    }

    /// The known key or table that is spelled most like `key`.
    pub(super) fn nearest(&self, key: &Key) -> Option<String> {
        nearest(
            &key.to_string(),
            self.spelled_like(key).map(|known| known.to_string()),
        )
    }

    /// The known variable that is spelled most like `name`.
    pub(super) fn nearest_variable(&self, name: &str) -> Option<String> {
        let name = name.to_uppercase();
        let parts = name.strip_prefix(VARIABLE_PREFIX).unwrap_or(&name).split("__");
        let key = Key(parts.map(str::to_lowercase).collect());
        nearest(&name, self.spelled_like(&key).map(|known| known.variable()))
    }

    /// The known keys and tables, with the names of `key` where it has some in their place.
    fn spelled_like<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = Key> + 'a {
        let tables = self
            .leaves
            .iter()
            .filter_map(|leaf| leaf.0.split_last().map(|(_, table)| table));
        let tables = tables.filter(|table| table.last().is_some_and(|last| last != ANY));
        let leaves = self.leaves.iter().map(|leaf| leaf.0.as_slice());
        leaves.chain(tables).map(|known| {
            let same_root = known.first() == key.0.first();
            let named = known
                .iter()
                .enumerate()
                .map(|(index, part)| match key.0.get(index) {
                    Some(name) if part == ANY && same_root => name.clone(),
                    Some(_) | None if part == ANY => "NAME".to_owned(),
                    Some(_) | None => part.clone(),
                });
            Key(named.collect())
        })
    }

    /// The key that a variable stands for; `rest` is its name without the prefix.
    pub(super) fn of_variable(&self, rest: &str) -> Option<Result<Key, Wrong>> {
        let mut key = Key::default();
        let mut node = &self.root;
        for part in rest.split("__") {
            let own = match node {
                Node::Table(known) => known
                    .keys()
                    .find(|known| known.to_ascii_uppercase() == part)
                    .cloned()?,
                Node::Named(_) => {
                    let name = part.to_ascii_lowercase().replace('_', "-");
                    if let Err(wrong) = name_of(&name) {
                        return Some(Err(wrong));
                    }
                    name
                }
                Node::Free(_) => part.to_ascii_lowercase(),
                Node::Leaf { .. } => return None,
            };
            node = node.below(&own)?;
            key = key.join(own);
        }
        Some(Ok(key))
    }
}

/// The name of an instance or user beside the default one.
pub(super) fn name_of(text: &str) -> Result<Name, Wrong> {
    let name = text
        .parse::<Name>()
        .map_err(|error| Wrong::is(format!("is not a name: {error}")))?;
    if name == Name::default_name() {
        return Err(Wrong::is("cannot be named \"default\"")
            .instead("\"default\" is what stands in [fluent] itself: choose another name"));
    }
    Ok(name)
}

/// The one of `known` that is spelled most like `key`, or like its beginning where it is longer than any key.
fn nearest(key: &str, known: impl Iterator<Item = String>) -> Option<String> {
    const LONGEST: usize = 128;
    let key: String = key.chars().take(LONGEST).collect();
    let length = key.chars().count();
    let last = last_part(&key);
    let mut best: Option<(f64, String)> = None;
    for known in known {
        // The right key in the wrong section is nearer than a like section with some other key.
        let floor = if last == last_part(&known) { 0.85_f64 } else { 0.0 };
        // Each letter that one has beside the other counts: most need not be looked at closely.
        #[expect(clippy::cast_precision_loss, reason = "keys are short")]
        let most = length.min(known.len()) as f64 / length.max(known.len()).max(1) as f64;
        if best.as_ref().is_some_and(|(score, _)| floor.max(most) < *score) {
            continue;
        }
        let score = floor.max(strsim::normalized_damerau_levenshtein(&key, &known));
        let better =
            |(other, name): &(f64, String)| score.total_cmp(other).then_with(|| name.cmp(&known)).is_gt();
        if best.as_ref().is_none_or(better) {
            best = Some((score, known));
        }
    }
    best.map(|(_, known)| known)
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or_default()
}

impl Node {
    fn of(schema: &Value) -> Self {
        let object = |word: &str| schema.get(word).and_then(Value::as_object);
        let below = |schema: &Value| Box::new(Self::of(schema));
        if let Some(properties) = object("properties") {
            Self::Table(
                properties
                    .iter()
                    .map(|(key, schema)| (key.clone(), Self::of(schema)))
                    .collect(),
            )
        } else if let Some(names) = object("patternProperties").and_then(|names| names.values().next()) {
            Self::Named(below(names))
        } else if let Some(free) = schema.get("additionalProperties").filter(|free| free.is_object()) {
            Self::Free(below(free))
        } else {
            Self::Leaf {
                secret: schema.get("writeOnly").and_then(Value::as_bool).unwrap_or(false),
            }
        }
    }

    /// What stands below a part of a key.
    pub(super) fn below(&self, part: &str) -> Option<&Self> {
        match self {
            Self::Table(known) => known.get(part),
            Self::Named(below) | Self::Free(below) => Some(below),
            Self::Leaf { .. } => None,
        }
    }

    fn collect(&self, key: &Key, leaves: &mut Vec<Key>) {
        match self {
            Self::Table(known) => {
                for (part, node) in known {
                    node.collect(&key.join(part.as_str()), leaves);
                }
            }
            Self::Named(below) | Self::Free(below) => below.collect(&key.join(ANY), leaves),
            Self::Leaf { .. } => leaves.push(key.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_among_keys_of_any_length() {
        let known = || {
            ["listen.max_body", "listen.max_connections", "log"]
                .map(str::to_owned)
                .into_iter()
        };
        assert_eq!(
            nearest("lstn.max_bdy", known()).as_deref(),
            Some("listen.max_body")
        );
        assert_eq!(nearest("lug", known()).as_deref(), Some("log"));
        assert_eq!(
            nearest("upstream.max_body", known()).as_deref(),
            Some("listen.max_body")
        );
        let endless = format!("listen.max_connections{}", "ö".repeat(1 << 20));
        assert_eq!(
            nearest(&endless, known()).as_deref(),
            Some("listen.max_connections")
        );
    }

    #[test]
    fn of_keys_as_near_as_each_other_the_first_by_name_is_named() {
        let known = ["b.port", "a.port"].map(str::to_owned);
        assert_eq!(nearest("c.port", known.into_iter()).as_deref(), Some("a.port"));
    }
}
