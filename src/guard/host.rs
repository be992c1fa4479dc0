//! Rule 2 of the guard: the host that a request names is this proxy.
//!
//! 1. A host is named once: by `Host`, or by the target itself (absolute form; `:authority` on HTTP/2). Where
//!    both name one they name the same. None, or two `Host` headers, is no name, on every HTTP version.
//! 2. What follows the name is nothing, or `:` and a port of 1 to 5 digits, any port.
//! 3. Allowed are exactly: `localhost`, `127.0.0.1`, `[::1]`, the names of `listen.allowed_hosts`, and an address
//!    equal to the one at our end of the connection. Upper and lower case are one; IPv6 may be written in any
//!    of its standard forms.
//! 4. So these are not: `localhost.` with a final dot, names below `localhost`, addresses in the forms of
//!    `inet_aton` (`2130706433`, `0x7f.1`, `127.1`), other addresses of 127.0.0.0/8 than the connection's own,
//!    IPv4 dressed as IPv6, a zone (`%eth0`), userinfo.
//!
//! An address is as good as a name, as no foreign page can be served under it: there is nothing to rebind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, Uri, header};

use super::Rejection;
use super::headers::sole;

/// The names and addresses of `listen.allowed_hosts`.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// A host as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host<'a> {
    Name(&'a str),
    Address(IpAddr),
}

impl Hosts {
    /// Takes names, and addresses with or without the brackets of IPv6.
    pub(super) fn new(allowed: &[String]) -> Self {
        let mut hosts = Self {
            names: Vec::new(),
            addresses: Vec::new(),
        };
        for entry in allowed {
            match entry
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<IpAddr>()
            {
                Ok(address) => hosts.addresses.push(address),
                Err(_) => hosts.names.push(entry.clone()),
            }
        }
        hosts
    }

    /// The host and port as the request wrote them, if they name this proxy.
    pub(super) fn admit<'a>(
        &self,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        local: SocketAddr,
    ) -> Result<&'a str, Rejection> {
        let named = named(uri, headers)?;
        let allowed = match split(named) {
            Some(Host::Name(name)) => {
                name.eq_ignore_ascii_case("localhost")
                    || self.names.iter().any(|listed| listed.eq_ignore_ascii_case(name))
            }
            Some(Host::Address(address)) => {
                address == IpAddr::V4(Ipv4Addr::LOCALHOST)
                    || address == IpAddr::V6(Ipv6Addr::LOCALHOST)
                    || address == local.ip().to_canonical()
                    || self.addresses.contains(&address)
            }
            None => false,
        };
        if allowed {
            Ok(named)
        } else {
            Err(Rejection::HostNotAllowed)
        }
    }
}

/// The host and port that the request names, unread.
pub(super) fn named<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Rejection> {
    let target = uri.authority().map(http::uri::Authority::as_str);
    let header = sole(headers, &header::HOST).and_then(|value| value.to_str().ok());
    match (target, header) {
        (Some(target), Some(header)) if target.eq_ignore_ascii_case(header) => Ok(header),
        (None, Some(header)) => Ok(header),
        (Some(target), None) if !headers.contains_key(header::HOST) => Ok(target),
        (Some(_) | None, Some(_) | None) => Err(Rejection::HostNotAllowed),
    }
}

