//! The walk, the second pass: over every list and set of every queue. Compares each entry with its job's record.

use redis::Value;

use super::kind::FindingKind;
use super::notes::EntryCheck;
use super::suspect::{Met, Place, Suspect};
use super::{Auditor, Progress};
use crate::broker::commands::Commands;
use crate::broker::error::Error;
use crate::broker::keys::Lane;
use crate::broker::{Keys, reply};
use crate::job::{JobId, Partition};
use crate::queue::QueueName;
use crate::task::TaskName;

/// Number of entries read in one step.
const PAGE: usize = 500;

/// A list or set to walk, and the queue it belongs to.
struct Container {
    partition: Partition,
    queue: Option<QueueName>,
    number: u32,
    place: Place,
    key: String,
}

impl<W: FnMut(Progress)> Auditor<W> {
    pub(super) async fn walk(&mut self) -> Result<(), Error> {
        let mut number = 0;
        while let Some((partition, queue)) = self.notes.queue_at(number) {
            self.walk_queue(partition, &queue, number).await?;
            self.check_turns(partition, &queue).await?;
            self.check_grouped_running(partition, &queue).await?;
            self.suspect(Suspect::Queue(partition, queue)).await?;
            number += 1;
        }
        for partition in self.broker.partitions() {
            let key = self.broker.settings.keys(partition).quarantine();
            let place = Place::Quarantine;
            let container = Container { partition, queue: None, number: u32::MAX, place, key };
            self.walk_set(&container).await?;
        }
        self.walk_error_groups().await?;
        self.check_schedules().await
    }

    async fn walk_error_groups(&mut self) -> Result<(), Error> {
        for partition in self.broker.partitions() {
            let mut commands = Commands::default();
            let key = self.broker.settings.keys(partition).errors();
            commands.at(partition).cmd("ZRANGE").arg(key).arg(0).arg(-1);
            let listed = self.look(&commands).await?.pop().and_then(|ids| reply::array(ids).ok());
            for id in listed.unwrap_or_default() {
                if let Ok(group) = reply::parsed(id) {
                    self.notes.error_group(partition, group);
                }
            }
        }
        for (partition, group) in self.notes.take_error_groups() {
            let key = self.broker.settings.keys(partition).error_jobs(&group);
            let place = Place::ErrorGroup(group.clone());
            let container = Container { partition, queue: None, number: u32::MAX, place, key };
            self.walk_set(&container).await?;
            self.suspect(Suspect::ErrorGroup(partition, group)).await?;
        }
        Ok(())
    }

    /// Lanes first, so that their entries are known when the ghosts are checked.
    async fn walk_queue(
        &mut self,
        partition: Partition,
        queue: &QueueName,
        number: u32,
    ) -> Result<(), Error> {
        let settings = self.broker.settings.clone();
        let keys = settings.keys(partition);
        let parked = self.parked(keys, queue).await?.into_iter().map(Lane::Parked);
        let lanes = Lane::ALL.into_iter().chain(parked).map(Place::Lane);
        for place in lanes.chain(SETS) {
            let key = key_of(keys, queue, &place);
            let container = Container { partition, queue: Some(queue.clone()), number, place, key };
            match &container.place {
                Place::Lane(_) => self.walk_lane(&container).await?,
                _ => self.walk_set(&container).await?,
            }
        }
        Ok(())
    }

    /// Returns the tasks whose jobs are parked; none if the key is of another type, which the judgement of the queue
    /// reports.
    async fn parked(&mut self, keys: &Keys, queue: &QueueName) -> Result<Vec<TaskName>, Error> {
        let mut commands = Commands::default();
        commands.at(keys.partition()).cmd("SMEMBERS").arg(keys.parked(queue));
        let names = self.look(&commands).await?.pop().and_then(|names| reply::array(names).ok());
        let names = names.unwrap_or_default().into_iter();
        Ok(names.filter_map(|name| reply::parsed(name).ok()).collect())
    }

