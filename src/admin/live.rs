//! The dashboard's stream: what happens, told once a second to all who look.
//!
//! 1. One task samples for all tabs, and only while there is a tab: else it waits and costs nothing.
//! 2. Who comes is told at once how things stand and what was sampled so far, then what is new.
//! 3. Who does not read misses samples, and never makes the others or the proxy wait.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, header};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Admin, StatusPage};
use crate::metrics::recent::{Failed, Moment, Recent, Spread, wall_millis};

/// The pause between two samples.
const PAUSE: Duration = Duration::from_secs(1);
/// What a tab shows, in milliseconds: five minutes.
const SHOWN: u64 = 300_000;
/// Samples that are kept for who comes later.
const KEPT: usize = 300;
/// Events that a tab may be behind.
const BEHIND: usize = 16;

/// What all tabs share.
pub(super) struct Live {
    events: broadcast::Sender<Bytes>,
    wanted: Notify,
    samples: Mutex<VecDeque<Sample>>,
}

/// One second.
#[derive(Clone, Serialize)]
struct Sample {
    at: u64,
    /// Requests a second.
    rate: f64,
    requests: u64,
    in_flight: i64,
    /// How many of the requests failed, by whose fault it was.
    client: u64,
    proxy: u64,
    identity: u64,
    upstream: u64,
    own_ms: Percentiles,
    upstream_ms: Percentiles,
}

#[derive(Clone, Copy, Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// What a tab is told.
#[derive(Serialize)]
struct Event<'a> {
    status: StatusPage<'a>,
    samples: Vec<Sample>,
    /// The last failed requests; none where they are those that were told before.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Vec<Failed>>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            events: broadcast::Sender::new(BEHIND),
            wanted: Notify::new(),
            samples: Mutex::default(),
        }
    }

    /// Keeps a sample for those who come later.
    fn keep(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.truncate(KEPT - 1);
        samples.push_front(sample);
    }

    /// What was sampled of late, the oldest first.
    fn samples(&self) -> Vec<Sample> {
        let oldest = wall_millis().saturating_sub(SHOWN);
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples
            .iter()
            .rev()
            .skip_while(|sample| sample.at < oldest)
            .cloned()
            .collect()
    }
}

impl Admin {
    /// Rule 1. Never ends by itself.
    pub async fn sample(self: Arc<Self>) {
        let recent = self.metrics.recent();
        loop {
            self.live.wanted.notified().await;
            let _watch = recent.watch();
            let mut told = 0;
            let mut ticks = tokio::time::interval_at(Instant::now() + PAUSE, PAUSE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut since = Instant::now();
            while self.live.events.receiver_count() > 0 {
                ticks.tick().await;
                let sample = self.take_sample(recent, since.elapsed());
                since = Instant::now();
                self.live.keep(sample.clone());
                let number = recent.failures();
                let failed = (number != told).then(|| recent.failed().1);
                told = number;
                let event = Event {
                    status: self.status_page(),
                    samples: vec![sample],
                    failed,
                };
                // Nobody hears it where the last tab has just gone.
                let _ = self.live.events.send(event.frame("tick"));
            }
        }
    }

    fn take_sample(&self, recent: &Recent, time: Duration) -> Sample {
        let moment: Moment = recent.take();
        let by = |fault| {
            let count = moment.failed.iter().find(|(known, _)| *known == fault);
            count.map_or(0, |(_, count)| *count)
        };
        #[expect(clippy::cast_precision_loss, reason = "the requests of a second")]
        let rate = moment.requests as f64 / time.as_secs_f64().max(f64::EPSILON);
        Sample {
            at: wall_millis(),
            rate,
            requests: moment.requests,
            in_flight: self.metrics.in_flight().get(),
            client: by("client"),
            proxy: by("proxy"),
            identity: by("identity"),
            upstream: by("upstream"),
            own_ms: Percentiles::of(&moment.own),
            upstream_ms: Percentiles::of(&moment.upstream),
        }
    }

    /// Rule 2.
    fn listen(&self) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        let receiver = self.live.events.subscribe();
        self.live.wanted.notify_one();
        let start = Event {
            status: self.status_page(),
            samples: self.live.samples(),
            failed: Some(self.metrics.recent().failed().1),
        };
        let start = start.frame("start");
        let news = stream::unfold(receiver, async |mut receiver| {
            loop {
                match receiver.recv().await {
                    Ok(frame) => return Some((frame, receiver)),
                    // Rule 3.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        stream::iter([start]).chain(news).map(Ok)
    }
}

impl Event<'_> {
    /// As a browser's `EventSource` reads it.
    fn frame(&self, name: &str) -> Bytes {
        let data = serde_json::to_string(self).unwrap_or_default();
        Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
    }
}

impl Percentiles {
    fn of(spread: &Spread) -> Self {
        Self {
            p50: spread.percentile(50),
            p95: spread.percentile(95),
            p99: spread.percentile(99),
        }
    }
}

/// Streams until the caller leaves or the program ends.
pub(super) async fn events(State(admin): State<Arc<Admin>>) -> Response {
    let mut response = Response::new(Body::from_stream(admin.listen()));
    let media_type = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
