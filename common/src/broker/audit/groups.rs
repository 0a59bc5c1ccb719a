//! The groups of queues, compared with the records during the scan: there may be as many of them as jobs, so nothing is
//! noted of them.

use redis::Value;

use super::kind::FindingKind;
use super::membership::Membership;
use super::notes::ExpectedPlace;
use super::suspect::{Met, Place, Suspect};
use super::{Auditor, Progress};
use crate::broker::commands::Commands;
use crate::broker::error::Error;
use crate::broker::record::State;
use crate::broker::{GroupId, Keys, reply};
use crate::job::{JobId, Partition, Status};
use crate::queue::QueueName;

/// Number of entries read in one step, about.
const PAGE: usize = 500;
/// Number of groups read in one step: small ones are read whole.
const AT_ONCE: usize = 50;

/// A job that should be in its group.
pub(super) struct Grouped {
    id: JobId,
    queue: QueueName,
    group: GroupId,
    /// Its place among those that wait; `None` if it runs.
    place: Option<u64>,
}

impl Grouped {
    pub(super) fn of(id: JobId, expected: &ExpectedPlace, membership: Membership) -> Option<Self> {
        let waits = expected.waits_in_group();
        let place = waits.then(|| membership.place(expected.priority));
        let is_there = waits || expected.status == Status::Running;
        let (queue, group) = (expected.queue.clone(), membership.group);
        is_there.then_some(Self { id, queue, group, place })
    }
}

/// A group of a queue in a partition.
pub(super) type Group = (Partition, QueueName, GroupId);

impl<W: FnMut(Progress)> Auditor<W> {
    /// Checks that jobs that wait in groups are in them, each at its place, and that those that run are among those that do.
    pub(super) async fn check_grouped(&mut self, jobs: &[Grouped]) -> Result<(), Error> {
        let mut commands = Commands::default();
        for job in jobs {
            let keys = self.broker.settings.keys(job.id.partition());
            let (key, member) = match job.place {
                Some(_) => (keys.group(&job.queue, job.group), job.id.to_string()),
                None => (keys.grouped_running(&job.queue), format!("{} {}", job.group, job.id)),
            };
            commands.at(job.id.partition()).cmd("ZSCORE").arg(key).arg(member);
        }
        for (job, found) in jobs.iter().zip(self.look(&commands).await?) {
            let fits = match job.place {
                Some(place) => reply::parsed::<u64>(found).ok() == Some(place),
                None => found != Value::Nil,
            };
            if !fits {
                self.suspect(Suspect::job(job.id)).await?;
            }
        }
        Ok(())
    }

    /// Checks that the jobs in these groups wait there, and that the groups have turns.
    pub(super) async fn check_groups(&mut self, groups: &[Group]) -> Result<(), Error> {
        for some in groups.chunks(AT_ONCE) {
            self.check_have_turns(some).await?;
            let mut unread: Vec<_> = some.iter().map(|group| (group, 0)).collect();
            while !unread.is_empty() {
                unread = self.check_group_parts(&unread).await?;
            }
        }
        Ok(())
    }

    async fn check_have_turns(&mut self, groups: &[Group]) -> Result<(), Error> {
        let mut commands = Commands::default();
        for (partition, queue, group) in groups {
            let keys = self.broker.settings.keys(*partition);
            for key in states_of(keys, queue) {
                commands.at(*partition).cmd("ZSCORE").arg(key).arg(group.to_string());
            }
        }
        let states = self.look(&commands).await?;
        for ((partition, queue, group), states) in groups.iter().zip(states.chunks_exact(STATES)) {
            // The first is a turn. Whether another one is right depends on its rule.
            let has_turn =
                states[0] != Value::Nil && states[1..].iter().all(|it| *it == Value::Nil);
            if !has_turn {
                self.suspect(Suspect::Group(*partition, queue.clone(), *group)).await?;
            }
        }
        Ok(())
    }

