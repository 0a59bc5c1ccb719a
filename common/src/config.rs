//! Configuration in two steps: clap reads what was typed or set, the parsers below say what it means.
//!
//! A wrong value names the variable, the value and what is accepted, and the process exits with 2. The value of an argument
//! that may hold a secret (`hide_env_values`) is never printed. A variable that is set to nothing is not set: a compose file
//! that hands on `${X:-}` does so for whoever sets nothing.

mod redis_url;

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{Resettable, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, Parser};

pub use redis_url::{InvalidRedisUrl, RedisUrl};

use crate::broker::{Durability, KeyPrefix};
use crate::job::PARTITIONS_MAX;
use crate::telemetry::LogConfig;

/// Where the jobs are.
#[derive(Debug, Clone, Args)]
pub struct BrokerConfig {
    /// Address of Redis: redis://user:password@host:port/database, or redis+unix:///path/of/socket. Special characters
    /// of user and password are percent-encoded.
    #[arg(
        long,
        env = "CRUNCH_REDIS_URL",
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379/",
        hide_env_values = true
    )]
    pub redis_url: RedisUrl,

    /// Leading part of every key and channel in Redis: 1 to 32 characters of a-z, 0-9, '_', '.' and '-'.
    #[arg(long, env = "CRUNCH_KEY_PREFIX", value_name = "NAME", default_value = "crunch")]
    pub key_prefix: KeyPrefix,

    /// Number of partitions of the key space, 1 to 4096. Fixed once the key space is used.
    #[arg(long, env = "CRUNCH_PARTITIONS", value_name = "N", default_value = "1", value_parser = whole_number::<u16>(1..=PARTITIONS_MAX as u64))]
    pub partitions: u16,

    /// Percent of Redis' maxmemory from which no new jobs are taken and ended ones are forgotten early, 1 to 100. Without
    /// a maxmemory nothing happens.
    #[arg(long, env = "CRUNCH_MEMORY_WATERMARK", value_name = "PERCENT", default_value = "70", value_parser = whole_number::<u8>(1..=100))]
    pub memory_watermark: u8,

    /// How many jobs may wait in one queue, 1 to 1 000 000 000. More are refused until some were taken.
    #[arg(long, env = "CRUNCH_MAX_QUEUE_DEPTH", value_name = "JOBS", default_value = "10000000", value_parser = whole_number::<u64>(1..=1_000_000_000))]
    pub max_queue_depth: u64,

    /// How many queues may be known in a partition, 1 to 1 000 000. Jobs for a queue beyond them are refused; queues that
    /// workers serve are always taken.
    #[arg(long, env = "CRUNCH_MAX_QUEUES", value_name = "QUEUES", default_value = "50000", value_parser = whole_number::<u32>(1..=1_000_000))]
    pub max_queues: u32,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            redis_url: RedisUrl::default(),
            key_prefix: "crunch".parse().expect("the default prefix is a valid name"),
            partitions: 1,
            memory_watermark: 70,
            max_queue_depth: 10_000_000,
            max_queues: 50_000,
        }
    }
}

/// How safe a submission is before it is answered.
#[derive(Debug, Clone, Copy, Args)]
pub struct DurabilityConfig {
    /// What a submission is safe from before it is answered; a request may ask for more, never for less. `memory`: Redis
    /// accepted it. `fsync`: it is on the disk of Redis. `replica`: a replica has it. `fsync,replica`: both.
    #[arg(long, env = "CRUNCH_DURABILITY", value_name = "LEVEL", default_value = "memory")]
    pub durability: Durability,

    /// How many replicas must have a submission for `replica`, 1 to 16.
    #[arg(long = "durability-replicas", env = "CRUNCH_DURABILITY_REPLICAS", value_name = "N", default_value = "1", value_parser = whole_number::<u16>(1..=16))]
    pub replicas: u16,
}

impl Default for DurabilityConfig {
    fn default() -> Self {
        Self { durability: Durability::MEMORY, replicas: 1 }
    }
}

/// Reads a whole number within a range.
pub fn whole_number<T: TryFrom<u64> + Clone + Send + Sync + 'static>(
    range: std::ops::RangeInclusive<u64>,
) -> impl TypedValueParser<Value = T> {
    move |text: &str| -> Result<T, String> {
        let expected =
            || format!("expected a whole number from {} to {}", range.start(), range.end());
        let number =
            text.parse().ok().filter(|number| range.contains(number)).ok_or_else(expected)?;
        T::try_from(number).map_err(|_| expected())
    }
}

/// Reads a duration given as whole milliseconds within a range.
pub fn milliseconds(
    range: std::ops::RangeInclusive<u64>,
) -> impl TypedValueParser<Value = Duration> {
    move |text: &str| -> Result<Duration, String> {
        let expected =
            || format!("expected whole milliseconds from {} to {}", range.start(), range.end());
        let number =
            text.parse().ok().filter(|number| range.contains(number)).ok_or_else(expected)?;
        Ok(Duration::from_millis(number))
    }
}

/// Reads an address to listen on.
///
/// # Errors
/// If it is none.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

/// Reads a list separated by commas; blanks around an item are dropped.
///
/// # Errors
/// If an item is not what is expected.
pub fn comma_separated<T>(text: &str) -> Result<Vec<T>, String>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let read =
        |item: &str| item.trim().parse().map_err(|error| format!("{:?} {error}", item.trim()));
    text.split(',').map(read).collect()
}

/// A mistake in the configuration, or a request for help: what to print, and the exit code.
#[derive(Debug)]
pub struct Exit {
    /// What to tell.
    pub message: String,
    /// 0 for help and version, 2 for a mistake.
    pub code: u8,
}

