//! Workers that stopped sending heartbeats, and the jobs that cause losses.

use crunch_common::broker::{Claim, Error, Sequence, TaskNames};

use super::*;

pub(super) async fn poison(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job, world.job("{}")]).await?;
    world.sweep_for_seconds(11).await?;

    for loss in 1..=5 {
        // The worker sends no heartbeats, so its lease expires, and a loss is counted.
        let exchanged = world.claim(1).await?;
        let first = exchanged.claims;
        ensure(
            first.len() == 1 && first[0].job.id == id && first[0].job.attempt == 1,
            "the job is claimed first, uncharged",
        )?;
        ensure(exchanged.reserved == (loss > 2), "the job runs alone from its third run on")?;
        if loss > 2 {
            world.busy = 1;
            let exchanged = world.claim(3).await?;
            ensure(
                exchanged.claims.is_empty() && exchanged.reserved,
                "no other job runs beside it",
            )?;
            world.busy = 0;
        }
        world.sweep_for_seconds(11).await?;
        if (2..5).contains(&loss) {
            world.busy = 1;
            let exchanged = world.claim(9).await?;
            ensure(
                exchanged.claims.is_empty() && exchanged.reserved,
                "a busy worker gets no jobs, and is reserved",
            )?;
            world.busy = 0;
        }
    }

    let Lookup::Found(job) = world.broker.job(id).await.map_err(|error| error.to_string())? else {
        return Err("the job does not exist".into());
    };
    ensure(job.status == Status::Failed && job.losses == 5, "the job failed with five losses")?;
    ensure(
        job.error.is_some_and(|error| error.code == ErrorCode::worker_lost()),
        "the error is the loss of its workers",
    )?;
    ensure(world.claim(9).await?.claims.len() == 1, "the other job is still queued")
}

pub(super) async fn reserved(world: &mut World) -> Check {
    world.broker.pause(&"story".parse().unwrap(), true).await.map_err(|error| error.to_string())?;
    let () = redis::pipe()
        .rpush(world.key("queue:story:ready:solitary"), "somebody")
        .sadd(world.key("queues:side"), "story")
        .query_async(&mut world.redis)
        .await
        .unwrap();

    world.busy = 1;
    ensure(!world.claim(1).await?.reserved, "a paused queue reserves no worker")?;

    world.broker.resume(&"story".parse().unwrap()).await.map_err(|error| error.to_string())?;
    ensure(world.claim(1).await?.reserved, "a queue that is not paused reserves the worker")?;

    let reserved = world.key("reserved");
    let () =
        redis::cmd("PEXPIRE").arg(&reserved).arg(5000).query_async(&mut world.redis).await.unwrap();
    ensure(world.claim(1).await?.reserved, "the worker stays reserved")?;
    ensure(
        world.query_number("PTTL", "reserved").await > 5000,
        "the reservation is extended by a lease",
    )
}

