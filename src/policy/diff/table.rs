//! The comparison as people read it.

use super::Change;
use super::Counts;
use super::PastReport;
use super::Report;
use super::RulesDiff;
use super::Seen;
use crate::escape::escape;

/// Most names in one list.
const MAX_NAMES: usize = 20;

pub(super) fn of(report: &Report) -> String {
    let mut lines = Vec::new();
    rules(&mut lines, &report.rules);
    if let Some(report) = &report.past {
        past(&mut lines, report);
    }
    lines.iter().map(|line| escape(line).into_owned()).collect::<Vec<_>>().join("\n")
}

fn rules(lines: &mut Vec<String>, diff: &RulesDiff) {
    let (added, removed, changed) = (diff.added.len(), diff.removed.len(), diff.changed.len());
    lines.push(format!("rules: {added} added, {removed} removed, {changed} changed"));
    lines.extend(diff.added.iter().take(MAX_NAMES).map(|rule| format!("  + {rule}")));
    lines.extend(diff.removed.iter().take(MAX_NAMES).map(|rule| format!("  - {rule}")));
    for change in diff.changed.iter().take(MAX_NAMES) {
        lines.push(format!("  ~ {}", change.rule));
        lines.extend(change.removed.iter().map(|line| format!("      - {line}")));
        lines.extend(change.added.iter().map(|line| format!("      + {line}")));
    }
    let more = [added, removed, changed].map(|count| count.saturating_sub(MAX_NAMES)).iter().sum::<usize>();
    if more > 0 {
        lines.push(format!("  and {more} more; `--json` has all of them"));
    }
}

fn past(lines: &mut Vec<String>, report: &PastReport) {
    lines.push(String::new());
    counts(lines, &report.counts);
    for group in &report.changes {
        let place = format!("at {} from {}", group.what.registry, group.what.issuer);
        lines.push(String::new());
        match &group.what.change {
            Change::NewlyAllowed { rules, permissions } => {
                lines.push(format!("newly allowed, {place}, by {}", names(rules)));
                lines.extend(permissions.iter().map(|pair| format!("  + {pair}")));
            }
            Change::NewlyDenied { rules, code, nearest } => {
                lines.push(format!("newly denied, {place}, was allowed by {}", names(rules)));
                let nearest = nearest.as_ref().map_or_else(String::new, |rule| format!(", nearest rule {rule}"));
                lines.push(format!("  {code}{nearest}: {}", group.seen.sentence));
            }
            Change::GrantChanged { old_rules, new_rules, added, removed, limits } => {
                lines.push(format!("grant changed, {place}, by {} (was {})", names(new_rules), names(old_rules)));
                lines.extend(removed.iter().map(|pair| format!("  - {pair}")));
                lines.extend(added.iter().map(|pair| format!("  + {pair}")));
                lines.extend(limits.iter().map(|limit| format!("  {limit}")));
            }
        }
        lines.push(seen(&group.seen));
    }
    for group in &report.unknown {
        lines.push(String::new());
        let (registry, issuer) = (&group.what.registry, &group.what.issuer);
        lines
            .push(format!("unknown, at {registry} from {issuer}: the log does not hold {}", names(&group.what.claims)));
        lines.push(format!("  rules that may have matched: {}", names(&group.what.rules)));
        lines.push(seen(&group.seen));
    }
    if !report.shadow.is_empty() {
        lines.push(String::new());
        lines.push("rules in shadow mode that would have granted what is not granted:".to_owned());
        for group in &report.shadow {
            let unknown = match group.count.unknown {
                0 => String::new(),
                unknown => format!(", {unknown} unknown"),
            };
            lines.push(format!("  {}: {} exchanges{unknown}", group.rule, group.count.disagreed));
        }
    }
    for (what, rules) in
        [("never matched", &report.never_matched), ("not known to have matched", &report.perhaps_matched)]
    {
        if !rules.is_empty() {
            lines.push(String::new());
            lines.push(format!("{what}: {}", names(rules)));
        }
    }
}

fn counts(lines: &mut Vec<String>, counts: &Counts) {
    let Counts { exchanges, unchanged, changed, unknown, .. } = counts;
    let s = if *exchanges == 1 { "" } else { "s" };
    lines.push(format!("{exchanges} exchange{s}: {unchanged} unchanged, {changed} changed, {unknown} unknown"));
    let notes = [
        (counts.refused_otherwise, "are refused by both, for another reason"),
        (counts.unlike_the_record, "are decided by OLD otherwise than they were: the log is another policy's"),
        (counts.further, "belong to further groups, which are not listed"),
        (counts.incomplete, "lines lack what replaying takes: an earlier version wrote them"),
        (counts.other_schemas, "lines are events of a version that is not known"),
        (counts.not_events, "lines are no events"),
        (counts.other_events, "lines are events of other kinds"),
    ];
    lines.extend(notes.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("  {count} {what}")));
}

fn seen(seen: &Seen) -> String {
    let Seen { count, first, last, request_id, .. } = seen;
    if *count == 1 {
        format!("  once, at {first}, request {request_id}")
    } else {
        format!("  {count} times, from {first} (request {request_id}) to {last}")
    }
}

fn names(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
