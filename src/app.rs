//! Builds every part from the settings, runs them, and ends them in order.
//!
//! 1. The only place where parts meet: nothing below knows who else there is.
//! 2. Nothing is accepted before everything is built; the first login starts before the first request is taken.
//! 3. The end: not ready, and answers that end their connection; then (after `shutdown.delay`) no new connections,
//!    then every begun request ends, then the listeners, the tasks and this future end; at `shutdown.deadline` what
//!    is left is cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, Version, header, request};
use http_body_util::Either;
use prometheus_client::metrics::counter::Counter;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::admin::Admin;
use crate::body::{BodyLimits, Memory, RequestBody, TapeBudget};
use crate::clock::Clock;
use crate::console::{dashboard, graphiql};
use crate::error::{Accept, ProxyError};
use crate::graphql::Judge;
use crate::guard::{Guard, Rules, ViaId};
use crate::metrics::{Metrics, TokenRequests, TokenSample, Tokens};
use crate::name::Name;
use crate::places::Places;
use crate::proxy::{AnswerBody, CallerBody, Inspection, Proxy, Route};
use crate::server::{self, Listener, Peer, Place, Server, WatchedBody};
use crate::settings::watch::Logins;
use crate::settings::{Provenance, Reach, Row, Settings, Shutdown};
use crate::telemetry::otlp::{self, Export};
use crate::telemetry::trace::Tracer;
use crate::token::TokenSource;
use crate::token::cache::{Logins as Counts, Means, Status, TokenCache};
use crate::token::grant::Granter;
use crate::token::store;
use crate::upstream::{self, Upstream};

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be had.
    #[error(transparent)]
    Bind(#[from] server::BindError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] upstream::tls::TlsError),
    /// The client of the token endpoint cannot be set up.
    #[error(transparent)]
    TokenClient(#[from] crate::token::grant::UnusableClient),
    /// Traces cannot be sent as OpenTelemetry's variables say.
    #[error("traces cannot be sent as the variables say; look at those that begin with OTEL_EXPORTER_OTLP_")]
    Traces,
    /// The client of the collector of traces cannot be set up.
    #[error("the client for the collector of traces cannot be built")]
    TraceClient,
    /// A socket that was handed over stands where other machines reach it.
    #[error(
        "the socket handed over at {0} can be reached by other machines, and whoever reaches the proxy acts with its \
         credentials; let it stand on a loopback address, or set listen.danger_allow_remote = true"
    )]
    Remote(SocketAddr),
    /// The URL of an instance cannot be sent to.
    #[error("requests cannot be sent to the URL of the instance {0}")]
    Url(Name),
}

/// A running proxy.
pub struct App {
    places: Vec<Place>,
    addresses: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    tokens: Arc<TokenCache>,
    end: CancellationToken,
    ended: JoinHandle<()>,
}

impl App {
    /// Builds the parts, binds the listeners and starts to serve; `provenance` is what the dashboard shows of the
    /// settings. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a listener, TLS or a URL cannot be used.
    pub fn start(settings: &Settings, provenance: &Provenance, clock: Clock) -> Result<Self, StartError> {
        let listener = Listener::bind(&settings.listen.addresses)?;
        let places = listener.places();
        let addresses = tcp(&places);
        keep_near(&addresses, settings.listen.reach)?;
        let (granter, upstream) = legs(settings, &addresses)?;
        let (export, tracer) = traces(settings)?;
        let granter = granter.traced_by(tracer.clone());
        let logins = settings
            .instances
            .iter()
            .map(|(name, instance)| (name.clone(), instance.users.clone(), instance.policy));
        let shared_cache_errors = Counter::default();
        let store = store::open(&settings.cache, shared_cache_errors.clone(), clock.clone());
        let means = Means {
            grants: Arc::new(granter),
            store,
            clock,
            spread: fastrand::f64(),
        };
        let tokens = Arc::new(TokenCache::new(logins, means));
        let id = ViaId::random();
        let end = CancellationToken::new();

        let names = settings.instances.keys().cloned();
        let tokens_told = TokenMetrics {
            cache: Arc::clone(&tokens),
            shared_cache_errors,
        };
        let metrics = Metrics::new(names, tokens_told).with_upstream_connections(upstream.opened());
        let metrics = Arc::new(metrics);
        let proxy = proxy(settings, &tokens, &upstream, &id, &metrics, tracer)?;
        let front = Server::new(listener, settings.listen.limits).counted_by(metrics.connections());

        let mut admin_addresses = Vec::new();
        let mut back = None;
        if let Some(address) = &settings.admin {
            let listener = Listener::bind(std::slice::from_ref(address))?;
            admin_addresses = tcp(&listener.places());
            let admin = Arc::new(admin(settings, provenance, &tokens, metrics, id, end.clone()));
            back = Some((Server::new(listener, settings.listen.limits), admin));
        }

        tokens.keep_default();
        let running = run(
            proxy,
            front,
            back,
            upstream,
            Last {
                tokens: Arc::clone(&tokens),
                export,
            },
            settings.shutdown,
            end.clone(),
        );
        Ok(Self {
            places,
            addresses,
            admin_addresses,
            tokens,
            end,
            ended: tokio::spawn(running),
        })
    }

