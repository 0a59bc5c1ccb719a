//! `groups`: the groups of a queue, and their rules.

use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Session;
use super::list::finish;
use crate::client::Request;
use crate::completion;
use crate::documents::{Group, GroupPage, Rate, Rule, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::{age, parse_duration, short_duration};
use crate::output::{Cell, Style, Table, log};

/// The groups of a queue, or one whose rule changes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The queue
    #[arg(value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: String,
    /// The group whose rule is set or removed
    #[arg(value_name = "GROUP", conflicts_with = "limit")]
    group: Option<String>,
    /// Instead of one group: the rule of each group without one of its own; alone, shows it
    #[arg(long, conflicts_with_all = ["group", "limit"])]
    each: bool,
    /// Remove the rule
    #[arg(long, conflicts_with_all = ["weight", "concurrency", "rate", "burst", "max_queued"])]
    remove: bool,
    /// At most this many groups, the next ones to take a turn first
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    rule: RuleArguments,
}

/// The rule that is set; it replaces the one before.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The rule, which replaces the one before")]
struct RuleArguments {
    /// Its share of the turns: a group with 2 gets two while others get one
    #[arg(long, value_name = "NUMBER")]
    weight: Option<f64>,
    /// How many of its jobs may run at the same time
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    #[command(flatten)]
    rate: RateArguments,
    /// How many of its jobs may wait: others are refused
    #[arg(long, value_name = "N")]
    max_queued: Option<u32>,
}

/// How many jobs may start in a time.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct RateArguments {
    /// How many of its jobs may start in a time, such as 100/60s
    #[arg(long, value_name = "N/DURATION", value_parser = parse_rate)]
    rate: Option<(u32, Duration)>,
    /// How many of them may start at once after a pause
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<u32>,
}

impl RateArguments {
    #[cfg(test)]
    pub(super) fn of(rate: &str) -> Self {
        Self { rate: Some(parse_rate(rate).unwrap()), burst: None }
    }

    /// As a member of a body; null if none is given. Without a burst it has the usual one.
    pub(super) fn body(self) -> Value {
        let Some((starts, per)) = self.rate else { return Value::Null };
        let mut rate = json!({ "starts": starts, "per_ms": per.as_millis() as u64 });
        if let Some(burst) = self.burst {
            rate["burst"] = json!(burst);
        }
        rate
    }
}

/// Parses a number of starts and a time.
fn parse_rate(text: &str) -> Result<(u32, Duration), String> {
    let wrong = || "expected a number and a duration, such as 100/60s".to_owned();
    let (starts, per) = text.split_once('/').ok_or_else(wrong)?;
    Ok((starts.parse().map_err(|_| wrong())?, parse_duration(per).map_err(|_| wrong())?))
}

impl RuleArguments {
    /// As the body of a request; `None` if nothing is given.
    fn body(&self) -> Option<Value> {
        body([
            ("weight", json!(self.weight)),
            ("concurrency", json!(self.concurrency)),
            ("rate", self.rate.body()),
            ("max_queued", json!(self.max_queued)),
        ])
    }
}

/// A body with the members that are given; `None` if none is.
pub(super) fn body<const N: usize>(all: [(&str, Value); N]) -> Option<Value> {
    let given = all.into_iter().filter(|(_, value)| !value.is_null());
    let members: Map<_, _> = given.map(|(name, value)| (name.to_owned(), value)).collect();
    (!members.is_empty()).then_some(Value::Object(members))
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let Arguments { queue, group, each, remove, rule, .. } = arguments;
    let path = match group {
        Some(group) => vec!["queues", queue, "groups", group],
        None => vec!["queues", queue, "groups"],
    };
    let is_named = group.is_some() || *each;
    match rule.body() {
        _ if *remove && is_named => {
            session.client.send(&Request::new("DELETE", &path))?;
            Ok(Exit::Done)
        }
        Some(body) if is_named => set(session, &path, &body),
        None if *each => show_each(session, &path),
        None if !is_named && !remove => list(session, &path, arguments.limit),
        None if !remove => Err(Error::usage(
            "there is no rule to set",
            "add --weight, --concurrency, --rate, --max-queued or --remove",
        )),
        _ => Err(Error::usage(
            "there is no group whose rule would change",
            "name the group after the queue, or use --each for the rule of each group without one",
        )),
    }
}

