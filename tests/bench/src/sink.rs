//! The upstream of large requests.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::http::{read_head, skip};
use crate::say;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"data\":{}}";

/// Serves until it is killed; says where it stands.
pub(crate) fn run(address: SocketAddr, tls: Option<(PathBuf, PathBuf)>) -> io::Result<Value> {
    let tls = tls
        .map(|(certificate, key)| config(&certificate, &key))
        .transpose()?;
    let listener = TcpListener::bind(address)?;
    say(&json!({ "address": listener.local_addr()?.to_string() }));
    for stream in listener.incoming() {
        let (stream, tls) = (stream?, tls.clone());
        thread::spawn(move || match tls {
            Some(config) => serve(StreamOwned::new(
                ServerConnection::new(config).map_err(io::Error::other)?,
                stream,
            )),
            None => serve(stream),
        });
    }
    Ok(json!({}))
}

fn config(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .map_err(io::Error::other)?
        .collect();
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// Reads requests one after the other, with bodies of known length.
fn serve(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer)? {
        skip(&mut stream, head.length().saturating_sub(head.body_so_far))?;
        stream.write_all(ANSWER)?;
        stream.flush()?;
    }
    Ok(())
}