    /// Walks from the newest to the oldest job. New jobs shift the others meanwhile, so some are read twice, which is
    /// judged, but none is missed; claims take from the other end.
    async fn walk_lane(&mut self, lane: &Container) -> Result<(), Error> {
        for first in (0..).step_by(PAGE) {
            let mut commands = Commands::default();
            let pipeline = commands.at(lane.partition);
            pipeline.cmd("LRANGE").arg(&lane.key).arg(first).arg(first + PAGE - 1);
            let Some(page) = self.entries(lane, &commands).await? else {
                return Ok(());
            };
            for (offset, entry) in page.iter().enumerate() {
                self.check_entry(lane, entry, Some((first + offset) as u64)).await?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn walk_set(&mut self, set: &Container) -> Result<(), Error> {
        let (scan, width) = if set.place == Place::Ghosts { ("SSCAN", 1) } else { ("ZSCAN", 2) };
        let mut cursor = 0_u64;
        loop {
            let mut commands = Commands::default();
            let pipeline = commands.at(set.partition);
            pipeline.cmd(scan).arg(&set.key).arg(cursor).arg("COUNT").arg(PAGE);
            let Some(page) = self.entries(set, &commands).await? else {
                return Ok(());
            };
            let [next, entries] = reply::fields(Value::Array(page))?;
            for entry in reply::array(entries)?.chunks_exact(width) {
                if set.place == Place::Finished {
                    self.check_finished(set, entry).await?;
                } else {
                    self.check_entry(set, &entry[0], None).await?;
                }
            }
            cursor = reply::unsigned(&next)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Checks the ids in a member of `finished`, and when they expire.
    async fn check_finished(&mut self, set: &Container, entry: &[Value]) -> Result<(), Error> {
        let expires = reply::unsigned(&entry[1]).ok();
        for id in reply::text(entry[0].clone())?.split(' ') {
            self.check_entry(set, &Value::BulkString(id.into()), expires).await?;
        }
        Ok(())
    }

    /// Reads a page; `None` if the key is of another type.
    async fn entries(
        &mut self,
        container: &Container,
        commands: &Commands,
    ) -> Result<Option<Vec<Value>>, Error> {
        match self.look(commands).await?.pop() {
            Some(Value::ServerError(_)) => {
                self.audit.count(FindingKind::Unreadable, || container.key.clone());
                Ok(None)
            }
            Some(page) => reply::array(page).map(Some),
            None => Ok(None),
        }
    }

    async fn check_entry(
        &mut self,
        container: &Container,
        entry: &Value,
        index: Option<u64>,
    ) -> Result<(), Error> {
        self.progress.entries += 1;
        let id = reply::parsed::<JobId>(entry.clone()).ok();
        let Some(id) = id.filter(|id| id.partition() == container.partition) else {
            let entry = String::from_utf8_lossy(&reply::bytes(entry.clone())?).into_owned();
            self.audit.count(FindingKind::Unreadable, || format!("{} in {}", entry, container.key));
            return Ok(());
        };
        match self.notes.check_entry(id, container.number, &container.place) {
            EntryCheck::AsExpected => Ok(()),
            EntryCheck::Suspect { again } => {
                let (queue, place) = (container.queue.clone(), container.place.clone());
                self.suspect(Suspect::met(id, Met { queue, place, index, again })).await
            }
        }
    }
}

/// The sets of a queue that contain ids.
const SETS: [Place; 7] = [
    Place::Delayed,
    Place::Running,
    Place::Deadlines,
    Place::Finished,
    Place::Failed,
    Place::Ghosts,
    Place::Grouped,
];

fn key_of(keys: &Keys, queue: &QueueName, place: &Place) -> String {
    match place {
        Place::Lane(lane) => keys.ready(queue, lane),
        Place::Delayed => keys.delayed(queue),
        Place::Running => keys.running(queue),
        Place::Deadlines => keys.deadlines(queue),
        Place::Finished => keys.finished(queue),
        Place::Failed => keys.failed(queue),
        Place::Ghosts => keys.ghosts(queue),
        Place::Grouped => keys.grouped(queue),
        Place::Group(group) => keys.group(queue, *group),
        Place::GroupRunning(_) => keys.grouped_running(queue),
        Place::ErrorGroup(group) => keys.error_jobs(group),
        Place::Index(index) => keys.index(*index),
        Place::Quarantine => keys.quarantine(),
    }
}
