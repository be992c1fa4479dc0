//! A tunnel through an HTTP proxy (RFC 9110, section 9.3.6).

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};

use crate::unreachable::{Because, BoxError, Unreachable};

/// Asks the proxy at the other end of `stream` for a tunnel to `target`, and gives the stream back once it is one.
///
/// # Errors
/// When the proxy refuses, or does not talk HTTP.
pub(super) async fn tunnel<S>(
    stream: S,
    target: &Uri,
    authorization: Option<HeaderValue>,
) -> Result<S, Because>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let request = connect(target, authorization).ok_or_else(|| because(Unreachable::Proxy, None))?;
    let broken = |error: hyper::Error| because(Unreachable::Proxy, Some(error.into()));
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    // The sender goes with the answer's head: where there is no tunnel, the connection ends with it.
    let ask = async move { Ok(sender.send_request(request).await?.status()) };
    let (status, connection) = tokio::join!(ask, connection.without_shutdown());
    let status: StatusCode = status.map_err(broken)?;
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(because(Unreachable::ProxyCredentials, None));
    }
    if !status.is_success() {
        return Err(because(Unreachable::ProxyRefused(status), None));
    }
    let parts = connection.map_err(broken)?;
    // The target waits for our first byte: what came already is nobody's.
    if parts.read_buf.is_empty() {
        Ok(parts.io)
    } else {
        Err(because(Unreachable::Proxy, None))
    }
}

fn connect(target: &Uri, authorization: Option<HeaderValue>) -> Option<Request<Empty<Bytes>>> {
    let default = if target.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let authority = format!("{}:{}", target.host()?, target.port_u16().unwrap_or(default));
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&authority)
        .header(header::HOST, &authority);
    if let Some(authorization) = authorization {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    request.body(Empty::new()).ok()
}

fn because(why: Unreachable, source: Option<BoxError>) -> Because {
    Because { why, source }
}
