//! Settings in TOML, each with its line and column.
//!
//! 1. Every mistake of the file is found, those of TOML itself among them, where it stands.
//! 2. An unknown table is one problem, not one for each key in it.
//! 3. No sentence quotes the file: an unknown key may be a misspelled password's.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::Gathered;
use crate::files;
use crate::settings::given::Given;
use crate::settings::key::{Catalogue, Key, Node, name_of};
use crate::settings::problem::{Problem, Source, Wrong};

/// More than any settings file has.
const LONGEST: usize = 4 * 1024 * 1024;

/// Says where a part of the text stands.
type Locate<'a> = &'a dyn Fn(Range<usize>) -> Source;

/// Reads the settings file.
pub(super) fn read(gathered: &mut Gathered, catalogue: &Catalogue, path: &Path) {
    let unreadable = |wrong: String| {
        Problem::of_source(
            None,
            Wrong::is(format!("the settings file {} {wrong}", path.display())),
        )
    };
    let text = match files::read(path, LONGEST).map(Zeroizing::new) {
        Ok(bytes) => bytes,
        Err(error) => {
            gathered.incomplete = true;
            gathered
                .problems
                .push(unreadable(format!("cannot be read: {error}")));
            return;
        }
    };
    let Ok(text) = std::str::from_utf8(&text) else {
        gathered.incomplete = true;
        gathered.problems.push(unreadable("is not UTF-8".to_owned()));
        return;
    };
    read_text(gathered, catalogue, text, &|span| locate(path, text, span));
}

/// Reads settings from the text of a file.
pub(super) fn read_text(gathered: &mut Gathered, catalogue: &Catalogue, text: &str, locate: Locate<'_>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        gathered,
        catalogue,
        locate,
        errors: errors
            .iter()
            .map(|error| (error.span().unwrap_or_default(), short(error.message())))
            .collect(),
    };
    reader.table(catalogue.root(), &Key::default(), document.get_ref());
    reader.rest();
}

/// What is wrong without the list of all that could stand there instead.
fn short(message: &str) -> String {
    message.split(", expected").next().unwrap_or_default().to_owned()
}

fn locate(path: &Path, text: &str, span: Range<usize>) -> Source {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Source::File {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
        span,
    }
}

struct Reader<'a> {
    gathered: &'a mut Gathered,
    catalogue: &'a Catalogue,
    locate: Locate<'a>,
    /// What is wrong with the TOML, not yet told.
    errors: Vec<(Range<usize>, String)>,
}

impl Reader<'_> {
    fn table(&mut self, node: &Node, key: &Key, table: &DeTable<'_>) {
        for (part, value) in table {
            let key = key.join(part.get_ref().as_ref());
            let source = (self.locate)(part.span());
            let Some(below) = node.below(part.get_ref()) else {
                let problem = Problem::new(&key, Some(source), Wrong::is("is unknown"));
                self.gathered
                    .problems
                    .push(problem.nearest(self.catalogue.nearest(&key)));
                continue;
            };
            if matches!(node, Node::Named(_)) {
                if let Err(wrong) = name_of(part.get_ref()) {
                    self.gathered
                        .problems
                        .push(Problem::new(&key, Some(source), wrong));
                    continue;
                }
                if matches!(value.get_ref(), DeValue::Table(_)) {
                    self.gathered
                        .named
                        .entry(key.clone())
                        .or_insert_with(|| source.clone());
                }
            }
            self.value(below, key, value, source);
        }
    }

    fn value(&mut self, node: &Node, key: Key, value: &Spanned<DeValue<'_>>, source: Source) {
        match (node, value.get_ref()) {
            (Node::Table(_) | Node::Named(_) | Node::Free(_), DeValue::Table(table)) => {
                self.table(node, &key, table);
            }
            (Node::Table(_) | Node::Named(_) | Node::Free(_), _) => {
                let wrong =
                    Wrong::is("is a table, not a value").instead(format!("write [{key}] and its keys below"));
                self.gathered
                    .problems
                    .push(Problem::new(&key, Some(source), wrong));
            }
            (Node::Leaf { .. }, DeValue::Table(_)) => {
                let wrong = Wrong::is("is a value, not a table");
                self.gathered
                    .problems
                    .push(Problem::new(&key, Some(source), wrong));
            }
            (Node::Leaf { .. }, given) => {
                let source = (self.locate)(value.span());
                if !self.misread(&key, &value.span()) {
                    let given = Given::of_toml(given);
                    self.gathered.give(self.catalogue, key, given, source);
                }
            }
        }
    }

    /// Whether the TOML of a value is wrong, which is told as a problem of its key.
    fn misread(&mut self, key: &Key, value: &Range<usize>) -> bool {
        let touches = |(span, _): &(Range<usize>, String)| span.start <= value.end && value.start <= span.end;
        let Some(index) = self.errors.iter().position(touches) else {
            return false;
        };
        let (span, message) = self.errors.swap_remove(index);
        self.errors.retain(|error| !touches(error));
        let wrong = Wrong::is(format!("is not written as TOML has it: {message}"))
            .instead("put text in quotes, so that it stays as it is");
        self.gathered.incomplete = true;
        self.gathered
            .problems
            .push(Problem::new(key, Some((self.locate)(span)), wrong));
        true
    }

    /// Tells what is wrong with the TOML beside the values of known keys: the first of each line.
    fn rest(&mut self) {
        let mut told = Vec::new();
        self.errors.sort_by_key(|(span, _)| span.start);
        for (span, message) in std::mem::take(&mut self.errors) {
            let source = (self.locate)(span);
            let line = if let Source::File { line, .. } = &source {
                *line
            } else {
                0
            };
            if !told.contains(&line) {
                told.push(line);
                let wrong = Wrong::is(format!("is not TOML: {message}"));
                self.gathered
                    .problems
                    .push(Problem::of_source(Some(source), wrong));
            }
            self.gathered.incomplete = true;
        }
    }
}
