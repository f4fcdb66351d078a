//! What a replica does beside requests.

use std::time::Duration;

use super::App;
use crate::state::StoreError;

/// How often replicas learn of each other's revocations.
const SYNC_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked for registries whose bundle is due.
const POLL_EVERY: Duration = Duration::from_secs(1);

impl App {
    /// What goes on beside requests, for as long as it is polled: issuers' keys are fetched before they are needed and
    /// again before they grow old, what was revoked on other replicas is learned once a second, registries are asked for
    /// their own rules, and files that have changed are read.
    pub async fn attend(&self) {
        let reloads = async {
            if let Some(reloads) = &self.reloads {
                reloads.run().await;
            }
        };
        let key_reloads = async {
            if let Some(reloads) = &self.key_reloads {
                reloads.run().await;
            }
        };
        let certificate_reloads = async {
            if let Some(reloads) = &self.certificate_reloads {
                reloads.run().await;
            }
        };
        let settings_reloads = async {
            if let Some(reloads) = &self.settings_reloads {
                reloads.run().await;
            }
        };
        let files = async { tokio::join!(reloads, key_reloads, certificate_reloads, settings_reloads) };
        tokio::join!(self.keys().run(), self.keep_in_step(), self.keep_bundles(), files);
    }

    async fn keep_bundles(&self) {
        let mut ticks = tokio::time::interval(POLL_EVERY);
        loop {
            ticks.tick().await;
            drop(self.poll_bundles());
        }
    }

    async fn keep_in_step(&self) {
        let mut ticks = tokio::time::interval(SYNC_EVERY);
        loop {
            ticks.tick().await;
            if let Err(error) = self.sync().await {
                tracing::warn!(%error, "the lists of what is revoked and stopped could not be brought up to date");
            }
        }
    }

    /// Learns what was revoked or stopped on other replicas.
    pub async fn sync(&self) -> Result<(), StoreError> {
        self.state.sync(self.now()).await
    }
}
