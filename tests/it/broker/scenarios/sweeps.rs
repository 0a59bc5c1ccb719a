//! Which queues a sweep visits: those in which something is due, and a few of the others in turn.

use crunch_common::job::JobId;

use super::*;

/// More queues than sweeps visit in turn during a lease.
const OTHER_QUEUES: usize = 500;

/// Submits a job to each of many other queues. The scenario's own queue is behind them in the index.
async fn fill_other_queues(world: &World) -> Check {
    let job =
        |at: usize| NewJob { queue: format!("crowd-{at:03}").parse().unwrap(), ..world.job("{}") };
    world.submit(&(0..OTHER_QUEUES).map(job).collect::<Vec<_>>()).await
}

async fn sweep(world: &World) -> Check {
    let result = world.broker.sweep(Partition::default(), None).await;
    result.map(|_| ()).map_err(|error| error.to_string())
}

async fn status(world: &World, id: JobId) -> Result<Status, String> {
    match world.broker.job(id).await.map_err(|error| error.to_string())? {
        Lookup::Found(job) => Ok(job.status),
        _ => Err("the job does not exist".to_owned()),
    }
}

async fn cursor(world: &mut World) -> u64 {
    let key = world.key("sweep");
    redis::cmd("HGET").arg(key).arg("cursor").query_async(&mut world.redis).await.unwrap()
}

pub(super) async fn many_queues(world: &mut World) -> Check {
    fill_other_queues(world).await?;
    sweep(world).await?;
    ensure(cursor(world).await == 32, "a sweep without anything due visits 32 queues")?;

    let urgent = NewJob { priority: Priority::Urgent, ..world.job("{}") };
    let delayed = NewJob { start: Start::After(Duration::from_secs(4)), ..world.job("{}") };
    let (first, second) = (world.job("{}"), world.job("{}"));
    let ids = [urgent.id, first.id, second.id, delayed.id];

    world.submit(&[urgent]).await?;
    let claims = world.claim(1).await?.claims;
    ensure(claims.len() == 1, "an urgent job is claimed")?;
    world.sweep_for_seconds(1).await?;

    world.submit(&[first, delayed, second]).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "a normal job is claimed a second later")?;

    world.sweep_for_seconds(3).await?;
    ensure(
        status(world, ids[3]).await? == Status::Scheduled,
        "the delayed job is not ready before it is due",
    )?;
    world.sweep_for_seconds(1).await?;
    ensure(
        status(world, ids[3]).await? == Status::Queued,
        "the delayed job is ready when it is due",
    )?;

    world.sweep_for_seconds(4).await?;
    ensure(status(world, ids[0]).await? == Status::Running, "the first lease has not expired yet")?;
    world.sweep_for_seconds(1).await?;
    ensure(status(world, ids[0]).await? == Status::Queued, "the first lease has expired")?;
    ensure(
        status(world, ids[1]).await? == Status::Running,
        "the second lease has not expired yet",
    )?;
    world.sweep_for_seconds(1).await?;
    ensure(status(world, ids[1]).await? == Status::Queued, "the second lease has expired")?;
    ensure(cursor(world).await < OTHER_QUEUES as u64, "the queue was not visited in turn")
}

pub(super) async fn clock_back(world: &mut World) -> Check {
    fill_other_queues(world).await?;
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "a job is claimed")?;
    sweep(world).await?;

    world.now -= 3_600_000;
    world.sweep_for_seconds(1).await?;

    let key = world.key("sweep");
    let mut command = redis::cmd("HGET");
    let all: u64 = command.arg(key).arg("all").query_async(&mut world.redis).await.unwrap();
    ensure(all == 0, "all queues are visited in one round only")?;

    world.sweep_for_seconds(9).await?;
    ensure(status(world, id).await? == Status::Running, "the lease starts again by the new clock")?;
    world.sweep_for_seconds(2).await?;
    ensure(status(world, id).await? == Status::Queued, "the lease expires in time by the new clock")
}

