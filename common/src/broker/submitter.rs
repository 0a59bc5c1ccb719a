//! Concurrent submissions: collected while others are in flight, sent as one batch and, if more than acceptance by
//! Redis is required, proven durable together (group commit). No submission is delayed to make a batch larger.
//!
//! A batch and its proof are sent over a connection that carries nothing else: Redis stops everything that follows a
//! command that waits. Usually one connection is in use, and what arrives while its batch is in flight is the next
//! batch. If a batch takes long (a disk that is flushed once a second, a replica that is disconnected), the next one
//! does not wait for it, but uses another connection a little later: otherwise a submission just after the start of a
//! flush would wait for two.
//!
//! Every submission gets its own answer, in bounded time. A repeated submission never creates a second job: a job is
//! identified by its id.

mod batch_connection;
mod dispatcher;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::durability::{Durability, DurabilityConfig};
use super::endpoint::{ByNode, Endpoint, Node};
use super::error::Error;
use super::new_job::NewJob;
use super::submit::{Enqueued, select};
use super::transfer::transfer_time;
use super::{CALL_DEADLINE, Settings};
use dispatcher::Dispatcher;

/// Maximum number of bytes that wait or are in flight; beyond it submissions are rejected immediately.
const MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;
/// A job counts as at least this many bytes, which it needs besides its payload.
const MIN_JOB_BYTES: usize = 1024;
/// The outcome of a submission.
type Outcome = Result<Enqueued, Error>;

/// A job that waits for its answer.
struct Waiting {
    job: NewJob,
    deadline: Instant,
    caller: Caller,
}

/// Where to send the answer, and the permits for the job's bytes, kept until then.
struct Caller {
    answer: oneshot::Sender<Outcome>,
    _permits: OwnedSemaphorePermit,
}

/// One submitter per node and durability: a submission does not wait for a node that has not its partition, nor for a
/// higher durability than it requires.
pub(crate) struct Submitters {
    settings: Arc<Settings>,
    endpoint: Endpoint,
    replicas: u16,
    by_node: Mutex<ByNode<Arc<[Submitter; Durability::COUNT]>>>,
    /// Whether a caller has the permit to call Redis directly.
    direct: AtomicBool,
}

/// The permit to call Redis directly, released when dropped.
pub(crate) struct DirectPermit<'a>(&'a AtomicBool);

impl Drop for DirectPermit<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Submitters {
    pub(crate) fn new(settings: &Arc<Settings>, endpoint: &Endpoint, replicas: u16) -> Self {
        let (settings, endpoint) = (settings.clone(), endpoint.clone());
        let (by_node, direct) = (Mutex::default(), AtomicBool::new(false));
        Self { settings, endpoint, replicas, by_node, direct }
    }

