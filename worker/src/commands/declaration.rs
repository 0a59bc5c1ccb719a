//! One `[[task]]`: its keys, their meaning, and the resulting task.

use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::job::MAX_ATTEMPTS_LIMIT;
use crunch_common::queue::QueueName;
use crunch_common::task::{Indexes, TaskDescriptor, TaskName};
use rustix::fs::{Access, access};

use super::file_context::FileContext;
use super::problem::Mistake;
use super::table::{self, Table, Value, mistake};
use super::{duration, program, schema, unique};
use crate::Task;
use crate::process::{Command, Oneshot};
use crate::task_values::TaskValues;

/// A task, its name, and the position of the name in the file.
#[derive(Debug)]
pub(super) struct Declaration {
    pub(super) name: TaskName,
    pub(super) at: Range<usize>,
    /// `None` if its command cannot be run.
    pub(super) task: Option<Task>,
}

/// Reads a task; adds mistakes to `table`.
pub(super) fn read(table: &mut Table<'_>, context: &FileContext) -> Option<Declaration> {
    let name = table.need("name", task_name);
    let command = command(table, context);
    // Without a name the other keys are still checked.
    let values = values(table, context);
    table.refuse_the_rest();
    let (at, name) = name?;
    let task = command.map(|command| {
        let descriptor = values.describe(name.clone());
        let content_type = descriptor.content_type.clone();
        let own = descriptor.max_result.and_then(|bytes| usize::try_from(bytes).ok());
        let max_result = own.unwrap_or(context.max_result);
        Task::from_handler(descriptor, Arc::new(Oneshot { command, content_type, max_result }))
    });
    Some(Declaration { name, at, task })
}

pub(super) fn task_name(value: &Value<'_>) -> Result<TaskName, Mistake> {
    let name: TaskName = table::parsed(value)?;
    if name.is_reserved() { Err(reserved(value, name.as_str())) } else { Ok(name) }
}

pub(super) fn queue_name(value: &Value<'_>) -> Result<QueueName, Mistake> {
    let name: QueueName = table::parsed(value)?;
    if name.is_reserved() { Err(reserved(value, name.as_str())) } else { Ok(name) }
}

fn reserved(value: &Value<'_>, name: &str) -> Mistake {
    mistake(value, format!("{name:?} is reserved for Crunch"))
}

/// The keys that say something about a task, whatever runs it.
pub(super) fn values(table: &mut Table<'_>, context: &FileContext) -> TaskValues {
    const MIN: Duration = Duration::from_millis(1);
    let attempts = |value: &Value<'_>| table::number(value, 1..=MAX_ATTEMPTS_LIMIT.into());
    let payload = |value: &Value<'_>| table::number(value, 0..=TaskDescriptor::MAX_PAYLOAD_LIMIT);
    let result = |value: &Value<'_>| table::number(value, 1..=TaskDescriptor::MAX_RESULT_LIMIT);
    let attempts = table.take("max_attempts", attempts);
    TaskValues {
        queue: table.take("queue", queue_name),
        description: table.take("description", |value| table::text(value).map(str::to_owned)),
        timeout: table.take("timeout", |value| duration::at_least(MIN, value)),
        max_attempts: attempts.and_then(|number| u32::try_from(number).ok()),
        backoff: backoff(table),
        priority: table.take("priority", table::parsed),
        retention: table.take("retention", |value| duration::at_least(MIN, value)),
        accepts: table.take("accepts", |value| table::list(value, table::parsed)),
        content_type: table.take("content_type", table::parsed),
        max_payload: table.take("max_payload", payload),
        max_result: table.take("max_result", result),
        indexes: table.take("indexes", indexes),
        group: table.take("group", table::parsed),
        unique: unique::read(table),
        start_within: table.take("start_within", |value| duration::at_least(MIN, value)),
        payload_schema: table.take("payload_schema", |value| schema::read(value, context)),
        result_schema: table.take("result_schema", |value| schema::read(value, context)),
    }
}

