//! One `[[schedule]]`: its keys and their meaning. What the jobs of a schedule may contain is checked by the API that
//! submits them.

use std::ops::Range;
use std::time::Duration;

use crunch_common::broker::MAX_SCHEDULE_PAYLOAD;
use crunch_common::job::GroupName;
use crunch_common::queue::QueueName;
use crunch_common::schedule::{
    CronLine, EXCLUDED_OPTIONS, InvalidTiming, Missed, MissedPolicy, Overlap, Rule, Timing, Zone,
};
use crunch_common::time::Timestamp;
use toml::de::{DeTable, DeValue};

use super::declaration::{queue_name, task_name};
use super::problem::Mistake;
use super::table::{self, Table, Value, mistake};
use super::{duration, json};
use crate::schedules::FileSchedule;

/// Reads a schedule; adds mistakes to `table`. `None` if there are some.
pub(super) fn read(table: &mut Table<'_>) -> Option<FileSchedule> {
    let name = table.need("name", table::parsed);
    let task = table.need("task", task_name);
    let timing = timing(table);
    let missed = missed(table);
    let overlap: Option<Overlap> = table.take("overlap", table::parsed);
    let payload = table.take("payload", |value| json::text(value, MAX_SCHEDULE_PAYLOAD));
    let (job, queue, group) = job(table);
    table.refuse_the_rest();
    let timing = timing.filter(|_| table.mistakes.is_empty())?;
    Some(FileSchedule {
        name: name?.1,
        task: task?.1,
        queue,
        group,
        job,
        payload: payload.unwrap_or_else(|| "null".to_owned()),
        timing,
        missed,
        overlap: overlap.unwrap_or_default(),
    })
}

fn timing(table: &mut Table<'_>) -> Option<Timing> {
    let rule = rule(table);
    let time_zone: Option<(Range<usize>, Zone)> = table.take_spanned("time_zone", table::parsed);
    let jitter = table.take("jitter", jitter);
    let start_at = table.take("start_at", time);
    let end_at = table.take_spanned("end_at", time);
    if let Some((end, start)) = end_at.as_ref().zip(start_at)
        && end.1 < start
    {
        table.note(end.0.clone(), "end_at: is before start_at".to_owned());
    }
    let (at, rule) = rule?;
    if let (Rule::Every(_), Some((at, _))) = (&rule, &time_zone) {
        table.note(at.clone(), "time_zone: an interval has no time zone".to_owned());
    }
    let timing = Timing {
        rule,
        time_zone: time_zone.map(|(_, zone)| zone).unwrap_or_default(),
        jitter: jitter.unwrap_or_default(),
        start_at,
        end_at: end_at.map(|(_, end)| end),
    };
    // Whether a tick is left is decided when the schedule is put into Redis: an end that is over is no mistake.
    let any = timing.first_after(Timestamp::from_unix_ms(0));
    if let Err(error @ InvalidTiming::Never) = any {
        table.note(at, format!("cron: {error}"));
    }
    Some(timing)
}

fn rule(table: &mut Table<'_>) -> Option<(Range<usize>, Rule)> {
    if !table.has("cron") && !table.has("every") {
        table.note_missing("cron or every is missing");
    }
    let line: Option<(_, CronLine)> = table.take_spanned("cron", table::parsed);
    let every =
        table.take_spanned("every", |value| duration::at_least(Timing::MIN_INTERVAL, value));
    if table.has("cron")
        && let Some((at, _)) = every
    {
        table.note(at, "every: only one of cron and every may be given".to_owned());
        return None;
    }
    line.map(|(at, line)| (at, Rule::Cron(line)))
        .or(every.map(|(at, interval)| (at, Rule::Every(interval))))
}

fn jitter(value: &Value<'_>) -> Result<Duration, Mistake> {
    let jitter = duration::at_least(Duration::ZERO, value)?;
    match jitter > Timing::MAX_JITTER {
        true => Err(mistake(value, "expected at most a day (24h)")),
        false => Ok(jitter),
    }
}

/// A time of TOML, or text.
fn time(value: &Value<'_>) -> Result<Timestamp, Mistake> {
    let text = match value.get_ref() {
        DeValue::Datetime(time) => time.to_string(),
        _ => table::text(value)?.to_owned(),
    };
    text.parse().map_err(|error| mistake(value, format!("{error}")))
}

fn missed(table: &mut Table<'_>) -> Missed {
    let policy: Option<MissedPolicy> = table.take("missed", table::parsed);
    let most = 1..=Missed::MAX_TICKS.into();
    let at_most = table.take("missed_at_most", |value| table::number(value, most));
    let within = table.take("missed_within", |value| duration::at_least(Missed::MIN_WITHIN, value));
    Missed {
        policy: policy.unwrap_or_default(),
        at_most: at_most.and_then(|it| it.try_into().ok()).unwrap_or(Missed::DEFAULT_TICKS),
        within: within.unwrap_or(Missed::DEFAULT_WITHIN),
    }
}

/// The options of the jobs as JSON; and of them the queue and the group.
fn job(outer: &mut Table<'_>) -> (String, Option<QueueName>, Option<GroupName>) {
    let read = |value| Ok((table::table(value)?, json::text(value, MAX_SCHEDULE_PAYLOAD)?));
    let Some((at, (entries, text))) = outer.take_spanned("job", read) else {
        return ("{}".to_owned(), None, None);
    };
    check_excluded(outer, entries);
    let mut table = Table::new(entries, at);
    let queue = table.take("queue", queue_name);
    let group = table.take("group", table::parsed);
    outer.adopt("job", table);
    (text, queue, group)
}

fn check_excluded(outer: &mut Table<'_>, entries: &DeTable<'_>) {
    for key in entries.keys().filter(|key| EXCLUDED_OPTIONS.contains(&key.get_ref().as_ref())) {
        let what = "a schedule decides when its jobs start, and that each is one";
        outer.note(key.span(), format!("job: {}: {what}", key.get_ref()));
    }
}

#[cfg(test)]
mod tests;
