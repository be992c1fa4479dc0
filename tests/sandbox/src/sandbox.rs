//! The handle to a simulated Fluent: start, stop, away and back, faults, record.

use crate::config::Config;
use crate::control::Control;
use crate::faults::Faults;
use crate::lock;
use crate::pipeline::{Api, World};
use crate::seen::Seen;
use crate::server::{Port, Server};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A simulated Fluent that serves until it is stopped or dropped.
pub struct Sandbox {
    world: Arc<World>,
    api: Arc<Api>,
    port: Port,
    server: Mutex<Option<Server>>,
    control: Option<(SocketAddr, Server)>,
}

impl Sandbox {
    /// Binds and serves, in tasks of the current tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn start(config: Config) -> io::Result<Self> {
        let port = Port::take(config.address)?;
        let listener = port.listen().await?;
        let control = match config.control_address {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        let world = World::new(config);
        let control = match control {
            Some(listener) => {
                let address = listener.local_addr()?;
                let service = Arc::new(Control::new(world.clone()));
                Some((address, Server::spawn(listener, None, service)))
            }
            None => None,
        };
        let api = Arc::new(Api::new(world.clone()));
        let sandbox = Self {
            world,
            api,
            port,
            server: Mutex::new(None),
            control,
        };
        sandbox.listen_on(listener);
        Ok(sandbox)
    }

    /// The root URL, without a final slash: `http://127.0.0.1:PORT`, or `https://localhost:PORT` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        match (&self.world.config.tls, self.port.address().ip().is_loopback()) {
            (None, _) => format!("http://{}", self.port.address()),
            (Some(_), true) => format!("https://localhost:{}", self.port.address().port()),
            (Some(_), false) => format!("https://{}", self.port.address()),
        }
    }

    /// The address it listens on, or did and will again.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The root URL of the control interface, where there is one.
    #[must_use]
    pub fn control_url(&self) -> Option<String> {
        self.control
            .as_ref()
            .map(|(address, _)| format!("http://{address}"))
    }

    /// The settings it was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.world.config
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// What came in.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.world.seen
    }

    /// Kills every access token that is out, before its time; refresh tokens live on.
    pub fn revoke_access_tokens(&self) {
        self.world.identity.revoke_access_tokens();
    }

    /// Kills every refresh token that is out; access tokens live on.
    pub fn revoke_refresh_tokens(&self) {
        self.world.identity.revoke_refresh_tokens();
    }

    /// Gives a username another password, as its owner does at Fluent; tokens that are out live on.
    pub fn change_password(&self, username: &str, password: &str) {
        self.world.identity.change_password(username, password);
    }

    /// Moves the server's clock forward: tokens expire earlier than they said, locks end earlier.
    pub fn skew_clock_forward(&self, by: Duration) {
        self.world.clock.forward(by);
    }

    /// Moves the server's clock back: tokens live longer than they said.
    pub fn skew_clock_back(&self, by: Duration) {
        self.world.clock.back(by);
    }

    /// Whether logins of this username are refused, whatever the password.
    #[must_use]
    pub fn is_locked(&self, username: &str) -> bool {
        self.world.identity.is_locked(username)
    }

    /// Goes away: closes the listener and every connection. State and record stay.
    pub async fn stop_listening(&self) {
        let server = lock(&self.server).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    /// Comes back on the same address, with the same state. Does nothing while it listens.
    ///
    /// # Errors
    /// When the address cannot be bound again.
    pub async fn listen_again(&self) -> io::Result<()> {
        if lock(&self.server).is_none() {
            let listener = self.port.listen().await?;
            self.listen_on(listener);
        }
        Ok(())
    }

    /// Stops and waits until every connection is closed.
    pub async fn stop(self) {
        self.stop_listening().await;
        if let Some((_, control)) = self.control {
            control.stop().await;
        }
    }

    fn listen_on(&self, listener: TcpListener) {
        let tls = self.world.config.tls.clone().map(TlsAcceptor::from);
        *lock(&self.server) = Some(Server::spawn(listener, tls, self.api.clone()));
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("address", &self.port.address())
            .finish_non_exhaustive()
    }
}
