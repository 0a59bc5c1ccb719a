//! Wake-up tokens: which changes wake a worker, and which do not.

use super::*;

pub(super) async fn tokens(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..3).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    for left in [2, 1, 0] {
        ensure(world.take_wake_token().await, "there is a token")?;
        ensure(!world.take_wake_token().await, "there is only one token")?;
        ensure(world.claim(1).await?.claims.len() == 1, "a job is handed out")?;
        ensure(
            world.query_number("LLEN", "queue:story:ready:normal").await == left,
            "one job fewer is ready",
        )?;
    }
    ensure(!world.take_wake_token().await, "no token is left without a job")
}

pub(super) async fn delayed_tokens(world: &mut World) -> Check {
    let after = |world: &World, ms| NewJob {
        start: Start::After(Duration::from_millis(ms)),
        ..world.job("{}")
    };
    world.submit(&[after(world, 5000)]).await?;
    ensure(!world.take_wake_token().await, "a job that is due in 5 s wakes no worker")?;

    world.submit(&[after(world, 1000)]).await?;
    ensure(
        world.take_wake_token().await,
        "a job that is due in 1 s wakes a worker, which sets a timer",
    )?;
    ensure(
        world.claim(1).await?.next_due == Some(Duration::from_secs(1)),
        "the exchange returns when the next job is due",
    )?;

    world.submit(&[after(world, 1500)]).await?;
    ensure(!world.take_wake_token().await, "a job that is due later wakes no worker")?;

    world.advance_clock(1000).await;
    let exchanged = world.claim(2).await?;
    ensure(
        exchanged.claims.len() == 1 && exchanged.next_due == Some(Duration::from_millis(500)),
        "the job is handed out when it is due",
    )?;

    world.submit(&[world.job("{}")]).await?;
    ensure(world.take_wake_token().await, "a job that can start wakes a worker")?;
    world.submit(&[after(world, 100)]).await?;
    ensure(
        world.take_wake_token().await,
        "a new earliest delayed job wakes a worker even if another job is ready",
    )
}

pub(super) async fn resume(world: &mut World) -> Check {
    let queue = "story".parse().unwrap();
    world.broker.pause(&queue, true).await.map_err(|error| error.to_string())?;
    world.submit(&[world.job("{}")]).await?;
    let _ = world.take_wake_token().await;
    ensure(world.claim(1).await?.claims.is_empty(), "a paused queue hands out nothing")?;
    ensure(!world.take_wake_token().await, "a claim from a paused queue wakes no worker")?;

    world.broker.resume(&queue).await.map_err(|error| error.to_string())?;
    ensure(world.take_wake_token().await, "resume wakes a worker")?;
    ensure(world.claim(1).await?.claims.len() == 1, "the job is claimed after the resume")
}

pub(super) async fn released(world: &mut World) -> Check {
    world.submit(&[world.job("{}"), world.job("{}")]).await?;
    let mut claims = world.claim(2).await?.claims;
    ensure(
        world.take_wake_token().await && !world.take_wake_token().await,
        "there is one token after the claim",
    )?;
    for claim in claims.drain(..) {
        let settlement = claim.lease.release(ReleaseCause::Worker);
        let exchanged = world.exchange_with_queues(Vec::new(), vec![settlement], 0).await?;
        ensure(exchanged.settled == [Settled::Done], "the job is released")?;
        ensure(world.take_wake_token().await, "a worker is woken")?;
    }
    Ok(())
}

/// The index can lack a queue, for example after a version that has no index: no worker reads the queue until a sweep
/// or an idle worker lists it again.
pub(super) async fn side_queues(world: &mut World) -> Check {
    let urgent = NewJob { priority: Priority::Urgent, ..world.job("{}") };
    world.submit(&[urgent]).await?;
    ensure(world.query_number("SCARD", "unusual").await == 1, "the queue is listed")?;

    ensure(world.query_number("DEL", "unusual").await == 1, "the index is deleted")?;
    let exchanged = world.claim(1).await?;
    ensure(
        exchanged.claims.is_empty() && exchanged.more,
        "an exchange that claims nothing finds the queue and asks to be called again",
    )?;
    ensure(
        world.query_number("SCARD", "unusual").await == 1,
        "the exchange lists the queue again",
    )?;

    ensure(world.query_number("DEL", "unusual").await == 1, "the index is deleted again")?;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(
        world.claim(1).await?.claims.len() == 1,
        "a job is claimed after a sweep listed the queue",
    )?;

    world.advance_clock(10_000).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(
        world.query_number("EXISTS", "unusual").await == 0,
        "a sweep removes an empty queue from the index",
    )
}
