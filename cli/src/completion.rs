//! Completions that depend on the API: names of tasks and queues.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::Parser;
use clap_complete::CompletionCandidate;
use serde::Deserialize;

use crate::client::{Client, Request};
use crate::config::{ConnectionArguments, Target};
use crate::documents::read;

/// The options of the command line that is completed which decide about the connection.
const OPTIONS: [&str; 4] = ["--url", "--context", "--key-file", "--ca-file"];

/// A shell that completes waits for it.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Parser)]
struct Connection {
    #[command(flatten)]
    connection: ConnectionArguments,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

pub(crate) fn tasks() -> Vec<CompletionCandidate> {
    names("tasks")
}

pub(crate) fn queues() -> Vec<CompletionCandidate> {
    names("queues")
}

/// The names in a list; of one that takes long those that are known by then, as a shell does not wait.
fn names(list: &str) -> Vec<CompletionCandidate> {
    let Ok(Connection { connection }) = Connection::try_parse_from(connection_words()) else {
        return Vec::new();
    };
    let client = Target::of(&connection).and_then(|target| Client::new(target, Duration::ZERO));
    let Ok(client) = client else { return Vec::new() };
    let client = client.impatient(LIMIT);
    let ends = Instant::now() + LIMIT;
    let items = client.items(Request::get(&[list])).take_while(|_| Instant::now() < ends);
    let names = items.map_while(Result::ok).filter_map(|item| read::<Named>(&item).ok());
    names.map(|named| CompletionCandidate::new(named.name)).collect()
}

/// Of the command line that is completed, what decides about the connection.
fn connection_words() -> Vec<OsString> {
    let mut words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let mut found: Vec<OsString> = vec![words.next().unwrap_or_default()];
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let (name, value) = text.split_once('=').unzip();
        if OPTIONS.contains(&name.unwrap_or(&text)) {
            found.push(word);
            found.extend(value.is_none().then(|| words.next()).flatten());
        }
    }
    found
}
