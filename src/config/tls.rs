//! The listener's certificate and key, as rustls serves them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::secret_file;
use super::secret_file::Defect;
use crate::config::Tls;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;
use crate::time::Timestamp;

/// Largest key file: an RSA key of 8192 bits has 7 KiB.
const MAX_KEY_BYTES: u64 = 32 * 1024;

const CERTIFICATE: &str = "listen.tls.certificate_file";
const KEY: &str = "listen.tls.key_file";

/// A certificate chain with its key, as both were read.
#[derive(Debug)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl Certificate {
    /// Reads both files. All faults of both are reported.
    pub fn read(tls: &Tls) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let chain = chain(&tls.certificate_file)
            .map_err(|defect| defect.report(place(&tls.certificate_file), CERTIFICATE, &mut faults));
        let key = key(&tls.key_file).map_err(|defect| defect.report(place(&tls.key_file), KEY, &mut faults));
        let (Ok(chain), Ok(key)) = (chain, key) else { return faults.into_result(None) };
        certified(chain, key).map_err(|defect| {
            defect.report(place(&tls.certificate_file), CERTIFICATE, &mut faults);
            faults
        })
    }

    /// From which moment on clients refuse it.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is the same chain, whose key can then only be the same too.
    pub fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Certificate, Defect> {
    let not_after = chain.first().and_then(|leaf| not_after(leaf));
    let not_after =
        not_after.ok_or_else(|| Defect::new("is no X.509 certificate", "name a PEM file: the leaf first"))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| Defect::new(format!("does not fit `{KEY}`: {error}"), "name a certificate and its own key"))?;
    Ok(Certificate { certified: Arc::new(certified), not_after })
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Timestamp::from_unix_seconds(certificate.validity().not_after.timestamp()))
}

/// A listener with the certificate that is there when a connection begins: TLS 1.2 and 1.3, HTTP/1.1, no client
/// certificates.
pub fn server_config(current: Arc<ArcSwap<Certificate>>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Current(current)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Current(Arc<ArcSwap<Certificate>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Defect> {
    let text = fs::read(path).map_err(Defect::unreadable)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(Defect::new("holds no PEM certificate", "name a PEM file: the leaf, then its issuers")),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Defect> {
    let (text, _) = secret_file::read(path, MAX_KEY_BYTES)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| Defect::new("holds no PEM private key", "name a PEM file with an unencrypted private key"))
}

fn place(path: &Path) -> Place {
    Place::whole(path.display().to_string().into())
}

#[cfg(test)]
mod tests;
