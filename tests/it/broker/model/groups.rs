//! Groups take turns: start-time fair queueing, as `lua/groups.lua` describes it. Their rules limit what runs and starts.

use super::*;
use crate::broker::operation::{
    GROUPS, LIMIT, LIMITED, Limit, SHARED, SHARING, group_id, limit_of,
};

const COUNT: usize = GROUPS.len();
/// The place of the queue itself beside those of its groups.
pub(super) const WHOLE: usize = COUNT;

/// The name of a group, or of the queue.
pub(crate) fn name_of(group: usize) -> String {
    if group == WHOLE { "queue".to_owned() } else { group_id(group).to_string() }
}

/// The groups of a queue. A turn starts at a virtual time, and takes 1/weight of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Groups {
    /// The jobs of each group that wait, by priority and number.
    pub(crate) jobs: [BTreeSet<(usize, u64, JobId)>; COUNT],
    /// The jobs of each group that run.
    pub(crate) running: [BTreeSet<JobId>; COUNT],
    /// How many jobs were numbered.
    submitted: u64,
    /// When the next turn starts of each group that has jobs and does not wait for something else.
    pub(crate) starts: BTreeMap<usize, f64>,
    /// When the rate of a group allows the next start.
    pub(crate) delayed: BTreeMap<usize, u64>,
    /// When the next turn starts of a group as many of whose jobs run as may.
    pub(crate) blocked: BTreeMap<usize, f64>,
    /// When the last turn ended of each group without jobs, or that waits for its rate, as long as that matters.
    pub(crate) ended: BTreeMap<usize, f64>,
    /// The theoretical arrival time of GCRA; that of the limit of the queue as [`WHOLE`].
    pub(crate) arrivals: BTreeMap<usize, f64>,
    /// The start of the last turn.
    now: f64,
    /// When the last turn of jobs without a group ended.
    plain_ended: f64,
}

/// How much later than the last turn given a group starts that had no jobs.
const LATER: f64 = 0.25;

/// A turn; one of jobs without a group has how many of these are left.
#[derive(Debug, Clone, Copy)]
struct Turn {
    group: Option<usize>,
    start: f64,
    left: usize,
}

/// Inserts a turn behind those that start no later.
fn insert(turns: &mut Vec<Turn>, turn: Turn) {
    let at = turns.iter().rposition(|other| other.start <= turn.start).map_or(0, |at| at + 1);
    turns.insert(at, turn);
}

/// How many jobs may start by a limit.
fn room((concurrency, gap, burst): Limit, running: usize, arrival: Option<f64>, now: u64) -> usize {
    let arrival = arrival.unwrap_or(0.0).max(now as f64);
    let starts = f64::from(burst) - (arrival - now as f64) / f64::from(gap);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most the burst"
    )]
    concurrency.saturating_sub(running).min(starts.max(0.0).floor() as usize)
}

/// The arrival time after that many starts.
fn arrival_after((_, gap, _): Limit, arrival: Option<f64>, count: usize, now: u64) -> f64 {
    arrival.unwrap_or(0.0).max(now as f64) + count as f64 * f64::from(gap)
}

impl Groups {
    /// The number of a new job.
    pub(super) fn number(&mut self) -> u64 {
        self.submitted += 1;
        self.submitted
    }

    pub(super) fn enter(&mut self, group: usize, (lane, number): (usize, u64), id: JobId) {
        let waits = self.delayed.contains_key(&group) || self.blocked.contains_key(&group);
        if !waits && !self.starts.contains_key(&group) {
            self.give_turn(group, LATER);
        }
        self.jobs[group].insert((lane - 1, number, id));
    }

    fn give_turn(&mut self, group: usize, later: f64) {
        let ended = self.ended.remove(&group).unwrap_or(0.0);
        self.starts.insert(group, (self.now + later).max(ended));
    }

    /// A canceled job costs its group nothing.
    pub(super) fn leave(&mut self, group: usize, id: JobId) {
        self.jobs[group].retain(|&(.., other)| other != id);
        if self.jobs[group].is_empty() {
            self.delayed.remove(&group);
            if let Some(start) = self.starts.remove(&group).or(self.blocked.remove(&group)) {
                self.ended.insert(group, start);
            }
        }
    }

    /// A job that ran makes room for another.
    pub(super) fn stop(&mut self, group: usize, id: JobId) {
        self.running[group].remove(&id);
        self.unblock(group);
    }

    /// Lets a group try again of which a job no longer runs, or no longer waits to run alone.
    pub(super) fn unblock(&mut self, group: usize) {
        if let Some(start) = self.blocked.remove(&group) {
            self.starts.insert(group, self.now.max(start));
        }
    }

