//! Logs and metrics. Logs are structured events on standard error. Spans carry identity (`job.id`, `job.task`, `queue`, `attempt`), events
//! carry facts; no payload, result or secret is ever in them.

mod bounded;
mod limit;
pub mod metrics;

use std::io;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use bounded::Bounded;
pub use bounded::log_left_out;
pub use limit::{LogLimit, LogLimits};

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// What is logged: error, warn, info, debug or trace, or directives such as `info,crunch_common=debug`.
    #[arg(long = "log", env = "CRUNCH_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub filter: String,

    /// How it is written.
    #[arg(
        long = "log-format",
        env = "CRUNCH_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub format: LogFormat,
}

/// How log events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line a person can read.
    Text,
    /// A JSON object a line.
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    let expected =
        |_| "expected error, warn, info, debug, trace, or target=level pairs separated by commas";
    EnvFilter::builder().parse(text).map_err(expected)?;
    Ok(text.to_owned())
}

/// Starts logging. Called once, by `main`; a second call changes nothing.
pub fn start(config: &LogConfig) {
    start_but(config, &[], &[]);
}

/// As [`start`], but of the `quiet` targets only warnings are logged, unless the filter names them, and of the `bounded`
/// targets at most one line a minute from each place in their code: see [`log_left_out`].
pub fn start_but(config: &LogConfig, quiet: &[&str], bounded: &'static [&'static str]) {
    let filter = EnvFilter::builder().parse_lossy(quieted(&config.filter, quiet));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let _already_started = match config.format {
        LogFormat::Text => {
            let ansi = io::IsTerminal::is_terminal(&io::stderr());
            builder.with_ansi(ansi).finish().with(Bounded(bounded)).try_init()
        }
        LogFormat::Json => builder.json().finish().with(Bounded(bounded)).try_init(),
    };
}

/// The filter with a word about each of the `quiet` before it: of two words about one target the later counts.
fn quieted(filter: &str, quiet: &[&str]) -> String {
    quiet.iter().map(|target| format!("{target}=warn,")).chain([filter.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_target_is_heard_when_it_is_asked_for() {
        let read = |filter: &str| {
            EnvFilter::builder().parse(quieted(filter, &["noisy"])).unwrap().to_string()
        };
        assert_eq!(read("info"), "noisy=warn,info");
        assert_eq!(read("noisy=debug,info"), "noisy=debug,info");
    }
}
