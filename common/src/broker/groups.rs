//! The groups of a queue, for operators: which have jobs that wait, and their rules. `lua/groups.lua` keeps to the rules.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::error::Error;
use super::functions::Function;
use super::group_rule::GroupRule;
use super::keys::Keys;
use super::placement::home_of;
use super::{Broker, GroupId, reply};
use crate::job::{GroupName, JobId, JobOptions};
use crate::queue::QueueName;
use crate::time::Timestamp;

/// Why no job of a group that wait can start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// It takes its turns.
    Runnable,
    /// Its rate allows the next start at this time.
    Delayed(Timestamp),
    /// As many of its jobs run as may.
    Blocked,
    /// None of its jobs wait.
    Idle,
}

/// A group of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSummary {
    /// Its id.
    pub id: GroupId,
    /// Its name; `None` if its jobs were claimed before it could be read.
    pub name: Option<GroupName>,
    /// Its rule, or that for each group of the queue.
    pub rule: GroupRule,
    /// Whether the rule is its own.
    pub has_own_rule: bool,
    /// Whether its jobs take turns now.
    pub state: GroupState,
    /// How many of its jobs wait.
    pub queued: u64,
    /// How many of its jobs run.
    pub running: u64,
    /// How long its next job has waited since its submission.
    pub next_age: Option<Duration>,
}

/// Some groups of a queue: in the order of their turns, then those that wait for their rate, then those that wait for the end
/// of a job, then those that only have a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPage {
    /// The groups.
    pub items: Vec<GroupSummary>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<u64>,
    /// How many groups have jobs that wait.
    pub waiting: u64,
    /// The rule for each group without one.
    pub each: Option<GroupRule>,
}

/// What became of a change of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleChange {
    /// It applies from the group's next turn.
    Done,
    /// There is no such queue.
    UnknownQueue,
    /// As many groups of the queue as may have a rule have one: a thousand.
    TooMany,
}

