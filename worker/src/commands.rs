//! Reads `tasks.toml`, which declares commands and servers, in any language, as tasks, schedules and limits. `docs/commands.md`
//! describes the file.
//!
//! Reports all problems of a file at once, each with its line, before the worker claims a job. Never runs a command:
//! `process.rs` and `server.rs` do. Never puts a schedule or a limit into Redis: `schedules.rs` and `limits.rs` do.

mod bytes;
mod declaration;
mod duration;
mod file_context;
mod json;
mod limit;
mod problem;
mod program;
mod schedule;
mod schema;
mod server;
mod table;
mod unique;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crunch_common::task::TaskName;
use toml::de::DeTable;

use crate::limits::FileLimits;
use crate::registry::Registry;
use crate::schedules::FileSchedule;
use crate::server::ServerSpec;
use crate::{Task, tasks};
use declaration::Declaration;
use file_context::FileContext;
use problem::{Page, Problem};
use table::Table;

/// Each server has its own connections to Redis.
const MAX_SERVERS: usize = 16;
/// Each start of a worker compares all of them with Redis, one by one.
const MAX_SCHEDULES: usize = 1000;

/// The contents of a `tasks.toml`.
#[derive(Debug)]
pub(crate) struct Commands {
    /// Whether the tasks that ship with the stock worker are requested too.
    pub(crate) builtin: bool,
    path: PathBuf,
    tasks: Vec<Declared>,
    servers: Vec<ServerSpec>,
    schedules: Vec<FileSchedule>,
    limits: FileLimits,
    problems: Vec<Problem>,
}

/// What a file has besides tasks.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) servers: Vec<ServerSpec>,
    pub(crate) schedules: Vec<FileSchedule>,
    pub(crate) limits: FileLimits,
}

/// A task and the line that names it.
#[derive(Debug)]
struct Declared {
    line: usize,
    name: TaskName,
    task: Option<Task>,
}

/// The reason why a file of tasks cannot be used.
///
/// ```
/// use crunch_worker::{Error, InvalidCommands};
///
/// /// The lines that an editor should mark.
/// fn lines(error: &Error) -> Vec<usize> {
///     match error {
///         Error::Commands(InvalidCommands::Wrong { problems, .. }) => {
///             problems.iter().map(|(line, _)| *line).collect()
///         }
///         _ => Vec::new(),
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommands {
    /// The file does not exist or cannot be read.
    #[error("CRUNCH_TASKS={}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The contents of the file cannot be used.
    #[error("{}", one_per_line(path, problems))]
    Wrong {
        /// The path of the file.
        path: PathBuf,
        /// The problems, each with its line number, in the order of lines.
        problems: Vec<(usize, String)>,
    },
}

/// Formats one problem per line, such as `tasks.toml:14: task "word.count" is declared twice …`.
fn one_per_line(path: &Path, problems: &[(usize, String)]) -> String {
    let lines = problems.iter().map(|(line, what)| format!("{}:{line}: {what}", path.display()));
    lines.collect::<Vec<_>>().join("\n")
}

