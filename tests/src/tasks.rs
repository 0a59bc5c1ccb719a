//! The tasks that test workers have in addition to the shipped ones.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crunch_common::job::Payload;
use crunch_worker::{Batch, JobContext, Task, TaskError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{Ledger, Moment};

/// The variable with the path of the ledger.
pub const LEDGER_VARIABLE: &str = "CRUNCH_TEST_LEDGER";
/// If this variable is set, the worker has no `chaos.rare`.
pub const LACKS_VARIABLE: &str = "CRUNCH_TEST_LACKS_RARE";

/// Returns all test tasks, except one that a test may leave out.
#[must_use]
pub fn all() -> Vec<Task> {
    // Opened before a test takes away the descriptors; a worker without a ledger ignores the error.
    let _ = ledger();
    let rare = std::env::var_os(LACKS_VARIABLE).is_none().then(crate::chaos::rare_task);
    let tasks = vec![
        Task::new("act", act),
        crate::chaos::task(),
        Task::new("echo", async |_job: JobContext, input: Value| Ok(input)),
        Task::raw("repeat", async |_job, payload| Ok(payload)),
        Task::new("square", square).max_attempts(10),
        Task::blocking("abort", |_job: JobContext, _: Value| -> Result<Value, TaskError> {
            std::process::abort()
        }),
        Task::blocking("die", die),
        Task::new("fail", fail),
        Task::batched("gather", Batch::of(3).linger(Batch::MAX_LINGER), gather),
        Task::new("hog", hog),
        Task::raw("return_bytes", return_bytes),
    ];
    tasks.into_iter().chain(rare).collect()
}

/// Returns to each job of a batch the ids of all; one with the payload `fail` fails.
async fn gather(
    jobs: Vec<(JobContext, Value)>,
) -> Result<Vec<Result<Value, TaskError>>, TaskError> {
    let ids: Vec<_> = jobs.iter().map(|(job, _)| job.id().to_string()).collect();
    let outcome = |(_, payload): &(JobContext, Value)| match payload == "fail" {
        true => Err(TaskError::permanent("as requested")),
        false => Ok(json!(ids)),
    };
    Ok(jobs.iter().map(outcome).collect())
}

/// Payload of `act`: the address of the stage.
#[derive(Debug, Deserialize)]
struct Script {
    stage: String,
}

/// An instruction from the stage. The first five end the handler.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    /// Returns this result.
    Return(Value),
    /// Fails with a retryable error.
    Fail(String),
    /// Fails permanently.
    FailForGood(String),
    /// Panics.
    Panic(String),
    /// Puts the job off for so many milliseconds.
    Snooze(u64),
    /// Reports progress.
    Progress(f64, String),
    /// Writes a line to the job's log.
    Log(String),
    /// Ignores all later requests to stop.
    Ignore,
}

/// Connects to the stage and executes instructions until one of them ends it or it is asked to stop.
async fn act(job: JobContext, script: Script) -> Result<Value, TaskError> {
    let stream = TcpStream::connect(&script.stage).await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let hello = json!({
        "id": job.id(), "epoch": job.epoch().number(), "attempt": job.attempt(), "pid": std::process::id(),
    });
    writer.write_all(format!("{hello}\n").as_bytes()).await?;
    let mut lines = BufReader::new(reader).lines();
    let mut may_stop = true;
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            () = job.cancellation().cancelled(), if may_stop => {
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
            Act::Snooze(ms) => return Err(TaskError::snooze(Duration::from_millis(ms))),
            Act::Progress(fraction, message) => job.progress(fraction, message),
            Act::Log(text) => job.log(text),
            Act::Ignore => may_stop = false,
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

/// Squares a number after a while, and records its start and end in the ledger.
async fn square(job: JobContext, input: Square) -> Result<Value, TaskError> {
    let ledger = ledger()?;
    ledger.record(Moment::Start, &job)?;
    if input.busy_ms > 0 {
        tokio::time::sleep(Duration::from_millis(input.busy_ms)).await;
    }
    ledger.record(Moment::End, &job)?;
    Ok(json!({ "square": input.n * input.n }))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test passes the path of the ledger to its workers"
)]
pub(crate) fn ledger() -> Result<&'static Ledger, TaskError> {
    static LEDGER: OnceLock<Result<Ledger, String>> = OnceLock::new();
    let open = || {
        let path = std::env::var(LEDGER_VARIABLE).map_err(|error| error.to_string())?;
        Ledger::open(&PathBuf::from(path)).map_err(|error| error.to_string())
    };
    LEDGER.get_or_init(open).as_ref().map_err(|error| TaskError::permanent(error.clone()))
}

/// Payload of `fail`.
#[derive(Debug, Deserialize)]
struct Failure {
    message: String,
    /// The path of a file with which the job succeeds.
    until: PathBuf,
}

/// Fails permanently as long as a file does not exist.
async fn fail(_job: JobContext, input: Failure) -> Result<Value, TaskError> {
    if input.until.exists() { Ok(Value::Null) } else { Err(TaskError::permanent(input.message)) }
}

/// Payload of `hog`.
#[derive(Debug, Deserialize)]
struct Hog {
    for_ms: u64,
}

/// Does what no handler should do: blocks a thread of the async runtime.
async fn hog(_job: JobContext, input: Hog) -> Result<Value, TaskError> {
    std::thread::sleep(Duration::from_millis(input.for_ms));
    Ok(json!({ "pid": std::process::id() }))
}

/// How the task `die` kills its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Poison {
    /// Calls `abort`.
    Abort,
    /// Gets the signal of a bad memory access.
    Segfault,
    /// Calls itself until the stack is full.
    StackOverflow,
    /// Asks for more memory than it may have.
    OutOfMemory,
}

/// Kills the worker's process.
fn die(_job: JobContext, by: Poison) -> Result<Value, TaskError> {
    match by {
        Poison::Abort => std::process::abort(),
        Poison::Segfault => {
            let own_pid = rustix::process::getpid();
            // The first signal only removes the handler that detects stack overflows.
            loop {
                rustix::process::kill_process(own_pid, rustix::process::Signal::SEGV)?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Poison::StackOverflow => drop(fill_stack(0)),
        Poison::OutOfMemory => {
            let limit = rustix::process::Rlimit { current: Some(1 << 28), maximum: None };
            rustix::process::setrlimit(rustix::process::Resource::As, limit)?;
            drop(std::hint::black_box(vec![1_u8; 1 << 30]));
        }
    }
    Err(TaskError::permanent("the worker is still alive"))
}

#[expect(unconditional_recursion, reason = "its purpose is to fill the stack")]
fn fill_stack(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    fill_stack(frame[0] + 1) + frame[1]
}

/// Payload of `return_bytes`: bytes that JSON cannot contain, encoded as text.
#[derive(Debug, Deserialize)]
struct RawResult {
    /// In hexadecimal digits, two per byte.
    hex: String,
    times: usize,
}

/// Returns bytes that need not be a valid result.
async fn return_bytes(_job: JobContext, input: Payload) -> Result<Payload, TaskError> {
    let input: RawResult = serde_json::from_slice(&input.bytes)?;
    let digits = input.hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16);
    let bytes = digits.map(byte).collect::<Result<Vec<_>, _>>();
    let bytes = bytes.map_err(|error| TaskError::permanent(error.to_string()))?;
    Ok(Payload::json(bytes.repeat(input.times)))
}
