//! Workers that died under the eyes of a supervisor.

use std::collections::HashSet;

use crunch_common::broker::{Error, Reclaimed, Sequence, TaskNames};

use super::*;

impl World {
    /// The world's worker is reclaimed, and a new one takes its place.
    async fn reclaim(&mut self) -> Result<(WorkerId, Reclaimed), String> {
        let dead = std::mem::replace(&mut self.worker, WorkerId::generate());
        let reclaimed = self.broker.reclaim(dead).await.map_err(|error| error.to_string())?;
        Ok((dead, reclaimed))
    }

    async fn losses(&self, job: &NewJob) -> Result<(Status, u32), String> {
        match self.broker.job(job.id).await.map_err(|error| error.to_string())? {
            Lookup::Found(job) => Ok((job.status, job.losses)),
            Lookup::Gone(_) | Lookup::Unknown => Err("the job is gone".into()),
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

pub(super) async fn taken_back(world: &mut World) -> Check {
    let jobs = [world.job("{}"), world.job("{}"), world.job("{}")];
    world.submit(&jobs[..1]).await?;
    let neighbour = world.worker;
    ensure(world.claim(1).await?.claims.len() == 1, "a neighbour has a job")?;

    world.worker = WorkerId::generate();
    world.submit(&jobs[1..]).await?;
    world.heartbeat(&[]).await?;
    ensure(world.claim(2).await?.claims.len() == 2, "the worker gets the others")?;
    world.broker.cancel(jobs[2].id).await.map_err(|error| error.to_string())?;
    world.take_wake_token().await;
    let (dead, reclaimed) = world.reclaim().await?;
    ensure(reclaimed == Reclaimed { requeued: 1, failed: 0 }, "the one that is wanted is back")?;
    ensure(world.take_wake_token().await, "and wakes somebody")?;
    ensure(world.losses(&jobs[0]).await? == (Status::Running, 0), "the neighbour goes on")?;
    ensure(world.losses(&jobs[1]).await? == (Status::Queued, 1), "a loss is counted")?;
    ensure(world.losses(&jobs[2]).await? == (Status::Canceled, 1), "the other is canceled")?;
    ensure(world.query_number("ZCARD", "queue:story:running").await == 1, "the leases are gone")?;
    let Lookup::Found(attempts) =
        world.broker.attempts(jobs[1].id).await.map_err(|error| error.to_string())?
    else {
        return Err("the job is gone".into());
    };
    ensure(attempts.len() == 1 && attempts[0].outcome == "lost", "the attempt is remembered")?;
    ensure(!world.is_listed(dead).await && world.is_listed(neighbour).await, "it is not listed")?;

    let again = world.broker.reclaim(dead).await.map_err(|error| error.to_string())?;
    ensure(again == Reclaimed::default(), "a second reclaim finds nothing")?;
    ensure(world.claim(9).await?.claims[0].job.attempt == 1, "the next run is the first again")
}

pub(super) async fn last_words(world: &mut World) -> Check {
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
    for strand in [Sequence::Primary, Sequence::Secondary] {
        let late = world.broker.exchange_on(strand, Partition::default(), &exchange).await;
        ensure(matches!(late, Err(Error::StaleExchange)), "the dead get no jobs")?;
    }
    let late = world.broker.settle_apart(Partition::default(), &exchange, 0).await;
    ensure(matches!(late, Err(Error::StaleExchange)), "nor are they heard on a way of their own")?;
    ensure(world.query_number("ZCARD", "queue:story:running").await == 0, "nothing is theirs")?;
    ensure(world.heartbeat(&[lease]).await? == [Verdict::Lost], "their beats keep nothing")?;
    ensure(!world.is_listed(dead).await, "nor make them known again")
}

/// Dies at once with every job, beating until then: blame needs no lease that was ever extended.
pub(super) async fn poison(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    for loss in 1..=5 {
        world.heartbeat(&[]).await?;
        let exchanged = world.claim(1).await?;
        ensure(exchanged.claims.len() == 1, "it is handed out")?;
        ensure(exchanged.drain == (loss > 2), "alone from its third run on")?;
        let (_, reclaimed) = world.reclaim().await?;
        let expected = Reclaimed { requeued: u64::from(loss < 5), failed: u64::from(loss == 5) };
        ensure(reclaimed == expected, "it is back until its fifth loss")?;
    }
    ensure(world.losses(&job).await? == (Status::Failed, 5), "then it has failed")?;
    ensure(world.query_number("ZCARD", "queue:story:failed").await == 1, "and is a dead letter")
}

pub(super) async fn reserved(world: &mut World) -> Check {
    let () = redis::pipe()
        .rpush(world.key("queue:story:ready:solitary"), "somebody")
        .sadd(world.key("unusual"), "story")
        .query_async(&mut world.redis)
        .await
        .unwrap();
    world.busy = 1;
    ensure(world.claim(1).await?.drain, "a worker is chosen to run empty")?;
    world.reclaim().await?;
    ensure(world.claim(1).await?.drain, "another is chosen when it is dead")
}

/// More jobs in one queue than one call looks at, and more queues.
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
            let claims = world.exchange_with_queues(vec![queue.clone()], Vec::new(), left).await?.claims;
            left -= claims.len();
            ids.extend(claims.into_iter().map(|claim| claim.job.id));
        }
    }
    let held = ids.len() as u64;
    let (_, reclaimed) = world.reclaim().await?;
    ensure(reclaimed == Reclaimed { requeued: held, failed: 0 }, "every one is back, once")?;
    let names: Vec<_> = queues.iter().map(QueueName::as_str).collect();
    ensure(world.ready_count(&names).await == held, "each in its queue")
}
