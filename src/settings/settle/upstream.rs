//! Settles the leg to Fluent.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Settler;
use crate::body::TapeLimits;
use crate::files;
use crate::settings::given::Given;
use crate::settings::key::Key;
use crate::settings::kind::File;
use crate::settings::kind::domain::{Way, WayOut, http_proxy};
use crate::settings::problem::{Problem, Source, Wrong};
use crate::settings::raw::{self, Field};
use crate::upstream::egress::{Egress, HttpProxy};
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
        let egress = self.egress(&raw.proxy);
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

    fn egress(&mut self, field: &Field<WayOut>) -> Option<Egress> {
        match self.read(field)? {
            Way::None => Some(Egress::straight()),
            Way::Environment => Some(self.environment()),
            Way::Proxy(proxy) => {
                if proxy.has_credentials() && self.source(field) == Some(&Source::CommandLine) {
                    let wrong = Wrong::is("holds a password, and command lines can be read by others")
                        .instead("give it by a file or a variable");
                    self.refuse(field, wrong);
                }
                Some(Egress::through(*proxy))
            }
        }
    }

    /// The proxies of the environment: the one for a scheme, else the one for all.
    fn environment(&mut self) -> Egress {
        let no_proxy = self.proxies.get("NO_PROXY").map(Given::spelled);
        let http = self.proxy_variable("HTTP_PROXY");
        let https = self.proxy_variable("HTTPS_PROXY");
        Egress::environment(http, https, &no_proxy.unwrap_or_default())
    }

    fn proxy_variable(&mut self, scheme: &str) -> Option<HttpProxy> {
        let name = [scheme, "ALL_PROXY"]
            .into_iter()
            .find(|name| self.proxies.contains_key(*name))?;
        let given = self.proxies.get(name)?;
        // As everywhere, the scheme may be left out.
        let whole = match given.text()? {
            text if text.contains("://") => given.clone(),
            text => Given::plain(&format!("http://{text}")),
        };
        match http_proxy(&whole) {
            Ok(proxy) => Some(proxy),
            Err(wrong) => {
                let source = Some(Source::Variable(name.to_owned()));
                let problem = Problem::new(&Key::dotted("upstream.proxy"), source, wrong);
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                None
            }
        }
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
        let ca_file = self.pem(&raw.ca_file);
        let certificate = self.pem(&raw.client_cert_file);
        let key = self.pem(&raw.client_key_file);
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

    /// A file that can be read now; what stands in it is for others to judge.
    fn pem(&mut self, field: &Field<File>) -> Option<PathBuf> {
        let path = self.read(field)?;
        self.file(field, &path, files::LONGEST_PEM)?;
        Some(path)
    }

    /// What stands in a file.
    pub(super) fn file(
        &mut self,
        field: &Field<File>,
        path: &Path,
        longest: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let refuse = |error| {
            let what = format!("names a file that cannot be read: {}: {error}", path.display());
            self.refuse(field, Wrong::is(what));
        };
        let read = files::read(path, longest).map_err(refuse);
        read.map(Zeroizing::new).ok()
    }
}
