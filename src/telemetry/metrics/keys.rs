//! The service's own keys, certificate and settings: how old they are, and whether they can be read again.

use super::Metrics;
use super::instrument::Count;
use super::instrument::Maker;
use super::instrument::Told;
use super::instrument::configured;
use super::instrument::plain;

#[derive(Debug)]
pub(super) struct Keys {
    reloads: Count<1>,
    refused: Told<bool>,
    master: Told<Vec<KeyReading>>,
    certificate: Told<CertificateReading>,
    settings_reloads: Count<1>,
    settings_refused: Told<bool>,
}

/// A master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReading {
    /// Its name.
    pub kid: String,
    /// From when on it mints, in seconds of Unix time.
    pub activate_at: i64,
}

/// The listener's certificate.
#[derive(Debug, Default)]
struct CertificateReading {
    /// In seconds of Unix time; `None` where the listener speaks no TLS.
    not_after: Option<i64>,
    refused: bool,
}

impl Keys {
    pub(super) fn new(make: &mut Maker) -> Self {
        let refused: Told<bool> = Told::default();
        let shown = refused.clone();
        make.gauge(
            "keyring_refused",
            [],
            "1 while what the keys directory holds is refused, and the keys read before it are used.",
            move || plain(Some(shown.with(|refused| i64::from(*refused)))),
        );
        let master: Told<Vec<KeyReading>> = Told::default();
        let shown = master.clone();
        make.gauge(
            "master_key_activation_timestamp_seconds",
            ["kid"],
            "The moment, in Unix time, from which on a master key mints: of those past, the latest one's does.",
            move || {
                let one = |it: &KeyReading| ([configured(&it.kid)], it.activate_at);
                shown.with(|keys| keys.iter().map(one).collect())
            },
        );
        let certificate: Told<CertificateReading> = Told::default();
        let shown = certificate.clone();
        make.gauge(
            "certificate_expiry_timestamp_seconds",
            [],
            "The moment, in Unix time, from which on clients refuse the listener's certificate.",
            move || plain(shown.with(|it| it.not_after)),
        );
        let shown = certificate.clone();
        make.gauge(
            "certificate_refused",
            [],
            "1 while what the listener's files hold is refused, and the certificate read before goes on.",
            move || plain(shown.with(|it| it.not_after.map(|_| i64::from(it.refused)))),
        );
        let settings_refused: Told<bool> = Told::default();
        let shown = settings_refused.clone();
        make.gauge(
            "settings_refused",
            [],
            "1 while what the settings files hold is refused, and the operators read before it go on.",
            move || plain(Some(shown.with(|refused| i64::from(*refused)))),
        );
        Self {
            reloads: make.counter(
                "keyring_reloads",
                ["outcome"],
                "Readings of the keys directory that found something new, by outcome.",
            ),
            refused,
            master,
            certificate,
            settings_reloads: make.counter(
                "settings_reloads",
                ["outcome"],
                "Readings of the settings files that found something new, by outcome.",
            ),
            settings_refused,
        }
    }
}

impl Metrics {
    /// Counts a reading of the keys directory that found something new, and says whether that is refused, so that the keys
    /// read before it go on.
    pub fn keyring_reload(&self, refused: bool) {
        self.keys.reloads.one([if refused { "refused" } else { "activated" }.into()]);
        self.keys.refused.set(refused);
    }

    /// Counts a reading of the settings files that found something new, and says whether that is refused, so that the operators
    /// read before it go on.
    pub fn settings_reload(&self, refused: bool) {
        self.keys.settings_reloads.one([if refused { "refused" } else { "activated" }.into()]);
        self.keys.settings_refused.set(refused);
    }

    /// Says which master keys are known from now on.
    pub fn keys_in_force(&self, keys: Vec<KeyReading>) {
        self.keys.master.set(keys);
    }

    /// Says until when the listener's certificate is good, in seconds of Unix time.
    pub fn certificate_in_force(&self, not_after: i64) {
        self.keys.certificate.with(|it| it.not_after = Some(not_after));
    }

    /// Says whether what the listener's files hold is refused, so that the certificate read before goes on.
    pub fn certificate_reload(&self, refused: bool) {
        self.keys.certificate.with(|it| it.refused = refused);
    }
}
