//! Settles the proxy's listener, and keeps the admin listener apart from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::Settler;
use crate::guard::Rules;
use crate::server::{Address, Limits};
use crate::settings::kind::Kind;
use crate::settings::kind::domain::{ListenAddress, RootUrl};
use crate::settings::problem::Wrong;
use crate::settings::raw::{self, Field};
use crate::settings::{Listen, Reach};

impl Settler {
    pub(super) fn listen(&mut self, raw: &raw::Listen) -> Option<Listen> {
        let reach = self
            .read(&raw.danger_allow_remote)
            .map(|allowed| if allowed { Reach::Network } else { Reach::Machine });
        let addresses = self.addresses(raw, reach);
        let rules = self.rules(raw, addresses.as_deref());
        let limits = self.limits(raw);
        let body_timeout = self.read(&raw.body_timeout);
        let max_body = self.read(&raw.max_body);
        let graphiql = self.read(&raw.graphiql);
        let addresses = addresses?;
        Some(Listen {
            graphiql: graphiql.unwrap_or_else(|| addresses.iter().all(is_loopback)),
            addresses,
            reach: reach?,
            rules: rules?,
            limits: limits?,
            body_timeout: body_timeout?,
            max_body: max_body.map(|bytes| (bytes > 0).then_some(bytes))?,
        })
    }

    fn addresses(&mut self, raw: &raw::Listen, reach: Option<Reach>) -> Option<Vec<Address>> {
        let addresses = self.read(&raw.address)?;
        if addresses.is_empty() {
            self.refuse(&raw.address, Wrong::is("names no address"));
        }
        let remote = addresses.iter().find(|address| !is_local(address));
        if let Some(remote) = remote.filter(|_| reach == Some(Reach::Machine)) {
            let wrong = Wrong::is(format!(
                "has {}, which other machines can reach, and whoever reaches the proxy acts with its credentials",
                ListenAddress::show(remote)
            ));
            self.refuse(
                &raw.address,
                wrong.instead("listen on localhost, or set danger_allow_remote = true"),
            );
        }
        Some(addresses)
    }

    /// Those who may call by a Unix socket; all where none is named.
    fn allowed_uids(&mut self, raw: &raw::Listen, addresses: Option<&[Address]>) -> Option<Vec<u32>> {
        if !self.is_given(&raw.allowed_uids) {
            return Some(Vec::new());
        }
        let uids = self.read(&raw.allowed_uids)?;
        let socket = |address: &Address| matches!(address, Address::Unix(_) | Address::Systemd);
        let wrong = if uids.is_empty() {
            Some(
                Wrong::is("names nobody")
                    .instead("leave it out to let in all that the socket's mode lets in"),
            )
        } else if addresses.is_some_and(|addresses| !addresses.iter().any(socket)) {
            Some(
                Wrong::is("does nothing here, as listen.address names no Unix socket")
                    .instead("listen on \"unix:PATH\", as nobody can tell who calls over TCP"),
            )
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.refuse(&raw.allowed_uids, wrong);
            return None;
        }
        Some(
            uids.into_iter()
                .filter_map(|uid| u32::try_from(uid).ok())
                .collect(),
        )
    }

    fn rules(&mut self, raw: &raw::Listen, addresses: Option<&[Address]>) -> Option<Rules> {
        let allowed_hosts = self.read(&raw.allowed_hosts);
        let allowed_origins = self.read(&raw.allowed_origins);
        let allowed_uids = self.allowed_uids(raw, addresses);
        let required_header = self.read(&raw.required_header);
        let paths = self.read(&raw.paths)?;
        if paths.is_empty() {
            self.refuse(
                &raw.paths,
                Wrong::is("names no path").instead("write at least \"/graphql\""),
            );
        }
        Some(Rules {
            allowed_hosts: allowed_hosts?,
            allowed_origins: allowed_origins?,
            allowed_uids: allowed_uids?,
            required_header,
            paths,
        })
    }

    fn limits(&mut self, raw: &raw::Listen) -> Option<Limits> {
        let max_connections = self.read(&raw.max_connections);
        let header_timeout = self.read(&raw.header_timeout);
        let idle_timeout = self.read(&raw.idle_timeout);
        let write_timeout = self.read(&raw.write_timeout);
        Some(Limits {
            max_connections: max_connections?,
            header_timeout: header_timeout?,
            idle_timeout: idle_timeout?,
            write_timeout: write_timeout?,
        })
    }

    /// Two listeners cannot stand in one place.
    pub(super) fn listeners_apart(&mut self, listen: &Listen, admin: &Address, raw: &raw::Admin) {
        if listen.addresses.iter().any(|address| collide(address, admin)) {
            let wrong = Wrong::is("is where the proxy itself listens").instead("give it a port of its own");
            self.refuse(&raw.address, wrong);
        }
    }
    /// An upstream that is the proxy itself gets every request back. Names are resolved when they are dialled, and
    /// looked at then.
    pub(super) fn upstream_apart(&mut self, listen: &Listen, url: &Url, raw: &Field<RootUrl>) {
        if let Some(upstream) = dialled(url)
            && listen.addresses.iter().any(|address| collide(address, &upstream))
        {
            let wrong = Wrong::is("is where the proxy itself listens, so that every request would come back")
                .instead("write the URL of the account at Fluent");
            self.refuse(raw, wrong);
        }
    }
}

/// Where a URL leads, if that can be read off it.
fn dialled(url: &Url) -> Option<Address> {
    let port = url.port_or_known_default()?;
    match url.host()? {
        Host::Domain(name) => (name == "localhost").then_some(Address::Localhost(port)),
        Host::Ipv4(ip) => Some(Address::Tcp((ip, port).into())),
        Host::Ipv6(ip) => Some(Address::Tcp((ip, port).into())),
    }
}

fn is_local(address: &Address) -> bool {
    match address {
        Address::Localhost(_) | Address::Unix(_) | Address::Systemd => true,
        Address::Tcp(address) => address.ip().is_loopback(),
    }
}

/// Whether a browser on this machine reaches it, and none elsewhere.
fn is_loopback(address: &Address) -> bool {
    match address {
        Address::Localhost(_) => true,
        Address::Tcp(address) => address.ip().is_loopback(),
        // No browser speaks to the one, and where the other listens its unit says.
        Address::Unix(_) | Address::Systemd => false,
    }
}

fn collide(one: &Address, other: &Address) -> bool {
    let (Some((one_port, one)), Some((other_port, other))) = (place(one), place(other)) else {
        return false;
    };
    let same = |a: Option<IpAddr>, b: Option<IpAddr>| match (a, b) {
        (Some(a), Some(b)) => {
            a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
        }
        (None, Some(ip)) | (Some(ip), None) => {
            ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST || ip.is_unspecified()
        }
        (None, None) => true,
    };
    // Port 0 is a free one each time.
    one_port == other_port && one_port != 0 && same(one, other)
}

/// Port and address; no address for `localhost`, which has two.
fn place(address: &Address) -> Option<(u16, Option<IpAddr>)> {
    match address {
        Address::Localhost(port) => Some((*port, None)),
        Address::Tcp(address) => Some((address.port(), Some(address.ip()))),
        Address::Unix(_) | Address::Systemd => None,
    }
}
