//! A worker whose tasks do nothing: what is left is what Crunch costs.

use crunch_common::config;
use crunch_worker::{JobContext, Task, Worker, WorkerConfig};
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::ground::name;

/// How the worker is set up.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    redis_url: String,
    #[arg(long)]
    slots: u16,
    /// It has as many tasks, each with a queue of its own.
    #[arg(long)]
    queues: usize,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
}

/// Runs until it is killed.
pub(crate) async fn run(arguments: &Arguments) {
    let worker = Worker::new(configuration(&arguments.redis_url, arguments.slots));
    let tasks = (0..arguments.queues).map(|at| noop(&name(at, arguments.queues)));
    tasks.fold(worker, Worker::task).run().await.unwrap();
}

pub(crate) fn configuration(redis_url: &str, slots: u16) -> WorkerConfig {
    let slots = slots.to_string();
    let line = ["crunch-worker", "--redis-url", redis_url, "--concurrency", &slots];
    config::read_from(line.map(Into::into)).map_err(|exit| exit.message).unwrap()
}

fn noop(name: &str) -> Task {
    Task::new(name, async |_job: JobContext, _: IgnoredAny| Ok(Done { ok: true }))
}