/// Reads a configuration from the command line and the environment.
///
/// # Errors
/// What to print, and with which code to exit.
pub fn read<T: Parser>() -> Result<T, Exit> {
    read_from(std::env::args_os())
}

/// As [`read`], from the given command line.
///
/// # Errors
/// As [`read`].
pub fn read_from<T: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<T, Exit> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let command = without_empty(T::command(), &|name| std::env::var_os(name));
    let parsed = command.try_get_matches_from(&arguments);
    if let Some(message) = parsed.as_ref().ok().and_then(|it| exposed_secret(&T::command(), it)) {
        return Err(Exit { message, code: 2 });
    }
    parsed.and_then(|matches| T::from_arg_matches(&matches)).map_err(|error| {
        let code = if error.use_stderr() { 2 } else { 0 };
        // Help names every variable, those that are set to nothing as well.
        let help = || T::command().try_get_matches_from(&arguments).err();
        let error = if code == 0 { help().unwrap_or(error) } else { error };
        let message = explain(&T::command(), &error).unwrap_or_else(|| error.to_string());
        Exit { message, code }
    })
}

/// The command without the variables that are set to nothing: clap would read them as values.
fn without_empty(command: Command, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> Command {
    let set = |argument: Arg| match argument.get_env().and_then(variable) {
        Some(value) if value.is_empty() => argument.env(Resettable::Reset),
        _ => argument,
    };
    command.mut_args(set).mut_subcommands(|inner| without_empty(inner, variable))
}

/// A secret among the flags: everybody on the machine can read them in `/proc/<pid>/cmdline`, as long as the process lives.
fn exposed_secret(command: &Command, matches: &ArgMatches) -> Option<String> {
    let exposed = |argument: &&Arg| {
        let id = argument.get_id().as_str();
        argument.is_hide_env_values_set()
            && matches.value_source(id) == Some(ValueSource::CommandLine)
            && matches.get_raw(id).is_some_and(|mut values| values.any(is_secret))
    };
    let argument = command.get_arguments().find(exposed)?;
    let (flag, variable) = (argument.get_long()?, argument.get_env()?.display());
    let name = command.get_name();
    Some(format!(
        "{name}: --{flag} holds a secret, and everybody on this machine can read flags: set {variable} instead\n"
    ))
}

/// Only an address without user and password is none.
fn is_secret(value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    !value.contains("://") || value.contains('@') || value.contains("pass=")
}

/// `crunch-worker: CRUNCH_WORKER_CONCURRENCY=lots: expected a whole number from 1 to 1024`
fn explain(command: &Command, error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?;
    let value = text(ContextKind::InvalidValue)?;
    let argument = command.get_arguments().find(|argument| {
        argument
            .get_long()
            .is_some_and(|long| flag.split_whitespace().next() == Some(&format!("--{long}")))
    })?;
    let variable =
        argument.get_env().map_or(flag.clone(), |name| name.to_string_lossy().into_owned());
    let value = if argument.is_hide_env_values_set() { None } else { Some(value) };
    let value = value.map_or_else(String::new, |value| format!("={value}"));
    let names: Vec<_> =
        argument.get_possible_values().iter().map(|name| name.get_name().to_owned()).collect();
    let accepted = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None if names.is_empty() => "expected a value".to_owned(),
        None => format!("expected one of {}", names.join(", ")),
    };
    Some(format!("{}: {variable}{value}: {accepted}\n", command.get_name()))
}

/// What every process of Crunch reads.
#[derive(Debug, Clone, Args)]
pub struct CommonConfig {
    /// Where the jobs are.
    #[command(flatten)]
    pub broker: BrokerConfig,

    /// What is logged.
    #[command(flatten)]
    pub log: LogConfig,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "program")]
    struct Settings {
        #[command(flatten)]
        broker: BrokerConfig,
        #[arg(long, env = "CRUNCH_FILE")]
        file: Option<std::path::PathBuf>,
    }

    fn read(arguments: &[&str]) -> Result<Settings, String> {
        let line: Vec<OsString> =
            ["program"].iter().chain(arguments).map(|&word| word.into()).collect();
        read_from(line).map_err(|exit| exit.message)
    }

    #[test]
    fn a_value_that_may_hold_a_secret_is_never_printed() {
        let message = read(&["--redis-url", "redis://:hunter2#@host/"]).unwrap_err();
        assert!(message.starts_with("program: CRUNCH_REDIS_URL: a user or password"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        let url: RedisUrl = "redis://:hunter2@host/".parse().unwrap();
        let config = BrokerConfig { redis_url: url, ..BrokerConfig::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_among_the_flags_is_refused_and_the_variable_is_named() {
        for url in ["redis://:hunter2@host/", "redis+unix:///run/s?pass=hunter2"] {
            let message = read(&["--redis-url", url]).unwrap_err();
            assert!(message.ends_with(": set CRUNCH_REDIS_URL instead\n"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(read(&["--redis-url", "redis://host:7000/3"]).is_ok());
        assert!(is_secret(OsStr::new("whsec_aHVudGVyMg==")));
    }

    #[test]
    fn a_variable_that_is_set_to_nothing_is_not_read() {
        let all_empty = without_empty(Settings::command(), &|_| Some(OsString::new()));
        assert!(all_empty.get_arguments().all(|argument| argument.get_env().is_none()));
        let none_set = without_empty(Settings::command(), &|_| None);
        assert!(
            none_set.get_arguments().filter(|argument| argument.get_env().is_some()).count() > 5
        );
    }

    #[test]
    fn an_empty_flag_names_what_is_missing() {
        assert_eq!(read(&["--file", ""]).unwrap_err(), "program: CRUNCH_FILE=: expected a value\n");
    }
}
