//! From a key back to what it is: for whoever meets keys and must tell ours from others.

use super::{KeyPrefix, Lane};
use crate::job::{JobId, Partition};
use crate::queue::QueueName;

/// What a key of our prefix is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyName {
    /// A job's hash.
    Job(JobId),
    /// What goes with a job: its log, or its events.
    Along(JobId),
    /// What an idempotency key made.
    Idempotency(Partition, String),
    /// Something of a queue: one of its lists, sets and counters.
    Queue(Partition, QueueName),
    /// Something else that has its place.
    Other,
    /// Nothing that this version writes.
    Unknown,
}

impl KeyName {
    /// Reads a key of a key space with that many partitions.
    pub(crate) fn read(prefix: &KeyPrefix, partitions: u16, key: &str) -> Self {
        read(prefix, partitions, key).unwrap_or(Self::Unknown)
    }
}

fn read(prefix: &KeyPrefix, partitions: u16, key: &str) -> Option<KeyName> {
    let rest = key.strip_prefix(prefix.0.as_str())?.strip_prefix(":{")?;
    let (number, tail) = rest.split_once("}:")?;
    let partition = Partition::new(number.parse().ok()?)
        .filter(|found| found.to_string() == number && found.number() < partitions)?;
    let job = |id: &str| id.parse().ok().filter(|id: &JobId| id.partition() == partition);
    match tail.split_once(':').unwrap_or((tail, "")) {
        (
            "layout" | "sweep" | "queues" | "paused" | "unusual" | "due" | "workers" | "leases"
            | "reserved",
            "",
        )
        | ("quarantine" | "audit" | "mark", "") => Some(KeyName::Other),
        ("queues", "names") | ("tasks", "" | "seen" | "version") => Some(KeyName::Other),
        ("worker", worker) => worker.parse::<super::WorkerId>().ok().map(|_| KeyName::Other),
        ("idempotency", digest) => {
            is_digest(digest).then(|| KeyName::Idempotency(partition, digest.to_owned()))
        }
        ("job", id) => match id.strip_suffix(":log").or_else(|| id.strip_suffix(":events")) {
            Some(id) => job(id).map(KeyName::Along),
            None => job(id).map(KeyName::Job),
        },
        ("queue", rest) => of_queue(rest).map(|queue| KeyName::Queue(partition, queue)),
        _ => None,
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a queue has once.
const OF_QUEUES: [&str; 8] =
    ["ghosts", "parked", "delayed", "running", "deadlines", "failed", "finished", "wake"];

fn of_queue(rest: &str) -> Option<QueueName> {
    let (queue, what) = rest.split_once(':')?;
    let known = match what.split_once(':') {
        None => OF_QUEUES.contains(&what),
        Some(("ready", lane)) => Lane::named(lane).is_some(),
        Some(("ended", bucket)) => bucket.parse::<u64>().is_ok(),
        Some(_) => false,
    };
    queue.parse().ok().filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_do_not_write_is_unknown() {
        let id = JobId::generate(Partition::default());
        let other = JobId::generate(Partition::new(1).unwrap());
        let keys = [
            "crunch:{0}:".to_owned(),
            "crunch:{0}:jobs".to_owned(),
            "crunch:{1}:queues".to_owned(),
            "crunch:{00}:queues".to_owned(),
            "crunch:queues".to_owned(),
            "crunch2:{0}:queues".to_owned(),
            "crunch:{0}:queues:more".to_owned(),
            format!("crunch:{{0}}:job:{other}"),
            format!("crunch:{{0}}:job:{id}:logs"),
            "crunch:{0}:job:somebody".to_owned(),
            "crunch:{0}:queue:Cpu:running".to_owned(),
            "crunch:{0}:queue:cpu:ready:middle".to_owned(),
            "crunch:{0}:queue:cpu:ended:soon".to_owned(),
            "crunch:{0}:worker:me".to_owned(),
        ];
        for key in keys {
            let read = KeyName::read(&"crunch".parse().unwrap(), 1, &key);
            assert_eq!(read, KeyName::Unknown, "{key}");
        }
    }
}
