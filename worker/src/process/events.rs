//! What a command says on its events descriptor: how far it is, or why it will fail. One JSON object a line.

use crunch_common::job::ErrorCode;
use serde::Deserialize;

/// The longest line that is read as an event: room for an error with the longest message that is kept.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// One event.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// How far it is, 0 to 1.
    Progress { fraction: f64, message: String },
    /// Why it is about to fail.
    Error(ToldError),
}

/// Why the command is about to fail, in its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ToldError {
    /// Unsaid: `command_failed`.
    pub(super) code: Option<ErrorCode>,
    /// Unsaid: how it ended, and the last lines of its standard error.
    pub(super) message: Option<String>,
    /// Unsaid: the exit code decides.
    pub(super) retryable: Option<bool>,
    /// Whether this machine is to blame, and not the job.
    #[serde(default)]
    pub(super) machine: bool,
}

/// A line as it may be; members that we do not know are left to later versions.
#[derive(Deserialize)]
struct Line {
    progress: Option<f64>,
    message: Option<String>,
    error: Option<ToldError>,
}

impl Event {
    /// Reads a line.
    ///
    /// # Errors
    /// Why it is no event, for the one who wrote it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        // Serde would take a list for the members of a struct, in their order.
        if !line.trim_start().starts_with('{') {
            return Err("no JSON object".to_owned());
        }
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match (line.error, line.progress) {
            (Some(error), _) => Ok(Self::Error(error)),
            (None, Some(fraction)) if (0.0..=1.0).contains(&fraction) => {
                Ok(Self::Progress { fraction, message: line.message.unwrap_or_default() })
            }
            (None, Some(_)) => Err("progress goes from 0 to 1".to_owned()),
            (None, None) => Err("neither progress nor error is in it".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_errors_are_read() {
        let progress =
            |fraction, message: &str| Ok(Event::Progress { fraction, message: message.to_owned() });
        assert_eq!(
            Event::parse(r#"{"progress":0.4,"message":"reading"}"#),
            progress(0.4, "reading")
        );
        assert_eq!(Event::parse(r#" {"progress":1,"later":true} "#), progress(1.0, ""));
        let told =
            Event::parse(r#"{"error":{"code":"no_disk","message":"full","retryable":false}}"#);
        let error = ToldError {
            code: Some("no_disk".parse().unwrap()),
            message: Some("full".to_owned()),
            retryable: Some(false),
            machine: false,
        };
        assert_eq!(told, Ok(Event::Error(error)));
        let least = ToldError::default();
        assert_eq!(Event::parse(r#"{"error":{}}"#), Ok(Event::Error(least.clone())));
        let of_machine = Event::parse(r#"{"error":{"machine":true}}"#);
        assert_eq!(of_machine, Ok(Event::Error(ToldError { machine: true, ..least })));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let cases = [
            ("half", "no JSON object"),
            (r#"{"progress":}"#, "expected value"),
            (r#"{"progress":40}"#, "from 0 to 1"),
            (r#"{"progress":"0.4"}"#, "invalid type"),
            (r#"{"message":"hello"}"#, "neither progress nor error"),
            (r#"{"error":{"code":"No Disk"}}"#, "1 to 64 characters"),
            (r#"{"progress":0.1}{"progress":0.2}"#, "trailing"),
            (r#"[0.4,"",null]"#, "no JSON object"),
        ];
        for (line, why) in cases {
            let said = Event::parse(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
