//! One call that submits jobs: its arguments, and what it returns. `lua/enqueue.lua` has the contract.

use redis::Value;

use super::{Enqueued, NewJob};
use crate::broker::error::Error;
use crate::broker::functions::Function;
use crate::broker::new_job::{IDEMPOTENCY_KEPT, Start, half_as_hex};
use crate::broker::record::{PAYLOAD_LARGE, WaitingFor};
use crate::broker::{GroupId, Settings, reply};
use crate::job::{JobId, Partition, Priority};
use crate::telemetry::metrics::{JOBS_SUBMITTED, SUBMISSIONS_CONFLICTING, labels};
use crate::time::{Timestamp, whole_ms};

/// Number of commands of a call that stores a large payload first: `MULTI`, `HSET`, `FCALL`, `EXEC`.
const PRESTORE_COMMANDS: usize = 4;

/// Writes one call: a command, or a transaction that also stores the payload. Redis runs all of it or nothing: if it is
/// full, it rejects the first command.
pub(crate) fn write_call(pipeline: &mut redis::Pipeline, settings: &Settings, jobs: &[&NewJob]) {
    let partition = jobs[0].id.partition();
    let mut call = settings.call(Function::Enqueue, partition);
    write_batch(&mut call, settings, jobs);
    if let [job] = jobs
        && job.is_large()
    {
        let key = settings.keys(partition).job(job.id);
        pipeline.cmd("MULTI").cmd("HSET").arg(key).arg(PAYLOAD_LARGE).arg(&job.payload[..]);
        pipeline.add_command(call).cmd("EXEC");
    } else {
        pipeline.add_command(call);
    }
}

/// Writes the arguments of one call.
pub(super) fn write_batch(command: &mut redis::Cmd, settings: &Settings, jobs: &[&NewJob]) {
    command.arg(settings.memory_watermark).arg(settings.max_queue_depth).arg(settings.max_queues);
    let partitions = settings.space.len();
    let jobs: Vec<_> = jobs.iter().map(|&job| (job, extras(job, partitions))).collect();
    for run in jobs.chunk_by(|(a, of_a), (b, of_b)| a.queue == b.queue && of_a.len() == of_b.len())
    {
        let (first, extras) = &run[0];
        command.arg(first.queue.as_str()).arg(run.len()).arg(extras.len());
        run.iter().for_each(|(job, extras)| write_job(command, job, extras));
    }
}

/// Writes one job's arguments; `lua/enqueue.lua` reads them in the same order.
fn write_job(command: &mut redis::Cmd, job: &NewJob, extras: &[(&str, String)]) {
    let spec = spec_of(job);
    let payload = if job.is_large() { &[][..] } else { &job.payload[..] };
    command.arg(job.id.to_string()).arg(spec).arg(payload);
    for (name, value) in extras {
        command.arg(name).arg(value);
    }
}

/// Its task and its options, as one text.
pub(in crate::broker) fn spec_of(job: &NewJob) -> Vec<u8> {
    let mut spec = format!("{} ", job.task).into_bytes();
    serde_json::to_writer(&mut spec, &job.options).expect("options are plain numbers and text");
    spec
}

/// The options of a job that most jobs do not have, by name.
pub(in crate::broker) fn extras(job: &NewJob, partitions: u16) -> Vec<(&'static str, String)> {
    let mut extras = Vec::new();
    match job.start {
        Start::Now => {}
        Start::After(delay) => extras.push(("after", whole_ms(delay).to_string())),
        Start::At(time) => extras.push(("at", time.unix_ms().to_string())),
    }
    if let Some(deadline) = job.options.deadline {
        extras.push(("deadline", whole_ms(deadline).to_string()));
    }
    if let Some(time) = job.options.start_within {
        extras.push(("start_within", whole_ms(time).to_string()));
    }
    if job.priority != Priority::default() {
        extras.push(("priority", job.priority.as_str().to_owned()));
    }
    if let Some(retention) = job.retention {
        extras.push(("retention", whole_ms(retention).to_string()));
    }
    if let Some(key) = &job.idempotency {
        // One that is elsewhere was reserved before.
        if job.key_elsewhere(partitions).is_none() {
            extras.push(("digest", half_as_hex(&key.digest)));
            extras.push(("fingerprint", half_as_hex(&key.fingerprint)));
        }
        extras.push(("keep", whole_ms(IDEMPOTENCY_KEPT).to_string()));
    }
    if job.is_large() {
        extras.push(("prestored", "1".to_owned()));
    }
    if let Some(webhook) = &job.webhook {
        extras.push(("webhook", webhook.field()));
    }
    if let Some(group) = &job.options.group {
        extras.push(("group", GroupId::of(group).to_string()));
    }
    if let Some(unique) = job.unique() {
        extras.push(("unique", unique));
    }
    if let Some(schedule) = &job.schedule {
        extras.push(("schedule", schedule.field()));
    }
    if !job.indexes.is_empty() {
        let names: Vec<_> = job.indexes.iter().map(ToString::to_string).collect();
        extras.push(("indexes", names.join(" ")));
    }
    extras
}

