//! The tasks that workers of tests have beside the shipped ones.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crunch_worker::{JobContext, Task, TaskError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{Ledger, Moment};

/// Names the ledger's file.
pub const LEDGER_VARIABLE: &str = "CRUNCH_TEST_LEDGER";

/// All of them.
#[must_use]
pub fn all() -> Vec<Task> {
    vec![
        Task::new("act", act),
        Task::new("echo", async |_job: JobContext, input: Value| Ok(input)),
        Task::raw("repeat", async |_job, payload| Ok(payload)),
        Task::new("square", square).max_attempts(10),
        Task::blocking("abort", |_job: JobContext, _: Value| -> Result<Value, TaskError> {
            std::process::abort()
        }),
        Task::new("hog", hog),
    ]
}

/// Payload of `act`: where to call.
#[derive(Debug, Deserialize)]
struct Script {
    stage: String,
}

/// What a handler is told on stage. The first three end it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    /// Returns this result.
    Return(Value),
    /// Fails; may be tried again.
    Fail(String),
    /// Fails for good.
    FailForGood(String),
    /// Panics.
    Panic(String),
    /// Reports progress.
    Progress(f64, String),
    /// Writes a line to the job's log.
    Log(String),
    /// Ignores from now on that it is asked to stop.
    Ignore,
}

/// Calls the stage and does what it is told, until it is told to end or asked to stop.
async fn act(job: JobContext, script: Script) -> Result<Value, TaskError> {
    let stream = TcpStream::connect(&script.stage).await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let hello = json!({
        "id": job.id(), "epoch": job.epoch().number(), "attempt": job.attempt(), "pid": std::process::id(),
    });
    writer.write_all(format!("{hello}\n").as_bytes()).await?;
    let mut lines = BufReader::new(reader).lines();
    let mut obedient = true;
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            () = job.cancellation().cancelled(), if obedient => {
                writer.write_all(b"stop\n").await?;
                return Err(TaskError::retryable("asked to stop"));
            }
        };
        let line = line.ok_or_else(|| TaskError::retryable("the stage is closed"))?;
        match serde_json::from_str(&line)? {
            Act::Return(result) => return Ok(result),
            Act::Fail(message) => return Err(TaskError::retryable(message)),
            Act::FailForGood(message) => return Err(TaskError::permanent(message)),
            Act::Panic(message) => panic!("{message}"),
            Act::Progress(fraction, message) => job.progress(fraction, message),
            Act::Log(text) => job.log(text),
            Act::Ignore => obedient = false,
        }
    }
}

/// Payload of `square`.
#[derive(Debug, Deserialize)]
struct Square {
    n: u64,
    #[serde(default)]
    busy_ms: u64,
}

/// Squares a number after a while, and notes its start and end in the ledger.
async fn square(job: JobContext, input: Square) -> Result<Value, TaskError> {
    let ledger = ledger()?;
    ledger.note(Moment::Start, &job)?;
    if input.busy_ms > 0 {
        tokio::time::sleep(Duration::from_millis(input.busy_ms)).await;
    }
    ledger.note(Moment::End, &job)?;
    Ok(json!({ "square": input.n * input.n }))
}

#[expect(clippy::disallowed_methods, reason = "a test tells its workers where the ledger is")]
fn ledger() -> Result<&'static Ledger, TaskError> {
    static LEDGER: OnceLock<Result<Ledger, String>> = OnceLock::new();
    let open = || {
        let path = std::env::var(LEDGER_VARIABLE).map_err(|error| error.to_string())?;
        Ledger::open(&PathBuf::from(path)).map_err(|error| error.to_string())
    };
    LEDGER.get_or_init(open).as_ref().map_err(|error| TaskError::permanent(error.clone()))
}

/// Payload of `hog`.
#[derive(Debug, Deserialize)]
struct Hog {
    for_ms: u64,
}

/// Does what no handler should: blocks a thread of the async runtime.
async fn hog(_job: JobContext, input: Hog) -> Result<Value, TaskError> {
    std::thread::sleep(Duration::from_millis(input.for_ms));
    Ok(json!({ "pid": std::process::id() }))
}
