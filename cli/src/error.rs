//! Why a command fails: one line about what happened, one about what to do, and an exit code.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::exit::Exit;
use crate::format::short_duration;

/// An error of the whole program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The command line or the configuration is wrong.
    #[error("{what}")]
    Usage { what: String, remedy: String },
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {cause}", path = path.display())]
    File { action: &'static str, path: PathBuf, cause: io::Error },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The API answers with a problem.
    #[error("{}", .0.message())]
    Problem(Box<Problem>),
    /// No answer arrives.
    #[error("{url} does not answer: {cause}")]
    Away { url: String, cause: String, retried: Duration },
    /// What answers is not an API of Crunch.
    #[error("{url} answers with status {status}, but not as an API of Crunch")]
    NotCrunch { url: String, status: u16 },
    /// What answers sends requests elsewhere.
    #[error("{url} answers with a redirect ({status}) to {location}")]
    Redirected { url: String, status: u16, location: String },
    /// The answer is not as this program knows it.
    #[error("an answer of the API cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Jobs have not ended in time.
    #[error("job {id} has not ended after {}", short_duration(*after))]
    TimedOut { id: String, after: Duration },
    /// A job ended without success.
    #[error("{0}")]
    JobFailed(String),
}

impl Error {
    pub(crate) fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), remedy: remedy.into() }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Self {
        Self::File { action, path: path.into(), cause }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } | Self::File { .. } | Self::Output(_) => Exit::Usage,
            Self::Problem(problem) => problem.exit(),
            Self::Away { .. }
            | Self::NotCrunch { .. }
            | Self::Redirected { .. }
            | Self::Unreadable(_) => Exit::Away,
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::JobFailed(_) => Exit::Failed,
        }
    }

    /// What the user can do about it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Usage { remedy, .. } => remedy.clone(),
            Self::File { .. } => "check the path and its permissions".to_owned(),
            Self::Output(_) => "check where the output goes".to_owned(),
            Self::Problem(problem) => problem.remedy(),
            Self::Away { retried, .. } => format!(
                "tried for {}: check the address (--url, CRUNCH_URL, crunch context list), or run: crunch doctor",
                short_duration(*retried)
            ),
            Self::NotCrunch { .. } => {
                "check the address: --url, CRUNCH_URL, crunch context list".to_owned()
            }
            Self::Redirected { location, .. } => format!(
                "no redirect is followed, so that a key goes nowhere else; if that is the API: --url {location}"
            ),
            Self::Unreadable(_) => {
                "use a crunch of the API's version, or --json, which interprets nothing".to_owned()
            }
            Self::TimedOut { id, .. } => format!("it goes on; wait again: crunch wait {id}"),
            Self::JobFailed(_) => {
                "see: crunch get ID, crunch logs ID, crunch attempts ID".to_owned()
            }
        }
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    pub(crate) status: u16,
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<Violation>,
    /// The job that is in the way.
    #[serde(default)]
    job: Option<String>,
    /// `unknown` if the request may have taken effect.
    #[serde(default)]
    outcome: Option<String>,
}

/// A place in a submission that is wrong.
#[derive(Debug, Clone, Deserialize)]
struct Violation {
    pointer: String,
    detail: String,
}

impl Problem {
    /// The stable part of its type.
    pub(crate) fn slug(&self) -> &str {
        self.kind.rsplit('/').next().unwrap_or_default()
    }

    /// The same with its type as a page that can be opened; the API names it relative to its own address.
    pub(crate) fn resolved(mut self, url: &str) -> Self {
        if self.kind.starts_with('/') {
            self.kind.insert_str(0, url);
        }
        self
    }

    /// Whether the request may have taken effect.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether it is a problem document, and not other JSON.
    pub(crate) fn is_one(&self) -> bool {
        self.status != 0 && !self.title.is_empty()
    }

    pub(crate) fn message(&self) -> String {
        if self.errors.len() > 1 {
            let all =
                self.errors.iter().map(|error| format!("{}: {}", error.pointer, error.detail));
            return format!("{}: {}", self.title, all.collect::<Vec<_>>().join("; "));
        }
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.title),
            None => self.title.clone(),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self.status {
            404 | 410 => Exit::NotFound,
            401 | 403 => Exit::Refused,
            408 | 429 | 500.. => Exit::Away,
            _ => Exit::Invalid,
        }
    }

    fn remedy(&self) -> String {
        let text = match (self.slug(), self.status) {
            ("locked", _) => {
                let holder = self.job.as_deref().unwrap_or("ID");
                return format!("see the job that holds it: crunch get {holder}");
            }
            ("unauthorized", _) => {
                "set CRUNCH_API_KEY, use --key-file, or a context with a key: crunch context add"
            }
            ("forbidden", _) => {
                "use a key with this right: crunch doctor shows what this one may do"
            }
            ("misdirected-request", _) => {
                "use an address, or have the name listed in CRUNCH_API_HOSTS of the API"
            }
            ("unknown-task", _) => "list the tasks: crunch tasks",
            ("not-found", _) => "list what there is: crunch jobs, crunch queues, crunch errors",
            ("gone" | "trimmed", _) => "its record is deleted: submit the job again",
            ("invalid-submission", _) => "see what the task accepts: crunch tasks TASK",
            ("malformed-json", _) => {
                "check its quotes and brackets; a shell removes quotes: -d '{\"a\": 1}'"
            }
            ("job-not-finished", _) => "cancel it first: crunch cancel ID",
            ("job-finished" | "job-not-retryable", _) => "see how it ended: crunch get ID",
            ("idempotency-conflict", _) => {
                "use another --key, or send exactly what was sent with this one"
            }
            ("full" | "queue-full" | "too-many-queues", _) => "see what waits: crunch queues",
            ("group-full", _) => "see what waits in its group: crunch groups QUEUE",
            ("jobs-elsewhere", _) => {
                "repeat it once those jobs have ended; new jobs are where the limit applies"
            }
            ("outside-limit", _) => "submit it again: crunch submit TASK",
            ("contended", _) => "repeat it",
            ("too-many-rules", _) => "remove one: crunch groups QUEUE GROUP --remove",
            (_, 429) => "send fewer requests, or use a key with a higher rate",
            (_, 500..) => "try again later, or run: crunch doctor",
            _ => return format!("the API explains it at {}", self.kind),
        };
        text.to_owned()
    }
}
