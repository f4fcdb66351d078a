//! A certificate authority for one run, and the certificate of 127.0.0.1 and `localhost` that it signs.
//!
//! SECURITY: the authority may vouch for loopback only (a name constraint), is valid for a week, and its own key is
//! forgotten before anyone sees the certificate: a machine that goes on trusting it has nothing to fear from it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::time::Timestamp;

/// The names that the server certificate is for.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A server certificate for loopback, its key, and the authority to trust for it.
#[derive(Debug)]
pub struct LoopbackCertificate {
    authority: String,
    certificate: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl LoopbackCertificate {
    /// A fresh authority and a certificate signed by it, valid from a day before now (clients' clocks differ) to a
    /// week after it.
    pub fn generate(now: Timestamp) -> Result<Self, rcgen::Error> {
        let authority = authority(now)?;
        let key = KeyPair::generate()?;
        let mut params = params(&NAMES, "trustmint on loopback", now)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &authority)?;
        Ok(Self { authority: authority.pem(), certificate: certificate.pem(), der: certificate.der().clone(), key })
    }

    /// The authority's certificate as PEM: what a client is told to trust (`SSL_CERT_FILE`).
    pub fn authority_pem(&self) -> &str {
        &self.authority
    }

    /// The server's certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Writes the server's private key as PEM to a new file that only its owner may read.
    pub fn write_key(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(Zeroizing::new(self.key.serialize_pem()).as_bytes())
    }

    /// What a server needs to speak TLS with this certificate.
    pub fn server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)
    }
}

fn authority(now: Timestamp) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = params(&[], "trustmint throw-away authority", now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
            GeneralSubtree::DnsName("localhost".into()),
        ],
        excluded_subtrees: Vec::new(),
    });
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn params(names: &[&str], common_name: &str, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().copied().map(String::from).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = (UNIX_EPOCH + since_epoch(now.minus(DAY))).into();
    params.not_after = (UNIX_EPOCH + since_epoch(now.plus(VALIDITY))).into();
    Ok(params)
}

fn since_epoch(moment: Timestamp) -> Duration {
    moment.since(Timestamp::from_unix_seconds(0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{Error, RootCertStore};

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_787_000_000);

    /// What a client that trusts the authority makes of a certificate, at a time.
    fn verify(authority: &str, certificate: &CertificateDer<'_>, name: &str, at: Timestamp) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name).unwrap();
        let at = UnixTime::since_unix_epoch(since_epoch(at));
        verifier.verify_server_cert(certificate, &[], &name, &[], at).map(drop)
    }

    #[test]
    fn it_is_valid_for_loopback_and_for_a_week() {
        let it = LoopbackCertificate::generate(NOW).unwrap();
        for name in NAMES {
            assert_eq!(verify(&it.authority, &it.der, name, NOW), Ok(()), "{name}");
        }
        assert!(verify(&it.authority, &it.der, "127.0.0.2", NOW).is_err());
        assert!(verify(&it.authority, &it.der, "pypi.org", NOW).is_err());
        assert!(verify(&it.authority, &it.der, "localhost", NOW.plus(VALIDITY + DAY)).is_err());
        let other = LoopbackCertificate::generate(NOW).unwrap();
        assert!(verify(&other.authority, &it.der, "localhost", NOW).is_err());
        assert!(it.server_config().is_ok());
    }

    #[test]
    fn its_authority_can_vouch_for_nothing_but_loopback() {
        let authority = authority(NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        for (name, ok) in [("localhost", true), ("pypi.org", false), ("192.0.2.1", false)] {
            let certificate = params(&[name], "forged", NOW).unwrap().signed_by(&key, &authority).unwrap();
            assert_eq!(verify(&authority.pem(), certificate.der(), name, NOW).is_ok(), ok, "{name}");
        }
    }

    #[test]
    fn its_key_is_written_for_its_owner_only_and_never_over_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let it = LoopbackCertificate::generate(NOW).unwrap();
        it.write_key(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(it.write_key(&path).is_err());
    }
}