fn set(session: &mut Session<'_>, path: &[&str], body: &Value) -> Result<Exit, Error> {
    let body = body.to_string().into_bytes();
    let request = Request::new("PUT", path).body("application/json", body);
    let document: Box<RawValue> = session.client.read(&request)?;
    show(session, &document)
}

/// Shows the rule for each group.
fn show_each(session: &mut Session<'_>, path: &[&str]) -> Result<Exit, Error> {
    let page: GroupPage = session.client.read(&Request::get(path).query("limit", &1))?;
    match page.each {
        Some(rule) => show(session, &rule),
        None => {
            log::hint("there is no rule for each group: set one with --each --concurrency 2");
            Ok(Exit::Done)
        }
    }
}

const RULE_HEADER: [&str; 4] = ["WEIGHT", "CONCURRENCY", "RATE", "MAX QUEUED"];

fn show(session: &mut Session<'_>, rule: &RawValue) -> Result<Exit, Error> {
    if session.output.json {
        session.output.document(rule)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&RULE_HEADER);
    table.row(cells(&read(rule)?));
    finish(session, &table, "")
}

fn cells(rule: &Rule) -> [Cell; 4] {
    let number = |number: Option<u64>| number.map_or_else(|| Cell::text(""), Cell::number);
    [
        Cell::text(rule.weight.to_string()),
        number(rule.concurrency),
        Cell::optional(rule.rate.as_ref().map(rate)),
        number(rule.max_queued),
    ]
}

/// As it is given on the command line.
pub(super) fn rate(rate: &Rate) -> String {
    let per = short_duration(Duration::from_millis(rate.per_ms));
    let burst = if rate.burst > 1 { format!(" burst {}", rate.burst) } else { String::new() };
    format!("{}/{per}{burst}", rate.starts)
}

const HEADER: [&str; 11] = [
    "GROUP",
    "STATE",
    "QUEUED",
    "RUNNING",
    "OLDEST",
    "NEXT START",
    "RULE",
    "WEIGHT",
    "CONCURRENCY",
    "RATE",
    "MAX QUEUED",
];

fn list(session: &mut Session<'_>, path: &[&str], limit: Option<usize>) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    let limit = limit.unwrap_or(usize::MAX);
    // A page is no larger than what is shown of it.
    let request = Request::get(path).query("limit", &limit.clamp(1, 1000));
    for document in session.client.items(request).take(limit) {
        let document = document?;
        if session.output.json {
            session.output.document(&document)?;
        } else {
            table.row(row(&read(&document)?));
        }
    }
    finish(session, &table, "no groups: no job that waits names one, and none has a rule")
}

fn row(group: &Group) -> Vec<Cell> {
    let style = match group.state.as_str() {
        "runnable" => Style::Good,
        "delayed" | "blocked" => Style::Busy,
        _ => Style::Plain,
    };
    let oldest = group.next_age_ms.map(Duration::from_millis);
    let oldest = oldest.map(|it| Cell::shown_as(age(it), it.as_millis().to_string()));
    let mut cells = vec![
        Cell::text(group.name.as_ref().unwrap_or(&group.id)),
        Cell::text(&group.state).styled(style),
        Cell::number(group.queued),
        Cell::number(group.running),
        oldest.unwrap_or_else(|| Cell::text("")),
        Cell::time(group.next_start_at),
        Cell::text(if group.own_rule { "own" } else { "" }),
    ];
    cells.extend(self::cells(&group.rule));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_the_members_of_the_api() {
        assert_eq!(RuleArguments::default().body(), None);
        let rule = RuleArguments {
            weight: Some(2.5),
            rate: RateArguments::of("100/60s"),
            max_queued: Some(7),
            ..RuleArguments::default()
        };
        let expected =
            json!({ "weight": 2.5, "max_queued": 7, "rate": { "starts": 100, "per_ms": 60_000 } });
        assert_eq!(rule.body(), Some(expected));
        for wrong in ["", "100", "/60s", "100/", "x/60s", "-1/60s", "100/60x"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_shown_as_it_is_given() {
        let shown = |starts, per_ms, burst| rate(&Rate { starts, per_ms, burst });
        assert_eq!(shown(100, 60_000, 1), "100/1m");
        assert_eq!(shown(1, 1500, 5), "1/1s500ms burst 5");
    }
}
