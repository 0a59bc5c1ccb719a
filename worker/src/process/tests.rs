//! Commands of all kinds: shells, Python, invalid output, too much output, and commands that ignore a stop. Each test
//! runs real processes through the handler's own interface.

use std::path::Path;
use std::time::{Duration, Instant};

use crunch_common::broker::{ClaimedJob, Epoch};
use crunch_common::job::{
    ContentType, ErrorCode, JobError, JobId, JobOptions, Metadata, Partition, Payload, Priority,
};
use crunch_common::time::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::handler::Handler;
use crate::{JobContext, TaskError};

mod contract;
mod examples;
mod stopping;

/// Long enough for the slowest machine; only a hang exceeds it.
const DEADLINE: Duration = Duration::from_secs(30);
const MAX_RESULT: usize = 1024 * 1024;

/// Not a test: the test program runs this to become the launcher of its commands.
#[test]
fn this_program_is_its_own_launcher() {
    become_launcher_if_marked();
}

/// A command in its own directory, and the job it runs for.
struct Fixture {
    folder: TempDir,
    handler: Oneshot,
    job: JobContext,
}

impl Fixture {
    fn of<const N: usize>(words: [&str; N]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::vars_os().filter(|(name, _)| name == "PATH").collect();
        let command = Command {
            program: words[0].into(),
            arguments: words[1..].iter().map(Into::into).collect(),
            directory: folder.path().to_owned(),
            writable: true,
            environment: path,
        };
        let handler =
            Oneshot { command, content_type: ContentType::json(), max_result: MAX_RESULT };
        Self { folder, handler, job: job(ContentType::json()) }
    }

    fn sh(script: &str) -> Self {
        Self::of(["sh", "-c", script])
    }

    fn python(script: &str) -> Self {
        Self::of(["python3", "-c", script])
    }

    /// Sets the content type of results to plain text.
    fn text(mut self) -> Self {
        self.handler.content_type = "text/plain".parse().unwrap();
        self
    }

    async fn run(&self, payload: impl Into<Vec<u8>>) -> Result<String, JobError> {
        as_text(self.attempt(payload).await)
    }

    async fn attempt(&self, payload: impl Into<Vec<u8>>) -> Result<Payload, TaskError> {
        let payload = Payload::json(payload.into());
        let running = self.handler.run(self.job.clone(), payload);
        tokio::time::timeout(DEADLINE, running).await.expect("the command ends in time")
    }

    /// Runs the command, which fails; returns the reason if that is a fault of the machine.
    async fn machine_fault(&self) -> Option<String> {
        self.attempt("").await.unwrap_err().machine_fault().map(str::to_owned)
    }

    /// Runs the command in the background.
    fn start(&self) -> JoinHandle<Result<Payload, TaskError>> {
        tokio::spawn(self.handler.run(self.job.clone(), Payload::json("")))
    }

    /// Waits until the command has written a process id to this file.
    async fn pid_in(&self, file: &str) -> Pid {
        pid_in(&self.folder.path().join(file)).await
    }

    fn log(&self) -> Vec<String> {
        let key = crunch_common::broker::LeaseKey { id: self.job.id(), epoch: self.job.epoch() };
        self.job.unconfirmed(key).map(|report| report.log).unwrap_or_default()
    }
}

fn as_text(result: Result<Payload, TaskError>) -> Result<String, JobError> {
    result.map(|payload| String::from_utf8(payload.bytes.into()).unwrap()).map_err(Into::into)
}

fn job(content_type: ContentType) -> JobContext {
    let mut metadata = Metadata::default();
    metadata.insert("colour".to_owned(), "gr\u{fc}n".to_owned()).unwrap();
    job_with(content_type, metadata)
}

fn job_with(content_type: ContentType, metadata: Metadata) -> JobContext {
    let claimed = ClaimedJob {
        id: JobId::generate(Partition::new(0).unwrap()),
        epoch: Epoch::new(7001),
        queue: "text".parse().unwrap(),
        priority: Priority::Normal,
        task: "word.count".parse().unwrap(),
        attempt: 2,
        options: JobOptions {
            max_attempts: 3,
            timeout: Duration::from_secs(60),
            deadline: None,
            start_within: None,
            unique: None,
            backoff: crunch_common::backoff::Backoff::default(),
            content_type: content_type.clone(),
            payload_size: 0,
            metadata,
            group: None,
            trace: None,
        },
        payload: Payload { bytes: Vec::new().into(), content_type },
        created_at: Timestamp::now(),
        due_at: Timestamp::now(),
        claimed_at: Timestamp::now(),
    };
    JobContext::new(&claimed, Timestamp::from_unix_ms(1_795_354_854_426), CancellationToken::new())
}

async fn pid_in(file: &Path) -> Pid {
    let pid = || {
        let text = std::fs::read_to_string(file).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    };
    wait_until(pid).await
}

/// Calls `check` repeatedly until it returns a value.
async fn wait_until<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < end, "the condition was not met in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process has ended; a zombie counts as ended.
fn is_dead(process: Pid) -> bool {
    let stat = format!("/proc/{}/stat", process.as_raw_nonzero());
    let state = std::fs::read_to_string(stat).ok();
    let ended = state.and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with(['Z', 'X'])));
    ended.unwrap_or(true)
}

async fn wait_for_death(process: Pid) {
    wait_until(|| is_dead(process).then_some(())).await;
}
