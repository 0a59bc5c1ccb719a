//! The second walk: through every list and set of every queue, comparing each entry with what its job's record said.

use redis::Value;

use super::kind::FindingKind;
use super::notes::Meeting;
use super::suspect::{Met, Place, Suspect};
use super::{Auditor, Progress};
use crate::broker::error::Error;
use crate::broker::keys::Lane;
use crate::broker::{Keys, reply};
use crate::job::{JobId, Partition};
use crate::queue::QueueName;
use crate::task::TaskName;

/// Entries read in one step.
const PAGE: usize = 500;

/// One place of the walk: a list or set, and the queue it belongs to.
struct Stretch {
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
            self.suspect(Suspect::Queue(partition, queue)).await?;
            number += 1;
        }
        for partition in self.broker.partitions() {
            let key = self.broker.settings.keys(partition).quarantine();
            let place = Place::Quarantine;
            let stretch = Stretch { partition, queue: None, number: u32::MAX, place, key };
            self.walk_set(&stretch).await?;
        }
        Ok(())
    }

    /// Lanes first: what stands in them is known when their ghosts are met.
    async fn walk_queue(
        &mut self,
        partition: Partition,
        queue: &QueueName,
        number: u32,
    ) -> Result<(), Error> {
        let keys = self.broker.settings.keys(partition);
        let parked = self.parked(&keys, queue).await?.into_iter().map(Lane::Parked);
        let lanes = Lane::ALL.into_iter().chain(parked).map(Place::Lane);
        for place in lanes.chain(SETS) {
            let key = key_of(&keys, queue, &place);
            let stretch = Stretch { partition, queue: Some(queue.clone()), number, place, key };
            match &stretch.place {
                Place::Lane(_) => self.walk_lane(&stretch).await?,
                _ => self.walk_set(&stretch).await?,
            }
        }
        Ok(())
    }

    /// The tasks whose jobs are parked. A set of another type holds none: the first look at the queue counts it.
    async fn parked(&mut self, keys: &Keys, queue: &QueueName) -> Result<Vec<TaskName>, Error> {
        let mut ask = redis::pipe();
        ask.cmd("SMEMBERS").arg(keys.parked(queue));
        let names = self.look(&ask).await?.pop().and_then(|names| reply::array(names).ok());
        let names = names.unwrap_or_default().into_iter();
        Ok(names.filter_map(|name| reply::parsed(name).ok()).collect())
    }

    /// From the newest to the oldest. New jobs push the others along meanwhile, so that some are met twice, which is looked
    /// into, but none is missed; claims take from the other end.
    async fn walk_lane(&mut self, lane: &Stretch) -> Result<(), Error> {
        for first in (0..).step_by(PAGE) {
            let mut ask = redis::pipe();
            ask.cmd("LRANGE").arg(&lane.key).arg(first).arg(first + PAGE - 1);
            let Some(page) = self.entries(lane, &ask).await? else {
                return Ok(());
            };
            for (at, entry) in page.iter().enumerate() {
                self.meet(lane, entry, Some(first + at)).await?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn walk_set(&mut self, set: &Stretch) -> Result<(), Error> {
        let (scan, width) = if set.place == Place::Ghosts { ("SSCAN", 1) } else { ("ZSCAN", 2) };
        let mut cursor = 0_u64;
        loop {
            let mut ask = redis::pipe();
            ask.cmd(scan).arg(&set.key).arg(cursor).arg("COUNT").arg(PAGE);
            let Some(answer) = self.entries(set, &ask).await? else {
                return Ok(());
            };
            let [next, entries] = reply::fields(Value::Array(answer))?;
            for entry in reply::array(entries)?.iter().step_by(width) {
                self.meet(set, entry, None).await?;
            }
            cursor = reply::unsigned(&next)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Reads a page; `None` if the key is of another type.
    async fn entries(
        &mut self,
        stretch: &Stretch,
        ask: &redis::Pipeline,
    ) -> Result<Option<Vec<Value>>, Error> {
        match self.look(ask).await?.pop() {
            Some(Value::ServerError(_)) => {
                self.audit.count(FindingKind::Unreadable, || stretch.key.clone());
                Ok(None)
            }
            Some(page) => reply::array(page).map(Some),
            None => Ok(None),
        }
    }

    async fn meet(
        &mut self,
        stretch: &Stretch,
        entry: &Value,
        index: Option<usize>,
    ) -> Result<(), Error> {
        self.progress.entries += 1;
        let id = reply::parsed::<JobId>(entry.clone()).ok();
        let Some(id) = id.filter(|id| id.partition() == stretch.partition) else {
            let entry = String::from_utf8_lossy(&reply::bytes(entry.clone())?).into_owned();
            self.audit.count(FindingKind::Unreadable, || format!("{} in {}", entry, stretch.key));
            return Ok(());
        };
        match self.notes.meet(id, stretch.number, &stretch.place) {
            Meeting::AsExpected => Ok(()),
            Meeting::Suspect { again } => {
                let (queue, place) = (stretch.queue.clone(), stretch.place.clone());
                self.suspect(Suspect::met(id, Met { queue, place, index, again })).await
            }
        }
    }
}

/// The sets of a queue in which ids stand.
const SETS: [Place; 6] = [
    Place::Delayed,
    Place::Running,
    Place::Deadlines,
    Place::Finished,
    Place::Failed,
    Place::Ghosts,
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
        Place::Quarantine => keys.quarantine(),
    }
}
