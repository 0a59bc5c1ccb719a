//! Workers whose supervisor saw them die: their jobs are requeued at once.

use std::collections::HashSet;

use crunch_common::broker::{Error, Reclaimed, Sequence, TaskNames};

use super::*;

impl World {
    /// Reclaims the jobs of the worker, and replaces it with a new one.
    async fn reclaim(&mut self) -> Result<(WorkerId, Reclaimed), String> {
        let dead = std::mem::replace(&mut self.worker, WorkerId::generate());
        let reclaimed = self.broker.reclaim(dead).await.map_err(|error| error.to_string())?;
        Ok((dead, reclaimed))
    }

    async fn status_and_losses(&self, job: &NewJob) -> Result<(Status, u32), String> {
        match self.broker.job(job.id).await.map_err(|error| error.to_string())? {
            Lookup::Found(job) => Ok((job.status, job.losses)),
            Lookup::Gone(_) | Lookup::Unknown => Err("the job does not exist".into()),
        }
    }

    async fn is_listed(&mut self, worker: WorkerId) -> bool {
        let mut listed = false;
        for index in ["workers", "leases"] {
            let name = self.key(index);
            let score: Option<f64> = redis::cmd("ZSCORE")
                .arg(name)
                .arg(worker.to_string())
                .query_async(&mut self.redis)
                .await
                .unwrap();
            listed |= score.is_some();
        }
        listed
    }
}

pub(super) async fn requeued(world: &mut World) -> Check {
    let jobs = [world.job("{}"), world.job("{}"), world.job("{}")];
    world.submit(&jobs[..1]).await?;
    let other_worker = world.worker;
    ensure(world.claim(1).await?.claims.len() == 1, "another worker has a job")?;

    world.worker = WorkerId::generate();
    world.submit(&jobs[1..]).await?;
    world.heartbeat(&[]).await?;
    ensure(world.claim(2).await?.claims.len() == 2, "the worker claims the other jobs")?;
    world.broker.cancel(jobs[2].id).await.map_err(|error| error.to_string())?;
    world.take_wake_token().await;
    let (dead, reclaimed) = world.reclaim().await?;
    ensure(
        reclaimed == Reclaimed { requeued: 1, failed: 0 },
        "the job that is not canceled is requeued",
    )?;
    ensure(world.take_wake_token().await, "the reclaim wakes a worker")?;
    ensure(
        world.status_and_losses(&jobs[0]).await? == (Status::Running, 0),
        "the job of the other worker runs on",
    )?;
    ensure(
        world.status_and_losses(&jobs[1]).await? == (Status::Queued, 1),
        "the job is queued, and a loss is counted",
    )?;
    ensure(
        world.status_and_losses(&jobs[2]).await? == (Status::Canceled, 1),
        "the job with a request to cancel is canceled",
    )?;
    ensure(
        world.query_number("ZCARD", "queue:story:running").await == 1,
        "only the lease of the other worker is left",
    )?;

    let Lookup::Found(attempts) =
        world.broker.attempts(jobs[1].id).await.map_err(|error| error.to_string())?
    else {
        return Err("the job does not exist".into());
    };
    ensure(
        attempts.len() == 1 && attempts[0].outcome == "lost",
        "the history contains the lost attempt",
    )?;
    ensure(
        !world.is_listed(dead).await && world.is_listed(other_worker).await,
        "the dead worker is not listed, the other one is",
    )?;

    let again = world.broker.reclaim(dead).await.map_err(|error| error.to_string())?;
    ensure(again == Reclaimed::default(), "a second reclaim finds nothing")?;
    ensure(world.claim(9).await?.claims[0].job.attempt == 1, "the next attempt is the first again")
}

