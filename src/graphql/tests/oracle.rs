//! What `async-graphql-parser`, a parser of another house, says of the same documents.

use std::fmt::Write;

use async_graphql_parser::parse_query;
use async_graphql_parser::types::{ExecutableDocument, OperationType, Selection, SelectionSet};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A selection set to be written.
#[derive(Clone, Debug)]
struct Set(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Field {
        alias: Option<&'static str>,
        name: &'static str,
        arguments: &'static str,
        below: Option<Set>,
    },
    Inline(&'static str, Set),
    /// Of a fragment further down, so that none goes in circles.
    Spread(usize),
}

/// A document to be written.
#[derive(Clone, Debug)]
struct Written {
    operations: Vec<(&'static str, Set)>,
    fragments: Vec<Set>,
    gaps: Vec<&'static str>,
}

const NAMES: &[&str] = &[
    "me",
    "orders",
    "createOrder",
    "cancelOrder",
    "query",
    "mutation",
    "subscription",
    "fragment",
    "on",
    "type",
    "true",
    "null",
    "__typename",
    "__schema",
    "__type",
    "_",
    "a1",
];
const ARGUMENTS: &[&str] = &[
    "",
    "",
    "",
    r#"(a: "} mutation { b")"#,
    r#"(a: "\"} mutation { b # ")"#,
    r#"(a: """} mutation { "b" """, c: 1)"#,
    r#"(a: """ \""" } mutation { b""")"#,
    "(a: [1, {b: $c, d: [ENUM, null, -1.5e3]}])",
];
const GAPS: &[&str] = &[
    " ",
    "\n",
    "\r\n",
    "\t",
    ", ",
    " # } mutation { a \"\n",
    " #\"\"\"\r",
    " ,,\n",
];

fn set() -> impl Strategy<Value = Set> {
    let name = || select(NAMES);
    let arguments = select(ARGUMENTS);
    let leaf = prop_oneof![
        6 => (prop::option::weighted(0.3, name()), name(), arguments.clone())
            .prop_map(|(alias, name, arguments)| Part::Field { alias, name, arguments, below: None }),
        1 => (0_usize..5).prop_map(Part::Spread),
    ];
    let part = leaf.prop_recursive(4, 24, 4, move |part| {
        let below = || prop::collection::vec(part.clone(), 1..4).prop_map(Set);
        prop_oneof![
            2 => (prop::option::weighted(0.3, name()), name(), arguments.clone(), below())
                .prop_map(|(alias, name, arguments, below)| Part::Field { alias, name, arguments, below: Some(below) }),
            1 => (select(&["", "on A", "@include(if: $b)", "on mutation @skip(if: true)"][..]), below())
                .prop_map(|(condition, set)| Part::Inline(condition, set)),
        ]
    });
    prop::collection::vec(part, 1..4).prop_map(Set)
}

fn written() -> impl Strategy<Value = Written> {
    let head = || select(&["query", "mutation", "subscription"][..]);
    let named = prop::collection::vec((head(), set()), 1..4);
    let alone = (select(&["", "query", "mutation"][..]), set()).prop_map(|operation| vec![operation]);
    let operations = prop_oneof![
        named.prop_map(|operations| (true, operations)),
        alone.prop_map(|operations| (false, operations)),
    ];
    let fragments = prop::collection::vec(set(), 0..5);
    let gaps = prop::collection::vec(select(GAPS), 1..12);
    (operations, fragments, gaps).prop_map(|((named, operations), fragments, gaps)| {
        let name = |(index, (head, set)): (usize, (&'static str, Set))| {
            let heads = ["query", "mutation", "subscription"];
            let spelled = [
                ["query A0", "query A1($b: Boolean = true)", "query A2 @d"],
                ["mutation A0", "mutation A1", "mutation A2($c: [In!]! = [])"],
                ["subscription A0", "subscription A1", "subscription A2"],
            ];
            let row = heads.iter().position(|known| *known == head).unwrap_or_default();
            (if named { spelled[row][index] } else { head }, set)
        };
        Written {
            operations: operations.into_iter().enumerate().map(name).collect(),
            fragments,
            gaps,
        }
    })
}

impl Written {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut gaps = self.gaps.iter().cycle();
        for (head, set) in &self.operations {
            text += head;
            self.write(set, 0, &mut text, &mut gaps);
        }
        for (index, set) in self.fragments.iter().enumerate() {
            write!(text, "fragment F{index} on A").unwrap();
            self.write(set, index + 1, &mut text, &mut gaps);
        }
        text
    }

    /// Writes a selection set that may spread the fragments from `first` on.
    fn write(
        &self,
        set: &Set,
        first: usize,
        text: &mut String,
        gaps: &mut std::iter::Cycle<std::slice::Iter<'_, &'static str>>,
    ) {
        *text += gaps.next().unwrap();
        text.push('{');
        *text += gaps.next().unwrap();
        for part in &set.0 {
            match part {
                Part::Field {
                    alias,
                    name,
                    arguments,
                    below,
                } => {
                    if let Some(alias) = alias {
                        write!(text, "{alias}: ").unwrap();
                    }
                    *text += name;
                    *text += arguments;
                    if let Some(below) = below {
                        self.write(below, first, text, gaps);
                    }
                }
                Part::Inline(condition, below) => {
                    // apollo_parser takes no comma here, so that such documents are refused.
                    let mut set = String::new();
                    self.write(below, first, &mut set, gaps);
                    let set = set.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
                    write!(text, "... {condition} {set}").unwrap();
                }
                Part::Spread(index) if first + index < self.fragments.len() => {
                    write!(text, "...F{}", first + index).unwrap();
                }
                Part::Spread(_) => *text += "me",
            }
            *text += gaps.next().unwrap();
            text.push(' ');
        }
        text.push('}');
        *text += gaps.next().unwrap();
    }
}

/// What an operation comes to with its fragments written out.
#[derive(Default)]
struct Counted {
    depth: usize,
    aliases: usize,
    roots: Vec<String>,
    introspects: bool,
}

impl Counted {
    fn of(document: &ExecutableDocument, set: &SelectionSet) -> Self {
        let mut counted = Self::default();
        counted.count(document, set, 1);
        counted
    }

    fn count(&mut self, document: &ExecutableDocument, set: &SelectionSet, depth: usize) {
        self.depth = self.depth.max(depth);
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    self.aliases += usize::from(field.node.alias.is_some());
                    self.introspects |= name.starts_with("__") && name != "__typename";
                    if depth == 1 {
                        self.roots.push(name.to_owned());
                    }
                    let below = &field.node.selection_set.node;
                    if !below.items.is_empty() {
                        self.count(document, below, depth + 1);
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.count(document, &fragment.node.selection_set.node, depth);
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = &document.fragments[&spread.node.fragment_name.node];
                    self.count(document, &fragment.node.selection_set.node, depth);
                }
            }
        }
    }
}

