//! Text for a terminal: paragraphs, tables and JSON in at most a hundred columns.

use std::fmt::Write as _;

use serde_json::Value;

use crate::escape::escape;

/// Widest line.
pub(super) const WIDTH: usize = 100;
/// How far everything below a heading is indented.
const INDENT: usize = 3;
/// How much further an answer is indented than its status.
const HANG: usize = 5;
/// Space between the columns of a table.
const GAP: usize = 2;
/// Longest string inside JSON: tokens are shown by their beginning.
const LONGEST: usize = 64;

/// The body of a step, written from top to bottom.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A paragraph, wrapped.
    #[must_use]
    pub(super) fn paragraph(self, text: &str) -> Self {
        self.lines(&wrapped(text, WIDTH - INDENT).join("\n"))
    }

    /// Lines as they are.
    #[must_use]
    pub(super) fn lines(mut self, text: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        for line in text.lines() {
            let line = format!("{:INDENT$}{}", "", escape(line));
            let _infallible = writeln!(self.0, "{}", line.trim_end());
        }
        self
    }

    /// Rows with their columns aligned. What does not fit loses its middle.
    #[must_use]
    pub(super) fn table<const N: usize>(self, rows: &[[String; N]]) -> Self {
        let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell)).max();
        let mut widths: Vec<usize> = (0..N).map(|column| widest(column).unwrap_or(0)).collect();
        let room = WIDTH - INDENT - GAP * N.saturating_sub(1);
        while widths.iter().sum::<usize>() > room {
            // The widest column gives way first.
            match widths.iter_mut().max() {
                Some(widest) if *widest > 1 => *widest -= 1,
                Some(_) | None => break,
            }
        }
        let line = |row: &[String; N]| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{:width$}", fitted(cell, width)));
            cells.collect::<Vec<_>>().join(&" ".repeat(GAP))
        };
        self.lines(&rows.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// A request in JSON and its answer: what is sent, to where, the status, and what comes back.
    #[must_use]
    pub(super) fn exchange(self, request: &str, sent: &Value, status: u16, answer: &Value) -> Self {
        let lines = |value: &Value| json(value, WIDTH - INDENT - HANG, 0).lines().map(str::to_owned).collect();
        let (sent, answer) = (hanging("", lines(sent)), hanging(&status.to_string(), lines(answer)));
        self.lines(&format!("{request}\n{sent}\n{answer}"))
    }

    /// A request and the words of its answer, wrapped.
    #[must_use]
    pub(super) fn reply(self, request: &str, status: u16, answer: &str) -> Self {
        let answer = hanging(&status.to_string(), wrapped(answer, WIDTH - INDENT - HANG));
        self.lines(&format!("{request}\n{answer}"))
    }

    /// The text, each line with its line feed.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// The words of a text in lines of so many columns.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if columns(line) + 1 + columns(word) <= width => {
                let _infallible = write!(line, " {word}");
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Lines behind a label, which stands before the first.
fn hanging(label: &str, lines: Vec<String>) -> String {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    let lines = labels.zip(&lines).map(|(label, line)| format!("{label:HANG$}{line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The width of a text in columns; what is written here has no wide characters.
fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A text in so many columns at most: its beginning and its end.
fn fitted(text: &str, width: usize) -> String {
    let length = columns(text);
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let head: String = text.chars().take(kept / 2).collect();
    let tail: String = text.chars().skip(length - (kept - kept / 2)).collect();
    format!("{head}…{tail}")
}

/// The beginning of a secret or of anything long: enough to recognise it, not enough to use it.
pub(super) fn beginning(text: &str, length: usize) -> String {
    if columns(text) <= length { text.to_owned() } else { text.chars().take(length).chain(['…']).collect() }
}

/// JSON in lines of so many columns: what fits on a line stays on it, and plain members fill their lines. The first line
/// stands behind `lead` columns.
fn json(value: &Value, width: usize, lead: usize) -> String {
    let short = one_line(value);
    if lead + columns(&short) <= width {
        return short;
    }
    let inner = width.saturating_sub(2);
    let (open, members, close): (_, Vec<String>, _) = match value {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                let name = format!("{}: ", Value::from(name.as_str()));
                let value = json(value, inner, columns(&name) + 1);
                name + &value
            };
            ('{', members.iter().map(member).collect(), '}')
        }
        Value::Array(items) => ('[', items.iter().map(|item| json(item, inner, 1)).collect(), ']'),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return short,
    };
    let mut lines: Vec<String> = Vec::new();
    let last = members.len().saturating_sub(1);
    for (number, member) in members.iter().enumerate() {
        let member = format!("{member}{}", if number == last { "" } else { "," });
        let fills = |line: &String| {
            !line.contains('\n') && !member.contains('\n') && columns(line) + 1 + columns(&member) <= inner
        };
        match lines.last_mut().filter(|line| fills(line)) {
            Some(line) => {
                let _infallible = write!(line, " {member}");
            }
            None => lines.push(member),
        }
    }
    let body = lines.join("\n").replace('\n', "\n  ");
    format!("{open}\n  {body}\n{close}")
}

fn one_line(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), one_line(value));
            format!("{{{}}}", joined(members.iter().map(member).collect()))
        }
        Value::Array(items) => format!("[{}]", joined(items.iter().map(one_line).collect())),
        Value::String(text) => Value::from(beginning(text, LONGEST)).to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paragraphs_wrap_and_tables_fit() {
        let long = "word ".repeat(60);
        let row = ["a".to_owned(), "b".repeat(90), "c".repeat(60)];
        let page = Page::default().paragraph(&long).table(&[row.clone(), row]).finish();
        assert!(page.lines().all(|line| columns(line) <= WIDTH), "{page}");
        assert_eq!(page.matches("word").count(), 60);
        assert_eq!(page.matches('…').count(), 4);
        assert_eq!(fitted("abcdefghij", 5), "ab…ij");
        assert_eq!(fitted("abcde", 5), "abcde");
    }

    #[test]
    fn json_breaks_only_where_it_must() {
        assert_eq!(json(&json!({"b": [1, true, null], "a": "x"}), 40, 0), r#"{"a": "x", "b": [1, true, null]}"#);
        let value =
            json!({"one": "aaaaaaaaaa", "two": "bbbbbbbbbb", "three": {"four": "cccccccccccccccccccc", "x": 1}});
        let text = json(&value, 36, 0);
        assert!(text.lines().all(|line| columns(line) <= 36), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(json(&json!("x".repeat(100)), 10, 0), format!("\"{}…\"", "x".repeat(LONGEST)));
    }

    #[test]
    fn what_a_stranger_wrote_cannot_move_the_cursor() {
        assert_eq!(Page::default().lines("a\u{1b}[2Jb").finish(), "   a\\u{1b}[2Jb\n");
    }
}
