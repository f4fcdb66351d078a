//! The listener's certificate while the service runs: a renewed one is presented to whoever connects from then on.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::settling;
use super::settling::Settling;
use crate::config::Tls;
use crate::config::tls::Certificate;
use crate::telemetry::Metrics;

/// The certificate's files, and the certificate in force.
#[derive(Debug)]
pub struct CertificateReloads {
    files: Tls,
    every: Duration,
    current: Arc<ArcSwap<Certificate>>,
    metrics: Arc<Metrics>,
    settling: Mutex<Settling<Certificate>>,
}

impl CertificateReloads {
    pub(super) fn new(
        (files, every): (Tls, Duration),
        current: Arc<ArcSwap<Certificate>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.certificate_in_force(current.load().not_after().unix_seconds());
        Self { files, every, current, metrics, settling: Mutex::new(Settling::new()) }
    }

    /// Looks at the files for as long as it is polled itself.
    pub(super) async fn run(&self) {
        settling::at_intervals(self.every, || self.poll()).await;
    }

    /// Looks at the files; what two looks in a row have found alike is judged. Certificate and key are two files, so that one
    /// of a pair may be seen without the other, which is then found not to fit.
    pub async fn poll(&self) {
        let mut settling = self.settling.lock().await;
        let files = self.files.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || Certificate::read(&files)).await else { return };
        let look = settling.look(read, &self.current.load(), Certificate::is_same);
        let found = look.told(
            |refused| self.metrics.certificate_reload(refused),
            "the listener's files hold the certificate in force again",
            "the listener's certificate is refused, and the one read before goes on",
        );
        if let Some(certificate) = found {
            let not_after = certificate.not_after();
            self.current.store(Arc::new(certificate));
            self.metrics.certificate_reload(false);
            self.metrics.certificate_in_force(not_after.unix_seconds());
            tracing::info!(%not_after, "the listener's certificate was read again");
        }
    }

    /// Looks twice in a row: who asks says that the files are whole.
    pub async fn reload(&self) {
        self.poll().await;
        self.poll().await;
    }
}
