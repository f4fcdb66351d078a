//! `trustmint serve`: read everything, refuse to start on any fault, serve until told to stop.

use std::fmt::Display;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::System;
use actix_web::web;
use arc_swap::ArcSwap;
use clap::Args;
use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::app;
use crate::app::App;
use crate::app::Parts;
use crate::app::Trigger;
use crate::audit::AuditLog;
use crate::audit::AuditSink;
use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::serve::draining::End;
use crate::cli::serve::draining::StopSignals;
use crate::config;
use crate::config::Audit;
use crate::config::AuditTarget;
use crate::config::Settings;
use crate::config::tls::Certificate;
use crate::exchange;
use crate::http;
use crate::http::Public;
use crate::http::operations::Operators;
use crate::identity::fetch::HttpsFetch;
use crate::macaroon::Keyring;
use crate::policy::Policy;
use crate::policy::caller::Caller;
use crate::policy::watch::Directory;
use crate::policy::watch::Reading;
use crate::policy::yaml::Faults;
use crate::state::MemoryStore;
use crate::state::RedisFault;
use crate::state::RedisOptions;
use crate::state::RedisStore;
use crate::state::Store;
use crate::telemetry::Metrics;
use crate::telemetry::logs;
use crate::telemetry::otlp;
use crate::telemetry::otlp::AuditStream;
use crate::telemetry::otlp::Exporter;
use crate::telemetry::otlp::Outboxes;
use crate::telemetry::trace::Tracer;
use crate::time::Clock;
use crate::time::SystemClock;

pub(crate) mod draining;

/// How long the last audit events may take to be written at the end.
const FLUSH: Duration = Duration::from_secs(5);
/// How long the last telemetry may.
const LAST_TELEMETRY: Duration = Duration::from_secs(3);
/// How long the server's threads may take, as they end, to let go of what they were doing: it is recorded then.
const LAST_HANDLERS: Duration = Duration::from_secs(1);

/// What the end takes at most beside `limits.drain` and `limits.shutdown_timeout`, in seconds: the chart's check of its grace
/// period, and docs/operations.md, say the same.
const ENDING: u64 = exchange::STORE_WAIT.as_secs()
    + http::OPERATIONS_SHUTDOWN.as_secs()
    + LAST_HANDLERS.as_secs()
    + FLUSH.as_secs()
    + LAST_TELEMETRY.as_secs();
const _: () = assert!(ENDING == 11);

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    sources: Sources,
}

/// Where settings come from: later files win over earlier ones, the environment over all.
#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// A settings file; may be given several times, later ones win
    #[arg(long = "config", value_name = "FILE")]
    config: Vec<PathBuf>,
}

/// Everything that `serve` starts from and `check` looks at.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    directory: Directory,
    /// What the policy directory was found to hold: alone of all, it may be faulty.
    reading: Reading,
    pub(crate) keyring: Keyring,
    pub(crate) certificate: Option<Certificate>,
    /// The store in Redis; `None`: in memory.
    pub(crate) redis: Option<RedisOptions>,
    /// The collector, if there is one.
    otlp: Option<otlp::Options>,
}

impl Sources {
    /// The settings alone.
    pub(crate) fn settings(&self) -> Result<Settings, Failed> {
        self.named().load().map_err(refused)
    }

    /// Where they are from.
    fn named(&self) -> config::Sources {
        #[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
        config::Sources::new(self.config.clone(), environment)
    }
}

