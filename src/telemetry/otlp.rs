//! Sends spans by OTLP over HTTP.
//!
//! 1. What the settings do not name is left to OpenTelemetry's library, which reads the standard `OTEL_…` variables.
//! 2. Spans wait in a bounded queue, and a thread of their own sends them; where the queue is full they are dropped.
//!    A collector that is away costs requests nothing, and the log one line.
//! 3. At the end of the program what waits is sent, for a few seconds at most.
//!
//! The library's thread has no runtime: its requests are handed to ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::trace::Tracer;
use crate::unreachable::Unreachable;

/// How long one request to the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the program waits for the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer of a collector that is read; all that it may tell is that spans were rejected.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How traces are made and sent; `None` is what the standard variables say.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    /// Where spans are sent, the path included.
    pub endpoint: Option<String>,
    /// The name of the service in them.
    pub service_name: Option<String>,
    /// The share of traces that begin here and are kept; others are kept where their caller keeps them.
    pub sample_ratio: Option<f64>,
}

/// Sends spans until it is ended.
#[derive(Debug)]
pub struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// Starts to send what the tracer makes, by `client`. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a standard variable makes no sense.
    pub fn start(
        config: &TraceConfig,
        client: reqwest::Client,
    ) -> Result<(Self, Tracer), ExporterBuildError> {
        let collector = Collector {
            client,
            runtime: Handle::current(),
            away: Arc::default(),
        };
        let mut exporter = SpanExporter::builder().with_http().with_http_client(collector);
        if let Some(endpoint) = &config.endpoint {
            exporter = exporter.with_endpoint(endpoint);
        }
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if let Some(name) = &config.service_name {
            resource = resource.with_service_name(name.clone());
        }
        let mut provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter.build()?)
            .with_resource(resource.build());
        if let Some(share) = config.sample_ratio {
            provider =
                provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))));
        }
        let provider = provider.build();
        let tracer = Tracer::new(provider.tracer(env!("CARGO_PKG_NAME")));
        Ok((Self { provider }, tracer))
    }

    /// Sends what waits, and nothing from then on.
    pub async fn end(self) {
        let (ended, end) = oneshot::channel();
        // The library blocks; a blocking task of the runtime would keep it from ending with the process.
        let ending = std::thread::Builder::new()
            .name("traces-end".to_owned())
            .spawn(move || {
                let _ = ended.send(self.provider.shutdown_with_timeout(FLUSH_TIMEOUT));
            });
        if ending.is_ok() {
            // Where the last spans could not be sent, the log has told why.
            let _ = end.await;
        }
    }
}

/// The way to the collector.
#[derive(Debug)]
struct Collector {
    client: reqwest::Client,
    runtime: Handle,
    /// Whether the last request failed.
    away: Arc<AtomicBool>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, away) = (self.client.clone(), Arc::clone(&self.away));
        let sending = self.runtime.spawn(async move {
            let sent = send(&client, request).await;
            watch(&away, sent.as_ref());
            sent
        });
        sending.await?.map_err(|failure| failure.to_string().into())
    }
}

/// Why spans could not be sent, in words that may stand in any log.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Unreachable(Unreachable),
    #[error("it did not answer in time")]
    TimedOut,
    #[error("its answer was no HTTP, or was cut")]
    Nonsense,
}

async fn send(client: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
    let request = reqwest::Request::try_from(request).map_err(|_| Failure::Nonsense)?;
    let failure = |error: reqwest::Error| {
        if error.is_connect() {
            Failure::Unreachable(Unreachable::of(&error))
        } else if error.is_timeout() {
            Failure::TimedOut
        } else {
            Failure::Nonsense
        }
    };
    let mut answer = client.execute(request).await.map_err(failure)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failure)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(Failure::Nonsense);
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

/// Rule 2: tells once that the collector is away, and once that it is back.
fn watch(away: &AtomicBool, sent: Result<&Response<Bytes>, &Failure>) {
    let cause = match sent {
        Ok(answer) if answer.status().is_success() => None,
        Ok(answer) => Some(format!("it answered with status {}", answer.status().as_u16())),
        Err(failure) => Some(failure.to_string()),
    };
    let was_away = away.swap(cause.is_some(), Ordering::Relaxed);
    match cause {
        Some(cause) if !was_away => {
            tracing::warn!(
                cause,
                "traces cannot be sent to the collector; what cannot wait is dropped"
            );
        }
        None if was_away => tracing::info!("traces are sent to the collector again"),
        Some(_) | None => {}
    }
}

/// A client of collectors, on top of how its connections are made.
///
/// # Errors
/// When it cannot be built, such as without a system resolver.
pub fn client(
    way_out: reqwest::ClientBuilder,
    tls: rustls::ClientConfig,
) -> Result<reqwest::Client, reqwest::Error> {
    way_out
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .timeout(TIMEOUT)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .build()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Sends nothing to a collector that says `answer`, or nothing for ever.
    async fn sent(answer: Option<String>) -> Result<Response<Bytes>, Failure> {
        let patience = Duration::from_millis(if answer.is_some() { 10_000 } else { 50 });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(answer) = answer else {
                return std::future::pending().await;
            };
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let collector = tokio::spawn(collector);
        let client = reqwest::Client::builder().no_proxy().timeout(patience);
        let request = Request::post(uri).body(Bytes::new()).unwrap();
        let sent = send(&client.build().unwrap(), request).await;
        collector.abort();
        sent
    }

    fn answer(promised: usize, length: usize) -> String {
        let body = " ".repeat(length);
        format!("HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\n\r\n{body}")
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_64_kib_and_what_goes_wrong_is_told_in_words_of_ours() {
        let read = sent(Some(answer(64 * 1024, 64 * 1024))).await.unwrap();
        assert_eq!((read.status().as_u16(), read.body().len()), (200, 64 * 1024));
        let nonsense = "its answer was no HTTP, or was cut";
        for (answer, why) in [
            (Some(answer(64 * 1024 + 1, 64 * 1024 + 1)), nonsense),
            (Some(answer(2, 1)), nonsense),
            (Some("SECRET\r\n\r\n".to_owned()), nonsense),
            (None, "it did not answer in time"),
        ] {
            assert_eq!(sent(answer).await.unwrap_err().to_string(), why);
        }
    }
}
