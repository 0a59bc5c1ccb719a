//! The command `check-channel`: holds a child of a server against the specification of the channel, case by case.
//!
//! For authors of children in any language. Plays the worker: sends what a worker may send, cut and joined as pipes may
//! cut and join it, and what only a later version would send. Each case has a child of its own. Needs no Redis and no
//! `tasks.toml`. The cases are in `check_channel/cases.rs`; `docs/commands.md` is the specification.

mod cases;
mod peer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::CheckChannel;
use crate::process::Command;
use cases::Case;
use peer::{Peer, Trouble};

/// What the child of a case may print before its last lines are kept only.
const SHOWN_LINES: usize = 20;

/// The reason why a child was not found to speak the channel.
///
/// ```
/// use crunch_worker::{CheckError, Error};
///
/// let error = Error::from(CheckError::Failed { failed: 2, all: 56 });
/// assert_eq!(error.to_string(), "check-channel: 2 of 56 cases failed");
/// assert_eq!(error.exit_code(), 1);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The call is wrong.
    #[error("check-channel: {0}")]
    Call(String),
    /// Some cases failed.
    #[error("check-channel: {failed} of {all} cases failed")]
    Failed {
        /// How many failed.
        failed: usize,
        /// How many were run.
        all: usize,
    },
}

/// What is checked.
#[derive(Debug)]
struct Subject {
    command: Command,
    /// The names of the child's tasks by their roles.
    tasks: BTreeMap<Role, String>,
    /// How long it may take for anything but its start.
    within: Duration,
}

/// What a task must do, for the cases that need one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    /// Returns its payload.
    Echo,
    /// Fails with the code `on_purpose`, and is not to be retried.
    Fail,
    /// Reports progress and runs until it is canceled.
    Wait,
    /// Prints its payload.
    Log,
}

impl Role {
    const ALL: [Self; 4] = [Self::Echo, Self::Fail, Self::Wait, Self::Log];

    const fn word(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Fail => "fail",
            Self::Wait => "wait",
            Self::Log => "log",
        }
    }
}

/// Runs all cases, and prints their outcomes.
///
/// # Errors
/// If a case fails.
pub(crate) async fn run(request: &CheckChannel) -> Result<(), CheckError> {
    let subject = Arc::new(Subject {
        command: command(request)?,
        tasks: tasks(request)?,
        within: request.within,
    });
    let mut cases = cases::all();
    if let Some(only) = &request.only {
        cases.retain(|case| format!("{:<8} {}", case.message, case.what).contains(only));
        if cases.is_empty() {
            return Err(CheckError::Call(format!("--only {only:?}: no case contains it")));
        }
    }
    let mut running = JoinSet::new();
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let places = Arc::new(Semaphore::new(at_once));
    for (number, case) in cases.iter().enumerate() {
        let (subject, places, case) = (subject.clone(), places.clone(), *case);
        running.spawn(async move {
            let _place = places.acquire().await;
            (number, check(&subject, case).await)
        });
    }
    let mut outcomes = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        let (number, outcome) = ended.map_err(|error| CheckError::Call(error.to_string()))?;
        outcomes.insert(number, outcome);
    }
    let outcomes: Vec<_> = cases.into_iter().zip(outcomes.into_values()).collect();
    report(&outcomes)
}

async fn check(subject: &Subject, case: Case) -> Result<(), Trouble> {
    let mut peer = Peer::start(subject).await?;
    let outcome = (case.run)(&mut peer).await;
    peer.end(outcome).await
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn report(outcomes: &[(Case, Result<(), Trouble>)]) -> Result<(), CheckError> {
    let (mut failed, mut skipped) = (0, 0);
    for (Case { message, what, .. }, outcome) in outcomes {
        match outcome {
            Ok(()) => println!("ok    {message:<8} {what}"),
            Err(Trouble::Skipped(why)) => {
                skipped += 1;
                println!("skip  {message:<8} {what}: {why}");
            }
            Err(Trouble::Failed(why)) => {
                failed += 1;
                println!("FAIL  {message:<8} {what}: {why}");
            }
        }
    }
    let (all, passed) = (outcomes.len(), outcomes.len() - failed - skipped);
    println!("{all} cases: {passed} passed, {failed} failed, {skipped} skipped");
    match failed {
        0 => Ok(()),
        _ => Err(CheckError::Failed { failed, all }),
    }
}

/// The command as `tasks.toml` would start it: in this folder, with the variables that are passed on by default.
fn command(request: &CheckChannel) -> Result<Command, CheckError> {
    let call = |what: String| CheckError::Call(what);
    let directory = std::env::current_dir().map_err(|error| call(error.to_string()))?;
    let (first, arguments) =
        request.command.split_first().ok_or_else(|| call("the command is missing".to_owned()))?;
    let environment = crate::commands::kept_environment();
    let program = crate::commands::find_program(first, &directory, &environment).map_err(call)?;
    let arguments = arguments.iter().map(Into::into).collect();
    Ok(Command { program, arguments, directory, writable: false, environment })
}

fn tasks(request: &CheckChannel) -> Result<BTreeMap<Role, String>, CheckError> {
    let mut tasks: BTreeMap<_, _> =
        Role::ALL.into_iter().map(|role| (role, role.word().to_owned())).collect();
    for (word, name) in &request.roles {
        let role = Role::ALL.into_iter().find(|role| role.word() == word);
        let role = role.ok_or_else(|| {
            CheckError::Call(format!(
                "--task {word}={name}: expected echo, fail, wait or log before ="
            ))
        })?;
        tasks.insert(role, name.clone());
    }
    Ok(tasks)
}
