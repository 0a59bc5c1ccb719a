//! Submissions that come at once: collected while others are under way, sent as one batch and, if Redis must do more than
//! take them, proven together (group commit). Nobody is made to wait so that a batch may grow.
//!
//! A batch and its proof travel over a *connection*, a connection that carries nothing else: Redis stops all that comes behind a
//! command that waits. Usually one connection is in use, and what arrives while its batch is under way is the next batch. When
//! a batch takes long (a disk that is flushed once a second, a replica that is gone) the next one does not wait for it,
//! but takes another connection a little later: whoever comes just after a flush began would else wait for two.
//!
//! Every submission gets an answer of its own, in bounded time. Never repeats what could make a second job: a job is known
//! by its id.

mod batch_connection;
mod dispatcher;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::durability::{Durability, DurabilityConfig};
use super::error::Error;
use super::submit::{self, Enqueued, NewJob};
use super::transfer::transfer_time;
use super::{CALL_DEADLINE, Settings};
use dispatcher::Dispatcher;

/// Bytes that may wait or be under way; beyond it submissions are refused at once.
const ROOM: usize = 64 * 1024 * 1024;
/// A job counts at least this much: what it takes beside its payload.
const ROOM_OF_A_JOB: usize = 1024;
/// What becomes of a job.
type Outcome = Result<Enqueued, Error>;

/// A job that waits for its answer.
struct Waiting {
    job: NewJob,
    deadline: Instant,
    caller: Caller,
}

/// Who is to await_answer the answer, and the room the job takes until then.
struct Caller {
    answer: oneshot::Sender<Outcome>,
    _room: OwnedSemaphorePermit,
}

/// One submitter for each durability: whoever waits for less does not wait for more.
#[derive(Debug)]
pub(crate) struct Submitters {
    each: [Submitter; Durability::COUNT],
    /// Whether somebody calls Redis by itself.
    taken: AtomicBool,
}

/// The right to call Redis by oneself, given back when dropped.
pub(crate) struct DirectPermit<'a>(&'a AtomicBool);

impl Drop for DirectPermit<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Submitters {
    pub(crate) fn new(settings: &Arc<Settings>, client: &redis::Client, replicas: u16) -> Self {
        let each = Durability::ALL.map(|durability| {
            let wanted = DurabilityConfig { durability, replicas };
            Submitter::new(settings.clone(), client.clone(), wanted)
        });
        Self { each, taken: AtomicBool::new(false) }
    }

    /// Whoever needs no proof and finds nobody before it calls Redis by itself: a task between would add a third to the
    /// round trip. Those who come while it does share the submitter's calls.
    pub(crate) fn try_direct(&self) -> Option<DirectPermit<'_>> {
        let taken = self.taken.swap(true, Ordering::Acquire);
        (!taken).then(|| DirectPermit(&self.taken))
    }

    pub(crate) fn of(&self, durability: Durability) -> &Submitter {
        &self.each[durability.number()]
    }
}

/// The way in for submissions of one durability. Its task is started by the first of them.
pub(crate) struct Submitter {
    settings: Arc<Settings>,
    client: redis::Client,
    wanted: DurabilityConfig,
    room: Arc<Semaphore>,
    arrivals: Mutex<Option<mpsc::UnboundedSender<Waiting>>>,
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Submitter {
    fn new(settings: Arc<Settings>, client: redis::Client, wanted: DurabilityConfig) -> Self {
        let room = Arc::new(Semaphore::new(ROOM));
        Self { settings, client, wanted, room, arrivals: Mutex::new(None) }
    }

    /// Submits jobs and waits for their answers, in their order.
    pub(crate) async fn submit(&self, jobs: &[&NewJob]) -> Vec<Outcome> {
        let deadline = Instant::now()
            + CALL_DEADLINE
            + transfer_time(jobs.iter().copied().map(submit::size).sum());
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
                // The task ran on a runtime that was shut down before ours, as a server of several ends. The next task
                // runs on ours; the same id is the same job.
                Ok(Err(_dropped)) => receiver = self.queue(job, deadline),
                Err(_elapsed) => break,
            }
        }
        Err(Error::timed_out())
    }

    /// Takes a job in if there is room.
    fn queue(&self, job: &NewJob, deadline: Instant) -> Result<oneshot::Receiver<Outcome>, Error> {
        let room = submit::size(job).clamp(ROOM_OF_A_JOB, ROOM);
        let room = u32::try_from(room).expect("the room is less than 4 GiB");
        let room = self.room.clone().try_acquire_many_owned(room).map_err(|_| Error::Busy)?;
        let (answer, receiver) = oneshot::channel();
        let caller = Caller { answer, _room: room };
        self.hand_over(Waiting { job: job.clone(), deadline, caller });
        Ok(receiver)
    }

    /// Gives a job to the task; starts the task if there is none, or its runtime was shut down.
    fn hand_over(&self, waiting: Waiting) {
        // Never held over an await; the sender is replaced whole.
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match &*arrivals {
            Some(sender) => sender.send(waiting),
            None => Err(mpsc::error::SendError(waiting)),
        };
        if let Err(mpsc::error::SendError(waiting)) = refused {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(Dispatcher::new(self).run(receiver));
            // The receiver is alive: it was made just now. If its runtime ends, whoever waits hears of it.
            let _ = sender.send(waiting);
            *arrivals = Some(sender);
        }
    }
}
