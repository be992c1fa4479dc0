//! What tells two logins apart: digests over their inputs.
//!
//! 1. A token belongs to **all** inputs that change it ([`Login::key`]): two names with the same inputs share
//!    one token, and whoever differs in any input never sees it.
//! 2. Refusals belong to the **credentials** ([`Login::credentials`]): a changed password is tried at once.
//! 3. Lockout belongs to the **account** ([`Login::account`]): Fluent counts by username, whatever the secret.
//! 4. Each input is preceded by its length, so that no two lists of inputs run into the same bytes.
//!
//! A digest of a weak password can be guessed from: digests stay in memory, and are never shown. What names
//! things in a store is made of them by [`super::store::names`].

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::secret::Secret;
use crate::token::grant::{Grant, Login};

/// A SHA-256 over length-prefixed inputs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Login {
    /// Names the token that this login gives (rule 10 of `token::cache`).
    #[must_use]
    pub fn key(&self) -> Digest {
        let inputs = Inputs::new("token")
            .text(self.endpoint.as_str())
            .text(self.grant.name())
            .text(self.grant.username())
            .secret(self.grant.password())
            .text(&self.client_id)
            .secret(Some(&self.client_secret))
            .text(&self.scope)
            .bytes(self.account.as_ref().map_or(&[], |account| account.as_bytes()));
        let inputs = inputs.list(self.token_key.iter().map(String::as_str));
        let extra = self
            .extra
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        inputs.list(extra).digest()
    }

    /// Names the secrets that the token endpoint judges.
    #[must_use]
    pub fn credentials(&self) -> Digest {
        Inputs::new("credentials")
            .secret(self.grant.password())
            .secret(Some(&self.client_secret))
            .digest()
    }

    /// Names what Fluent counts failed logins by.
    #[must_use]
    pub fn account(&self) -> Digest {
        Inputs::new("account")
            .text(self.endpoint.as_str())
            .text(&self.client_id)
            .text(self.grant.username())
            .digest()
    }
}

impl Grant {
    /// The username, empty where the grant has none.
    fn username(&self) -> &str {
        match self {
            Self::Password { username, .. } => username,
            Self::ClientCredentials => "",
        }
    }

    fn password(&self) -> Option<&Secret> {
        match self {
            Self::Password { password, .. } => Some(password),
            Self::ClientCredentials => None,
        }
    }
}

impl Digest {
    /// The digest itself, for what is derived from it.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Gathers inputs, each with its length before it.
struct Inputs(Sha256);

impl Inputs {
    /// Inputs for one purpose: digests for another never meet these.
    fn new(purpose: &str) -> Self {
        Self(Sha256::new()).text(purpose)
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn secret(self, secret: Option<&Secret>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the digest stands for the secret where versions are told apart, and is never shown"
        )]
        let text = secret.map_or("", |secret| secret.expose());
        self.text(text)
    }

    fn list<'a>(self, items: impl Iterator<Item = &'a str> + Clone) -> Self {
        let counted = self.length(items.clone().count());
        items.fold(counted, Self::text)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.length(bytes.len());
        self.0.update(bytes);
        self
    }

    fn length(mut self, length: usize) -> Self {
        self.0.update((length as u64).to_be_bytes());
        self
    }

    fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn login() -> Login {
        Login {
            extra: vec![("a".to_owned(), "b".to_owned())],
            ..Login::example("ann", "pw")
        }
    }

    fn changed(change: impl FnOnce(&mut Login)) -> Login {
        let mut login = login();
        change(&mut login);
        login
    }

    #[test]
    fn every_input_that_changes_a_token_changes_its_key() {
        let variants = [
            login(),
            changed(|l| l.endpoint = "https://other.example/oauth/token".parse().unwrap()),
            changed(|l| l.grant = Grant::example("bob", "pw")),
            changed(|l| l.grant = Grant::example("ann", "pw2")),
            changed(|l| l.grant = Grant::example("annp", "w")),
            changed(|l| l.grant = Grant::ClientCredentials),
            changed(|l| l.client_id = "client2".to_owned()),
            changed(|l| l.client_secret = Secret::new("secret2".to_owned())),
            changed(|l| l.scope = "api2".to_owned()),
            changed(|l| l.extra.clear()),
            changed(|l| l.extra = vec![("ab".to_owned(), String::new())]),
            changed(|l| l.token_key = vec!["data".to_owned(), "accessToken".to_owned()]),
            changed(|l| l.account = Some(HeaderValue::from_static("ACME"))),
        ];
        for (i, one) in variants.iter().enumerate() {
            for (j, other) in variants.iter().enumerate() {
                assert_eq!(one.key() == other.key(), i == j, "{i} and {j}");
            }
        }
    }

    #[test]
    fn a_new_password_is_other_credentials_of_the_same_account() {
        let new = changed(|l| l.grant = Grant::example("ann", "pw2"));
        assert_eq!(new.account(), login().account());
        assert_ne!(new.credentials(), login().credentials());
        let scope = changed(|l| l.scope = "other".to_owned());
        assert_eq!(scope.account(), login().account());
        assert_eq!(scope.credentials(), login().credentials());
        assert_ne!(
            changed(|l| l.grant = Grant::example("bob", "pw")).account(),
            login().account()
        );
    }

    #[test]
    fn debug_shows_no_byte_of_a_digest() {
        assert_eq!(format!("{:?}", login().key()), "Digest(..)");
    }
}
