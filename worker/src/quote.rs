//! Quotes the beginning of what a handler returned, in messages about what is wrong with it. Clients that read the job
//! see the messages; the log never contains them.

/// This many characters show what was written: a greeting, a traceback, another format.
const SHOWN_CHARS: usize = 80;

/// Returns the beginning in quotes, with all characters escaped that do not print.
pub(crate) fn beginning(bytes: &[u8]) -> String {
    // A character has at most four bytes.
    let start = &bytes[..bytes.len().min(4 * SHOWN_CHARS)];
    let text: String = String::from_utf8_lossy(start).chars().take(SHOWN_CHARS).collect();
    let more = if text.len() < bytes.len() { "\u{2026}" } else { "" };
    format!("{text:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_short_and_prints() {
        assert_eq!(beginning(b"done\n\x1b[0m"), r#""done\n\u{1b}[0m""#);
        assert_eq!(beginning("ä".repeat(100).as_bytes()), format!("{:?}\u{2026}", "ä".repeat(80)));
        assert!(beginning(&[0xff; 10_000]).len() < 300);
    }
}
