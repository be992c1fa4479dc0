//! Settles an instance: its URL, its logins and when they are done.

use std::collections::BTreeMap;

use url::Url;

use super::{Either, Settler};
use crate::name::Name;
use crate::secret::Secret;
use crate::settings::Instance;
use crate::settings::key::Key;
use crate::settings::kind::domain::{Endpoint, GrantType, is_loopback};
use crate::settings::kind::secret::SecretText;
use crate::settings::kind::{File, Text};
use crate::settings::problem::Wrong;
use crate::settings::raw::{self, Field};
use crate::token::grant::{Grant, Login, Policy};

/// Parameters that the grant itself sends.
const OWN_PARAMETERS: [&str; 7] = [
    "client_id",
    "client_secret",
    "grant_type",
    "password",
    "refresh_token",
    "scope",
    "username",
];

/// Who logs in: an instance has the same keys for it as one of its users.
#[derive(Clone, Copy)]
struct Credentials<'a> {
    username: &'a Field<Text>,
    username_file: &'a Field<File>,
    password: &'a Field<SecretText>,
    password_file: &'a Field<File>,
}

impl<'a> From<&'a raw::Instance> for Credentials<'a> {
    fn from(raw: &'a raw::Instance) -> Self {
        Self {
            username: &raw.username,
            username_file: &raw.username_file,
            password: &raw.password,
            password_file: &raw.password_file,
        }
    }
}

impl<'a> From<&'a raw::User> for Credentials<'a> {
    fn from(raw: &'a raw::User) -> Self {
        Self {
            username: &raw.username,
            username_file: &raw.username_file,
            password: &raw.password,
            password_file: &raw.password_file,
        }
    }
}

impl Settler {
    /// Settles the instance whose table is `key`.
    pub(super) fn instance(&mut self, key: &Key, raw: &raw::Instance) -> Option<Instance> {
        // Read by its layer; here only to be weighed and shown.
        self.read(&raw.profile);
        let url = self.root_url(key, raw);
        let endpoint = self.endpoint(raw, url.as_ref());
        let client_id = self.needed_text(key, "client_id", &raw.client_id, &raw.client_id_file);
        let client_secret =
            self.needed_secret(key, "client_secret", &raw.client_secret, &raw.client_secret_file);
        let scope = self.read(&raw.scope);
        let token_key = self.read(&raw.token_key);
        let account_given = self.is_given(&raw.account);
        let account = self.read(&raw.account);
        let extra = self.extra(raw);
        let policy = self.policy(&raw.token);
        let grants = self.grants(key, raw);
        if account_given && account.is_none() {
            return None;
        }
        let own = Login {
            endpoint: endpoint?,
            grant: Grant::ClientCredentials,
            client_id: client_id?,
            client_secret: client_secret?,
            scope: scope?,
            extra: extra?,
            token_key: token_key?,
            account: account.clone(),
        };
        let users = grants?
            .into_iter()
            .map(|(name, grant)| (name, Login { grant, ..own.clone() }))
            .collect();
        Some(Instance {
            url: url?,
            account,
            users,
            policy: policy?,
        })
    }

    fn root_url(&mut self, key: &Key, raw: &raw::Instance) -> Option<Url> {
        if !self.is_given(&raw.url) {
            let wrong = Wrong::is("is not set")
                .instead("write the root of the API, such as \"https://ACCOUNT.api.fluentretail.com\"");
            self.missing(&key.join("url"), key, wrong);
        }
        let url = self.read(&raw.url)?;
        let allowed = self.read(&raw.danger_allow_http)?;
        if is_cleartext(&url) && !allowed {
            self.refuse(&raw.url, cleartext());
            return None;
        }
        Some(url)
    }

    fn endpoint(&mut self, raw: &raw::Instance, root: Option<&Url>) -> Option<Url> {
        let allowed = self.read(&raw.danger_allow_http);
        match self.read(&raw.token.path)? {
            Endpoint::Whole(url) => {
                if is_cleartext(&url) && allowed == Some(false) {
                    self.refuse(&raw.token.path, cleartext());
                    return None;
                }
                Some(url)
            }
            Endpoint::Path(path) => {
                let mut url = root?.clone();
                let path = format!("{}{path}", url.path().trim_end_matches('/'));
                url.set_path(&path);
                Some(url)
            }
        }
    }