    /// Checks that the jobs of groups that run in this queue, by the set of them, do so.
    pub(super) async fn check_grouped_running(
        &mut self,
        partition: Partition,
        queue: &QueueName,
    ) -> Result<(), Error> {
        let key = self.broker.settings.keys(partition).grouped_running(queue);
        let mut cursor = 0_u64;
        loop {
            let mut commands = Commands::default();
            commands.at(partition).cmd("ZSCAN").arg(&key).arg(cursor).arg("COUNT").arg(PAGE);
            let page = self.look(&commands).await?.pop().unwrap_or(Value::Nil);
            if matches!(page, Value::ServerError(_)) {
                self.audit.count(FindingKind::Unreadable, || key.clone());
                return Ok(());
            }
            let [next, page] = reply::fields(page)?;
            let mut found = Vec::new();
            for entry in reply::array(page)?.chunks_exact(2) {
                self.progress.entries += 1;
                match read_running(&reply::text(entry[0].clone())?, partition) {
                    Some((group, id)) => found.push(((partition, queue.clone(), group), id)),
                    None => self.audit.count(FindingKind::Unreadable, || key.clone()),
                }
            }
            let entries: Vec<_> = found.iter().map(|(group, id)| (group, *id)).collect();
            self.check_members(&entries, Status::Running).await?;
            cursor = reply::unsigned(&next)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Checks a part of each of these groups, which begins at a cursor. Returns where the others begin.
    async fn check_group_parts<'a>(
        &mut self,
        unread: &[(&'a Group, u64)],
    ) -> Result<Vec<(&'a Group, u64)>, Error> {
        let settings = self.broker.settings.clone();
        let key =
            |(partition, queue, group): &Group| settings.keys(*partition).group(queue, *group);
        let mut commands = Commands::default();
        for (group, cursor) in unread {
            let pipeline = commands.at(group.0);
            pipeline.cmd("ZSCAN").arg(key(group)).arg(*cursor);
            pipeline.arg("COUNT").arg(PAGE / unread.len());
        }
        let (mut entries, mut rest) = (Vec::new(), Vec::new());
        for (&(group, _), page) in unread.iter().zip(self.look(&commands).await?) {
            if matches!(page, Value::ServerError(_)) {
                self.audit.count(FindingKind::Unreadable, || key(group));
                continue;
            }
            let [next, page] = reply::fields(page)?;
            for entry in reply::array(page)?.chunks_exact(2) {
                self.progress.entries += 1;
                match reply::parsed::<JobId>(entry[0].clone()) {
                    Ok(id) if id.partition() == group.0 => entries.push((group, id)),
                    _ => self.audit.count(FindingKind::Unreadable, || key(group)),
                }
            }
            let next = reply::unsigned(&next)?;
            rest.extend((next > 0).then_some((group, next)));
        }
        for some in entries.chunks(PAGE) {
            self.check_members(some, Status::Queued).await?;
        }
        Ok(rest)
    }

    async fn check_members(
        &mut self,
        entries: &[(&Group, JobId)],
        status: Status,
    ) -> Result<(), Error> {
        let mut commands = Commands::default();
        for (_, id) in entries {
            let key = self.broker.settings.keys(id.partition()).job(*id);
            commands.at(id.partition()).cmd("HMGET").arg(key).arg(&["state", "group"]);
        }
        for ((group, id), fields) in entries.iter().zip(self.look(&commands).await?) {
            if !is_in(&fields, group, status) {
                let place = match status {
                    Status::Running => Place::GroupRunning(group.2),
                    _ => Place::Group(group.2),
                };
                let queue = Some(group.1.clone());
                let met = Met { queue, place, index: None, again: false };
                self.suspect(Suspect::met(*id, met)).await?;
            }
        }
        Ok(())
    }

    /// Checks that the groups that have turns, or wait for one, have jobs.
    pub(super) async fn check_turns(
        &mut self,
        partition: Partition,
        queue: &QueueName,
    ) -> Result<(), Error> {
        let settings = self.broker.settings.clone();
        for key in states_of(settings.keys(partition), queue) {
            self.check_state(partition, queue, &key).await?;
        }
        Ok(())
    }

    async fn check_state(
        &mut self,
        partition: Partition,
        queue: &QueueName,
        key: &str,
    ) -> Result<(), Error> {
        let mut cursor = 0_u64;
        loop {
            let mut commands = Commands::default();
            commands.at(partition).cmd("ZSCAN").arg(key).arg(cursor).arg("COUNT").arg(PAGE);
            let page = self.look(&commands).await?.pop().unwrap_or(Value::Nil);
            if matches!(page, Value::ServerError(_)) {
                self.audit.count(FindingKind::Unreadable, || key.to_owned());
                return Ok(());
            }
            let [next, page] = reply::fields(page)?;
            let mut groups = Vec::new();
            for entry in reply::array(page)?.chunks_exact(2) {
                match reply::parsed::<GroupId>(entry[0].clone()) {
                    Ok(group) => groups.push(group),
                    Err(_) => self.audit.count(FindingKind::Unreadable, || key.to_owned()),
                }
            }
            self.check_have_jobs(partition, queue, &groups).await?;
            cursor = reply::unsigned(&next)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn check_have_jobs(
        &mut self,
        partition: Partition,
        queue: &QueueName,
        groups: &[GroupId],
    ) -> Result<(), Error> {
        let mut commands = Commands::default();
        for &group in groups {
            let key = self.broker.settings.keys(partition).group(queue, group);
            commands.at(partition).cmd("EXISTS").arg(key);
        }
        for (&group, exists) in groups.iter().zip(self.look(&commands).await?) {
            if reply::integer(&exists)? == 0 {
                self.suspect(Suspect::Group(partition, queue.clone(), group)).await?;
            }
        }
        Ok(())
    }
}

/// The number of sets in one of which a group with jobs is.
const STATES: usize = 3;

fn states_of(keys: &Keys, queue: &QueueName) -> [String; STATES] {
    [keys.runnable(queue), keys.delayed_groups(queue), keys.blocked_groups(queue)]
}

/// Parses a member of the set of the jobs of groups that run.
fn read_running(member: &str, partition: Partition) -> Option<(GroupId, JobId)> {
    let (group, id) = member.split_once(' ')?;
    let id: JobId = id.parse().ok()?;
    (id.partition() == partition).then_some((group.parse().ok()?, id))
}

/// Whether a job with these fields is of the group and has the status.
fn is_in(fields: &Value, (_, queue, group): &Group, status: Status) -> bool {
    let Ok([state, named]) = reply::fields::<2>(fields.clone()) else { return false };
    let state = reply::text(state).ok().and_then(|text| State::read(&text).ok());
    Membership::read(named).is_some_and(|membership| membership.group == *group)
        && state.is_some_and(|state| state.status == status && state.queue == *queue)
}