    /// Gives groups turns whose rate allows another start.
    pub(super) fn promote(&mut self, now: u64) {
        let due = self.delayed.iter().filter(|&(_, &at)| at <= now).map(|(&group, _)| group);
        for group in due.collect::<Vec<_>>() {
            self.delayed.remove(&group);
            self.give_turn(group, 0.0);
        }
    }

    /// When a group may start a job; `None` once another ends.
    pub(super) fn may_start(&self, group: usize, now: u64) -> Option<u64> {
        let rule = &GROUPS[group];
        if rule.concurrency.is_some_and(|most| self.running[group].len() >= most) {
            return None;
        }
        let Some((gap, burst)) = rule.rate else { return Some(now) };
        let arrival = self.arrivals.get(&group).copied().unwrap_or(0.0);
        let at = arrival - f64::from(burst - 1) * f64::from(gap);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
        Some(now.max(at.max(0.0).ceil() as u64))
    }

    pub(super) fn start(&mut self, group: usize, id: JobId, now: u64) {
        self.running[group].insert(id);
        if let Some((gap, _)) = GROUPS[group].rate {
            let arrival = self.arrivals.entry(group).or_default();
            *arrival = arrival.max(now as f64) + f64::from(gap);
        }
    }

    /// Forgets two entries that no longer matter for each turn that may come.
    fn forget(&mut self, now: u64, turns: usize) {
        let name = |group: &usize| name_of(*group);
        let first = |times: &BTreeMap<usize, f64>, passed: f64| {
            let mut groups: Vec<_> = times.iter().filter(|&(_, &time)| time <= passed).collect();
            groups.sort_by(|a, b| a.1.total_cmp(b.1).then_with(|| name(a.0).cmp(&name(b.0))));
            groups.into_iter().take(2 * turns).map(|(&group, _)| group).collect::<Vec<_>>()
        };
        for group in first(&self.ended, self.now) {
            self.ended.remove(&group);
        }
        for group in first(&self.arrivals, now as f64) {
            self.arrivals.remove(&group);
        }
    }

    /// Forgets what no longer matters.
    pub(super) fn tidy(&mut self, now: u64) {
        for group in self.delayed.keys().copied().collect::<Vec<_>>() {
            self.delayed.remove(&group);
            self.give_turn(group, 0.0);
        }
        self.arrivals.retain(|_, &mut arrival| arrival > now as f64);
        if self.jobs.iter().any(|jobs| !jobs.is_empty()) {
            self.ended.retain(|_, &mut ended| ended > self.now);
        } else if self.ended.is_empty() {
            (self.now, self.plain_ended) = (0.0, 0.0);
        } else {
            self.ended.clear();
        }
    }

    /// The turns of all groups, the next first; of those that start together, the one with the lowest id.
    fn turns(&self) -> Vec<Turn> {
        let turn = |(&group, &start): (&usize, &f64)| Turn { group: Some(group), start, left: 0 };
        let mut turns: Vec<_> = self.starts.iter().map(turn).collect();
        let name = |turn: &Turn| turn.group.map(|group| group_id(group).to_string());
        turns.sort_by(|a, b| a.start.total_cmp(&b.start).then_with(|| name(a).cmp(&name(b))));
        turns
    }

    /// When a group may start a job in its turn. Its jobs wait for one of them that waits to run alone.
    fn may_take_turn(&self, group: usize, withheld: Option<usize>, now: u64) -> Option<u64> {
        let is_limited = GROUPS[group].concurrency.is_some() || GROUPS[group].rate.is_some();
        let is_withheld = is_limited && withheld == Some(group);
        self.may_start(group, now).filter(|&at| !is_withheld || at > now)
    }

    /// Puts a turn back if another may come, else its group where it waits.
    fn put_back(&mut self, turns: &mut Vec<Turn>, turn: Turn, withheld: Option<usize>, now: u64) {
        let Some(group) = turn.group else {
            if turn.left > 0 {
                insert(turns, turn);
            }
            return;
        };
        self.starts.remove(&group);
        match self.may_take_turn(group, withheld, now) {
            _ if self.jobs[group].is_empty() => {
                self.ended.insert(group, turn.start);
            }
            None => {
                self.blocked.insert(group, turn.start);
            }
            Some(at) if at > now => {
                self.delayed.insert(group, at);
                self.ended.insert(group, turn.start);
            }
            Some(_) => {
                self.starts.insert(group, turn.start);
                insert(turns, turn);
            }
        }
    }
}

