//! The HTTP API of Crunch: accepts jobs, returns their status and results.
//!
//! Translates HTTP to calls of the broker; it has no queue logic, and no code of any task: it knows tasks by what
//! workers declared.

mod accept;
mod action_log;
mod address;
mod audit;
mod auth;
mod backfill;
mod body;
mod browser;
mod budget;
mod catalog;
mod checks;
mod config;
mod connections;
mod dashboard;
mod deliver;
mod document;
mod error;
mod etag;
mod functions;
mod health;
mod idempotency;
mod json;
mod keys;
mod limits;
mod links;
mod listener;
mod metrics;
mod middleware;
mod nearest;
mod openapi;
mod openapi_cache;
mod parameters;
mod places;
mod prefer;
mod problem;
mod query;
mod rate;
mod reloaded;
mod routes;
mod rule;
mod schedule;
mod scheduler;
mod search;
mod server;
mod service;
mod state;
mod stream;
mod submit;
mod tls;
mod trace;
mod watching;
mod webhook;
mod wire;

use std::process::ExitCode;

pub use auth::{KeyId, Queues, Scope, Scopes};
pub use browser::{HostName, HostNames, Origin, Origins};
pub use config::{
    ApiConfig, AuditOptions, Auth, BrowserConfig, Command, HealthTarget, SecurityConfig, TaskRoute,
    TaskRoutes, UnknownTasks,
};
pub use crunch_common::Shutdown;
pub use error::Error;
pub use keys::{KeysAction, KeysCommand, NewKey, Place, Revocation};
pub use rate::Rate;
pub use server::Server;
pub use tls::TlsError;
pub use webhook::{Allow, SecretText, WebhookConfig, WebhookUse};

use crunch_common::{config as settings, init, machine, telemetry};

/// Libraries whose messages at `info` are of no use to operators: how many threads were started, what was called.
const QUIET: [&str; 1] = ["actix_server"];

/// Libraries that log errors of clients, such as an invalid head: any client could fill the log.
const BOUNDED: [&str; 5] = ["actix_", "mio", "rustls", "tokio_rustls", "h2"];

/// Reads the configuration and runs the command; the whole of `main`.
#[must_use]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the last output of a process")]
pub fn main() -> ExitCode {
    // First: the configuration that is read next has secrets.
    machine::forbid_inspection();
    init::become_init_if_first();
    let config: ApiConfig = match settings::read() {
        Ok(config) => config,
        Err(exit) if exit.code == 0 => {
            print!("{}", exit.message);
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            eprint!("{}", exit.message);
            return exit.code.into();
        }
    };
    telemetry::start_but(&config.log, &QUIET, &BOUNDED);
    let outcome = match &config.command {
        Some(Command::Health(target)) => health::check(target, &config.security),
        Some(Command::Keys(command)) => keys::run(command),
        Some(Command::Audit(options)) => audit::run(&config.broker, options),
        Some(Command::LoadFunctions(options)) => functions::load(&config.broker, options),
        Some(Command::WebhookSecret) => {
            println!("{}", webhook::Secret::fresh().text());
            Ok(())
        }
        None => server::serve(config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crunch-api: {error}");
            error.exit_code().into()
        }
    }
}
