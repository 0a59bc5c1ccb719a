//! Wake-up tokens: which changes wake a worker, and which do not.

use super::*;

impl World {
    /// Removes a wake-up token of the queue; whether there was one.
    pub(super) async fn take_wake_token(&mut self) -> bool {
        let wake = self.key("queue:story:wake");
        let token: Option<String> =
            redis::cmd("LPOP").arg(wake).query_async(&mut self.redis).await.unwrap();
        token.is_some()
    }
}

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
    ensure(!world.take_wake_token().await, "no token is left without a job")?;

    for is_first in [true, false] {
        world.submit(&[world.job("{}")]).await?;
        let has_token = world.take_wake_token().await;
        ensure(has_token == is_first, "the first job that is submitted alone wakes a worker")?;
    }
    Ok(())
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

/// How many queues the next scenario uses: as many as an exchange reads.
const QUEUES: usize = Exchange::MAX_QUEUES;

/// A call about many queues counts how many tokens there are, and finds the missing ones: whichever they are.
pub(super) async fn many_queues(world: &mut World) -> Check {
    let queues: Vec<_> = (0..QUEUES).map(queue).collect();
    let jobs = |world: &World, queues: &[QueueName]| -> Vec<_> {
        let job = |queue: &QueueName| NewJob { queue: queue.clone(), ..world.job("{}") };
        queues.iter().map(job).collect()
    };
    for _ in 0..2 {
        world.submit(&jobs(world, &queues)).await?;
    }
    ensure(tokens_of(world, &queues).await == [1; QUEUES], "each queue gets one token")?;

    let missing: [&[usize]; 6] = [&[0], &[QUEUES - 1], &[3, 20], &[], &[5, 6, 7, 8, 9, 10], &[30]];
    for missing in missing {
        for &at in missing {
            ensure(world.query_number("DEL", &wake(&queues[at])).await == 1, "a token is lost")?;
        }
        let claims = world.exchange_with_queues(queues.clone(), Vec::new(), 1).await?.claims;
        ensure(claims.len() == 1, "a job is claimed")?;
        ensure(tokens_of(world, &queues).await == [1; QUEUES], "it leaves the missing tokens")?;
    }

    // From all but the last ones, everything is taken.
    let (emptied, kept) = queues.split_at(QUEUES - 5);
    loop {
        let exchanged = world.exchange_with_queues(emptied.to_vec(), Vec::new(), 20).await?;
        if exchanged.claims.is_empty() {
            break;
        }
    }
    for queue in &queues {
        world.query_number("DEL", &wake(queue)).await;
    }
    world.exchange_with_queues(queues.clone(), Vec::new(), 0).await?.claims.clear();
    ensure(tokens_of(world, kept).await == [1; 5], "queues with jobs get a token")?;
    ensure(tokens_of(world, emptied).await == [0; QUEUES - 5], "empty ones get none")?;

    // A worker that takes the token of a queue with jobs leaves another one.
    ensure(world.query_number("DEL", &wake(&kept[0])).await == 1, "a worker takes a token")?;
    world.submit(&jobs(world, &queues)).await?;
    ensure(tokens_of(world, kept).await == [0, 1, 1, 1, 1], "no token where jobs waited")?;
    ensure(tokens_of(world, emptied).await == [1; QUEUES - 5], "a token where none waited")
}

/// A call reads which of several queues are empty at once.
pub(super) async fn urgent_among_empty(world: &mut World) -> Check {
    let queues: Vec<_> = (0..8).map(queue).collect();
    let urgent = NewJob { priority: Priority::Urgent, queue: queues[5].clone(), ..world.job("{}") };
    world.submit(&[urgent]).await?;
    let claims = world.exchange_with_queues(queues, Vec::new(), 1).await?.claims;
    ensure(claims.len() == 1, "a job outside the normal lane is found")
}

/// A call hands out 128 KiB.
pub(super) async fn no_room(world: &mut World) -> Check {
    let payload = format!("\"{}\"", "x".repeat(60_000));
    let jobs: Vec<_> = (0..3).map(|_| world.job(payload.clone())).collect();
    world.submit(&jobs).await?;
    ensure(world.take_wake_token().await, "there is a token")?;
    ensure(world.claim(10).await?.claims.len() == 2, "a call has room for two")?;
    ensure(world.take_wake_token().await, "the third one wakes a worker")
}

fn queue(at: usize) -> QueueName {
    format!("many-{at:02}").parse().unwrap()
}

fn wake(queue: &QueueName) -> String {
    format!("queue:{queue}:wake")
}

async fn tokens_of(world: &mut World, queues: &[QueueName]) -> Vec<u64> {
    let mut tokens = Vec::new();
    for queue in queues {
        tokens.push(world.query_number("LLEN", &wake(queue)).await);
    }
    tokens
}

/// The index can lack a queue, for example after a version that has no index: no worker reads the queue until a sweep
/// or an idle worker lists it again.
pub(super) async fn side_queues(world: &mut World) -> Check {
    let urgent = NewJob { priority: Priority::Urgent, ..world.job("{}") };
    world.submit(&[urgent]).await?;
    ensure(world.query_number("SCARD", "queues:side").await == 1, "the queue is listed")?;

    ensure(world.query_number("DEL", "queues:side").await == 1, "the index is deleted")?;
    let exchanged = world.claim(1).await?;
    ensure(
        exchanged.claims.is_empty() && exchanged.more,
        "an exchange that claims nothing finds the queue and asks to be called again",
    )?;
    ensure(
        world.query_number("SCARD", "queues:side").await == 1,
        "the exchange lists the queue again",
    )?;

    ensure(world.query_number("DEL", "queues:side").await == 1, "the index is deleted again")?;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    ensure(
        world.claim(1).await?.claims.len() == 1,
        "a job is claimed after a sweep listed the queue",
    )?;

    world.advance_clock(10_000).await;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    ensure(
        world.query_number("EXISTS", "queues:side").await == 0,
        "a sweep removes an empty queue from the index",
    )
}
