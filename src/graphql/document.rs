//! A document: which operations it holds, and what each of them comes to.
//!
//! 1. The text is parsed once and walked once; what fragments add is summed up afterwards, each of them once. So the
//!    cost grows with the length of the text, however its fragments are nested.
//! 2. Sums saturate: fragments that double each other are no overflow.
//! 3. The walk goes no deeper than the parser did.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use apollo_parser::cst::CstNode;
use apollo_parser::{Lexer, Parser, SyntaxKind, SyntaxNode, Token};

use super::{Denied, Kind, Limit, Mutations, Operation, Permission, Refusal, Rules, Unreadable};

/// How deep a document is read at all: the parser goes down the stack.
const NESTING: usize = 256;
/// The field that tells of a type's name: no introspection.
const TYPENAME: &str = "__typename";

const UNREADABLE: Refusal = Refusal::Unreadable(Unreadable::Document);

/// What a document comes to by rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Its tokens, white space, commas and comments included.
    pub(super) tokens: usize,
    operations: Vec<(Operation, Option<Refusal>)>,
}

/// A definition: an operation or a fragment.
struct Definition<'a> {
    /// Of an operation.
    kind: Option<Kind>,
    name: Option<&'a str>,
    sum: Sum,
    spreads: Vec<Spread<'a>>,
}

/// What is summed up over a definition and the fragments that it spreads.
#[derive(Clone, Copy, Default)]
struct Sum {
    /// Selection sets below the definition's own.
    depth: usize,
    aliases: usize,
    root_fields: usize,
    /// Whether a field begins with `__`.
    introspects: bool,
    /// Whether a root field is not listed.
    unlisted: bool,
}

/// A place where a fragment is spread.
struct Spread<'a> {
    name: &'a str,
    /// Selection sets around it below the definition's own.
    depth: usize,
}

impl Document {
    /// Reads a document.
    pub(super) fn of(text: &str, rules: &Rules) -> Result<Self, Refusal> {
        let (root, tokens) = parse(text, rules.max_tokens)?;
        let operations = operations(&root, text, &rules.mutations).ok_or(UNREADABLE)?;
        let operations = operations.into_iter().map(|(operation, sum)| {
            let refusal = refusal(operation.kind, &sum, rules);
            (operation, refusal)
        });
        Ok(Self {
            tokens,
            operations: operations.collect(),
        })
    }

    /// Judges the operation of this name, or all where there is none; gives the sole one.
    pub(super) fn judge(&self, name: Option<&str>) -> Result<Option<&Operation>, Refusal> {
        let Some(name) = name else {
            for (_, refusal) in &self.operations {
                refusal.map_or(Ok(()), Err)?;
            }
            return Ok(match self.operations.as_slice() {
                [(operation, _)] => Some(operation),
                _ => None,
            });
        };
        let named = |(operation, _): &&(Operation, _)| operation.name.as_deref() == Some(name);
        match self.operations.iter().find(named) {
            Some((_, Some(refusal))) => Err(*refusal),
            Some((operation, None)) => Ok(Some(operation)),
            None => Err(Refusal::Unreadable(Unreadable::OperationName)),
        }
    }
}

/// Whether a text is a document that could be judged, however long.
pub(super) fn is_readable(text: &str) -> bool {
    parse(text, usize::MAX).is_ok_and(|(root, _)| operations(&root, text, &Mutations::Allow).is_some())
}

/// Whether a text is a document, and all its operations are queries.
pub(super) fn is_of_queries(text: &str, max_tokens: usize) -> bool {
    let Ok((root, _)) = parse(text, max_tokens) else {
        return false;
    };
    let mut kinds = root
        .children()
        .filter(|node| node.kind() != SyntaxKind::FRAGMENT_DEFINITION);
    let query = |node: SyntaxNode| kind_of(&node) == Some(Kind::Query);
    kinds.next().is_some_and(query) && kinds.all(query)
}

