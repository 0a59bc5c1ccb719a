//! Submission of jobs: the only way to create a job.

mod batches;
mod call;
mod homes;
mod reserve;

use futures_util::future::join_all;
use redis::Value;

use super::Broker;
use super::connection::Call;
use super::durability::Durability;
use super::error::Error;
use super::functions::Function;
use super::new_job::{Idempotency, NewJob};
use super::placement::{Bindings, home};
use super::record::{JobRecord, Lookup};
use super::transfer::write_time_limit;
use crate::job::JobId;
pub(crate) use batches::batches;
pub(crate) use call::write_call;
pub(super) use call::{extras, spec_of};
use call::{read_batch, read_call, write_batch};
pub(super) use homes::Homes;
use reserve::Reserved;

/// The outcome of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Enqueued {
    /// The job was accepted.
    Created(Box<JobRecord>),
    /// A job with this id was accepted before: the reply was lost.
    AlreadyCreated(JobId),
    /// An earlier request with the same key and the same content created this job.
    Replayed(JobId),
    /// The key was already used for a different request.
    Conflict,
    /// It was not added: this job holds its lock.
    Existing(JobId),
    /// This job, which waits, has its payload and options now.
    Replaced(JobId),
    /// It was refused: this job holds its lock.
    Locked(JobId),
}

impl Broker {
    /// Generates an id for a job to submit that has no group, in its home partition: if it has an idempotency key, the key
    /// determines it.
    #[must_use]
    pub fn new_id(&self, idempotency: Option<&Idempotency>) -> JobId {
        self.new_bound_id(Bindings { idempotency, ..Bindings::default() })
    }

    /// Generates an id for a job to submit, in the partition that what it is bound to determines.
    #[must_use]
    pub fn new_bound_id(&self, bindings: Bindings<'_>) -> JobId {
        let is_away = |partition| self.is_away(partition);
        JobId::generate(home(bindings, self.settings.space.len(), is_away))
    }