/// Parts the host from the port. What is no host at all becomes a name that nobody lists.
fn split(named: &str) -> Option<Host<'_>> {
    if let Some(bracketed) = named.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let address = address.parse::<Ipv6Addr>().ok()?;
        let follows = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return follows.then_some(Host::Address(IpAddr::V6(address)));
    }
    let host = match named.split_once(':') {
        Some((host, port)) => is_port(port).then_some(host)?,
        None => named,
    };
    Some(match host.parse::<Ipv4Addr>() {
        Ok(address) => Host::Address(IpAddr::V4(address)),
        Err(_) => Host::Name(host),
    })
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 5 && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judge(target: &str, hosts: &[&str], local: &str) -> Result<(), Rejection> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        let allowed = ["proxy.internal", "fd00::7", "[fd00::8]", "192.0.2.7"].map(str::to_owned);
        Hosts::new(&allowed)
            .admit(&target.parse().unwrap(), &headers, local.parse().unwrap())
            .map(|_| ())
    }

    fn host(host: &str) -> Result<(), Rejection> {
        judge("/graphql", &[host], "10.1.2.3:4280")
    }

    #[test]
    fn rule_1_a_host_is_named_once() {
        let local = "127.0.0.1:4280";
        for (target, hosts) in [
            ("/", &[][..]),
            ("*", &[]),
            ("/", &["localhost", "localhost"]),
            ("http://localhost/", &["localhost", "localhost"]),
            ("http://localhost/", &["localhost:4280"]),
            ("http://localhost/", &["evil.example"]),
            ("http://evil.example/", &["localhost"]),
            ("http://evil.example/", &[]),
            ("http://localhost@evil.example/", &["localhost"]),
            ("http://user@localhost/", &["user@localhost"]),
            ("http://user@localhost/", &[]),
            ("evil.example:80", &["localhost"]),
        ] {
            assert_eq!(
                judge(target, hosts, local),
                Err(Rejection::HostNotAllowed),
                "{target} {hosts:?}"
            );
        }
        assert_eq!(
            judge("http://localhost:4280/", &["LocalHost:4280"], local),
            Ok(())
        );
        assert_eq!(judge("http://localhost:4280/", &[], local), Ok(()));
        assert_eq!(judge("https://localhost/", &[], local), Ok(()));
    }

    #[test]
    fn a_host_of_foreign_bytes_is_no_host() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_bytes(b"localhost\xff").unwrap());
        for target in ["/", "http://localhost/"] {
            assert!(named(&target.parse().unwrap(), &headers).is_err());
        }
    }

    #[test]
    fn rule_2_any_port_and_nothing_else_follows() {
        for good in ["localhost:1", "127.0.0.1:65535", "[::1]:4280", "localhost:00080"] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for bad in [
            "localhost:",
            "localhost:65536",
            "localhost:+80",
            "localhost:80:80",
            "localhost:80a",
            "localhost: 80",
            "localhost:000080",
            "[::1]80",
            "[::1]:",
            "[::1",
            "::1",
            "[::1]]",
            "localhost/",
            "localhost#",
            "localhost?",
            "localhost\\",
            "localhost,localhost",
            "localhost localhost",
            "http://localhost",
        ] {
            assert_eq!(host(bad), Err(Rejection::HostNotAllowed), "{bad}");
        }
    }

    #[test]
    fn rule_3_loopback_listed_and_own_hosts_are_allowed() {
        for good in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "proxy.internal",
            "Proxy.Internal:80",
            "[FD00::7]",
            "[fd00::8]:1",
            "192.0.2.7",
            "10.1.2.3",
            "10.1.2.3:9",
        ] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        assert_eq!(judge("/", &["127.0.0.9"], "127.0.0.9:1"), Ok(()));
        assert_eq!(judge("/", &["10.9.9.9"], "[::ffff:10.9.9.9]:1"), Ok(()));
        assert_eq!(judge("/", &["[fe80::1]"], "[fe80::1%3]:1"), Ok(()));
    }

    #[test]
    fn rule_4_nothing_that_looks_like_them_is() {
        for bad in [
            "",
            ".",
            "localhost.",
            "localhost.evil.example",
            "evil-localhost",
            "evil.localhost",
            "localhost.localdomain",
            "localhosta",
            "127.0.0.1.nip.io",
            "127.0.0.1.",
            "127.0.0.2",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.01",
            "0",
            "0.0.0.0",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::1%25lo]",
            "[::1%lo]",
            "[localhost]",
            "[127.0.0.1]",
            "user@localhost",
            "localhost@evil.example",
            "localhost%2e",
            "proxy.internal.",
            "a.proxy.internal",
            "proxy.internal.evil.example",
            "192.0.2.8",
            "10.1.2.4",
            "lоcalhost-xn",
        ] {
            if let Ok(value) = HeaderValue::from_bytes(bad.as_bytes()) {
                let mut headers = HeaderMap::new();
                headers.insert(header::HOST, value);
                let hosts = Hosts::new(&["proxy.internal".to_owned(), "192.0.2.7".to_owned()]);
                let local = "10.1.2.3:4280".parse().unwrap();
                let judged = hosts.admit(&"/graphql".parse().unwrap(), &headers, local).err();
                assert_eq!(judged, Some(Rejection::HostNotAllowed), "{bad}");
            }
        }
    }
}
