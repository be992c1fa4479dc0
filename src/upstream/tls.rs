//! Whom to trust, and who we are: one rustls configuration for upstream and for the token endpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::Tls;
use crate::files;

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read as PEM.
    #[error("{path} cannot be read as PEM", path = .0.display())]
    Pem(PathBuf, #[source] pem::Error),
    /// A file holds no certificate.
    #[error("{path} holds no certificate", path = .0.display())]
    Empty(PathBuf),
    /// A certificate is not one that can be trusted.
    #[error("{path} holds a certificate that cannot be used", path = .0.display())]
    Authority(PathBuf, #[source] rustls::Error),
    /// Our own certificate and key do not go together.
    #[error("the client certificate and its key cannot be used")]
    Client(#[source] rustls::Error),
    /// The library refused its own defaults.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// A configuration that trusts the machine's authorities (Mozilla's where the machine has none) and those of
/// `ca_file`.
///
/// # Errors
/// When a file cannot be used; the error names it.
pub fn config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots(tls.ca_file.as_deref())?);
    match &tls.client {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let key_pem = |error| TlsError::Pem(key.clone(), error);
            let private = read(key)
                .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem))
                .map_err(key_pem)?;
            builder
                .with_client_auth_cert(certificates(chain)?, private)
                .map_err(TlsError::Client)
        }
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "some of the machine's authorities were not read");
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::Authority(path.to_owned(), error))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = read(path)
        .and_then(|pem| CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>())
        .map_err(|error| TlsError::Pem(path.to_owned(), error))?;
    if certificates.is_empty() {
        Err(TlsError::Empty(path.to_owned()))
    } else {
        Ok(certificates)
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, pem::Error> {
    let pem = files::read(path, files::LONGEST_PEM).map_err(pem::Error::Io)?;
    Ok(Zeroizing::new(pem))
}
