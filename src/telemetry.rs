//! What operators watch: metrics for `/metrics`, the service's own log, traces, and all of it by OTLP. None holds anything of
//! a token: labels come from the configuration, log lines from the code. The audit log is another thing, in [`crate::audit`].

use std::time::Duration;
use std::time::Instant;

pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod trace;

pub use self::metrics::Metrics;

/// Measures how long something takes. Nothing is decided by it.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the one measure of durations")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago it was started.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
