//! What the entries of a login are called in a store.
//!
//! 1. Tokens and refusals are named by an HMAC-SHA256 whose key comes from client secret and password (HKDF): who
//!    sees the names cannot test guesses at a weak password without the client secret, and two versions of a
//!    secret never fight over one name.
//! 2. The lease and the count of failed logins are named by a plain hash of URL, client and username, as Fluent
//!    counts by username, whatever the secret.
//! 3. All four carry the account as one hash tag, `{account}`, so that a Redis Cluster keeps them in one place.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::token::digest::Digest;
use crate::token::grant::Login;

/// The salt of all that is derived here; a new form of names or seals gets a new one.
const SALT: &[u8] = b"fluent-auth-proxy store 1";

/// The names of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The account, as text that fits into a file's name.
    pub account: String,
    /// The tokens.
    pub entry: String,
    /// The refusal of the credentials.
    pub refusal: String,
    /// The lease of the account.
    pub lease: String,
    /// When the account's counted logins ended.
    pub counted: String,
}

impl Names {
    /// The names of `login` in a store whose keys begin with `prefix`.
    #[must_use]
    pub fn of(prefix: &str, login: &Login) -> Self {
        let account = text(login.account().bytes());
        let key = derived(login, "names");
        let credentials = login.credentials();
        let name = |what: &str| format!("{prefix}:{{{account}}}:{what}");
        Self {
            entry: name(&format!("token:{}", tag(&key, "token", &login.key()))),
            refusal: name(&format!("refusal:{}", tag(&key, "refusal", &credentials))),
            lease: name("lease"),
            counted: name("counted"),
            account,
        }
    }
}

/// A key for `purpose`, from the secrets of `login`, each of which is preceded by its length.
pub(super) fn derived<const N: usize>(login: &Login, purpose: &str) -> Zeroizing<[u8; N]> {
    let mut key = Zeroizing::new([0; N]);
    let derived = Hkdf::<Sha256>::new(Some(SALT), login.credentials().bytes());
    // The few blocks that are asked for are never too many.
    let _ = derived.expand(purpose.as_bytes(), key.as_mut_slice());
    key
}

fn tag(key: &Zeroizing<[u8; 64]>, purpose: &str, digest: &Digest) -> String {
    let mut mac = Hmac::<Sha256>::new((&**key).into());
    mac.update(purpose.as_bytes());
    mac.update(digest.bytes());
    text(&mac.finalize().into_bytes())
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{login, with_password};
    use super::*;

    #[test]
    fn a_new_password_names_other_tokens_and_refusals_of_the_same_account() {
        let (old, new) = (Names::of("p", &login()), Names::of("p", &with_password("new")));
        assert_ne!(old.entry, new.entry);
        assert_ne!(old.refusal, new.refusal);
        assert_eq!(old.lease, new.lease);
        assert_eq!(old.counted, new.counted);
    }

    #[test]
    fn another_scope_names_another_token_and_nothing_else() {
        let mut other = login();
        other.scope = "other".to_owned();
        let (one, other) = (Names::of("p", &login()), Names::of("p", &other));
        assert_ne!(one.entry, other.entry);
        assert_eq!(
            Names {
                entry: one.entry.clone(),
                ..other
            },
            one
        );
    }

    #[test]
    fn all_names_carry_the_prefix_and_one_hash_tag() {
        let names = Names::of("shop", &login());
        let tag = format!("shop:{{{}}}:", names.account);
        for name in [&names.entry, &names.refusal, &names.lease, &names.counted] {
            assert!(name.starts_with(&tag), "{name}");
        }
    }
}
