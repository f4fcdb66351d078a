//! How a replica ends: it says that it is not ready and serves on, so that nobody sends it anything new; then it stops
//! listening, and what is under way ends. Whoever is in a hurry sends a second signal.

use std::io;
use std::time::Duration;

use actix_web::dev::Server;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::app::App;
use crate::exchange;

/// The signals that end a process, caught from when this is made on.
#[derive(Debug)]
pub(crate) struct StopSignals {
    /// SIGTERM, which Kubernetes sends.
    terminate: Signal,
    /// SIGINT, which a terminal does.
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns at the next of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// How what was under way came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was given its time.
    InTurn,
    /// It was cut off by a second signal.
    AtOnce,
}

/// Serves until a signal comes, then for `drain` more, then until the server has stopped.
pub(super) async fn serve(server: Server, signals: &mut StopSignals, app: &App, drain: Duration) -> io::Result<End> {
    let handle = server.handle();
    let end = async {
        signals.next().await;
        app.drain();
        tracing::info!("draining: not ready any more, and serving on for {} s", drain.as_secs());
        let stopped = async {
            tokio::time::sleep(drain).await;
            // A thread of the server without connections ends at once, and what it does for a client that has gone with it.
            if !app.unattended().all_ended(exchange::STORE_WAIT).await {
                tracing::warn!("the store did not answer in time: requests whose clients have gone are cut off");
            }
            tracing::info!("stopping: requests under way may finish");
            handle.stop(true).await;
        };
        tokio::select! {
            () = stopped => End::InTurn,
            () = signals.next() => End::AtOnce,
        }
    };
    // A server that is dropped closes its connections.
    tokio::select! {
        end = end => Ok(end),
        ended = server => ended.map(|()| End::InTurn),
    }
}
