//! One child of a server: its process, its pipes, and the jobs that it runs.
//!
//! A task per child (`Child::serve`) reads everything that the child says and watches its process. Jobs are sent from
//! where they run (`task.rs`), and wait there for their answer. Decides nothing about other children: `pool.rs` does.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use crunch_common::broker::LeaseKey;
use crunch_common::telemetry::metrics::IGNORED_ANSWERS;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::directory::Directory;
use super::message::{Done, FromChild, Hello, ReportedFailure, ToChild};
use super::outbox::Outbox;
use crate::process::{Launched, Request};
use crate::{JobContext, TaskError};

/// A hello has the declarations of all tasks.
const MAX_HELLO_BYTES: usize = 4 * 1024 * 1024;

/// A child that was started.
#[derive(Debug)]
pub(super) struct Child {
    /// Its number in the worker, for logs.
    pub(super) number: u64,
    /// Its directory for large values, if it could be created.
    directory: Option<Directory>,
    pub(super) outbox: Outbox,
    /// Whether it takes payloads by file.
    takes_files: AtomicBool,
    /// How many jobs it runs at once, by its hello.
    concurrency: AtomicU32,
    /// Whether it will end soon: it gets no more jobs.
    ending: AtomicBool,
    /// How many jobs it runs at once by its newest message `credit`, until the pool has taken it.
    credit: Mutex<Option<u32>>,
    jobs: Mutex<Jobs>,
    /// Set when it has ended: its directory exists until this is dropped, with the last job that reads a result there.
    ended: Mutex<Option<Launched>>,
    /// Requests to its launcher.
    requests: mpsc::UnboundedSender<EndRequest>,
    /// What its pool must know.
    events: mpsc::UnboundedSender<(Arc<Self>, Event)>,
}

/// What a child says about itself.
#[derive(Debug)]
pub(super) enum Event {
    /// It is ready; the body has its tasks.
    Hello(Hello, Option<Bytes>),
    /// It runs another number of jobs at once from now on ([`Child::take_credit`]).
    Credit,
    /// It uses more memory than it should.
    Grew,
    /// It will end soon.
    Ending,
}

/// A request to end a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndRequest {
    pub(super) request: Request,
    /// Why, if it is to blame.
    pub(super) reason: Option<Reason>,
}

/// Why a child was killed, or is useless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// It sent what is not a message.
    Protocol(String),
    /// It used more memory than twice its limit.
    OutOfMemory(String),
    /// Another reason, in words.
    Died(String),
}

/// The jobs of a child.
#[derive(Debug, Default)]
struct Jobs {
    running: HashMap<LeaseKey, Running>,
    /// Attempts that were given up, because the child did not end them in time.
    leaked: HashSet<LeaseKey>,
    /// What all further ones fail with: it has ended.
    ended: Option<TaskError>,
    /// How many were answered.
    answered: u64,
    /// When the last one was sent or answered, or it became ready.
    last_active: Option<Instant>,
}

/// An attempt that was not answered yet.
#[derive(Debug)]
struct Running {
    context: JobContext,
    max_result: usize,
    answer: oneshot::Sender<Answer>,
}

/// How a child answered.
pub(super) type Answer = Result<Success, Failure>;

/// A result: its bytes, unless they are in a file.
#[derive(Debug)]
pub(super) struct Success {
    pub(super) done: Done,
    pub(super) body: super::frame::Body,
}

/// A failure: what the child reported, or what became of the child.
#[derive(Debug)]
pub(super) enum Failure {
    Reported(Box<ReportedFailure>),
    Ended(TaskError),
}

impl Child {
    pub(super) fn new(
        number: u64,
        directory: Option<Directory>,
        outbox: Outbox,
        requests: mpsc::UnboundedSender<EndRequest>,
        events: mpsc::UnboundedSender<(Arc<Self>, Event)>,
    ) -> Self {
        let (takes_files, concurrency) = (AtomicBool::new(false), AtomicU32::new(0));
        let (ending, credit) = (AtomicBool::new(false), Mutex::default());
        let (jobs, ended) = (Mutex::default(), Mutex::default());
        Self {
            number,
            directory,
            outbox,
            takes_files,
            concurrency,
            ending,
            credit,
            jobs,
            ended,
            requests,
            events,
        }
    }

    pub(super) fn send(&self, message: &ToChild<'_>) {
        self.outbox.send(message.line(), None);
    }

