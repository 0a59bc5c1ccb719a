//! Workers that went silent, and the jobs that made them.

use crunch_common::broker::{Claim, Error, Sequence, TaskNames};

use super::*;

pub(super) async fn poison(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job, world.job("{}")]).await?;
    world.sweep_for_seconds(11).await?;
    for loss in 1..=5 {
        // Nobody beats for this worker, so its lease is taken back, and it is to blame.
        let exchanged = world.claim(1).await?;
        let first = exchanged.claims;
        ensure(
            first.len() == 1 && first[0].job.id == id && first[0].job.attempt == 1,
            "it comes first, uncharged",
        )?;
        ensure(exchanged.drain == (loss > 2), "alone from its third run on")?;
        if loss > 2 {
            world.busy = 1;
            let exchanged = world.claim(3).await?;
            ensure(exchanged.claims.is_empty() && exchanged.drain, "nothing runs beside it")?;
            world.busy = 0;
        }
        world.sweep_for_seconds(11).await?;
        if (2..5).contains(&loss) {
            world.busy = 1;
            let exchanged = world.claim(9).await?;
            ensure(
                exchanged.claims.is_empty() && exchanged.drain,
                "a busy worker gets nothing but the wish to drain",
            )?;
            world.busy = 0;
        }
    }
    let Lookup::Found(job) = world.broker.job(id).await.map_err(|error| error.to_string())? else {
        return Err("the job is gone".into());
    };
    ensure(job.status == Status::Failed && job.losses == 5, "it failed")?;
    ensure(
        job.error.is_some_and(|error| error.code == ErrorCode::worker_lost()),
        "for the loss of its workers",
    )?;
    ensure(world.claim(9).await?.claims.len() == 1, "its neighbour is unharmed")
}

pub(super) async fn reserved(world: &mut World) -> Check {
    world.broker.pause(&"story".parse().unwrap(), true).await.map_err(|error| error.to_string())?;
    let () = redis::pipe()
        .rpush(world.key("queue:story:ready:solitary"), "somebody")
        .sadd(world.key("unusual"), "story")
        .query_async(&mut world.redis)
        .await
        .unwrap();
    world.busy = 1;
    ensure(!world.claim(1).await?.drain, "a paused queue makes nobody run empty")?;
    world.broker.resume(&"story".parse().unwrap()).await.map_err(|error| error.to_string())?;
    ensure(world.claim(1).await?.drain, "an open one does")?;
    let reserved = world.key("reserved");
    let () = redis::cmd("PEXPIRE").arg(&reserved).arg(5000).query_async(&mut world.redis).await.unwrap();
    ensure(world.claim(1).await?.drain, "it stays chosen")?;
    ensure(world.query_number("PTTL", "reserved").await > 5000, "for another lease")
}

