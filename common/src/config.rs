//! Configuration in two steps: clap reads what was typed or set, the parsers below say what it means.
//!
//! A wrong value names the variable, the value and what is accepted, and the process exits with 2.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser};

use crate::broker::KeyPrefix;
use crate::job::PARTITIONS_MAX;
use crate::telemetry::LogConfig;

/// Where the jobs are.
#[derive(Debug, Clone, Args)]
pub struct BrokerConfig {
    /// Address of Redis.
    #[arg(long, env = "CRUNCH_REDIS_URL", value_name = "URL", default_value = "redis://127.0.0.1:6379/", value_parser = redis_url)]
    pub redis_url: String,

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
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            redis_url: "redis://127.0.0.1:6379/".to_owned(),
            key_prefix: "crunch".parse().expect("the default prefix is a valid name"),
            partitions: 1,
            memory_watermark: 70,
            max_queue_depth: 10_000_000,
        }
    }
}

impl BrokerConfig {
    /// Where Redis is, for people: host and port or the path of a socket; never user or password.
    #[must_use]
    pub fn redis_address(&self) -> String {
        use redis::IntoConnectionInfo;
        let info = self.redis_url.as_str().into_connection_info();
        info.map_or_else(|_| "unknown".to_owned(), |info| info.addr().to_string())
    }
}

fn redis_url(text: &str) -> Result<String, String> {
    use redis::IntoConnectionInfo;
    let expected =
        "expected an address such as redis://127.0.0.1:6379/ or redis://user:password@host:6379/0";
    text.into_connection_info().map(|_| text.to_owned()).map_err(|_| expected.to_owned())
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
pub fn read_from<T: Parser>(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<T, Exit> {
    T::try_parse_from(arguments).map_err(|error| {
        let code = if error.use_stderr() { 2 } else { 0 };
        let message = explain::<T>(&error).unwrap_or_else(|| error.to_string());
        Exit { message, code }
    })
}

/// `crunch-worker: CRUNCH_WORKER_CONCURRENCY=lots: expected a whole number from 1 to 1024`
fn explain<T: CommandFactory>(error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?;
    let value = text(ContextKind::InvalidValue)?;
    let command = T::command();
    let argument = command.get_arguments().find(|argument| {
        argument
            .get_long()
            .is_some_and(|long| flag.split_whitespace().next() == Some(&format!("--{long}")))
    })?;
    let variable =
        argument.get_env().map_or(flag.clone(), |name| name.to_string_lossy().into_owned());
    let accepted = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => {
            let values = argument.get_possible_values();
            let names: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
            format!("expected one of {}", names.join(", "))
        }
    };
    Some(format!("{}: {variable}={value}: {accepted}\n", command.get_name()))
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
    use super::*;

    #[test]
    fn the_address_of_redis_is_told_without_its_password() {
        let at = |url: &str| BrokerConfig { redis_url: url.to_owned(), ..BrokerConfig::default() };
        let told = at("redis://user:s%40cret@example.com:7000/3").redis_address();
        assert_eq!(told, "example.com:7000");
        assert_eq!(at("unix:///run/redis.sock?pass=secret").redis_address(), "/run/redis.sock");
    }
}
