//! Reads the text a command writes line by line, in bounded memory even if a line never ends.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Calls `on_line` with each line, without its line break, until the input ends or fails. Of a longer line only the
/// first `limit` bytes are kept; invalid UTF-8 is replaced.
pub(crate) async fn each_line(
    mut input: impl AsyncRead + Unpin,
    limit: usize,
    mut on_line: impl FnMut(&str),
) {
    let mut chunk = vec![0; 16 * 1024];
    let mut lines = Lines::of(limit);
    while let Ok(count @ 1..) = input.read(&mut chunk).await {
        lines.push(&chunk[..count], &mut on_line);
    }
    lines.end(on_line);
}

/// Text that arrives in pieces, as lines.
#[derive(Debug)]
pub(crate) struct Lines {
    limit: usize,
    line: Vec<u8>,
}

impl Lines {
    /// Creates lines of which the first `limit` bytes are kept.
    pub(crate) fn of(limit: usize) -> Self {
        Self { limit, line: Vec::new() }
    }

    /// Calls `on_line` with each line that ends in this piece.
    pub(crate) fn push(&mut self, piece: &[u8], mut on_line: impl FnMut(&str)) {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.line.extend(text.iter().take(self.limit - self.line.len()));
            if ended {
                on_line(&String::from_utf8_lossy(&self.line));
                self.line.clear();
            }
        }
    }

    /// Calls `on_line` with what follows the last line break, unless that is empty.
    pub(crate) fn end(&mut self, mut on_line: impl FnMut(&str)) {
        if !self.line.is_empty() {
            on_line(&String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }
}

/// The last lines of standard error: they usually explain why a command failed.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// Half the limit of an error message: enough for the last frames of a stack trace.
    const MAX_BYTES: usize = 2048;
    /// More lines are in the job's log.
    const MAX_LINES: usize = 20;

    pub(crate) fn push(&mut self, line: &str) {
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        // The newest line always stays: lines are shorter than the limit.
        while self.lines.len() > Self::MAX_LINES
            || self.bytes > Self::MAX_BYTES && self.lines.len() > 1
        {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len() + 1);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(input: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        each_line(input, 5, |line| lines.push(line.to_owned())).await;
        lines
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_the_last_needs_no_end() {
        assert_eq!(lines_of(b"one\n\nsevens\xff\nlast").await, ["one", "", "seven", "last"]);
        assert_eq!(lines_of(b"a\xffb\n").await, ["a\u{fffd}b"]);
        assert!(lines_of(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory() {
        let endless = tokio::io::repeat(b'x').take(64 * 1024 * 1024);
        let mut longest = 0;
        each_line(endless, 100, |line| longest = line.len()).await;
        assert_eq!(longest, 100);
    }

    #[test]
    fn the_tail_keeps_the_newest_lines_within_its_bounds() {
        let mut tail = Tail::default();
        for number in 0..1000 {
            tail.push(&format!("line {number}"));
        }
        assert!(tail.text().starts_with("line 980\n") && tail.text().ends_with("\nline 999"));
        tail.push(&"x".repeat(2000));
        tail.push("end");
        assert!(tail.text().len() <= Tail::MAX_BYTES && tail.text().ends_with("x\nend"));
    }
}
