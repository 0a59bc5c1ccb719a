//! A child as a case sees it: what to send to it, and what came from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use crunch_common::broker::{Epoch, LeaseKey};
use crunch_common::job::{JobId, Partition};
use crunch_common::task::TaskDescriptor;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::{Receiver, Sender};

use super::{Role, SHOWN_LINES, Subject};
use crate::process::{End, Ending, FIRST_FD, How, Launched, Program, Request, name_of, variable};
use crate::server::channel::{
    Body, Decoder, Directory, Done, FileValues, FromChild, Hello, Output, ReportedFailure,
    declared_tasks,
};

/// How long a killed process may take to end.
const KILLED_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to start.
const START: Duration = Duration::from_secs(60);
/// The largest result that is read.
const MAX_RESULT: usize = 16 * 1024 * 1024;

/// Why a case did not pass.
#[derive(Debug)]
pub(super) enum Trouble {
    Failed(String),
    /// The child lacks what the case needs.
    Skipped(String),
}

/// Creates a failure.
pub(super) fn failed<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Failed(what.into()))
}

/// A child.
pub(super) struct Peer {
    launched: Launched,
    has_ended: bool,
    /// How long it may take for anything but its start.
    within: Duration,
    /// `None` once it was closed.
    input: Option<Sender>,
    messages: Receiver,
    output: Output,
    decoder: Decoder,
    printed: Vec<String>,
    tasks: BTreeMap<Role, String>,
    /// Its directory for large values.
    directory: Directory,
    hello: Option<(Hello, Vec<TaskDescriptor>)>,
}

/// A job that a case sends.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) key: LeaseKey,
    pub(super) task: String,
    pub(super) payload: Bytes,
    pub(super) content_type: &'static str,
    /// A JSON object.
    pub(super) metadata: String,
    /// Further members, each with a comma behind it.
    pub(super) further: String,
    /// Sends the payload by file.
    pub(super) by_file: bool,
}

/// How a child answered a job.
#[derive(Debug)]
pub(super) enum Answer {
    Done(Bytes),
    Failed(ReportedFailure),
}

impl Peer {
    /// Starts a child. It has sent nothing yet.
    pub(super) async fn start(subject: &Subject) -> Result<Self, Trouble> {
        let Some(directory) = Directory::create(&subject.command.environment) else {
            return failed("cannot create a directory for it in TMPDIR");
        };
        let numbers = [(variable::IN_FD, FIRST_FD), (variable::OUT_FD, FIRST_FD + 1)];
        let numbers = numbers.map(|(name, number)| (name.into(), number.to_string().into()));
        let place = (variable::DIRECTORY.into(), directory.as_os_str().to_owned());
        let program = Program {
            command: &subject.command,
            variables: numbers.into_iter().chain([place]).collect(),
            directory: Some(&directory),
        };
        let launched = Launched::start(program, [FIRST_FD], [1, 2, FIRST_FD + 1]).await;
        let (launched, [input], [stdout, stderr, messages]) =
            launched.map_err(|error| Trouble::Failed(format!("cannot start it: {error}")))?;
        Ok(Self {
            launched,
            has_ended: false,
            within: subject.within,
            input: Some(input),
            messages,
            output: Output::new(stdout, stderr),
            decoder: Decoder::default(),
            printed: Vec::new(),
            tasks: subject.tasks.clone(),
            directory,
            hello: None,
        })
    }

    /// Ends the child; adds what it printed to a failure.
    pub(super) async fn end(mut self, outcome: Result<(), Trouble>) -> Result<(), Trouble> {
        if !self.has_ended {
            self.launched.send(Request::Kill).await;
            let _ended = tokio::time::timeout(KILLED_WITHIN, self.ended()).await;
        }
        self.read_output();
        outcome.map_err(|trouble| match trouble {
            Trouble::Failed(why) if !self.printed.is_empty() => {
                let from = self.printed.len().saturating_sub(SHOWN_LINES);
                Trouble::Failed(format!(
                    "{why}\n        it printed: {}",
                    self.printed[from..].join("\n        ")
                ))
            }
            other => other,
        })
    }

    /// Reads its hello.
    pub(super) async fn hello(&mut self) -> Result<&(Hello, Vec<TaskDescriptor>), Trouble> {
        let (message, body) = self.next_within(START, "a hello").await?;
        let FromChild::Hello(hello) = message else {
            return failed(format!("the first message is {:?}, not \"hello\"", message.kind()));
        };
        let body = match &body {
            Body::Bytes(bytes) => Some(&bytes[..]),
            Body::None | Body::TooLong(_) => None,
        };
        let tasks = declared_tasks(body, &FileValues::new()).map_err(Trouble::Failed)?;
        Ok(self.hello.insert((hello, tasks)))
    }