pub(super) async fn outage(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(&[job]).await?;
    world.sweep_for_seconds(11).await?;
    world.heartbeat(&[]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let lease = claim.lease.key();
    // Beats every 2.5 s, the last one just before Redis goes.
    for _ in 0..3 {
        world.advance_clock(2500).await;
        world.heartbeat(&[lease]).await?;
    }
    world.advance_clock(7000).await;
    world.sweep_for_seconds(1).await?;
    world.advance_clock(500).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    world.advance_clock(1500).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(world.heartbeat(&[lease]).await? == [Verdict::Held], "the living keeps its lease")
}

pub(super) async fn broken(world: &mut World) -> Check {
    let jobs = [world.job("{}"), world.job("{}")];
    world.submit(&jobs).await?;
    world.sweep_for_seconds(11).await?;
    ensure(world.claim(2).await?.claims.len() == 2, "both are handed out")?;
    world.unfence(&jobs[0].id.to_string()).await;
    world.sweep_for_seconds(11).await?;
    ensure(world.query_number("ZCARD", "quarantine").await == 1, "the broken one is put aside")?;
    ensure(world.query_number("LLEN", "queue:story:ready:normal").await == 1, "the other is back")
}

pub(super) async fn stolen(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let key = claim.lease.key();
    let owner = std::mem::replace(&mut world.worker, WorkerId::generate());
    let settlement = claim.lease.complete(Payload::json("1"));
    let settled = world.exchange(vec![settlement], 0).await?.settled;
    ensure(settled == [Settled::Stale], "another worker cannot settle it")?;
    ensure(world.heartbeat(&[key]).await? == [Verdict::Lost], "nor extend it")?;
    world.worker = owner;
    ensure(world.heartbeat(&[key]).await? == [Verdict::Held], "its own worker can")
}

/// Two exchanges of a worker may be under way: each is repeated by itself when its reply got lost.
pub(super) async fn strands(world: &mut World) -> Check {
    world.submit(&(0..4).map(|_| world.job("{}")).collect::<Vec<_>>()).await?;
    let worker = world.worker;
    let exchange = |number, settlements| Exchange {
        worker,
        number,
        lease: Duration::from_secs(10),
        tasks: TaskNames::default(),
        queues: vec!["story".parse().unwrap()],
        settlements,
        want: 2,
        busy: 2,
    };
    let (broker, partition) = (world.broker.clone(), Partition::default());
    let mut handed = Vec::new();
    for (strand, number) in [(Sequence::Primary, 7), (Sequence::Secondary, 3)] {
        let exchanged = broker.exchange_on(strand, partition, &exchange(number, Vec::new())).await;
        handed.push(exchanged.map_err(|error| error.to_string())?.claims);
    }
    for (at, strand, number) in [(0, Sequence::Primary, 7), (1, Sequence::Secondary, 3)] {
        let again = broker.exchange_on(strand, partition, &exchange(number, Vec::new())).await;
        let again = again.map_err(|error| error.to_string())?.claims;
        let keys =
            |claims: &[Claim]| -> Vec<_> { claims.iter().map(|claim| claim.lease.key()).collect() };
        ensure(
            again.len() == 2 && keys(&again) == keys(&handed[at]),
            "each hands out its own again",
        )?;
        let earlier =
            broker.exchange_on(strand, partition, &exchange(number - 1, Vec::new())).await;
        ensure(matches!(earlier, Err(Error::StaleExchange)), "an earlier one is refused")?;
    }
    // What was claimed on one may be settled on the other.
    let claims = handed.swap_remove(0).into_iter();
    let settlements = claims.map(|claim| claim.lease.complete(Payload::json("1"))).collect();
    let settled =
        broker.exchange_on(Sequence::Secondary, partition, &exchange(4, settlements)).await;
    let settled = settled.map_err(|error| error.to_string())?.settled;
    ensure(settled == [Settled::Done, Settled::Done], "they are settled")
}

/// The worker beats and never names the job: it did not receive it.
pub(super) async fn not_delivered(world: &mut World) -> Check {
    let jobs = [world.job("{}"), world.job("{}")];
    world.submit(&jobs).await?;
    world.sweep_for_seconds(11).await?;
    for time in 1..=8 {
        let exchanged = world.claim(1).await?;
        let first = exchanged.claims;
        ensure(first.len() == 1 && first[0].job.id == jobs[0].id, "it comes first")?;
        ensure(first[0].job.attempt == 1, "uncharged")?;
        ensure(exchanged.drain == (time > 3), "alone after its third failed hand-over")?;
        for _ in 0..5 {
            world.advance_clock(2200).await;
            world.heartbeat(&[]).await?;
        }
    }
    let job = world.read_job(jobs[0].id).await?;
    ensure(job.status == Status::Failed && job.losses == 0, "it failed, and nobody was lost")?;
    ensure(
        job.error.is_some_and(|error| error.code == ErrorCode::not_delivered()),
        "for its failed hand-overs",
    )?;
    ensure(world.claim(9).await?.claims.len() == 1, "its neighbour is unharmed")?;
    world.broker.retry(jobs[0].id).await.map_err(|error| error.to_string())?;
    ensure(!world.claim(9).await?.drain, "in a second life it runs beside others")
}

/// Its last beat lies ahead of the clock as long as the step was.
pub(super) async fn set_back(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    world.advance_clock(60_000).await;
    world.heartbeat(&[]).await?;
    world.now -= 60_000;
    world.advance_clock(0).await;
    ensure(world.claim(1).await?.claims.len() == 1, "it is handed out, and its worker dies")?;
    world.sweep_for_seconds(25).await?;
    let job = world.read_job(job.id).await?;
    ensure(job.status == Status::Queued && job.losses == 1, "a loss is counted")
}

pub(super) async fn broken_canceled(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "it is handed out")?;
    world.unfence(&job.id.to_string()).await;
    world.broker.cancel(job.id).await.map(|_| ()).map_err(|error| error.to_string())
}

pub(super) async fn machine(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    for delay in [1, 2, 4, 8, 16, 30, 30] {
        let claim = world.claim(1).await?.claims.pop().ok_or("it is due")?;
        ensure(claim.job.attempt == 1, "it is uncharged")?;
        let cause = ReleaseCause::Machine("no descriptors left".to_owned());
        let exchanged = world.exchange(vec![claim.lease.release(cause)], 1).await?;
        ensure(exchanged.claims.is_empty(), "it is not tried at once")?;
        ensure(exchanged.next_due == Some(Duration::from_secs(delay)), "it waits ever longer")?;
        let seen = world.read_job(job.id).await?;
        ensure(seen.status == Status::Scheduled && seen.attempt == 0, "it is scheduled")?;
        let waiting = seen.waiting_for.ok_or("it shows what it waits for")?;
        ensure(waiting.reason == "machine", "a machine")?;
        ensure(waiting.detail.as_deref() == Some("no descriptors left"), "and why")?;
        world.advance_clock(delay * 1000).await;
    }
    let claim = world.claim(1).await?.claims.pop().ok_or("it is due")?;
    ensure(world.read_job(job.id).await?.waiting_for.is_none(), "once it runs it waits for nothing")?;
    world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
    let release = claim.lease.release(ReleaseCause::Machine(String::new()));
    let _ = world.exchange(vec![release], 0).await?;
    ensure(world.read_job(job.id).await?.status == Status::Canceled, "a cancel wins")
}

pub(super) async fn canceled_meanwhile(world: &mut World) -> Check {
    for ending in [true, false] {
        let job = world.job("{}");
        world.submit(std::slice::from_ref(&job)).await?;
        let claim = world.claim(1).await?.claims.pop().ok_or("it is claimed")?;
        world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
        let error = JobError::retryable(ErrorCode::task_failed(), "once more");
        let settlement = match ending {
            true => claim.lease.retry(error, Duration::ZERO),
            false => claim.lease.release(ReleaseCause::Shutdown),
        };
        let exchanged = world.exchange(vec![settlement], 1).await?;
        ensure(exchanged.claims.is_empty(), "it does not run again")?;
        ensure(world.read_job(job.id).await?.status == Status::Canceled, "it is canceled")?;
    }
    Ok(())
}
