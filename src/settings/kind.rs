//! What a setting may be: each kind owns how it is read, shown and described.
//!
//! 1. A kind is a type without values; [`super::raw`] says which key is of which kind.
//! 2. Every kind refuses with one sentence of its own, and says what would be right.
//! 3. A value is named in a refusal only where the kind's form leaves no room for a secret by mistake: never
//!    free text, never a URL.
//!
//! Here are the kinds of any program; those that know our own words are in `domain`.

pub(super) mod collector;
pub(super) mod domain;
pub(super) mod graphql;
pub(super) mod secret;

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::given::Given;
use super::problem::Wrong;

/// A kind of setting.
pub(super) trait Kind {
    /// What a value settles to.
    type Settled;

    /// Reads a value.
    fn read(given: &Given) -> Result<Self::Settled, Wrong>;

    /// The settled value as text; for a secret only that it is set.
    fn show(settled: &Self::Settled) -> String;

    /// Its JSON Schema.
    fn schema() -> Value;
}

/// `true` or `false`, and no other word.
pub(super) enum Switch {}

impl Kind for Switch {
    type Settled = bool;

    fn read(given: &Given) -> Result<bool, Wrong> {
        match given {
            Given::Switch(switch) => Ok(*switch),
            Given::Plain(text) if text.as_str() == "true" => Ok(true),
            Given::Plain(text) if text.as_str() == "false" => Ok(false),
            Given::Plain(text) => Err(Wrong::is(format!("is {:?}, which is no switch", text.as_str()))),
            Given::Text(_) | Given::Integer(_) | Given::List(_) | Given::Other(..) => {
                Err(Wrong::is(format!("is {}, not a switch", given.kind())))
            }
        }
        .map_err(|wrong| wrong.instead("write true or false, without quotes"))
    }