impl Broker {
    /// Sets the rule of a group, or with `None` for `group` that for each group without one; `None` for `rule` removes it. A
    /// queue that is `declared` by a task exists before its first job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn set_group_rule(
        &self,
        queue: &QueueName,
        declared: bool,
        group: Option<&GroupName>,
        rule: Option<&GroupRule>,
    ) -> Result<RuleChange, Error> {
        let known = declared || self.queue(queue).await?.is_some();
        let partition = home_of(queue, self.settings.space.len());
        let mut call = self.settings.call(Function::Rule, partition);
        let id = group.map_or("each".to_owned(), |group| GroupId::of(group).to_string());
        call.arg(queue.as_str()).arg(id);
        call.arg(
            rule.map(|rule| rule.text(group.map_or("", GroupName::as_str))).unwrap_or_default(),
        );
        call.arg(if known { "1" } else { "" });
        let code = self.pooled(partition, redis::pipe().add_command(call)).await?.pop();
        match reply::integer(&code.unwrap_or(Value::Nil))? {
            1 => Ok(RuleChange::Done),
            0 => Ok(RuleChange::UnknownQueue),
            -1 => Ok(RuleChange::TooMany),
            code => Err(Error::unreadable(format!("rule returned {code}"))),
        }
    }

    /// Returns a page of the groups of a queue, after the first `skip`. Groups that take turns meanwhile may be repeated or
    /// missed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn groups_of(
        &self,
        queue: &QueueName,
        skip: u64,
        limit: usize,
    ) -> Result<GroupPage, Error> {
        let partition = home_of(queue, self.settings.space.len());
        let keys = self.settings.keys(partition);
        let mut pipeline = redis::pipe();
        for key in states_of(keys, queue) {
            pipeline.cmd("ZCARD").arg(key);
        }
        pipeline.cmd("HGETALL").arg(keys.rules(queue)).cmd("TIME");
        let replies = self.pooled(partition, &pipeline).await?;
        let [runnable, delayed, blocked, rules, time] = reply::fields(Value::Array(replies))?;
        let now_ms = reply::time_ms(time)?;
        let rules = Rules::read(rules)?;
        let counts = [&runnable, &delayed, &blocked].map(reply::unsigned);
        let counts = counts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let waiting: u64 = counts.iter().sum();
        let mut range = Range { first: skip, left: limit as u64 };
        let mut pipeline = redis::pipe();
        for (key, &count) in states_of(keys, queue).iter().zip(&counts) {
            let (first, most) = range.take(count);
            // An empty range if there is none to read: -1 would be the end of the set.
            let range = if most == 0 { (1, 0) } else { (first, first + most - 1) };
            pipeline.cmd("ZRANGE").arg(key).arg(range.0).arg(range.1).arg("WITHSCORES");
        }
        let mut found = Vec::new();
        let states = self.pooled(partition, &pipeline).await?;
        for (groups, state) in states.into_iter().zip([to_runnable, to_delayed, to_blocked]) {
            for group in reply::array(groups)?.chunks_exact(2) {
                let score: f64 = reply::parsed(group[1].clone())?;
                found.push((reply::parsed::<GroupId>(group[0].clone())?, state(score)));
            }
        }
        let mut items = self.waiting_groups(keys, queue, &found, now_ms).await?;
        items.iter_mut().for_each(|item| rules.apply_to(item));
        let mut count = rules.of.len() as u64;
        let mut idle = Vec::new();
        if range.left > 0 {
            idle = self.idle_groups(keys, queue, &rules).await?;
            count = idle.len() as u64;
        }
        let (first, most) = range.take(idle.len() as u64);
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        items.extend(idle.into_iter().skip(place(first)).take(place(most)));
        let end = skip + items.len() as u64;
        let next = (end < waiting + count && !items.is_empty()).then_some(end);
        Ok(GroupPage { items, next, waiting, each: rules.each })
    }

    /// Returns whether a group takes turns; it is idle if none of its jobs wait.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn group_state(
        &self,
        queue: &QueueName,
        group: &GroupName,
    ) -> Result<GroupState, Error> {
        let partition = home_of(queue, self.settings.space.len());
        let mut pipeline = redis::pipe();
        for key in states_of(self.settings.keys(partition), queue) {
            pipeline.cmd("ZSCORE").arg(key).arg(GroupId::of(group).to_string());
        }
        let scores = self.pooled(partition, &pipeline).await?;
        for (score, state) in scores.into_iter().zip([to_runnable, to_delayed, to_blocked]) {
            if score != Value::Nil {
                return Ok(state(reply::parsed(score)?));
            }
        }
        Ok(GroupState::Idle)
    }

    /// Reads groups that have jobs that wait.
    async fn waiting_groups(
        &self,
        keys: &Keys,
        queue: &QueueName,
        groups: &[(GroupId, GroupState)],
        now_ms: u64,
    ) -> Result<Vec<GroupSummary>, Error> {
        let mut pipeline = redis::pipe();
        for &(group, _) in groups {
            let key = keys.group(queue, group);
            pipeline.cmd("ZCARD").arg(&key).cmd("ZRANGE").arg(&key).arg(0).arg(0);
            count_running(&mut pipeline, keys, queue, group);
        }
        let replies = self.pooled(keys.partition(), &pipeline).await?;
        let (mut items, mut first_jobs) = (Vec::new(), redis::pipe());
        for (&(id, state), replies) in groups.iter().zip(replies.chunks_exact(3)) {
            let next = reply::array(replies[1].clone())?.pop();
            let next: Option<JobId> = next.map(reply::parsed).transpose()?;
            let age = |id: JobId| now_ms.saturating_sub(id.created_at().unix_ms());
            // A group whose jobs were claimed meanwhile has none: then something is read that does not exist.
            let job = next.map_or_else(|| keys.mark(), |id| keys.job(id));
            first_jobs.cmd(if next.is_some() { "HGET" } else { "ZSCORE" }).arg(job).arg("spec");
            items.push(GroupSummary {
                id,
                name: None,
                rule: GroupRule::default(),
                has_own_rule: false,
                state,
                queued: reply::unsigned(&replies[0])?,
                running: reply::unsigned(&replies[2])?,
                next_age: next.map(age).map(Duration::from_millis),
            });
        }
        let specs = self.pooled(keys.partition(), &first_jobs).await?;
        for (item, spec) in items.iter_mut().zip(specs) {
            item.name = reply::text(spec).ok().and_then(|spec| group_in(&spec));
        }
        Ok(items)
    }

    /// Returns the groups that have a rule and no jobs that wait, by name.
    async fn idle_groups(
        &self,
        keys: &Keys,
        queue: &QueueName,
        rules: &Rules,
    ) -> Result<Vec<GroupSummary>, Error> {
        let mut pipeline = redis::pipe();
        for &group in rules.of.keys() {
            pipeline.cmd("EXISTS").arg(keys.group(queue, group));
            count_running(&mut pipeline, keys, queue, group);
        }
        let replies = self.pooled(keys.partition(), &pipeline).await?;
        let mut idle = Vec::new();
        for ((&id, (rule, name)), replies) in rules.of.iter().zip(replies.chunks_exact(2)) {
            if reply::integer(&replies[0])? == 0 {
                idle.push(GroupSummary {
                    id,
                    name: name.clone(),
                    rule: rule.clone(),
                    has_own_rule: true,
                    state: GroupState::Idle,
                    queued: 0,
                    running: reply::unsigned(&replies[1])?,
                    next_age: None,
                });
            }
        }
        idle.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(idle)
    }
}