pub(super) async fn outage(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(&[job]).await?;
    world.sweep_for_seconds(11).await?;
    world.heartbeat(&[]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let lease = claim.lease.key();

    // Heartbeats every 2.5 s, the last one just before the outage of Redis.
    for _ in 0..3 {
        world.advance_clock(2500).await;
        world.heartbeat(&[lease]).await?;
    }

    world.advance_clock(7000).await;
    world.sweep_for_seconds(1).await?;
    world.advance_clock(500).await;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    world.advance_clock(1500).await;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;

    ensure(world.heartbeat(&[lease]).await? == [Verdict::Held], "the worker keeps its lease")
}

pub(super) async fn broken(world: &mut World) -> Check {
    let jobs = [world.job("{}"), world.job("{}")];
    world.submit(&jobs).await?;
    world.sweep_for_seconds(11).await?;
    ensure(world.claim(2).await?.claims.len() == 2, "both jobs are handed out")?;

    world.unfence(&jobs[0].id.to_string()).await;
    world.sweep_for_seconds(11).await?;
    ensure(
        world.query_number("ZCARD", "quarantine").await == 1,
        "the broken record is in quarantine",
    )?;
    ensure(
        world.query_number("LLEN", "queue:story:ready:normal").await == 1,
        "the other job is requeued",
    )
}

pub(super) async fn stolen(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let key = claim.lease.key();

    let owner = std::mem::replace(&mut world.worker, WorkerId::generate());
    let settlement = claim.lease.complete(Payload::json("1"));
    let settled = world.exchange(vec![settlement], 0).await?.settled;
    ensure(settled == [Settled::Stale], "another worker cannot settle the job")?;
    ensure(
        world.heartbeat(&[key]).await? == [Verdict::Lost],
        "another worker cannot extend the lease",
    )?;

    world.worker = owner;
    ensure(
        world.heartbeat(&[key]).await? == [Verdict::Held],
        "the worker of the lease can extend it",
    )
}

/// Two exchanges of a worker may be under way: each is repeated by itself when its reply was lost.
pub(super) async fn sequences(world: &mut World) -> Check {
    world.submit(&(0..8).map(|_| world.job("{}")).collect::<Vec<_>>()).await?;
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
    let mut claimed = Vec::new();
    // Each pool of slots has two.
    let [third, fourth] = Sequence::of_pool(1);
    let sequences = [(Sequence::PRIMARY, 7), (Sequence::SECONDARY, 3), (third, 5), (fourth, 1)];
    for (sequence, number) in sequences {
        let exchanged =
            broker.exchange_on(sequence, partition, &exchange(number, Vec::new())).await;
        claimed.push(exchanged.map_err(|error| error.to_string())?.claims);
    }

    for (at, (sequence, number)) in sequences.into_iter().enumerate() {
        let again = broker.exchange_on(sequence, partition, &exchange(number, Vec::new())).await;
        let again = again.map_err(|error| error.to_string())?.claims;
        let keys =
            |claims: &[Claim]| -> Vec<_> { claims.iter().map(|claim| claim.lease.key()).collect() };
        ensure(
            again.len() == 2 && keys(&again) == keys(&claimed[at]),
            "each repeated exchange returns its own claims again",
        )?;
        let earlier =
            broker.exchange_on(sequence, partition, &exchange(number - 1, Vec::new())).await;
        ensure(
            matches!(earlier, Err(Error::StaleExchange)),
            "an exchange with an earlier number is refused",
        )?;
    }

    // Jobs that were claimed on one sequence may be settled on the other.
    let claims = claimed.swap_remove(0).into_iter();
    let settlements = claims.map(|claim| claim.lease.complete(Payload::json("1"))).collect();
    let settled =
        broker.exchange_on(Sequence::SECONDARY, partition, &exchange(4, settlements)).await;
    let settled = settled.map_err(|error| error.to_string())?.settled;
    ensure(settled == [Settled::Done, Settled::Done], "the jobs are settled")
}

/// The worker sends heartbeats that never name the job: it did not receive it.
pub(super) async fn not_delivered(world: &mut World) -> Check {
    let jobs = [world.job("{}"), world.job("{}")];
    world.submit(&jobs).await?;
    world.sweep_for_seconds(11).await?;

    for time in 1..=8 {
        let exchanged = world.claim(1).await?;
        let first = exchanged.claims;
        ensure(first.len() == 1 && first[0].job.id == jobs[0].id, "the job is claimed first")?;
        ensure(first[0].job.attempt == 1, "the hand-over is uncharged")?;
        ensure(
            exchanged.reserved == (time > 3),
            "the job runs alone after its third failed hand-over",
        )?;
        for _ in 0..5 {
            world.advance_clock(2200).await;
            world.heartbeat(&[]).await?;
        }
    }

    let job = world.read_job(jobs[0].id).await?;
    ensure(job.status == Status::Failed && job.losses == 0, "the job failed without a loss")?;
    ensure(
        job.error.is_some_and(|error| error.code == ErrorCode::not_delivered()),
        "the error is the failed hand-overs",
    )?;
    ensure(world.claim(9).await?.claims.len() == 1, "the other job is still queued")?;

    world.broker.retry(jobs[0].id).await.map_err(|error| error.to_string())?;
    ensure(!world.claim(9).await?.reserved, "a job that is retried by hand runs beside others")
}

/// The last heartbeat of the worker is in the future by as much as the clock was set back.
pub(super) async fn set_back(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    world.advance_clock(60_000).await;
    world.heartbeat(&[]).await?;

    world.now -= 60_000;
    world.advance_clock(0).await;
    ensure(world.claim(1).await?.claims.len() == 1, "the job is handed out, and its worker dies")?;

    world.sweep_for_seconds(25).await?;
    let job = world.read_job(job.id).await?;
    ensure(job.status == Status::Queued && job.losses == 1, "a loss is counted")
}

pub(super) async fn broken_canceled(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "the job is handed out")?;
    world.unfence(&job.id.to_string()).await;
    world.broker.cancel(job.id).await.map(|_| ()).map_err(|error| error.to_string())
}

pub(super) async fn machine(world: &mut World) -> Check {
    let job = world.job("{}");
    world.submit(std::slice::from_ref(&job)).await?;

    for delay in [1, 2, 4, 8, 16, 30, 30] {
        let claim = world.claim(1).await?.claims.pop().ok_or("the job is due")?;
        ensure(claim.job.attempt == 1, "the attempt is uncharged")?;
        let cause = ReleaseCause::Machine("no descriptors left".to_owned());
        let exchanged = world.exchange(vec![claim.lease.release(cause)], 1).await?;
        ensure(exchanged.claims.is_empty(), "the job is not claimed again at once")?;
        ensure(
            exchanged.next_due == Some(Duration::from_secs(delay)),
            "the delay grows up to 30 s",
        )?;
        let seen = world.read_job(job.id).await?;
        ensure(
            seen.status == Status::Scheduled && seen.attempt == 0,
            "the job is scheduled, and uncharged",
        )?;
        let waiting = seen.waiting_for.ok_or("the job shows what it waits for")?;
        ensure(waiting.reason == "machine", "the job waits for a machine")?;
        ensure(waiting.detail.as_deref() == Some("no descriptors left"), "the job shows why")?;
        world.advance_clock(delay * 1000).await;
    }
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is due")?;
    ensure(world.read_job(job.id).await?.waiting_for.is_none(), "a running job waits for nothing")?;
    world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
    let release = claim.lease.release(ReleaseCause::Machine(String::new()));
    let _ = world.exchange(vec![release], 0).await?;
    ensure(
        world.read_job(job.id).await?.status == Status::Canceled,
        "a job with a request to cancel is canceled when it is released",
    )
}

pub(super) async fn canceled_meanwhile(world: &mut World) -> Check {
    for retries in [true, false] {
        let job = world.job("{}");
        world.submit(std::slice::from_ref(&job)).await?;
        let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;
        world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
        let error = JobError::retryable(ErrorCode::task_failed(), "once more");
        let settlement = match retries {
            true => claim.lease.retry(error, Duration::ZERO),
            false => claim.lease.release(ReleaseCause::Worker),
        };
        let exchanged = world.exchange(vec![settlement], 1).await?;
        ensure(exchanged.claims.is_empty(), "the job does not run again")?;
        ensure(world.read_job(job.id).await?.status == Status::Canceled, "the job is canceled")?;
    }
    Ok(())
}
