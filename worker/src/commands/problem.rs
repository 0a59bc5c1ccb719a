//! Problems of a file, and their lines.

use std::ops::Range;

/// A problem with its line number, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: usize,
    pub(super) what: String,
}

/// A problem with its position.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The byte range in the file.
    pub(super) at: Range<usize>,
    pub(super) what: String,
}

/// A file's text: converts positions to line numbers.
#[derive(Debug)]
pub(super) struct Page<'a>(&'a str);

impl<'a> Page<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The number of the line where a range begins.
    pub(super) fn line(&self, at: Range<usize>) -> usize {
        let before = &self.0.as_bytes()[..at.start.min(self.0.len())];
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    pub(super) fn problem(&self, mistake: Mistake) -> Problem {
        Problem { line: self.line(mistake.at), what: mistake.what }
    }

    pub(super) fn not_toml(&self, error: &toml::de::Error) -> Problem {
        let line = self.line(error.span().unwrap_or_default());
        Problem { line, what: format!("not TOML: {}", error.message()) }
    }
}
