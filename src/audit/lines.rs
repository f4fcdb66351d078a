//! A log's lines, one at a time, in bounded memory whoever wrote them.

use std::io;
use std::io::BufRead;
use std::io::Read as _;

/// Longest line that is read; an event is a few kilobytes.
const MAX_LINE: u64 = 1024 * 1024;

/// Reads a log line by line.
#[derive(Debug)]
pub struct Lines<R> {
    log: R,
    line: Vec<u8>,
    number: u64,
}

/// What stands on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineRead<'a> {
    /// A line, without its end.
    Whole(&'a [u8]),
    /// One that is too long to be an event; it was read past.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// The lines of this log.
    pub const fn new(log: R) -> Self {
        Self { log, line: Vec::new(), number: 0 }
    }

    /// The next line with its number, from 1; `None` at the end. The last one need not have an end.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, LineRead<'_>)>> {
        self.line.clear();
        if self.log.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        if let Some(line) = self.line.strip_suffix(b"\n") {
            return Ok(Some((self.number, LineRead::Whole(line))));
        }
        if u64::try_from(self.line.len()).is_ok_and(|length| length < MAX_LINE) {
            return Ok(Some((self.number, LineRead::Whole(&self.line))));
        }
        self.log.skip_until(b'\n')?;
        Ok(Some((self.number, LineRead::TooLong)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &[u8]) -> Vec<(u64, Option<usize>)> {
        let mut lines = Lines::new(log);
        let mut read = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            let length = if let LineRead::Whole(line) = line { Some(line.len()) } else { None };
            read.push((number, length));
        }
        read
    }

    #[test]
    fn lines_are_numbered_and_one_that_is_too_long_costs_only_itself() {
        let most = usize::try_from(MAX_LINE).unwrap();
        assert_eq!(read(b""), []);
        assert_eq!(read(b"a\n\nbcd"), [(1, Some(1)), (2, Some(0)), (3, Some(3))]);
        let log = |length: usize| [&b"a\n"[..], &vec![b'x'; length], b"\nb\n"].concat();
        assert_eq!(read(&log(most - 1)), [(1, Some(1)), (2, Some(most - 1)), (3, Some(1))]);
        for length in [most, most + 1, 3 * most] {
            assert_eq!(read(&log(length)), [(1, Some(1)), (2, None), (3, Some(1))], "{length}");
        }
        assert_eq!(read(&vec![b'x'; most]), [(1, None)]);
    }
}
