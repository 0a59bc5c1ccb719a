//! One client for each partition, and what each has seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crunch_common::Broker;
use crunch_common::broker::{Durability, Enqueued, Error, Lookup, NewJob};
use crunch_common::job::{JobId, Partition, Status};
use crunch_common::task::TaskDescriptor;
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Plan;
use crate::wait::eventually;

/// How many jobs are read at once at the end.
const READS: usize = 64;

/// The longest times for which no job was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gaps {
    /// In the partitions that the fault concerned.
    pub(super) concerned: Duration,
    /// In the others.
    pub(super) others: Duration,
}

/// What one client has seen since the last fault began.
#[derive(Debug)]
struct Seen {
    last: Instant,
    longest: Duration,
    accepted: u32,
}

pub(super) struct Clients {
    seen: Arc<[Mutex<Seen>]>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<JobId>>,
}

impl Clients {
    pub(super) fn start(plan: &Plan, broker: &Broker) -> Self {
        let fresh =
            || Mutex::new(Seen { last: Instant::now(), longest: Duration::ZERO, accepted: 0 });
        let seen: Arc<[_]> = (0..plan.partitions).map(|_| fresh()).collect();
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for partition in (0..plan.partitions).filter_map(Partition::new) {
            // As each thread of an API has connections of its own.
            let client = Client {
                broker: broker.with_own_connections(),
                partition,
                pause: plan.pause,
                seen: seen.clone(),
                stop: stop.clone(),
            };
            tasks.spawn(client.submit());
        }
        Self { seen, stop, tasks }
    }

    /// A fault begins.
    pub(super) fn begin(&self) {
        for seen in &*self.seen {
            *seen.lock() = Seen { last: Instant::now(), longest: Duration::ZERO, accepted: 0 };
        }
    }

    /// The fault is injected: the jobs that were accepted so far say nothing about it.
    pub(super) fn injected(&self) {
        self.seen.iter().for_each(|seen| seen.lock().accepted = 0);
    }

    /// Waits until a job was accepted in every partition since then, and some more.
    pub(super) async fn wait_until_all_accepted(&self) {
        eventually("jobs are accepted in every partition", async || {
            self.seen.iter().all(|seen| seen.lock().accepted >= 5).then_some(())
        })
        .await;
    }

    pub(super) fn gaps(&self, concerned: &[Partition]) -> Gaps {
        let mut gaps = Gaps { concerned: Duration::ZERO, others: Duration::ZERO };
        for (number, seen) in (0..).zip(&*self.seen) {
            let is_concerned = concerned.iter().any(|it| it.number() == number);
            let gap = if is_concerned { &mut gaps.concerned } else { &mut gaps.others };
            *gap = seen.lock().longest.max(*gap);
        }
        gaps
    }

    /// Ends all clients; returns the jobs that were accepted.
    pub(super) async fn end(mut self) -> Vec<JobId> {
        self.stop.store(true, Ordering::Relaxed);
        let mut accepted = Vec::new();
        while let Some(ids) = self.tasks.join_next().await {
            accepted.extend(ids.unwrap());
        }
        accepted
    }
}

struct Client {
    broker: Broker,
    partition: Partition,
    pause: Duration,
    seen: Arc<[Mutex<Seen>]>,
    stop: Arc<AtomicBool>,
}

impl Client {
    async fn submit(self) -> Vec<JobId> {
        let task = TaskDescriptor::new("square".parse().unwrap());
        let mut accepted = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let id = JobId::generate(self.partition);
            let payload = format!("{{\"n\":{}}}", accepted.len() % 1000);
            let job = NewJob { durability: Durability::REPLICA, ..NewJob::of(&task, id, payload) };
            if self.submit_until_accepted(&job).await {
                accepted.push(id);
                self.record();
            }
            tokio::time::sleep(self.pause).await;
        }
        accepted
    }

    async fn submit_until_accepted(&self, job: &NewJob) -> bool {
        while !self.stop.load(Ordering::Relaxed) {
            match self.broker.enqueue(std::slice::from_ref(job)).await.remove(0) {
                Ok(Enqueued::Conflict) => panic!("there is no key"),
                Ok(_) => return true,
                Err(error @ (Error::Refused { .. } | Error::Unreadable { .. })) => {
                    panic!("a failover is not for an operator: {error}")
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        false
    }

    fn record(&self) {
        let mut seen = self.seen[usize::from(self.partition.number())].lock();
        let now = Instant::now();
        let gap = now - std::mem::replace(&mut seen.last, now);
        seen.longest = seen.longest.max(gap);
        seen.accepted += 1;
    }
}

/// Waits until all jobs have ended; returns those that were lost or have not succeeded.
pub(super) async fn check(broker: &Broker, accepted: &[JobId]) -> Vec<String> {
    let outcomes = stream::iter(accepted).map(|&id| outcome(broker, id)).buffer_unordered(READS);
    let outcomes: Vec<_> = outcomes.collect().await;
    outcomes.into_iter().flatten().collect()
}

/// Waits until a job has ended; returns what is wrong if it has not succeeded.
async fn outcome(broker: &Broker, id: JobId) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let problem = match broker.job(id).await {
            Ok(Lookup::Found(job)) if job.status == Status::Succeeded => return None,
            Ok(Lookup::Found(job)) => format!("{id} is {}", job.status),
            Ok(Lookup::Gone(_) | Lookup::Unknown) => return Some(format!("{id} is lost")),
            Err(error) => format!("{id}: {error}"),
        };
        if Instant::now() > deadline {
            return Some(problem);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
