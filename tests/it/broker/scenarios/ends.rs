//! Ended jobs: how long they are kept, and how they are run again.

use crunch_common::broker::ListQuery;

use super::*;

pub(super) async fn expiry(world: &mut World) -> Check {
    world.submit(&[world.job("{}"), world.job("{}")]).await?;
    let [one, other] = <[_; 2]>::try_from(world.claim(2).await?.claims).expect("two claims");
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let [done, failed] = [&one, &other].map(|claim| format!("job:{}", claim.job.id));
    let settlements = vec![one.lease.complete(Payload::json("1")), other.lease.fail(error)];
    ensure(world.exchange(settlements, 0).await?.settled.len() == 2, "both jobs are settled")?;

    world.advance_clock(25 * 3600 * 1000).await;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    ensure(
        world.query_number("ZCARD", "queue:story:finished").await == 1,
        "a succeeded job is removed after a day",
    )?;
    ensure(world.query_number("EXISTS", &done).await == 0, "its record is deleted")?;
    ensure(world.query_number("EXISTS", &failed).await == 1, "that of the failed job is not")?;

    world.advance_clock(30 * 24 * 3600 * 1000).await;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    ensure(
        world.query_number("ZCARD", "queue:story:finished").await == 0,
        "a failed job is removed after a month",
    )?;
    ensure(world.query_number("EXISTS", &failed).await == 0, "its record is deleted too")?;
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
    ensure(world.kept_ms(id).await? == 24 * 3600 * 1000, "a canceled job expires after a day")?;

    world.broker.retry(id).await.map_err(|error| error.to_string())?;
    ensure(world.read_job(id).await?.expires_at.is_none(), "a retried job does not expire")?;
    ensure(world.query_number("EXISTS", "queue:story:finished").await == 0, "it is not listed")?;

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
        world.query_number("ZCARD", "queue:story:finished").await == 1,
        "the expired entry was removed, and one added",
    )?;
    for job in &jobs[..4] {
        let record = format!("job:{}", job.id);
        ensure(world.query_number("EXISTS", &record).await == 0, "the expired jobs are deleted")?;
    }
    Ok(())
}

/// Lists jobs that end in groups, some groups at the same time, in pages of all sizes.
pub(super) async fn listed(world: &mut World) -> Check {
    let mut all = std::collections::BTreeSet::new();
    for (jobs, ms) in [(20, 0), (20, 0), (1, 1), (20, 0), (3, 5)] {
        world.advance_clock(ms).await;
        let jobs: Vec<_> = (0..jobs).map(|_| world.job("{}")).collect();
        all.extend(jobs.iter().map(|job| job.id));
        world.submit(&jobs).await?;
        let claims = world.claim(20).await?.claims;
        let complete =
            |claim: crunch_common::broker::Claim| claim.lease.complete(Payload::json("1"));
        let settled = world.exchange(claims.into_iter().map(complete).collect(), 0).await?.settled;
        ensure(settled.len() == jobs.len(), "all are settled")?;
    }
    for limit in [1, 2, 7, 19, 20, 21, 40, 63, 64, 100] {
        let mut query =
            ListQuery { status: Some(Status::Succeeded), limit, ..ListQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = world.broker.list(&query).await.map_err(|error| error.to_string())?;
            found.extend(page.items.into_iter().map(|job| (job.expires_at, job.id)));
            query.cursor = page.next;
            if query.cursor.is_none() {
                break;
            }
        }
        ensure(found.is_sorted_by(|one, other| one > other), "the newest are first")?;
        ensure(found.len() == all.len(), "each job is listed once")?;
    }
    Ok(())
}

/// Several jobs that end in one step are one entry.
pub(super) async fn together(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..4).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    let claims = world.claim(4).await?.claims;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let fail = |claim: crunch_common::broker::Claim| claim.lease.fail(error.clone());
    let settled = world.exchange(claims.into_iter().map(fail).collect(), 0).await?.settled;
    ensure(settled == [Settled::Done; 4], "four jobs fail")?;
    ensure(world.query_number("ZCARD", "queue:story:finished").await == 1, "they are one entry")?;

    let [deleted, retried, listed, kept] = [0, 1, 2, 3].map(|at| jobs[at].id);
    world.broker.delete(deleted).await.map_err(|error| error.to_string())?;
    world.broker.retry(retried).await.map_err(|error| error.to_string())?;
    // By mistake: the job has not ended.
    let past = (world.now - 1).to_string();
    world.broker.retry(listed).await.map_err(|error| error.to_string())?;
    world.tamper("ZADD", "queue:story:finished", &[&past, &listed.to_string()]).await;

    world.advance_clock(31 * 24 * 3600 * 1000).await;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("EXISTS", "queue:story:finished").await == 0, "all are removed")?;
    ensure(world.query_number("EXISTS", "queue:story:failed").await == 0, "here as well")?;
    let record = format!("job:{kept}");
    ensure(world.query_number("EXISTS", &record).await == 0, "the job that was left is deleted")?;
    for live in [retried, listed] {
        ensure(world.read_job(live).await?.status == Status::Queued, "live jobs are not deleted")?;
    }
    Ok(())
}

pub(super) async fn minimum_retention(world: &mut World) -> Check {
    let job = NewJob { retention: Some(Duration::ZERO), ..world.job("{}") };
    let id = job.id;
    world.submit(&[job]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let settlement = claim.lease.complete(Payload::json("1"));
    ensure(world.exchange(vec![settlement], 0).await?.settled.len() == 1, "the job is settled")?;
    ensure(world.kept_ms(id).await? == 60_000, "the job is kept for a minute")
}
