//! What an audit stores of each job between reading its record and walking the lists: about 40 bytes each, so that a
//! million jobs fit in 200 MB.

use std::collections::{BTreeSet, HashMap};

use super::membership::Membership;
use super::suspect::Place;
use crate::broker::keys::Lane;
use crate::broker::{ErrorGroupId, IndexId};
use crate::job::{JobId, Partition, Priority, Status};
use crate::queue::QueueName;
use crate::schedule::ScheduleName;
use crate::task::TaskName;

/// Places as bits: ready, delayed, running, finished, failed, deadlines, an error group, the jobs in groups.
const READY: u8 = 1;
const DELAYED: u8 = 2;
const RUNNING: u8 = 4;
const FINISHED: u8 = 8;
const FAILED: u8 = 16;
const DEADLINES: u8 = 32;
const ERROR_GROUP: u8 = 64;
const GROUPED: u8 = 128;

/// From these numbers of losses and of failed hand-overs on a job is solitary; as in `lifecycle.lua`.
const SOLITARY_LOSSES: u64 = 2;
const SOLITARY_UNHEARD: u64 = 3;

/// Means "no queue": for ids whose record was not read.
const NOWHERE: u32 = u32::MAX;

/// A lane, in a few bytes: tasks as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneNote {
    Of(Priority),
    Solitary,
    Parked(u32),
}

/// Where a job should be by its record, and where it was not found yet.
#[derive(Debug, Clone, Copy)]
struct Note {
    version: u32,
    queue: u32,
    lane: LaneNote,
    /// The error group of a failed job.
    group: u32,
    expected: u8,
    missing: u8,
    /// Whether it was found in a lane of any queue.
    in_lane: bool,
}

/// The fields of a job's record that determine where the job should be.
#[derive(Debug)]
pub(super) struct ExpectedPlace {
    pub(super) queue: QueueName,
    pub(super) status: Status,
    pub(super) priority: Priority,
    pub(super) losses: u64,
    pub(super) unheard: u64,
    /// Its task, if it is parked.
    pub(super) parked: Option<TaskName>,
    /// The digest of the lock that must name it.
    pub(super) lock: Option<String>,
    /// Whether it has a deadline, or has yet to start in time.
    pub(super) deadline: bool,
    pub(super) error_group: Option<ErrorGroupId>,
    /// Its group, in which it waits unless it is solitary.
    pub(super) group: Option<Membership>,
    /// Nothing is noted of these.
    pub(super) indexes: Vec<IndexId>,
    pub(super) version: u64,
}

impl ExpectedPlace {
    const fn is_solitary(&self) -> bool {
        self.losses >= SOLITARY_LOSSES || self.unheard >= SOLITARY_UNHEARD
    }

    /// Whether it is ready and in its group, not in a lane.
    pub(super) fn waits_in_group(&self) -> bool {
        let in_lane = self.is_solitary() || self.parked.is_some();
        self.status == Status::Queued && self.group.is_some() && !in_lane
    }
}

/// The comparison of a list entry with its job's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryCheck {
    AsExpected,
    /// Not as its record requires; `again` if it had been found in a lane before.
    Suspect {
        again: bool,
    },
}

/// The notes of all jobs, and the queues that were found.
#[derive(Debug, Default)]
pub(super) struct Notes {
    jobs: HashMap<JobId, Note>,
    queues: Vec<(Partition, QueueName)>,
    numbers: HashMap<(Partition, QueueName), u32>,
    tasks: HashMap<TaskName, u32>,
    groups: HashMap<ErrorGroupId, u32>,
    /// The error groups of each partition.
    groups_in: BTreeSet<(Partition, ErrorGroupId)>,
    schedules: BTreeSet<(Partition, ScheduleName)>,
}

impl Notes {
    /// Returns the number of a queue, assigned at its first use.
    pub(super) fn queue(&mut self, partition: Partition, name: &QueueName) -> u32 {
        if let Some(&number) = self.numbers.get(&(partition, name.clone())) {
            return number;
        }
        let number = u32::try_from(self.queues.len()).unwrap_or(NOWHERE);
        self.queues.push((partition, name.clone()));
        self.numbers.insert((partition, name.clone()), number);
        number
    }

    /// Returns the number of a task, assigned at its first use.
    fn task(&mut self, name: &TaskName) -> u32 {
        let next = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        *self.tasks.entry(name.clone()).or_insert(next)
    }

    /// Returns the number of an error group, assigned at its first use.
    fn group(&mut self, id: &ErrorGroupId) -> u32 {
        let next = u32::try_from(self.groups.len()).unwrap_or(NOWHERE);
        *self.groups.entry(id.clone()).or_insert(next)
    }

    /// Notes an error group of a partition.
    pub(super) fn error_group(&mut self, partition: Partition, id: ErrorGroupId) {
        self.groups_in.insert((partition, id));
    }

    /// Takes the error groups that were found.
    pub(super) fn take_error_groups(&mut self) -> BTreeSet<(Partition, ErrorGroupId)> {
        std::mem::take(&mut self.groups_in)
    }