pub(super) async fn nearly_full(world: &mut World) -> Check {
    fill_other_queues(world).await?;
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let _answer = world.exchange(vec![lease.complete(Payload::json("1"))], 0).await?;

    // Without `maxmemory`, 0 percent of it are used: at or above this watermark.
    let key = world.key("sweep");
    let mut command = redis::cmd("HSET");
    let () = command.arg(key).arg("watermark").arg(0).query_async(&mut world.redis).await.unwrap();

    for _ in 0..OTHER_QUEUES / 32 + 2 {
        world.heartbeat(&[]).await?;
    }

    let expired = world.broker.job(job.id).await.map_err(|error| error.to_string())?;
    ensure(matches!(expired, Lookup::Gone(_)), "one round deletes ended jobs in every queue")
}

/// Canceled jobs of a queue that no worker serves: nothing is due, and a sweep drops all of them in its next round.
pub(super) async fn rounds(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..120).map(|_| world.job("{}")).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    for jobs in jobs.chunks(50) {
        world.submit(jobs).await?;
    }
    sweep(world).await?;
    for id in ids {
        let canceled = world.broker.cancel(id).await;
        canceled.map_err(|error| error.to_string())?;
    }

    world.sweep_for_seconds(9).await?;
    ensure(
        world.ready_count(&["story"]).await == 120,
        "the queue is not visited between two rounds",
    )?;
    world.sweep_for_seconds(1).await?;
    ensure(world.ready_count(&["story"]).await == 0, "the next round drops all of them")?;
    ensure(world.query_number("EXISTS", "queue:story:ghosts").await == 0, "no ghost is left")
}

/// A call promotes a hundred jobs: the queue stays due until all are promoted.
pub(super) async fn many_jobs(world: &mut World) -> Check {
    fill_other_queues(world).await?;
    let job = |_| NewJob { start: Start::After(Duration::from_secs(1)), ..world.job("{}") };
    world.submit(&(0..250).map(job).collect::<Vec<_>>()).await?;
    world.sweep_for_seconds(1).await?;
    ensure(world.ready_count(&["story"]).await == 250, "one sweep continues until all are promoted")
}

/// Without looks a sweep would take the ten seconds for an outage, and wait for the longest lease there is.
pub(super) async fn quiet(world: &mut World) -> Check {
    for in_heartbeat in [false, true] {
        sweep(world).await?;
        let worker = std::mem::replace(&mut world.worker, WorkerId::generate());
        world.lease = Duration::from_secs(3600);
        world.heartbeat(&[]).await?;
        (world.worker, world.lease) = (worker, LEASE);
        world.advance_clock(10_000).await;
        let id = look_and_claim(world).await?;
        world.advance_clock(1000).await;
        if in_heartbeat {
            world.worker = WorkerId::generate();
            world.heartbeat(&[]).await?;
            world.worker = worker;
        } else {
            sweep_after_look(world).await?;
        }
        world.sweep_for_seconds(8).await?;
        ensure(status(world, id).await? == Status::Running, "its lease has not expired yet")?;
        world.sweep_for_seconds(2).await?;
        ensure(status(world, id).await? == Status::Queued, "its lease has expired")?;
        world.broker.purge(&"story".parse().unwrap()).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// An outage, or a jump of the clock, between the look and the sweep.
pub(super) async fn outage_after_look(world: &mut World) -> Check {
    sweep(world).await?;
    let id = look_and_claim(world).await?;
    world.advance_clock(3_600_000).await;
    sweep_after_look(world).await?;
    world.sweep_for_seconds(9).await?;
    ensure(status(world, id).await? == Status::Running, "its worker may be alive")?;
    world.sweep_for_seconds(2).await?;
    ensure(status(world, id).await? == Status::Queued, "its worker has sent no heartbeat")
}

/// Sees that nothing is due, and then claims a job.
async fn look_and_claim(world: &mut World) -> Result<JobId, String> {
    world.quiet_at = Some(Timestamp::from_unix_ms(world.now));
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "the job is claimed")?;
    Ok(id)
}

async fn sweep_after_look(world: &World) -> Check {
    let result = world.broker.sweep(Partition::default(), world.quiet_at).await;
    result.map(|_| ()).map_err(|error| error.to_string())
}
