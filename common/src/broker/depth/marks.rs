//! What only some queues have besides jobs in their normal lane: found by few commands about many queues.

use std::collections::HashSet;

use redis::{Pipeline, Value};

use super::super::error::Error;
use super::super::keys::Keys;
use super::super::{Broker, reply};
use crate::queue::QueueName;

/// What a queue has, or may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// It is paused.
    pub(super) paused: bool,
    /// It may have jobs outside its normal lane.
    pub(super) side: bool,
    /// Jobs may run: only then a sweep must visit it.
    pub(super) due: bool,
    /// It may have failed jobs.
    pub(super) failed: bool,
    /// It may have ids of jobs that ended while they waited.
    pub(super) ghosts: bool,
}

/// Of this many queues one command finds out whether any of them has something.
pub(super) const QUEUES_A_QUESTION: usize = 10;

/// Asks whether any of these keys exists.
pub(super) fn ask_any(pipeline: &mut Pipeline, keys: impl Iterator<Item = String>) {
    pipeline.cmd("EXISTS").arg(keys.collect::<Vec<_>>());
}

impl Marks {
    /// Whether the queue may have more than jobs in its normal lane.
    pub(super) const fn anything(self) -> bool {
        self.side || self.due || self.failed || self.ghosts
    }

    /// Asks for those of some queues.
    pub(super) fn ask(pipeline: &mut Pipeline, keys: &Keys, names: &[QueueName]) {
        let texts: Vec<_> = names.iter().map(QueueName::as_str).collect();
        pipeline.cmd("SMISMEMBER").arg(keys.paused()).arg(&texts);
        pipeline.cmd("SMISMEMBER").arg(keys.side_queues()).arg(&texts);
        pipeline.cmd("ZMSCORE").arg(keys.due()).arg(&texts);
        for group in names.chunks(QUEUES_A_QUESTION) {
            ask_any(pipeline, group.iter().map(|name| keys.failed(name)));
            ask_any(pipeline, group.iter().map(|name| keys.ghosts(name)));
        }
    }

    /// Reads the replies about that many queues.
    pub(super) fn read(mut replies: Vec<Value>, queues: usize) -> Result<Vec<Self>, Error> {
        let groups = replies.split_off(3);
        let [paused, side, due] = reply::fields(Value::Array(replies))?;
        let (paused, side, due) = (reply::array(paused)?, reply::array(side)?, reply::array(due)?);
        let mut marks = Vec::with_capacity(queues);
        for at in 0..queues {
            let group = 2 * (at / QUEUES_A_QUESTION);
            marks.push(Self {
                paused: reply::integer(&paused[at])? == 1,
                side: reply::integer(&side[at])? == 1,
                due: due[at] != Value::Nil,
                failed: reply::integer(&groups[group])? > 0,
                ghosts: reply::integer(&groups[group + 1])? > 0,
            });
        }
        Ok(marks)
    }
}

/// All queues of a partition that have something, if they are few: then all of them are read faster than it is asked of
/// each queue whether it is among them.
#[derive(Debug)]
pub(crate) struct Listed {
    paused: HashSet<String>,
    side: HashSet<String>,
    due: HashSet<String>,
    ended: HashSet<String>,
}

/// As many names in all are read: a third of a millisecond of Redis' time.
const MOST_NAMES: u64 = 2000;

impl Listed {
    /// Asks how many they are.
    pub(super) fn ask_sizes(pipeline: &mut Pipeline, keys: &Keys) {
        for key in [keys.paused(), keys.side_queues(), keys.ended_queues()] {
            pipeline.cmd("SCARD").arg(key);
        }
        pipeline.cmd("ZCARD").arg(keys.due());
    }

    /// What a queue has.
    pub(super) fn marks(&self, name: &QueueName) -> Marks {
        let ended = self.ended.contains(name.as_str());
        Marks {
            paused: self.paused.contains(name.as_str()),
            side: self.side.contains(name.as_str()),
            due: self.due.contains(name.as_str()),
            failed: ended,
            ghosts: ended,
        }
    }
}

impl Broker {
    /// Returns the queues of a partition that have something; `None` if they are many. The sizes are the replies of
    /// [`Listed::ask_sizes`].
    pub(super) async fn listed_queues(
        &self,
        keys: &Keys,
        sizes: &[Value],
    ) -> Result<Option<Listed>, Error> {
        let sizes = sizes.iter().map(reply::unsigned).collect::<Result<Vec<_>, _>>()?;
        if sizes.iter().sum::<u64>() > MOST_NAMES {
            return Ok(None);
        }
        let mut pipeline = redis::pipe();
        for key in [keys.paused(), keys.side_queues(), keys.ended_queues()] {
            pipeline.cmd("SMEMBERS").arg(key);
        }
        pipeline.cmd("ZRANGE").arg(keys.due()).arg(0).arg(-1);
        let replies = self.pooled(keys.partition(), &pipeline).await?;
        let [paused, side, ended, due] = reply::fields(Value::Array(replies))?;
        Ok(Some(Listed {
            paused: names(paused)?,
            side: names(side)?,
            ended: names(ended)?,
            due: names(due)?,
        }))
    }
}

fn names(reply: Value) -> Result<HashSet<String>, Error> {
    reply::array(reply)?.into_iter().map(reply::text).collect()
}
