//! A worker whose tasks do nothing: the remaining cost is Crunch's.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::{config, telemetry};
use crunch_worker::{JobContext, Task, Worker, WorkerConfig};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::histogram::Histogram;
use crate::testbed::{TASK, task_name};

/// Configuration of the worker.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    redis_url: String,
    #[arg(long)]
    slots: u16,
    /// Number of tasks, each with its own queue.
    #[arg(long, default_value_t = 1)]
    queues: usize,
    /// The task records how long after the due time in its payload each job started; the histogram is printed at the
    /// end.
    #[arg(long)]
    timed: bool,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
}

/// A payload that contains when its job was due, and how long it runs; a job without a due time is not counted.
#[derive(Deserialize)]
struct Due {
    due: Option<u64>,
    #[serde(default)]
    ms: u64,
}

/// Runs the worker until it receives a signal to shut down.
pub(crate) async fn run(arguments: &Arguments) {
    let configuration = configuration(&arguments.redis_url, arguments.slots);
    telemetry::start(&configuration.log);
    let worker = Worker::new(configuration);
    if arguments.timed {
        return run_timed(worker).await;
    }
    let tasks = (0..arguments.queues).map(|at| noop(&task_name(at, arguments.queues)));
    tasks.fold(worker, Worker::task).run().await.unwrap();
}

async fn run_timed(worker: Worker) {
    let starts = Arc::new(Mutex::new(Histogram::default()));
    worker.task(timed(starts.clone())).run().await.unwrap();
    print!("{}", starts.lock());
}

pub(crate) fn configuration(redis_url: &str, slots: u16) -> WorkerConfig {
    let slots = slots.to_string();
    let line = ["crunch-worker", "--redis-url", redis_url, "--concurrency", &slots];
    config::read_from(line.map(Into::into)).map_err(|exit| exit.message).unwrap()
}

fn noop(name: &str) -> Task {
    Task::new(name, async |_job: JobContext, _: IgnoredAny| Ok(Done { ok: true }))
}

fn timed(starts: Arc<Mutex<Histogram>>) -> Task {
    Task::new(TASK, move |_job: JobContext, Due { due, ms }: Due| {
        if let Some(due) = due {
            let late = clock::now().saturating_sub(due);
            starts.lock().record(late);
        }
        async move {
            if ms > 0 {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            Ok(Done { ok: true })
        }
    })
}
