//! Kinds of `[graphql]`.

use serde_json::{Value, json};

use super::{Kind, Words, text_of};
use crate::graphql::{Mutations, Permission};
use crate::settings::given::Given;
use crate::settings::problem::Wrong;

impl Words for Permission {
    const WORDS: &'static [(&'static str, Self)] = &[("allow", Self::Allow), ("deny", Self::Deny)];
}

/// `allow`, `deny`, or fields of mutations.
pub(in crate::settings) enum MutationRule {}

impl Kind for MutationRule {
    type Settled = Mutations;

    fn read(given: &Given) -> Result<Mutations, Wrong> {
        let items = given.items();
        let names = items.iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
        let form = |wrong: Wrong| {
            wrong.instead("write \"allow\", \"deny\", or a list of fields, such as [\"createOrder\"]")
        };
        match names.as_slice() {
            [] => Err(form(Wrong::is("names no field"))),
            ["allow"] => Ok(Mutations::Allow),
            ["deny"] => Ok(Mutations::Deny),
            names => match names.iter().find(|name| !is_field(name)) {
                Some(name) => Err(form(Wrong::is(format!("{name:?} is no field of a mutation")))),
                None => Ok(Mutations::Only(
                    names.iter().map(|name| (*name).to_owned()).collect(),
                )),
            },
        }
    }

    fn show(settled: &Mutations) -> String {
        match settled {
            Mutations::Allow => "allow".to_owned(),
            Mutations::Deny => "deny".to_owned(),
            Mutations::Only(fields) => fields.join(", "),
        }
    }

    fn schema() -> Value {
        let name = json!({ "type": "string", "pattern": "^[A-Za-z][_0-9A-Za-z]*$|^_[0-9A-Za-z]*$" });
        json!({ "anyOf": [name, { "type": "array", "items": name, "minItems": 1 }] })
    }
}

/// A name of GraphQL that is neither reserved nor one of our own words.
fn is_field(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty()
        && name.bytes().all(legal)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.starts_with("__")
        && !matches!(name, "allow" | "deny")
}
