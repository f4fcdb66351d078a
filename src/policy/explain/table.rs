//! An explanation as a table for a terminal.

use super::Explanation;
use super::RuleReport;
use crate::policy::rule::Mode;

/// Widest column, in characters; what is longer pushes the rest of its line.
const MAX_WIDTH: usize = 44;

pub(super) fn of(explanation: &Explanation) -> String {
    let mut lines = vec![format!("{}: {}", explanation.code(), explanation.sentence())];
    for report in &explanation.rules {
        rule(&mut lines, report);
    }
    if explanation.further > 0 {
        lines.push(String::new());
        lines.push(format!("{} more rules are further away", explanation.further));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The rules' conditions, each rule after an empty line.
pub(super) fn of_rules(rules: &[RuleReport]) -> String {
    let mut lines = Vec::new();
    for report in rules {
        rule(&mut lines, report);
    }
    lines.join("\n")
}

fn rule(lines: &mut Vec<String>, report: &RuleReport) {
    let state = match report.mode {
        Mode::Enforce => "",
        Mode::Shadow => "  (in shadow mode)",
        Mode::Off => "  (switched off)",
    };
    let block = report.block.map_or_else(String::new, |number| format!("  (block {number} of any_of)"));
    lines.push(String::new());
    lines.push(format!("rule {}  grants {}{state}{block}", report.rule, report.grants));
    let head = ["", "claim", "the rule wants", "the token has"].map(str::to_owned);
    let rows = report.conditions.iter().map(|condition| {
        let mark = if condition.holds { "ok" } else { "NO" };
        let preset = if condition.preset { " (preset)" } else { "" };
        let note = if condition.note.is_empty() { String::new() } else { format!("  ({})", condition.note) };
        let has = format!("{}{note}", condition.has.as_deref().unwrap_or("-"));
        [mark.to_owned(), format!("{}{preset}", condition.claim), condition.wants.clone(), has]
    });
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let lengths = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        lengths.filter(|length| *length <= MAX_WIDTH).max().unwrap_or(0)
    };
    let (claims, wants) = (width(1), width(2));
    for [mark, claim, want, has] in &rows {
        lines.push(format!("  {mark:<2}  {claim:<claims$}  {want:<wants$}  {has}").trim_end().to_owned());
    }
}
