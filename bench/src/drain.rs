//! How fast workers that do nothing empty a queue, and what a job costs on its way through: leases, epochs, heartbeats,
//! results and retention are on.

use std::time::Instant;

use futures_util::future::join_all;

use crate::figures::Unit;
use crate::ground::{Ground, PAYLOAD, SHIPPED, TASK};
use crate::session::Session;
use crate::usage::{RedisInfo, cpu_of};

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Jobs in the queue.
    #[arg(long, default_value_t = 300_000)]
    jobs: usize,
    /// Slots of each worker.
    #[arg(long, default_value_t = 300)]
    slots: usize,
}

/// Takes the figures.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    for workers in [1, 2] {
        session.refresh_control();
        let mut ground = Ground::on(SHIPPED).await;
        let drained = drain(&mut ground, workers, arguments).await;
        let name = match workers {
            1 => "drain, 1 worker".to_owned(),
            _ => format!("drain, {workers} workers"),
        };
        drained.note(session, &name);
    }
}

/// What draining a queue took.
pub(crate) struct Drained {
    jobs: f64,
    seconds: f64,
    worker_cpu: f64,
    cost: RedisInfo,
}

impl Drained {
    pub(crate) fn rate(&self) -> f64 {
        self.jobs / self.seconds
    }

    fn note(&self, session: &mut Session, name: &str) {
        let each = |figure: f64| figure / self.jobs;
        session.note(name, self.rate(), Unit::PerSecond);
        session.note(&format!("{name}: CPU of Redis"), each(self.cost.cpu) * 1e5, Unit::CpuSeconds);
        session.note(
            &format!("{name}: CPU of workers"),
            each(self.worker_cpu) * 1e5,
            Unit::CpuSeconds,
        );
        session.note(&format!("{name}: traffic"), each(self.cost.bytes), Unit::Counted("B/job"));
        session.note(
            &format!("{name}: socket reads"),
            each(self.cost.reads),
            Unit::Counted("/job"),
        );
        session.note(&format!("{name}: commands"), each(self.cost.commands), Unit::Counted("/job"));
    }
}

/// Fills the queue while it is paused, and lets workers that stand by empty it.
pub(crate) async fn drain(ground: &mut Ground, workers: usize, arguments: &Arguments) -> Drained {
    let queue = TASK.parse().unwrap();
    let workers = join_all((0..workers).map(|_| ground.worker(arguments.slots, 1))).await;
    ground.broker.pause(&queue).await.unwrap();
    ground.fill(arguments.jobs, PAYLOAD, 1).await;
    let before = RedisInfo::of(&ground.server);
    let cpu = || workers.iter().map(|worker| cpu_of(worker.pid())).sum::<f64>();
    let (worker_cpu, begun) = (cpu(), Instant::now());
    ground.broker.resume(&queue).await.unwrap();
    ground.ended(arguments.jobs, 1).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cost = before.until_now(&ground.server);
    Drained { jobs: arguments.jobs as f64, seconds, worker_cpu: cpu() - worker_cpu, cost }
}
