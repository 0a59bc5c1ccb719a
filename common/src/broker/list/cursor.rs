//! Where a page of a list ended, as text that a client sends back.

use std::fmt;
use std::str::FromStr;

use crate::broker::IndexId;
use crate::broker::keys::Lane;
use crate::job::{JobId, Partition, Status};
use crate::queue::QueueName;
use crate::time::Timestamp;

/// Where a page of a list ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub(super) Ended);

impl Cursor {
    /// The index in which the page ended.
    #[must_use]
    pub const fn index(&self) -> Option<IndexId> {
        match self.0 {
            Ended::Index(index, _) => Some(index),
            Ended::Newest(_) | Ended::Walk(..) => None,
        }
    }
}

/// In which part of a list a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Among the newest jobs, after this one.
    Newest(JobId),
    /// In an index.
    Index(IndexId, Below),
    /// In the walk over all jobs; over those that are older than this one, if the newest were listed before.
    Walk(Position, Option<JobId>),
}

/// Writes `newest/<id>`, `index/<index>/<id or time>`, or the position of the walk and `/<id?>`.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ended::Newest(after) => write!(f, "newest/{after}"),
            Ended::Index(index, below) => write!(f, "index/{index}/{below}"),
            Ended::Walk(position, None) => write!(f, "{position}/"),
            Ended::Walk(position, Some(below)) => write!(f, "{position}/{below}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (position, id) = text.rsplit_once('/').ok_or(InvalidCursor)?;
        if let Some(index) = position.strip_prefix("index/") {
            let index = index.parse().map_err(|_| InvalidCursor)?;
            return Ok(Self(Ended::Index(index, id.parse()?)));
        }
        let id = optional(id)?;
        Ok(Self(match (position, id) {
            ("newest", after) => Ended::Newest(after.ok_or(InvalidCursor)?),
            _ => Ended::Walk(position.parse()?, id),
        }))
    }
}

/// A position in an index: the jobs that follow.
///
/// A caller for some queues gets the id of no other job in a cursor: there a page ends at a job that it may see, or
/// between two milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// Those whose ids are smaller than this one.
    Id(JobId),
    /// Those that were created before this time.
    Time(Timestamp),
}

/// Writes the id, or the milliseconds.
impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Time(time) => time.unix_ms().fmt(f),
        }
    }
}

impl FromStr for Below {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = || text.parse().map(Timestamp::from_unix_ms).map(Self::Time);
        text.parse().map(Self::Id).or_else(|_| time()).map_err(|_| InvalidCursor)
    }
}

/// A position in the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) status: Status,
    pub(super) partition: Partition,
    /// The current queue; `None` means the first one.
    pub(super) queue: Option<QueueName>,
    pub(super) place: Place,
}

/// A position in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Set(SetPlace),
    Lane(LanePlace),
    /// Among the jobs that wait in groups: below this id.
    Grouped(Option<JobId>),
}

/// The name of that place in a cursor, where others have the name of a lane.
const GROUPED: &str = "grouped";

/// In a sorted set: below this score, or at this score below this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetPlace {
    pub(super) score: u64,
    pub(super) below: Option<JobId>,
}

/// In a ready list: after this id, which was at this index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LanePlace {
    pub(super) lane: Lane,
    pub(super) index: usize,
    pub(super) after: Option<JobId>,
}

impl LanePlace {
    pub(super) const fn start_of(lane: Lane) -> Self {
        Self { lane, index: 0, after: None }
    }
}

impl Position {
    pub(super) fn start_of(status: Status) -> Self {
        let place = Place::first(status);
        Self { status, partition: Partition::default(), queue: None, place }
    }
}

impl Place {
    pub(super) fn first(status: Status) -> Self {
        match status {
            Status::Queued => Self::Lane(LanePlace::start_of(Lane::ALL[0].clone())),
            _ => Self::Set(SetPlace { score: u64::MAX, below: None }),
        }
    }
}

/// Writes `<status>/<partition>/<queue?>/<lane?>/<score or index>/<id?>`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue.as_ref().map_or("", QueueName::as_str);
        write!(f, "{}/{}/{queue}/", self.status, self.partition)?;
        let id = match &self.place {
            Place::Set(place) => {
                write!(f, "/{}/", place.score)?;
                place.below
            }
            Place::Lane(place) => {
                write!(f, "{}/{}/", place.lane.name(), place.index)?;
                place.after
            }
            Place::Grouped(below) => {
                write!(f, "{GROUPED}//")?;
                *below
            }
        };
        id.map_or(Ok(()), |id| id.fmt(f))
    }
}

/// Not a cursor that a page of this list ended with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor that a page of this list ended with")]
pub struct InvalidCursor;

fn optional<T: FromStr>(text: &str) -> Result<Option<T>, InvalidCursor> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| InvalidCursor)
}

impl FromStr for Position {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('/').collect();
        let [status, partition, queue, lane, number, id] = parts[..] else {
            return Err(InvalidCursor);
        };
        let status = status.parse().map_err(|_| InvalidCursor)?;
        let place = match (status, Lane::named(lane)) {
            (Status::Queued, Some(lane)) => {
                let index = optional(number)?.filter(|&index| index <= u32::MAX as usize);
                let index = index.ok_or(InvalidCursor)?;
                Place::Lane(LanePlace { lane, index, after: optional(id)? })
            }
            (Status::Queued, None) if lane == GROUPED && number.is_empty() => {
                Place::Grouped(optional(id)?)
            }
            (Status::Queued, None) => return Err(InvalidCursor),
            _ if !lane.is_empty() => return Err(InvalidCursor),
            _ => {
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
        let lane = |lane| Place::Lane(LanePlace { lane, index: 200, after: Some(id) });
        let places = [
            (Status::Failed, Place::Set(SetPlace { score: u64::MAX, below: None })),
            (Status::Running, Place::Set(SetPlace { score: 17, below: Some(id) })),
            (Status::Queued, lane(Lane::ALL[3].clone())),
            (Status::Queued, lane(Lane::Parked("a.b".parse().unwrap()))),
            (Status::Queued, Place::Grouped(Some(id))),
        ];
        for (status, place) in places {
            for (queue, below) in [(None, None), ("a.b".parse().ok(), Some(id))] {
                let place = place.clone();
                let position = Position { status, queue, place, ..Position::start_of(status) };
                let cursor = Cursor(Ended::Walk(position, below));
                assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
        let index = IndexId::of("a", "b").unwrap();
        let below = [Below::Id(id), Below::Time(id.created_at())];
        let in_index = below.map(|below| Ended::Index(index, below));
        for ended in in_index.into_iter().chain([Ended::Newest(id)]) {
            let cursor = Cursor(ended);
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
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
            "queued/0//middle/1/",
            "queued/0//task:A/1/",
            "queued/0//grouped/1/",
            "failed/0//grouped//",
            "failed/0//normal/1/",
            "failed/5000///1/",
            "failed/0/A//1/",
        ];
        for wrong in wrong {
            assert_eq!(format!("{wrong}/").parse::<Cursor>(), Err(InvalidCursor), "{wrong}");
        }
        let wrong = ["newest", "newest/", "newest/x", "failed/0///1/", "failed/0///1//x"];
        for wrong in wrong.into_iter().chain(["index/", "index//1", "index/00112233aabbccdd/x"]) {
            assert_eq!(wrong.parse::<Cursor>(), Err(InvalidCursor), "{wrong}");
        }
    }
}
