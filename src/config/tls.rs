//! The listener's certificate and key, as rustls serves them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::secret_file;
use super::secret_file::Defect;
use crate::config::Tls;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

/// Largest key file: an RSA key of 8192 bits has 7 KiB.
const MAX_KEY_BYTES: u64 = 32 * 1024;

const CERTIFICATE: &str = "listen.tls.certificate_file";
const KEY: &str = "listen.tls.key_file";

/// Reads both files: TLS 1.2 and 1.3, HTTP/1.1, no client certificates. All faults of both are reported.
pub fn server_config(tls: &Tls) -> Result<ServerConfig, Faults> {
    let mut faults = Faults::new();
    let chain = chain(&tls.certificate_file)
        .map_err(|defect| defect.report(place(&tls.certificate_file), CERTIFICATE, &mut faults));
    let key = key(&tls.key_file).map_err(|defect| defect.report(place(&tls.key_file), KEY, &mut faults));
    let (Ok(chain), Ok(key)) = (chain, key) else { return faults.into_result(None) };

    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    match config {
        Ok(mut config) => {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(config)
        }
        Err(error) => {
            let message = format!("does not fit `{KEY}`: {error}");
            Defect::new(message, "name a certificate and its own key").report(
                place(&tls.certificate_file),
                CERTIFICATE,
                &mut faults,
            );
            faults.into_result(None)
        }
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