/// The tree of a text without errors, and its tokens.
fn parse(text: &str, max_tokens: usize) -> Result<(SyntaxNode, usize), Refusal> {
    // Some servers (graphql-java) end a comment here, where the specification does not: what follows would be read
    // by them alone.
    if text.contains('#') && text.contains(['\u{2028}', '\u{2029}']) {
        return Err(UNREADABLE);
    }
    // The end counts as one.
    let limit = max_tokens.saturating_add(1);
    // The parser takes a line's end for the first character of a string, where there may be none.
    if text.contains("\"\n") || text.contains("\"\r") {
        let broken = |token: Token<'_>| token.data().starts_with("\"\n") || token.data().starts_with("\"\r");
        if Lexer::new(text).with_limit(limit).flatten().any(broken) {
            return Err(UNREADABLE);
        }
    }
    let tree = Parser::new(text)
        .recursion_limit(NESTING)
        .token_limit(limit)
        .parse();
    let tokens = tree.token_limit().high;
    if tokens > limit {
        return Err(Refusal::Exceeded(Limit::Tokens));
    }
    if tree.recursion_limit().high > NESTING {
        return Err(Refusal::Exceeded(Limit::Nesting));
    }
    if tree.errors().next().is_some() {
        return Err(UNREADABLE);
    }
    Ok((tree.document().syntax().clone(), tokens.saturating_sub(1)))
}

/// What each operation comes to; `None` where they cannot be judged.
fn operations(root: &SyntaxNode, text: &str, mutations: &Mutations) -> Option<Vec<(Operation, Sum)>> {
    let definitions = root.children().map(|node| Definition::of(&node, text, mutations));
    sum_up(definitions.collect::<Option<Vec<_>>>()?)
}

impl<'a> Definition<'a> {
    fn of(node: &SyntaxNode, text: &'a str, mutations: &Mutations) -> Option<Self> {
        let (kind, name) = if node.kind() == SyntaxKind::FRAGMENT_DEFINITION {
            let name = child(node, SyntaxKind::FRAGMENT_NAME)?;
            (None, Some(word(&name, text)?))
        } else {
            let name = child(node, SyntaxKind::NAME);
            let name = name.map(|name| word(&name, text).ok_or(())).transpose().ok()?;
            (Some(kind_of(node)?), name)
        };
        let mut definition = Self {
            kind,
            name,
            sum: Sum::default(),
            spreads: Vec::new(),
        };
        let selection = child(node, SyntaxKind::SELECTION_SET)?;
        definition.walk(&selection, 0, text, mutations)?;
        Some(definition)
    }

    fn walk(
        &mut self,
        selection: &SyntaxNode,
        depth: usize,
        text: &'a str,
        mutations: &Mutations,
    ) -> Option<()> {
        self.sum.depth = self.sum.depth.max(depth);
        for node in selection.children() {
            if node.kind() == SyntaxKind::FIELD {
                self.walk_field(&node, depth, text, mutations)?;
            } else if node.kind() == SyntaxKind::FRAGMENT_SPREAD {
                let name = child(&node, SyntaxKind::FRAGMENT_NAME)?;
                let name = word(&name, text)?;
                self.spreads.push(Spread { name, depth });
            } else if node.kind() == SyntaxKind::INLINE_FRAGMENT {
                self.walk(&child(&node, SyntaxKind::SELECTION_SET)?, depth, text, mutations)?;
            } else {
                return None;
            }
        }
        Some(())
    }

    fn walk_field(
        &mut self,
        field: &SyntaxNode,
        depth: usize,
        text: &'a str,
        mutations: &Mutations,
    ) -> Option<()> {
        let mut name = None;
        for part in field.children() {
            if part.kind() == SyntaxKind::NAME {
                name = word(&part, text);
            } else if part.kind() == SyntaxKind::ALIAS {
                self.sum.aliases += 1;
            } else if part.kind() == SyntaxKind::SELECTION_SET {
                self.walk(&part, depth + 1, text, mutations)?;
            }
        }
        let name = name?;
        self.sum.introspects |= name.starts_with("__") && name != TYPENAME;
        if depth == 0 {
            self.sum.root_fields += 1;
            self.sum.unlisted |= !is_listed(name, mutations);
        }
        Some(())
    }
}

impl Sum {
    /// Adds what a fragment comes to, spread at this depth.
    fn spread(&mut self, fragment: &Self, depth: usize) {
        self.depth = self.depth.max(fragment.depth.saturating_add(depth));
        self.aliases = self.aliases.saturating_add(fragment.aliases);
        self.introspects |= fragment.introspects;
        if depth == 0 {
            self.root_fields = self.root_fields.saturating_add(fragment.root_fields);
            self.unlisted |= fragment.unlisted;
        }
    }
}