    /// Notes a schedule of a partition.
    pub(super) fn schedule(&mut self, partition: Partition, name: ScheduleName) {
        self.schedules.insert((partition, name));
    }

    /// Takes the schedules that were found.
    pub(super) fn take_schedules(&mut self) -> BTreeSet<(Partition, ScheduleName)> {
        std::mem::take(&mut self.schedules)
    }

    /// Returns the queue with that number.
    pub(super) fn queue_at(&self, number: u32) -> Option<(Partition, QueueName)> {
        self.queues.get(number as usize).cloned()
    }

    /// Notes where a job should be. Reading it again replaces the note.
    pub(super) fn expect(&mut self, id: JobId, expected: &ExpectedPlace) {
        let deadline = expected.deadline && !expected.status.is_terminal();
        let group = expected.error_group.as_ref().filter(|_| expected.status == Status::Failed);
        let places = if expected.waits_in_group() { GROUPED } else { places_of(expected.status) }
            | if deadline { DEADLINES } else { 0 }
            | if group.is_some() { ERROR_GROUP } else { 0 };
        let group = group.map_or(NOWHERE, |group| self.group(group));
        let solitary = expected.is_solitary();
        let lane = match &expected.parked {
            _ if solitary => LaneNote::Solitary,
            Some(task) => LaneNote::Parked(self.task(task)),
            None => LaneNote::Of(expected.priority),
        };
        // A version that is too large becomes 0, which proves nothing: that is safe.
        let version = u32::try_from(expected.version).unwrap_or(0);
        let queue = self.queue(id.partition(), &expected.queue);
        let note =
            Note { version, queue, lane, group, expected: places, missing: places, in_lane: false };
        self.jobs.insert(id, note);
    }

    /// Notes that an id was found in a place, and compares that with its record.
    pub(super) fn check_entry(&mut self, id: JobId, queue: u32, place: &Place) -> EntryCheck {
        let blank = Note {
            version: 0,
            queue: NOWHERE,
            lane: LaneNote::Solitary,
            group: NOWHERE,
            expected: 0,
            missing: 0,
            in_lane: false,
        };
        let lane = match place {
            Place::Lane(Lane::Of(priority)) => Some(LaneNote::Of(*priority)),
            Place::Lane(Lane::Solitary) => Some(LaneNote::Solitary),
            Place::Lane(Lane::Parked(task)) => Some(LaneNote::Parked(self.task(task))),
            _ => None,
        };
        let group = match place {
            Place::ErrorGroup(group) => Some(self.group(group)),
            _ => None,
        };
        let note = self.jobs.entry(id).or_insert(blank);
        let again = note.in_lane;
        let bit = bit_of(place);
        let lane_fits = lane.is_none_or(|lane| lane == note.lane && !again);
        note.in_lane |= lane.is_some();
        let owner_fits = group.map_or(note.queue == queue, |group| note.group == group);
        if owner_fits && note.expected & bit != 0 && lane_fits {
            note.missing &= !bit;
            return EntryCheck::AsExpected;
        }
        EntryCheck::Suspect { again }
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Returns the ids that were not found where they belong, each with its version.
    pub(super) fn missing(&mut self) -> impl Iterator<Item = (JobId, u32)> + use<> {
        let jobs = std::mem::take(&mut self.jobs);
        jobs.into_iter().filter(|(_, note)| note.missing != 0).map(|(id, note)| (id, note.version))
    }

    /// Returns the version of a job when its record was read.
    pub(super) fn version(&self, id: JobId) -> Option<u32> {
        self.jobs.get(&id).map(|note| note.version).filter(|&version| version > 0)
    }
}

const fn places_of(status: Status) -> u8 {
    match status {
        Status::Queued => READY,
        Status::Scheduled | Status::Retrying => DELAYED,
        Status::Running => RUNNING,
        Status::Succeeded | Status::Canceled => FINISHED,
        Status::Failed => FINISHED | FAILED,
    }
}

const fn bit_of(place: &Place) -> u8 {
    match place {
        Place::Lane(_) => READY,
        Place::Delayed => DELAYED,
        Place::Running => RUNNING,
        Place::Deadlines => DEADLINES,
        Place::Finished => FINISHED,
        Place::Failed => FAILED,
        Place::ErrorGroup(_) => ERROR_GROUP,
        Place::Grouped => GROUPED,
        // Nothing is noted of indexes and of single groups.
        Place::Ghosts
        | Place::Quarantine
        | Place::Index(_)
        | Place::Group(_)
        | Place::GroupRunning(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_jobs_fit_in_two_hundred_megabytes() {
        // One byte of overhead each; a table that has just grown is more than half empty, and the old one still exists.
        let each = size_of::<(JobId, Note)>() + 1;
        let slots = (1_000_000_usize * 8 / 7).next_power_of_two();
        assert!(slots * each * 3 / 2 < 200_000_000, "{each} bytes each");
    }
}
