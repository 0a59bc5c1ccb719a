//! What an audit remembers of each job between reading its record and walking the lists: about 30 bytes each, so that a
//! million jobs fit in 100 MB.

use std::collections::HashMap;

use super::suspect::Place;
use crate::broker::keys::Lane;
use crate::job::{JobId, Partition, Priority, Status};
use crate::queue::QueueName;
use crate::task::TaskName;

/// Places as bits: ready, delayed, running, finished, failed, deadlines.
const READY: u8 = 1;
const DELAYED: u8 = 2;
const RUNNING: u8 = 4;
const FINISHED: u8 = 8;
const FAILED: u8 = 16;
const DEADLINES: u8 = 32;

/// From these numbers of losses and of failed hand-overs on a job waits in a lane of its own; as in `lifecycle.lua`.
const SOLITARY_LOSSES: u64 = 2;
const SOLITARY_UNHEARD: u64 = 3;

/// Stands for "no queue": of ids whose record was not met.
const NOWHERE: u32 = u32::MAX;

/// A lane, in a few bytes: tasks by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneNote {
    Of(Priority),
    Solitary,
    Parked(u32),
}

/// Where a job should stand by its record, and where it was not met yet.
#[derive(Debug, Clone, Copy)]
struct Note {
    version: u32,
    queue: u32,
    lane: LaneNote,
    homes: u8,
    missing: u8,
    /// Met in a lane of any queue.
    in_lane: bool,
}

/// A job's record, as far as it tells where the job stands.
#[derive(Debug)]
pub(super) struct ExpectedPlace {
    pub(super) queue: QueueName,
    pub(super) status: Status,
    pub(super) priority: Priority,
    pub(super) losses: u64,
    pub(super) unheard: u64,
    /// Its task, if it is parked.
    pub(super) parked: Option<TaskName>,
    pub(super) deadline: bool,
    pub(super) version: u64,
}

/// What to think of an id that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meeting {
    AsExpected,
    /// Not by its record; `again` if it had been met in a lane before.
    Suspect {
        again: bool,
    },
}

/// The notes of all jobs, and the queues that were met.
#[derive(Debug, Default)]
pub(super) struct Notes {
    jobs: HashMap<JobId, Note>,
    queues: Vec<(Partition, QueueName)>,
    numbers: HashMap<(Partition, QueueName), u32>,
    tasks: HashMap<TaskName, u32>,
}

impl Notes {
    /// The number of a queue, which it gets when it is first met.
    pub(super) fn queue(&mut self, partition: Partition, name: &QueueName) -> u32 {
        if let Some(&number) = self.numbers.get(&(partition, name.clone())) {
            return number;
        }
        let number = u32::try_from(self.queues.len()).unwrap_or(NOWHERE);
        self.queues.push((partition, name.clone()));
        self.numbers.insert((partition, name.clone()), number);
        number
    }

    /// The number of a task, which it gets when it is first met.
    fn task(&mut self, name: &TaskName) -> u32 {
        let next = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        *self.tasks.entry(name.clone()).or_insert(next)
    }

    /// The queue of that number.
    pub(super) fn queue_at(&self, number: u32) -> Option<(Partition, QueueName)> {
        self.queues.get(number as usize).cloned()
    }

    /// Notes where a job should stand. Reading it again replaces what was noted.
    pub(super) fn expect(&mut self, id: JobId, expected: &ExpectedPlace) {
        let deadline = expected.deadline && !expected.status.is_terminal();
        let homes = homes_of(expected.status) | if deadline { DEADLINES } else { 0 };
        let alone = expected.losses >= SOLITARY_LOSSES || expected.unheard >= SOLITARY_UNHEARD;
        let lane = match &expected.parked {
            _ if alone => LaneNote::Solitary,
            Some(task) => LaneNote::Parked(self.task(task)),
            None => LaneNote::Of(expected.priority),
        };
        // A version that does not fit proves nothing, which is safe.
        let version = u32::try_from(expected.version).unwrap_or(0);
        let queue = self.queue(id.partition(), &expected.queue);
        let note = Note { version, queue, lane, homes, missing: homes, in_lane: false };
        self.jobs.insert(id, note);
    }

    /// Notes that an id was met somewhere.
    pub(super) fn meet(&mut self, id: JobId, queue: u32, place: &Place) -> Meeting {
        let blank = Note {
            version: 0,
            queue: NOWHERE,
            lane: LaneNote::Solitary,
            homes: 0,
            missing: 0,
            in_lane: false,
        };
        let lane = match place {
            Place::Lane(Lane::Of(priority)) => Some(LaneNote::Of(*priority)),
            Place::Lane(Lane::Solitary) => Some(LaneNote::Solitary),
            Place::Lane(Lane::Parked(task)) => Some(LaneNote::Parked(self.task(task))),
            _ => None,
        };
        let note = self.jobs.entry(id).or_insert(blank);
        let again = note.in_lane;
        let home = bit_of(place);
        let lane_fits = lane.is_none_or(|lane| lane == note.lane && !again);
        note.in_lane |= lane.is_some();
        if note.queue == queue && note.homes & home != 0 && lane_fits {
            note.missing &= !home;
            return Meeting::AsExpected;
        }
        Meeting::Suspect { again }
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// The ids that were not met where they belong, each with its version.
    pub(super) fn missing(&mut self) -> impl Iterator<Item = (JobId, u32)> + use<> {
        let jobs = std::mem::take(&mut self.jobs);
        jobs.into_iter().filter(|(_, note)| note.missing != 0).map(|(id, note)| (id, note.version))
    }

    /// The version of a job when its record was read.
    pub(super) fn version(&self, id: JobId) -> Option<u32> {
        self.jobs.get(&id).map(|note| note.version).filter(|&version| version > 0)
    }
}

const fn homes_of(status: Status) -> u8 {
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
        Place::Ghosts | Place::Quarantine => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_jobs_fit_in_two_hundred_megabytes() {
        // One byte of bookkeeping each; a table that has just grown is a good half empty, and the old one still there.
        let each = size_of::<(JobId, Note)>() + 1;
        let slots = (1_000_000_usize * 8 / 7).next_power_of_two();
        assert!(slots * each * 3 / 2 < 200_000_000, "{each} bytes each");
    }
}
