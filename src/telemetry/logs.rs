//! The service's own log: lines on standard error, for operators. Standard output is the audit log's.

use std::io;
use std::io::Write;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::escape::escape;
use crate::escape::escape_json;
use crate::telemetry::otlp::Records;

/// How a line is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Why the log did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not one.
    #[error("`{0}` is no log level: say off, error, warn, info, debug or trace, or a list like `info,trustmint=debug`")]
    Level(String),
    /// Something else in this process takes the log already.
    #[error("the log of this process is started already")]
    Started,
}

/// Starts the log of this process. `level` is one level for all, or a list of `module=level`. Lines go to standard error, and
/// to `records` if there are any.
pub fn start(format: LogFormat, level: &str, records: Option<Records>) -> Result<(), LogError> {
    let subscriber = subscriber(format, level, io::stderr)?;
    match records {
        Some(records) => tracing::subscriber::set_global_default(subscriber.with(records)),
        None => tracing::subscriber::set_global_default(subscriber),
    }
    .map_err(|_| LogError::Started)
}

/// A log that goes to `target`, for [`start`] and for tests.
pub fn subscriber<M>(
    format: LogFormat,
    level: &str,
    target: M,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LogError>
where
    M: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parse_level(level).ok_or_else(|| LogError::Level(level.to_owned()))?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(EscapedLines { format, target });
    Ok(match format {
        LogFormat::Text => Box::new(tracing_subscriber::registry().with(filter).with(lines)),
        LogFormat::Json => Box::new(tracing_subscriber::registry().with(filter).with(lines.json().flatten_event(true))),
    })
}

/// Stricter than the crate's own reading, which takes a misspelled level for a module and then logs nothing else.
fn parse_level(text: &str) -> Option<Targets> {
    text.split(',').try_fold(Targets::new(), |targets, part| {
        let (module, level) = part.trim().rsplit_once('=').map_or((None, part.trim()), |(m, level)| (Some(m), level));
        let level = match level {
            "off" => LevelFilter::OFF,
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ => return None,
        };
        match module {
            Some("") => None,
            Some(module) => Some(targets.with_target(module, level)),
            // The HTTP server tells of each worker and listener; the service's own lines say what matters of that. Of a
            // request that is no HTTP it tells as an error, which is nobody's but its sender's.
            None => Some(
                targets
                    .with_default(level)
                    .with_target("actix_server", level.min(LevelFilter::WARN))
                    .with_target("actix_http", LevelFilter::OFF),
            ),
        }
    })
}

/// SECURITY: every line goes through here whole, so no field, message or target can start a line of its own or
/// disguise one.
struct EscapedLines<M> {
    format: LogFormat,
    target: M,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for EscapedLines<M> {
    type Writer = EscapedLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapedLine { format: self.format, target: self.target.make_writer() }
    }
}

/// Takes one whole line in one write, as the formatters of tracing-subscriber do.
struct EscapedLine<W> {
    format: LogFormat,
    target: W,
}

impl<W: Write> Write for EscapedLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let mut escaped = match self.format {
            LogFormat::Text => escape(text),
            LogFormat::Json => escape_json(text),
        }
        .into_owned();
        escaped.push('\n');
        self.target.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, log: impl FnOnce()) -> String {
        let target = Shared::default();
        let writer = target.clone();
        let subscriber = subscriber(format, level, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(target.0.lock().unwrap().clone()).unwrap()
    }

    const HOSTILE: &str = "a\nERROR forged\r\u{1b}[2J\u{85}\u{202e}\u{2028}b";

    #[test]
    fn hostile_text_stays_on_its_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, "info", || {
                tracing::info!(field = HOSTILE, debug = ?HOSTILE, "message {HOSTILE}");
                tracing::warn!("second");
            });
            assert_eq!(text.lines().count(), 2, "{text:?}");
            assert!(text.ends_with('\n'));
            assert!(!text.replace('\n', "").contains(crate::escape::is_deceptive), "{text:?}");
            if format == LogFormat::Json {
                let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
                assert_eq!(first["field"], HOSTILE);
                assert_eq!(first["level"], "INFO");
            }
        }
    }

    #[test]
    fn the_level_decides_what_is_written() {
        let text = logged(LogFormat::Text, "warn,trustmint=info", || {
            tracing::info!(target: "trustmint::app", "ours");
            tracing::info!(target: "reqwest", "theirs");
            tracing::debug!(target: "trustmint::app", "detail");
        });
        assert!(text.contains("ours") && !text.contains("theirs") && !text.contains("detail"), "{text}");
    }

    #[test]
    fn the_http_servers_own_chatter_is_written_only_when_asked_for() {
        let chatter = || {
            tracing::info!(target: "actix_server::worker", "a worker");
            tracing::error!(target: "actix_server::accept", "a fault");
        };
        let text = logged(LogFormat::Text, "info", chatter);
        assert!(text.contains("a fault") && !text.contains("a worker"), "{text}");
        assert!(logged(LogFormat::Text, "info,actix_server=info", chatter).contains("a worker"));
        assert_eq!(logged(LogFormat::Text, "off", chatter), "");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        for level in ["loud", "", "INFO", "info,x=loud", "info,x", "=info", "info,"] {
            assert!(matches!(subscriber(LogFormat::Text, level, io::sink), Err(LogError::Level(_))), "{level}");
        }
    }
}