    /// Where the proxy listens.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Its places that are addresses, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener stands.
    #[must_use]
    pub fn admin_addresses(&self) -> &[SocketAddr] {
        &self.admin_addresses
    }

    /// Goes on with credentials that have changed.
    pub fn change(&self, logins: &Logins) {
        let changed = self.tokens.change(logins);
        if changed > 0 {
            tracing::info!(
                changed,
                "credentials have changed: the next login uses the new ones"
            );
        }
    }

    /// Heeds SIGHUP: lets every refused login be tried once more, as an operator asks who has mended the accounts
    /// at Fluent.
    pub async fn retry(&self) {
        let cleared = self.tokens.retry().await;
        tracing::info!(cleared, "SIGHUP lets refused logins be tried once more");
    }

    /// Ends in order: see the rules of this module.
    pub async fn stop(self) {
        self.end.cancel();
        let _ = self.ended.await;
    }
}

/// The places that are addresses.
fn tcp(places: &[Place]) -> Vec<SocketAddr> {
    let address = |place: &Place| match place {
        Place::Tcp(address) => Some(*address),
        Place::Unix(_) => None,
    };
    places.iter().filter_map(address).collect()
}

/// The settings know where sockets are bound, but not what systemd hands over.
fn keep_near(addresses: &[SocketAddr], reach: Reach) -> Result<(), StartError> {
    let remote = addresses.iter().find(|address| !address.ip().is_loopback());
    match (reach, remote) {
        (Reach::Machine, Some(remote)) => Err(StartError::Remote(*remote)),
        (Reach::Machine | Reach::Network, _) => Ok(()),
    }
}

/// Both ways out of a process that listens at `own`: to the token endpoints, and to the APIs.
///
/// # Errors
/// When TLS or a client cannot be set up.
pub(crate) fn legs<B>(settings: &Settings, own: &[SocketAddr]) -> Result<(Granter, Upstream<B>), StartError>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tls = upstream::tls::config(&settings.upstream.tls)?;
    let way_out = settings.upstream.egress.client_builder();
    let way_out = way_out.connect_timeout(settings.upstream.connect_timeout);
    let granter = Granter::new(way_out, tls.clone())?;
    Ok((granter, Upstream::new(settings.upstream.clone(), tls, own)))
}

/// What makes spans, and what sends them where they are sent.
fn traces(settings: &Settings) -> Result<(Option<Export>, Tracer), StartError> {
    let Some(config) = &settings.traces else {
        return Ok((None, Tracer::default()));
    };
    // The client certificate is for Fluent alone.
    let trust = upstream::Tls {
        ca_file: settings.upstream.tls.ca_file.clone(),
        client: None,
    };
    let way_out = settings
        .upstream
        .egress
        .clone()
        .sparing_loopback()
        .client_builder();
    let way_out = way_out.connect_timeout(settings.upstream.connect_timeout);
    let client =
        otlp::client(way_out, upstream::tls::config(&trust)?).map_err(|_| StartError::TraceClient)?;
    // The library's error may name a URL whole.
    let (export, tracer) = Export::start(config, client).map_err(|_| StartError::Traces)?;
    Ok((Some(export), tracer))
}

