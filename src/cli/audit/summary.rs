//! How many events there are, of which kinds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;

use crate::audit::Record;
use crate::escape::escape;
use crate::time::Timestamp;

/// Most values that one member is counted by; who wrote the log chose them.
const MOST: usize = 1000;

/// The count.
#[derive(Debug, Default)]
pub(super) struct Summary {
    events: u64,
    /// The earliest and the latest moment.
    span: Option<(Timestamp, Timestamp)>,
    by: [Tally; 6],
}

/// What events are counted by, in the order of [`Summary::by`].
const BY: [&str; 6] = ["event", "decision", "code", "registry", "issuer", "rule"];

/// How often each value was seen.
#[derive(Debug, Default)]
struct Tally {
    seen: BTreeMap<String, u64>,
    /// How often one that is beyond [`MOST`].
    further: u64,
}

impl Summary {
    /// Counts an event of that moment.
    pub(super) fn add(&mut self, event: &Record, at: Timestamp) {
        self.events = self.events.saturating_add(1);
        self.span = Some(self.span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        let [kind, decision, code, registry, issuer, rule] = &mut self.by;
        kind.add(&event.event);
        decision.add(&event.decision);
        code.add(&event.code);
        event.registry.iter().for_each(|id| registry.add(id));
        event.issuer.iter().for_each(|id| issuer.add(id));
        event.rules.iter().for_each(|id| rule.add(id));
    }

    /// The count for programs.
    pub(super) fn to_json(&self) -> Value {
        let by = |value: fn(&Tally) -> Value| -> serde_json::Map<String, Value> {
            BY.iter().zip(&self.by).map(|(name, tally)| ((*name).to_owned(), value(tally))).collect()
        };
        json!({
            "events": self.events,
            "first": self.span.map(|(first, _)| first.with_millis().to_string()),
            "last": self.span.map(|(_, last)| last.with_millis().to_string()),
            "by": by(|tally| json!(tally.seen)),
            "further": by(|tally| json!(tally.further)),
        })
    }

    /// The count for a terminal.
    pub(super) fn to_table(&self) -> String {
        let mut text = format!("{} events", self.events);
        if let Some((first, last)) = self.span {
            let _infallible = write!(text, " from {} to {}", first.with_millis(), last.with_millis());
        }
        for (name, tally) in BY.iter().zip(&self.by).filter(|(_, tally)| !tally.seen.is_empty()) {
            let _infallible = write!(text, "\n\nby {name}\n{}", tally.rows());
        }
        text
    }
}

impl Tally {
    fn add(&mut self, value: &str) {
        if let Some(count) = self.seen.get_mut(value) {
            *count = count.saturating_add(1);
        } else if self.seen.len() < MOST {
            self.seen.insert(value.to_owned(), 1);
        } else {
            self.further = self.further.saturating_add(1);
        }
    }

    /// One line for each value, the most frequent first.
    fn rows(&self) -> String {
        let mut seen: Vec<_> = self.seen.iter().collect();
        seen.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let mut rows: Vec<String> =
            seen.iter().map(|(value, count)| format!("{count:>10}  {}", escape(value))).collect();
        if self.further > 0 {
            rows.push(format!("{:>10}  of further ones", self.further));
        }
        rows.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_whatever_the_log_says() {
        let mut tally = Tally::default();
        for number in 0..MOST + 5 {
            tally.add(&number.to_string());
        }
        tally.add("0");
        assert_eq!((tally.seen.len(), tally.further, tally.seen["0"]), (MOST, 5, 2));
        let rows = tally.rows();
        assert!(rows.starts_with("         2  0\n") && rows.ends_with("         5  of further ones"), "{rows}");
    }
}