impl Loaded {
    /// Policy, keys, certificate and the store's files, and where the audit log goes; every fault at once, unless only the policy
    /// has any. `told` is as in [`Directory::telling`]; `judge` says whether the audit log can be opened, as far as whoever asks
    /// wants to know it before.
    pub(crate) fn read(
        settings: Settings,
        told: fn(usize),
        judge: fn(&Audit) -> Result<(), Faults>,
    ) -> Result<Self, Failed> {
        let directory = Directory::new(settings.policy.directory.clone()).telling(told);
        let reading = directory.read();
        let keyring = config::keys::read_keyring(&settings.keys.directory);
        let certificate = settings.listen.tls.as_ref().map(Certificate::read).transpose();
        let redis = settings.state.redis.as_ref().map(config::redis::Redis::options).transpose();
        let otlp = settings.telemetry.otlp.as_ref().map(config::otlp::Otlp::options).transpose();
        let audit = judge(&settings.audit);
        match (keyring, certificate, redis, otlp, audit) {
            (Ok(keyring), Ok(certificate), Ok(redis), Ok(otlp), Ok(())) => {
                Ok(Self { settings, directory, reading, keyring, certificate, redis, otlp })
            }
            (keyring, certificate, redis, otlp, audit) => {
                let audit = audit.and_then(|()| unmade(&settings));
                let faults = [keyring.err(), certificate.err(), redis.err(), otlp.err(), audit.err()];
                let faults = [reading.judged.err()].into_iter().chain(faults);
                let faults: Vec<_> = faults.flatten().map(|faults| faults.to_string()).collect();
                Err(Failed::new(faults.join("\n")))
            }
        }
    }

    /// The policy that the directory holds, or its faults.
    pub(crate) fn policy(&self) -> Result<&Policy, Failed> {
        self.reading.judged.as_ref().map(|loaded| &loaded.policy).map_err(refused)
    }
}

/// Whoever does not start for something else makes no file, and so does not learn for sure whether the audit log's can be made: what
/// is likely is told with the rest.
fn unmade(settings: &Settings) -> Result<(), Faults> {
    settings.audit.check()
}

fn refused(faults: impl Display) -> Failed {
    Failed::new(faults.to_string())
}

impl Serve {
    pub(crate) fn run(self) -> Ended {
        let sources = self.sources.named();
        let settings = sources.load().map_err(refused)?;
        let outboxes = Outboxes::new();
        let logged = settings.telemetry.otlp.as_ref().is_some_and(|otlp| otlp.logs);
        let records = logged.then(|| outboxes.log(Arc::new(SystemClock)));
        logs::start(settings.telemetry.log, &settings.telemetry.level, records)?;
        let told = |rules| tracing::info!("reading the policy: {rules} rules so far");
        let loaded = Loaded::read(settings, told, Audit::check_before_opening)?;
        let settings = &loaded.settings;
        let listener = bind("listen.address", settings.listen.address)?;
        let operations = bind("operations.address", settings.operations.address)?;
        run(serve(loaded, sources, outboxes, listener, operations))?
    }
}

/// Runs this on the main thread until it ends.
///
/// The runtime is ours, since one that is merely dropped waits without end for what blocks a thread of it: a name that is looked up, a
/// policy that is read. Such a thread ends with the process.
fn run<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Arc::new(Builder::new_current_thread().enable_all().build()?);
    let system = System::with_tokio_rt(|| Arc::clone(&runtime));
    let done = system.block_on(work);
    drop(system);
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shutdown_background();
    }
    Ok(done)
}

fn bind(key: &str, address: std::net::SocketAddr) -> Result<TcpListener, Failed> {
    TcpListener::bind(address).map_err(|error| Failed::new(format!("{key}: cannot listen at {address}: {error}")))
}

/// What `serve` runs.
struct Built {
    app: App,
    settings: Settings,
    /// Who may operate it, now.
    operators: Arc<ArcSwap<Vec<Caller>>>,
    tls: Option<rustls::ServerConfig>,
    exporter: Option<Exporter>,
}

