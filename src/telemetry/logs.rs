//! The service's own log: lines on standard error, for operators. Standard output is the audit log's.

use std::io;
use std::io::Write;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::escape::escape;
use crate::escape::escape_json;

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
    #[error("`{0}` is no log level: say error, warn, info, debug or trace, or a list like `info,trustmint=debug`")]
    Level(String),
    /// Something else in this process takes the log already.
    #[error("the log of this process is started already")]
    Started,
}

/// Starts the log of this process. `level` is one level for all, or a list of `module=level`.
pub fn start(format: LogFormat, level: &str) -> Result<(), LogError> {
    let subscriber = subscriber(format, level, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)
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
    let filter = EnvFilter::builder().parse(level).map_err(|_| LogError::Level(level.to_owned()))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(EscapedLines { format, target });
    Ok(match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
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
