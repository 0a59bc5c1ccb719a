//! Where a walk through all jobs stands, as text that a client hands back.

use std::fmt;
use std::str::FromStr;

use crate::broker::keys::Lane;
use crate::job::{JobId, Partition, Status};
use crate::queue::QueueName;

/// A place in the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(super) status: Status,
    pub(super) partition: Partition,
    /// The queue the walk is in; the first one if unsaid.
    pub(super) queue: Option<QueueName>,
    pub(super) place: Place,
}

/// A place inside a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Set(SetPlace),
    Lane(LanePlace),
}

/// In a sorted set: below that score, or at it below that id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetPlace {
    pub(super) score: u64,
    pub(super) below: Option<JobId>,
}

/// In a ready list: behind that id, which stood at that index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LanePlace {
    pub(super) lane: usize,
    pub(super) index: usize,
    pub(super) behind: Option<JobId>,
}

impl LanePlace {
    pub(super) fn next_lane(self) -> Option<Self> {
        let lane = self.lane + 1;
        (lane < Lane::ALL.len()).then_some(Self { lane, index: 0, behind: None })
    }
}

impl Cursor {
    pub(super) fn start_of(status: Status) -> Self {
        let place = Place::first(status);
        Self { status, partition: Partition::default(), queue: None, place }
    }
}

impl Place {
    pub(super) fn first(status: Status) -> Self {
        match status {
            Status::Queued => Self::Lane(LanePlace { lane: 0, index: 0, behind: None }),
            _ => Self::Set(SetPlace { score: u64::MAX, below: None }),
        }
    }
}

/// `<status>/<partition>/<queue?>/<lane?>/<score or index>/<id?>`
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue.as_ref().map_or("", QueueName::as_str);
        write!(f, "{}/{}/{queue}/", self.status, self.partition)?;
        let id = match self.place {
            Place::Set(place) => {
                write!(f, "/{}/", place.score)?;
                place.below
            }
            Place::Lane(place) => {
                write!(f, "{}/{}/", place.lane, place.index)?;
                place.behind
            }
        };
        id.map_or(Ok(()), |id| id.fmt(f))
    }
}

/// Text that no page of this list ended with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor that a page of this list ended with")]
pub struct InvalidCursor;

fn optional<T: FromStr>(text: &str) -> Result<Option<T>, InvalidCursor> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| InvalidCursor)
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('/').collect();
        let [status, partition, queue, lane, number, id] = parts[..] else {
            return Err(InvalidCursor);
        };
        let status = status.parse().map_err(|_| InvalidCursor)?;
        let place = match (status, optional::<usize>(lane)?) {
            (Status::Queued, Some(lane)) if lane < Lane::ALL.len() => {
                let index = optional(number)?.filter(|&index| index <= u32::MAX as usize);
                let index = index.ok_or(InvalidCursor)?;
                Place::Lane(LanePlace { lane, index, behind: optional(id)? })
            }
            (Status::Queued, _) | (_, Some(_)) => return Err(InvalidCursor),
            (_, None) => {
                let score = optional(number)?.ok_or(InvalidCursor)?;
                Place::Set(SetPlace { score, below: optional(id)? })
            }
        };
        let partition = optional(partition)?.and_then(Partition::new).ok_or(InvalidCursor)?;
        Ok(Self { status, partition, queue: optional(queue)?, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_itself() {
        let id = JobId::generate(Partition::default());
        let places = [
            (Status::Failed, Place::Set(SetPlace { score: u64::MAX, below: None })),
            (Status::Running, Place::Set(SetPlace { score: 17, below: Some(id) })),
            (Status::Queued, Place::Lane(LanePlace { lane: 3, index: 200, behind: Some(id) })),
        ];
        for (status, place) in places {
            for queue in [None, "a.b".parse().ok()] {
                let cursor =
                    Cursor { status, queue, place: place.clone(), ..Cursor::start_of(status) };
                assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
    }

    #[test]
    fn other_text_is_refused() {
        let wrong = [
            "",
            "x",
            "failed/0///",
            "failed/0//0/1/",
            "queued/0///1/",
            "queued/0//9/1/",
            "failed/5000///1/",
            "failed/0/A//1/",
        ];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Cursor>(), Err(InvalidCursor), "{wrong}");
        }
    }
}
