//! Which queues a sweep visits: those in which something is due, and a few of the others in turn.

use crunch_common::job::JobId;

use super::*;

/// More than come by turns while a lease lasts.
const OTHERS: usize = 500;

/// Many queues in which a job waits. The story's own queue comes behind them in the index.
async fn crowd(world: &World) -> Check {
    let job =
        |at: usize| NewJob { queue: format!("crowd-{at:03}").parse().unwrap(), ..world.job("{}") };
    world.submit(&(0..OTHERS).map(job).collect::<Vec<_>>()).await
}

async fn swept(world: &World) -> Check {
    let swept = world.broker.sweep(Partition::default()).await;
    swept.map(|_| ()).map_err(|error| error.to_string())
}

async fn status(world: &World, id: JobId) -> Result<Status, String> {
    match world.broker.job(id).await.map_err(|error| error.to_string())? {
        Lookup::Found(job) => Ok(job.status),
        _ => Err("the job is gone".to_owned()),
    }
}

async fn cursor(world: &mut World) -> u64 {
    let key = world.key("sweep");
    redis::cmd("HGET").arg(key).arg("cursor").query_async(&mut world.redis).await.unwrap()
}

pub(super) async fn many_queues(world: &mut World) -> Check {
    crowd(world).await?;
    swept(world).await?;
    ensure(cursor(world).await == 32, "a sweep without anything due visits 32 queues")?;
    let urgent = NewJob { priority: Priority::Urgent, ..world.job("{}") };
    let delayed = NewJob { start: Start::After(Duration::from_secs(4)), ..world.job("{}") };
    let (first, second) = (world.job("{}"), world.job("{}"));
    let ids = [urgent.id, first.id, second.id, delayed.id];
    world.submit(&[urgent]).await?;
    let lost = world.claim(1).await?.claims;
    ensure(lost.len() == 1, "a job in a lane of its own is claimed")?;
    world.sweep_for_seconds(1).await?;
    world.submit(&[first, delayed, second]).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "another is claimed a second later")?;
    world.sweep_for_seconds(3).await?;
    ensure(status(world, ids[3]).await? == Status::Scheduled, "the delayed one waits")?;
    world.sweep_for_seconds(1).await?;
    ensure(status(world, ids[3]).await? == Status::Queued, "until it is due")?;
    world.sweep_for_seconds(4).await?;
    ensure(status(world, ids[0]).await? == Status::Running, "the first lease has not ended")?;
    world.sweep_for_seconds(1).await?;
    ensure(status(world, ids[0]).await? == Status::Queued, "until it has")?;
    ensure(status(world, ids[1]).await? == Status::Running, "the second ends later")?;
    world.sweep_for_seconds(1).await?;
    ensure(status(world, ids[1]).await? == Status::Queued, "but it does")?;
    ensure(cursor(world).await < OTHERS as u64, "and not in turn")
}

pub(super) async fn clock_back(world: &mut World) -> Check {
    crowd(world).await?;
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "a job is claimed")?;
    swept(world).await?;
    world.now -= 3_600_000;
    world.sweep_for_seconds(1).await?;
    let key = world.key("sweep");
    let mut ask = redis::cmd("HGET");
    let all: u64 = ask.arg(key).arg("all").query_async(&mut world.redis).await.unwrap();
    ensure(all == 0, "one round of all queues is enough")?;
    world.sweep_for_seconds(9).await?;
    ensure(status(world, id).await? == Status::Running, "its lease counts anew")?;
    world.sweep_for_seconds(2).await?;
    ensure(status(world, id).await? == Status::Queued, "and ends in time by the new clock")
}

pub(super) async fn nearly_full(world: &mut World) -> Check {
    crowd(world).await?;
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let _nothing = world.exchange(vec![lease.complete(Payload::json("1"))], 0).await?;
    // Without a `maxmemory` 0 percent of it are used, which is what this watermark allows.
    let full = world.key("sweep");
    let mut set = redis::cmd("HSET");
    let () = set.arg(full).arg("watermark").arg(0).query_async(&mut world.redis).await.unwrap();
    for _ in 0..OTHERS / 32 + 2 {
        world.heartbeat(&[]).await?;
    }
    let gone = world.broker.job(job.id).await.map_err(|error| error.to_string())?;
    ensure(matches!(gone, Lookup::Gone(_)), "one second's round makes room in every queue")
}

/// Canceled jobs of a queue that nobody serves: nothing is due, and a sweep drops them in its next round, all at once.
pub(super) async fn rounds(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..120).map(|_| world.job("{}")).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    for jobs in jobs.chunks(50) {
        world.submit(jobs).await?;
    }
    swept(world).await?;
    for id in ids {
        let canceled = world.broker.cancel(id).await;
        canceled.map_err(|error| error.to_string())?;
    }
    world.sweep_for_seconds(9).await?;
    ensure(world.ready_count(&["story"]).await == 120, "between two rounds nothing is visited")?;
    world.sweep_for_seconds(1).await?;
    ensure(world.ready_count(&["story"]).await == 0, "the next one drops all of them")?;
    ensure(world.query_number("EXISTS", "queue:story:ghosts").await == 0, "and none is left")
}

/// A call promotes a hundred jobs: the queue stays due until all are.
pub(super) async fn many_jobs(world: &mut World) -> Check {
    crowd(world).await?;
    let job = |_| NewJob { start: Start::After(Duration::from_secs(1)), ..world.job("{}") };
    world.submit(&(0..250).map(job).collect::<Vec<_>>()).await?;
    world.sweep_for_seconds(1).await?;
    ensure(world.ready_count(&["story"]).await == 250, "one sweep goes on until all are promoted")
}
