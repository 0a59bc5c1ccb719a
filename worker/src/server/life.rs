//! The life of one child process: its start, everything it says and prints, its end, and why it ended.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_common::job::{ErrorCode, JobError};
use crunch_common::telemetry::LogLimit;
use rustix::process::Signal;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use super::child::{Child, EndRequest, Event, Failure, Reason, Success};
use super::directory::Directory;
use super::frame::{Body, Decoder, Frame};
use super::memory::{self, OomKills};
use super::message::{FromChild, Hello, MAX_CONCURRENCY, ToChild, VERSION};
use super::outbox::Outbox;
use super::output::Output;
use super::spec::ServerSpec;
use crate::TaskError;
use crate::process::{
    End, Ending, FIRST_FD, How, Launched, Program, Request, describe_status, name_of, not_started,
    variable, with_last_lines,
};

/// The descriptor from which a child reads messages.
const IN_FD: i32 = FIRST_FD;
/// The descriptor to which it writes them.
const OUT_FD: i32 = FIRST_FD + 1;
/// How often memory, silence and time limits are checked.
const TICK: Duration = Duration::from_secs(1);
/// How long a child that closed its pipe may take to exit: its exit code tells more than the end of a pipe.
const EXIT_AFTER_CLOSE: Duration = Duration::from_secs(1);
/// How many times the memory that makes the pool replace a child gets it killed: a leak grows slowly, and a job that
/// takes the machine's memory must not.
pub(super) const KILLED_AT: u64 = 2;
/// How much is read of a child's messages before other events are looked at.
const READ_BYTES: usize = 256 * 1024;

/// How much is read at once of what a child wrote before it ended.
const LAST_READ_BYTES: usize = 16 * 1024;
/// And in all: what the largest pipe holds that a child may make of its own, without privileges.
const MOST_LAST_BYTES: usize = 1024 * 1024;

/// Lines that belong to no job: an import that warns a hundred times is one line in the log.
static STRAY_LINES: LogLimit = LogLimit::new(Duration::from_millis(100));

/// How a child ended.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) child: u64,
    /// Why, for operators; without what its jobs have printed.
    pub(super) problem: String,
    /// Whether it was ready before.
    pub(super) was_ready: bool,
    /// How many attempts it had answered.
    pub(super) answered: u64,
}

/// Runs a child until it has ended and none of its processes is left.
pub(super) async fn run(
    spec: &ServerSpec,
    number: u64,
    events: mpsc::UnboundedSender<(Arc<Child>, Event)>,
) -> Exit {
    let directory = Directory::create(&spec.command.environment);
    let program = Program {
        command: &spec.command,
        variables: variables(spec, directory.as_deref()),
        directory: directory.as_deref(),
    };
    match Launched::start(program, [IN_FD], [1, 2, OUT_FD]).await {
        Ok((launched, [input], [stdout, stderr, messages])) => {
            let (requests, requested) = mpsc::unbounded_channel();
            let child = Child::new(number, directory, Outbox::new(input), requests, events);
            let life = Life {
                spec,
                child: Arc::new(child),
                launched,
                messages,
                output: Output::new(stdout, stderr),
                decoder: Decoder::default(),
                started: Instant::now(),
                closed: None,
                concurrency: None,
                bye: None,
                reason: None,
                had_jobs: false,
                pinged: None,
                oom_kills: OomKills::of(spec.oom_counter.clone()),
            };
            life.run(requested).await
        }
        Err(error) => {
            let problem = format!("cannot start a process on this worker: {error}");
            Exit { child: number, problem, was_ready: false, answered: 0 }
        }
    }
}

