//! `context`: names for APIs.

use std::io::{BufRead, stdin};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::contexts::{Context, Contexts, names, path};
use crate::config::{ConnectionArguments, Key, parse_url, read_key};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Output, Style, Table, log};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add or replace a context, from --url, --key-file and --ca-file; nothing is taken from the environment
    Add(AddArguments),
    /// Use a context from now on
    Use(OneContext),
    /// List contexts
    List,
    /// Remove a context
    Remove(OneContext),
}

/// A context to add.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Read the API key from standard input and keep it in the file of contexts, which only its owner may read
    #[arg(long, conflicts_with = "key_file")]
    key_stdin: bool,
}

/// One context.
#[derive(Debug, Args)]
pub(crate) struct OneContext {
    /// Its name
    #[arg(value_name = "NAME", add = clap_complete::ArgValueCandidates::new(names))]
    name: String,
}

pub(crate) fn run(
    command: &Command,
    connection: &ConnectionArguments,
    output: &mut Output,
) -> Result<Exit, Error> {
    let mut contexts = Contexts::read()?;
    match command {
        Command::List => return list(&contexts, output),
        Command::Add(arguments) => add(&mut contexts, arguments, connection)?,
        Command::Use(OneContext { name }) => {
            contexts.get(name)?;
            contexts.current = Some(name.clone());
        }
        Command::Remove(OneContext { name }) => {
            contexts.get(name)?;
            contexts.all.remove(name);
            contexts.current = contexts.current.filter(|current| current != name);
        }
    }
    contexts.write()?;
    log::hint(&format!("written to {}", path()?.display()));
    Ok(Exit::Done)
}

/// The first context becomes the current one.
fn add(
    contexts: &mut Contexts,
    arguments: &AddArguments,
    connection: &ConnectionArguments,
) -> Result<(), Error> {
    let name = &arguments.name;
    let url = connection.url.as_deref().ok_or_else(|| {
        Error::usage("a context needs an address", format!("crunch context add {name} --url URL"))
    })?;
    let mut context = Context { url: parse_url(url)?, ..Context::default() };
    if let Some(file) = &connection.ca_file {
        context.ca_file = Some(absolute(file)?);
    }
    if arguments.key_stdin {
        let mut line = String::new();
        stdin().lock().read_line(&mut line)?;
        context.key = Some(Key::new(&line)?);
    } else if let Some(file) = &connection.key_file {
        read_key(file)?;
        context.key_file = Some(absolute(file)?);
    }
    contexts.all.insert(name.clone(), context);
    contexts.current.get_or_insert_with(|| name.clone());
    Ok(())
}

fn absolute(path: &std::path::Path) -> Result<std::path::PathBuf, Error> {
    std::path::absolute(path).map_err(|cause| Error::file("find", path, cause))
}

fn list(contexts: &Contexts, output: &mut Output) -> Result<Exit, Error> {
    let mut table = Table::new(&["CURRENT", "NAME", "URL", "KEY"]);
    for (name, context) in &contexts.all {
        let is_current = contexts.current.as_ref() == Some(name);
        let key = match (&context.key, &context.key_file) {
            (Some(_), _) => "kept here".to_owned(),
            (None, Some(file)) => file.display().to_string(),
            (None, None) => String::new(),
        };
        if output.json {
            let document = json!({ "name": name, "current": is_current, "url": context.url,
                "key": context.key.is_some(), "key_file": context.key_file, "ca_file": context.ca_file });
            output.own_document(&document)?;
            continue;
        }
        table.row([
            Cell::text(if is_current { "*" } else { "" }).styled(Style::Good),
            Cell::text(name),
            Cell::text(&context.url),
            Cell::text(key),
        ]);
    }
    if !table.is_empty() {
        output.table(&table)?;
    }
    Ok(Exit::Done)
}
