//! Settings of the API, from the command line or the environment.

mod browser;
mod security;

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use crunch_common::broker::{BrokerConfig, DurabilityConfig};
use crunch_common::config::{comma_separated, milliseconds, socket_address};
use crunch_common::task::TaskName;
use crunch_common::telemetry::LogConfig;
use crunch_otel::OtelConfig;

pub use browser::BrowserConfig;
pub use security::SecurityConfig;

use crate::keys::KeysCommand;
use crate::query;
use crate::webhook::WebhookConfig;

/// Accepts jobs over HTTP and reports their state.
#[derive(Debug, Clone, Parser)]
#[command(name = "crunch-api", version)]
pub struct ApiConfig {
    /// Where the jobs are stored.
    #[command(flatten)]
    pub broker: BrokerConfig,

    /// What is logged.
    #[command(flatten)]
    pub log: LogConfig,

    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "CRUNCH_API_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8080",
        value_parser = socket_address)]
    pub addr: SocketAddr,

    /// Base of absolute links, as clients see this API. Default: the address it listens on.
    #[arg(long, env = "CRUNCH_PUBLIC_URL", value_name = "URL", value_parser = public_url)]
    pub public_url: Option<String>,

    /// How long requests are still served after SIGTERM while `/readyz` answers 503, in
    /// milliseconds, 0 to 600 000.
    #[arg(long = "drain-ms", env = "CRUNCH_API_DRAIN_MS", value_name = "MS",
        default_value = "5000", value_parser = milliseconds(0..=600_000))]
    pub drain: Duration,

    /// Routes that submit to a task: path=task, separated by commas.
    #[arg(long, env = "CRUNCH_ROUTES", value_name = "ROUTES", default_value = "/crunch=crunch",
        value_parser = task_routes)]
    pub routes: TaskRoutes,

    /// How durable a submission is before it is answered.
    #[command(flatten)]
    pub durability: DurabilityConfig,

    /// How webhooks are accepted and delivered.
    #[command(flatten)]
    pub webhooks: WebhookConfig,

    /// What to do with a task that no worker ever declared.
    #[arg(long, env = "CRUNCH_API_UNKNOWN_TASKS", value_name = "WHAT", default_value = "refuse")]
    pub unknown_tasks: UnknownTasks,

    /// Whether callers must authenticate. Without API keys, any address but loopback needs `off`; with
    /// them it must not be set.
    #[arg(long, env = "CRUNCH_AUTH", value_name = "WHAT")]
    pub auth: Option<Auth>,

    /// Who may use the API, and how much of it.
    #[command(flatten)]
    pub security: SecurityConfig,

    /// What browsers may do.
    #[command(flatten)]
    pub browsers: BrowserConfig,

    /// Where spans and metrics are exported.
    #[command(flatten)]
    pub otel: OtelConfig,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Checks whether a running API is ready; exits with 0 if it is, with 1 if not.
    Health(HealthTarget),
    /// Checks the consistency of the data in Redis, while the system runs; exits with 0 if it is clean, with 1 if not.
    Audit(AuditOptions),
    /// Creates, lists and revokes API keys.
    Keys(KeysCommand),
    /// Loads the functions of this version into Redis, for processes whose Redis users may not. Run it before they
    /// start.
    LoadFunctions(LoadFunctionsOptions),
    /// Prints a new secret for signing webhooks.
    WebhookSecret,
}

/// Options of `load-functions`.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadFunctionsOptions {
    /// Deletes the functions of other versions that no process has used for an hour.
    #[arg(long)]
    pub prune: bool,
}

/// Options of `audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditOptions {
    /// Repairs the findings whose repair is certain.
    #[arg(long)]
    pub heal: bool,

    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `health`.
#[derive(Debug, Clone, clap::Args)]
pub struct HealthTarget {
    /// The address the API listens on.
    #[arg(long = "at", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = socket_address)]
    pub addr: SocketAddr,
}

/// What to do with a task that no worker ever declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownTasks {
    /// Reject its jobs.
    Refuse,
    /// Accept its jobs with all defaults.
    Accept,
}

/// Whether callers must authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Auth {
    /// Every client that reaches the API may use it.
    Off,
}

/// Paths that submit to a task.
pub type TaskRoutes = std::sync::Arc<[TaskRoute]>;

/// One path and its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRoute {
    /// The path to POST to.
    pub path: String,
    /// The task that is run.
    pub task: TaskName,
}

/// First segments of the paths that are reserved for the API, now and later.
const OWN_PATHS: [&str; 12] = [
    "jobs",
    "stream-tickets",
    "result",
    "tasks",
    "queues",
    "workers",
    "livez",
    "readyz",
    "openapi.json",
    "problems",
    "docs",
    "metrics",
];

