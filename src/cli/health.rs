//! `health`: asks the running proxy how it is, without shell or curl.
//!
//! 1. The address is that of `admin.address`; where that is every address, loopback is asked.
//! 2. The settings are read for that address alone: whoever asks needs no credentials.
//! 3. All of it ends within [`PATIENCE`], so that a probe never piles up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::server::Address;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Why the proxy is not well.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWell {
    /// There is no admin listener that could be asked.
    #[error("there is nobody to ask: admin.address is {0}")]
    Nobody(&'static str),
    /// Nobody answers.
    #[error("the proxy does not answer at {0}: it is not running, or its admin.address is another")]
    Silent(String),
    /// It did not answer in time.
    #[error("the proxy did not answer at {0} within {limit} seconds", limit = PATIENCE.as_secs())]
    Slow(String),
    /// It says that it is not well.
    #[error("{0}")]
    Says(String),
    /// Somebody else answers.
    #[error("what answers at {0} is not this proxy: status {status}", status = .1.as_u16())]
    Stranger(String, StatusCode),
}

/// Asks for `path` at the admin listener that stands at `address`.
pub(super) async fn ask(address: Option<&Address>, path: &str) -> Result<(), NotWell> {
    let addresses = reachable(address)?;
    let place = addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" or ");
    match tokio::time::timeout(PATIENCE, get(&addresses, path)).await {
        Err(_) => Err(NotWell::Slow(place)),
        Ok(Err(_)) => Err(NotWell::Silent(place)),
        Ok(Ok((StatusCode::OK, _))) => Ok(()),
        Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, body))) => Err(NotWell::Says(reason(&body))),
        Ok(Ok((status, _))) => Err(NotWell::Stranger(place, status)),
    }
}

/// Rule 1.
fn reachable(address: Option<&Address>) -> Result<Vec<SocketAddr>, NotWell> {
    let addresses = match address {
        Some(Address::Localhost(port)) => vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, *port)),
        ],
        Some(Address::Tcp(address)) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
            };
            vec![SocketAddr::from((ip, address.port()))]
        }
        Some(Address::Unix(_) | Address::Systemd) => return Err(NotWell::Nobody("no TCP address")),
        None => return Err(NotWell::Nobody("\"none\"")),
    };
    if addresses.iter().any(|address| address.port() == 0) {
        return Err(NotWell::Nobody("a port that the system chooses (0)"));
    }
    Ok(addresses)
}

async fn get(
    addresses: &[SocketAddr],
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(addresses).await?;
    let host = stream.peer_addr()?.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
        Ok((head.status, body))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

/// What the proxy gives as its reason, fit for a terminal.
fn reason(body: &[u8]) -> String {
    let page: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let reason = page.get("reason").and_then(serde_json::Value::as_str);
    let text = reason.unwrap_or("it does not say why");
    format!("the proxy is not ready: {}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(address: &str) -> Vec<String> {
        let address = Address::Tcp(address.parse().unwrap());
        let addresses = reachable(Some(&address)).unwrap();
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_address_means_loopback() {
        assert_eq!(asked("0.0.0.0:81"), ["127.0.0.1:81"]);
        assert_eq!(asked("[::]:81"), ["[::1]:81"]);
        assert_eq!(asked("10.1.2.3:81"), ["10.1.2.3:81"]);
    }

    #[test]
    fn without_an_address_nobody_is_asked() {
        for address in [None, Some(&Address::Localhost(0))] {
            assert!(matches!(reachable(address), Err(NotWell::Nobody(_))));
        }
    }
}
