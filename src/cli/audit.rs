//! `trustmint audit`: which events a log has, one by one or counted.

use std::fmt::Write as _;
use std::io;
use std::io::BufWriter;
use std::io::StdoutLock;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use self::filter::Filter;
use self::summary::Summary;
use crate::audit::Line;
use crate::audit::LineRead;
use crate::audit::Record;
use crate::cli::Ended;
use crate::cli::note;
use crate::cli::say;
use crate::cli::say_json;
use crate::escape::escape;
use crate::escape::escape_json;

mod filter;
pub(crate) mod source;
mod summary;

/// Most lines that cannot be read of which each is told.
const MAX_TOLD: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The logs, one after another: the rotated ones too. `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Count events instead of listing them: by kind, decision, code, registry, issuer and rule
    #[arg(long)]
    summary: bool,
    /// Print events as they are written, a JSON object a line; with --summary, the count as JSON
    #[arg(long)]
    json: bool,
}

/// What has been read so far.
struct Reading<'a> {
    audit: &'a Audit,
    out: BufWriter<StdoutLock<'a>>,
    summary: Summary,
    faults: Faults,
    lines: u64,
    found: u64,
}

/// Lines that cannot be read.
#[derive(Default)]
struct Faults {
    count: u64,
    told: Vec<Value>,
}

impl Audit {
    /// Ends with yes if every line could be read.
    pub(crate) fn run(self) -> Ended {
        let mut reading = Reading {
            audit: &self,
            out: BufWriter::new(io::stdout().lock()),
            summary: Summary::default(),
            faults: Faults::default(),
            lines: 0,
            found: 0,
        };
        for path in &self.files {
            let read = source::read(path, |number, line| reading.line(path, number, line))?;
            if read.is_break() {
                // Whoever read the output has seen enough.
                return Ok(true);
            }
        }
        let Reading { mut out, summary, faults, lines, found, .. } = reading;
        let _closed = out.flush();
        drop(out);
        if self.summary && self.json {
            let mut facts = summary.to_json();
            if let Some(facts) = facts.as_object_mut() {
                facts.insert("lines".to_owned(), json!(lines));
                facts.insert("unreadable".to_owned(), json!({"count": faults.count, "first": faults.told}));
            }
            say_json(&facts)?;
        } else if self.summary {
            say(&summary.to_table());
        } else if found == 0 {
            note(&format!("none of {lines} lines is such an event"));
        }
        if faults.count > 0 {
            note(&format!("{} of {lines} lines could not be read", faults.count));
        }
        Ok(faults.count == 0)
    }
}

impl Reading<'_> {
    fn line(&mut self, path: &Path, number: u64, line: LineRead<'_>) -> ControlFlow<()> {
        self.lines = self.lines.saturating_add(1);
        let (written, event) = match line {
            LineRead::TooLong => return self.fault(path, number, "is too long to be an event"),
            LineRead::Whole(written) => match Line::parse(written) {
                Line::Event(event) => (written, event),
                Line::Faulty => return self.fault(path, number, "is an event that lacks what every event has"),
                Line::OtherSchema => {
                    return self.fault(path, number, "is an event of a version that is not known here");
                }
                Line::NotAnEvent => return self.fault(path, number, "is no event"),
            },
        };
        let Some(at) = event.at() else { return self.fault(path, number, "has no time that can be read") };
        if !self.audit.filter.takes(&event, at) {
            return ControlFlow::Continue(());
        }
        self.found = self.found.saturating_add(1);
        if self.audit.summary {
            self.summary.add(&event, at);
            return ControlFlow::Continue(());
        }
        let text = if self.audit.json {
            // It is JSON, so it is text.
            escape_json(String::from_utf8_lossy(written).trim_ascii()).into_owned()
        } else {
            shown(&event)
        };
        if writeln!(self.out, "{text}").is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn fault(&mut self, path: &Path, number: u64, why: &str) -> ControlFlow<()> {
        self.faults.count = self.faults.count.saturating_add(1);
        if self.faults.told.len() < MAX_TOLD {
            let file = if path.as_os_str() == "-" { "standard input".into() } else { path.display().to_string() };
            note(&format!("{}: line {number} {why}", escape(&file)));
            self.faults.told.push(json!({"file": file, "line": number, "why": why}));
        }
        ControlFlow::Continue(())
    }
}

/// An event in one line for people, and why below it.
fn shown(event: &Record) -> String {
    let Record { time, event: kind, decision, code, .. } = event;
    let mut text = format!("{time}  {kind:<10}  {decision:<5}  {code}");
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            let _infallible = write!(text, "  {name}={value}");
        }
    };
    add("registry", event.registry.as_deref().unwrap_or_default());
    add("issuer", event.issuer.as_deref().unwrap_or_default());
    add("rules", &event.rules.join(","));
    add("package", event.package.as_deref().unwrap_or_default());
    add("requested", &event.requested.join(","));
    add("granted", &event.granted.join(","));
    add("token", event.token_id.as_deref().unwrap_or_default());
    add("request", &event.request_id);
    let text = escape(&text).into_owned();
    let said = |name: &str| event.explanation.get(name).and_then(Value::as_str);
    match said("sentence").or_else(|| said("reason")) {
        Some(why) => format!("{text}\n    {}", escape(why)),
        None => text,
    }
}
