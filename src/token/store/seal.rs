//! Seals what a store keeps: XChaCha20-Poly1305.
//!
//! 1. A sealed value is a version byte, a random nonce, and the ciphertext with its tag. The version and the name
//!    of the value in the store are authenticated with it, so that a value copied to another name does not open.
//! 2. The key comes from the credentials (HKDF), or from a [`KeyRing`]: its first key seals, all of them open.
//! 3. What does not open is as good as nothing; why it does not is never told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::names::derived;
use crate::secret::Secret;
use crate::token::grant::Login;

const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Keys that seal the values of all logins.
#[derive(Clone)]
pub struct KeyRing(Vec<XChaCha20Poly1305>);

/// What is wrong with a file of keys; it shows nothing of what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    /// There is no key.
    #[error("holds no key")]
    None,
    /// A line, counted from 1, is no key.
    #[error("is not 32 bytes in base64 in line {0}")]
    Line(usize),
}

impl KeyRing {
    /// Reads base64 keys of 32 bytes, one a line; empty lines are skipped.
    ///
    /// # Errors
    /// The first line that is none, or that there is none at all.
    pub fn parse(text: &Secret) -> Result<Self, BadKeys> {
        #[expect(clippy::disallowed_methods, reason = "the keys are what the file is read for")]
        let text = text.expose();
        let lines = text.lines().enumerate();
        let keys = lines
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                let bad = BadKeys::Line(index + 1);
                let key = Zeroizing::new(STANDARD.decode(line.trim()).map_err(|_| bad)?);
                XChaCha20Poly1305::new_from_slice(&key).map_err(|_| bad)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            Err(BadKeys::None)
        } else {
            Ok(Self(keys))
        }
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyRing({} keys)", self.0.len())
    }
}

/// Seals and opens the values of one login.
#[derive(Debug)]
pub struct Seal(KeyRing);

impl Seal {
    /// The seal of `login`: by `keys`, where there are some, else by its credentials.
    #[must_use]
    pub fn of(login: &Login, keys: Option<&KeyRing>) -> Self {
        let own = || {
            KeyRing(vec![XChaCha20Poly1305::new(
                (&*derived::<32>(login, "seal")).into(),
            )])
        };
        Self(keys.cloned().unwrap_or_else(own))
    }

    /// Seals `plain` for the place `name`; nothing where the system gives no random bytes.
    #[must_use]
    pub fn seal(&self, name: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let aad = authenticated(name);
        let payload = Payload {
            msg: plain,
            aad: &aad,
        };
        let sealed = self.0.0.first()?.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for the place `name`.
    #[must_use]
    pub fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, msg) = rest.split_first_chunk::<NONCE>()?;
        let nonce = XNonce::from(*nonce);
        let aad = authenticated(name);
        let open = |key: &XChaCha20Poly1305| key.decrypt(&nonce, Payload { msg, aad: &aad }).ok();
        (*version == VERSION)
            .then(|| self.0.0.iter().find_map(open))
            .flatten()
            .map(Zeroizing::new)
    }
}

fn authenticated(name: &str) -> Vec<u8> {
    [&[VERSION], name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{login, with_password};
    use super::*;

    fn ring(keys: &[u8]) -> KeyRing {
        let lines = keys.iter().map(|byte| STANDARD.encode([*byte; 32]) + "\n");
        KeyRing::parse(&Secret::new(lines.collect())).unwrap()
    }

    #[test]
    fn a_value_opens_at_its_own_name_and_nowhere_else() {
        let seal = Seal::of(&login(), None);
        let sealed = seal.seal("a", b"plain").unwrap();
        assert_eq!(*seal.open("a", &sealed).unwrap(), b"plain");
        assert!(seal.open("b", &sealed).is_none());
        assert!(Seal::of(&with_password("new"), None).open("a", &sealed).is_none());
    }

    #[test]
    fn no_byte_of_a_value_can_be_changed_or_cut() {
        let seal = Seal::of(&login(), None);
        let sealed = seal.seal("a", b"plain").unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(seal.open("a", &changed).is_none(), "{index}");
            assert!(seal.open("a", &sealed[..index]).is_none(), "{index}");
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, new) = (ring(&[1]), ring(&[2, 1]));
        let sealed = Seal::of(&login(), Some(&old)).seal("a", b"plain").unwrap();
        assert!(Seal::of(&login(), Some(&new)).open("a", &sealed).is_some());
        let sealed = Seal::of(&login(), Some(&new)).seal("a", b"plain").unwrap();
        assert!(Seal::of(&login(), Some(&old)).open("a", &sealed).is_none());
        assert_eq!(format!("{new:?}"), "KeyRing(2 keys)");
    }

    #[test]
    fn a_bad_file_of_keys_is_told_by_its_line_alone() {
        let parse = |text: &str| KeyRing::parse(&Secret::new(text.to_owned())).map(|_| ());
        assert_eq!(parse("\n"), Err(BadKeys::None));
        assert_eq!(parse("\nc2hvcnQ="), Err(BadKeys::Line(2)));
        assert_eq!(
            BadKeys::Line(2).to_string(),
            "is not 32 bytes in base64 in line 2"
        );
    }
}
