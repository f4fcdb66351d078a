//! The text of a value, and whether a text is that: where there is one for each meaning, what is read must be what would be
//! written.

use std::fmt;
use std::fmt::Write as _;

/// The text of the value. Room for a usual one is made at once: it is written in pieces, and would grow with each.
pub fn spelled(value: &impl fmt::Display, usual: usize) -> String {
    let mut text = String::with_capacity(usual);
    let _infallible = write!(text, "{value}");
    text
}

/// Whether this is the text of the value.
pub fn is_spelled(value: &impl fmt::Display, text: &str) -> bool {
    let mut rest = Rest(text);
    write!(rest, "{value}").is_ok() && rest.0.is_empty()
}

/// What of a text is still to be written: compared piece by piece, so that no second text is made.
struct Rest<'a>(&'a str);

impl fmt::Write for Rest<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(piece).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_spelled_by_its_whole_text_and_nothing_else() {
        assert!(is_spelled(&format_args!("{} {},{}", "uses", 1, 'é'), "uses 1,é"));
        for other in ["", "uses 1,", "uses 1,e", "uses 1,é ", " uses 1,é", "Uses 1,é", "uses  1,é", "uses 01,é"] {
            assert!(!is_spelled(&format_args!("{} {},{}", "uses", 1, 'é'), other), "{other:?}");
        }
        assert!(is_spelled(&"", ""));
    }

    #[test]
    fn a_text_may_be_longer_than_usual() {
        for usual in [0, 1, 64] {
            assert_eq!(spelled(&format_args!("{} {}", "uses", 1), usual), "uses 1");
        }
    }
}