/// What ends once every request has.
struct Last {
    tokens: Arc<TokenCache>,
    export: Option<Export>,
}

impl Last {
    async fn end(self) {
        self.tokens.shutdown().await;
        if let Some(export) = self.export {
            export.end().await;
        }
    }
}

/// All that runs, until the end that `end` begins.
async fn run(
    proxy: Proxy,
    front: Server,
    back: Option<(Server, Arc<Admin>)>,
    upstream: Upstream<RequestBody<CallerBody>>,
    last: Last,
    shutdown: Shutdown,
    end: CancellationToken,
) {
    let drain = CancellationToken::new();
    let admin_drain = CancellationToken::new();
    // Dropping the set at the end of this function cuts what is left.
    let mut parts = JoinSet::new();
    parts.spawn(upstream.sweep());
    if let Some((server, admin)) = back {
        parts.spawn(Arc::clone(&admin).sample());
        let router = admin.router();
        parts.spawn(server.run(
            move |peer, head, body| answer(router.clone(), peer, *head, body),
            admin_drain.clone(),
        ));
    }
    let door = Arc::new(Door {
        proxy,
        closing: AtomicBool::new(false),
    });
    let closing = Arc::clone(&door);
    let serving = front.run(
        move |peer, head, body| Arc::clone(&door).answer(peer, head, body),
        drain.clone(),
    );
    let ending = async {
        end.cancelled().await;
        closing.closing.store(true, Ordering::Relaxed);
        tracing::info!(delay = ?shutdown.delay, deadline = ?shutdown.deadline, "shutting down");
        let deadline = tokio::time::sleep(shutdown.deadline);
        tokio::time::sleep(shutdown.delay).await;
        drain.cancel();
        deadline.await;
    };
    let all_ended = async {
        serving.await;
        admin_drain.cancel();
        last.end().await;
    };
    tokio::select! {
        () = all_ended => tracing::info!("every request has ended"),
        () = ending => tracing::warn!("the deadline of the shutdown has passed; what was left is cut"),
    }
}

fn proxy(
    settings: &Settings,
    tokens: &TokenCache,
    upstream: &Upstream<RequestBody<CallerBody>>,
    id: &ViaId,
    metrics: &Arc<Metrics>,
    tracer: Tracer,
) -> Result<Proxy, StartError> {
    let mut instances = BTreeMap::new();
    for (name, instance) in &settings.instances {
        let users = instance.users.keys().filter_map(|user| {
            let source = tokens.source(name.as_str(), user.as_str())?;
            Some((user.clone(), Arc::new(source) as Arc<dyn TokenSource>))
        });
        let route = Route::new(upstream, &instance.url, instance.account.clone(), users.collect());
        instances.insert(name.clone(), route.ok_or_else(|| StartError::Url(name.clone()))?);
    }
    let names = settings.instances.iter();
    let names = names.map(|(name, instance)| (name, instance.users.keys()));
    let pages = settings.listen.graphiql.then(|| graphiql::pages(names));
    Ok(Proxy {
        guard: Guard::new(
            settings.listen.rules.clone(),
            id.clone(),
            pages.as_ref().map_or(&[], |_| graphiql::PATHS),
        ),
        via: settings.via.then(|| id.clone()),
        pages,
        instances,
        inspection: settings.graphql.as_ref().map(|inspection| Inspection {
            purpose: inspection.purpose,
            judge: Arc::new(Judge::new(inspection.rules.clone())),
            limit: inspection.limit,
            memory: Memory::new(inspection.memory),
        }),
        places: Places::new(
            settings.upstream.max_in_flight,
            settings.upstream.queue,
            settings.upstream.queue_timeout,
        ),
        body_limits: BodyLimits {
            max_body: settings.listen.max_body,
            timeout: settings.listen.body_timeout,
        },
        tapes: TapeBudget::new(settings.tape),
        read_timeout: settings.upstream.read_timeout,
        access: settings.log.access,
        metrics: Arc::clone(metrics),
        tracer,
    })
}

