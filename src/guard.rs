//! Who may ask, for what, and which headers pass: pure functions over a request's head.
//!
//! [`Guard::admit`] asks these questions, in this order; the first that fails gives the [`Rejection`]:
//! 1. **Loop**: has the request been through this very process? First, since a request that comes back has lost
//!    its `Origin` and the required header, and an operator wants to hear of the loop, not of these.
//! 2. **Host** (`host`): does it name this proxy? A page whose own name was pointed at a loopback address
//!    (DNS rebinding) sends that name. Not asked on Unix sockets, which no page can reach: there the user whom the
//!    caller runs as is looked at, where the settings list some.
//! 3. **Origin** (`origin`): does a page of another origin ask? What listed origins are told stands in `cors`.
//! 4. **Required header**: exactly one, of exactly that value.
//! 5. **Content type** (`media`): could a form have sent it? What a form cannot send makes browsers ask first.
//!    Not asked on Unix sockets, nor where a required header says more.
//! 6. **Path** (`path`): does it have one reading only, is it no way to the token endpoint, does it go anywhere?
//! 7. **Method**.
//!
//! [`Guard::scrub_request`] and [`scrub_response`] (`headers`) then take away what is not meant for the other
//! side, and [`set_request_headers`] and [`set_response_headers`] add what is ours.
//!
//! # Threat model
//! The proxy adds credentials to whatever it lets pass: who gets a request through acts as its Fluent user.
//!
//! | who | reaches | is kept out by |
//! | --- | --- | --- |
//! | a web page of another origin, in a browser of this machine | TCP listeners on loopback | rules 3 and 5; it cannot read answers either, see `cors` |
//! | a web page whose own name leads to loopback (DNS rebinding) | the same | rule 2 |
//! | another machine | nothing, unless `listen.danger_allow_remote` | the address; `listen.required_header` is for those who need the switch |
//! | another user of this machine | TCP listeners on loopback | nothing but `listen.required_header`; a Unix socket with its mode and `listen.allowed_uids` keeps him out |
//! | a caller who may ask | Fluent, by the paths listed | rule 6: never the token endpoint; `[graphql]` for what may be asked there |
//! | a caller who sends hostile bytes | the server | one reading of every message, written anew for upstream; limits of size, time and number on heads, bodies and connections |
//! | the proxy itself, by its own URL | itself | rule 1, and `upstream`, which never dials our own listeners |
//! | Fluent, or who answers in its place | callers | TLS; no cookie, no `Access-Control-*`, no `Proxy-Status` of its passes |
//! | who reads logs, metrics or the admin pages | what they tell | no secret, no body, no query string stands in any |
//!
//! **Not defended:** root and the proxy's own user on this machine, who can read its memory and its secrets' files; a
//! caller who may ask, and asks too much for Fluent; browser extensions that act as the user; what pages of listed
//! origins do; a proxy on the way out that is told our requests in the clear (`http://` upstream only).
//!
//! What weakens it: browsers that send neither `Sec-Fetch-Site` nor, on a GET, `Origin` can make a foreign page's
//! GET arrive here (the page cannot read the answer). `required_header` closes that too.

mod cors;
mod headers;
mod host;
mod media;
mod origin;
mod path;
mod via;

use std::hint::black_box;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, Method, Uri};
use http_body::Body;

pub use self::cors::{Sharing, preflight_answer};
pub use self::headers::{
    RequestHeaders, forget_body, request_id, scrub_response, set_request_headers, set_response_headers,
    upstream_host,
};
pub use self::via::ViaId;
use crate::secret::Secret;

/// What [`crate::guard`] asks of each request.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Names that `Host` may hold beside loopback names and the connection's own address; lower case, no port.
    pub allowed_hosts: Vec<String>,
    /// Origins beside the proxy's own that may send requests, as browsers write them (`https://app.example`).
    pub allowed_origins: Vec<String>,
    /// The users who may call by a Unix socket; all where it lists none.
    pub allowed_uids: Vec<u32>,
    /// A header that each request must carry.
    pub required_header: Option<RequiredHeader>,
    /// The paths that go upstream.
    pub paths: Vec<PathRule>,
}

/// A header that each request must carry, with its value.
#[derive(Clone, Debug)]
pub struct RequiredHeader {
    /// Its name.
    pub name: HeaderName,
    /// Its value, compared without telling by the time it takes where they differ.
    pub value: Secret,
}

/// One entry of `listen.paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// This very path.
    Exact(String),
    /// Everything under this path, which ends in `/`.
    Under(String),
}

/// The connection that a request came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// TCP, with the address at our end of this very connection.
    Tcp(SocketAddr),
    /// A Unix socket, with the user at its other end.
    Unix {
        /// His id.
        uid: u32,
    },
}

/// Whether a body follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// None: no `Content-Length` or one of 0, no `Transfer-Encoding`; on HTTP/2 the head ended the stream.
    Empty,
    /// There is, or may be, at least a byte.
    Present,
}

impl Payload {
    /// What a body as the server hands it over says: the server has settled the framing already.
    pub fn of(body: &impl Body) -> Self {
        if body.is_end_stream() || body.size_hint().exact() == Some(0) {
            Self::Empty
        } else {
            Self::Present
        }
    }
}

