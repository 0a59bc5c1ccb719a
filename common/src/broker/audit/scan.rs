//! The first pass: over all keys. Reads each job's record, and checks the keys that belong to it.

use redis::Value;

use super::groups::{Group, Grouped};
use super::indexes;
use super::kind::FindingKind;
use super::locks;
use super::membership::Membership;
use super::notes::ExpectedPlace;
use super::suspect::Suspect;
use super::{Auditor, Progress};
use crate::broker::commands::Commands;
use crate::broker::error::Error;
use crate::broker::keys::KeyName;
use crate::broker::record::State;
use crate::broker::{IndexId, reply};
use crate::job::{JobId, Partition, Priority, Status};
use crate::task::TaskName;

/// Number of keys that Redis scans in one step: well below a millisecond.
const PAGE: usize = 200;

/// The fields of a record that the scan reads.
const FIELDS: [&str; 28] = [
    "tombstone",
    "state",
    "spec",
    "optional",
    "priority",
    "losses",
    "unheard",
    "waiting_for",
    "deadline",
    "error_group",
    "indexes",
    "group",
    "start_by",
    "unique",
    // For the following it only checks whether they exist.
    "run_at",
    "cancel_requested",
    "settled_epoch",
    "retention",
    "keep_until",
    "error",
    "log_bytes",
    "log_lines",
    "reported",
    "generation",
    "watched",
    "webhook",
    "snoozes",
    "schedule",
];
/// Index of the first optional field: few jobs have them, and the field before it, `optional`, names those a job has.
const OPTIONAL: usize = 4;

/// The keys of one page, by kind.
#[derive(Default)]
struct Page {
    jobs: Vec<JobId>,
    attachments: Vec<JobId>,
    idempotency: Vec<(Partition, String)>,
    locks: Vec<(Partition, String)>,
    indexes: Vec<(Partition, IndexId)>,
    groups: Vec<Group>,
}

impl<W: FnMut(Progress)> Auditor<W> {
    pub(super) async fn scan(&mut self) -> Result<(), Error> {
        let pattern = format!("{}:*", self.broker.settings.space.prefix());
        for node in self.broker.partition_of_each_node().await? {
            self.scan_node(node, &pattern).await?;
        }
        Ok(())
    }