fn kind(of: OperationType) -> Kind {
    match of {
        OperationType::Query => Kind::Query,
        OperationType::Mutation => Kind::Mutation,
        OperationType::Subscription => Kind::Subscription,
    }
}

/// What a request for one operation of a text comes to.
fn ask(rules: &Rules, text: &str, name: Option<&str>) -> Result<Option<Operation>, Refusal> {
    let document = Document::of(text, rules)?;
    document.judge(name).map(Option::<&Operation>::cloned)
}

fn assert_agrees(text: &str, document: &ExecutableDocument) {
    for (name, operation) in document.operations.iter() {
        let name = name.map(AsRef::<str>::as_ref);
        let judged = ask(&rules(), text, name).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
        let told = judged.unwrap();
        assert_eq!(told.kind, kind(operation.node.ty), "{text}");
        assert_eq!(told.name.as_deref(), name, "{text}");

        let counted = Counted::of(document, &operation.node.selection_set.node);
        let limited = |set: fn(&mut Rules, usize), value: usize, limit| {
            let with = |value| {
                let mut rules = rules();
                set(&mut rules, value);
                ask(&rules, text, name).map(drop)
            };
            assert_eq!(with(value), Ok(()), "{limit:?} of {text}");
            if value > 0 {
                assert_eq!(with(value - 1), Err(Refusal::Exceeded(limit)), "{text}");
            }
        };
        limited(
            |rules, value| rules.max_depth = Some(value),
            counted.depth,
            Limit::Depth,
        );
        limited(
            |rules, value| rules.max_aliases = Some(value),
            counted.aliases,
            Limit::Aliases,
        );
        limited(
            |rules, value| rules.max_root_fields = Some(value),
            counted.roots.len(),
            Limit::RootFields,
        );

        let closed = Rules {
            introspection: Permission::Deny,
            ..rules()
        };
        assert_eq!(ask(&closed, text, name).is_err(), counted.introspects, "{text}");
        assert_eq!(
            ask(&read_only(), text, name).is_err(),
            told.kind == Kind::Mutation,
            "{text}"
        );
        let only = Rules {
            mutations: Mutations::Only(vec!["createOrder".to_owned(), "me".to_owned()]),
            ..rules()
        };
        let listed = |root: &String| matches!(root.as_str(), "createOrder" | "me" | "__typename");
        let denied = told.kind == Kind::Mutation && !counted.roots.iter().all(listed);
        assert_eq!(ask(&only, text, name).is_err(), denied, "{text}");
    }
    let mut kinds = document.operations.iter().map(|(_, operation)| operation.node.ty);
    assert_eq!(
        document::is_of_queries(text, 15_000),
        kinds.all(|of| of == OperationType::Query),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_parsers_agree_on_documents(written in written()) {
        let text = written.text();
        let document = parse_query(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_agrees(&text, &document);
    }

    #[test]
    fn where_both_parsers_read_a_damaged_document_they_agree(
        written in written(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), select(&["", "\"", "#", "{", "}", "\\", "\n", "\r", "...", ":", "mutation", "\"\"\"", "(", ")", "@", "$", "é", "\u{feff}"][..])), 1..4),
    ) {
        let mut text = written.text();
        for (at, piece) in damage {
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let end = text[at..].chars().next().map_or(at, |first| at + first.len_utf8());
            text.replace_range(at..end, piece);
        }
        let ours = Document::of(&text, &rules());
        if let (Ok(_), Ok(document)) = (ours, parse_query(&text)) {
            assert_agrees(&text, &document);
        }
    }

    #[test]
    fn nothing_that_comes_makes_the_judge_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,200}") {
        let _ = post(rules(), body);
        let _ = get(rules(), &text);
        let _ = post(rules(), json!({ "query": text }).to_string());
        let _ = Manifest::read(&text);
    }
}
