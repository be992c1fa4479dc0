//! Settles the shared cache.

use super::Settler;
use crate::settings::kind::Kind;
use crate::settings::kind::domain::StoreKind;
use crate::settings::problem::{Source, Wrong};
use crate::settings::raw::{self, Field};
use crate::token::store::redis::{BadUrl, Server};
use crate::token::store::seal::KeyRing;
use crate::token::store::{Config, Place};

impl Settler {
    pub(super) fn cache(&mut self, raw: &raw::Cache) -> Option<Config> {
        let kind = self.read(&raw.store);
        let path = self.read(&raw.path);
        let server = self.redis(raw);
        let prefix = self.read(&raw.prefix);
        let keys = self.keys(raw);
        let kind = kind?;
        if kind != StoreKind::File {
            self.useless(&raw.path, "file");
        }
        if kind != StoreKind::Redis {
            self.useless(&raw.redis_url, "redis");
            self.useless(&raw.redis_url_file, "redis");
        }
        let place = match kind {
            StoreKind::Memory => {
                self.useless(&raw.prefix, "file\" or \"redis");
                self.useless(&raw.key_file, "file\" or \"redis");
                Place::Memory
            }
            StoreKind::File => {
                if !self.is_given(&raw.path) {
                    let wrong = Wrong::is("needs a folder").instead("name it in cache.path");
                    self.refuse(&raw.store, wrong);
                }
                Place::File(path?)
            }
            StoreKind::Redis => {
                if !self.is_given(&raw.redis_url) && !self.is_given(&raw.redis_url_file) {
                    let wrong = Wrong::is("needs a server").instead(
                        "name it in cache.redis_url, or in the file that cache.redis_url_file names",
                    );
                    self.refuse(&raw.store, wrong);
                }
                Place::Redis(Box::new(server?))
            }
        };
        if self.is_given(&raw.key_file) && keys.is_none() {
            return None;
        }
        Some(Config {
            place,
            prefix: prefix?,
            keys,
        })
    }

    fn redis(&mut self, raw: &raw::Cache) -> Option<Server> {
        let from_text = self.is_given(&raw.redis_url);
        let url = self.either(&raw.redis_url, &raw.redis_url_file, super::Either::Secret)?;
        let server = Server::parse(&url.into_secret());
        let refuse = |BadUrl| {
            let wrong = Wrong::is("holds no URL of a Redis server")
                .instead("write redis://, rediss:// for TLS, or redis+unix://, and where it is");
            if from_text {
                self.refuse(&raw.redis_url, wrong);
            } else {
                self.refuse(&raw.redis_url_file, wrong);
            }
        };
        server.map_err(refuse).ok()
    }

    fn keys(&mut self, raw: &raw::Cache) -> Option<KeyRing> {
        let path = self.read(&raw.key_file)?;
        let keys = self.files.read(&path).and_then(|text| {
            let wrong = |bad| Wrong::is(format!("names a file that {bad}: {}", path.display()));
            KeyRing::parse(&text).map_err(wrong)
        });
        let refuse = |wrong: Wrong| {
            let right =
                "write keys of 32 bytes in base64, one a line, such as `openssl rand -base64 32` makes";
            self.refuse(&raw.key_file, wrong.instead(right));
        };
        keys.map_err(refuse).ok()
    }

    /// Refuses what somebody set though nothing reads it.
    fn useless<K: Kind>(&mut self, field: &Field<K>, store: &str) {
        if self
            .source(field)
            .is_some_and(|source| *source != Source::Default)
        {
            let wrong = Wrong::is(format!("is read with cache.store = \"{store}\" only"));
            self.refuse(field, wrong.instead("leave it out, or choose that store"));
        }
    }
}
