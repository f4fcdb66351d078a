//! The settings while the service runs: of all that their files say, who may operate it is taken from them again, so that an
//! API key can be withdrawn from all replicas without a restart of any. What else has changed takes one, and that is told.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::App;
use super::settling;
use super::settling::Settling;
use crate::config::Settings;
use crate::config::Sources;
use crate::policy::caller::Caller;
use crate::telemetry::Metrics;

/// Where the settings are from, and whom they let operate the service.
#[derive(Debug)]
pub struct SettingsReloads {
    sources: Sources,
    every: Duration,
    /// With what the service was started.
    started: Settings,
    operators: Arc<ArcSwap<Vec<Caller>>>,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
}

/// What one look leaves to the next.
#[derive(Debug)]
struct Held {
    settling: Settling<Settings>,
    /// What was found last to be good.
    latest: Settings,
}

impl App {
    /// Reads the settings again whenever their files change, which are looked at every so often: these are the operators from
    /// then on.
    #[must_use]
    pub fn watching_settings(
        mut self,
        sources: Sources,
        started: Settings,
        every: Duration,
        operators: Arc<ArcSwap<Vec<Caller>>>,
    ) -> Self {
        let metrics = Arc::clone(&self.metrics);
        let held = Mutex::new(Held { settling: Settling::new(), latest: started.clone() });
        let reloads = SettingsReloads { sources, every, started, operators, metrics, held };
        self.settings_reloads = Some(Arc::new(reloads));
        self
    }

    /// How the settings are read again, where they are.
    pub const fn settings_reloads(&self) -> Option<&Arc<SettingsReloads>> {
        self.settings_reloads.as_ref()
    }
}

impl SettingsReloads {
    /// Looks at the files for as long as it is polled itself.
    pub(super) async fn run(&self) {
        settling::at_intervals(self.every, || self.poll()).await;
    }

    /// Looks at the files; what two looks in a row have found alike is judged, all of it: a file that is faulty anywhere changes
    /// nothing.
    pub async fn poll(&self) {
        let mut held = self.held.lock().await;
        let sources = self.sources.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || sources.load()).await else { return };
        let Held { settling, latest } = &mut *held;
        let found = settling.look(read, latest, Settings::is_same).told(
            |refused| self.metrics.settings_reload(refused),
            "the settings hold what they held before again",
            "the changed settings are refused, and the operators read before go on",
        );
        if let Some(settings) = found {
            self.activate(settings, latest);
        }
    }

    /// Looks twice in a row: who asks says that the files are whole.
    pub async fn reload(&self) {
        self.poll().await;
        self.poll().await;
    }

    fn activate(&self, settings: Settings, latest: &mut Settings) {
        self.metrics.settings_reload(false);
        let callers = &settings.operations.callers;
        if *callers != latest.operations.callers {
            let names = callers.iter().map(|caller| caller.name.as_str()).collect::<Vec<_>>().join(", ");
            self.operators.store(Arc::new(callers.clone()));
            tracing::info!(operators = names, "the operators were read again");
        }
        if !settings.starts_as(latest) && !settings.starts_as(&self.started) {
            tracing::warn!("settings have changed that are read at start only: restart the service to run by them");
        }
        *latest = settings;
    }
}
