//! Kinds whose values are never shown.
//!
//! 1. The schema marks them with `writeOnly`, which keeps them off the command line and out of what is shown.
//! 2. No sentence here holds any part of a value.
//! 3. A secret's file loses exactly one final line end, LF or CRLF; all else in it is the secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Kind, filled, text_of};
use crate::files;
use crate::guard::RequiredHeader;
use crate::secret::Secret;
use crate::settings::given::Given;
use crate::settings::problem::Wrong;

/// How secrets are shown.
pub(in crate::settings) const SET: &str = "set";

/// More than any secret has.
const MAX_FILE: usize = 64 * 1024;

/// A secret as text.
pub(in crate::settings) enum SecretText {}

impl Kind for SecretText {
    type Settled = Secret;

    fn read(given: &Given) -> Result<Secret, Wrong> {
        filled(given).map(|text| Secret::new(text.to_owned()))
    }

    fn show(_: &Secret) -> String {
        SET.to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "writeOnly": true })
    }
}

/// A further parameter of the token request: text, which may be a secret.
pub(in crate::settings) enum Parameter {}

impl Kind for Parameter {
    type Settled = String;

    fn read(given: &Given) -> Result<String, Wrong> {
        text_of(given).map(str::to_owned)
    }

    fn show(_: &String) -> String {
        SET.to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "writeOnly": true })
    }
}

/// `name: value`, a header that each request must carry.
pub(in crate::settings) enum NeededHeader {}

/// Names that cannot be asked of a caller: HTTP, browsers or the proxy itself give them their meaning.
const TAKEN: [&str; 26] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "fluent.account",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-fluent-user",
    "x-real-ip",
    "x-request-id",
];
const TAKEN_PREFIXES: [&str; 3] = ["x-forwarded-", "sec-", "access-control-"];

impl Kind for NeededHeader {
    type Settled = RequiredHeader;

    fn read(given: &Given) -> Result<RequiredHeader, Wrong> {
        const FORM: &str = "write \"name: value\", with a name of your own such as x-proxy-key";
        let (name, value) = filled(given)?
            .split_once(':')
            .ok_or_else(|| Wrong::is("has no ':' between name and value").instead(FORM))?;
        let name = HeaderName::try_from(name.trim())
            .map_err(|_| Wrong::is("does not begin with a legal name of a header").instead(FORM))?;
        let prefixed = TAKEN_PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix));
        if prefixed || TAKEN.contains(&name.as_str()) {
            return Err(Wrong::is(format!("names {name}, which has a meaning of its own")).instead(FORM));
        }
        let value = value.trim();
        let legal = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if !legal || HeaderValue::from_str(value).is_err() {
            return Err(Wrong::is("has no value that a header may carry")
                .instead("write printable ASCII after the name and the ':'"));
        }
        Ok(RequiredHeader {
            name,
            value: Secret::new(value.to_owned()),
        })
    }

    fn show(_: &RequiredHeader) -> String {
        SET.to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[^:]+:.+$", "writeOnly": true })
    }
}

/// Reads the files of secrets, all of one folder in one version: where a folder has the link `..data` that
/// Kubernetes swaps, it is followed once, and files that it leads to are read there.
#[derive(Debug, Default)]
pub(in crate::settings) struct SecretFiles {
    /// Where `..data` of each folder led to.
    versions: BTreeMap<PathBuf, Option<PathBuf>>,
}

impl SecretFiles {
    pub(in crate::settings) fn read(&mut self, path: &Path) -> Result<Secret, Wrong> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return of_file(path, path);
        };
        let version = self.versions.entry(folder.to_owned()).or_insert_with(|| {
            let target = std::fs::read_link(folder.join("..data")).ok()?;
            Some(folder.join(target))
        });
        let through = std::fs::read_link(path).is_ok_and(|link| link.starts_with("..data"));
        match version {
            Some(version) if through => of_file(path, &version.join(name)),
            Some(_) | None => of_file(path, path),
        }
    }
}

/// Reads the secret's file `path`, which is at `place`.
fn of_file(path: &Path, place: &Path) -> Result<Secret, Wrong> {
    let unreadable = |error: std::io::Error| {
        Wrong::is(format!(
            "names a file that cannot be read: {}: {error}",
            path.display()
        ))
    };
    let refused = |what: &str| Wrong::is(format!("names a file that {what}: {}", path.display()));
    let text = files::read(place, MAX_FILE).map(Zeroizing::new);
    let text = text.map_err(unreadable)?;
    let text = std::str::from_utf8(&text).map_err(|_| refused("is not UTF-8"))?;
    let secret = text
        .strip_suffix('\n')
        .map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if secret.is_empty() {
        return Err(refused("is empty"));
    }
    Ok(Secret::new(secret.to_owned()))
}