/// Asks how many jobs of a group run, as `lua/groups.lua` does.
fn count_running(pipeline: &mut Pipeline, keys: &Keys, queue: &QueueName, group: GroupId) {
    pipeline.cmd("ZLEXCOUNT").arg(keys.grouped_running(queue));
    pipeline.arg(format!("[{group} ")).arg(format!("({group}!"));
}

/// The sets in one of which a group with jobs that wait is.
fn states_of(keys: &Keys, queue: &QueueName) -> [String; 3] {
    [keys.runnable(queue), keys.delayed_groups(queue), keys.blocked_groups(queue)]
}

const fn to_runnable(_start: f64) -> GroupState {
    GroupState::Runnable
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole milliseconds")]
const fn to_delayed(time: f64) -> GroupState {
    GroupState::Delayed(Timestamp::from_unix_ms(time as u64))
}

const fn to_blocked(_start: f64) -> GroupState {
    GroupState::Blocked
}

/// A range of several lists, one after the other.
struct Range {
    first: u64,
    left: u64,
}

impl Range {
    /// Returns where to start in the next list, and how many of it to read.
    fn take(&mut self, count: u64) -> (u64, u64) {
        let first = self.first.min(count);
        let most = self.left.min(count - first);
        (self.first, self.left) = (self.first - first, self.left - most);
        (first, most)
    }
}

/// The rules of a queue.
struct Rules {
    each: Option<GroupRule>,
    of: BTreeMap<GroupId, (GroupRule, Option<GroupName>)>,
}

impl Rules {
    /// Parses them; what cannot be read is none.
    fn read(reply: Value) -> Result<Self, Error> {
        let mut rules = Self { each: None, of: BTreeMap::new() };
        for pair in reply::array(reply)?.chunks_exact(2) {
            let (Ok(group), Ok(text)) =
                (reply::text(pair[0].clone()), reply::text(pair[1].clone()))
            else {
                continue;
            };
            match (group.parse(), GroupRule::read(&text)) {
                (Ok(id), Some((rule, name))) => {
                    drop(rules.of.insert(id, (rule, name.parse().ok())))
                }
                (Err(_), Some((rule, _))) if group == "each" => rules.each = Some(rule),
                _ => {}
            }
        }
        Ok(rules)
    }

    fn apply_to(&self, item: &mut GroupSummary) {
        if let Some((rule, name)) = self.of.get(&item.id) {
            (item.rule, item.has_own_rule) = (rule.clone(), true);
            item.name = item.name.take().or_else(|| name.clone());
        } else if let Some(rule) = &self.each {
            item.rule = rule.clone();
        }
    }
}

/// The group that a job's `spec` names.
fn group_in(spec: &str) -> Option<GroupName> {
    let options = spec.splitn(3, ' ').nth(2)?;
    serde_json::from_str::<JobOptions>(options).ok()?.group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_continues_in_the_next_list() {
        let mut range = Range { first: 5, left: 4 };
        assert_eq!([3, 4, 10].map(|count| range.take(count)), [(3, 0), (2, 2), (0, 2)]);
    }
}
