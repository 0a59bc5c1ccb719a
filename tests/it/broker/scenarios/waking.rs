//! Wake-up tokens: who is woken, and who is not.

use super::*;

pub(super) async fn tokens(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..3).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    for left in [2, 1, 0] {
        ensure(world.take_wake_token().await, "a token lies there")?;
        ensure(!world.take_wake_token().await, "it is the only one")?;
        ensure(world.claim(1).await?.claims.len() == 1, "a job is handed out")?;
        ensure(world.query_number("LLEN", "queue:story:ready:normal").await == left, "one fewer waits")?;
    }
    ensure(!world.take_wake_token().await, "nobody is woken for nothing")
}

pub(super) async fn delayed_tokens(world: &mut World) -> Check {
    let after = |world: &World, ms| NewJob {
        start: Start::After(Duration::from_millis(ms)),
        ..world.job("{}")
    };
    world.submit(&[after(world, 5000)]).await?;
    ensure(!world.take_wake_token().await, "a job due in 5 s can wait for the next look")?;
    world.submit(&[after(world, 1000)]).await?;
    ensure(world.take_wake_token().await, "a job due in 1 s makes somebody set a timer")?;
    ensure(
        world.claim(1).await?.next_due == Some(Duration::from_secs(1)),
        "the exchange tells when",
    )?;
    world.submit(&[after(world, 1500)]).await?;
    ensure(!world.take_wake_token().await, "a later one changes nothing")?;
    world.advance_clock(1000).await;
    let exchanged = world.claim(2).await?;
    ensure(
        exchanged.claims.len() == 1 && exchanged.next_due == Some(Duration::from_millis(500)),
        "it is handed out when due",
    )?;
    world.submit(&[world.job("{}")]).await?;
    ensure(world.take_wake_token().await, "a job that can start wakes somebody")?;
    world.submit(&[after(world, 100)]).await?;
    ensure(world.take_wake_token().await, "a new earliest does so where another job waits, too")
}

pub(super) async fn resume(world: &mut World) -> Check {
    let queue = "story".parse().unwrap();
    world.broker.pause(&queue, true).await.map_err(|error| error.to_string())?;
    world.submit(&[world.job("{}")]).await?;
    let _ = world.take_wake_token().await;
    ensure(world.claim(1).await?.claims.is_empty(), "a paused queue hands out nothing")?;
    ensure(!world.take_wake_token().await, "and wakes nobody")?;
    world.broker.resume(&queue).await.map_err(|error| error.to_string())?;
    ensure(world.take_wake_token().await, "resume wakes a worker")?;
    ensure(world.claim(1).await?.claims.len() == 1, "which gets the job")
}

pub(super) async fn given_back(world: &mut World) -> Check {
    world.submit(&[world.job("{}"), world.job("{}")]).await?;
    let mut claims = world.claim(2).await?.claims;
    ensure(world.take_wake_token().await && !world.take_wake_token().await, "the first is all there is")?;
    for claim in claims.drain(..) {
        let settlement = claim.lease.release(ReleaseCause::Shutdown);
        let exchanged = world.exchange_with_queues(Vec::new(), vec![settlement], 0).await?;
        ensure(exchanged.settled == [Settled::Done], "it is given back")?;
        ensure(world.take_wake_token().await, "somebody is woken")?;
    }
    Ok(())
}

/// Lost by a version that lists none, say: until a sweep lists it again nobody looks there.
pub(super) async fn unusual(world: &mut World) -> Check {
    let urgent = NewJob { priority: Priority::Urgent, ..world.job("{}") };
    world.submit(&[urgent]).await?;
    ensure(world.query_number("SCARD", "unusual").await == 1, "the queue is listed")?;
    ensure(world.query_number("DEL", "unusual").await == 1, "and lost")?;
    let exchanged = world.claim(1).await?;
    ensure(exchanged.claims.is_empty() && exchanged.more, "a worker with nothing to do finds it")?;
    ensure(world.query_number("SCARD", "unusual").await == 1, "and lists it again")?;
    ensure(world.query_number("DEL", "unusual").await == 1, "it is lost again")?;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(world.claim(1).await?.claims.len() == 1, "a sweep finds it, and so does a worker")?;
    world.advance_clock(10_000).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("EXISTS", "unusual").await == 0, "once it is empty it is listed no more")
}
