//! What is asked: GraphQL requests, judged before they leave.
//!
//! [`Judge::judge`] reads a request and says why it may not pass, or what is sent:
//! 1. **What is judged is what is sent.** What one server could read otherwise than another is refused: a second
//!    member of one name or one that differs in case only, text that is not UTF-8, a content encoding, another
//!    content type, parameters on a POST, a body on a GET, two operations or fragments of one name.
//! 2. A document is read by `apollo_parser` (`document`), under its limits of tokens and of nesting. What it cannot
//!    read, what is more than operations and fragments, and fragments that are missing or go in circles are refused.
//! 3. A fragment counts where it is spread, as if its fields stood there: for the depth, aliases, root fields, and
//!    for what a mutation asks for. Unused ones must be readable, and nothing more.
//! 4. Of several operations the one that `operationName` tells is judged; where it tells none, all of them.
//! 5. Of a batch each request must pass, and the tokens of all together are limited.
//! 6. A request with a hash and no document is sent with the document that the manifest has for it (`manifest`), and
//!    that one is judged.
//! 7. Verdicts are kept by document, whole and not by a digest, in bounded memory.
//!
//! [`Judge::overhear`] learns what is asked for without refusing anything, for who tells of it afterwards: it may have
//! the beginning of a body only, and tells nothing where the document or the meant operation does not stand there.
//!
//! What weakens it: the schema is not known here. A name that the rules allow may do more than its name says.

mod document;
mod envelope;
mod manifest;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderMap, Method, header};
use moka::sync::Cache;

use self::document::Document;
use self::envelope::{Ask, Envelope};
pub use self::manifest::{Manifest, ManifestError};

/// Bytes of documents whose verdicts are kept.
const SEEN: u64 = 16 * 1024 * 1024;
/// What a verdict takes beside its document.
const VERDICT: usize = 256;
/// Tokens of a document that is read without rules, to learn of its operations.
const TOKENS: usize = 15_000;

/// What may be asked.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which mutations.
    pub mutations: Mutations,
    /// Whether `__schema` and `__type`.
    pub introspection: Permission,
    /// Nested selection sets of an operation, its own being 1; `None` without a limit.
    pub max_depth: Option<usize>,
    /// Aliases of an operation; `None` without a limit.
    pub max_aliases: Option<usize>,
    /// Fields of an operation's own selection set; `None` without a limit.
    pub max_root_fields: Option<usize>,
    /// Tokens of a document, white space, commas and comments included.
    pub max_tokens: usize,
    /// What cannot be judged: other paths than GraphQL's.
    pub rest: Permission,
    /// Documents that are known by a hash.
    pub documents: Option<Arc<Manifest>>,
    /// Which documents.
    pub trusted: Trusted,
}

/// Whether something may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// Which mutations may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutations {
    /// All.
    Allow,
    /// None.
    Deny,
    /// Those of these fields alone, whatever their alias; `__typename` is always among them.
    Only(Vec<String>),
}

/// Which documents may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// Any.
    Any,
    /// Those of the manifest, letter for letter.
    Only,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It reads.
    Query,
    /// It changes.
    Mutation,
    /// It listens.
    Subscription,
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It cannot be judged.
    #[error("the request cannot be judged: {0}")]
    Unreadable(Unreadable),
    /// A rule denies what it asks for.
    #[error("a rule denies what is asked for: {0}")]
    Denied(Denied),
    /// It asks for too much.
    #[error("a limit is exceeded: {0}")]
    Exceeded(Limit),
    /// Its document is not known.
    #[error("the document is not known: {0}")]
    Unknown(Unknown),
}

/// What cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unreadable {
    /// The body is compressed.
    #[error("it has a content encoding")]
    Encoding,
    /// The body is of another type than `application/json` in UTF-8.
    #[error("its content type is not application/json in UTF-8")]
    ContentType,
    /// A POST with a query string.
    #[error("it is a POST with query parameters")]
    Parameters,
    /// A GET with a body.
    #[error("it is a GET with a body")]
    Body,
    /// The body or the query string is no request, or more than one.
    #[error("it is no GraphQL request, or one with two readings")]
    Envelope,
    /// The document is no GraphQL, or has two readings.
    #[error("its document is no GraphQL of operations and fragments, or has two readings")]
    Document,
    /// `operationName` tells of no operation.
    #[error("its operationName tells of no operation of the document")]
    OperationName,
}

/// What a rule denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// A mutation, or one of a field that is not listed.
    #[error("a mutation")]
    Mutation,
    /// Introspection.
    #[error("introspection")]
    Introspection,
    /// Another path than GraphQL's.
    #[error("what cannot be judged")]
    Rest,
}

/// A limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Limit {
    /// `graphql.max_tokens`.
    #[error("tokens")]
    Tokens,
    /// Of the parser itself, which goes no deeper.
    #[error("the nesting that is read at all")]
    Nesting,
    /// `graphql.max_depth`.
    #[error("the depth of an operation")]
    Depth,
    /// `graphql.max_aliases`.
    #[error("aliases")]
    Aliases,
    /// `graphql.max_root_fields`.
    #[error("root fields")]
    RootFields,
    /// Requests in one batch.
    #[error("requests of a batch")]
    Batch,
}

/// A document that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unknown {
    /// There is no document, or a hash that the manifest does not have.
    #[error("it is neither sent nor in the manifest")]
    Missing,
    /// It is not in the manifest.
    #[error("it is not in the manifest")]
    Untrusted,
}