/// What each operation comes to with its fragments. `None` where there is no operation, a name stands twice, or a
/// fragment is missing or goes in circles.
fn sum_up(definitions: Vec<Definition<'_>>) -> Option<Vec<(Operation, Sum)>> {
    let mut fragments = HashMap::new();
    let mut names = HashSet::new();
    for (index, definition) in definitions.iter().enumerate() {
        let is_new = match (definition.kind, definition.name) {
            (None, Some(name)) => fragments.insert(name, index).is_none(),
            (Some(_), Some(name)) => names.insert(name),
            (_, None) => true,
        };
        if !is_new {
            return None;
        }
    }
    let mut waiting: Vec<usize> = definitions.iter().map(|one| one.spreads.len()).collect();
    let mut spread_in = vec![Vec::new(); definitions.len()];
    for (index, definition) in definitions.iter().enumerate() {
        for spread in &definition.spreads {
            let fragment = *fragments.get(spread.name)?;
            spread_in.get_mut(fragment)?.push((index, spread.depth));
        }
    }
    let mut sums: Vec<Sum> = definitions.iter().map(|one| one.sum).collect();
    // A definition is whole once all the fragments that it spreads are; in a circle none ever is.
    let mut whole: Vec<usize> = (0..definitions.len())
        .filter(|index| waiting.get(*index) == Some(&0))
        .collect();
    let mut done = 0;
    while let Some(index) = whole.pop() {
        done += 1;
        let sum = *sums.get(index)?;
        for (by, depth) in std::mem::take(spread_in.get_mut(index)?) {
            sums.get_mut(by)?.spread(&sum, depth);
            let waits = waiting.get_mut(by)?;
            *waits -= 1;
            if *waits == 0 {
                whole.push(by);
            }
        }
    }
    if done < definitions.len() {
        return None;
    }
    let operation = |(definition, sum): (Definition<'_>, Sum)| {
        let name = definition.name.map(Arc::from);
        Some((
            Operation {
                kind: definition.kind?,
                name,
            },
            sum,
        ))
    };
    let operations: Vec<_> = definitions.into_iter().zip(sums).filter_map(operation).collect();
    (!operations.is_empty()).then_some(operations)
}

/// The first rule that an operation breaks.
fn refusal(kind: Kind, sum: &Sum, rules: &Rules) -> Option<Refusal> {
    let mutates = kind == Kind::Mutation;
    let over = |limit: Option<usize>, value: usize| limit.is_some_and(|limit| value > limit);
    let denied = match &rules.mutations {
        Mutations::Allow => false,
        Mutations::Deny => mutates,
        Mutations::Only(_) => mutates && sum.unlisted,
    };
    if denied {
        Some(Refusal::Denied(Denied::Mutation))
    } else if rules.introspection == Permission::Deny && sum.introspects {
        Some(Refusal::Denied(Denied::Introspection))
    } else if over(rules.max_depth, sum.depth.saturating_add(1)) {
        Some(Refusal::Exceeded(Limit::Depth))
    } else if over(rules.max_aliases, sum.aliases) {
        Some(Refusal::Exceeded(Limit::Aliases))
    } else if over(rules.max_root_fields, sum.root_fields) {
        Some(Refusal::Exceeded(Limit::RootFields))
    } else {
        None
    }
}

fn is_listed(field: &str, mutations: &Mutations) -> bool {
    match mutations {
        Mutations::Allow | Mutations::Deny => true,
        Mutations::Only(fields) => field == TYPENAME || fields.iter().any(|listed| listed == field),
    }
}

/// What an operation does; `None` for another definition.
fn kind_of(node: &SyntaxNode) -> Option<Kind> {
    if node.kind() != SyntaxKind::OPERATION_DEFINITION {
        return None;
    }
    let Some(keyword) = child(node, SyntaxKind::OPERATION_TYPE) else {
        return Some(Kind::Query);
    };
    let keyword = keyword.first_token()?.kind();
    let kinds = [
        (SyntaxKind::query_KW, Kind::Query),
        (SyntaxKind::mutation_KW, Kind::Mutation),
        (SyntaxKind::subscription_KW, Kind::Subscription),
    ];
    let found = kinds.into_iter().find(|(known, _)| *known == keyword);
    found.map(|(_, kind)| kind)
}

fn child(node: &SyntaxNode, kind: SyntaxKind) -> Option<SyntaxNode> {
    node.children().find(|child| child.kind() == kind)
}

/// The first word of a node: a name.
fn word<'a>(node: &SyntaxNode, text: &'a str) -> Option<&'a str> {
    let range = node.first_token()?.text_range();
    text.get(usize::from(range.start())..usize::from(range.end()))
}
