//! Why a connection was not made: one closed set of causes for every client, each with what to do about it.
//!
//! 1. A cause is found in the chain of a library's error, by type wherever there is one.
//! 2. Its sentence holds no name, address or foreign text: it may stand in any log.
//! 3. A server that wants another client certificate tells so after our half of the handshake (TLS 1.3, RFC 8446,
//!    section 4.4.2.4): it is known by its alert, wherever that turns up, and nothing was processed then.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use http::StatusCode;
use rustls::{AlertDescription, CertificateError};

/// An error of a library, with its chain.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An error that several wait for.
#[derive(Clone, Debug)]
pub struct SharedError(Arc<dyn StdError + Send + Sync>);

impl From<BoxError> for SharedError {
    fn from(error: BoxError) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SharedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// What kept a connection from being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The name has no address.
    #[error("its name was not resolved; look at the URL and at the machine's resolver")]
    Name,
    /// It did not come about in time.
    #[error("connecting took longer than upstream.connect_timeout; look at firewalls and at upstream.proxy")]
    Time,
    /// Nobody listens there.
    #[error("the connection was refused; look at the URL and at firewalls")]
    Refused,
    /// It is this very process.
    #[error("it is this proxy itself; the URL leads back to where it listens")]
    Itself,
    /// Its certificate is for others.
    #[error("its certificate is for another name; the URL must hold a name that the certificate has")]
    CertificateName,
    /// Its certificate is too old, or too young.
    #[error(
        "its certificate is not valid at this time; it must be renewed, or this machine's clock is wrong"
    )]
    CertificateTime,
    /// Its certificate comes from an authority that is not trusted.
    #[error("its certificate is of an unknown authority; name the authority in upstream.ca_file")]
    CertificateAuthority,
    /// Its certificate is bad in another way.
    #[error("its certificate was not accepted")]
    Certificate,
    /// It wants a certificate of ours that we do not have.
    #[error(
        "it did not take our certificate, or wants one; look at upstream.client_cert_file and client_key_file"
    )]
    ClientCertificate,
    /// The handshake failed for another cause.
    #[error("the TLS handshake failed; look at upstream.http_version and at whether the port speaks TLS")]
    Tls,
    /// The proxy on the way out wants other credentials.
    #[error(
        "the proxy on the way out wants a username and password; write them into the URL of upstream.proxy, or \
         of the variable that names it"
    )]
    ProxyCredentials,
    /// The proxy on the way out does not let us through.
    #[error("the proxy on the way out answered CONNECT with status {}; it must let the host through", .0.as_u16())]
    ProxyRefused(StatusCode),
    /// There is no talking to the proxy on the way out.
    #[error("the proxy on the way out cannot be reached; look at upstream.proxy and HTTPS_PROXY")]
    Proxy,
    /// Any other cause.
    #[error("connecting failed")]
    Other,
}

/// An error whose cause is known where it is made.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Because {
    /// The cause.
    pub why: Unreachable,
    /// The error below it.
    pub source: Option<BoxError>,
}

impl Unreachable {
    /// What an error of connecting comes to.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        if let Some(known) = find::<Because>(error) {
            return known.why;
        }
        if find::<tokio::time::error::Elapsed>(error).is_some() {
            return Self::Time;
        }
        if let Some(error) = find::<rustls::Error>(error) {
            return Self::of_tls(error);
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(io::ErrorKind::TimedOut) => Self::Time,
            Some(_) | None => Self::of_text(error),
        }
    }

    /// A refusal of our certificate, which comes when the connection seems to stand already.
    #[must_use]
    pub fn late(error: &(dyn StdError + 'static)) -> Option<Self> {
        let found = find::<rustls::Error>(error).map(Self::of_tls);
        found.filter(|why| *why == Self::ClientCertificate)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enums are the library's, and open"
    )]
    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::CertificateName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateTime,
                CertificateError::UnknownIssuer => Self::CertificateAuthority,
                _ => Self::Certificate,
            },
            rustls::Error::NoCertificatesPresented => Self::Certificate,
            rustls::Error::AlertReceived(
                AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateRequired,
            ) => Self::ClientCertificate,
            _ => Self::Tls,
        }
    }

    /// Some causes have no type of their own: the resolver's, and those of the tunnel inside reqwest.
    fn of_text(error: &(dyn StdError + 'static)) -> Self {
        let says = |start: &str| chain(error).any(|cause| cause.to_string().starts_with(start));
        if says("tunnel error: proxy authorization required") {
            Self::ProxyCredentials
        } else if says("tunnel error") {
            Self::Proxy
        } else if says("dns error") {
            Self::Name
        } else {
            Self::Other
        }
    }
}

/// An error and all its causes.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// What `std::io::Error` wraps is its cause, though it names that one's source instead.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => error.source(),
    }
}

/// The first error of the type `E` in the chain of `error`.
#[must_use]
pub fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref::<E>())
}
