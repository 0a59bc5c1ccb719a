//! `submit`: a job, or with `--lines` a job for each line.

mod lines;
mod options;
mod unique;

use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use self::options::Options;
use super::{Session, result};
use crate::client::{Answer, Request};
use crate::completion;
use crate::documents::{Job, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::follow;
use crate::format::parse_duration;
use crate::output::log;

/// What is submitted, and how.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The task; with --lines it may be left out: then each line names its own, and - is standard input
    #[arg(value_name = "TASK", required_unless_present = "lines",
        add = clap_complete::ArgValueCandidates::new(completion::tasks))]
    task: Option<String>,
    /// Read the payload from standard input
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with_all = ["data", "file"])]
    stdin: Option<String>,
    /// The payload, as JSON; without --data and --file it is null
    #[arg(long, short, value_name = "JSON", conflicts_with_all = ["file", "lines"])]
    data: Option<String>,
    /// File with the payload, or with the lines; - is standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Submit a job for each line: payloads of TASK, or without TASK bodies of POST /jobs
    #[arg(long)]
    lines: bool,
    /// Content type of the payload. Default: by the file's name, else application/json
    #[arg(long, value_name = "TYPE", conflicts_with = "lines")]
    content_type: Option<String>,
    /// Wait for the end, at most this long, and print the result
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true,
        default_missing_value = "366d", value_parser = parse_duration, conflicts_with = "lines")]
    wait: Option<Duration>,
    /// Idempotency key: the same key is the same job. With --lines each line has KEY:NUMBER
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// The value of `--wait` without a duration: no limit.
const WITHOUT_LIMIT: Duration = Duration::from_secs(366 * 86_400);

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    // Without a task, the first argument is the source of the lines.
    let task = arguments.task.as_deref().filter(|task| *task != "-");
    let task = match (task, arguments.lines) {
        (task, true) => return lines::run(session, arguments, task),
        (Some(task), false) => task,
        (None, false) => return Err(Error::usage("there is no task", "crunch submit TASK")),
    };
    let answer = submit(session, arguments, task)?;
    let document: Box<RawValue> = answer.json(&session.client.target.url)?;
    let id = read::<Job>(&document)?.id;
    if answer.headers.contains_key("crunch-existing") {
        note_existing(&id, arguments.options.unique.replaces());
    }
    let Some(wait) = arguments.wait else {
        if session.output.json {
            session.output.document(&document)?;
        } else {
            session.output.line(&id)?;
        }
        return Ok(Exit::Done);
    };
    log::hint(&format!("job {id}"));
    let limit = Some(wait).filter(|wait| *wait < WITHOUT_LIMIT);
    // Without its id, the caller would submit it again, and have two jobs.
    let ended =
        follow::until_end(&session.client, &id, limit).inspect_err(|error| match error {
            // It names the job itself.
            Error::TimedOut { .. } => {}
            _ => log::note(&format!("job {id} was submitted: crunch wait {id}")),
        })?;
    if session.output.json {
        session.output.document(&ended.document)?;
        let succeeded = ended.job.status == "succeeded";
        return Ok(if succeeded { Exit::Done } else { Exit::Failed });
    }
    match ended.job.status.as_str() {
        "succeeded" => result::print(session, &id, None),
        _ => Err(follow::failure(&ended.job)),
    }
}

fn submit(session: &Session<'_>, arguments: &Arguments, task: &str) -> Result<Answer, Error> {
    let content_type = arguments.content_type.as_deref();
    let content_type = content_type.unwrap_or_else(|| type_of(arguments.file.as_deref()));
    // With a key of its own, a request whose answer was lost can be repeated.
    let key = arguments.key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let request = Request::post(&["tasks", task, "jobs"])
        .header("idempotency-key", key)
        .body(content_type, payload(arguments)?);
    session.client.send(&arguments.options.apply(request))
}

/// Reports that the job is not a new one.
fn note_existing(id: &str, replaces: bool) {
    let has = if replaces { "; it has this payload and these options now" } else { "" };
    log::note(&format!("no job was created: job {id} holds the lock{has}"));
}

fn payload(arguments: &Arguments) -> Result<Vec<u8>, Error> {
    if let Some(data) = &arguments.data {
        return Ok(data.clone().into_bytes());
    }
    match source(arguments) {
        None => Ok(b"null".to_vec()),
        Some(path) if path == Path::new("-") => {
            let mut bytes = Vec::new();
            let read = stdin().lock().read_to_end(&mut bytes);
            read.map_err(|cause| Error::file("read", "standard input", cause))?;
            Ok(bytes)
        }
        Some(path) => std::fs::read(path).map_err(|cause| Error::file("read", path, cause)),
    }
}

/// The file to read; `-` is standard input.
fn source(arguments: &Arguments) -> Option<&Path> {
    arguments.stdin.as_deref().map(Path::new).or(arguments.file.as_deref())
}

/// A duration as the API expects it; null if there is none.
fn ms(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Null, |duration| json!(duration.as_millis() as u64))
}

fn type_of(file: Option<&Path>) -> &'static str {
    let extension = file.and_then(Path::extension).and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("txt") => "text/plain",
        Some("bin") => "application/octet-stream",
        _ => "application/json",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Submit {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        let words = ["submit"].iter().chain(words);
        Submit::try_parse_from(words).map(|submit| submit.arguments)
    }

    #[test]
    fn the_time_to_wait_may_be_left_out() {
        assert_eq!(parse(&["t"]).unwrap().wait, None);
        assert_eq!(parse(&["t", "--wait"]).unwrap().wait, Some(WITHOUT_LIMIT));
        assert_eq!(parse(&["t", "--wait=30s"]).unwrap().wait, Some(Duration::from_secs(30)));
        let arguments = parse(&["t", "--wait", "-"]).unwrap();
        assert_eq!(source(&arguments), Some(Path::new("-")));
    }

    #[test]
    fn contradictions_are_rejected() {
        for words in [
            &[][..],
            &["t", "-d", "1", "-f", "x"],
            &["t", "-", "-d", "1"],
            &["--lines", "--wait"],
            &["--lines", "-d", "1"],
            &["t", "--in", "5m", "--at", "2030-01-01T00:00:00Z"],
            &["t", "--metadata", "novalue"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_content_type_follows_the_name() {
        let types = ["a.PNG", "a.jpeg", "a.json", "a"].map(|name| type_of(Some(Path::new(name))));
        assert_eq!(types, ["image/png", "image/jpeg", "application/json", "application/json"]);
    }
}