    /// Reads its hello and answers it: the child is ready.
    pub(super) async fn greet(&mut self) -> Result<(), Trouble> {
        self.hello().await?;
        self.send(r#"{"type":"hello","channel":1,"worker":"check-channel","max_result":16777216}"#)
            .await
    }

    /// The name of the task with a role.
    ///
    /// # Errors
    /// If the child has none.
    pub(super) fn task(&self, role: Role) -> Result<&str, Trouble> {
        let name = &self.tasks[&role];
        let tasks = self.hello.as_ref().map(|(_, tasks)| &tasks[..]).unwrap_or_default();
        match tasks.iter().any(|task| task.name.as_str() == name) {
            true => Ok(name),
            false if role == Role::Echo => {
                failed(format!("it has no task {name:?}, which is needed"))
            }
            false => Err(Trouble::Skipped(format!("it has no task {name:?}"))),
        }
    }

    pub(super) fn concurrency(&self) -> u32 {
        self.hello.as_ref().map_or(1, |(hello, _)| hello.concurrency)
    }

    pub(super) fn has_feature(&self, feature: &str) -> bool {
        self.hello.as_ref().is_some_and(|(hello, _)| hello.features.iter().any(|it| it == feature))
    }

    /// A job of the task with a role.
    pub(super) fn job(&self, role: Role, payload: impl Into<Bytes>) -> Result<Job, Trouble> {
        Ok(Job {
            key: LeaseKey { id: JobId::generate(Partition::default()), epoch: Epoch::new(1) },
            task: self.task(role)?.to_owned(),
            payload: payload.into(),
            content_type: "application/json",
            metadata: "{}".to_owned(),
            further: String::new(),
            by_file: false,
        })
    }

    /// Sends a line.
    pub(super) async fn send(&mut self, line: &str) -> Result<(), Trouble> {
        self.write(format!("{line}\n").as_bytes()).await
    }

    pub(super) async fn send_job(&mut self, job: &Job) -> Result<(), Trouble> {
        let bytes =
            job.bytes(&self.directory).map_err(|error| Trouble::Failed(error.to_string()))?;
        self.write(&bytes).await
    }

    pub(super) async fn cancel(&mut self, job: &Job) -> Result<(), Trouble> {
        let LeaseKey { id, epoch } = job.key;
        self.send(&format!(
            r#"{{"type":"cancel","id":"{id}","epoch":{epoch},"reason":"canceled","grace_ms":3000}}"#
        ))
        .await
    }

    /// Writes bytes, however they belong together.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let Some(input) = &mut self.input else { return failed("its input was closed before") };
        match tokio::time::timeout(self.within, input.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => failed(format!("it does not read any more: {error}")),
            Err(_) => failed(format!("it did not read for {:?}", self.within)),
        }
    }