    fn extra(&mut self, raw: &raw::Instance) -> Option<Vec<(String, String)>> {
        let mut extra = Vec::new();
        let mut whole = true;
        for (name, field) in &raw.token.extra {
            if OWN_PARAMETERS.contains(&name.as_str()) {
                let wrong = Wrong::is("would override a parameter of the grant itself")
                    .instead("use the setting of its own that this parameter has");
                self.refuse(field, wrong);
            }
            match self.read(field) {
                Some(value) => extra.push((name.clone(), value)),
                None => whole = false,
            }
        }
        whole.then_some(extra)
    }

    fn policy(&mut self, raw: &raw::Token) -> Option<Policy> {
        let timeout = self.read(&raw.timeout);
        let default_lifetime = self.read(&raw.default_lifetime);
        let margin = self.read(&raw.margin);
        let cool_down = self.read(&raw.cool_down);
        let refresh = self.read(&raw.refresh);
        Some(Policy {
            timeout: timeout?,
            default_lifetime: default_lifetime?,
            margin: margin?,
            cool_down: cool_down?,
            refresh: refresh?,
        })
    }

    /// Who logs in, and with what.
    fn grants(&mut self, key: &Key, raw: &raw::Instance) -> Option<BTreeMap<Name, Grant>> {
        match self.read(&raw.grant_type)? {
            GrantType::Password => self.passwords(key, raw),
            GrantType::ClientCredentials => {
                let unused = Wrong::is("has no use with the grant \"client_credentials\"")
                    .instead("leave it out, or write grant_type = \"password\"");
                self.refuse(&raw.username, unused.clone());
                self.refuse(&raw.username_file, unused.clone());
                self.refuse(&raw.password, unused.clone());
                self.refuse(&raw.password_file, unused.clone());
                for name in raw.users.keys() {
                    self.refuse_table(&key.join("users").join(name.as_str()), unused.clone());
                }
                Some(BTreeMap::from([(Name::default_name(), Grant::ClientCredentials)]))
            }
        }
    }

    fn passwords(&mut self, key: &Key, raw: &raw::Instance) -> Option<BTreeMap<Name, Grant>> {
        let mut grants = BTreeMap::new();
        let default = self.password(key, raw.into());
        let mut whole = true;
        for (name, user) in &raw.users {
            let key = key.join("users").join(name.as_str());
            match (self.password(&key, user.into()), name.parse::<Name>()) {
                (Some(grant), Ok(name)) => {
                    grants.insert(name, grant);
                }
                (_, _) => whole = false,
            }
        }
        grants.insert(Name::default_name(), default?);
        whole.then_some(grants)
    }

    fn password(&mut self, key: &Key, raw: Credentials<'_>) -> Option<Grant> {
        let username = self.needed_text(key, "username", raw.username, raw.username_file);
        let password = self.needed_secret(key, "password", raw.password, raw.password_file);
        Some(Grant::Password {
            username: username?,
            password: password?,
        })
    }

    fn needed_text(
        &mut self,
        table: &Key,
        name: &str,
        text: &Field<Text>,
        file: &Field<File>,
    ) -> Option<String> {
        let given = self.is_given(text) || self.is_given(file);
        let text_of = self.either(text, file, Either::Text).map(Either::into_text);
        if !given {
            self.needed(table, name);
        }
        if text_of.as_deref() == Some("") {
            self.refuse(text, Wrong::is("is empty"));
            return None;
        }
        text_of
    }

    fn needed_secret(
        &mut self,
        table: &Key,
        name: &str,
        text: &Field<SecretText>,
        file: &Field<File>,
    ) -> Option<Secret> {
        let given = self.is_given(text) || self.is_given(file);
        let secret = self.either(text, file, Either::Secret).map(Either::into_secret);
        if !given {
            self.needed(table, name);
        }
        secret
    }

    fn needed(&mut self, table: &Key, name: &str) {
        let wrong =
            Wrong::is("is not set").instead(format!("set {name}, or {name}_file with the path of a file"));
        self.missing(&table.join(name), table, wrong);
    }
}

fn is_cleartext(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

fn cleartext() -> Wrong {
    Wrong::is("is http:// to another machine, where everybody on the way can read passwords and tokens")
        .instead("write https://, or set danger_allow_http = true")
}
