//! Indents JSON without changing it: numbers, repeated members and escapes stay as they were sent. A parser would round
//! numbers and merge members.

use crunch_common::json::{MAX_DEPTH, deeper_than};

/// A longer text is not indented: what is nested deep would become dozens of times as long.
const MAX_BYTES: usize = 256 * 1024;

/// Returns a JSON text with a line for each member and item; any other text unchanged, and one that would become too long.
pub(super) fn json(text: &str) -> String {
    if deeper_than(text, MAX_DEPTH) || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()
    {
        return text.to_owned();
    }
    let mut writer = Writer { out: String::with_capacity(text.len() * 2), depth: 0 };
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if writer.out.len() > MAX_BYTES {
            return text.to_owned();
        }
        match character {
            '"' => writer.string(&mut characters),
            '{' | '[' => {
                writer.out.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                match characters.next_if(|&next| next == '}' || next == ']') {
                    Some(end) => writer.out.push(end),
                    None => {
                        writer.depth += 1;
                        writer.line();
                    }
                }
            }
            '}' | ']' => {
                writer.depth -= 1;
                writer.line();
                writer.out.push(character);
            }
            ',' => {
                writer.out.push(',');
                writer.line();
            }
            ':' => writer.out.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => writer.out.push(other),
        }
    }
    writer.out
}

struct Writer {
    out: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }

    /// Copies a string up to its end.
    fn string(&mut self, rest: &mut impl Iterator<Item = char>) {
        self.out.push('"');
        let mut escaped = false;
        for character in rest {
            self.out.push(character);
            match character {
                '"' if !escaped => return,
                _ => escaped = character == '\\' && !escaped,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::json;

    #[test]
    fn what_would_become_long_stays_as_it_is() {
        let deep = format!("{}{}", "[".repeat(32_768), "]".repeat(32_768));
        assert_eq!(json(&deep), deep);
        let wide = format!("{}{}1{}", "[".repeat(60), "1,".repeat(30_000), "]".repeat(60));
        assert_eq!(json(&wide), wide);
    }

    #[test]
    fn only_white_space_changes() {
        let text =
            r#"{"a":[1,2.50,1e400],"a":{},"b\"{":"x, y\\","c":[ ],"d":12345678901234567890}"#;
        let pretty = "{\n  \"a\": [\n    1,\n    2.50,\n    1e400\n  ],\n  \"a\": {},\n  \"b\\\"{\": \"x, y\\\\\",\n  \"c\": [],\n  \"d\": 12345678901234567890\n}";
        assert_eq!(json(text), pretty);
        assert_eq!(json(pretty), pretty);
        for same in ["7", "\"a b\"", "null", "not json {", "{\"a\":", ""] {
            assert_eq!(json(same), same);
        }
    }
}
