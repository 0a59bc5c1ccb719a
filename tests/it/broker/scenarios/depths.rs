//! How many jobs of queues are in which state, as metrics and lists show it.

use std::collections::BTreeMap;

use crunch_common::broker::QueueDepth;

use super::*;

/// A new id of a job that was submitted that many minutes ago.
fn aged(id: JobId, minutes: u64) -> JobId {
    let time = id.created_at().unix_ms() - minutes * 60_000;
    let text = id.to_string();
    format!("{:08x}-{:04x}{}", time >> 16, time & 0xffff, &text[13..]).parse().unwrap()
}

/// The minutes for which the oldest job of a queue has waited.
fn oldest_minutes(depth: &QueueDepth) -> Option<u64> {
    depth.depth.oldest_age.map(|age| age.as_secs() / 60)
}

async fn read(world: &World) -> Result<BTreeMap<QueueName, QueueDepth>, String> {
    world.broker.depths(10).await.map_err(|error| error.to_string())
}

pub(super) async fn counted(world: &mut World) -> Check {
    let job = |queue: &str, minutes: u64, priority: Priority| {
        let job = world.job("{}");
        NewJob { id: aged(job.id, minutes), queue: queue.parse().unwrap(), priority, ..job }
    };
    let later = Start::At(Timestamp::from_unix_ms(world.now + 3_600_000));
    let canceled = [job("a", 50, Priority::Normal), job("ghosts", 40, Priority::Normal)];
    let jobs = [
        job("a", 30, Priority::Normal),
        job("a", 20, Priority::Normal),
        job("a", 10, Priority::Low),
        job("b", 10, Priority::Normal),
        job("b", 20, Priority::Urgent),
        NewJob { start: later, ..job("b", 90, Priority::Normal) },
        job("paused", 0, Priority::Normal),
    ];
    let failed = [world.job("{}"), world.job("{}"), world.job("{}")];
    world.submit(&failed).await?;
    let mut claims = world.claim(2).await?.claims.into_iter();
    let lease = claims.next().ok_or("a job is claimed")?.lease;
    let error = JobError::permanent(ErrorCode::task_failed(), "wrong");
    let exchanged = world.exchange(vec![lease.fail(error)], 0).await?;
    ensure(exchanged.settled == [Settled::Done], "a job fails")?;
    world.submit(&jobs).await?;
    world.submit(&canceled).await?;
    for job in &canceled {
        world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
    }
    let paused = world.broker.pause(&"paused".parse().unwrap(), true).await;
    ensure(paused.is_ok(), "a queue is paused")?;

    let depths = read(world).await?;
    let of = |queue: &str| depths.get(&queue.parse::<QueueName>().unwrap()).cloned();
    let story = of("story").ok_or("the queue is known")?.depth;
    let counts = (story.queued, story.running, story.failed, story.delayed);
    ensure(counts == (1, 1, 1, 0), "jobs are counted by their state")?;
    let a = of("a").ok_or("the queue is known")?;
    ensure(a.depth.queued == 3, "jobs of all priorities count, and canceled ones do not")?;
    let b = of("b").ok_or("the queue is known")?;
    ensure((b.depth.queued, b.depth.delayed) == (2, 1), "delayed jobs are counted apart")?;
    ensure(oldest_minutes(&b) == Some(20), "the oldest job of all priorities counts")?;
    let ghosts = of("ghosts").ok_or("the queue is known")?;
    let nothing = (ghosts.depth.queued, ghosts.depth.oldest_age);
    ensure(nothing == (0, None), "a queue whose jobs are all canceled has no oldest job")?;
    let paused: Vec<_> = depths.iter().filter(|(_, it)| it.paused).collect();
    ensure(
        paused.len() == 1 && paused[0].0.as_str() == "paused" && paused[0].1.depth.queued == 1,
        "a paused queue shows it, and no other does",
    )?;

    // A sweep drops the job that was canceled, which was the oldest.
    world.sweep_for_seconds(12).await?;
    let a = read(world).await?.remove(&"a".parse().unwrap()).ok_or("the queue is known")?;
    ensure(oldest_minutes(&a) == Some(30), "the oldest job counts, whatever its lane")
}

/// The index can lack a queue, for example after a version that has no index: its failed jobs are not shown until a sweep
/// lists it again.
pub(super) async fn ended_queues(world: &mut World) -> Check {
    let (failing, canceled) = (world.job("{}"), world.job("{}"));
    world.submit(std::slice::from_ref(&failing)).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;
    let error = JobError::permanent(ErrorCode::task_failed(), "wrong");
    let _ = world.exchange(vec![claim.lease.fail(error)], 0).await?;
    ensure(world.query_number("SCARD", "queues:ended").await == 1, "a failure lists its queue")?;
    let elsewhere = NewJob { queue: "elsewhere".parse().unwrap(), ..canceled };
    world.submit(std::slice::from_ref(&elsewhere)).await?;
    world.broker.cancel(elsewhere.id).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("SCARD", "queues:ended").await == 2, "a ghost lists its queue")?;

    let failed = |depths: &BTreeMap<QueueName, QueueDepth>| {
        depths.get(&failing.queue).map(|it| it.depth.failed)
    };
    ensure(world.query_number("DEL", "queues:ended").await == 1, "the index is deleted")?;
    ensure(failed(&read(world).await?) == Some(0), "no other queue is read")?;
    world.sweep_for_seconds(12).await?;
    ensure(failed(&read(world).await?) == Some(1), "a sweep lists the queue again")?;
    ensure(
        world.query_number("SCARD", "queues:ended").await == 1,
        "and not the one whose ghost it dropped",
    )?;

    world.broker.retry(failing.id).await.map_err(|error| error.to_string())?;
    world.sweep_for_seconds(12).await?;
    ensure(
        world.query_number("EXISTS", "queues:ended").await == 0,
        "a sweep removes a queue without such jobs from the index",
    )
}
