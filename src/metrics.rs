//! Metrics: what a monitor reads, as OpenMetrics text.
//!
//! 1. A request costs a few atomic additions and two short locks of a histogram: handles are resolved once, at the
//!    start. Only what is not a plain 200 looks its counter up.
//! 2. Label values come from closed sets or from the settings: nothing that a caller sends makes a series,
//!    but for names of operations where requests are read, of which there is a bound (`operations`). A request that
//!    came to no instance has `instance=""`, an answer of upstream has `code=""`.
//! 3. What the token cache, tokio and the system count is read when somebody scrapes, not counted twice.
//! 4. `rejections_total` counts requests that the proxy turned down for what the caller did; all answers, these
//!    included, are in `requests_total`.

mod operations;
mod process;
pub mod recent;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::operations::Operations;
use self::recent::Recent;
use crate::graphql::Operation;
use crate::name::Name;

/// What every name begins with.
const PREFIX: &str = "fluent_auth_proxy";
/// The media type of [`Metrics::scrape`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Seconds: from a cached answer nearby to an orchestration that is awaited.
const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// All metrics of one proxy.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of metrics that bear the names that they have everywhere.
    common: Registry,
    instances: BTreeMap<Name, InstanceMetrics>,
    /// Of requests that came to no instance.
    nowhere: Histogram,
    requests: Family<RequestLabels, Counter>,
    rejections: Family<CodeLabel, Counter>,
    operations: Operations,
    recent: Recent,
    in_flight: Gauge,
    connections: Gauge,
}

/// The handles that most requests need.
#[derive(Debug)]
struct InstanceMetrics {
    ok: Counter,
    duration: Histogram,
    upstream: Histogram,
    replays: BTreeMap<Replay, Counter>,
}

/// Why a request was sent upstream a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Replay {
    /// Upstream rejected the token of the first.
    Unauthorized,
    /// Its connection died without an answer, and it asked for queries alone.
    Interrupted,
}

impl Replay {
    const ALL: [Self; 2] = [Self::Unauthorized, Self::Interrupted];

    /// The word of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One request, at its end.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The instance that it went to, one of those that the metrics know.
    pub instance: Option<&'a Name>,
    /// The status of the answer.
    pub status: StatusCode,
    /// Why the proxy itself answered or cut the answer, if it did.
    pub code: Option<&'static str>,
    /// Whether the proxy turned it down for what the caller did.
    pub rejected: bool,
    /// What it asked for, where that was read.
    pub operation: Option<&'a Operation>,
    /// Why it was sent twice, if it was.
    pub replay: Option<Replay>,
    /// From its head to the last byte of the answer.
    pub duration: Duration,
    /// The wait for the head of upstream's last answer; zero where nothing was waited for.
    pub upstream: Duration,
}

/// Where a token stands when somebody scrapes.
#[derive(Clone, Debug)]
pub struct TokenSample {
    /// The instance.
    pub instance: Name,
    /// Its user.
    pub user: Name,
    /// Seconds that the token has left; none without a token.
    pub expires_in: Option<u64>,
    /// Whether the token can be sent.
    pub ready: bool,
}

/// The token requests of one instance by one grant.
#[derive(Clone, Debug)]
pub struct TokenRequests {
    /// The instance.
    pub instance: Name,
    /// The grant.
    pub grant: &'static str,
    /// How many gave a token, were refused, met trouble.
    pub outcomes: [(&'static str, u64); 3],
}

/// Tells of tokens when somebody scrapes.
pub trait Tokens: Send + Sync + 'static {
    /// Each user of each instance.
    fn samples(&self) -> Vec<TokenSample>;
    /// Each instance and grant once.
    fn requests(&self) -> Vec<TokenRequests>;
    /// How many operations on the shared cache failed.
    fn shared_cache_errors(&self) -> u64;
}

/// One that is there: a request, a connection. Dropped, it is there no longer.
#[derive(Debug)]
pub struct Present(Gauge);

impl Present {
    /// One more, as `gauge` counts them.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Metrics of these instances, and of what `tokens` tells.
    #[must_use]
    pub fn new(instances: impl IntoIterator<Item = Name>, tokens: impl Tokens) -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let rejections = Family::<CodeLabel, Counter>::default();
        let durations = Family::<InstanceLabel, Histogram, _>::new_with_constructor(histogram as fn() -> _);
        let upstream = Family::<InstanceLabel, Histogram, _>::new_with_constructor(histogram as fn() -> _);
        let replays = Family::<ReplayLabels, Counter>::default();
        let (in_flight, connections) = (Gauge::default(), Gauge::default());
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "requests",
            "Requests that have ended, by the status of the answer and why the proxy itself answered or cut it",
            requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the last byte of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register_with_unit(
            "upstream_duration",
            "The wait for the head of upstream's last answer to a request",
            Unit::Seconds,
            upstream.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests that have not ended",
            in_flight.clone(),
        );
        registry.register(
            "connections",
            "Connections of callers that are open",
            connections.clone(),
        );
        registry.register(
            "replays",
            "Requests that were sent upstream a second time, and why",
            replays.clone(),
        );
        registry.register(
            "rejections",
            "Requests that the proxy turned down for what the caller did",
            rejections.clone(),
        );
        let operations = Operations::default();
        registry.register(
            "operations",
            "GraphQL operations that were let pass, where requests are read; at most 200 names, then other",
            operations.counters().clone(),
        );
        registry.register(
            "build",
            "The program",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(TokenCollector(tokens)));
        registry.register_collector(Box::new(process::Runtime));
        let mut common = Registry::default();
        common.register_collector(Box::new(process::Process));
        let instances = instances.into_iter().map(|instance| {
            let label = InstanceLabel(Some(instance.clone()));
            let replay = |reason| {
                let labels = ReplayLabels(instance.clone(), reason);
                (reason, replays.get_or_create_owned(&labels))
            };
            let handles = InstanceMetrics {
                ok: requests.get_or_create_owned(&RequestLabels {
                    instance: Some(instance.clone()),
                    status: StatusCode::OK,
                    code: "",
                }),
                duration: durations.get_or_create_owned(&label),
                upstream: upstream.get_or_create_owned(&label),
                replays: Replay::ALL.map(replay).into(),
            };
            (instance, handles)
        });
        Self {
            instances: instances.collect(),
            nowhere: durations.get_or_create_owned(&InstanceLabel(None)),
            requests,
            rejections,
            operations,
            recent: Recent::default(),
            in_flight,
            connections,
            registry,
            common,
        }
    }