impl FromStr for TaskRoute {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, task) = text.split_once('=').ok_or("is not path=task")?;
        let segment = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let fits = path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment));
        if !fits {
            return Err("must start with / and have segments of letters, digits, '-', '_' and '.'");
        }
        let first = path.split('/').nth(1).unwrap_or_default();
        if OWN_PATHS.contains(&first) {
            return Err("uses a path reserved for the API");
        }
        let task: TaskName = task.parse().map_err(|_| "does not end in a task name")?;
        if task.is_reserved() {
            return Err("ends in a reserved task name");
        }
        Ok(Self { path: path.to_owned(), task })
    }
}

fn task_routes(text: &str) -> Result<TaskRoutes, String> {
    let expected = |error| format!("expected path=task, separated by commas: {error}");
    let routes: Vec<TaskRoute> = comma_separated(text).map_err(expected)?;
    let paths = routes.iter().map(|route| route.path.as_str());
    match query::repeated(paths) {
        Some(path) => Err(expected(format!("{path:?} is given twice"))),
        None => Ok(routes.into()),
    }
}

fn public_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let plain = |rest: &str| {
        !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte))
    };
    match host.is_some_and(plain) {
        true => Ok(url.to_owned()),
        false => {
            Err("expected an address such as https://crunch.example.com, without query".to_owned())
        }
    }
}

impl ApiConfig {
    /// Whether other machines could reach the API without authentication.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        self.auth.is_none() && self.security.keys.is_none() && !self.addr.ip().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<ApiConfig, String> {
        let line = std::iter::once("crunch-api").chain(arguments.iter().copied());
        crunch_common::config::read_from(line.map(Into::into)).map_err(|exit| exit.message)
    }

    #[test]
    fn the_defaults_serve_this_machine_only() {
        let config = read(&[]).unwrap();
        assert!(config.addr.ip().is_loopback() && !config.is_open_to_others());
        assert_eq!(config.routes[0], "/crunch=crunch".parse().unwrap());
    }

    #[test]
    fn a_wrong_value_names_its_variable_and_what_is_accepted() {
        let cases = [
            (
                ["--addr", "here"],
                "crunch-api: CRUNCH_API_ADDR=here: expected an IP address and a port, such as 127.0.0.1:8080\n",
            ),
            (
                ["--drain-ms", "5s"],
                "crunch-api: CRUNCH_API_DRAIN_MS=5s: expected whole milliseconds from 0 to 600000\n",
            ),
            (
                ["--unknown-tasks", "drop"],
                "crunch-api: CRUNCH_API_UNKNOWN_TASKS=drop: expected one of refuse, accept\n",
            ),
            (
                ["--routes", "/jobs/mine=a"],
                "crunch-api: CRUNCH_ROUTES=/jobs/mine=a: expected path=task, separated by commas: \"/jobs/mine=a\" uses a path reserved for the API\n",
            ),
            (
                ["--routes", "/a=a,/a=b"],
                "crunch-api: CRUNCH_ROUTES=/a=a,/a=b: expected path=task, separated by commas: \"/a\" is given twice\n",
            ),
            (
                ["--public-url", "ftp://x"],
                "crunch-api: CRUNCH_PUBLIC_URL=ftp://x: expected an address such as https://crunch.example.com, without query\n",
            ),
            (
                ["--cors-origins", "*"],
                "crunch-api: CRUNCH_API_CORS_ORIGINS=*: expected origins such as https://app.example.com, separated by commas: \"*\" would let every website act on behalf of its visitors: list the origins\n",
            ),
            (
                ["--hosts", "api:8080"],
                "crunch-api: CRUNCH_API_HOSTS=api:8080: expected host names such as api.internal, separated by commas: \"api:8080\" is not a host name without scheme, port and path\n",
            ),
            (
                ["--durability", "disk"],
                "crunch-api: CRUNCH_DURABILITY=disk: expected memory, fsync, replica, or fsync,replica\n",
            ),
            (
                ["--durability-replicas", "0"],
                "crunch-api: CRUNCH_DURABILITY_REPLICAS=0: expected a whole number from 1 to 16\n",
            ),
            (
                ["--redis-url", "nonsense"],
                "crunch-api: CRUNCH_REDIS_URL: expected an address such as redis://127.0.0.1:6379/ or redis://user:password@host:6379/0\n",
            ),
        ];
        for (arguments, message) in cases {
            assert_eq!(read(&arguments).unwrap_err(), message);
        }
    }

    #[test]
    fn an_address_others_can_reach_needs_a_word() {
        assert!(read(&["--addr", "0.0.0.0:1"]).unwrap().is_open_to_others());
        assert!(!read(&["--addr", "0.0.0.0:1", "--auth", "off"]).unwrap().is_open_to_others());
    }
}
