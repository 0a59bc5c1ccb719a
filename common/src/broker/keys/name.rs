//! Parses keys: for code that reads arbitrary keys and must distinguish Crunch's keys from others.

use super::{KeySpace, Lane};
use crate::broker::{ErrorGroupId, GroupId, IndexId, Unit};
use crate::job::{JobId, Partition};
use crate::queue::QueueName;
use crate::schedule::ScheduleName;

/// The kind of a key with this prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyName {
    /// A job's hash.
    Job(JobId),
    /// A job's log or its events.
    Attachment(JobId),
    /// An idempotency key, with its digest.
    Idempotency(Partition, String),
    /// A lock, with its digest.
    Lock(Partition, String),
    /// An error group, or its jobs.
    ErrorGroup(Partition, ErrorGroupId),
    /// A schedule.
    Schedule(Partition, ScheduleName),
    /// An index of metadata.
    Index(Partition, IndexId),
    /// The jobs of a group that wait.
    Group(Partition, QueueName, GroupId),
    /// A list, set or counter of a queue.
    Queue(Partition, QueueName),
    /// Another known key.
    Other,
    /// A key that this version does not write.
    Unknown,
}

impl KeyName {
    /// Parses a key of a key space.
    pub(crate) fn read(space: &KeySpace, key: &str) -> Self {
        read(space, key).unwrap_or(Self::Unknown)
    }
}

fn read(space: &KeySpace, key: &str) -> Option<KeyName> {
    let rest = key.strip_prefix(space.prefix().0.as_str())?.strip_prefix(":{")?;
    let (tag, tail) = rest.split_once("}:")?;
    let partition = space.tagged(tag)?;
    let job = |id: &str| id.parse().ok().filter(|id: &JobId| id.partition() == partition);
    match tail.split_once(':').unwrap_or((tail, "")) {
        (
            "layout" | "sweep" | "queues" | "paused" | "due" | "workers" | "leases" | "reserved",
            "",
        )
        | ("quarantine" | "audit" | "mark" | "errors" | "recent" | "actions", "") => {
            Some(KeyName::Other)
        }
        ("queues", "names" | "side" | "ended" | "confined")
        | ("tasks", "" | "seen" | "version")
        | ("limits", "" | "rates")
        | ("schedules", "" | "names") => Some(KeyName::Other),
        ("schedule", name) => name.parse().ok().map(|name| KeyName::Schedule(partition, name)),
        ("worker", worker) => worker.parse::<super::WorkerId>().ok().map(|_| KeyName::Other),
        ("session", digest) => digest.parse::<super::SessionDigest>().ok().map(|_| KeyName::Other),
        ("idempotency", digest) => {
            is_digest(digest).then(|| KeyName::Idempotency(partition, digest.to_owned()))
        }
        ("lock", digest) => is_digest(digest).then(|| KeyName::Lock(partition, digest.to_owned())),
        ("history", rest) => is_history(rest).then_some(KeyName::Other),
        ("error", group) => {
            let group = group.strip_suffix(":jobs").unwrap_or(group).parse().ok()?;
            Some(KeyName::ErrorGroup(partition, group))
        }
        ("index", index) => index.parse().ok().map(|index| KeyName::Index(partition, index)),
        ("job", id) => match id.strip_suffix(":log").or_else(|| id.strip_suffix(":events")) {
            Some(id) => job(id).map(KeyName::Attachment),
            None => job(id).map(KeyName::Job),
        },
        ("queue", rest) => match group_of(rest) {
            Some((queue, group)) => Some(KeyName::Group(partition, queue, group)),
            None => queue_of(rest).map(|queue| KeyName::Queue(partition, queue)),
        },
        _ => None,
    }
}

fn is_history(rest: &str) -> bool {
    let span = rest.strip_suffix(":queues").unwrap_or(rest);
    let known = span.split_once(':').map(|(unit, span)| (Unit::named(unit), span.parse::<u64>()));
    matches!(known, Some((Some(_), Ok(_))))
}

fn is_digest(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The keys that a queue has once.
const QUEUE_KEYS: [&str; 17] = [
    "ghosts",
    "parked",
    "delayed",
    "running",
    "deadlines",
    "failed",
    "finished",
    "grouped",
    "grouped_running",
    "runnable",
    "idle_groups",
    "turns",
    "rules",
    "rates",
    "delayed_groups",
    "blocked_groups",
    "wake",
];

fn group_of(rest: &str) -> Option<(QueueName, GroupId)> {
    let (queue, group) = rest.split_once(":group:")?;
    Some((queue.parse().ok()?, group.parse().ok()?))
}

fn queue_of(rest: &str) -> Option<QueueName> {
    let (queue, name) = rest.split_once(':')?;
    let known = match name.split_once(':') {
        None => QUEUE_KEYS.contains(&name),
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
            "crunch:{0}:queue:cpu:group:mine".to_owned(),
            "crunch:{0}:worker:me".to_owned(),
            "crunch:{0}:schedule:Nightly".to_owned(),
            "crunch:{0}:schedules:all".to_owned(),
            "crunch:{0}:error:some".to_owned(),
            "crunch:{0}:index:some".to_owned(),
            "crunch:{0}:index:00112233AABBCCDD".to_owned(),
            "crunch:{0}:history:minute".to_owned(),
            "crunch:{0}:history:year:1".to_owned(),
            "crunch:{0}:history:hour:1:tasks".to_owned(),
            "crunch:{0}:errors:all".to_owned(),
            "crunch:{0}:session:00".to_owned(),
        ];
        for key in keys {
            let read = KeyName::read(&KeySpace::new("crunch".parse().unwrap(), 1), &key);
            assert_eq!(read, KeyName::Unknown, "{key}");
        }
    }
}
