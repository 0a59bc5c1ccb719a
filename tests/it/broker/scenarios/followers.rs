//! Jobs that wait for the holder of their lock, and jobs that need their lock again.

use std::collections::BTreeMap;

use crunch_common::broker::{Idempotency, RetryOutcome, TickOutcome};
use crunch_common::job::{OnConflict, Unique};
use crunch_common::schedule::Overlap;

use super::groups::text;
use super::locks::{lock_of, on};
use super::schedules::every_ten_seconds;
use super::*;

/// While the holder runs, one job waits for its end: the latest.
pub(super) async fn follows(world: &mut World) -> Check {
    let unique = on(OnConflict::KeepLatest);
    let [first, next, last] = ["1", "2", "3"]
        .map(|payload| NewJob { payload: payload.into(), ..world.unique("a", &unique) });
    ensure(world.is_created(&first).await?, "the first job is created")?;
    ensure(
        world.answer(&next).await? == Enqueued::Replaced(first.id),
        "while it waits, it is replaced",
    )?;
    let claim = world.claim_only().await?;
    ensure(&claim.job.payload.bytes[..] == b"2", "the latest is claimed")?;
    let Enqueued::Created(follower) = world.answer(&next).await? else {
        return Err("while it runs, the next one is created".to_owned());
    };
    let waits = |job: &JobRecord| {
        let reason = job.waiting_for.as_ref().map(|it| (it.reason.as_str(), it.detail.clone()));
        job.status == Status::Scheduled && reason == Some(("lock", Some(first.id.to_string())))
    };
    ensure(waits(&follower), &format!("it waits for the first: {follower:?}"))?;
    ensure(waits(&world.read_job(next.id).await?), "and says so")?;
    ensure(world.answer(&last).await? == Enqueued::Replaced(next.id), "the third replaces it")?;
    ensure(waits(&world.read_job(next.id).await?), "which still waits")?;
    ensure(world.claim(10).await?.claims.is_empty(), "nothing is claimed")?;
    world.expect_findings("").await?;

    world.take_wake_token().await;
    world.complete(claim).await?;
    ensure(world.take_wake_token().await, "the end wakes a worker")?;
    let claim = world.claim_only().await?;
    let claimed = (claim.job.id, &claim.job.payload.bytes[..]);
    ensure(
        claimed == (next.id, b"3"),
        "the end of the first makes it ready, with the latest payload",
    )?;
    let reject = world.unique("a", &on(OnConflict::Reject));
    ensure(world.answer(&reject).await? == Enqueued::Locked(next.id), "it holds the lock now")?;
    world.complete(claim).await?;
    ensure(world.is_created(&reject).await?, "until it has ended")
}

/// A job that ends while it waits for the holder is not named any more.
pub(super) async fn follower_ends(world: &mut World) -> Check {
    let unique = on(OnConflict::KeepLatest);
    let jobs = [(); 2].map(|()| world.unique("a", &unique));
    ensure(world.is_created(&jobs[0]).await?, "the first job is created")?;
    world.claim_only().await?;
    ensure(world.is_created(&jobs[1]).await?, "another one waits for it")?;
    world.broker.cancel(jobs[1].id).await.map_err(text)?;
    world.expect_findings("").await.map(|_| ())
}