fn admin(
    settings: &Settings,
    provenance: &Provenance,
    tokens: &Arc<TokenCache>,
    metrics: Arc<Metrics>,
    id: ViaId,
    end: CancellationToken,
) -> Admin {
    let urls = settings
        .instances
        .iter()
        .map(|(name, instance)| (name.clone(), instance.url.clone()));
    let rules = Rules {
        allowed_hosts: settings.listen.rules.allowed_hosts.clone(),
        allowed_origins: Vec::new(),
        allowed_uids: Vec::new(),
        required_header: None,
        paths: Vec::new(),
    };
    Admin::new(
        Arc::clone(tokens),
        metrics,
        urls.collect(),
        dashboard::pages(&shown(provenance)),
        Guard::new(rules, id, dashboard::PATHS),
        end,
    )
}

/// The settings, as the dashboard shows them.
fn shown(provenance: &Provenance) -> Vec<dashboard::Setting> {
    let setting = |row: &Row| dashboard::Setting {
        key: row.key.clone(),
        value: row.value.to_string(),
        source: row.source.as_ref().map(ToString::to_string),
    };
    provenance.rows().iter().map(setting).collect()
}

/// Tells the metrics what the cache knows.
struct TokenMetrics {
    cache: Arc<TokenCache>,
    shared_cache_errors: Counter,
}

impl Tokens for TokenMetrics {
    fn samples(&self) -> Vec<TokenSample> {
        let sample = |(instance, user, status): (&Name, &Name, Status)| TokenSample {
            instance: instance.clone(),
            user: user.clone(),
            ready: status.state.is_usable(),
            expires_in: status.expires_in_seconds,
        };
        self.cache.status().map(sample).collect()
    }

    fn requests(&self) -> Vec<TokenRequests> {
        let mut sums: BTreeMap<(&Name, &'static str), Counts> = BTreeMap::new();
        for (instance, grant, logins) in self.cache.logins() {
            let sum = sums.entry((instance, grant)).or_default();
            sum.ok += logins.ok;
            sum.refused += logins.refused;
            sum.unavailable += logins.unavailable;
        }
        let row = |((instance, grant), sum): ((&Name, _), Counts)| TokenRequests {
            instance: instance.clone(),
            grant,
            outcomes: [
                ("ok", sum.ok),
                ("refused", sum.refused),
                ("unavailable", sum.unavailable),
            ],
        };
        sums.into_iter().map(row).collect()
    }

    fn shared_cache_errors(&self) -> u64 {
        self.shared_cache_errors.get()
    }
}

/// Where requests for upstream come in.
struct Door {
    proxy: Proxy,
    /// Whether the end has begun.
    closing: AtomicBool,
}

impl Door {
    /// Answers a request; a bug costs that one alone.
    async fn answer(
        self: Arc<Self>,
        peer: Peer,
        head: Box<request::Parts>,
        body: WatchedBody,
    ) -> Response<AnswerBody> {
        // HTTP/2 knows no such header, and tells its callers by GOAWAY when the drain begins.
        let may_close = head.version < Version::HTTP_2;
        let answered = AssertUnwindSafe(self.proxy.handle(peer, head, body)).catch_unwind();
        let mut response = answered.await.unwrap_or_else(|_| internal().map(Either::Right));
        // Once the end has begun, ends the connection with the answer, so that its caller turns to another process.
        if may_close && self.closing.load(Ordering::Relaxed) {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Hands a request to a router, with its peer; routers never fail.
async fn answer(router: Router, peer: Peer, mut head: request::Parts, body: WatchedBody) -> Response<Body> {
    head.extensions.insert(peer);
    let request = Request::from_parts(head, Body::new(body));
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The answer to a request that met a bug.
fn internal() -> Response<Body> {
    ProxyError::Internal.answer(Accept::Json, &HeaderValue::from_static("unknown"))
}