async fn build(loaded: Loaded, sources: config::Sources, outboxes: Outboxes) -> Result<Built, Failed> {
    let Loaded { settings, directory, reading, keyring, certificate, redis, otlp } = loaded;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::new()?);
    let unstarted = |failed: Failed| failed.and(unmade(&settings).err());
    let store: Arc<dyn Store> = match redis {
        Some(options) => Arc::new(redis_store(options, &metrics).await.map_err(unstarted)?),
        None => Arc::new(MemoryStore::new(Arc::clone(&clock), settings.state.capacity)),
    };
    let begun = app::begin(directory, reading, &store, &keyring, clock.now()).await;
    let (policy, begun) = begun.map_err(|faults| unstarted(refused(faults)))?;
    let audit = AuditLog::start(sink(&settings, otlp.as_ref(), &outboxes)?, settings.audit.capacity)
        .map_err(|error| Failed::new(settings.audit.unstarted_by(error)))?;
    metrics.observe_audit_dropped(audit.dropped_reading());
    metrics.observe_audit_suppressed(audit.suppressed_reading());
    metrics.observe_audit_queue(audit.queue_reading());
    metrics.observe_audit_astray(audit.lost_files_reading());
    let recorded = otlp.as_ref().filter(|otlp| otlp.traces);
    let tracer = recorded.map_or_else(Tracer::default, |otlp| outboxes.tracer(otlp.sample_one_in, Arc::clone(&clock)));
    let exporter = otlp.map(|otlp| export(otlp, outboxes, &metrics, &clock)).transpose()?;
    let parts = Parts {
        policy,
        keyring,
        fetch: Arc::new(HttpsFetch::new().tracing(tracer.clone())),
        store,
        audit,
        metrics,
        clock,
        runtime: Handle::current(),
    };
    let app = App::build(parts)
        .tracing(tracer)
        .watching(begun, settings.policy.poll)
        .watching_keys(settings.keys.directory.clone(), settings.keys.poll);
    let operators = Arc::new(ArcSwap::from_pointee(settings.operations.callers.clone()));
    let app = if sources.can_be_read_again() {
        app.watching_settings(sources, settings.clone(), settings.keys.poll, Arc::clone(&operators))
    } else {
        app
    };
    let (Some(certificate), Some(files)) = (certificate, &settings.listen.tls) else {
        return Ok(Built { app, settings, operators, tls: None, exporter });
    };
    let current = Arc::new(ArcSwap::from_pointee(certificate));
    let tls = config::tls::server_config(Arc::clone(&current))?;
    let app = app.watching_certificate(files.clone(), settings.keys.poll, current);
    Ok(Built { app, settings, operators, tls: Some(tls), exporter })
}

/// Where audit events go.
fn sink(settings: &Settings, otlp: Option<&otlp::Options>, outboxes: &Outboxes) -> Result<AuditSink, Failed> {
    Ok(match (&settings.audit.target, otlp) {
        (AuditTarget::File(file), _) => AuditSink::File(file.clone()),
        (AuditTarget::Otlp, Some(otlp)) => {
            let stream = AuditStream::new(otlp.clone(), Arc::new(SystemClock), Arc::clone(outboxes.tally()))?;
            AuditSink::Writer(Box::new(stream))
        }
        // The settings see to it that there is a collector.
        (AuditTarget::Stdout | AuditTarget::Otlp, _) => AuditSink::Stdout,
    })
}

/// Starts to send telemetry.
fn export(
    options: otlp::Options,
    outboxes: Outboxes,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
) -> Result<Exporter, Failed> {
    metrics.observe_exports(Arc::clone(outboxes.tally()));
    Ok(Exporter::start(options, outboxes, Arc::clone(metrics), Arc::clone(clock))?)
}

/// The store in Redis, which need not be there yet: an outage must not keep the service from starting, and starting again
/// and again would not end it. What only a change of settings or server can mend is refused.
async fn redis_store(options: RedisOptions, metrics: &Arc<Metrics>) -> Result<RedisStore, Failed> {
    let metrics = Arc::clone(metrics);
    let store =
        RedisStore::new(options).observed(move |call| metrics.store_call(call.primitive, call.fault, call.took));
    match store.check().await {
        Ok(()) => {}
        Err(fault) if fault.is_lasting() => return Err(Failed::new(told(fault))),
        Err(fault) => tracing::warn!("exchanges are answered with 503 until the store is there: {}", told(fault)),
    }
    Ok(store)
}

/// What is wrong with the store, and what to do about it.
pub(crate) fn told(fault: RedisFault) -> String {
    format!("state.redis: {fault} — {}", fault.remedy())
}

