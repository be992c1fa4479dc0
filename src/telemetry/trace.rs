//! Traces: where the time of a request went, for who follows it through many programs.
//!
//! 1. Off, no span is made, and a caller's `traceparent` passes as it came.
//! 2. On, a request is a span whose parent is the caller's (W3C Trace Context), or the first of its trace. Below it
//!    stand its wait for a token and each attempt; Fluent gets the span of the attempt as its parent.
//! 3. A login is a trace of its own: many requests may wait for one login, and some logins nobody waits for.
//! 4. Names and attributes are those of OpenTelemetry's conventions for HTTP; ours begin with `fluent_auth_proxy.`.
//!    No query string, no body, no value of a header but the request's id, no text of the token endpoint.
//! 5. A span ends with its last handle. What spans cost is paid for requests that are sampled.

use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use url::Url;

use super::{CALLER_GONE, Exchange, clip};
use crate::name::Name;

/// Vendors' own data beside `traceparent`.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Makes spans, or none where traces are off.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<SdkTracer>);

/// A span under way, or none.
#[derive(Debug, Default)]
pub struct Span(Option<Live>);

#[derive(Debug)]
struct Live {
    tracer: SdkTracer,
    context: Context,
}

impl Tracer {
    pub(crate) fn new(tracer: SdkTracer) -> Self {
        Self(Some(tracer))
    }

    /// The span of a request whose head was just read.
    #[must_use]
    pub fn request(&self, method: &Method, uri: &Uri, version: Version, headers: &HeaderMap) -> Span {
        let Some(tracer) = &self.0 else {
            return Span::default();
        };
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let attributes = vec![
            method_attribute(method),
            KeyValue::new("url.scheme", "http"),
            KeyValue::new("url.path", clip(uri.path()).to_owned()),
            version_attribute(version),
        ];
        Span::start(
            tracer,
            &parent,
            known_method(method).unwrap_or("HTTP"),
            SpanKind::Server,
            attributes,
        )
    }

    /// The span of a login.
    #[must_use]
    pub fn login(&self, endpoint: &Url, grant: &'static str) -> Span {
        let Some(tracer) = &self.0 else {
            return Span::default();
        };
        let mut attributes = vec![
            method_attribute(&Method::POST),
            KeyValue::new(
                "url.full",
                format!("{}{}", &endpoint[..url::Position::BeforeUsername], rest(endpoint)),
            ),
            KeyValue::new("fluent_auth_proxy.grant", grant),
        ];
        attributes.extend(server(endpoint.host_str(), endpoint.port_or_known_default()));
        Span::start(tracer, &Context::new(), "login", SpanKind::Client, attributes)
    }
}

/// What follows the scheme and the credentials of a URL, without its query.
fn rest(url: &Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::AfterPath]
}

impl Span {
    fn start(
        tracer: &SdkTracer,
        parent: &Context,
        name: &'static str,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let builder = tracer
            .span_builder(name)
            .with_kind(kind)
            .with_attributes(attributes);
        let span = tracer.build_with_context(builder, parent);
        Self(Some(Live {
            tracer: tracer.clone(),
            context: parent.with_span(span),
        }))
    }

    /// A request's wait for a token.
    #[must_use]
    pub fn wait_for_token(&self) -> Self {
        let Some(live) = &self.0 else {
            return Self::default();
        };
        Self::start(
            &live.tracer,
            &live.context,
            "wait for a token",
            SpanKind::Internal,
            Vec::new(),
        )
    }