impl Commands {
    /// Reads a file. [`Commands::join`] returns its problems, together with names that other tasks already use.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn read(
        path: &Path,
        max_result: usize,
        slots: usize,
    ) -> Result<Self, InvalidCommands> {
        let unreadable = |source| InvalidCommands::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let folder = std::path::absolute(path).map_err(unreadable)?;
        let folder = folder.parent().unwrap_or(Path::new("/")).to_owned();
        let mut commands = Self {
            builtin: true,
            path: path.to_owned(),
            tasks: Vec::new(),
            servers: Vec::new(),
            schedules: Vec::new(),
            limits: FileLimits::default(),
            problems: Vec::new(),
        };
        let environment = std::env::vars_os().collect();
        let context = FileContext { folder, environment, max_result, slots };
        commands.read_text(&text, &context);
        Ok(commands)
    }

    fn read_text(&mut self, text: &str, context: &FileContext) {
        let page = Page::new(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // The parsed part of a malformed file is not reliable.
            self.problems = errors.iter().map(|error| page.not_toml(error)).collect();
            return;
        }
        let mut top = Table::new(document.get_ref(), 0..0);
        self.builtin = top.take("builtin", table::boolean).unwrap_or(true);
        let tasks = top.take("task", |value| table::tables("task", value)).unwrap_or_default();
        let servers =
            top.take("server", |value| table::tables("server", value)).unwrap_or_default();
        let schedules =
            top.take("schedule", |value| table::tables("schedule", value)).unwrap_or_default();
        let limits = top.take("limit", |value| table::tables("limit", value)).unwrap_or_default();
        top.refuse_the_rest();
        if let Some((_, at)) = schedules.get(MAX_SCHEDULES) {
            top.note(at.clone(), format!("more than {MAX_SCHEDULES} schedules"));
        }
        if let Some((_, at)) = servers.get(MAX_SERVERS) {
            top.note(
                at.clone(),
                format!("more than {MAX_SERVERS} servers; start another worker for them"),
            );
        }
        let mut mistakes = top.mistakes;
        for (entries, header) in tasks {
            let mut table = Table::new(entries, header);
            if let Some(Declaration { name, at, task }) = declaration::read(&mut table, context) {
                self.tasks.push(Declared { line: page.line(at), name, task });
            }
            mistakes.append(&mut table.mistakes);
        }
        for (number, (entries, header)) in servers.into_iter().enumerate() {
            let mut table = Table::new(entries, header.clone());
            let server = server::read(&mut table, context, number + 1);
            if let Some(twice) =
                server.as_ref().filter(|it| self.servers.iter().any(|other| other.name == it.name))
            {
                table.note(
                    header,
                    format!("there are two servers {:?}; give one another name", twice.name),
                );
            }
            self.servers.extend(server);
            mistakes.append(&mut table.mistakes);
        }
        let mut names = HashSet::new();
        for (entries, header) in schedules {
            let mut table = Table::new(entries, header.clone());
            let schedule = schedule::read(&mut table);
            if let Some(twice) = schedule.as_ref().filter(|it| !names.insert(it.name.clone())) {
                table.note(header, format!("there are two schedules {:?}", twice.name.as_str()));
            }
            self.schedules.extend(schedule);
            mistakes.append(&mut table.mistakes);
        }
        for (entries, header) in limits {
            let mut table = Table::new(entries, header);
            limit::read(&mut table, &mut self.limits);
            mistakes.append(&mut table.mistakes);
        }
        self.problems = mistakes.into_iter().map(|mistake| page.problem(mistake)).collect();
    }

    /// Returns how many children its servers may have at once.
    pub(crate) fn most_children(&self) -> usize {
        self.servers.iter().map(|server| 2 * server.processes).sum()
    }

    /// Adds the commands to the registered tasks; returns what else the file has.
    ///
    /// # Errors
    /// All problems of the file, including names that are already used.
    pub(crate) fn join(mut self, registry: &mut Registry) -> Result<Rest, InvalidCommands> {
        let mut lines: HashMap<TaskName, usize> = HashMap::new();
        for Declared { line, name, task } in self.tasks {
            if let Some(first) = first_declaration(&name, &lines, registry) {
                let what = format!(
                    "task {:?} is declared twice ({first}); names must be unique in one worker",
                    name.as_str()
                );
                self.problems.push(Problem { line, what });
                continue;
            }
            lines.insert(name, line);
            // The name is unused, as checked above.
            let _added = task.map(|task| registry.add(task));
        }
        if self.problems.is_empty() {
            let Self { servers, schedules, limits, .. } = self;
            return Ok(Rest { servers, schedules, limits });
        }
        self.problems.sort_by_key(|problem| problem.line);
        let problems = self.problems.into_iter().map(|Problem { line, what }| (line, what));
        Err(InvalidCommands::Wrong { path: self.path, problems: problems.collect() })
    }
}

/// Returns the variables of this process's environment that a command gets by default.
pub(crate) fn kept_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| program::is_kept(name)).collect()
}

/// Finds the program that a command's first word names, as for a file in that folder.
///
/// # Errors
/// What is wrong, and how to fix it.
pub(crate) fn find_program(
    word: &str,
    folder: &Path,
    environment: &[(OsString, OsString)],
) -> Result<OsString, String> {
    let path =
        environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_os_str());
    program::find(word, folder, path)
}

/// Returns where a name is already declared: in this file or in the worker's code.
fn first_declaration(
    name: &TaskName,
    lines: &HashMap<TaskName, usize>,
    registry: &Registry,
) -> Option<String> {
    if let Some(first) = lines.get(name) {
        return Some(format!("first at line {first}"));
    }
    let is_builtin = tasks::builtin().iter().any(|task| task.descriptor.name == *name);
    registry.find(name).map(|_| match is_builtin {
        true => "it ships with the worker, unless the file sets builtin = false".to_owned(),
        false => "first in the worker's own code".to_owned(),
    })
}

#[cfg(test)]
mod tests;