impl Model {
    /// Claims from a queue: from its lanes, or, if it has groups, in turns.
    fn claim_unlimited(
        &mut self,
        worker: WorkerId,
        queue: usize,
        lanes: &[usize],
        want: usize,
    ) -> Vec<ClaimedJob> {
        if want == 0 || self.queues[queue].groups.starts.is_empty() {
            return self.claim_lanes(worker, queue, lanes, want);
        }
        let mut turns = self.queues[queue].groups.turns();
        let mut more = turns.split_off(turns.len().min(want));
        let now_ms = self.now;
        self.queues[queue].groups.forget(now_ms, turns.len());
        let plain = lanes.iter().map(|&lane| self.queues[queue].lanes[lane].len()).sum::<usize>();
        let Groups { now, plain_ended, .. } = self.queues[queue].groups;
        let plain_start = now.max(plain_ended);
        if plain > 0 {
            insert(&mut turns, Turn { group: None, start: plain_start, left: plain });
        }
        let mut claims = Vec::new();
        let reserved = self.give_turns(worker, queue, &mut turns, (&mut claims, want));
        if reserved > 0 {
            let others = self.claim_lanes(worker, queue, lanes, reserved);
            self.queues[queue].groups.plain_ended = plain_start + others.len() as f64;
            claims.extend(others);
        }
        turns.retain(|turn| turn.group.is_some());
        self.give_turns(worker, queue, &mut turns, (&mut claims, want));
        self.give_turns(worker, queue, &mut more, (&mut claims, want));
        claims
    }

    /// The group of the next job that must run alone.
    fn group_that_waits_to_run_alone(&self, queue: usize) -> Option<usize> {
        let queue = &self.queues[queue];
        let id = queue.lanes[SOLITARY].front().filter(|id| !queue.ghosts.contains(id))?;
        self.jobs[id].group.map(|(group, _)| group)
    }

    /// Claims from a queue, within its limits.
    pub(super) fn claim_queue(
        &mut self,
        worker: WorkerId,
        queue: usize,
        lanes: &[usize],
        want: usize,
    ) -> Vec<ClaimedJob> {
        let want = want.min(self.room(queue));
        if want == 0 && limit_of(queue).is_some() {
            return Vec::new();
        }
        let claims = self.claim_unlimited(worker, queue, lanes, want);
        self.count_starts(queue, claims.len());
        claims
    }

    /// Records starts for the limits of a queue.
    pub(super) fn count_starts(&mut self, queue: usize, count: usize) {
        let now = self.now;
        if queue == LIMITED && count > 0 {
            let arrivals = &mut self.queues[queue].groups.arrivals;
            let arrival = arrival_after(LIMIT, arrivals.get(&WHOLE).copied(), count, now);
            arrivals.insert(WHOLE, arrival);
        }
        if SHARING.contains(&queue) && count > 0 {
            self.shared_arrival = Some(arrival_after(SHARED, self.shared_arrival, count, now));
        }
    }

    /// How many jobs of a queue may start by its limits.
    pub(super) fn room(&self, queue: usize) -> usize {
        let running = |queues: &[usize]| self.running_jobs(|job| queues.contains(&job.queue)).len();
        let mut least = usize::MAX;
        if queue == LIMITED {
            let arrival = self.queues[queue].groups.arrivals.get(&WHOLE).copied();
            least = room(LIMIT, running(&[LIMITED]), arrival, self.now);
        }
        if SHARING.contains(&queue) {
            least = least.min(room(SHARED, running(&SHARING), self.shared_arrival, self.now));
        }
        least
    }

    /// Gives turns until enough is claimed or reserved for jobs without a group. Returns how many are reserved.
    fn give_turns(
        &mut self,
        worker: WorkerId,
        queue: usize,
        turns: &mut Vec<Turn>,
        (claims, want): (&mut Vec<ClaimedJob>, usize),
    ) -> usize {
        let (mut reserved, now) = (0, self.now);
        let withheld = self.group_that_waits_to_run_alone(queue);
        while !turns.is_empty() && claims.len() + reserved < want {
            let mut turn = turns.remove(0);
            let groups = &mut self.queues[queue].groups;
            let Some(group) = turn.group else {
                groups.now = groups.now.max(turn.start);
                (reserved, turn.left, turn.start) = (reserved + 1, turn.left - 1, turn.start + 1.0);
                groups.put_back(turns, turn, withheld, now);
                continue;
            };
            if groups.may_take_turn(group, withheld, now) == Some(now) {
                groups.now = groups.now.max(turn.start);
                let (.., id) = groups.jobs[group].pop_first().expect("a group in turn has jobs");
                if !self.expires(id) {
                    self.queues[queue].groups.start(group, id, now);
                    turn.start += 1.0 / f64::from(GROUPS[group].weight);
                    claims.push(self.start(worker, id));
                }
            }
            self.queues[queue].groups.put_back(turns, turn, withheld, now);
        }
        reserved
    }
}
