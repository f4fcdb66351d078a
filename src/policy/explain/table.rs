//! An explanation as a table for a terminal.

use super::Explanation;
use super::RuleReport;

/// Widest column, in characters; what is longer pushes the rest of its line.
const MAX_WIDTH: usize = 44;

pub(super) fn of(explanation: &Explanation) -> String {
    let mut text = format!("{}: {}\n", explanation.code(), explanation.sentence());
    for report in &explanation.rules {
        text.push('\n');
        rule(&mut text, report);
    }
    if explanation.further > 0 {
        text.push_str(&format!("\n{} more rules are further away\n", explanation.further));
    }
    text
}

fn rule(text: &mut String, report: &RuleReport) {
    let state = if report.enabled { "" } else { "  (switched off)" };
    text.push_str(&format!("rule {}  grants {}{state}\n", report.rule, report.grants));
    let cell = |claim: &str, preset| if preset { format!("{claim} (preset)") } else { claim.to_owned() };
    let head = ["".to_owned(), "claim".to_owned(), "the rule wants".to_owned(), "the token has".to_owned()];
    let rows = report.conditions.iter().map(|condition| {
        let mark = if condition.holds { "ok" } else { "NO" };
        let note = if condition.note.is_empty() { String::new() } else { format!("  ({})", condition.note) };
        let has = format!("{}{note}", condition.has.as_deref().unwrap_or("-"));
        [mark.to_owned(), cell(&condition.claim, condition.preset), condition.wants.clone(), has]
    });
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let lengths = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        lengths.filter(|length| *length <= MAX_WIDTH).max().unwrap_or(0)
    };
    let (claims, wants) = (width(1), width(2));
    for [mark, claim, want, has] in &rows {
        text.push_str(&format!("  {mark:<2}  {claim:<claims$}  {want:<wants$}  {has}\n"));
    }
}