    /// Writes bytes in pieces of that size, each in a write of its own, with a pause between them.
    pub(super) async fn write_in_pieces(
        &mut self,
        bytes: &[u8],
        size: usize,
    ) -> Result<(), Trouble> {
        for piece in bytes.chunks(size) {
            self.write(piece).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// The bytes of a job.
    pub(super) fn bytes_of(&self, job: &Job) -> Result<Vec<u8>, Trouble> {
        job.bytes(&self.directory).map_err(|error| Trouble::Failed(error.to_string()))
    }

    pub(super) fn close_input(&mut self) {
        self.input = None;
    }

    /// Asks the launcher for TERM.
    pub(super) async fn terminate(&mut self) {
        self.launched.send(Request::Stop).await;
    }

    /// Waits for the answer to a job; other messages about it may come before.
    pub(super) async fn answer(&mut self, job: &Job) -> Result<Answer, Trouble> {
        let within = self.within;
        tokio::time::timeout(within, self.read_answer(job)).await.unwrap_or_else(|_| {
            failed(format!("expected an answer to a job of {:?} within {within:?}", job.task))
        })
    }

    async fn read_answer(&mut self, job: &Job) -> Result<Answer, Trouble> {
        loop {
            let (message, body) =
                self.next(&format!("an answer to a job of {:?}", job.task)).await?;
            match message {
                FromChild::Done { attempt, answer } if attempt == job.key => {
                    return self.result(&answer, body).map(Answer::Done);
                }
                FromChild::Failed { attempt, error } if attempt == job.key => {
                    return Ok(Answer::Failed(*error));
                }
                FromChild::Progress { attempt, fraction, .. } if attempt == job.key => {
                    if !(0.0..=1.0).contains(&fraction) {
                        return failed(format!("progress {fraction} is not from 0 to 1"));
                    }
                }
                FromChild::Log { attempt, text } if attempt == job.key => self.printed.push(text),
                FromChild::Pong
                | FromChild::Ping
                | FromChild::Credit { .. }
                | FromChild::Unknown => {}
                other => return failed(format!("expected an answer to the job, got {other:?}")),
            }
        }
    }

    /// Runs a job that succeeds; returns its result.
    pub(super) async fn result_of(&mut self, job: &Job) -> Result<Bytes, Trouble> {
        self.send_job(job).await?;
        self.success(job).await
    }

    /// Waits for the result of a job.
    pub(super) async fn success(&mut self, job: &Job) -> Result<Bytes, Trouble> {
        match self.answer(job).await? {
            Answer::Done(result) => Ok(result),
            Answer::Failed(error) => failed(format!("the job failed: {error:?}")),
        }
    }

    /// Runs a job of `echo` with this payload, which comes back.
    pub(super) async fn echoes(&mut self, payload: impl Into<Bytes>) -> Result<(), Trouble> {
        let job = self.job(Role::Echo, payload)?;
        let result = self.result_of(&job).await?;
        equal(&result, &job.payload)
    }

    /// Waits for a progress of a job: it runs.
    pub(super) async fn progress(&mut self, job: &Job) -> Result<(), Trouble> {
        loop {
            match self.next("progress of a job of \"wait\"").await?.0 {
                FromChild::Progress { attempt, fraction, .. } if attempt == job.key => {
                    return match (0.0..=1.0).contains(&fraction) {
                        true => Ok(()),
                        false => failed(format!("progress {fraction} is not from 0 to 1")),
                    };
                }
                FromChild::Log { .. } | FromChild::Pong | FromChild::Credit { .. } => {}
                other => return failed(format!("expected progress, got {other:?}")),
            }
        }
    }

    /// Waits for a pong.
    pub(super) async fn pong(&mut self) -> Result<(), Trouble> {
        match self.next("a pong").await?.0 {
            FromChild::Pong => Ok(()),
            other => failed(format!("expected \"pong\", got {other:?}")),
        }
    }

    /// Returns the next message.
    pub(super) async fn next(&mut self, what: &str) -> Result<(FromChild, Body), Trouble> {
        self.next_within(self.within, what).await
    }

    async fn next_within(
        &mut self,
        time: Duration,
        what: &str,
    ) -> Result<(FromChild, Body), Trouble> {
        match tokio::time::timeout(time, self.read_message()).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => {
                let how = self.ending().await;
                failed(format!("expected {what}, but {how}"))
            }
            Ok(Err(invalid)) => failed(invalid),
            Err(_) => failed(format!("expected {what} within {time:?}, got nothing")),
        }
    }

    /// Waits until it closes its side of the channel and exits; returns what it sent meanwhile.
    pub(super) async fn rest(&mut self) -> Result<Vec<FromChild>, Trouble> {
        let (mut messages, within) = (Vec::new(), self.within);
        let all = async {
            while let Some((message, _)) = self.read_message().await? {
                messages.push(message);
            }
            Ok::<_, String>(())
        };
        match tokio::time::timeout(within, all).await {
            Ok(Ok(())) => Ok(messages),
            Ok(Err(invalid)) => failed(invalid),
            Err(_) => failed(format!("expected it to exit within {:?}", self.within)),
        }
    }

    /// Waits until it exits with 0.
    pub(super) async fn exits_with_zero(&mut self) -> Result<Vec<FromChild>, Trouble> {
        let rest = self.rest().await?;
        match tokio::time::timeout(self.within, self.ended()).await {
            Ok(Ending::Ended(End { how: How::Exited(0), .. })) => Ok(rest),
            Ok(other) => failed(format!("expected it to exit with 0, but {}", describe(&other))),
            Err(_) => failed(format!("expected it to exit within {:?}", self.within)),
        }
    }

    /// Waits until it has exited, with whatever code.
    pub(super) async fn exits(&mut self) -> Result<Vec<FromChild>, Trouble> {
        let rest = self.rest().await?;
        match tokio::time::timeout(self.within, self.ended()).await {
            Ok(Ending::Ended(End { how: How::Killed(signal), .. }))
                if signal == Signal::KILL.as_raw() =>
            {
                failed("it did not end, and had to be killed")
            }
            Ok(_) => Ok(rest),
            Err(_) => failed(format!("expected it to exit within {:?}", self.within)),
        }
    }

    /// Waits until it has printed a text, or sent it as a log message.
    pub(super) fn has_printed(&mut self, text: &str) -> bool {
        self.read_output();
        self.printed.iter().any(|line| line.contains(text))
    }

    async fn ended(&mut self) -> Ending {
        let ending = self.launched.ended().await;
        self.has_ended = true;
        ending
    }

    async fn ending(&mut self) -> String {
        match tokio::time::timeout(Duration::from_secs(1), self.ended()).await {
            Ok(ending) => describe(&ending),
            Err(_) => "it closed its pipe".to_owned(),
        }
    }

    /// Returns the next message, or `None` at the end.
    async fn read_message(&mut self) -> Result<Option<(FromChild, Body)>, String> {
        loop {
            match self.decoder.next(|_| MAX_RESULT) {
                Ok(Some(frame)) => return Ok(Some((frame.message, frame.body))),
                Ok(None) => {}
                Err(invalid) => return Err(invalid.to_string()),
            }
            tokio::select! {
                _ = self.messages.readable() => {
                    self.decoder.make_room();
                    match self.messages.try_read_buf(&mut self.decoder.buffer) {
                        Ok(0) => return Ok(None),
                        Ok(_) => {}
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error.to_string()),
                    }
                }
                () = self.output.readable() => self.read_output(),
            }
        }
    }

