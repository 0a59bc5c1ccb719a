//! Ended jobs: how long they are kept, and how they are run again.

use super::*;

pub(super) async fn expiry(world: &mut World) -> Check {
    world.submit(&[world.job("{}"), world.job("{}")]).await?;
    let [one, other] = <[_; 2]>::try_from(world.claim(2).await?.claims).expect("two claims");
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let settlements = vec![one.lease.complete(Payload::json("1")), other.lease.fail(error)];
    ensure(world.exchange(settlements, 0).await?.settled.len() == 2, "both jobs are settled")?;

    world.advance_clock(25 * 3600 * 1000).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(
        world.query_number("ZCARD", "queue:story:finished").await == 1,
        "a succeeded job is removed after a day",
    )?;

    world.advance_clock(30 * 24 * 3600 * 1000).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(
        world.query_number("ZCARD", "queue:story:finished").await == 0,
        "a failed job is removed after a month",
    )?;
    ensure(
        world.query_number("ZCARD", "queue:story:failed").await == 0,
        "the list of failed jobs is empty too",
    )
}

pub(super) async fn retried(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    world.broker.cancel(id).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("PTTL", &format!("job:{id}")).await > 0, "a canceled job expires")?;

    world.broker.retry(id).await.map_err(|error| error.to_string())?;
    let ttl: i64 = redis::cmd("PTTL")
        .arg(world.key(&format!("job:{id}")))
        .query_async(&mut world.redis)
        .await
        .unwrap();
    ensure(ttl == -1, "a job that is retried does not expire")?;

    let mut claims = world.claim(1).await?.claims;
    ensure(claims.len() == 1, "the retried job is claimed")?;
    let settlement = claims.remove(0).lease.complete(Payload::json("2"));
    ensure(world.exchange(vec![settlement], 0).await?.settled.len() == 1, "the job is settled")?;
    let Lookup::Found(job) = world.broker.job(id).await.map_err(|error| error.to_string())? else {
        return Err("the job does not exist".into());
    };
    ensure(
        job.status == Status::Succeeded && job.error.is_none() && !job.cancel_requested,
        "the job succeeded, without an error and without a request to cancel it",
    )
}

pub(super) async fn trimmed(world: &mut World) -> Check {
    let day = Duration::from_secs(24 * 3600);
    let jobs: Vec<_> = (0..5).map(|_| NewJob { retention: Some(day), ..world.job("{}") }).collect();
    world.submit(&jobs).await?;

    let mut claims = world.claim(5).await?.claims;
    let last = claims.pop().expect("five claims");
    let settlements =
        claims.into_iter().map(|claim| claim.lease.complete(Payload::json("1"))).collect();
    ensure(world.exchange(settlements, 0).await?.settled.len() == 4, "four jobs are settled")?;

    world.advance_clock(25 * 3600 * 1000).await;
    let settlement = last.lease.complete(Payload::json("1"));
    ensure(
        world.exchange(vec![settlement], 0).await?.settled.len() == 1,
        "the last job is settled",
    )?;
    ensure(
        world.query_number("ZCARD", "queue:story:finished").await == 3,
        "one entry was added, and two expired ones removed",
    )
}

pub(super) async fn minimum_retention(world: &mut World) -> Check {
    let job = NewJob { retention: Some(Duration::ZERO), ..world.job("{}") };
    let id = job.id;
    world.submit(&[job]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let settlement = claim.lease.complete(Payload::json("1"));
    ensure(world.exchange(vec![settlement], 0).await?.settled.len() == 1, "the job is settled")?;
    let ttl = world.query_number("PTTL", &format!("job:{id}")).await;
    ensure((30_000..=60_000).contains(&ttl), "the job is kept for a minute")
}
