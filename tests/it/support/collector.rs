//! A collector of traces: what OTLP brings, decoded, and searched for secrets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What came, as it came.
type Bodies = Arc<Mutex<Vec<Bytes>>>;

/// Takes spans, until the runtime ends.
pub(crate) struct Collector {
    address: SocketAddr,
    bodies: Bodies,
}

/// A span, and who made it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) service: Value,
    pub(crate) attributes: BTreeMap<String, Value>,
    pub(crate) span: Span,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Bodies::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&bodies));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, bodies }
    }

    /// Its root.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The settings that send traces to it.
    pub(crate) fn toml(&self) -> String {
        format!("telemetry.otlp_endpoint = \"{}\"\n", self.url())
    }

    /// What came so far, which holds no secret.
    pub(crate) fn spans(&self) -> Vec<Received> {
        let bodies = self.bodies.lock().unwrap().clone();
        bodies.iter().flat_map(decoded).collect()
    }
}

async fn take(State(bodies): State<Bodies>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if headers
        .get("content-type")
        .is_none_or(|value| value != "application/x-protobuf")
    {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    bodies.lock().unwrap().push(body);
    StatusCode::OK
}

fn decoded(body: &Bytes) -> Vec<Received> {
    super::assert_clean(body, "a span");
    let message = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let mut spans = Vec::new();
    for resource in message.resource_spans {
        let service = attributes(&resource.resource.unwrap().attributes);
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Received {
                service: json!(service),
                attributes: attributes(&span.attributes),
                span,
            });
        }
    }
    spans
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        if let Some(any_value::Value::StringValue(text)) = value {
            json!(text)
        } else if let Some(any_value::Value::IntValue(number)) = value {
            json!(number)
        } else {
            panic!("an attribute of another kind: {pair:?}")
        }
    };
    let pairs = pairs.iter().map(|pair| (pair.key.clone(), value(pair)));
    pairs.collect()
}

impl Received {
    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub(crate) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// The parent's id; empty where there is none.
    pub(crate) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// Whether it is marked as an error.
    pub(crate) fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