fn read_reply(job: &NewJob, now: Timestamp, reply: Value) -> Result<Enqueued, Error> {
    let (code, mut parts) = match reply {
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            let code = parts.next().ok_or_else(|| Error::unreadable("no reply to a submission"))?;
            (reply::integer(&code)?, parts)
        }
        code => (reply::integer(&code)?, Vec::new().into_iter()),
    };
    let mut id =
        || parts.next().ok_or_else(|| Error::unreadable("reply to a submission without an id"));
    match code {
        1 => {
            let run_at = parts.next().as_ref().map(reply::unsigned).transpose()?;
            let labels = labels(job.task.as_str(), job.queue.as_str(), &[]);
            metrics::counter!(JOBS_SUBMITTED, labels).increment(1);
            let mut record = job.record(now, run_at.map(Timestamp::from_unix_ms));
            let holder = parts.next().map(reply::parsed::<JobId>).transpose()?;
            record.waiting_for = holder.map(WaitingFor::lock_of);
            Ok(Enqueued::Created(Box::new(record)))
        }
        2 => reply::parsed(id()?).map(Enqueued::AlreadyCreated),
        3 => reply::parsed(id()?).map(Enqueued::Replayed),
        4 => conflicting(job, "existing", id()?).map(Enqueued::Existing),
        5 => conflicting(job, "replaced", id()?).map(Enqueued::Replaced),
        -1 => Ok(Enqueued::Conflict),
        -7 => conflicting(job, "locked", id()?).map(Enqueued::Locked),
        -2 => Err(Error::Full),
        -3 => Err(Error::QueueFull { queue: job.queue.clone() }),
        -5 => Err(group_full(job)),
        -4 => Err(Error::TooManyQueues { queue: job.queue.clone() }),
        -6 => {
            let home = Partition::new(reply::parsed(id()?)?);
            let home = home.ok_or_else(|| Error::unreadable("enqueue returned no partition"))?;
            Err(Error::Elsewhere { queue: job.queue.clone(), home })
        }
        code => Err(Error::unreadable(format!("enqueue returned {code}"))),
    }
}

/// Counts a job whose lock another one holds; returns the id of that.
fn conflicting(job: &NewJob, outcome: &'static str, id: Value) -> Result<JobId, Error> {
    let labels = labels(job.task.as_str(), job.queue.as_str(), &[("outcome", outcome)]);
    metrics::counter!(SUBMISSIONS_CONFLICTING, labels).increment(1);
    reply::parsed(id)
}

fn group_full(job: &NewJob) -> Error {
    match &job.options.group {
        Some(group) => Error::GroupFull { queue: job.queue.clone(), group: group.clone() },
        None => Error::unreadable("the group of a job without one is full"),
    }
}

/// Parses the replies to the commands of [`write_call`].
pub(super) fn read_call(
    jobs: &[&NewJob],
    replies: &mut impl Iterator<Item = Result<Value, Error>>,
) -> Result<Vec<Result<Enqueued, Error>>, Error> {
    let count = if jobs[0].is_large() { PRESTORE_COMMANDS } else { 1 };
    // All of them are consumed, even if the first is an error: the next ones belong to other calls.
    let replies: Vec<_> = replies.take(count).collect();
    let replies = replies.into_iter().collect::<Result<Vec<_>, _>>()?;
    let last =
        replies.into_iter().last().ok_or_else(|| Error::unreadable("no reply to a submission"))?;
    match count {
        1 => read_batch(jobs, last),
        _ => {
            let [_prestored, reply] = reply::fields(last)?;
            read_batch(jobs, reply)
        }
    }
}

pub(super) fn read_batch(
    jobs: &[&NewJob],
    reply: Value,
) -> Result<Vec<Result<Enqueued, Error>>, Error> {
    let mut replies = reply::array(reply)?.into_iter();
    let now =
        replies.next().ok_or_else(|| Error::unreadable("reply to a submission without a time"))?;
    let now = Timestamp::from_unix_ms(reply::unsigned(&now)?);
    Ok(jobs.iter().zip(replies).map(|(job, reply)| read_reply(job, now, reply)).collect())
}
