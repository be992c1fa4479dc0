//! What a document is sent in: the JSON of a POST, the query string of a GET.
//!
//! 1. A name that counts stands there once, in the one spelling; others are not looked at, and sent on.
//! 2. Nothing is read twice: strings without escapes are borrowed from the body.
//! 3. Members of an object and requests of a batch are limited, so that what is held stays near the body's length.

use std::borrow::Cow;
use std::fmt;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Instead, Limit, Question, Refusal, Unknown, Unreadable, readable};

/// Members of an object that are read; of a request's, four have a meaning.
const MEMBERS: usize = 64;
/// Requests of a batch.
const BATCH: usize = 100;

/// All that is asked in one request.
pub(super) struct Envelope<'a> {
    asks: Vec<Ask<'a>>,
    shape: Shape<'a>,
}

/// How it was sent.
enum Shape<'a> {
    Single,
    Batch,
    Query(&'a str),
}

/// One request of an envelope.
pub(super) struct Ask<'a> {
    query: Option<Cow<'a, str>>,
    operation_name: Option<Cow<'a, str>>,
    extensions: Option<Cow<'a, str>>,
    /// All of them as they came, to be sent with a document.
    members: Vec<(Cow<'a, str>, &'a str)>,
    supplied: bool,
}

impl<'a> Envelope<'a> {
    pub(super) fn read(question: Question<'a>) -> Result<Self, Refusal> {
        let query = question.query.filter(|query| !query.is_empty());
        if *question.method == Method::GET {
            if !question.body.is_empty() {
                return Err(Refusal::Unreadable(Unreadable::Body));
            }
            let query = query.unwrap_or_default();
            return Ok(Self {
                asks: vec![Ask::of_query(query)?],
                shape: Shape::Query(query),
            });
        }
        if query.is_some() {
            return Err(Refusal::Unreadable(Unreadable::Parameters));
        }
        readable(question.headers).map_err(Refusal::Unreadable)?;
        let text = std::str::from_utf8(question.body).map_err(|_| ENVELOPE)?;
        if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[') {
            return Ok(Self {
                asks: vec![Ask::of_json(text)?],
                shape: Shape::Single,
            });
        }
        let Items(items, Rest(rest)) = serde_json::from_str(text).map_err(|_| ENVELOPE)?;
        if rest {
            return Err(Refusal::Exceeded(Limit::Batch));
        }
        let asks = items.into_iter().map(|item| Ask::of_json(item.get()));
        let asks = asks.collect::<Result<Vec<_>, _>>()?;
        if asks.is_empty() {
            return Err(ENVELOPE);
        }
        Ok(Self {
            asks,
            shape: Shape::Batch,
        })
    }

    pub(super) fn asks(&self) -> &[Ask<'a>] {
        &self.asks
    }

    pub(super) fn asks_mut(&mut self) -> &mut [Ask<'a>] {
        &mut self.asks
    }

    /// Whether it is one request, and no batch of one.
    pub(super) fn is_single(&self) -> bool {
        match self.shape {
            Shape::Single | Shape::Query(_) => true,
            Shape::Batch => false,
        }
    }

    /// What is sent in its place, where a document was supplied.
    pub(super) fn instead(&self) -> Option<Instead> {
        if !self.asks.iter().any(|ask| ask.supplied) {
            return None;
        }
        let bodies = || self.asks.iter().map(Ask::to_json).collect::<Vec<_>>().join(",");
        Some(match self.shape {
            Shape::Single => Instead::Body(bodies()),
            Shape::Batch => Instead::Body(format!("[{}]", bodies())),
            Shape::Query(query) => {
                let text = self
                    .asks
                    .iter()
                    .find_map(|ask| ask.query.as_deref())
                    .unwrap_or_default();
                let text = utf8_percent_encode(text, NON_ALPHANUMERIC);
                Instead::Query(format!("{query}&query={text}"))
            }
        })
    }
}

const ENVELOPE: Refusal = Refusal::Unreadable(Unreadable::Envelope);

impl<'a> Ask<'a> {
    fn of_json(text: &'a str) -> Result<Self, Refusal> {
        Self::of_members(members(text, MEMBERS)?)
    }

    fn of_members(members: Vec<(Cow<'a, str>, &'a str)>) -> Result<Self, Refusal> {
        Ok(Self {
            query: sole(&members, "query")?
                .map(|raw| string(raw))
                .transpose()?
                .flatten(),
            operation_name: sole(&members, "operationName")?
                .map(|raw| string(raw))
                .transpose()?
                .flatten(),
            extensions: sole(&members, "extensions")?.map(|raw| Cow::Borrowed(*raw)),
            members,
            supplied: false,
        })
    }