struct Life<'a> {
    spec: &'a ServerSpec,
    child: Arc<Child>,
    launched: Launched,
    messages: Receiver,
    output: Output,
    decoder: Decoder,
    started: Instant,
    /// When it closed its end of `messages`, or sent what is not a message: nothing is read any more.
    closed: Option<Instant>,
    /// Set by its hello.
    concurrency: Option<u32>,
    /// Why it says that it cannot work.
    bye: Option<String>,
    /// Why it was killed, if it is to blame.
    reason: Option<Reason>,
    /// What it printed may contain payloads.
    had_jobs: bool,
    /// When it was asked whether it lives, unless it answered.
    pinged: Option<Instant>,
    oom_kills: OomKills,
}

impl Life<'_> {
    async fn run(mut self, mut requested: mpsc::UnboundedReceiver<EndRequest>) -> Exit {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let child = self.child.clone();
        let ending = loop {
            let mut more = false;
            tokio::select! {
                _ = self.messages.readable(), if self.closed.is_none() => more = self.read_messages(),
                () = self.output.readable() => more = self.log_output(),
                ending = self.launched.ended() => break ending,
                Some(EndRequest { request, reason }) = requested.recv() => {
                    self.reason = self.reason.take().or(reason);
                    self.launched.send(request).await;
                }
                () = child.outbox.write_waiting() => {}
                _ = ticks.tick() => self.tick(),
            }
            if more {
                // A pipe that always has more to read would never let another task run.
                tokio::task::yield_now().await;
            }
        };
        self.oom_kills.look();
        // What it wrote before it ended counts.
        self.read_last_messages();
        self.log_output();
        self.exit(ending)
    }

    /// Reads messages; returns whether there may be more.
    fn read_messages(&mut self) -> bool {
        let mut left = READ_BYTES;
        while self.closed.is_none() && left > 0 {
            self.decoder.make_room();
            match self.messages.try_read_buf(&mut self.decoder.buffer) {
                Ok(0) => self.has_closed(),
                Ok(count) => {
                    left = left.saturating_sub(count);
                    self.receive();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => self.has_closed(),
            }
        }
        self.closed.is_none()
    }

    fn has_closed(&mut self) {
        self.closed = Some(Instant::now());
        self.child.will_end();
    }

    /// Reads all that is in the pipe, even if the runtime has not noticed it yet. All its ends are closed, unless one was
    /// passed to an unrelated process, which may write without an end.
    fn read_last_messages(&mut self) {
        let (mut chunk, mut left) = ([0; LAST_READ_BYTES], MOST_LAST_BYTES);
        while self.closed.is_none()
            && left > 0
            && let Ok(count @ 1..) = rustix::io::read(&self.messages, &mut chunk)
        {
            left = left.saturating_sub(count);
            self.decoder.buffer.extend_from_slice(&chunk[..count]);
            self.receive();
        }
    }

    fn receive(&mut self) {
        loop {
            let child = &self.child;
            let outcome = match self.decoder.next(|message| child.limit(message)) {
                Ok(None) => return,
                Ok(Some(frame)) => self.handle(frame),
                Err(invalid) => Err(Reason::Protocol(invalid.to_string())),
            };
            if let Err(reason) = outcome {
                self.closed = Some(Instant::now());
                return self.child.end(Request::Kill, Some(reason));
            }
        }
    }

    fn handle(&mut self, Frame { message, body }: Frame) -> Result<(), Reason> {
        let protocol = |what: String| Err(Reason::Protocol(what));
        match message {
            FromChild::Hello(hello) if self.concurrency.is_none() => {
                return self.greet(hello, body);
            }
            FromChild::Hello(_) => return protocol("it sent a second hello".to_owned()),
            FromChild::Bye { reason } => self.bye = Some(reason),
            FromChild::Pong => self.pinged = None,
            FromChild::Ping => self.child.outbox.send_pong(ToChild::Pong.line()),
            FromChild::Unknown => {}
            other if self.concurrency.is_none() => {
                return protocol(format!("it sent {:?} before its hello", other.kind()));
            }
            FromChild::Done { attempt, answer: done } => {
                self.log_output_of_a_job();
                self.child.answer(attempt, Ok(Success { done, body }));
            }
            FromChild::Failed { attempt, error } => {
                self.log_output_of_a_job();
                self.child.answer(attempt, Err(Failure::Reported(error)));
            }
            FromChild::Progress { attempt, fraction, message } => {
                self.child.with_job(attempt, |job| match (0.0..=1.0).contains(&fraction) {
                    true => job.progress(fraction, message),
                    false => job.log(format!("progress must be from 0 to 1: {fraction}")),
                });
            }
            FromChild::Log { attempt, text } => {
                self.child.with_job(attempt, |job| job.log(text));
            }
            FromChild::Credit { concurrency } if concurrency <= MAX_CONCURRENCY => {
                self.child.credit(concurrency);
            }
            FromChild::Credit { concurrency } => {
                return protocol(format!(
                    "a concurrency of {concurrency}, more than {MAX_CONCURRENCY}"
                ));
            }
            FromChild::Unrelated => self.child.ignore(),
        }
        Ok(())
    }

    fn greet(&mut self, hello: Hello, body: Body) -> Result<(), Reason> {
        let died = |what: String| Err(Reason::Died(what));
        if hello.channel != VERSION {
            return died(format!(
                "its hello has version {} of the channel, and this worker speaks {VERSION}",
                hello.channel
            ));
        }
        if !(1..=MAX_CONCURRENCY).contains(&hello.concurrency) {
            return died(format!(
                "its hello has a concurrency of {}, which is not from 1 to {MAX_CONCURRENCY}",
                hello.concurrency
            ));
        }
        let tasks = match body {
            Body::None => None,
            Body::Bytes(bytes) => Some(bytes),
            Body::TooLong(_) => {
                return died("the tasks of its hello have more than 4 MiB".to_owned());
            }
        };
        self.concurrency = Some(hello.concurrency);
        self.child.ready(hello, tasks);
        Ok(())
    }

    /// Logs what a job printed before it is answered: the child wrote it before its answer.
    fn log_output_of_a_job(&mut self) {
        self.had_jobs = true;
        if self.concurrency == Some(1) {
            self.log_output();
        }
    }

    /// Logs what it printed; returns whether there may be more.
    fn log_output(&mut self) -> bool {
        let job = self.child.only_job();
        self.had_jobs |= job.is_some();
        let (job, had_jobs) = (job.filter(|_| self.concurrency == Some(1)), self.had_jobs);
        let (server, child) = (&self.spec.name, self.child.number);
        self.output.read(|line| match &job {
            Some(job) => job.log(line),
            // Once it has had jobs, a line may be of one of them, and contain its payload.
            None if had_jobs => tracing::debug!(server, child, "{line}"),
            None => {
                if let Some(left_out) = STRAY_LINES.admit() {
                    tracing::info!(server, child, left_out, "{line}");
                }
            }
        })
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.oom_kills.look();
        if let Some(reason) = self.is_overdue(now) {
            self.child.end(Request::Kill, Some(reason));
        }
        if let (Some(limit), Some(launcher)) = (self.spec.max_memory, self.launched.launcher()) {
            self.limit_memory(limit, memory::of_tree(launcher));
        }
        let idle = self.child.idle_since().filter(|_| self.concurrency.is_some());
        match (idle, self.pinged) {
            (None, _) => self.pinged = None,
            (Some(since), None) if since + self.spec.silence.ping_after <= now => {
                self.child.send(&ToChild::Ping);
                self.pinged = Some(now);
            }
            (Some(_), _) => {}
        }
    }

    fn is_overdue(&self, now: Instant) -> Option<Reason> {
        let start = self.spec.start_timeout;
        if self.concurrency.is_none() && self.started + start <= now {
            return Some(Reason::Died(format!("it sent no hello within {start:?}")));
        }
        if self.closed.is_some_and(|closed| closed + EXIT_AFTER_CLOSE <= now) {
            return Some(Reason::Died("it closed its pipe".to_owned()));
        }
        let within = self.spec.silence.pong_within;
        self.pinged.filter(|&pinged| pinged + within <= now).map(|_| {
            Reason::Died(format!("it was idle and did not answer a ping within {within:?}"))
        })
    }

    fn limit_memory(&self, limit: u64, used: u64) {
        if used > limit.saturating_mul(KILLED_AT) {
            let why = format!(
                "it used {used} bytes of memory, more than twice its max_memory of {limit}"
            );
            self.child.end(Request::Kill, Some(Reason::OutOfMemory(why)));
        } else if used > limit {
            self.child.report(Event::Grew);
        }
    }

    fn exit(self, ending: Ending) -> Exit {
        let error = self.error(ending);
        self.child.fail_all(&error);
        let problem = match self.had_jobs {
            // Without the last lines of its standard error.
            true => error.error.message.lines().next().unwrap_or_default().to_owned(),
            false => error.error.message.to_string(),
        };
        let (child, answered) = (self.child.number, self.child.answered());
        let was_ready = self.concurrency.is_some();
        self.child.keep(self.launched);
        Exit { child, problem, was_ready, answered }
    }

    /// Returns what its jobs fail with.
    fn error(&self, ending: Ending) -> TaskError {
        let failed = |code, message| TaskError::of(JobError::retryable(code, message));
        let end = match ending {
            Ending::NotStarted { why, code } => return not_started(why, code),
            Ending::NoLauncher(status) | Ending::LauncherDied(status) => {
                let how = describe_status(status);
                let message =
                    format!("the launcher of the child ended ({how}), and the child was killed");
                return failed(ErrorCode::child_died(), message);
            }
            Ending::Ended(end) => end,
        };
        let tail = &self.output.tail;
        match (&self.reason, &self.bye) {
            (Some(Reason::Protocol(what)), _) => {
                failed(ErrorCode::protocol(), format!("the child was killed: {what}"))
            }
            (Some(Reason::OutOfMemory(what)), _) => {
                failed(ErrorCode::out_of_memory(), format!("the child was killed: {what}"))
            }
            (Some(Reason::Died(what)), _) => {
                let message = with_last_lines(&format!("the child was killed: {what}"), tail);
                failed(ErrorCode::child_died(), message)
            }
            (None, Some(reason)) => {
                failed(ErrorCode::child_died(), format!("the child cannot work: {reason}"))
            }
            (None, None) if self.was_killed_for_memory(end) => {
                let message = "the system killed the child: out of memory".to_owned();
                failed(ErrorCode::out_of_memory(), message)
            }
            (None, None) => {
                failed(ErrorCode::child_died(), with_last_lines(&self.describe(end), tail))
            }
        }
    }

    /// The kernel sends KILL when memory is exhausted, and counts that.
    fn was_killed_for_memory(&self, end: End) -> bool {
        !end.stopped
            && end.how == How::Killed(Signal::KILL.as_raw())
            && self.oom_kills.grew_lately()
    }

    fn describe(&self, end: End) -> String {
        let how = match end.how {
            How::Exited(code) => format!("the child exited with code {code}"),
            How::Killed(signal) => format!("the child was killed by {}", name_of(signal)),
        };
        let when = if self.concurrency.is_none() { " before its hello" } else { "" };
        let amid = match self.decoder.is_amid() {
            true => format!(" in the middle of a message, which begins {}", self.decoder.rest()),
            false => String::new(),
        };
        format!("{how}{when}{amid}")
    }
}

fn variables(spec: &ServerSpec, directory: Option<&Path>) -> Vec<(OsString, OsString)> {
    let numbers = [(variable::IN_FD, IN_FD), (variable::OUT_FD, OUT_FD)];
    let numbers = numbers.map(|(name, number)| (name.into(), number.to_string().into()));
    let concurrency =
        spec.concurrency.map(|it| (variable::CONCURRENCY.into(), it.to_string().into()));
    let directory = directory.map(|path| (variable::DIRECTORY.into(), path.as_os_str().to_owned()));
    numbers.into_iter().chain(concurrency).chain(directory).collect()
}
