//! Logs and metrics. Logs are structured events on standard error. Spans have identity (`job.id`, `job.task`, `queue`,
//! `attempt`), events have facts; neither ever contains a payload, result or secret.

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

    /// Format of the log.
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
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    let expected =
        |_| "expected error, warn, info, debug, trace, or target=level pairs separated by commas";
    EnvFilter::builder().parse(text).map_err(expected)?;
    Ok(text.to_owned())
}

/// Starts logging. Call it once, in `main`; a second call has no effect.
pub fn start(config: &LogConfig) {
    start_but(config, &[], &[]);
}

/// Starts logging like [`start`], but `quiet` targets log only warnings unless the filter names them, and `bounded`
/// targets log at most one line a minute from each place in their code: see [`log_left_out`].
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

/// The filter, preceded by a directive for each of the `quiet` targets: of two directives for one target the later
/// applies.
fn quieted(filter: &str, quiet: &[&str]) -> String {
    quiet.iter().map(|target| format!("{target}=warn,")).chain([filter.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_target_is_logged_when_it_is_asked_for() {
        let read = |filter: &str| {
            EnvFilter::builder().parse(quieted(filter, &["noisy"])).unwrap().to_string()
        };
        assert_eq!(read("info"), "noisy=warn,info");
        assert_eq!(read("noisy=debug,info"), "noisy=debug,info");
    }
}