    /// What the beginning of a body tells: of the members that stand there whole.
    pub(super) fn overheard(text: &'a str) -> Option<Self> {
        let mut members = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text);
        // What is cut off ends in an error, and so does what is no JSON: what was read before counts.
        let _ = Members(MEMBERS, &mut members).deserialize(&mut reader);
        Self::of_members(members).ok()
    }

    pub(super) fn of_query(query: &'a str) -> Result<Self, Refusal> {
        // Some servers part parameters by it.
        if query.contains(';') || query.split('&').count() > MEMBERS {
            return Err(ENVELOPE);
        }
        let pair = |pair: &'a str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        };
        let pairs = query
            .split('&')
            .map(pair)
            .collect::<Option<Vec<_>>>()
            .ok_or(ENVELOPE)?;
        Ok(Self {
            query: sole(&pairs, "query")?.cloned(),
            operation_name: sole(&pairs, "operationName")?.cloned(),
            extensions: sole(&pairs, "extensions")?.cloned(),
            members: Vec::new(),
            supplied: false,
        })
    }

    pub(super) fn document(&self) -> Result<&str, Refusal> {
        self.query.as_deref().ok_or(Refusal::Unknown(Unknown::Missing))
    }

    /// The operation that is meant. An empty name is none, as graphql-java has it; others find none of that name.
    pub(super) fn operation_name(&self) -> Option<&str> {
        self.operation_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The hash that stands in place of a document.
    pub(super) fn hash(&self) -> Result<Option<Cow<'_, str>>, Refusal> {
        let (None, Some(extensions)) = (&self.query, &self.extensions) else {
            return Ok(None);
        };
        let extensions = members(extensions, MEMBERS)?;
        let Some(persisted) = sole(&extensions, "persistedQuery")? else {
            return Ok(None);
        };
        let persisted = members(persisted, MEMBERS)?;
        Ok(sole(&persisted, "sha256Hash")?
            .map(|raw| string(raw))
            .transpose()?
            .flatten())
    }

    /// Puts a document in the place of a hash.
    pub(super) fn supply(&mut self, text: &str) {
        self.query = Some(Cow::Owned(text.to_owned()));
        self.supplied = true;
    }

    /// The request as JSON, with its document.
    fn to_json(&self) -> String {
        let query = self
            .query
            .as_deref()
            .map(|text| ("query", serde_json::json!(text).to_string()));
        let others = self.members.iter().filter(|(name, _)| name != "query");
        let others = others.map(|(name, value)| (name.as_ref(), (*value).to_owned()));
        let members = query.into_iter().chain(others);
        let members = members.map(|(name, value)| format!("{}:{value}", serde_json::json!(name)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

/// The value of a name that counts, where it stands there once and in no other case.
fn sole<'m, V>(members: &'m [(Cow<'_, str>, V)], name: &str) -> Result<Option<&'m V>, Refusal> {
    let mut found = members
        .iter()
        .filter(|(member, _)| member.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some((member, value)), None) if member == name => Ok(Some(value)),
        (Some(_), _) => Err(ENVELOPE),
    }
}

/// A JSON string, or `null`.
fn string(raw: &str) -> Result<Option<Cow<'_, str>>, Refusal> {
    let text: Option<Text<'_>> = serde_json::from_str(raw).map_err(|_| ENVELOPE)?;
    Ok(text.map(|text| text.0))
}

/// A name or value of a query string; `None` where servers would differ over it.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let mut escapes = text.split('%').skip(1);
    let hex = |escape: &str| escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !escapes.all(hex) {
        return None;
    }
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
        return Some(Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(text).decode_utf8().ok()
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of a JSON object, in their order, the values as they stand.
pub(super) fn members(text: &str, most: usize) -> Result<Vec<(Cow<'_, str>, &str)>, Refusal> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let mut members = Vec::new();
    let read = Members(most, &mut members).deserialize(&mut reader);
    let read = read.and_then(|()| reader.end());
    read.map(|()| members).map_err(|_| ENVELOPE)
}

/// So many members at most, and where they are put.
struct Members<'de, 'm>(usize, &'m mut Vec<(Cow<'de, str>, &'de str)>);

impl<'de> DeserializeSeed<'de> for Members<'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(most, members) = self;
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            if members.len() == most {
                return Err(A::Error::custom("too many members"));
            }
            members.push((name.0, value.get()));
        }
        Ok(())
    }
}

/// The first items of an array, and whether there are more.
struct Items<'a>(Vec<&'a RawValue>, Rest);

struct Rest(bool);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
                let mut items = Vec::new();
                while items.len() < BATCH {
                    match seq.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Items(items, Rest(false))),
                    }
                }
                let mut rest = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    rest = true;
                }
                Ok(Items(items, Rest(rest)))
            }
        }

        deserializer.deserialize_seq(Reader)
    }
}
