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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("a\tb"), "a\tb");
        assert_eq!(printable("\x1b]0;title\x07\u{9b}2J"), "\u{fffd}]0;title\u{fffd}\u{fffd}2J");
    }
}