    /// Tells of connections to upstream too, as `opened` counts them.
    #[must_use]
    pub fn with_upstream_connections(mut self, opened: &Counter) -> Self {
        self.registry.register(
            "upstream_connections",
            "Connections to upstream that were opened; far fewer than requests where they are used again",
            opened.clone(),
        );
        self
    }

    /// The last failed requests, and those of the moment.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Counts requests that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// Counts open connections.
    #[must_use]
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// Counts a request that has ended.
    pub fn count(&self, ended: &Ended<'_>) {
        let seconds = ended.duration.as_secs_f64();
        let known = ended.instance.and_then(|name| self.instances.get_key_value(name));
        match known {
            Some((instance, handles)) => {
                handles.duration.observe(seconds);
                if let Some(operation) = ended.operation {
                    self.operations.count(instance, operation);
                }
                if !ended.upstream.is_zero() {
                    handles.upstream.observe(ended.upstream.as_secs_f64());
                }
                if let Some(replays) = ended.replay.and_then(|reason| handles.replays.get(&reason)) {
                    replays.inc();
                }
            }
            None => {
                self.nowhere.observe(seconds);
            }
        }
        match (known, ended.status, ended.code) {
            (Some((_, handles)), StatusCode::OK, None) => handles.ok.inc(),
            (known, status, code) => self
                .requests
                .get_or_create(&RequestLabels {
                    instance: known.map(|(name, _)| name.clone()),
                    status,
                    code: code.unwrap_or_default(),
                })
                .inc(),
        };
        if let (true, Some(code)) = (ended.rejected, ended.code) {
            self.rejections.get_or_create(&CodeLabel(code)).inc();
        }
    }

    /// All metrics now, as [`MEDIA_TYPE`].
    ///
    /// # Errors
    /// When a metric cannot be written, which is a bug.
    pub fn scrape(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode_registry(&mut page, &self.registry)?;
        text::encode_registry(&mut page, &self.common)?;
        text::encode_eof(&mut page)?;
        Ok(page)
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RequestLabels {
    instance: Option<Name>,
    status: StatusCode,
    code: &'static str,
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        // Upstream may send any three digits; of those without a meaning there is one series.
        let status = match self.status.as_u16() {
            100..=599 => Cow::Owned(self.status.as_u16().to_string()),
            _ => Cow::Borrowed("other"),
        };
        ("instance", text_of(self.instance.as_ref())).encode(encoder.encode_label())?;
        ("status", status).encode(encoder.encode_label())?;
        ("code", self.code).encode(encoder.encode_label())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct InstanceLabel(Option<Name>);

impl EncodeLabelSet for InstanceLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("instance", text_of(self.0.as_ref())).encode(encoder.encode_label())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ReplayLabels(Name, Replay);

impl EncodeLabelSet for ReplayLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("instance", self.0.as_str()), ("reason", self.1.as_str())].encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CodeLabel(&'static str);

impl EncodeLabelSet for CodeLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("code", self.0).encode(encoder.encode_label())
    }
}

fn text_of(instance: Option<&Name>) -> &str {
    instance.map_or("", Name::as_str)
}

/// Rule 3.
struct TokenCollector<T>(T);

impl<T> fmt::Debug for TokenCollector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenCollector")
    }
}

impl<T: Tokens> Collector for TokenCollector<T> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = self.0.samples();
        let labels = |sample: &TokenSample| {
            let (instance, user) = (sample.instance.to_string(), sample.user.to_string());
            [("instance", instance), ("user", user)]
        };
        let help = "Whether there is a token that can be sent.";
        let mut ready = encoder.encode_descriptor("token_ready", help, None, MetricType::Gauge)?;
        for sample in &samples {
            let gauge = ConstGauge::new(i64::from(sample.ready));
            gauge.encode(ready.encode_family(&labels(sample))?)?;
        }
        let help = "The life that the token has left; nothing without a token.";
        let unit = Some(&Unit::Seconds);
        let mut left = encoder.encode_descriptor("token_expires_in", help, unit, MetricType::Gauge)?;
        for sample in &samples {
            if let Some(seconds) = sample.expires_in {
                ConstGauge::new(seconds).encode(left.encode_family(&labels(sample))?)?;
            }
        }
        let help = "Requests to the token endpoint that have ended.";
        let mut requests = encoder.encode_descriptor("token_requests", help, None, MetricType::Counter)?;
        for row in self.0.requests() {
            for (outcome, count) in row.outcomes {
                let labels = [
                    ("instance", row.instance.as_str()),
                    ("grant", row.grant),
                    ("outcome", outcome),
                ];
                ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
            }
        }
        let help = "Operations on the shared cache that failed.";
        let errors = encoder.encode_descriptor("shared_cache_errors", help, None, MetricType::Counter)?;
        ConstCounter::new(self.0.shared_cache_errors()).encode(errors)
    }
}