/// A request that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What is sent in place of what came.
    pub instead: Option<Instead>,
    /// What it does, where it is a single operation.
    pub operation: Option<Operation>,
}

/// What requests are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To tell of what is asked for; nothing is held back or refused.
    Telling,
    /// To judge it by rules, before anything is sent.
    Ruling,
}

/// What is sent in place of what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// This body.
    Body(String),
    /// This query string.
    Query(String),
}

/// What an operation does, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// What it does.
    pub kind: Kind,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
}

/// A request to a path of GraphQL.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// GET or POST.
    pub method: &'a Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its query string.
    pub query: Option<&'a str>,
    /// Its whole body.
    pub body: &'a [u8],
}

/// Judges requests by rules.
#[derive(Clone, Debug)]
pub struct Judge {
    rules: Rules,
    seen: Cache<Arc<str>, Arc<Result<Document, Refusal>>>,
}

impl Judge {
    /// Judges by `rules`.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let weight = |text: &Arc<str>, _: &Arc<_>| u32::try_from(text.len() + VERDICT).unwrap_or(u32::MAX);
        let seen = Cache::builder().max_capacity(SEEN).weigher(weight).build();
        Self { rules, seen }
    }

    /// Judges a request to a path that is not GraphQL's.
    ///
    /// # Errors
    /// Where `graphql.rest` denies them.
    pub fn judge_rest(&self) -> Result<(), Refusal> {
        match self.rules.rest {
            Permission::Allow => Ok(()),
            Permission::Deny => Err(Refusal::Denied(Denied::Rest)),
        }
    }

    /// Judges a request to a path of GraphQL.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn judge(&self, question: Question<'_>) -> Result<Judged, Refusal> {
        let mut envelope = Envelope::read(question)?;
        let mut tokens = 0;
        let mut operation = None;
        for ask in envelope.asks_mut() {
            self.supply(ask)?;
            let verdict = self.verdict(ask.document()?)?;
            let document = verdict.as_ref().as_ref().map_err(|refusal| *refusal)?;
            tokens += document.tokens;
            if tokens > self.rules.max_tokens {
                return Err(Refusal::Exceeded(Limit::Tokens));
            }
            operation = document.judge(ask.operation_name())?.cloned();
        }
        Ok(Judged {
            operation: operation.filter(|_| envelope.is_single()),
            instead: envelope.instead(),
        })
    }

    /// What is asked for by a body of JSON, of which this is the beginning or all.
    #[must_use]
    pub fn overhear(&self, body: &[u8]) -> Option<Operation> {
        // A character may be cut.
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(body.get(..error.valid_up_to())?).ok()?,
        };
        self.told(&Ask::overheard(text)?)
    }

    /// What is asked for by a query string.
    #[must_use]
    pub fn overhear_query(&self, query: &str) -> Option<Operation> {
        self.told(&Ask::of_query(query).ok()?)
    }

    fn told(&self, ask: &Ask<'_>) -> Option<Operation> {
        let verdict = self.verdict(ask.document().ok()?).ok()?;
        let document = verdict.as_ref().as_ref().ok()?;
        document.judge(ask.operation_name()).ok()?.cloned()
    }

    /// Rule 6.
    fn supply(&self, ask: &mut Ask<'_>) -> Result<(), Refusal> {
        if let Some(hash) = ask.hash()? {
            let documents = self.rules.documents.as_deref();
            let text = documents.and_then(|documents| documents.document(&hash));
            ask.supply(text.ok_or(Refusal::Unknown(Unknown::Missing))?);
        }
        Ok(())
    }

    /// Rule 7.
    fn verdict(&self, text: &str) -> Result<Arc<Result<Document, Refusal>>, Refusal> {
        if self.rules.trusted == Trusted::Only {
            let documents = self.rules.documents.as_deref();
            if !documents.is_some_and(|documents| documents.contains(text)) {
                return Err(Refusal::Unknown(Unknown::Untrusted));
            }
        }
        if let Some(verdict) = self.seen.get(text) {
            return Ok(verdict);
        }
        let verdict = Arc::new(Document::of(text, &self.rules));
        self.seen.insert(Arc::from(text), Arc::clone(&verdict));
        Ok(verdict)
    }
}

/// Whether a request to a path of GraphQL can be read, and asks for nothing but queries.
#[must_use]
pub fn holds_only_queries(question: Question<'_>) -> bool {
    let only_queries = |ask: &Ask<'_>| {
        let text = ask.document().ok();
        text.is_some_and(|text| document::is_of_queries(text, TOKENS))
    };
    Envelope::read(question).is_ok_and(|envelope| envelope.asks().iter().all(only_queries))
}

impl Kind {
    /// Its keyword.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        }
    }
}

/// Whether the headers tell of a body of JSON that can be read.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    readable(headers).is_ok()
}

/// Whether the headers tell of a body that can be read: rule 1.
fn readable(headers: &HeaderMap) -> Result<(), Unreadable> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Unreadable::Encoding);
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let sole = types.next().filter(|_| types.next().is_none());
    let text = sole
        .and_then(|value| value.to_str().ok())
        .ok_or(Unreadable::ContentType)?;
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    // The one parameter that changes how the bytes are read.
    let is_utf8 = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    };
    let is_json = essence.eq_ignore_ascii_case("application/json")
        && parts.all(|parameter| parameter.is_empty() || is_utf8(parameter));
    is_json.then_some(()).ok_or(Unreadable::ContentType)
}
