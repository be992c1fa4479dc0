//! Paths that only tests use, under `/api/v4.1/`; the bearer is checked like everywhere.
//!
//! 1. `echo` (any method) tells what came: method, raw path and query, headers in order, length and digest of
//!    the body, trailers. Values of secret headers are left out, since answers go to callers.
//! 2. `download?bytes=N` streams N bytes, byte i being `(i mod 65536) mod 251`; `&chunked=1` without a length,
//!    `&trailers=1` with the trailer `x-checksum` (where the client said `TE: trailers`), `&gzip=1` compressed.
//!    The checksum is of the bytes before compression.
//! 3. `upload` (POST) counts the body; `duplex` (POST) answers with its head at once and sends back each chunk
//!    as it comes; `status/CODE` answers with this status.
//! 4. Nothing is held: memory stays flat whatever the size.

use crate::body::hex;
use crate::pipeline::{Caller, error, status};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

const CHUNK: usize = 64 * 1024;
const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum");

/// What downloads consist of.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| (0..=250).cycle().take(CHUNK).collect::<Vec<u8>>().into());

/// The routes of the test-only paths.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/api/v4.1/echo", any(echo))
        .route("/api/v4.1/download", get(download))
        .route("/api/v4.1/upload", post(upload))
        .route("/api/v4.1/duplex", post(duplex))
        .route(
            "/api/v4.1/status/{code}",
            any(async |Path(code): Path<u16>| status(code, None, None)),
        )
}

async fn echo(Extension(caller): Extension<Caller>, body: Body) -> Response {
    if drain(body).await.is_err() {
        return error(StatusCode::BAD_REQUEST, "400", "The body did not come whole");
    }
    let request = caller.ticket.snapshot();
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.target.as_str(), None),
    };
    Json(json!({
        "method": request.method.as_str(),
        "path": path,
        "query": query,
        "version": format!("{:?}", request.version),
        "headers": list(&request.headers),
        "length": request.body.length,
        "sha256": request.body.sha256,
        "trailers": request.body.trailers.as_ref().map(list),
    }))
    .into_response()
}

async fn upload(Extension(caller): Extension<Caller>, body: Body) -> Response {
    if drain(body).await.is_err() {
        return error(StatusCode::BAD_REQUEST, "400", "The body did not come whole");
    }
    let body = caller.ticket.snapshot().body;
    Json(json!({"length": body.length, "sha256": body.sha256})).into_response()
}

async fn duplex(body: Body) -> Response {
    (
        [(header::CONTENT_TYPE, "application/octet-stream")],
        Body::new(Unsized(body)),
    )
        .into_response()
}

#[derive(Deserialize)]
struct Wanted {
    bytes: u64,
    chunked: Option<u8>,
    trailers: Option<u8>,
    gzip: Option<u8>,
}

async fn download(Query(wanted): Query<Wanted>) -> Response {
    let on = |switch: Option<u8>| switch == Some(1);
    let gzip = on(wanted.gzip).then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    let digest = on(wanted.trailers).then(|| Digest::new(&SHA256));
    let sized = gzip.is_none() && digest.is_none() && !on(wanted.chunked);
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    if gzip.is_some() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if digest.is_some() {
        headers.insert(header::TRAILER, HeaderValue::from_name(CHECKSUM));
    }
    let download = Download {
        left: wanted.bytes,
        gzip,
        digest,
    };
    let body = if sized {
        Body::new(download)
    } else {
        Body::new(Unsized(Body::new(download)))
    };
    (headers, body).into_response()
}

/// Bytes that are made as they are sent.
struct Download {
    left: u64,
    gzip: Option<GzEncoder<Vec<u8>>>,
    digest: Option<Digest>,
}

impl Download {
    fn next(&mut self) -> io::Result<Option<Frame<Bytes>>> {
        while self.left > 0 {
            let size = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
            let chunk = PATTERN.slice(..size);
            self.left -= size as u64;
            if let Some(digest) = &mut self.digest {
                digest.update(&chunk);
            }
            let Some(gzip) = &mut self.gzip else {
                return Ok(Some(Frame::data(chunk)));
            };
            gzip.write_all(&chunk)?;
            if !gzip.get_ref().is_empty() {
                return Ok(Some(Frame::data(std::mem::take(gzip.get_mut()).into())));
            }
        }
        if let Some(gzip) = self.gzip.take() {
            return Ok(Some(Frame::data(gzip.finish()?.into())));
        }
        let Some(digest) = self.digest.take() else {
            return Ok(None);
        };
        let checksum = HeaderValue::try_from(hex(digest.finish().as_ref())).map_err(io::Error::other)?;
        Ok(Some(Frame::trailers(HeaderMap::from_iter([(
            CHECKSUM, checksum,
        )]))))
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.next().transpose())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body that does not say how long it is, nor that it is at its end.
struct Unsized(Body);

impl http_body::Body for Unsized {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_frame(cx)))
    }
}

async fn drain(mut body: Body) -> Result<(), axum::Error> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// Names and values in order, without the values that are secret.
fn list(headers: &HeaderMap) -> Vec<[Value; 2]> {
    let value = |value: &HeaderValue| {
        if value.is_sensitive() {
            json!("***")
        } else {
            String::from_utf8_lossy(value.as_bytes()).into()
        }
    };
    headers
        .iter()
        .map(|(name, given)| [json!(name.as_str()), value(given)])
        .collect()
}