    /// Records that it will end soon, before anything of it does: a job that it got now would die with it.
    pub(super) fn will_end(self: &Arc<Self>) {
        if !self.ending.swap(true, Ordering::Relaxed) {
            self.report(Event::Ending);
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Asks the launcher to end the child.
    pub(super) fn end(self: &Arc<Self>, request: Request, reason: Option<Reason>) {
        self.will_end();
        // The receiver is gone once the child has ended.
        let _ = self.requests.send(EndRequest { request, reason });
    }

    /// Returns the directory for payloads, if it takes them by file.
    pub(super) fn payload_directory(&self) -> Option<&Path> {
        self.directory.as_deref().filter(|_| self.takes_files.load(Ordering::Relaxed))
    }

    /// Returns whether it runs one job at a time.
    pub(super) fn is_single(&self) -> bool {
        self.concurrency.load(Ordering::Relaxed) == 1
    }

    /// Registers an attempt, which is sent next; returns where its answer arrives.
    pub(super) fn begin(
        &self,
        key: LeaseKey,
        context: JobContext,
        max_result: usize,
    ) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let mut jobs = self.jobs.lock();
        match &jobs.ended {
            // The receiver exists.
            Some(error) => _ = answer.send(Err(Failure::Ended(error.clone()))),
            None => {
                jobs.last_active = Some(Instant::now());
                jobs.running.insert(key, Running { context, max_result, answer });
            }
        }
        answered
    }

    /// Gives up an attempt that has not ended: its answer will be ignored.
    pub(super) fn leak(&self, key: LeaseKey) {
        let mut jobs = self.jobs.lock();
        if jobs.running.remove(&key).is_some() {
            jobs.leaked.insert(key);
        }
    }

    /// Returns how many attempts run and how many were given up.
    pub(super) fn load(&self) -> (usize, usize) {
        let jobs = self.jobs.lock();
        (jobs.running.len(), jobs.leaked.len())
    }

    /// Returns how many attempts it answered.
    pub(super) fn answered(&self) -> u64 {
        self.jobs.lock().answered
    }

    /// Returns since when it runs nothing; `None` if it runs something.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let jobs = self.jobs.lock();
        jobs.last_active.filter(|_| jobs.running.is_empty() && jobs.leaked.is_empty())
    }

    /// Returns the longest body that a message may have.
    pub(super) fn limit(&self, message: &FromChild) -> usize {
        match message {
            FromChild::Hello(_) => MAX_HELLO_BYTES,
            FromChild::Done { attempt, .. } => {
                self.jobs.lock().running.get(attempt).map_or(0, |job| job.max_result)
            }
            _ => 0,
        }
    }

    /// Records that it is ready.
    pub(super) fn ready(self: &Arc<Self>, hello: Hello, tasks: Option<Bytes>) {
        let files = hello.features.iter().any(|feature| feature == "file");
        self.takes_files.store(files, Ordering::Relaxed);
        self.concurrency.store(hello.concurrency, Ordering::Relaxed);
        self.jobs.lock().last_active = Some(Instant::now());
        self.report(Event::Hello(hello, tasks));
    }

    /// Records how many jobs it runs at once from now on. The pool gets an event, unless it has not handled the last one
    /// yet: a child may send any number of these messages.
    pub(super) fn credit(self: &Arc<Self>, concurrency: u32) {
        if self.credit.lock().replace(concurrency).is_none() {
            self.report(Event::Credit);
        }
    }

    /// Returns the newest number, once.
    pub(super) fn take_credit(&self) -> Option<u32> {
        self.credit.lock().take()
    }

    pub(super) fn report(self: &Arc<Self>, event: Event) {
        // The pool ends only after its children.
        let _ = self.events.send((self.clone(), event));
    }

    /// Passes on the answer to an attempt. Ignores an answer to one that does not run.
    pub(super) fn answer(&self, key: LeaseKey, answer: Answer) {
        let running = {
            let mut jobs = self.jobs.lock();
            let running = jobs.running.remove(&key);
            jobs.answered += u64::from(running.is_some());
            jobs.last_active = Some(Instant::now());
            if running.is_none() {
                jobs.leaked.remove(&key);
            }
            running
        };
        match running {
            // The receiver is gone if the attempt was aborted at this moment.
            Some(running) => _ = running.answer.send(answer),
            None => self.ignore(),
        }
    }

    /// Counts an answer or a report about an attempt that does not run.
    pub(super) fn ignore(&self) {
        metrics::counter!(IGNORED_ANSWERS).increment(1);
        tracing::debug!(child = self.number, "ignored an answer to an attempt that does not run");
    }

    /// Passes on what the child reports about an attempt.
    pub(super) fn with_job(&self, key: LeaseKey, report: impl FnOnce(&JobContext)) {
        match self.jobs.lock().running.get(&key) {
            Some(running) => report(&running.context),
            None => self.ignore(),
        }
    }

    /// Returns the only attempt that runs.
    pub(super) fn only_job(&self) -> Option<JobContext> {
        let jobs = self.jobs.lock();
        let mut running = jobs.running.values();
        running.next().filter(|_| jobs.running.len() == 1).map(|running| running.context.clone())
    }

    /// Keeps what is left of its process until no job needs it.
    pub(super) fn keep(&self, launched: Launched) {
        *self.ended.lock() = Some(launched);
    }

    /// Fails all attempts, and all that follow.
    pub(super) fn fail_all(&self, error: &TaskError) {
        let running = {
            let mut jobs = self.jobs.lock();
            jobs.ended = Some(error.clone());
            std::mem::take(&mut jobs.running)
        };
        for (_, Running { answer, .. }) in running {
            let _ = answer.send(Err(Failure::Ended(error.clone())));
        }
    }

    /// Returns the path of a result, if it is directly in the child's directory.
    pub(super) fn result_file(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let is_inside =
            path.parent().is_some_and(|parent| Some(parent) == self.directory.as_deref());
        is_inside.then(|| path.to_owned())
    }
}
