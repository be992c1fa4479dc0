//! The pages for people, whole from the program.
//!
//! 1. Everything is in the program: a page needs neither a disk nor a network beside its own listener.
//! 2. Nothing but what came from this listener runs or styles on a page: the policy knows no exception for what stands
//!    inline. No other page may frame it or read what it is made of.
//! 3. A browser asks again each time and is told when it has the same bytes already, so that a new program is
//!    seen at once.
//! 4. Large files are kept compressed, and handed out so to whoever takes that. For the others each is unpacked
//!    once, and shared: any number of slow readers holds one copy.
//!
//! What is other people's work stands in `assets/vendor`, with its licences, its digests, and the script that makes
//! it again; cargo runs no npm.

pub mod dashboard;
pub mod graphiql;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::OnceLock;

use axum::body::Body;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest, Sha256};

/// Rule 2. Images in style sheets are written out in them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of a page, as the program holds it.
#[derive(Clone, Copy, Debug)]
struct Asset {
    path: &'static str,
    media_type: &'static str,
    form: Form,
    bytes: &'static [u8],
}

/// How bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
}

/// The files of a listener's pages, by their paths.
#[derive(Debug)]
pub struct Pages(BTreeMap<&'static str, File>);

/// One file, ready to be served.
#[derive(Debug)]
struct File {
    media_type: &'static str,
    form: Form,
    bytes: Bytes,
    /// What compressed bytes unpack to, once somebody wanted it.
    unpacked: OnceLock<Bytes>,
    /// A weak one, as it is the same for both forms.
    tag: HeaderValue,
}

impl Asset {
    const fn plain(path: &'static str, media_type: &'static str, bytes: &'static [u8]) -> Self {
        let form = Form::Plain;
        Self {
            path,
            media_type,
            form,
            bytes,
        }
    }

    const fn gzip(path: &'static str, media_type: &'static str, bytes: &'static [u8]) -> Self {
        let form = Form::Gzip;
        Self {
            path,
            media_type,
            form,
            bytes,
        }
    }
}

impl Pages {
    fn new(assets: &[Asset]) -> Self {
        let file = |asset: &Asset| {
            let bytes = Bytes::from_static(asset.bytes);
            (asset.path, File::new(asset.media_type, asset.form, bytes))
        };
        Self(assets.iter().map(file).collect())
    }

    /// Answers a GET or HEAD of the file at `path`, if there is one.
    #[must_use]
    pub fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        self.0.get(path).map(|file| file.answer(method, headers))
    }
}

impl File {
    fn new(media_type: &'static str, form: Form, bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes);
        let tag = format!("W/\"{}\"", hex(&digest));
        Self {
            media_type,
            form,
            bytes,
            unpacked: OnceLock::new(),
            tag: HeaderValue::try_from(tag).unwrap_or_else(|_| HeaderValue::from_static("W/\"\"")),
        }
    }

    fn answer(&self, method: &Method, headers: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let fields = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (CACHE_CONTROL, "no-cache"),
            (VARY, "accept-encoding"),
        ];
        for (name, value) in fields {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response.headers_mut().insert(ETAG, self.tag.clone());
        if self.is_known_to(headers) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let compressed = self.form == Form::Gzip && takes_gzip(headers);
        let bytes = if compressed {
            Ok(self.bytes.clone())
        } else {
            self.plain()
        };
        let Ok(bytes) = bytes else {
            // Not with the files that the tests have read.
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        };
        let fields = response.headers_mut();
        if compressed {
            fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        if *method != Method::HEAD {
            *response.body_mut() = Body::from(bytes);
        }
        response
    }

    fn plain(&self) -> io::Result<Bytes> {
        match self.form {
            Form::Plain => Ok(self.bytes.clone()),
            Form::Gzip => {
                if let Some(unpacked) = self.unpacked.get() {
                    return Ok(unpacked.clone());
                }
                let mut unpacked = Vec::new();
                GzDecoder::new(&*self.bytes).read_to_end(&mut unpacked)?;
                Ok(self.unpacked.get_or_init(|| unpacked.into()).clone())
            }
        }
    }

    /// Rule 3.
    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        members(headers, IF_NONE_MATCH).any(|tag| tag == "*" || tag.as_bytes() == self.tag.as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Rule 4. Who says nothing may be a person with `curl`, and gets text.
fn takes_gzip(headers: &HeaderMap) -> bool {
    members(headers, ACCEPT_ENCODING).any(|member| {
        let (coding, weight) = member.split_once(';').unwrap_or((member, ""));
        let zero = weight.trim().strip_prefix("q=");
        let zero = zero.is_some_and(|weight| weight.chars().all(|c| matches!(c, '0' | '.')));
        coding.trim_end().eq_ignore_ascii_case("gzip") && !zero
    })
}

/// The parts of a header that is a list.
fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests;
