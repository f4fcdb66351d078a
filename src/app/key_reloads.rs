//! The service's own keys while it runs: what their directory holds comes into force once it has come to rest, and where it
//! is faulty the keys read before go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::measures;
use super::settling;
use super::settling::Settling;
use crate::config::keys::read_keyring;
use crate::macaroon::Keyring;
use crate::macaroon::MasterKey;
use crate::policy::yaml::Faults;
use crate::state::State;
use crate::telemetry::Metrics;
use crate::time::Clock;

/// The keys directory, and all that a change of it reaches.
#[derive(Debug)]
pub struct KeyReloads {
    directory: PathBuf,
    every: Duration,
    ring: Arc<ArcSwap<Keyring>>,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    settling: Mutex<Settling<Keyring>>,
}

impl KeyReloads {
    pub(super) fn new(
        (directory, every): (PathBuf, Duration),
        ring: Arc<ArcSwap<Keyring>>,
        state: Arc<State>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { directory, every, ring, state, metrics, clock, settling: Mutex::new(Settling::new()) }
    }

    /// Looks at the directory for as long as it is polled itself.
    pub(super) async fn run(&self) {
        settling::at_intervals(self.every, || self.poll()).await;
    }

    /// Looks at the directory; what two looks in a row have found alike is judged.
    pub async fn poll(&self) {
        let mut settling = self.settling.lock().await;
        let read = self.read().await;
        let look = settling.look(read, &self.ring.load(), Keyring::is_same);
        let found = look.told(
            |refused| self.metrics.keyring_reload(refused),
            "the keys directory holds the keys in force again",
            "the keys directory is refused, and the keys read before go on",
        );
        if let Some(ring) = found {
            self.activate(ring);
        }
    }

    /// Looks twice in a row: who asks says that the files are whole.
    pub async fn reload(&self) {
        self.poll().await;
        self.poll().await;
    }

    async fn read(&self) -> Result<Keyring, Faults> {
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || read_keyring(&directory)).await.unwrap_or_else(|_| Err(Faults::new()))
    }

    /// SECURITY: what a key that is gone has sealed is not believed any more either, whoever put it into the store.
    fn activate(&self, ring: Keyring) {
        let now = self.clock.now();
        let minting = ring.minting_key(now).map_or("none", MasterKey::kid).to_owned();
        let known = ring.iter().map(MasterKey::kid).collect::<Vec<_>>().join(", ");
        self.state.rekey(super::seal_keys(&ring));
        measures::keyring(&ring, &self.metrics);
        self.ring.store(Arc::new(ring));
        self.metrics.keyring_reload(false);
        if minting == "none" {
            tracing::error!(known, "the keys were read again, and none of them mints yet");
        } else {
            tracing::info!(known, minting, "the keys were read again");
        }
    }
}
