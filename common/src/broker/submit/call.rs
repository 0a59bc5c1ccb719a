//! One call that submits jobs: its arguments, and what it returns. `lua/enqueue.lua` has the contract.

use redis::Value;

use super::{Enqueued, NewJob};
use crate::broker::error::Error;
use crate::broker::functions::Function;
use crate::broker::new_job::{IDEMPOTENCY_KEPT, Start, half_as_hex};
use crate::broker::record::PAYLOAD_LARGE;
use crate::broker::{Settings, reply};
use crate::job::Priority;
use crate::telemetry::metrics::{JOBS_SUBMITTED, labels};
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
    let jobs: Vec<_> = jobs.iter().map(|&job| (job, extras(job))).collect();
    for run in jobs.chunk_by(|(a, of_a), (b, of_b)| a.queue == b.queue && of_a.len() == of_b.len())
    {
        let (first, extras) = &run[0];
        command.arg(first.queue.as_str()).arg(run.len()).arg(extras.len());
        run.iter().for_each(|(job, extras)| write_job(command, job, extras));
    }
}

/// Writes one job's arguments; `lua/enqueue.lua` reads them in the same order.
fn write_job(command: &mut redis::Cmd, job: &NewJob, extras: &[(&str, String)]) {
    let mut spec = format!("{} ", job.task).into_bytes();
    serde_json::to_writer(&mut spec, &job.options).expect("options are plain numbers and text");
    let payload = if job.is_large() { &[][..] } else { &job.payload[..] };
    command.arg(job.id.to_string()).arg(spec).arg(payload);
    for (name, value) in extras {
        command.arg(name).arg(value);
    }
}

/// The options of a job that most jobs do not have, by name.
fn extras(job: &NewJob) -> Vec<(&'static str, String)> {
    let mut extras = Vec::new();
    match job.start {
        Start::Now => {}
        Start::After(delay) => extras.push(("after", whole_ms(delay).to_string())),
        Start::At(time) => extras.push(("at", time.unix_ms().to_string())),
    }
    if let Some(deadline) = job.options.deadline {
        extras.push(("deadline", whole_ms(deadline).to_string()));
    }
    if job.priority != Priority::default() {
        extras.push(("priority", job.priority.as_str().to_owned()));
    }
    if let Some(retention) = job.retention {
        extras.push(("retention", whole_ms(retention).to_string()));
    }
    if let Some(key) = &job.idempotency {
        extras.push(("digest", half_as_hex(&key.digest)));
        extras.push(("fingerprint", half_as_hex(&key.fingerprint)));
        extras.push(("keep", whole_ms(IDEMPOTENCY_KEPT).to_string()));
    }
    if job.is_large() {
        extras.push(("prestored", "1".to_owned()));
    }
    if let Some(webhook) = &job.webhook {
        extras.push(("webhook", webhook.field()));
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
            let record = job.record(now, run_at.map(Timestamp::from_unix_ms));
            Ok(Enqueued::Created(Box::new(record)))
        }
        2 => reply::parsed(id()?).map(Enqueued::AlreadyCreated),
        3 => reply::parsed(id()?).map(Enqueued::Replayed),
        -1 => Ok(Enqueued::Conflict),
        -2 => Err(Error::Full),
        -3 => Err(Error::QueueFull { queue: job.queue.clone() }),
        -4 => Err(Error::TooManyQueues { queue: job.queue.clone() }),
        code => Err(Error::unreadable(format!("enqueue returned {code}"))),
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
