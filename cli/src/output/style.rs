//! Colours, and text that cannot control a terminal.

use std::borrow::Cow;

/// The meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Good,
    Busy,
    Bad,
    Dim,
    Bold,
}

impl Style {
    /// The style of a job's status.
    pub(crate) fn of_status(status: &str) -> Self {
        match status {
            "succeeded" => Self::Good,
            "running" => Self::Busy,
            "failed" => Self::Bad,
            "canceled" | "scheduled" => Self::Dim,
            _ => Self::Plain,
        }
    }

    pub(super) fn paint<'a>(self, text: &'a str, has_colour: bool) -> Cow<'a, str> {
        let code = match self {
            Self::Plain => return text.into(),
            Self::Good => 32,
            Self::Busy => 36,
            Self::Bad => 31,
            Self::Dim => 2,
            Self::Bold => 1,
        };
        if has_colour { format!("\x1b[{code}m{text}\x1b[0m").into() } else { text.into() }
    }
}

/// Replaces control characters: a message of a job must not move the cursor or change the title.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.into();
    }
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The same JSON without characters that control a terminal: those that JSON allows in a string are DEL and C1.
pub(super) fn escaped(json: &str) -> Cow<'_, str> {
    if !json.chars().any(char::is_control) {
        return json.into();
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Between two values; it is no control in a string.
            '\t' => text.push(' '),
            c if c.is_control() => text += &format!("\\u{:04x}", u32::from(c)),
            c => text.push(c),
        }
    }
    text.into()
}

/// Whether bytes are text that does not control a terminal.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let is_safe = |text: &str| {
        // A carriage return alone would overwrite a line.
        let text = text.replace("\r\n", "\n");
        !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
    };
    std::str::from_utf8(bytes).is_ok_and(is_safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("a\tb"), "a\tb");
        assert_eq!(printable("\x1b]0;title\x07\u{9b}2J"), "\u{fffd}]0;title\u{fffd}\u{fffd}2J");
    }

    #[test]
    fn json_has_the_same_value_without_control_characters() {
        let json = "{\"a\":\t\"\u{9b}2J \u{7f} \\u001b ä\"}";
        assert_eq!(escaped(json), "{\"a\": \"\\u009b2J \\u007f \\u001b ä\"}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&escaped(json)), value(json));
        assert!(matches!(escaped("{\"a\":1}"), Cow::Borrowed(_)));
    }

    #[test]
    fn text_has_no_control_characters() {
        assert!(is_text("a\tb\r\nä\n".as_bytes()) && is_text(b""));
        for bytes in [&b"\x89PNG\r\n\x1a\n"[..], b"a\rb", b"\x1b[2J", b"a\0", "\u{9b}".as_bytes()] {
            assert!(!is_text(bytes), "{bytes:?}");
        }
    }
}