/// However the holder ends, and whichever of the two ends first.
pub(super) async fn every_end(world: &mut World) -> Check {
    let unique = on(OnConflict::KeepLatest);
    for end in ["cancel", "fail", "reclaim", "delete", "purge"] {
        let [first, next] = [(); 2].map(|()| world.unique(end, &unique));
        ensure(world.is_created(&first).await?, "the first job is created")?;
        let claim = world.claim_only().await?;
        ensure(world.is_created(&next).await?, "the next one waits")?;
        let error = JobError::permanent(ErrorCode::task_failed(), "no");
        match end {
            "cancel" => world.settle_one(claim.lease.cancel(error)).await?,
            "fail" => world.settle_one(claim.lease.fail(error)).await?,
            "reclaim" => {
                world.broker.cancel(first.id).await.map_err(text)?;
                world.broker.reclaim(world.worker).await.map_err(text)?;
                world.worker = WorkerId::generate();
                world.number = 0;
            }
            "delete" => {
                world.complete(claim).await?;
                world.broker.delete(first.id).await.map_err(text)?;
            }
            _ => {
                world.settle_one(claim.lease.retry(error, Duration::from_secs(5))).await?;
                world.take_wake_token().await;
                world.broker.cancel(first.id).await.map_err(text)?;
                ensure(world.take_wake_token().await, "a worker is woken")?;
            }
        }
        let claim = world.claim_only().await?;
        ensure(claim.job.id == next.id, &format!("{end}: the next one is ready"))?;
        world.complete(claim).await?;
        ensure(world.query_number("EXISTS", &lock_of(world, end)).await == 0, "the lock is gone")?;
    }
    let [first, next, last] = [(); 3].map(|()| world.unique("b", &unique));
    ensure(world.is_created(&first).await?, "the first job is created")?;
    let claim = world.claim_only().await?;
    ensure(world.is_created(&next).await?, "the next one waits")?;
    world.broker.cancel(next.id).await.map_err(text)?;
    ensure(world.is_created(&last).await?, "another waits when that one is canceled")?;
    world.complete(claim).await?;
    ensure(world.claim_only().await?.job.id == last.id, "and is ready at the end")?;
    world.expect_findings("").await.map(|_| ())
}

/// One call may end both.
pub(super) async fn both_end(world: &mut World) -> Check {
    let unique = on(OnConflict::KeepLatest);
    let deadline = |mut job: NewJob| {
        job.options.deadline = Some(Duration::from_secs(5));
        job
    };
    let [first, next] = [(); 2].map(|()| deadline(world.unique("a", &unique)));
    ensure(world.is_created(&first).await?, "the first job is created")?;
    let claim = world.claim_only().await?;
    // So that a sweep ends the holder first.
    world.advance_clock(10).await;
    ensure(world.is_created(&next).await?, "the next one waits")?;
    let error = JobError::retryable(ErrorCode::task_failed(), "no");
    world.settle_one(claim.lease.retry(error, Duration::from_secs(60))).await?;
    world.advance_clock(6000).await;
    world.sweep_for_seconds(1).await?;
    for id in [first.id, next.id] {
        ensure(world.read_job(id).await?.status == Status::Failed, "both fail at their deadline")?;
    }
    ensure(world.query_number("EXISTS", &lock_of(world, "a")).await == 0, "the lock is gone")?;
    ensure(world.claim(10).await?.claims.is_empty(), "nothing is claimed")?;
    world.expect_findings("").await.map(|_| ())
}

/// A job does not wait for ever for a holder whose record is gone, and a lock is free then.
pub(super) async fn lost_holder(world: &mut World) -> Check {
    let unique = on(OnConflict::KeepLatest);
    let [first, next] = [(); 2].map(|()| world.unique("a", &unique));
    ensure(world.is_created(&first).await?, "the first job is created")?;
    world.claim_only().await?;
    ensure(world.is_created(&next).await?, "the next one waits")?;
    world.sweep_for_seconds(70).await?;
    ensure(world.read_job(next.id).await?.status == Status::Scheduled, "it waits for minutes")?;
    world.tamper("DEL", &format!("job:{}", first.id), &[]).await;
    world.sweep_for_seconds(61).await?;
    ensure(world.claim_only().await?.job.id == next.id, "it runs once its holder is gone")?;
    let other = world.unique("a", &on(OnConflict::Reject));
    ensure(world.answer(&other).await? == Enqueued::Locked(next.id), "and holds the lock")?;
    world.tamper("DEL", &format!("job:{}", next.id), &[]).await;
    ensure(world.is_created(&other).await?, "a lock without a holder is free")
}

