//! What every test needs: a sandbox, a proxy before it, a client that is never off its guard.
//!
//! 1. Everything listens on free ports of loopback and ends with the test.
//! 2. [`Client`] looks for planted secrets, and for tokens that a sandbox gave out, in every answer, and holds
//!    answers of the proxy itself against the shape that the contract gives them.
//! 3. The log of the whole process is kept, at the level `trace`, and searched for both when a [`Proxy`] ends.
//! 4. So is what the sandboxes say of the login invariant: no test breaks it.
//! 5. Time may be made to stand still, see [`Frozen`].

mod client;
mod collector;
mod frozen;
mod link;
mod logs;
mod process;
mod raw;
mod redis;
mod secrets;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use fluent_auth_proxy::app::App;
use fluent_auth_proxy::clock::Clock;
use fluent_auth_proxy::settings::{Provenance, Settings, Sources};
use fluent_sandbox::{Account, Config, Sandbox};
use tokio::net::TcpSocket;

pub(crate) use client::{Answer, Body, Client, Request, full, streamed};
pub(crate) use collector::{Collector, Received};
pub(crate) use frozen::Frozen;
pub(crate) use link::{End, Link, Point, Slow, To, Wrong};
pub(crate) use logs::logged;
pub(crate) use process::Process;
pub(crate) use raw::{BlackHole, Raw, RawUpstream};
pub(crate) use redis::{RedisServer, garbage};
pub(crate) use secrets::{CLIENT_SECRET, PASSWORD, assert_clean, assert_logins_are_few};

/// The user whom the sandbox of a test knows.
pub(crate) const USERNAME: &str = "integration";
/// Its client.
pub(crate) const CLIENT_ID: &str = "ACME";

/// The account of the planted secrets.
pub(crate) fn account() -> Account {
    Account {
        client_id: CLIENT_ID.to_owned(),
        client_secret: CLIENT_SECRET.to_owned(),
        ..Account::new(USERNAME, PASSWORD)
    }
}

/// A sandbox's settings with the planted account.
pub(crate) fn fluent() -> Config {
    Config {
        accounts: vec![account()],
        ..Config::default()
    }
}

/// A sandbox that is watched: none of its tokens may come out.
pub(crate) async fn sandbox(config: Config) -> Sandbox {
    let sandbox = Sandbox::start(config).await.unwrap();
    secrets::watch(&sandbox);
    sandbox
}

/// A sandbox and a proxy before it, with `settings` (TOML) on top of what connects the two.
pub(crate) async fn start(settings: &str) -> (Sandbox, Proxy) {
    let sandbox = sandbox(fluent()).await;
    let proxy = Proxy::start(&sandbox.url(), settings).await;
    (sandbox, proxy)
}

/// What must come soon; the test fails where it does not.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, what)
        .await
        .expect("waited in vain")
}

/// A proxy before an upstream of raw bytes; its tokens come from a sandbox.
pub(crate) async fn start_raw(settings: &str) -> (Sandbox, RawUpstream, Proxy) {
    let sandbox = sandbox(fluent()).await;
    let upstream = RawUpstream::bind().await;
    let proxy = Proxy::start(&upstream.url(), &with_tokens_of(&sandbox, settings)).await;
    (sandbox, upstream, proxy)
}

/// Settings with a token endpoint that stands elsewhere than the API.
pub(crate) fn with_tokens_of(sandbox: &Sandbox, settings: &str) -> String {
    format!(
        "{settings}\n[fluent.token]\npath = \"{}/oauth/token\"\n",
        sandbox.url()
    )
}

/// The environment that names the planted account at `url`, and free ports.
pub(crate) fn environment(url: &str) -> Vec<(OsString, OsString)> {
    let fields = [
        ("FLUENT_URL", url),
        ("FLUENT_USERNAME", USERNAME),
        ("FLUENT_PASSWORD", PASSWORD),
        ("FLUENT_CLIENT_ID", CLIENT_ID),
        ("FLUENT_CLIENT_SECRET", CLIENT_SECRET),
    ];
    fields.map(|(name, value)| (name.into(), value.into())).into()
}

/// Settings as a user would write them, for the planted account at `url`; addresses are free ports unless `toml`
/// says otherwise.
pub(crate) fn settings(url: &str, toml: &str) -> Settings {
    load(toml, environment(url))
}

/// Settings out of a file and an environment, and nothing else.
pub(crate) fn load(toml: &str, environment: Vec<(OsString, OsString)>) -> Settings {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let ports = ["listen.address=localhost:0", "admin.address=localhost:0"];
    let has_section = |name: &str| toml.contains(name);
    let set = ports.iter().zip(["# own listen address", "# own admin address"]);
    let set = set
        .filter(|(_, mark)| !has_section(mark))
        .map(|(set, _)| (*set).to_owned())
        .collect();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment,
        set,
    };
    Settings::load(&sources)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings
}

/// A proxy in this process.
pub(crate) struct Proxy {
    app: Option<App>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts one before the Fluent at `url`.
    pub(crate) async fn start(url: &str, toml: &str) -> Self {
        Self::from_settings(&settings(url, toml)).await
    }

    /// Starts one.
    #[expect(clippy::unused_async, reason = "it needs a runtime")]
    pub(crate) async fn from_settings(settings: &Settings) -> Self {
        Self::with_clock(settings, Clock::system())
    }

    /// Starts one that goes by this clock. Needs a runtime.
    pub(crate) fn with_clock(settings: &Settings, clock: Clock) -> Self {
        logs::capture();
        let app = App::start(settings, &Provenance::default(), clock).unwrap();
        // One that stands at Unix sockets only has none.
        let address = app.addresses().first().copied();
        let address = address.unwrap_or((std::net::Ipv4Addr::UNSPECIFIED, 0).into());
        let admin = app.admin_addresses().first().copied().unwrap_or(address);
        Self {
            app: Some(app),
            address,
            admin,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// A client of the proxy's listener.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A client of the admin listener.
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.admin)
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        if let Some(app) = self.app.take() {
            app.stop().await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            logs::assert_clean();
            assert_logins_are_few();
        }
    }
}

/// Where nobody listens.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9";

/// An address where connections are refused, and which nobody else is given while the socket is held.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    (held, address)
}