    fn show(settled: &bool) -> String {
        settled.to_string()
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

/// A whole number within bounds.
pub(super) enum Count<const MIN: usize, const MAX: usize> {}

impl<const MIN: usize, const MAX: usize> Kind for Count<MIN, MAX> {
    type Settled = usize;

    fn read(given: &Given) -> Result<usize, Wrong> {
        let number = match given {
            Given::Integer(text) | Given::Plain(text) => whole(text),
            Given::Text(_) | Given::Switch(_) | Given::List(_) | Given::Other(..) => {
                return Err(
                    Wrong::is(format!("is {}, not a number", given.kind())).instead(format!(
                        "write a whole number from {MIN} to {MAX}, without quotes"
                    )),
                );
            }
        };
        number
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| (MIN..=MAX).contains(number))
            .ok_or_else(|| {
                Wrong::is(format!(
                    "is {:?}, which is no number within its bounds",
                    given.spelled()
                ))
                .instead(format!("write a whole number from {MIN} to {MAX}"))
            })
    }

    fn show(settled: &usize) -> String {
        settled.to_string()
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A length of time with its unit, within bounds in milliseconds.
pub(super) enum Time<const MIN: u64, const MAX: u64> {}

/// In milliseconds.
pub(super) const SECOND: u64 = 1_000;
/// In milliseconds.
pub(super) const DAY: u64 = 86_400 * SECOND;
/// A wait that has an end.
pub(super) type Timeout = Time<1, DAY>;

/// Units of time in milliseconds, the greatest first.
const TIMES: [(&str, u64); 4] = [
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1),
];

impl<const MIN: u64, const MAX: u64> Kind for Time<MIN, MAX> {
    type Settled = Duration;

    fn read(given: &Given) -> Result<Duration, Wrong> {
        let millis = measure(given, &TIMES).ok_or_else(|| {
            Wrong::is(format!("{:?} is no duration", given.spelled()))
                .instead("write a whole number and its unit in quotes: \"250ms\", \"30s\", \"16m\", \"1h\"")
        })?;
        if (MIN..=MAX).contains(&millis) {
            Ok(Duration::from_millis(millis))
        } else {
            Err(
                Wrong::is(format!("{:?} is out of bounds", given.spelled())).instead(format!(
                    "write a duration from \"{}\" to \"{}\"",
                    in_units(MIN, &TIMES),
                    in_units(MAX, &TIMES)
                )),
            )
        }
    }

    fn show(settled: &Duration) -> String {
        in_units(u64::try_from(settled.as_millis()).unwrap_or(u64::MAX), &TIMES)
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" })
    }
}

/// A number of bytes with its unit; 0 needs none.
pub(super) enum Size {}

/// The most that makes sense, so that sums of sizes cannot overflow.
const MAX_SIZE: u64 = 1 << 50;
/// Units of size in bytes, the greatest first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Kind for Size {
    type Settled = u64;

    fn read(given: &Given) -> Result<u64, Wrong> {
        let zero = matches!(given, Given::Integer(text) | Given::Plain(text) | Given::Text(text) if text.as_str() == "0");
        let bytes = if zero { Some(0) } else { measure(given, &SIZES) };
        bytes.filter(|bytes| *bytes <= MAX_SIZE).ok_or_else(|| {
            Wrong::is(format!("{:?} is no size", given.spelled())).instead(
                "write a whole number and its unit in quotes: \"512B\", \"64KiB\", \"2MiB\", \"1GiB\"; or 0",
            )
        })
    }

    fn show(settled: &u64) -> String {
        if *settled == 0 {
            "0".to_owned()
        } else {
            in_units(*settled, &SIZES)
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" }, { "const": 0 }] })
    }
}

/// A share of the whole, from 0 to 1.
pub(super) enum Ratio {}

impl Kind for Ratio {
    type Settled = f64;

    fn read(given: &Given) -> Result<f64, Wrong> {
        let number = match given {
            Given::Plain(text) | Given::Integer(text) | Given::Other(_, text) => text.parse::<f64>().ok(),
            Given::Text(_) | Given::Switch(_) | Given::List(_) => None,
        };
        number.filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| {
            Wrong::is(format!("is {:?}, which is no share", given.spelled()))
                .instead("write a number from 0.0 to 1.0, without quotes")
        })
    }

    fn show(settled: &f64) -> String {
        settled.to_string()
    }

    fn schema() -> Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// A list; one value alone is a list of one, and variables part items by commas.
pub(super) struct List<K>(PhantomData<K>);

impl<K: Kind> Kind for List<K> {
    type Settled = Vec<K::Settled>;

    fn read(given: &Given) -> Result<Self::Settled, Wrong> {
        given.items().iter().map(K::read).collect()
    }

    fn show(settled: &Self::Settled) -> String {
        settled.iter().map(K::show).collect::<Vec<_>>().join(", ")
    }

    fn schema() -> Value {
        json!({ "anyOf": [K::schema(), { "type": "array", "items": K::schema() }] })
    }
}

/// One of a few words, each of which stands for a value.
pub(super) struct Word<T>(PhantomData<T>);

/// A type that settings choose a value of by a word.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Each word and what it stands for.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Words> Kind for Word<T> {
    type Settled = T;

    fn read(given: &Given) -> Result<T, Wrong> {
        let found = T::WORDS.iter().find(|(word, _)| given.text() == Some(word));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = T::WORDS.iter().map(|(word, _)| format!("{word:?}")).collect();
            Wrong::is(format!("is {:?}, which is not one of its words", given.spelled()))
                .instead(format!("write {}", words.join(" or ")))
        })
    }

    fn show(settled: &T) -> String {
        let found = T::WORDS.iter().find(|(_, value)| value == settled);
        found.map(|(word, _)| (*word).to_owned()).unwrap_or_default()
    }

    fn schema() -> Value {
        json!({ "enum": T::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
    }
}

/// Text as it stands.
pub(super) enum Text {}

impl Kind for Text {
    type Settled = String;

    fn read(given: &Given) -> Result<String, Wrong> {
        text_of(given).map(str::to_owned)
    }

    fn show(settled: &String) -> String {
        settled.clone()
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// The path of a file, taken from the working directory where it is not absolute.
pub(super) enum File {}

impl Kind for File {
    type Settled = PathBuf;

    fn read(given: &Given) -> Result<PathBuf, Wrong> {
        filled(given).map(PathBuf::from)
    }

    fn show(settled: &PathBuf) -> String {
        settled.display().to_string()
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The text, or the one sentence for what is no text: the value may be a secret, so it is not named.
pub(super) fn text_of(given: &Given) -> Result<&str, Wrong> {
    given.text().ok_or_else(|| {
        Wrong::is(format!("is {}, not text", given.kind()))
            .instead("put the value in quotes, so that it stays as it is")
    })
}

/// Text that is not empty.
pub(super) fn filled(given: &Given) -> Result<&str, Wrong> {
    let text = text_of(given)?;
    if text.is_empty() {
        Err(Wrong::is("is empty"))
    } else {
        Ok(text)
    }
}

fn whole(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A whole number with one of the units, in the smallest.
fn measure(given: &Given, units: &[(&str, u64)]) -> Option<u64> {
    let text = given.text()?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    whole(number)?.checked_mul(*factor)
}

/// In the greatest unit that holds it whole.
fn in_units(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| amount.is_multiple_of(*factor) && amount > 0;
    // Nothing at all is told in the unit that people read first.
    units.iter().find(fits).map_or_else(
        || "0s".to_owned(),
        |(name, factor)| format!("{}{name}", amount / factor),
    )
}
