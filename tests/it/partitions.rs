//! Partitions share the slots of a worker fairly, and an idle one costs little, whatever their number.

use std::collections::HashMap;

use crunch_common::broker::{Broker, Enqueued, Exchange, Library, NewJob};
use crunch_common::job::{JobId, Priority};
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Moment, RedisServer, Stack, eventually};

/// A stack whose jobs are created here, in partitions of our choice.
struct Partitioned {
    stack: Stack,
    broker: Broker,
    partitions: u16,
    /// How long a job takes.
    busy_ms: usize,
}

impl Partitioned {
    fn start(partitions: u16, busy_ms: usize) -> Self {
        let stack = Stack::on(RedisServer::start().with_partitions(partitions));
        let broker = stack.redis.broker("crunch", Library::shipped());
        Self { stack, broker, partitions, busy_ms }
    }

    fn job(&self, partition: u16, priority: Priority) -> NewJob {
        let mut ids = std::iter::repeat_with(|| self.broker.new_id(None));
        let id = ids.find(|id| id.partition().number() == partition).unwrap();
        let task = TaskDescriptor::new("square".parse().unwrap());
        let payload = format!(r#"{{"n":1,"busy_ms":{}}}"#, self.busy_ms);
        let mut job = NewJob::of(&task, id, payload);
        job.priority = priority;
        job
    }

    /// One job for each partition.
    fn round(&self) -> Vec<NewJob> {
        (0..self.partitions).map(|partition| self.job(partition, Priority::Normal)).collect()
    }

    async fn submit(&self, jobs: &[NewJob]) {
        for outcome in self.broker.enqueue(jobs).await {
            assert!(matches!(outcome.unwrap(), Enqueued::Created(_)));
        }
    }

    /// The jobs that started so far, in their order.
    fn started(&self) -> Vec<JobId> {
        let entries = self.stack.ledger().into_iter();
        let starts = entries.filter(|entry| entry.moment == Moment::Start);
        starts.map(|entry| entry.id.parse().unwrap()).collect()
    }

    async fn wait_for(&self, jobs: usize) -> Vec<JobId> {
        eventually("jobs have started", async || {
            let started = self.started();
            (started.len() >= jobs).then_some(started)
        })
        .await
    }
}

/// Offers twice what a worker can do, in all partitions alike, and then asserts that in no partition the oldest job has
/// waited more than twice as long as in another.
async fn overload(partitions: u16, slots: usize) {
    let mut this = Partitioned::start(partitions, 2 * slots);
    let _worker = this.stack.worker_process(slots, &[]);
    // A partition may be one call ahead of another: enough jobs must wait in each for that to matter little.
    let waiting = 10 + 4 * slots.min(Exchange::MAX_CLAIMS);
    let total = 2 * 400.max(waiting * usize::from(partitions));
    // When a job was submitted: how many had been before it.
    let mut submitted = HashMap::new();
    while submitted.len() < total {
        let jobs: Vec<_> =
            (0..32).step_by(usize::from(partitions)).flat_map(|_| this.round()).collect();
        this.submit(&jobs).await;
        submitted.extend(jobs.iter().map(|job| (job.id, submitted.len())).collect::<Vec<_>>());
        this.wait_for(submitted.len() / 2).await;
    }
    let started = this.started();
    let mut oldest = vec![total; usize::from(partitions)];
    for (id, at) in &submitted {
        if !started.contains(id) {
            let partition = usize::from(id.partition().number());
            oldest[partition] = (*at).min(oldest[partition]);
        }
    }
    let waits: Vec<_> = oldest.iter().map(|at| total - at).collect();
    let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*longest <= 2 * shortest, "{partitions} partitions, {slots} slots: {waits:?}");
    this.wait_for(total).await;
}

#[tokio::test]
async fn no_partition_waits_longer_than_others_under_overload() {
    for partitions in [4, 16] {
        for slots in [1, 48] {
            overload(partitions, slots).await;
        }
    }
}

#[tokio::test]
async fn an_urgent_job_waits_at_most_one_turn() {
    for partitions in [4, 16] {
        let mut this = Partitioned::start(partitions, 2);
        for _ in 0..5 {
            this.submit(&this.round()).await;
        }
        let urgent: Vec<_> =
            (0..partitions).map(|partition| this.job(partition, Priority::Urgent)).collect();
        this.submit(&urgent).await;
        let _worker = this.stack.worker_process(1, &[]);
        let started = this.wait_for(6 * usize::from(partitions)).await;
        for job in &urgent {
            let place = started.iter().position(|&id| id == job.id).unwrap();
            assert!(place < usize::from(partitions), "{partitions} partitions: {place}");
        }
    }
}

/// Jobs keep a worker busy in some partitions; then each of the others gets one. It must start while there are jobs in
/// those, and no token wakes the worker for it: it looks for tokens itself.
async fn late_jobs(partitions: u16, slots: usize, busy: &[u16], backlog: usize, busy_ms: usize) {
    let mut this = Partitioned::start(partitions, busy_ms);
    let _worker = this.stack.worker_process(slots, &[]);
    let mut turn = busy.iter().cycle();
    let mut busy_jobs = async |count: usize| {
        let jobs = turn.by_ref().take(count).map(|&at| this.job(at, Priority::Normal));
        this.submit(&jobs.collect::<Vec<_>>()).await;
    };
    busy_jobs(backlog).await;
    let mut submitted = backlog;
    let before = this.wait_for(1).await.len();
    let others = (0..partitions).filter(|partition| !busy.contains(partition));
    let others: Vec<_> = others.map(|partition| this.job(partition, Priority::Normal)).collect();
    this.submit(&others).await;
    eventually("the late jobs have started", async || {
        let started = this.started();
        let after = started.len() - before;
        assert!(after < 4 * backlog, "{partitions} partitions, {slots} slots: {after} others");
        let missing = (started.len() + backlog).saturating_sub(submitted);
        busy_jobs(missing).await;
        submitted += missing;
        others.iter().all(|job| started.contains(&job.id)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_partition_that_had_no_jobs_gets_its_turn_while_another_keeps_the_worker_busy() {
    late_jobs(16, 1, &[3], 100, 2).await;
    late_jobs(2, 300, &[0], 4000, 0).await;
}

/// They end so fast that the worker always has idle slots.
#[tokio::test]
async fn a_partition_that_had_no_jobs_gets_its_turn_beside_many_short_jobs() {
    let busy: Vec<_> = (0..60).collect();
    late_jobs(64, 1000, &busy, 6000, 0).await;
}