/// Where a request that may pass goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// One of the proxy's own pages, by its path.
    Page(&'static str),
    /// Nowhere: a browser asks for a page of a listed origin, see [`preflight_answer`].
    Preflight,
    /// Upstream.
    Upstream(Destination<'a>),
}

/// A place upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'a> {
    /// The instance that `/instances/NAME/…` names, known or not; `None` is the default one.
    pub instance: Option<&'a str>,
    /// The path below the instance's URL, with the query as the caller wrote it.
    pub path_and_query: &'a str,
    /// Whether the rules for GraphQL hold: the path is `/graphql`, or would be for a careless reader.
    pub graphql: bool,
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The request has been through this very process.
    #[error("the request has been through this process before")]
    LoopDetected,
    /// `Host` names nobody whom this proxy is known as, or names are missing, doubled or at odds.
    #[error("the host of the request is not an allowed name")]
    HostNotAllowed,
    /// The caller runs as a user who is not listed.
    #[error("the user who runs the caller is not one of listen.allowed_uids")]
    PeerNotAllowed,
    /// A page of another origin asks.
    #[error("the request comes from a page of another origin")]
    CrossOrigin,
    /// The required header is missing, doubled or wrong.
    #[error("the required header is missing or wrong")]
    HeaderRequired,
    /// A POST that a form could have sent.
    #[error("the content type is one that a form can send")]
    ContentTypeNotAllowed,
    /// The path goes nowhere, or has more than one reading.
    #[error("the path is not one that the proxy serves")]
    PathNotFound,
    /// The path does not take this method.
    #[error("the path does not take this method")]
    MethodNotAllowed {
        /// The methods it takes, as `Allow` lists them.
        allow: &'static str,
    },
}

/// The rules of a listener, ready to be asked.
#[derive(Clone, Debug)]
pub struct Guard {
    rules: Rules,
    hosts: host::Hosts,
    id: ViaId,
    pages: &'static [&'static str],
}

impl Guard {
    /// A guard for `rules`, in the process that is known as `id`. `pages` are the exact paths of pages that the
    /// proxy serves itself (`/`, `/graphiql`), none where it serves none.
    #[must_use]
    pub fn new(rules: Rules, id: ViaId, pages: &'static [&'static str]) -> Self {
        let hosts = host::Hosts::new(&rules.allowed_hosts);
        Self {
            rules,
            hosts,
            id,
            pages,
        }
    }

    /// Judges the head of a request. What it returns borrows from the target alone, so that headers can be
    /// scrubbed meanwhile.
    ///
    /// # Errors
    /// The first rule of this module that the request breaks.
    pub fn admit<'a>(
        &self,
        method: &Method,
        uri: &'a Uri,
        headers: &HeaderMap,
        connection: Connection,
        payload: Payload,
    ) -> Result<Target<'a>, Rejection> {
        self.admit_caller(method, uri, headers, connection, payload)?;
        match self.preflight(method, headers) {
            Some(asked) => self.admit_target(&asked, uri).map(|_| Target::Preflight),
            None => self.admit_target(method, uri),
        }
    }

    /// Rules 1 to 5, who asks: all that a listener without upstream paths needs.
    ///
    /// # Errors
    /// The first of these rules that the request breaks.
    pub fn admit_caller(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        connection: Connection,
        payload: Payload,
    ) -> Result<(), Rejection> {
        if self.id.is_in(headers) {
            return Err(Rejection::LoopDetected);
        }
        let named = match connection {
            Connection::Tcp(local) => Some(self.hosts.admit(uri, headers, local)?),
            Connection::Unix { uid } => {
                let listed = &self.rules.allowed_uids;
                if !listed.is_empty() && !listed.contains(&uid) {
                    return Err(Rejection::PeerNotAllowed);
                }
                host::named(uri, headers).ok()
            }
        };
        let page = self.page(method, uri).is_some();
        origin::admit(headers, named, &self.rules.allowed_origins, page)?;
        if self.preflight(method, headers).is_some() {
            return Ok(());
        }
        match (&self.rules.required_header, connection) {
            (Some(required), _) => required.admit(headers),
            (None, Connection::Tcp(_)) => media::admit(method, headers, payload),
            (None, Connection::Unix { .. }) => Ok(()),
        }
    }

    /// Rules 6 and 7, what is asked for.
    fn admit_target<'a>(&self, method: &Method, uri: &'a Uri) -> Result<Target<'a>, Rejection> {
        if let Some(page) = self.page(method, uri) {
            return Ok(Target::Page(page));
        }
        match path::admit(method, uri, &self.rules.paths) {
            Err(Rejection::PathNotFound) if self.pages.contains(&uri.path()) => {
                Err(Rejection::MethodNotAllowed { allow: "GET, HEAD" })
            }
            judged => judged.map(Target::Upstream),
        }
    }

    /// The page that the request asks for. A page has no query of its own, and any is taken.
    fn page(&self, method: &Method, uri: &Uri) -> Option<&'static str> {
        let reads = *method == Method::GET || *method == Method::HEAD;
        self.pages
            .iter()
            .copied()
            .find(|page| reads && *page == uri.path())
    }
}

impl RequiredHeader {
    /// Rule 4.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Rejection> {
        #[expect(
            clippy::disallowed_methods,
            reason = "what the caller sent is compared with it"
        )]
        let wanted = self.value.expose().as_bytes();
        match headers::sole(headers, &self.name) {
            Some(value) if same(value.as_bytes(), wanted) => Ok(()),
            Some(_) | None => Err(Rejection::HeaderRequired),
        }
    }
}

/// Whether both are equal, in a time that depends on their lengths alone.
fn same(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |seen, (l, r)| black_box(seen | (l ^ r)));
    left.len() == right.len() && difference == 0
}

#[cfg(test)]
mod tests;