/// Of two jobs that wait for holders whose records are gone, one gets the lock.
pub(super) async fn lost_holders(world: &mut World) -> Check {
    let unique = on(OnConflict::KeepLatest);
    world.lease = Duration::from_secs(600);
    let jobs = [(); 4].map(|()| world.unique("a", &unique));
    for pair in jobs.chunks(2) {
        ensure(world.is_created(&pair[0]).await?, "a job is created")?;
        world.claim_only().await?;
        ensure(world.is_created(&pair[1]).await?, "another one waits for it")?;
        world.tamper("DEL", &format!("job:{}", pair[0].id), &[]).await;
    }
    world.advance_clock(60_000).await;
    world.broker.sweep(Partition::default(), None).await.map_err(text)?;
    world.claim_only().await?;
    Ok(())
}

/// A job that is retried by hand needs its lock again.
pub(super) async fn retried(world: &mut World) -> Check {
    let unique = Unique::by_payload();
    let [first, next, third] = [(); 3].map(|()| world.unique("a", &unique));
    for job in [&first, &third] {
        ensure(world.is_created(job).await?, "it is created")?;
        let claim = world.claim_only().await?;
        let error = JobError::permanent(ErrorCode::task_failed(), "no");
        world.settle_one(claim.lease.fail(error)).await?;
        world.advance_clock(1).await;
    }
    ensure(world.is_created(&next).await?, "the next one is created")?;
    let outcome = world.broker.retry(first.id).await.map_err(text)?;
    ensure(outcome == Lookup::Found(RetryOutcome::Locked(next.id)), &format!("{outcome:?}"))?;
    let acted = world.broker.act_on(crunch_common::broker::BulkAction::Retry, &[first.id]).await;
    let left = acted.map_err(text)? == [crunch_common::broker::Acted::Left];
    ensure(left, "an action on many jobs leaves it")?;
    let queue: QueueName = "story".parse().unwrap();
    let redriven = world.broker.redrive(&queue, None, 10).await.map_err(text)?;
    ensure(redriven == Some(0), "a redrive leaves both")?;
    world.broker.cancel(next.id).await.map_err(text)?;
    let redriven = world.broker.redrive(&queue, None, 10).await.map_err(text)?;
    ensure(redriven == Some(1), "a redrive runs one of them")?;
    ensure(world.claim_only().await?.job.id == first.id, "the oldest")?;
    ensure(
        world.answer(&next).await? == Enqueued::AlreadyCreated(next.id),
        "the canceled one is known",
    )?;
    let other = world.unique("a", &unique);
    ensure(world.answer(&other).await? == Enqueued::Existing(first.id), "it has its lock again")?;
    world.expect_findings("").await.map(|_| ())
}

/// A repeated request is answered before its lock is asked, and one that was not accepted leaves no key.
pub(super) async fn idempotent(world: &mut World) -> Check {
    let unique = on(OnConflict::Reject);
    let key = |text: &str| Some(Idempotency::new(&[text.as_bytes()], &[b"request"]));
    let first = NewJob { idempotency: key("1"), ..world.unique("a", &unique) };
    ensure(world.is_created(&first).await?, "the first job is created")?;
    let repeated = NewJob { id: world.broker.new_id(None), ..first.clone() };
    ensure(
        world.answer(&repeated).await? == Enqueued::Replayed(first.id),
        "its replay is answered",
    )?;
    let other = NewJob { idempotency: key("2"), ..world.unique("a", &unique) };
    ensure(world.answer(&other).await? == Enqueued::Locked(first.id), "another is refused")?;
    let claim = world.claim_only().await?;
    world.complete(claim).await?;
    let again = NewJob { id: world.broker.new_id(None), ..other };
    ensure(world.is_created(&again).await?, "and accepted later, with the same key")
}

/// The key of a request whose job replaced another one is a key of that.
pub(super) async fn idempotent_replacement(world: &mut World) -> Check {
    let unique = on(OnConflict::Replace).max_wait(Duration::from_secs(60));
    let key = |text: &str| Some(Idempotency::new(&[text.as_bytes()], &[b"request"]));
    let first = NewJob { idempotency: key("1"), ..world.unique("a", &unique) };
    ensure(world.is_created(&first).await?, "the first job is created")?;
    world.advance_clock(3_600_000).await;
    let retention = Some(Duration::from_secs(60));
    let next = NewJob { idempotency: key("2"), retention, ..world.unique("a", &unique) };
    ensure(world.answer(&next).await? == Enqueued::Replaced(first.id), "it is replaced")?;
    let claim = world.claim_only().await?;
    world.complete(claim).await?;
    let kept = world.kept_ms(first.id).await?;
    ensure(kept == 24 * 3_600_000, "it is kept as long as both keys")?;
    for number in ["1", "2"] {
        let idempotency = key(number);
        let again = NewJob { idempotency, retention, ..world.unique("a", &unique) };
        let answer = world.answer(&again).await?;
        ensure(answer == Enqueued::Replayed(first.id), "a repetition does not run it again")?;
    }
    Ok(())
}

