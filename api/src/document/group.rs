//! A group of a queue, and the rules that apply to groups and queues.

use crunch_common::broker::{
    GroupPage, GroupRule, GroupState, GroupSummary, LimitState, LimitStatus, Rate, SharedLimit,
};
use crunch_common::queue::QueueName;
use crunch_common::time::{Timestamp, whole_ms};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::{GROUP_STATES, GroupStateWord, LIMIT_STATES, LimitStateWord};

/// A group of a queue: jobs that share its turns.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Group)]
pub(crate) struct GroupDocument {
    id: String,
    /// Null if its jobs were claimed before it could be read.
    name: Option<String>,
    /// Its share of the turns, relative to the other groups.
    weight: f64,
    /// How many of its jobs may run at the same time; null for any number.
    concurrency: Option<u32>,
    /// How many of its jobs may start in a time; null for any number.
    rate: Option<RateDocument>,
    /// How many of its jobs may wait; null for as many as the queue allows.
    max_queued: Option<u32>,
    /// Whether these four are its own rule; otherwise they are the rule for each group, or the default.
    own_rule: bool,
    #[schema(value_type = GroupStateWord)]
    state: &'static str,
    /// When its rate allows the next start; null unless it is delayed.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_start_at: Option<Timestamp>,
    /// How many of its jobs wait.
    queued: u64,
    /// How many of its jobs run.
    running: u64,
    /// Age of its next job.
    next_age_ms: Option<u64>,
}

/// What applies to a group of a queue.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = GroupRule)]
pub(crate) struct RuleDocument {
    /// Its share of the turns, relative to the other groups: 0.001 to 1000.
    weight: f64,
    /// How many of its jobs may run at the same time; null for any number.
    concurrency: Option<u32>,
    /// How many of its jobs may start in a time; null for any number.
    rate: Option<RateDocument>,
    /// How many of its jobs may wait; null for as many as the queue allows.
    max_queued: Option<u32>,
}

/// How many jobs may start in a time.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Rate)]
pub(crate) struct RateDocument {
    starts: u32,
    /// In which time.
    per_ms: u64,
    /// How many may start at once after a pause.
    burst: u32,
}

/// How many jobs of a queue may run, and start in a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueueLimit)]
pub(crate) struct LimitDocument {
    /// How many of its jobs may run at the same time; null for any number.
    concurrency: Option<u32>,
    /// How many of its jobs may start in a time; null for any number.
    rate: Option<RateDocument>,
    /// The limits that it shares with other queues, by their names.
    limits: Vec<String>,
    /// How many of its jobs run.
    running: u64,
    #[schema(value_type = LimitStateWord)]
    state: &'static str,
    /// When its rates allow the next start; null unless it is delayed.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_start_at: Option<Timestamp>,
    /// The shared limit because of which the state is not `open`; null if it is because of its own.
    held_by: Option<String>,
}

/// A limit that queues may share: how many of their jobs may run, and start in a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SharedLimit)]
pub(crate) struct SharedLimitDocument {
    name: String,
    /// How many of their jobs may run at the same time; null for any number.
    concurrency: Option<u32>,
    /// How many of their jobs may start in a time; null for any number.
    rate: Option<RateDocument>,
    /// The queues that share it, as far as the caller may use them.
    queues: Vec<String>,
    /// How many jobs of all its queues run.
    running: u64,
    #[schema(value_type = LimitStateWord)]
    state: &'static str,
    /// When its rate allows the next start; null unless it is delayed.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_start_at: Option<Timestamp>,
}

/// A limit that was removed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RemovedLimit)]
pub(crate) struct RemovedLimitDocument {
    /// The queues that shared it. Their jobs start without it from now on, by the limits that are left.
    queues: Vec<String>,
}

impl RemovedLimitDocument {
    pub(crate) fn new(queues: &[QueueName]) -> Self {
        Self { queues: queues.iter().map(ToString::to_string).collect() }
    }
}

impl SharedLimitDocument {
    /// Those of its queues are left out that the caller may not use.
    pub(crate) fn new(limit: &SharedLimit, may_use: impl Fn(&QueueName) -> bool) -> Self {
        let status = &limit.status;
        let (state, next_start_at) = state_of(status.state);
        let queues = status.queues.iter().filter(|queue| may_use(queue));
        Self {
            name: limit.name.to_string(),
            concurrency: status.limit.concurrency,
            rate: status.limit.rate.map(RateDocument::from),
            queues: queues.map(ToString::to_string).collect(),
            running: status.running,
            state,
            next_start_at,
        }
    }
}

/// A page of the groups of a queue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupPage)]
pub(crate) struct GroupPageDocument {
    items: Vec<GroupDocument>,
    /// Pass it as `cursor` for the next page; null at the end.
    next_cursor: Option<String>,
    /// How many groups have jobs that wait.
    waiting: u64,
    /// The rule for each group without one of its own; null if there is none.
    each: Option<RuleDocument>,
}

impl GroupPageDocument {
    pub(crate) fn new(page: GroupPage, next_cursor: Option<String>) -> Self {
        Self {
            items: page.items.into_iter().map(GroupDocument::from).collect(),
            next_cursor,
            waiting: page.waiting,
            each: page.each.as_ref().map(RuleDocument::from),
        }
    }
}

impl From<GroupSummary> for GroupDocument {
    fn from(group: GroupSummary) -> Self {
        let rule = RuleDocument::from(&group.rule);
        Self {
            id: group.id.to_string(),
            name: group.name.map(|name| name.to_string()),
            weight: rule.weight,
            concurrency: rule.concurrency,
            rate: rule.rate,
            max_queued: rule.max_queued,
            own_rule: group.has_own_rule,
            state: word(group.state),
            next_start_at: match group.state {
                GroupState::Delayed(until) => Some(until),
                GroupState::Runnable | GroupState::Blocked | GroupState::Idle => None,
            },
            queued: group.queued,
            running: group.running,
            next_age_ms: group.next_age.map(whole_ms),
        }
    }
}

/// Returns the word for a state.
const fn word(state: GroupState) -> &'static str {
    let [runnable, delayed, blocked, idle] = GROUP_STATES;
    match state {
        GroupState::Runnable => runnable,
        GroupState::Delayed(_) => delayed,
        GroupState::Blocked => blocked,
        GroupState::Idle => idle,
    }
}

impl From<&GroupRule> for RuleDocument {
    fn from(rule: &GroupRule) -> Self {
        Self {
            weight: rule.weight.get(),
            concurrency: rule.concurrency,
            rate: rule.rate.map(RateDocument::from),
            max_queued: rule.max_queued,
        }
    }
}

/// Returns the word for a state, and when the next start is allowed.
const fn state_of(state: LimitState) -> (&'static str, Option<Timestamp>) {
    let [open, delayed, blocked] = LIMIT_STATES;
    match state {
        LimitState::Open => (open, None),
        LimitState::Delayed(until) => (delayed, Some(until)),
        LimitState::Blocked => (blocked, None),
    }
}

impl From<LimitStatus> for LimitDocument {
    fn from(status: LimitStatus) -> Self {
        let (state, next_start_at) = state_of(status.state);
        let own = status.limit.own;
        Self {
            concurrency: own.concurrency,
            rate: own.rate.map(RateDocument::from),
            limits: status.limit.shared.iter().map(ToString::to_string).collect(),
            running: status.running,
            state,
            next_start_at,
            held_by: status.held_by.map(String::from),
        }
    }
}

impl From<Rate> for RateDocument {
    fn from(rate: Rate) -> Self {
        Self { starts: rate.starts, per_ms: whole_ms(rate.per), burst: rate.burst }
    }
}
