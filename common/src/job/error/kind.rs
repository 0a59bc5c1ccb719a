//! What two errors have in common that differ only in what varies from job to job: so that failures of one kind are one
//! group (`broker/lua/errors.lua`).

use super::JobError;

/// How much of a message counts, in bytes: its end, which has the relevant part of stack traces and error outputs.
const MAX_BYTES: usize = 300;
/// A quoted text longer than this is not one: the quotes belong to others.
const MAX_QUOTED: usize = 200;
/// A word of hexadecimal digits of this length is an id, not a word.
const HEX_FROM: usize = 8;

impl JobError {
    /// Returns the code and the end of the message, in which numbers, ids and quoted texts are replaced. A status of
    /// HTTP stays.
    ///
    /// ```
    /// use crunch_common::job::{ErrorCode, JobError};
    ///
    /// let error = JobError::retryable(ErrorCode::task_failed(), "order 17: no file '/tmp/a7.csv'");
    /// assert_eq!(error.kind(), "task_failed order #: no file '…'");
    /// ```
    #[must_use]
    pub fn kind(&self) -> String {
        format!("{} {}", self.code, self.pattern())
    }

    /// Returns the message as [`JobError::kind`] has it.
    #[must_use]
    pub fn pattern(&self) -> String {
        let mut message = String::new();
        let mut rest = self.message.trim();
        while let Some(first) = rest.chars().next() {
            let taken = match first {
                '"' | '\'' | '`' => replace_quoted(&mut message, rest, first),
                _ if first.is_alphanumeric() => replace_word(&mut message, rest),
                _ if first.is_whitespace() => replace_blanks(&mut message, rest),
                _ => keep(&mut message, rest, first.len_utf8()),
            };
            rest = &rest[taken..];
        }
        let excess = message.len().saturating_sub(MAX_BYTES);
        let start = (excess..=message.len()).find(|&at| message.is_char_boundary(at));
        message.split_off(start.unwrap_or(0))
    }
}

fn keep(kind: &mut String, rest: &str, bytes: usize) -> usize {
    kind.push_str(&rest[..bytes]);
    bytes
}

/// Replaces a text in quotes on one line, or keeps the quote. An apostrophe within a word is read with the word.
fn replace_quoted(kind: &mut String, rest: &str, quote: char) -> usize {
    let quoted = rest[1..].find([quote, '\n']).filter(|&end| end <= MAX_QUOTED);
    match quoted.filter(|&end| rest[1 + end..].starts_with(quote)) {
        Some(end) => {
            kind.extend([quote, '…', quote]);
            end + 2
        }
        None => keep(kind, rest, 1),
    }
}

/// Replaces an id or a number, and digits in other words.
fn replace_word(kind: &mut String, rest: &str) -> usize {
    let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '\'');
    let word = &rest[..rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())];
    if is_http_status(kind, word) {
        return keep(kind, rest, word.len());
    }
    let has_digit = word.contains(|letter: char| letter.is_ascii_digit());
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let is_hex = digits.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
    if has_digit && is_hex && (digits.len() >= HEX_FROM || digits.len() < word.len()) {
        kind.push('#');
        return word.len();
    }
    let mut letters = word.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_digit() {
            kind.push(letter);
            continue;
        }
        while letters.next_if(char::is_ascii_digit).is_some() {}
        kind.push('#');
    }
    word.len()
}

/// Whether a number is a status of HTTP, by the words before it: failures with 404 and with 503 have different causes.
fn is_http_status(kind: &str, word: &str) -> bool {
    let before = kind.trim_end_matches([' ', ':', '=']).as_bytes();
    let follows = |words: &str| {
        let end = before.len().checked_sub(words.len()).map(|start| &before[start..]);
        end.is_some_and(|end| end.eq_ignore_ascii_case(words.as_bytes()))
    };
    matches!(word.as_bytes(), [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'])
        && ["http", "http/#", "http/#.#", "http status", "status code"].into_iter().any(follows)
}

/// Keeps a run of blanks as one blank.
fn replace_blanks(kind: &mut String, rest: &str) -> usize {
    if !kind.ends_with(' ') {
        kind.push(' ');
    }
    rest.find(|letter: char| !letter.is_whitespace()).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::super::ErrorCode;
    use super::*;

    fn kind(message: &str) -> String {
        let kind = JobError::retryable(ErrorCode::task_failed(), message).kind();
        kind.strip_prefix("task_failed").unwrap().trim_start().to_owned()
    }

    #[test]
    fn what_varies_is_replaced() {
        for (message, expected) in [
            ("", ""),
            ("no license", "no license"),
            ("exit code 137 after 2.5s", "exit code # after #.#s"),
            ("-17 is below 0", "-# is below #"),
            ("HTTP 503 from 10.0.0.7", "HTTP 503 from #.#.#.#"),
            ("HTTP/1.1 404 for order 12", "HTTP/#.# 404 for order #"),
            ("status code: 500", "status code: 500"),
            ("HTTP status 429", "HTTP status 429"),
            ("HTTP 1500, 50", "HTTP #, #"),
            ("exit status 137", "exit status #"),
            ("at 0x7fff12ab", "at #"),
            ("job 0190f2aa-7c1e-7bbb-8d4c-3f1a2b3c4d5e gone", "job # gone"),
            ("deadbeef00", "#"),
            ("a decade", "a decade"),
            ("worker-3 port8080", "worker-# port#"),
            ("no file '/tmp/x' in \"y\" of `z`", "no file '…' in \"…\" of `…`"),
            ("can't open 'a'", "can't open '…'"),
            ("an open 'quote\nends 'here'", "an open 'quote ends '…'"),
            ("two\n\n  lines\n", "two lines"),
            ("größe 7 µs", "größe # µs"),
        ] {
            assert_eq!(kind(message), expected, "{message:?}");
        }
    }

    #[test]
    fn a_kind_has_a_bound_and_whole_characters() {
        for message in ["ä".repeat(500), "'".repeat(500), "1 ".repeat(500), "x".repeat(500)] {
            let kind = kind(&message);
            assert!((MAX_BYTES - 3..=MAX_BYTES).contains(&kind.len()), "{}: {kind}", kind.len());
        }
    }

    #[test]
    fn errors_differ_by_the_end_of_their_messages() {
        let frames = "  File \"a.py\", line 7\n".repeat(50);
        let of = |end: &str| kind(&format!("{frames}RuntimeError: {end}"));
        assert_ne!(of("disk full"), of("gpu lost"));
        assert_eq!(of("no file 7"), of("no file 8"));
        assert_eq!(kind(&format!("processing alice\n{frames}")), kind(&format!("bob\n{frames}")));
    }

    #[test]
    fn errors_differ_by_their_codes() {
        let of = |code| JobError::permanent(code, "gone").kind();
        assert_ne!(of(ErrorCode::timeout()), of(ErrorCode::canceled()));
    }
}