    /// A request's attempt, the `nth` one from 1 on, to send what goes to `uri` by `method`.
    #[must_use]
    pub fn attempt(&self, method: &Method, uri: &Uri, nth: u32) -> Self {
        let Some(live) = &self.0 else {
            return Self::default();
        };
        let full = format!(
            "{}://{}{}",
            uri.scheme_str().unwrap_or_default(),
            uri.authority().map_or("", http::uri::Authority::as_str),
            clip(uri.path())
        );
        let mut attributes = vec![method_attribute(method), KeyValue::new("url.full", full)];
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            Some(_) | None => None,
        });
        attributes.extend(server(uri.host(), port));
        if nth > 1 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::from(nth - 1)));
        }
        let name = known_method(method).unwrap_or("HTTP");
        Self::start(&live.tracer, &live.context, name, SpanKind::Client, attributes)
    }

    /// Tells who gets this request that this span is its parent (rule 2).
    pub fn hand_on(&self, headers: &mut HeaderMap) {
        let Some(live) = &self.0 else { return };
        TraceContextPropagator::new().inject_context(&live.context, &mut HeaderInjector(headers));
        // The library writes an empty one where there is nothing to say.
        if headers.get(TRACESTATE).is_some_and(http::HeaderValue::is_empty) {
            headers.remove(TRACESTATE);
        }
    }

    /// An answer came.
    pub fn answered(&self, status: StatusCode) {
        let Some(live) = &self.0 else { return };
        let span = live.context.span();
        span.set_attribute(status_attribute(status));
        if status.is_client_error() || status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_u16().to_string()));
            span.set_status(Status::error(""));
        }
    }

    /// No answer came, and why, in a word of a closed set.
    pub fn failed(&self, why: &'static str) {
        let Some(live) = &self.0 else { return };
        let span = live.context.span();
        span.set_attribute(KeyValue::new("error.type", why));
        span.set_status(Status::error(""));
    }

    /// The request has ended, as `exchange` tells, after `bytes` of its answer.
    pub(super) fn end(&self, exchange: &Exchange, bytes: u64) {
        let Some(live) = &self.0 else { return };
        let span = live.context.span();
        if !span.is_recording() {
            return;
        }
        let code = exchange.failure.as_ref().map(|failure| failure.code);
        // That status was never sent.
        if code != Some(CALLER_GONE) {
            span.set_attribute(status_attribute(exchange.status));
        }
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        span.set_attribute(KeyValue::new(
            "http.request.body.size",
            whole(exchange.bytes_in.bytes()),
        ));
        span.set_attribute(KeyValue::new("http.response.body.size", whole(bytes)));
        let id = exchange.request_id.to_str().unwrap_or_default();
        span.set_attribute(KeyValue::new("fluent_auth_proxy.request_id", id.to_owned()));
        for (key, name) in [
            ("fluent_auth_proxy.instance", &exchange.instance),
            ("fluent_auth_proxy.user", &exchange.user),
        ] {
            if let Some(name) = name.as_ref().map(Name::as_str) {
                span.set_attribute(KeyValue::new(key, name.to_owned()));
            }
        }
        if let Some(operation) = &exchange.operation {
            span.set_attribute(KeyValue::new("graphql.operation.type", operation.kind.as_str()));
            if let Some(name) = operation.name.as_deref() {
                span.set_attribute(KeyValue::new("graphql.operation.name", clip(name).to_owned()));
            }
        }
        let failed = exchange.status.is_server_error();
        match code {
            Some(code) => span.set_attribute(KeyValue::new("error.type", code)),
            None if failed => {
                span.set_attribute(KeyValue::new("error.type", exchange.status.as_u16().to_string()));
            }
            None => {}
        }
        // What a caller did wrong is no error of this program.
        if failed {
            span.set_status(Status::error(""));
        }
    }
}

fn status_attribute(status: StatusCode) -> KeyValue {
    KeyValue::new("http.response.status_code", i64::from(status.as_u16()))
}

fn server(host: Option<&str>, port: Option<u16>) -> impl Iterator<Item = KeyValue> {
    let host = host.map(|host| KeyValue::new("server.address", host.to_owned()));
    let port = port.map(|port| KeyValue::new("server.port", i64::from(port)));
    host.into_iter().chain(port)
}

/// Methods may be any word: those that nobody knows are one to the conventions.
fn method_attribute(method: &Method) -> KeyValue {
    KeyValue::new("http.request.method", known_method(method).unwrap_or("_OTHER"))
}

fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

fn version_attribute(version: Version) -> KeyValue {
    let version = match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    KeyValue::new("network.protocol.version", version)
}