    /// Scans the keys of the node that has this partition.
    async fn scan_node(&mut self, partition: Partition, pattern: &str) -> Result<(), Error> {
        let mut cursor = 0_u64;
        loop {
            let mut commands = Commands::default();
            let pipeline = commands.at(partition);
            pipeline.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
            let answer = self.look(&commands).await?.pop().unwrap_or(Value::Nil);
            let [next, keys] = reply::fields(answer)?;
            let page = self.classify(reply::array(keys)?)?;
            self.read_jobs(&page.jobs).await?;
            self.read_attachments(&page.attachments).await?;
            self.read_idempotency(page.idempotency).await?;
            self.check_locks(page.locks).await?;
            self.check_indexes(&page.indexes).await?;
            self.check_groups(&page.groups).await?;
            cursor = reply::unsigned(&next)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn classify(&mut self, keys: Vec<Value>) -> Result<Page, Error> {
        let mut page = Page::default();
        let settings = self.broker.settings.clone();
        for key in keys {
            let key = String::from_utf8_lossy(&reply::bytes(key)?).into_owned();
            self.progress.keys += 1;
            match KeyName::read(&settings.space, &key) {
                KeyName::Job(id) => page.jobs.push(id),
                KeyName::Attachment(id) => page.attachments.push(id),
                KeyName::Idempotency(partition, digest) => {
                    page.idempotency.push((partition, digest));
                }
                KeyName::Lock(partition, digest) => page.locks.push((partition, digest)),
                KeyName::Queue(partition, name) => {
                    self.notes.queue(partition, &name);
                }
                KeyName::Group(partition, queue, group) => {
                    self.notes.queue(partition, &queue);
                    page.groups.push((partition, queue, group));
                }
                KeyName::Schedule(partition, name) => self.notes.schedule(partition, name),
                KeyName::Index(partition, index) => page.indexes.push((partition, index)),
                KeyName::ErrorGroup(partition, group) => self.notes.error_group(partition, group),
                KeyName::Other => {}
                KeyName::Unknown => self.audit.count(FindingKind::Unknown, || key),
            }
        }
        Ok(page)
    }

    async fn read_jobs(&mut self, ids: &[JobId]) -> Result<(), Error> {
        let mut commands = Commands::default();
        for &id in ids {
            let key = self.broker.settings.keys(id.partition()).job(id);
            let pipeline = commands.at(id.partition());
            pipeline.cmd("HMGET").arg(&key).arg(&FIELDS).cmd("HEXISTS").arg(&key).arg("payload");
            pipeline.cmd("PTTL").arg(&key);
        }
        let values = self.look(&commands).await?;
        let (mut indexed, mut grouped, mut locked) = (Vec::new(), Vec::new(), Vec::new());
        for (&id, job) in ids.iter().zip(values.chunks_exact(3)) {
            match read_job(job) {
                RecordCheck::Gone => {}
                RecordCheck::Readable(expected, valid) => {
                    self.notes.expect(id, &expected);
                    if let Some(group) = expected.group {
                        grouped.extend(Grouped::of(id, &expected, group));
                    }
                    if let Some(digest) = expected.lock {
                        locked.push((id, digest));
                    }
                    if !expected.indexes.is_empty() {
                        indexed.push((id, expected.indexes));
                    }
                    if !valid {
                        self.suspect(Suspect::job(id)).await?;
                    }
                }
                RecordCheck::Unreadable => self.suspect(Suspect::job(id)).await?,
            }
        }
        self.check_indexed(&indexed).await?;
        self.check_locked(&locked).await?;
        self.check_grouped(&grouped).await
    }

    /// Checks that a log and events belong to a job, and expire with it.
    async fn read_attachments(&mut self, ids: &[JobId]) -> Result<(), Error> {
        let mut commands = Commands::default();
        for &id in ids {
            let keys = self.broker.settings.keys(id.partition());
            let pipeline = commands.at(id.partition());
            pipeline.cmd("HMGET").arg(keys.job(id)).arg("state");
            pipeline.cmd("PTTL").arg(keys.log(id)).cmd("PTTL").arg(keys.events(id));
        }
        let values = self.look(&commands).await?;
        for (&id, replies) in ids.iter().zip(values.chunks_exact(3)) {
            let state = reply::array(replies[0].clone()).ok().and_then(|mut state| state.pop());
            let status = state.and_then(read_state).map(|state| state.status);
            // A missing key (-2) is always valid.
            let ttls = [reply::integer(&replies[1])?, reply::integer(&replies[2])?];
            let fits = |status: Status| {
                ttls.iter().all(|&ttl| ttl == -2 || status.is_terminal() == (ttl >= 0))
            };
            if !status.is_some_and(fits) {
                self.suspect(Suspect::job(id)).await?;
            }
        }
        Ok(())
    }

    /// Checks that idempotency keys refer to jobs.
    async fn read_idempotency(&mut self, keys: Vec<(Partition, String)>) -> Result<(), Error> {
        let mut commands = Commands::default();
        for (partition, digest) in &keys {
            let key = self.broker.settings.keys(*partition).idempotency(digest);
            commands.at(*partition).cmd("GET").arg(key);
        }
        let values = self.look(&commands).await?;
        let mut with_job = Vec::new();
        let mut commands = Commands::default();
        for ((partition, digest), value) in keys.into_iter().zip(values) {
            match referenced_job(&value) {
                _ if value == Value::Nil => {}
                // It was reserved for a job elsewhere, which its submitter may not have created yet, or never: who repeats
                // the request needs the id.
                Some(id) if id.partition() != partition => {}
                Some(id) => {
                    let key = self.broker.settings.keys(partition).job(id);
                    commands.at(partition).cmd("EXISTS").arg(key);
                    with_job.push((partition, digest));
                }
                None => self.suspect(Suspect::Idempotency(partition, digest)).await?,
            }
        }
        for ((partition, digest), exists) in with_job.into_iter().zip(self.look(&commands).await?) {
            if reply::integer(&exists)? == 0 {
                self.suspect(Suspect::Idempotency(partition, digest)).await?;
            }
        }
        Ok(())
    }
}

/// The job that the value of an idempotency key refers to.
fn referenced_job(value: &Value) -> Option<JobId> {
    let text = reply::text(value.clone()).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// The result of the first check of a record.
enum RecordCheck {
    /// It has expired meanwhile, or is a tombstone that will.
    Gone,
    /// Where the job should be, and whether everything else is valid.
    Readable(ExpectedPlace, bool),
    /// It must be judged.
    Unreadable,
}

fn read_job(values: &[Value]) -> RecordCheck {
    let (Ok(fields), Ok(ttl)) =
        (reply::fields::<{ FIELDS.len() }>(values[0].clone()), reply::integer(&values[2]))
    else {
        return RecordCheck::Unreadable;
    };
    let [gone, state, spec, ..] = fields.each_ref().map(|value| *value != Value::Nil);
    if ttl == -2 || (gone && !state && ttl >= 0) {
        return RecordCheck::Gone;
    }
    let Some(state) = read_state(fields[1].clone()) else {
        return RecordCheck::Unreadable;
    };
    let submitted = spec && values[1] == Value::Int(1);
    let named = are_named(&fields);
    let fenced =
        state.status != Status::Running || (state.worker.is_some() && state.epoch.is_some());
    // A sweep deletes it.
    let stays = ttl < 0;
    match expected_place(state, &fields) {
        Some(expected) => RecordCheck::Readable(expected, submitted && named && fenced && stays),
        None => RecordCheck::Unreadable,
    }
}

/// Whether the field `optional` names every optional field that the record has.
fn are_named(fields: &[Value; FIELDS.len()]) -> bool {
    let optional = reply::text(fields[OPTIONAL - 1].clone()).unwrap_or_default();
    let named = |name| optional.split(' ').any(|word| word == name);
    FIELDS
        .iter()
        .zip(fields)
        .skip(OPTIONAL)
        .all(|(name, value)| *value == Value::Nil || named(*name))
}

fn read_state(value: Value) -> Option<State> {
    State::read(&reply::text(value).ok()?).ok()
}

/// Parses the task of a parked job: `<n> worker_with_task <task>`.
fn parked_task(waiting_for: &Value) -> Option<TaskName> {
    let text = reply::text(waiting_for.clone()).ok()?;
    let (_, reason) = text.split_once(' ')?;
    reason.strip_prefix("worker_with_task ")?.parse().ok()
}

/// Whether a job with that `start_by` has not started: then it has the time and not `-`.
fn is_to_start(start_by: &Value) -> bool {
    reply::text(start_by.clone()).is_ok_and(|text| !text.starts_with('-'))
}

fn expected_place(state: State, fields: &[Value]) -> Option<ExpectedPlace> {
    let [
        priority,
        losses,
        unheard,
        waiting_for,
        deadline,
        error_group,
        indexed,
        group,
        start_by,
        unique,
    ] = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
        .map(|index| Some(&fields[index]).filter(|value| **value != Value::Nil));
    Some(ExpectedPlace {
        lock: unique
            .filter(|_| !state.status.is_terminal())
            .and_then(|it| locks::digest(it, &state)),
        status: state.status,
        queue: state.queue,
        priority: match priority {
            None => Priority::Normal,
            Some(text) => reply::parsed(text.clone()).ok()?,
        },
        losses: losses.map_or(Ok(0), reply::unsigned).ok()?,
        unheard: unheard.map_or(Ok(0), reply::unsigned).ok()?,
        parked: waiting_for.and_then(parked_task),
        deadline: deadline.is_some() || start_by.is_some_and(is_to_start),
        error_group: error_group.and_then(|group| reply::parsed(group.clone()).ok()),
        group: match group {
            None => None,
            Some(group) => Some(Membership::read(group.clone())?),
        },
        indexes: indexed.map(indexes::names).unwrap_or_default(),
        version: state.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_few_jobs_have_are_those_of_the_functions() {
        let text = include_str!("../lua/core.lua");
        let (_, list) = text.split_once("local OPTIONAL = {").unwrap();
        let (list, _) = list.split_once('}').unwrap();
        let names: Vec<_> = list.split('\'').skip(1).step_by(2).collect();
        let (mut rust, mut lua) = (FIELDS[OPTIONAL..].to_vec(), names);
        rust.sort_unstable();
        lua.sort_unstable();
        assert_eq!(rust, lua);
    }
}
