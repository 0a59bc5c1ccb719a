//! Configuration in two steps: clap reads flags and variables, the parsers below convert and check the values.
//!
//! The error for an invalid value names the variable, the value and what is accepted, and the process exits with 2. The
//! value of an argument that may contain a secret (`hide_env_values`) is never printed. An empty variable counts as
//! unset: a compose file that passes `${X:-}` sets an empty variable where the operator sets none.

mod parse;

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Parser};

pub use parse::{comma_separated, milliseconds, socket_address, whole_number};

/// An error in the configuration, or a request for help: what to print, and the exit code.
#[derive(Debug)]
pub struct Exit {
    /// What to print.
    pub message: String,
    /// 0 for help and version, 2 for an error.
    pub code: u8,
}

/// Reads a configuration from the command line and the environment.
///
/// # Errors
/// The message to print and the exit code.
pub fn read<T: Parser>() -> Result<T, Exit> {
    read_from(std::env::args_os())
}

/// Reads a configuration like [`read`], from the given command line.
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
        // Help lists every variable, including the empty ones.
        let help = || T::command().try_get_matches_from(&arguments).err();
        let error = if code == 0 { help().unwrap_or(error) } else { error };
        let message = explain(&T::command(), &error).unwrap_or_else(|| error.to_string());
        Exit { message, code }
    })
}

/// The command without the empty variables: clap would read them as values.
fn without_empty(command: Command, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> Command {
    let unset_if_empty = |argument: Arg| match argument.get_env().and_then(variable) {
        Some(value) if value.is_empty() => argument.env(Resettable::Reset),
        _ => argument,
    };
    command.mut_args(unset_if_empty).mut_subcommands(|inner| without_empty(inner, variable))
}

/// The error for a secret in a flag: every user of the machine can read flags in `/proc/<pid>/cmdline` while the
/// process runs.
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
        "{name}: --{flag} contains a secret, and all users of this machine can read flags: set {variable} instead\n"
    ))
}

/// Whether a value is a secret: only an address without user and password is not.
fn is_secret(value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    let is_scheme =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
    let is_address = value.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
    !is_address || value.contains('@') || value.contains("pass=")
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::broker::{BrokerConfig, RedisUrl};

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
            ["program"].iter().chain(arguments).map(|&argument| argument.into()).collect();
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
        assert!(is_secret(OsStr::new("x-api-key=s3cret,origin=https://host")));
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
