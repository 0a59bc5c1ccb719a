//! One `[[server]]`: its keys and their meaning.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crunch_common::task::TaskName;
use toml::de::DeTable;

use super::declaration::{command, task_name, values};
use super::file_context::FileContext;
use super::table::{self, Table, Value};
use super::{bytes, duration};
use crate::server::{FileValues, MAX_CONCURRENCY, OomCounter, ServerSpec, Silence};

/// The most children of one server: each is at least two processes of this machine.
const MAX_PROCESSES: u64 = 256;
/// Less memory is no use to any interpreter.
const LEAST_MEMORY: u64 = 1 << 20;
/// How long a child may take to start by default: imports of large packages from a cold disk take tens of seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the `number`-th server; adds mistakes to `table`. `None` if its command cannot be run.
pub(super) fn read(
    table: &mut Table<'_>,
    context: &FileContext,
    number: usize,
) -> Option<ServerSpec> {
    const SECOND: Duration = Duration::from_secs(1);
    let command = command(table, context);
    let name = table.take("name", table::parsed::<TaskName>);
    let name = name.map_or_else(|| format!("server-{number}"), String::from);
    let number = |max: u64| move |value: &Value<'_>| table::number(value, 1..=max);
    let processes = table.take("processes", number(MAX_PROCESSES));
    let concurrency = table.take("concurrency", number(MAX_CONCURRENCY.into()));
    let max_jobs = table.take("max_jobs", number(u64::MAX));
    let max_memory = table.take("max_memory", |value| bytes::at_least(LEAST_MEMORY, value));
    let start_timeout = table.take("start_timeout", |value| duration::at_least(SECOND, value));
    let idle_exit = table.take("idle_exit", |value| duration::at_least(SECOND, value));
    let tasks = file_values(table, context);
    table.refuse_the_rest();
    Some(ServerSpec {
        name,
        command: command?,
        processes: processes.and_then(|it| usize::try_from(it).ok()).unwrap_or(context.slots),
        concurrency: concurrency.and_then(|it| u32::try_from(it).ok()),
        max_jobs,
        max_memory,
        start_timeout: start_timeout.unwrap_or(START_TIMEOUT),
        idle_exit,
        silence: Silence::default(),
        oom_counter: OomCounter::default(),
        tasks,
    })
}

/// `[[server.task]]`: what the file says about tasks of the server.
fn file_values(outer: &mut Table<'_>, context: &FileContext) -> FileValues {
    let tasks = outer.take("task", |value| table::tables("server.task", value)).unwrap_or_default();
    let mut read = BTreeMap::new();
    for (entries, at) in tasks {
        let (name, values) = one_task(outer, (entries, at.clone()), context);
        if let Some(name) = name
            && read.insert(name.clone(), values).is_some()
        {
            outer.note(at, format!("task: {:?} is there twice", name.as_str()));
        }
    }
    read
}

fn one_task(
    outer: &mut Table<'_>,
    (entries, at): (&DeTable<'_>, Range<usize>),
    context: &FileContext,
) -> (Option<TaskName>, crate::task_values::TaskValues) {
    let mut table = Table::new(entries, at);
    let name = table.need("name", task_name).map(|(_, name)| name);
    let values = values(&mut table, context);
    table.refuse_the_rest();
    outer.adopt("task", table);
    (name, values)
}