pub(super) async fn late_calls(world: &mut World) -> Check {
    world.submit(&[world.job("{}"), world.job("{}")]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let lease = claim.lease.key();
    let (dead, _) = world.reclaim().await?;

    world.worker = dead;
    let settlement = claim.lease.complete(Payload::json("1"));
    world.number += 1;
    let exchange = Exchange {
        worker: dead,
        number: world.number,
        lease: Duration::from_secs(10),
        tasks: TaskNames::default(),
        queues: vec!["story".parse().unwrap()],
        settlements: vec![settlement],
        want: 1,
        busy: 0,
    };
    for sequence in [0, 1, 16].into_iter().flat_map(Sequence::of_pool) {
        let late = world.broker.exchange_on(sequence, Partition::default(), &exchange).await;
        ensure(
            matches!(late, Err(Error::StaleExchange)),
            "an exchange of the dead worker is refused",
        )?;
    }
    let late = world.broker.settle_apart(Partition::default(), &exchange, 0).await;
    ensure(
        matches!(late, Err(Error::StaleExchange)),
        "settlements of the dead worker by themselves are refused",
    )?;
    ensure(
        world.query_number("ZCARD", "queue:story:running").await == 0,
        "the dead worker has no leases",
    )?;
    ensure(
        world.heartbeat(&[lease]).await? == [Verdict::Lost],
        "a heartbeat of the dead worker extends no lease",
    )?;
    ensure(!world.is_listed(dead).await, "a heartbeat does not list the dead worker again")
}

/// The worker dies right after each claim, with a recent heartbeat: losses are counted though no lease was ever
/// extended.
pub(super) async fn poison(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;

    for loss in 1..=5 {
        world.heartbeat(&[]).await?;
        let exchanged = world.claim(1).await?;
        ensure(exchanged.claims.len() == 1, "the job is handed out")?;
        ensure(exchanged.reserved == (loss > 2), "the job runs alone from its third run on")?;
        let (_, reclaimed) = world.reclaim().await?;
        let expected = Reclaimed { requeued: u64::from(loss < 5), failed: u64::from(loss == 5) };
        ensure(reclaimed == expected, "the job is requeued until its fifth loss")?;
    }
    ensure(
        world.status_and_losses(&job).await? == (Status::Failed, 5),
        "the job fails with its fifth loss",
    )?;
    ensure(
        world.query_number("ZCARD", "queue:story:failed").await == 1,
        "the job is listed as failed",
    )
}

pub(super) async fn reserved(world: &mut World) -> Check {
    let () = redis::pipe()
        .rpush(world.key("queue:story:ready:solitary"), "somebody")
        .sadd(world.key("queues:side"), "story")
        .query_async(&mut world.redis)
        .await
        .unwrap();

    world.busy = 1;
    ensure(world.claim(1).await?.reserved, "the worker is reserved")?;
    world.reclaim().await?;
    ensure(world.claim(1).await?.reserved, "another worker is reserved after the reclaim")
}

/// More jobs in one queue, and more queues, than one call reads.
pub(super) async fn many(world: &mut World) -> Check {
    let queues: Vec<QueueName> = (0..34).map(|at| format!("q{at}").parse().unwrap()).collect();
    let mut ids = HashSet::new();
    for queue in &queues {
        let count = if *queue == queues[20] { 600 } else { 2 };
        let jobs: Vec<_> =
            (0..count).map(|_| NewJob { queue: queue.clone(), ..world.job("{}") }).collect();
        for jobs in jobs.chunks(100) {
            world.submit(jobs).await?;
        }
        let mut left = count;
        while left > 0 {
            let claims =
                world.exchange_with_queues(vec![queue.clone()], Vec::new(), left).await?.claims;
            left -= claims.len();
            ids.extend(claims.into_iter().map(|claim| claim.job.id));
        }
    }

    let held = ids.len() as u64;
    let (_, reclaimed) = world.reclaim().await?;
    ensure(reclaimed == Reclaimed { requeued: held, failed: 0 }, "every job is requeued once")?;
    let names: Vec<_> = queues.iter().map(QueueName::as_str).collect();
    ensure(world.ready_count(&names).await == held, "each job is ready in its queue")
}
