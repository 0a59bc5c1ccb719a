//! What the API can be told, by command line or environment.

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

pub use browser::BrowserConfig;
pub use security::SecurityConfig;

use crate::keys::KeysCommand;
use crate::query;
use crate::webhook::WebhookConfig;

/// Takes jobs over HTTP and tells how they stand.
#[derive(Debug, Clone, Parser)]
#[command(name = "crunch-api", version)]
pub struct ApiConfig {
    /// Where the jobs are.
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

    /// How long requests are still served after SIGTERM while `/readyz` says 503, in
    /// milliseconds, 0 to 600 000.
    #[arg(long = "drain-ms", env = "CRUNCH_API_DRAIN_MS", value_name = "MS",
        default_value = "5000", value_parser = milliseconds(0..=600_000))]
    pub drain: Duration,

    /// Routes that submit to a task: path=task, separated by commas.
    #[arg(long, env = "CRUNCH_ROUTES", value_name = "ROUTES", default_value = "/crunch=crunch",
        value_parser = task_routes)]
    pub routes: TaskRoutes,

    /// How safe a submission is before it is answered.
    #[command(flatten)]
    pub durability: DurabilityConfig,

    /// How webhooks are taken and delivered.
    #[command(flatten)]
    pub webhooks: WebhookConfig,

    /// What to do with a task that no worker ever declared.
    #[arg(long, env = "CRUNCH_API_UNKNOWN_TASKS", value_name = "WHAT", default_value = "refuse")]
    pub unknown_tasks: UnknownTasks,

    /// Whether callers must show who they are. Without API keys anything but a loopback address must
    /// say `off`; with them nothing may.
    #[arg(long, env = "CRUNCH_AUTH", value_name = "WHAT")]
    pub auth: Option<Auth>,

    /// Who may use it, and how much of it.
    #[command(flatten)]
    pub security: SecurityConfig,

    /// What browsers may do here.
    #[command(flatten)]
    pub browsers: BrowserConfig,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Asks a running API whether it is ready; exits with 0 if it is, with 1 if not.
    Health(HealthTarget),
    /// Looks whether everything in Redis is where it should be, while the system works; exits with 0 if it is, with 1 if
    /// not.
    Audit(AuditOptions),
    /// Makes, lists and revokes API keys.
    Keys(KeysCommand),
    /// Loads the functions of this version into Redis, for processes whose users may not. Run it before they start.
    LoadFunctions(LoadFunctionsOptions),
    /// Prints a fresh secret to sign webhooks with.
    WebhookSecret,
}

/// What loading functions does beside that.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadFunctionsOptions {
    /// Deletes the functions of other versions that no process has used for an hour.
    #[arg(long)]
    pub prune: bool,
}

/// What an audit does beside looking.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditOptions {
    /// Puts right what is wrong, as far as that is certain.
    #[arg(long)]
    pub heal: bool,

    /// Prints the account as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which API to ask.
#[derive(Debug, Clone, clap::Args)]
pub struct HealthTarget {
    /// Where it listens.
    #[arg(long = "at", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = socket_address)]
    pub addr: SocketAddr,
}

/// What to do with a task that no worker ever declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownTasks {
    /// Refuse its jobs.
    Refuse,
    /// Take its jobs with every default.
    Accept,
}

/// Whether callers must show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Auth {
    /// Anybody who reaches the API may use it.
    Off,
}

/// Paths that submit to a task.
pub type TaskRoutes = std::sync::Arc<[TaskRoute]>;

/// One path and its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRoute {
    /// Where to POST.
    pub path: String,
    /// What is run.
    pub task: TaskName,
}

/// First segments of the paths that the API keeps for itself, now and later.
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
            return Err("takes a path of the API's own");
        }
        let task: TaskName = task.parse().map_err(|_| "does not end in a task name")?;
        if task.is_reserved() {
            return Err("ends in a task of Crunch's own");
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
    /// Whether anybody but this machine could reach an API that asks nobody who they are.
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
                "crunch-api: CRUNCH_ROUTES=/jobs/mine=a: expected path=task, separated by commas: \"/jobs/mine=a\" takes a path of the API's own\n",
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
                "crunch-api: CRUNCH_API_CORS_ORIGINS=*: expected origins such as https://app.example.com, separated by commas: \"*\" would let every page in the world act as its visitor: list the origins\n",
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