    /// A caller that needs no proof calls Redis directly if no other does: the submitter's task would add a third to
    /// the round trip. Callers that arrive meanwhile share the submitter's calls.
    pub(crate) fn try_direct(&self) -> Option<DirectPermit<'_>> {
        let in_use = self.direct.swap(true, Ordering::Acquire);
        (!in_use).then(|| DirectPermit(&self.direct))
    }

    /// Submits jobs and waits for their answers, in their order.
    pub(crate) async fn submit(&self, durability: Durability, jobs: &[&NewJob]) -> Vec<Outcome> {
        if !self.endpoint.is_cluster() {
            return self.at(Some(Node::Only))[durability.number()].submit(jobs).await;
        }
        let node_of =
            |job: &NewJob| self.endpoint.known_node(self.settings.keys(job.id.partition()).slot());
        let mut groups = ByNode::<Vec<usize>>::default();
        for (index, job) in jobs.iter().enumerate() {
            groups.get_or_make(node_of(job), Vec::new).push(index);
        }
        let answers = join_all(groups.into_iter().map(async |(node, group)| {
            let submitters = self.at(node);
            let answers = submitters[durability.number()].submit(&select(jobs, &group)).await;
            group.into_iter().zip(answers)
        }));
        let mut answers: Vec<_> = answers.await.into_iter().flatten().collect();
        answers.sort_by_key(|&(index, _)| index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Returns the submitters for a node.
    fn at(&self, node: Option<Node>) -> Arc<[Submitter; Durability::COUNT]> {
        let make = || {
            Arc::new(Durability::ALL.map(|durability| {
                let required = DurabilityConfig { durability, replicas: self.replicas };
                Submitter::new(self.settings.clone(), self.endpoint.clone(), required)
            }))
        };
        let mut by_node = self.by_node.lock();
        by_node.keep(|node| !self.endpoint.is_gone(node));
        by_node.get_or_make(node, make).clone()
    }
}

/// Accepts submissions of one durability. The first of them starts its task.
pub(crate) struct Submitter {
    settings: Arc<Settings>,
    endpoint: Endpoint,
    required: DurabilityConfig,
    pending_bytes: Arc<Semaphore>,
    sender: Mutex<Option<mpsc::UnboundedSender<Waiting>>>,
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Submitter {
    fn new(settings: Arc<Settings>, endpoint: Endpoint, required: DurabilityConfig) -> Self {
        let pending_bytes = Arc::new(Semaphore::new(MAX_PENDING_BYTES));
        Self { settings, endpoint, required, pending_bytes, sender: Mutex::new(None) }
    }

    /// Submits jobs and waits for their answers, in their order.
    pub(crate) async fn submit(&self, jobs: &[&NewJob]) -> Vec<Outcome> {
        let deadline = Instant::now()
            + CALL_DEADLINE
            + transfer_time(jobs.iter().copied().map(NewJob::size).sum());
        let receivers: Vec<_> = jobs.iter().map(|job| self.queue(job, deadline)).collect();
        let mut answers = Vec::with_capacity(receivers.len());
        for (job, receiver) in jobs.iter().zip(receivers) {
            answers.push(self.await_answer(job, receiver, deadline).await);
        }
        answers
    }

    /// Waits for an answer until the deadline.
    async fn await_answer(
        &self,
        job: &NewJob,
        mut receiver: Result<oneshot::Receiver<Outcome>, Error>,
        deadline: Instant,
    ) -> Outcome {
        for _ in 0..2 {
            match timeout_at(deadline, receiver?).await {
                Ok(Ok(answer)) => return answer,
                // The task ran on a runtime that was shut down before this one, as when one server of several ends. The
                // next task runs on this runtime; the same id is the same job.
                Ok(Err(_dropped)) => receiver = self.queue(job, deadline),
                Err(_elapsed) => break,
            }
        }
        Err(Error::timed_out())
    }

    /// Queues a job if the limit of pending bytes allows it.
    fn queue(&self, job: &NewJob, deadline: Instant) -> Result<oneshot::Receiver<Outcome>, Error> {
        let bytes = job.size().clamp(MIN_JOB_BYTES, MAX_PENDING_BYTES);
        let bytes = u32::try_from(bytes).expect("the limit is less than 4 GiB");
        let permits = self.pending_bytes.clone().try_acquire_many_owned(bytes);
        let permits = permits.map_err(|_| Error::Busy)?;
        let (answer, receiver) = oneshot::channel();
        let caller = Caller { answer, _permits: permits };
        self.send_to_task(Waiting { job: job.clone(), deadline, caller });
        Ok(receiver)
    }

    /// Sends a job to the task; starts the task if there is none, or its runtime was shut down.
    fn send_to_task(&self, waiting: Waiting) {
        // Never locked across an await; the sender is replaced as a whole.
        let mut current = self.sender.lock();
        let sent = match &*current {
            Some(sender) => sender.send(waiting),
            None => Err(mpsc::error::SendError(waiting)),
        };
        if let Err(mpsc::error::SendError(waiting)) = sent {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(Dispatcher::new(self).run(receiver));
            // The receiver exists: it was just created. If its runtime ends, the caller's receiver reports it.
            let _ = sender.send(waiting);
            *current = Some(sender);
        }
    }
}