    fn read_output(&mut self) {
        let printed = &mut self.printed;
        self.output.read(|line| printed.push(line.to_owned()));
    }

    fn result(&self, done: &Done, body: Body) -> Result<Bytes, Trouble> {
        let Some(file) = &done.file else {
            return match body {
                Body::Bytes(bytes) => Ok(bytes),
                Body::None => Ok(Bytes::new()),
                Body::TooLong(_) => failed("the result has more than 16 MiB"),
            };
        };
        let path = Path::new(file);
        if path.parent() != Some(&*self.directory) {
            return failed(format!("its file {file:?} is not directly in CRUNCH_DIR"));
        }
        let read = std::fs::read(path).map(Bytes::from);
        // As a worker does: the child must not use it again.
        let _ = std::fs::remove_file(path);
        read.map_err(|error| Trouble::Failed(format!("its file {file:?}: {error}")))
    }
}

impl Job {
    fn bytes(&self, directory: &Path) -> std::io::Result<Vec<u8>> {
        let Self { key: LeaseKey { id, epoch }, task, content_type, metadata, further, .. } = self;
        let place = if self.by_file {
            let path = directory.join(format!("{id}.payload"));
            std::fs::write(&path, &self.payload)?;
            format!(r#""file":"{}""#, path.display())
        } else {
            format!(r#""body":{}"#, self.payload.len())
        };
        let line = format!(
            r#"{{"type":"job","id":"{id}","epoch":{epoch},"task":"{task}","attempt":1,"max_attempts":3,"deadline_ms":4000000000000,{place},"content_type":"{content_type}",{further}"metadata":{metadata}}}"#
        );
        let mut bytes = line.into_bytes();
        bytes.push(b'\n');
        if !self.by_file {
            bytes.extend_from_slice(&self.payload);
        }
        Ok(bytes)
    }
}

/// Compares a result with what it should be.
pub(super) fn equal(result: &[u8], expected: &[u8]) -> Result<(), Trouble> {
    if result == expected {
        return Ok(());
    }
    let at = result.iter().zip(expected).position(|(a, b)| a != b);
    let at = at.unwrap_or(result.len().min(expected.len()));
    failed(format!(
        "the result has {} bytes instead of {}, and differs at byte {at}: {}",
        result.len(),
        expected.len(),
        crate::quote::beginning(&result[at.min(result.len())..])
    ))
}

fn describe(ending: &Ending) -> String {
    match ending {
        Ending::NotStarted { why, .. } => format!("it could not be started: {why}"),
        Ending::NoLauncher(_) | Ending::LauncherDied(_) => "its launcher died".to_owned(),
        Ending::Ended(End { how: How::Exited(code), .. }) => format!("it exited with code {code}"),
        Ending::Ended(End { how: How::Killed(signal), .. }) => {
            format!("it was killed by {}", name_of(*signal))
        }
    }
}
