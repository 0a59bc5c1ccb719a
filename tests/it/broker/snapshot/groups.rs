//! The groups of a queue, in Redis and as the model expects them.

use std::collections::{BTreeMap, BTreeSet};

use crunch_common::job::JobId;
use redis::aio::MultiplexedConnection;

use super::scores;
use crate::broker::model::groups::{Groups as Expected, name_of};
use crate::broker::operation::{GROUPS, QUEUES, SHARED_NAME, group_id, limit_of, shared};

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Groups {
    /// The jobs of each, with their places.
    jobs: Vec<BTreeMap<JobId, u64>>,
    /// The jobs of all.
    pub(super) all: BTreeSet<JobId>,
    /// The jobs of each that run.
    running: Vec<BTreeSet<JobId>>,
    /// Group → virtual time at which its next turn starts.
    turns: BTreeMap<String, f64>,
    /// Group that waits for its rate → when it may start a job.
    delayed: BTreeMap<String, f64>,
    /// Group that waits for the end of a job → virtual time at which its next turn starts.
    blocked: BTreeMap<String, f64>,
    /// Group → theoretical arrival time of its rate.
    rates: BTreeMap<String, f64>,
    /// Group without jobs → when its last turn ended.
    idle: BTreeMap<String, f64>,
}

impl Groups {
    /// When the first group that waits for its rate may start a job.
    pub(super) fn first_due(&self) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
        self.delayed.values().map(|&time| time as u64).min()
    }

    /// Whether `all` has the jobs of each group, and those that have any have one turn each.
    pub(super) fn agree(&self) -> bool {
        let in_groups: Vec<_> = self.jobs.iter().flat_map(BTreeMap::keys).collect();
        let with_jobs = self.jobs.iter().enumerate().filter(|(_, jobs)| !jobs.is_empty());
        let with_jobs: BTreeSet<_> =
            with_jobs.map(|(group, _)| group_id(group).to_string()).collect();
        let states = [&self.turns, &self.delayed, &self.blocked];
        let states: Vec<_> = states.into_iter().flat_map(BTreeMap::keys).collect();
        in_groups.len() == self.all.len()
            && in_groups.iter().all(|id| self.all.contains(id))
            && with_jobs.iter().eq(states.iter().copied().collect::<BTreeSet<_>>())
            && states.len() == with_jobs.len()
    }

    /// Reads the groups of the queue whose keys start with `key`.
    pub(super) async fn read(redis: &mut MultiplexedConnection, key: &str) -> Self {
        let (mut jobs, mut running) = (Vec::new(), vec![BTreeSet::new(); GROUPS.len()]);
        for group in 0..GROUPS.len() {
            let key = format!("{key}:group:{}", group_id(group));
            jobs.push(scores(redis, &key).await);
        }
        let mut command = redis::cmd("ZRANGE");
        let members = command.arg(format!("{key}:grouped_running")).arg(0).arg(-1);
        let members: Vec<String> = members.query_async(redis).await.unwrap();
        for member in &members {
            let (group, id) = member.split_once(' ').unwrap();
            let at = (0..GROUPS.len()).find(|&at| group_id(at).to_string() == group).unwrap();
            running[at].insert(id.parse().unwrap());
        }
        Self {
            jobs,
            all: scores(redis, &format!("{key}:grouped")).await.into_keys().collect(),
            running,
            turns: times(redis, &format!("{key}:runnable")).await,
            delayed: times(redis, &format!("{key}:delayed_groups")).await,
            blocked: times(redis, &format!("{key}:blocked_groups")).await,
            rates: times(redis, &format!("{key}:rates")).await,
            idle: times(redis, &format!("{key}:idle_groups")).await,
        }
    }

    pub(super) fn of(expected: &Expected) -> Self {
        let delayed = expected.delayed.iter().map(|(&group, &at)| (group, at as f64)).collect();
        Self {
            jobs: expected.jobs.iter().map(places).collect(),
            all: expected.jobs.iter().flatten().map(|&(.., id)| id).collect(),
            running: expected.running.to_vec(),
            turns: by_name(&expected.starts),
            delayed: by_name(&delayed),
            blocked: by_name(&expected.blocked),
            rates: by_name(&expected.arrivals),
            idle: by_name(&expected.ended),
        }
    }
}

/// The jobs of a group of the model, with their places.
fn places(jobs: &BTreeSet<(usize, u64, JobId)>) -> BTreeMap<JobId, u64> {
    jobs.iter().map(|&(rank, number, id)| (id, ((rank as u64) << 50) + number)).collect()
}

fn by_name(times: &BTreeMap<usize, f64>) -> BTreeMap<String, f64> {
    times.iter().map(|(&group, &time)| (name_of(group), time)).collect()
}

/// Reads groups with times.
pub(super) async fn times(redis: &mut MultiplexedConnection, key: &str) -> BTreeMap<String, f64> {
    let mut command = redis::cmd("ZRANGE");
    command.arg(key).arg(0).arg(-1).arg("WITHSCORES").query_async(redis).await.unwrap()
}

/// Gives the groups of the queues their rules, in a key space with that prefix.
pub(crate) async fn set_rules(redis: &mut MultiplexedConnection, prefix: &str) {
    let mut pipeline = redis::pipe();
    pipeline.cmd("HSET").arg(format!("{prefix}:{{0}}:limits")).arg(SHARED_NAME).arg(shared());
    for (number, queue) in QUEUES.iter().enumerate() {
        let key = format!("{prefix}:{{0}}:queue:{queue}:rules");
        if let Some(limit) = limit_of(number) {
            pipeline.cmd("HSET").arg(&key).arg("queue").arg(limit);
            pipeline.cmd("SADD").arg(format!("{prefix}:{{0}}:queues:side")).arg(queue);
        }
        for (number, group) in GROUPS.iter().enumerate() {
            pipeline.cmd("HSET").arg(&key).arg(group_id(number).to_string()).arg(group.rule());
        }
    }
    let () = pipeline.query_async(redis).await.unwrap();
}