/// The tick of a schedule whose job is not added is skipped; a job that a tick cancels frees its lock first.
pub(super) async fn scheduled(world: &mut World) -> Check {
    let mut put = every_ten_seconds(Overlap::CancelPrevious);
    put.spec.job = r#"{"unique":{}}"#.to_owned();
    world.put_schedule(&put).await?;
    let holder = world.unique("a", &Unique::by_payload());
    ensure(world.is_created(&holder).await?, "the lock is held")?;
    let outcomes = world.next_tick().await?;
    let skipped = [TickOutcome::Existing(holder.id)];
    ensure(outcomes == skipped, &format!("the tick is skipped: {outcomes:?}"))?;
    world.broker.cancel(holder.id).await.map_err(text)?;
    for _ in 0..2 {
        let outcomes = world.next_tick().await?;
        let submitted = matches!(outcomes[..], [TickOutcome::Submitted(_)]);
        ensure(submitted, &format!("the job before is canceled first: {outcomes:?}"))?;
    }
    let listed = world.query_number("LLEN", "queue:story:ready:normal").await;
    let ghosts = world.query_number("SCARD", "queue:story:ghosts").await;
    ensure(listed - ghosts == 1, "one job waits")?;
    let schedule = world.schedule().await?;
    ensure((schedule.submitted, schedule.skipped) == (2, 1), "all ticks are counted")?;
    world.expect_findings("").await.map(|_| ())
}

/// An audit finds locks that name the wrong jobs, and live jobs that their locks do not name.
pub(super) async fn audited(world: &mut World) -> Check {
    let unique = on(OnConflict::KeepLatest);
    let mut ids = BTreeMap::new();
    for key in ["orphan", "missing", "follower", "foreign"] {
        let [first, next] = [(); 2].map(|()| world.unique(key, &unique));
        ensure(world.is_created(&first).await?, "the first job is created")?;
        world.claim_only().await?;
        ensure(world.is_created(&next).await?, "the next one waits")?;
        ids.insert(key, [first.id, next.id]);
    }
    world.expect_findings("").await?;
    let lock = |key| lock_of(world, key);
    let locks = ["orphan", "missing", "follower", "foreign"].map(lock);
    // A job that ended long ago holds the first, and the second is gone.
    let ended = world.job("{}");
    world.submit(std::slice::from_ref(&ended)).await?;
    world.broker.cancel(ended.id).await.map_err(text)?;
    let [holder, follower] = ids["orphan"].map(|id| id.to_string());
    world.tamper("SET", &locks[0], &[&ended.id.to_string()]).await;
    world.tamper("DEL", &locks[1], &[]).await;
    let [first, _] = ids["follower"].map(|id| id.to_string());
    world.tamper("SET", &locks[2], &[&format!("{first} {}", ended.id)]).await;
    world.tamper("PEXPIRE", &locks[3], &["3600000"]).await;
    world.expect_findings("lock 8").await?;
    let mut audit = world.broker.audit(|_| ()).await.map_err(text)?;
    world.broker.heal(&mut audit).await.map_err(text)?;
    let mut again = world.broker.audit(|_| ()).await.map_err(text)?;
    world.broker.heal(&mut again).await.map_err(text)?;
    for lock in &locks {
        ensure(world.query_number("EXISTS", lock).await == 1, "each lock has a holder")?;
        ensure(world.query_number("PTTL", lock).await == u64::MAX, "for no fixed time")?;
    }
    let named = format!("{:?}", world.tamper("GET", &locks[0], &[]).await);
    ensure(named.contains(&holder) || named.contains(&follower), &named)
}
