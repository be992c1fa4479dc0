//! A client that is never off its guard.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// A body of a request, of whatever kind.
pub(crate) type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// A request; `Host` is set where it is missing.
pub(crate) type Request = http::Request<Body>;

/// Talks to one address, with a connection of its own for each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(&'static Path),
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A body of known bytes.
pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

/// A POST whose body is sent bit by bit, and the hand that sends it.
pub(crate) fn streamed(path: &str) -> (Sender<Bytes, std::io::Error>, Request) {
    let (sender, body) = Channel::new(1);
    let request = http::Request::post(path).header("content-type", "application/octet-stream");
    let request = request.body(body.map_err(Into::into).boxed()).unwrap();
    (sender, request)
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let place = Place::Tcp(address);
        Self { place }
    }

    /// A client of a Unix socket, which says nothing of a host by itself. The path is not given back.
    pub(crate) fn unix(path: &Path) -> Self {
        let place = Place::Unix(Box::leak(path.to_owned().into_boxed_path()));
        Self { place }
    }

    /// Sends a GraphQL query as most clients do.
    pub(crate) async fn graphql(self, query: &str) -> Answer {
        self.post("/graphql", serde_json::json!({ "query": query }).to_string())
            .await
    }

    /// POSTs JSON.
    pub(crate) async fn post(self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = http::Request::post(path).header("content-type", "application/json");
        self.send(request.body(full(body)).unwrap()).await
    }

    pub(crate) async fn get(self, path: &str) -> Answer {
        self.send(http::Request::get(path).body(full("")).unwrap()).await
    }

    /// Sends a request and reads the answer.
    pub(crate) async fn send(self, request: Request) -> Answer {
        self.try_send(request).await.unwrap()
    }

    /// Sends a request; an error where the connection dies before the answer's end.
    pub(crate) async fn try_send(self, request: Request) -> Result<Answer, hyper::Error> {
        let head = request.method() == Method::HEAD;
        let response = self.head(request).await?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            body: collected.to_bytes(),
            trailers,
        };
        answer.check(head);
        Ok(answer)
    }

    /// Sends a request and returns with the head of the answer, unchecked; its body is still to come.
    pub(crate) async fn head(
        self,
        mut request: Request,
    ) -> Result<http::Response<hyper::body::Incoming>, hyper::Error> {
        let stream = match self.place {
            Place::Tcp(address) => {
                let host = format!("localhost:{}", address.port());
                let headers = request.headers_mut();
                headers.entry("host").or_insert(host.parse().unwrap());
                Either::Left(TcpStream::connect(address).await.unwrap())
            }
            Place::Unix(path) => Either::Right(UnixStream::connect(path).await.unwrap()),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    }
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", String::from_utf8_lossy(&self.body)))
    }

    /// The code of an answer that the proxy made itself.
    pub(crate) fn code(&self) -> Option<String> {
        self.headers.get("proxy-status")?;
        Some(
            self.json()["errors"][0]["extensions"]["code"]
                .as_str()?
                .to_owned(),
        )
    }

    /// Fails unless the proxy itself answered so.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, code: &str) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(
            (self.status.as_u16(), self.code().as_deref()),
            (status, Some(code)),
            "{body}"
        );
    }

    /// Fails unless Fluent answered 200 without errors.
    #[track_caller]
    pub(crate) fn assert_good(&self) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, self.code()), (StatusCode::OK, None), "{body}");
        assert!(self.json().get("errors").is_none(), "{body}");
    }

    /// Fails where a secret came out, or the proxy's own answer has not its shape.
    pub(crate) fn check(&self, head: bool) {
        super::assert_clean(&self.body, "a body");
        let headers = [Some(&self.headers), self.trailers.as_ref()];
        for (name, value) in headers.into_iter().flatten().flatten() {
            super::assert_clean(value.as_bytes(), name.as_str());
        }
        for name in ["set-cookie", "authorization", "connection-token"] {
            assert!(!self.headers.contains_key(name), "{name} on an answer");
        }
        if let Some(word) = self.headers.get("proxy-status") {
            let word = word.to_str().unwrap();
            assert!(word.starts_with("fluent-auth-proxy; error="), "{word}");
            if !head {
                self.check_own();
            }
        }
    }

    /// The shape of an answer that the proxy makes itself.
    fn check_own(&self) {
        let media = self.headers["content-type"].to_str().unwrap();
        assert!(
            ["application/json", "application/graphql-response+json"].contains(&media),
            "{media}"
        );
        let json = self.json();
        let error = &json["errors"][0];
        let id = self.headers["x-request-id"].to_str().unwrap();
        assert_eq!(json.as_object().unwrap().len(), 1);
        assert_eq!(json["errors"].as_array().unwrap().len(), 1);
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| message.ends_with('.'))
        );
        assert!(error["extensions"]["code"].is_string());
        assert_eq!(error["extensions"]["requestId"], id);
        assert_ne!(
            self.status,
            StatusCode::UNAUTHORIZED,
            "the proxy never makes a 401"
        );
    }
}
