//! Rule 1 of the guard: a request that has been here before is a loop.
//!
//! 1. A process is known by a pseudonym, `fluent-auth-proxy-` and 16 hexadecimal digits, chosen at its start.
//! 2. Each message that it passes on says so in `Via` (RFC 9110, section 7.6.3), behind what stands there.
//! 3. A request with that very pseudonym as the receiver of any entry has been here. Comments say nothing.
//!
//! Where `upstream.via` is off, or somebody on the way drops `Via`, no loop is seen.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Version, header};

/// The name of this process in `Via`, and the entries it writes; cloning allocates nothing.
#[derive(Clone)]
pub struct ViaId {
    name: Arc<str>,
    http_1_0: HeaderValue,
    http_1_1: HeaderValue,
    http_2: HeaderValue,
}

impl ViaId {
    /// A name that no other process bears.
    #[must_use]
    pub fn random() -> Self {
        Self::new(fastrand::u64(..))
    }

    /// The name with these digits.
    #[must_use]
    pub fn new(digits: u64) -> Self {
        let name = format!("fluent-auth-proxy-{digits:016x}");
        let entry = |version| {
            HeaderValue::from_str(&format!("{version} {name}"))
                .unwrap_or(HeaderValue::from_static("1.1 fluent-auth-proxy"))
        };
        Self {
            http_1_0: entry("1.0"),
            http_1_1: entry("1.1"),
            http_2: entry("2.0"),
            name: Arc::from(name),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The entry for a message that was received in `version`.
    #[must_use]
    pub fn entry(&self, version: Version) -> HeaderValue {
        match version {
            Version::HTTP_09 | Version::HTTP_10 => self.http_1_0.clone(),
            Version::HTTP_2 => self.http_2.clone(),
            _ => self.http_1_1.clone(),
        }
    }

    /// Whether a message has passed this process.
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::VIA)
            .iter()
            .any(|value| self.receives(value.as_bytes()))
    }

    /// Whether an entry of the list names this process: `protocol received-by (comment)`, parted by commas.
    fn receives(&self, list: &[u8]) -> bool {
        let mut rest = list;
        while !rest.is_empty() {
            let (entry, next) = split_entry(rest);
            let receiver = entry
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .nth(1);
            if receiver.is_some_and(|receiver| receiver.eq_ignore_ascii_case(self.name.as_bytes())) {
                return true;
            }
            rest = next;
        }
        false
    }
}

impl fmt::Debug for ViaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ViaId").field(&self.name).finish()
    }
}

/// The first entry up to its comment, and what follows its comma. Comments nest, and escape with a backslash.
fn split_entry(list: &[u8]) -> (&[u8], &[u8]) {
    let mut depth = 0_usize;
    let mut escaped = false;
    let mut end = None;
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if depth > 0 => escaped = true,
            b'(' => {
                depth += 1;
                end = end.or(Some(at));
            }
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                let entry = list.get(..end.unwrap_or(at)).unwrap_or_default();
                return (entry, list.get(at + 1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (list.get(..end.unwrap_or(list.len())).unwrap_or_default(), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ViaId {
        ViaId::new(0xabc)
    }

    fn seen(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::VIA, HeaderValue::from_str(value).unwrap());
        }
        id().is_in(&headers)
    }

    #[test]
    fn rule_1_a_process_has_a_pseudonym() {
        assert_eq!(id().as_str(), "fluent-auth-proxy-0000000000000abc");
        assert!(format!("{:?}", id()).contains(id().as_str()));
        assert_ne!(ViaId::random().as_str(), ViaId::random().as_str());
    }

    #[test]
    fn rule_2_an_entry_tells_the_version() {
        for (version, entry) in [
            (Version::HTTP_10, "1.0 fluent-auth-proxy-0000000000000abc"),
            (Version::HTTP_11, "1.1 fluent-auth-proxy-0000000000000abc"),
            (Version::HTTP_2, "2.0 fluent-auth-proxy-0000000000000abc"),
        ] {
            assert_eq!(id().entry(version), entry);
            assert!(seen(&[entry]));
        }
    }

    #[test]
    fn rule_3_the_receiver_of_any_entry_counts() {
        let own = "fluent-auth-proxy-0000000000000abc";
        for value in [
            format!("1.1 {own}"),
            format!("HTTP/1.1 {own} (comment)"),
            format!("1.1 {own}(comment)"),
            format!("1.0 fred, 1.1 {own}"),
            format!("1.1 {own},1.0 fred"),
            format!(", ,1.1\t{own} ,"),
            format!("1.0 fred (a, (b), \\), c), 1.1 {}", own.to_uppercase()),
            format!("1.0 fred\\, 1.1 {own}"),
            format!("1.0 fred (\\(), 1.1 {own}"),
        ] {
            assert!(seen(&[&value]), "{value}");
            assert!(seen(&["1.0 fred", &value]), "{value} in the second header");
        }
        for value in [
            String::new(),
            own.to_owned(),
            format!("{own} 1.1"),
            format!("1.1 fred ({own})"),
            format!("1.1 fred (a, 1.1 {own} )"),
            format!("1.1 fred (\\), 1.1 {own} )"),
            format!("1.1 fred {own}"),
            format!("1.1 {own}x"),
            format!("1.1 x{own}"),
            format!("1.1 {own}:80"),
            "1.1 fluent-auth-proxy-0000000000000abd".to_owned(),
            "1.1 fluent-auth-proxy".to_owned(),
        ] {
            assert!(!seen(&[&value]), "{value}");
        }
        assert!(!seen(&[]));
    }
}