    /// Submits many jobs; returns one answer per job, in their order. Not all-or-nothing. Once a node does not reply, the
    /// rest for it is not tried, so the time is that of one call.
    ///
    /// Concurrent submissions of the same durability share a call; none waits for a higher durability than it requires.
    ///
    /// # Errors
    /// Per job: with [`Error::Full`], [`Error::QueueFull`], [`Error::GroupFull`], [`Error::TooManyQueues`], [`Error::Busy`] and
    /// [`Error::Refused`] it was not accepted; with [`Error::Unavailable`] and [`Error::NotDurable`] it may have been,
    /// and may be submitted again with the same id.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        match self.homes.moved(jobs) {
            Some(moved) => self.enqueue_at_home(&moved).await,
            None => self.enqueue_at_home(jobs).await,
        }
    }

    /// Submits jobs; those that are refused because their queue is elsewhere once more, there.
    async fn enqueue_at_home(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        let mut answers = self.enqueue_bound(jobs).await;
        let (mut places, mut moved) = (Vec::new(), Vec::new());
        for (at, answer) in answers.iter().enumerate() {
            if let Err(Error::Elsewhere { queue, home }) = answer {
                self.homes.learn(queue, *home);
                places.push(at);
                moved.push(jobs[at].moved_to(*home));
            }
        }
        if !moved.is_empty() {
            let again = Box::pin(self.enqueue_bound(&moved)).await;
            places.into_iter().zip(again).for_each(|(at, answer)| answers[at] = answer);
        }
        answers
    }

    /// Submits jobs, each where its id says.
    async fn enqueue_bound(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        let partitions = self.settings.space.len();
        let mut answers = match jobs.iter().any(|job| job.key_elsewhere(partitions).is_some()) {
            true => self.enqueue_reserved(jobs).await,
            false => self.enqueue_all(jobs).await,
        };
        for (answer, job) in answers.iter_mut().zip(jobs) {
            if let Ok(Enqueued::Replayed(id)) = *answer
                && id.partition() != job.id.partition()
            {
                *answer = Box::pin(self.replay(job, id)).await;
            }
        }
        answers
    }

    /// Answers a submission whose key names a job in another partition. If that job never came to be, because the process that
    /// reserved the key died, and the same request belongs elsewhere by now, the key gets this job.
    async fn replay(&self, job: &NewJob, id: JobId) -> Result<Enqueued, Error> {
        let Lookup::Unknown = self.job(id).await? else { return Ok(Enqueued::Replayed(id)) };
        match self.reserve_instead(job, id).await? {
            Reserved::Own => {
                let answer = self.enqueue_all(std::slice::from_ref(job)).await.pop();
                answer.unwrap_or_else(|| Err(Error::unreadable("no reply to a submission")))
            }
            Reserved::Earlier(id) => Ok(Enqueued::Replayed(id)),
            Reserved::Conflict => Ok(Enqueued::Conflict),
        }
    }

    /// Reserves the idempotency keys that are in other partitions, then submits the jobs whose keys are theirs.
    async fn enqueue_reserved(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        let reserved = self.reserve(jobs).await;
        let (mut answers, mut places, mut left) = (unanswered(jobs.len()), Vec::new(), Vec::new());
        for (at, job) in jobs.iter().enumerate() {
            let id = match reserved.get(&at) {
                Some(Err(error)) => {
                    answers[at] = Err(error.clone());
                    continue;
                }
                Some(Ok(Reserved::Conflict)) => {
                    answers[at] = Ok(Enqueued::Conflict);
                    continue;
                }
                Some(Ok(Reserved::Earlier(id))) if id.partition() != job.id.partition() => {
                    answers[at] = Ok(Enqueued::Replayed(*id));
                    continue;
                }
                Some(Ok(Reserved::Earlier(id))) => *id,
                Some(Ok(Reserved::Own)) | None => job.id,
            };
            places.push(at);
            left.push(NewJob { id, ..job.clone() });
        }
        for (at, answer) in places.into_iter().zip(self.enqueue_all(&left).await) {
            answers[at] = match reserved.get(&at) {
                Some(Ok(reserved)) => answer.map(|answer| reserved.answer(answer)),
                _ => answer,
            };
        }
        answers
    }

    async fn enqueue_all(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        let durability_of = |job: &NewJob| self.min_durability.durability.and(job.durability);
        let Some(first) = jobs.first().map(durability_of) else { return Vec::new() };
        if jobs.iter().all(|job| durability_of(job) == first) {
            return self.enqueue_as(first, &jobs.iter().collect::<Vec<_>>()).await;
        }
        let mut groups: [Vec<usize>; Durability::COUNT] = Default::default();
        for (index, job) in jobs.iter().enumerate() {
            groups[durability_of(job).number()].push(index);
        }
        let groups = groups.into_iter().zip(Durability::ALL).filter(|(group, _)| !group.is_empty());
        let results = join_all(groups.map(async |(group, durability)| {
            let jobs: Vec<_> = group.iter().map(|&index| &jobs[index]).collect();
            group.into_iter().zip(self.enqueue_as(durability, &jobs).await)
        }));
        let mut answers = unanswered(jobs.len());
        results.await.into_iter().flatten().for_each(|(index, answer)| answers[index] = answer);
        answers
    }

    /// Submits jobs that all require the same durability.
    async fn enqueue_as(
        &self,
        durability: Durability,
        jobs: &[&NewJob],
    ) -> Vec<Result<Enqueued, Error>> {
        let node = |job: &&NewJob| self.node(job.id.partition());
        let are_together = || jobs.windows(2).all(|two| node(&two[0]) == node(&two[1]));
        let may_be_direct = durability.is_memory() && (!self.is_cluster() || are_together());
        match may_be_direct.then(|| self.submitters.try_direct()).flatten() {
            Some(_permit) => self.enqueue_directly(jobs).await,
            None => self.submitters.submit(durability, jobs).await,
        }
    }

    async fn enqueue_directly(&self, jobs: &[&NewJob]) -> Vec<Result<Enqueued, Error>> {
        let mut answers = unanswered(jobs.len());
        let mut failure = None;
        for batch in batches(jobs) {
            let replies = match &failure {
                Some(error) => Err(Error::clone(error)),
                None => self.enqueue_batch(&select(jobs, &batch)).await,
            };
            // An answer about one partition says nothing about the others.
            let silence =
                replies.as_ref().err().filter(|it| matches!(it, Error::Unavailable { .. }));
            failure = failure.or_else(|| silence.cloned());
            store_answers(&mut answers, &batch, replies);
        }
        answers
    }

    async fn enqueue_batch(&self, jobs: &[&NewJob]) -> Result<Vec<Result<Enqueued, Error>>, Error> {
        let bytes = jobs.iter().map(|job| job.payload.len()).sum();
        if jobs[0].is_large() {
            let mut pipeline = redis::pipe();
            write_call(&mut pipeline, &self.settings, jobs);
            // Not on the shared connection: other calls would wait for it, and the first to time out would drop the
            // connection.
            let replies = self
                .uploads
                .write(jobs[0].id.partition(), &pipeline, write_time_limit(bytes, 0))
                .await?;
            return read_call(jobs, &mut replies.into_iter());
        }
        let call = Call::new(Function::Enqueue, jobs[0].id.partition()).carrying(bytes);
        let arguments = |command: &mut redis::Cmd| write_batch(command, &self.settings, jobs);
        read_batch(jobs, self.link.call(call, arguments).await?)
    }
}

/// The initial answers, which callers replace: one that remains is a job without a reply.
fn unanswered(count: usize) -> Vec<Result<Enqueued, Error>> {
    vec![Err(Error::unreadable("no reply to a submission")); count]
}

pub(crate) fn select<'a>(jobs: &[&'a NewJob], batch: &[usize]) -> Vec<&'a NewJob> {
    batch.iter().map(|&index| jobs[index]).collect()
}

/// Stores the answers of one batch at the indexes of its jobs.
fn store_answers(
    answers: &mut [Result<Enqueued, Error>],
    batch: &[usize],
    replies: Result<Vec<Result<Enqueued, Error>>, Error>,
) {
    let replies = replies.unwrap_or_else(|error| vec![Err(error); batch.len()]);
    batch.iter().zip(replies).for_each(|(&index, reply)| answers[index] = reply);
}

/// Parses the replies to several calls, one per batch.
pub(crate) fn read_all(
    jobs: &[&NewJob],
    batches: &[Vec<usize>],
    replies: &mut impl Iterator<Item = Result<Value, Error>>,
) -> Vec<Result<Enqueued, Error>> {
    let mut answers = unanswered(jobs.len());
    for batch in batches {
        store_answers(&mut answers, batch, read_call(&select(jobs, batch), replies));
    }
    answers
}