async fn serve(
    loaded: Loaded,
    sources: config::Sources,
    outboxes: Outboxes,
    listener: TcpListener,
    operations: TcpListener,
) -> Ended {
    let gone: Vec<_> = sources.gone().map(|file| file.display().to_string()).collect();
    let gone = gone.join(", ");
    let Built { app, settings, operators, tls, exporter } = build(loaded, sources, outboxes).await?;
    let app = Arc::new(app);
    if let Err(error) = app.sync().await {
        tracing::warn!(%error, "what is revoked and stopped is not known yet: verifications are answered with 503");
    }
    reload_at_hangup(Arc::clone(&app), gone.clone())?;
    let mut signals = StopSignals::catch()?;
    let limits = http::Limits {
        workers: settings.limits.workers,
        connections: settings.limits.connections,
        read_timeout: settings.limits.read_timeout,
        shutdown_timeout: settings.limits.shutdown_timeout,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let addresses = (listener.local_addr()?, operations.local_addr()?);
    let public = Public::new(Arc::clone(&app), settings.listen.trusted_proxies);
    let public = web::Data::new(public.refusing(settings.limits.refusals_per_client));
    let public = http::serve_public(public, listener, tls, limits)?;
    let operators = web::Data::new(Operators::following(Arc::clone(&app), operators));
    let operations = http::serve_operations(operators, operations)?;
    tracing::info!(
        policy.revision = app.policy().revision(),
        issuers = app.policy().issuers().len(),
        registries = app.policy().registries().len(),
        rules = app.policy().rule_count(),
        store = settings.state.redis.as_ref().map_or("memory", |_| "redis"),
        "serving at {scheme}://{}, operations at http://{}",
        addresses.0,
        addresses.1,
    );
    warn_of_settings(&gone);

    let attended = Arc::clone(&app);
    let background = actix_web::rt::spawn(async move { attended.attend().await });
    let operations_handle = operations.handle();
    let operations = actix_web::rt::spawn(operations);
    let end = draining::serve(public, &mut signals, &app, settings.limits.drain).await;
    operations_handle.stop(matches!(end, Ok(End::InTurn))).await;
    let operations = operations.await;
    background.abort();
    // Whatever became of the listeners, what was recorded is written.
    let handlers = app.working().close(LAST_HANDLERS).await;
    app.close(handlers, FLUSH);
    if exporter.is_some_and(|exporter| !exporter.close(LAST_TELEMETRY)) {
        tracing::warn!("the last telemetry could not be sent in time");
    }
    operations??;
    let end = end?;
    match end {
        End::InTurn => tracing::info!("stopped"),
        End::AtOnce => tracing::warn!("stopped at once: requests under way were cut off"),
    }
    Ok(end == End::InTurn)
}

/// Says that the settings are not read again, if they were read from files of which nothing is left: whoever withdraws an API key
/// in what they are made of must know that it stays good.
fn warn_of_settings(gone: &str) {
    if !gone.is_empty() {
        tracing::warn!(
            "the settings cannot be read again, since {gone} is not a file: operators change with a restart — name files by \
             --config to have them followed"
        );
    }
}

/// Reloads the operators, the policy, the keys and the certificate at SIGHUP, from now on; of settings that are `gone` it says that
/// they are.
fn reload_at_hangup(app: Arc<App>, gone: String) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    actix_web::rt::spawn(async move {
        while hangups.recv().await.is_some() {
            warn_of_settings(&gone);
            // Before the policy, which may take long to read.
            if let Some(reloads) = app.settings_reloads() {
                reloads.reload().await;
            }
            if let Some(reloads) = app.reloads() {
                reloads.reload(Trigger::Signal).await;
            }
            if let Some(reloads) = app.key_reloads() {
                reloads.reload().await;
            }
            if let Some(reloads) = app.certificate_reloads() {
                reloads.reload().await;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_blocks_a_thread_of_the_runtime_is_not_waited_for() {
        let (end, ends) = mpsc::channel::<()>();
        run(async {
            drop(tokio::task::spawn_blocking(move || ends.recv_timeout(Duration::from_secs(30))));
        })
        .unwrap();
        // Who had waited would find nobody who listens.
        end.send(()).unwrap();
    }
}
