//! The events a command writes to its events descriptor: its progress, or why it will fail. One JSON object a line.

use crunch_common::job::ErrorCode;
use serde::Deserialize;

/// The longest line that is read as an event: enough for an error with the longest message that is kept.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// One event.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// Progress, 0 to 1.
    Progress { fraction: f64, message: String },
    /// Why the command is about to fail.
    Error(ReportedError),
}

/// The error that a command reports before it fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ReportedError {
    /// Default: `command_failed`.
    pub(super) code: Option<ErrorCode>,
    /// Default: how the command ended, and the last lines of its standard error.
    pub(super) message: Option<String>,
    /// Default: by the exit code.
    pub(super) retryable: Option<bool>,
    /// For how long the job is put off; then nothing failed.
    pub(super) snooze_ms: Option<u64>,
    /// Whether the fault is the machine's, not the job's.
    #[serde(default)]
    pub(super) machine: bool,
}

/// A line; unknown members are ignored: later versions may define them.
#[derive(Deserialize)]
struct Line {
    progress: Option<f64>,
    message: Option<String>,
    error: Option<ReportedError>,
}

impl Event {
    /// Parses a line.
    ///
    /// # Errors
    /// Why it is not an event, for the author of the command.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        // Serde would accept a list as the members of a struct, in their order.
        if !line.trim_start().starts_with('{') {
            return Err("not a JSON object".to_owned());
        }
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        match (line.error, line.progress) {
            (Some(error), _) => Ok(Self::Error(error)),
            (None, Some(fraction)) if (0.0..=1.0).contains(&fraction) => {
                Ok(Self::Progress { fraction, message: line.message.unwrap_or_default() })
            }
            (None, Some(_)) => Err("progress must be from 0 to 1".to_owned()),
            (None, None) => Err("it has neither progress nor error".to_owned()),
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
        let parsed =
            Event::parse(r#"{"error":{"code":"no_disk","message":"full","retryable":false}}"#);
        let error = ReportedError {
            code: Some("no_disk".parse().unwrap()),
            message: Some("full".to_owned()),
            retryable: Some(false),
            snooze_ms: None,
            machine: false,
        };
        assert_eq!(parsed, Ok(Event::Error(error)));
        let empty = ReportedError::default();
        assert_eq!(Event::parse(r#"{"error":{}}"#), Ok(Event::Error(empty.clone())));
        let snooze = Event::parse(r#"{"error":{"snooze_ms":500}}"#);
        let put_off = ReportedError { snooze_ms: Some(500), ..empty.clone() };
        assert_eq!(snooze, Ok(Event::Error(put_off)));
        let of_machine = Event::parse(r#"{"error":{"machine":true}}"#);
        assert_eq!(of_machine, Ok(Event::Error(ReportedError { machine: true, ..empty })));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let cases = [
            ("half", "not a JSON object"),
            (r#"{"progress":}"#, "expected value"),
            (r#"{"progress":40}"#, "from 0 to 1"),
            (r#"{"progress":"0.4"}"#, "invalid type"),
            (r#"{"message":"hello"}"#, "neither progress nor error"),
            (r#"{"error":{"snooze_ms":-1}}"#, "invalid value"),
            (r#"{"error":{"code":"No Disk"}}"#, "1 to 64 characters"),
            (r#"{"progress":0.1}{"progress":0.2}"#, "trailing"),
            (r#"[0.4,"",null]"#, "not a JSON object"),
        ];
        for (line, why) in cases {
            let error = Event::parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