fn indexes(value: &Value<'_>) -> Result<Indexes, Mistake> {
    let names = table::list(value, |name| table::text(name).map(str::to_owned))?;
    Indexes::new(names).map_err(|error| mistake(value, error.to_string()))
}

/// Sets a field if the file has a value for it.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// `backoff = { base = "1s", max = "10m" }`
fn backoff(outer: &mut Table<'_>) -> Option<Backoff> {
    let (at, entries) = outer.take_spanned("backoff", table::table)?;
    let mut table = Table::new(entries, at.clone());
    let mut backoff = Backoff::FOR_ATTEMPTS;
    let mut take = |key, field: &mut Duration| {
        set(field, table.take(key, |value| duration::at_least(Duration::ZERO, value)));
    };
    take("base", &mut backoff.base);
    take("max", &mut backoff.max);
    table.refuse_the_rest();
    if table.mistakes.is_empty() && backoff.base > backoff.max {
        let Backoff { base, max } = backoff;
        table.note(at, format!("base ({base:?}) is longer than max ({max:?})"));
    }
    outer.adopt("backoff", table);
    Some(backoff)
}

/// The command with its directory and environment. `None` if it cannot be run.
pub(super) fn command(table: &mut Table<'_>, context: &FileContext) -> Option<Command> {
    let environment = environment(table, context);
    let directory = table.take("cwd", |value| directory(value, context));
    let path = environment.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, value)| value.as_os_str());
    let (_, (program, arguments)) = table.need("command", |value| words(value, context, path))?;
    let directory = directory.unwrap_or_else(|| context.folder.clone());
    let writable = access(&directory, Access::WRITE_OK).is_ok();
    Some(Command { program, arguments, directory, writable, environment })
}

fn words(
    value: &Value<'_>,
    context: &FileContext,
    path: Option<&OsStr>,
) -> Result<(OsString, Vec<OsString>), Mistake> {
    if value.get_ref().is_str() {
        let what = "expected a list of words, such as [\"python3\", \"word_count.py\"]: no shell splits it";
        return Err(mistake(value, what));
    }
    let words = table::list(value, table::text)?;
    let (first, arguments) = words.split_first().ok_or_else(|| mistake(value, "is empty"))?;
    let program =
        program::find(first, &context.folder, path).map_err(|what| mistake(value, what))?;
    Ok((program, arguments.iter().map(Into::into).collect()))
}

fn directory(value: &Value<'_>, context: &FileContext) -> Result<PathBuf, Mistake> {
    let directory = context.folder.join(table::text(value)?);
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(mistake(value, format!("{} is not a directory", directory.display())))
}

/// The variables passed on from the worker's environment, then those that the file sets.
pub(super) fn environment(
    table: &mut Table<'_>,
    context: &FileContext,
) -> Vec<(OsString, OsString)> {
    let inherited = table.take("inherit_env", |value| table::list(value, variable));
    let inherited = inherited.unwrap_or_default();
    let is_wanted =
        |name: &OsString| program::is_kept(name) || inherited.iter().any(|wanted| name == wanted);
    let mut environment: Vec<_> =
        context.environment.iter().filter(|(name, _)| is_wanted(name)).cloned().collect();
    let own = table.take("env", variables).unwrap_or_default();
    environment.extend(own.into_iter().map(|(name, value)| (name.into(), value.into())));
    environment
}

/// The name of a variable that may be passed on.
fn variable<'a>(value: &'a Value<'a>) -> Result<&'a str, Mistake> {
    let name = table::text(value)?;
    program::check_variable(name).map(|()| name).map_err(|what| mistake(value, what))
}

fn variables<'a>(value: &'a Value<'a>) -> Result<Vec<(&'a str, &'a str)>, Mistake> {
    let entries = table::table(value)?;
    let read = |(name, value)| -> Result<_, Mistake> {
        let name: &toml::Spanned<toml::de::DeString<'_>> = name;
        let at = name.span();
        program::check_variable(name.get_ref()).map_err(|what| Mistake { at, what })?;
        Ok((name.get_ref().as_ref(), table::text(value)?))
    };
    entries.iter().map(read).collect()
}
