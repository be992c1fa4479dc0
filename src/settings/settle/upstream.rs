//! Settles the leg to Fluent.

use std::path::PathBuf;

use super::Settler;
use crate::body::TapeLimits;
use crate::settings::kind::File;
use crate::settings::problem::Wrong;
use crate::settings::raw::{self, Field};
use crate::upstream::{Config, Tls};

impl Settler {
    pub(super) fn upstream(&mut self, raw: &raw::Upstream) -> Option<Config> {
        let connect_timeout = self.read(&raw.connect_timeout);
        let response_timeout = self.read(&raw.response_timeout);
        let idle_timeout = self.read(&raw.idle_timeout);
        let read_timeout = self.read(&raw.read_timeout);
        let max_age = self.read(&raw.max_age);
        let http_version = self.read(&raw.http_version);
        let tls = self.tls(raw);
        let egress = self.read(&raw.proxy);
        let max_in_flight = self.read(&raw.max_in_flight);
        let queue = self.read(&raw.queue);
        let queue_timeout = self.read(&raw.queue_timeout);
        Some(Config {
            connect_timeout: connect_timeout?,
            response_timeout: response_timeout?,
            idle_timeout: idle_timeout?,
            read_timeout: read_timeout?,
            max_age: max_age?,
            http_version: http_version?,
            tls,
            egress: egress?,
            max_in_flight: max_in_flight?,
            queue: queue?,
            queue_timeout: queue_timeout?,
        })
    }

    pub(super) fn tape(&mut self, raw: &raw::Upstream) -> Option<TapeLimits> {
        let request = self.read(&raw.replay_limit);
        let total = self.read(&raw.replay_memory);
        Some(TapeLimits {
            request: usize::try_from(request?).unwrap_or(usize::MAX),
            total: usize::try_from(total?).unwrap_or(usize::MAX),
        })
    }

    fn tls(&mut self, raw: &raw::Upstream) -> Tls {
        let ca_file = self.readable(&raw.ca_file);
        let certificate = self.readable(&raw.client_cert_file);
        let key = self.readable(&raw.client_key_file);
        match (
            self.is_given(&raw.client_cert_file),
            self.is_given(&raw.client_key_file),
        ) {
            (true, false) => {
                let wrong = Wrong::is("stands without upstream.client_key_file").instead("set both or none");
                self.refuse(&raw.client_cert_file, wrong);
            }
            (false, true) => {
                let wrong = Wrong::is("stands without upstream.client_cert_file").instead("set both or none");
                self.refuse(&raw.client_key_file, wrong);
            }
            (true, true) | (false, false) => {}
        }
        Tls {
            ca_file,
            client: certificate.zip(key),
        }
    }

    /// A file that can be opened now; what stands in it is for TLS to judge.
    fn readable(&mut self, field: &Field<File>) -> Option<PathBuf> {
        let path = self.read(field)?;
        match std::fs::File::open(&path) {
            Ok(_) => Some(path),
            Err(error) => {
                let what = format!("names a file that cannot be read: {}: {error}", path.display());
                self.refuse(field, Wrong::is(what));
                None
            }
        }
    }
}
