//! Locks: what happens to a job whose lock another one holds, and when a lock is free.

use crunch_common::broker::{Claim, IndexId, LockId};
use crunch_common::job::{OnConflict, Unique, Until};

use super::groups::text;
use super::*;

impl World {
    /// A job with the lock of that key.
    pub(super) fn unique(&self, key: &str, unique: &Unique) -> NewJob {
        locked(self.job("{}"), key, unique)
    }

    pub(super) async fn answer(&self, job: &NewJob) -> Result<Enqueued, String> {
        let answers = self.broker.enqueue(std::slice::from_ref(job)).await;
        answers.into_iter().next().expect("an answer").map_err(text)
    }

    pub(super) async fn is_created(&self, job: &NewJob) -> Result<bool, String> {
        Ok(matches!(self.answer(job).await?, Enqueued::Created(_)))
    }

    pub(super) async fn claim_only(&mut self) -> Result<Claim, String> {
        let mut claims = self.claim(10).await?.claims;
        ensure(claims.len() == 1, &format!("one job is claimed: {claims:?}"))?;
        Ok(claims.remove(0))
    }

    pub(super) async fn settle_one(&mut self, settlement: Settlement) -> Check {
        let settled = self.exchange(vec![settlement], 0).await?.settled;
        ensure(settled == [Settled::Done], "the attempt is settled")
    }

    pub(super) async fn complete(&mut self, claim: Claim) -> Check {
        self.settle_one(claim.lease.complete(Payload::json("1"))).await
    }
}

pub(super) fn locked(job: NewJob, key: &str, unique: &Unique) -> NewJob {
    let lock = LockId::new(&job.task, &job.queue, job.options.group.as_ref(), &[key.as_bytes()]);
    let options = JobOptions { unique: Some(unique.clone()), ..job.options.clone() };
    NewJob { options, lock: Some(lock), ..job }
}

pub(super) fn on(on_conflict: OnConflict) -> Unique {
    Unique::by_payload().on_conflict(on_conflict)
}

/// That of a job with the queue and the task of all others.
pub(super) fn lock_of(world: &World, key: &str) -> String {
    let lock = world.unique(key, &Unique::by_payload()).lock.expect("it has a lock");
    format!("lock:{lock}")
}

/// Another job with the lock is the first one, until that has ended.
pub(super) async fn existing(world: &mut World) -> Check {
    let unique = Unique::by_payload();
    let first = world.unique("a", &unique);
    ensure(world.is_created(&first).await?, "the first job is created")?;
    let features = world.tamper("HGET", "layout", &["features"]).await;
    ensure(format!("{features:?}").contains("locks"), "the feature is listed")?;
    let again = world.unique("a", &unique);
    let answer = world.answer(&again).await?;
    ensure(answer == Enqueued::Existing(first.id), "another is answered with the first")?;
    ensure(
        world.broker.job(again.id).await.map_err(text)? == Lookup::Unknown,
        "it is not created",
    )?;
    let repeated = world.answer(&first).await?;
    ensure(repeated == Enqueued::AlreadyCreated(first.id), "a repeated call is known")?;
    let others = [("b", "story", None), ("a", "other", None), ("a", "story", Some("g"))];
    for (key, task, group) in others {
        let options = JobOptions { group: group.map(|it: &str| it.parse().unwrap()), ..options() };
        let other = NewJob { task: task.parse().unwrap(), options, ..world.job("{}") };
        let other = locked(other, key, &unique);
        ensure(world.is_created(&other).await?, "other keys, tasks and groups have other locks")?;
        world.broker.cancel(other.id).await.map_err(text)?;
    }

    let claim = world.claim_only().await?;
    ensure(world.answer(&again).await? == Enqueued::Existing(first.id), "while it runs")?;
    let error = JobError::retryable(ErrorCode::task_failed(), "no");
    world.settle_one(claim.lease.retry(error.clone(), Duration::from_secs(1))).await?;
    ensure(world.answer(&again).await? == Enqueued::Existing(first.id), "and between attempts")?;
    world.advance_clock(1000).await;
    let claim = world.claim_only().await?;
    world.settle_one(claim.lease.fail(error)).await?;
    let left = world.query_number("EXISTS", &lock_of(world, "a")).await;
    ensure(left == 0, "the lock is gone with its job")?;
    ensure(world.is_created(&again).await?, "then another is created")
}

/// In one call too, between jobs without locks.
pub(super) async fn together(world: &mut World) -> Check {
    let unique = Unique::by_payload();
    let jobs = [
        world.job("1"),
        world.unique("a", &unique),
        world.unique("b", &unique),
        world.job("2"),
        world.unique("a", &unique),
        world.job("3"),
        world.unique("a", &unique),
        world.job("4"),
    ];
    let answers = world.broker.enqueue(&jobs).await;
    let answers: Vec<_> = answers.into_iter().collect::<Result<_, _>>().map_err(text)?;
    for (at, answer) in answers.iter().enumerate() {
        let is_existing = *answer == Enqueued::Existing(jobs[1].id);
        ensure(is_existing == matches!(at, 4 | 6), &format!("job {at}: {answer:?}"))?;
    }
    let claims = world.claim(10).await?.claims;
    let ids: Vec<_> = claims.iter().map(|claim| claim.job.id).collect();
    let expected = [0, 1, 2, 3, 5, 7].map(|at| jobs[at].id);
    ensure(ids == expected, "all others are claimed in their order")
}

/// A lock that is held until the start is free once a worker claims the job, and stays so.
pub(super) async fn until_start(world: &mut World) -> Check {
    let unique = on(OnConflict::Reject).until(Until::Start);
    let mut first = world.unique("a", &unique);
    first.options.deadline = Some(Duration::from_secs(1000));
    ensure(world.is_created(&first).await?, "the first job is created")?;
    let next = world.unique("a", &unique);
    ensure(world.answer(&next).await? == Enqueued::Locked(first.id), "another is refused")?;
    let claim = world.claim_only().await?;
    let error = JobError::retryable(ErrorCode::task_failed(), "no");
    world.settle_one(claim.lease.retry(error, Duration::ZERO)).await?;
    world.tamper("DEL", "queue:story:deadlines", &[]).await;
    world.expect_healed("unlisted 1").await?;
    ensure(world.is_created(&next).await?, "the lock is free, also if the job waits again")?;
    let claims = world.claim(10).await?.claims;
    ensure(claims.len() == 2, "both are claimed")?;
    world.expect_findings("").await.map(|_| ())
}

/// A lock that is held for a time outlives its job, which is kept as long, unless it is deleted.
pub(super) async fn for_a_time(world: &mut World) -> Check {
    let unique = Unique::by_payload().until(Until::Time(Duration::from_secs(100 * 3600)));
    let first = world.unique("a", &unique);
    ensure(world.is_created(&first).await?, "the first job is created")?;
    let claim = world.claim_only().await?;
    world.complete(claim).await?;
    let next = world.unique("a", &unique);
    ensure(world.answer(&next).await? == Enqueued::Existing(first.id), "the lock is still held")?;
    let kept = world.kept_ms(first.id).await?;
    ensure(kept >= 100 * 3600 * 1000, &format!("its job is kept as long: {kept} ms"))?;
    let ends = world.query_number("PTTL", &lock_of(world, "a")).await;
    ensure((99 * 3600 * 1000..=100 * 3600 * 1000).contains(&ends), "Redis ends it")?;
    let replacing = world.unique("a", &on(OnConflict::KeepLatest));
    ensure(world.answer(&replacing).await? == Enqueued::Locked(first.id), "nothing waits for it")?;
    // A nearly full Redis: without `maxmemory`, 0 percent of it are used, at or above this watermark.
    world.tamper("HSET", "sweep", &["watermark", "0"]).await;
    world.advance_clock(1000).await;
    world.heartbeat(&[]).await?;
    world.read_job(first.id).await?;
    world.expect_findings("").await?;
    world.broker.delete(first.id).await.map_err(text)?;
    world.expect_findings("").await?;
    ensure(world.is_created(&next).await?, "it is free once its job is deleted")
}

/// A job that waits gets all that the new one says, and keeps its id and its time.
pub(super) async fn replaced(world: &mut World) -> Check {
    let unique = on(OnConflict::Replace).max_wait(Duration::from_secs(60));
    let delayed =
        |job: NewJob, seconds| NewJob { start: Start::After(Duration::from_secs(seconds)), ..job };
    let first = delayed(world.unique("a", &unique), 10);
    ensure(world.is_created(&first).await?, "the first job is created")?;
    world.advance_clock(8000).await;
    let (label, retention) =
        (IndexId::of("customer", "acme").unwrap(), Duration::from_secs(7 * 24 * 3600));
    let mut next = delayed(world.unique("a", &unique), 10);
    next.payload = r#"{"n":2}"#.into();
    next.options.start_within = Some(Duration::from_secs(5));
    next.options.deadline = Some(Duration::from_secs(1000));
    next = NewJob {
        priority: Priority::High,
        retention: Some(retention),
        indexes: vec![label],
        ..next
    };
    ensure(world.answer(&next).await? == Enqueued::Replaced(first.id), "it is replaced")?;
    let job = world.read_job(first.id).await?;
    let due = job.run_at.expect("it is delayed").unix_ms();
    ensure(due == world.now + 10_000 && job.status == Status::Scheduled, "its delay begins anew")?;
    let kept = (job.version, job.created_at.unix_ms(), job.priority);
    ensure(kept == (2, world.now - 8000, Priority::High), &format!("{job:?}"))?;
    let listed = world.query_number("ZCARD", &format!("index:{label}")).await;
    ensure(listed == 1, "its labels are indexed")?;
    world.expect_findings("").await?;

    let plain = delayed(world.unique("a", &unique), 3600);
    ensure(world.answer(&plain).await? == Enqueued::Replaced(first.id), "it is replaced again")?;
    let job = world.read_job(first.id).await?;
    let due = job.run_at.expect("it is delayed").unix_ms();
    ensure(due == job.created_at.unix_ms() + 60_000, "but is due within its longest time")?;
    ensure(job.priority == Priority::Normal, "what the new one does not say is gone")?;
    for (command, set) in
        [("ZCARD", "queue:story:deadlines".to_owned()), ("ZCARD", format!("index:{label}"))]
    {
        ensure(world.query_number(command, &set).await == 0, &format!("{set} is empty"))?;
    }
    world.expect_findings("").await?;
    world.sweep_for_seconds(53).await?;
    let claim = world.claim_only().await?;
    ensure(
        claim.job.id == first.id && &claim.job.payload.bytes[..] == b"{}",
        "it is claimed once",
    )?;
    ensure(world.is_created(&next).await?, "then a new job is created")
}

/// A job that is replaced holds its lock until when the latest one says.
pub(super) async fn replaced_until(world: &mut World) -> Check {
    let replace = on(OnConflict::Replace).max_wait(Duration::from_secs(60));
    let [end, start] = [on(OnConflict::KeepLatest), replace];
    for (key, [first, next], waits) in [("a", [&start, &end], true), ("b", [&end, &start], false)] {
        let first = world.unique(key, first);
        ensure(world.is_created(&first).await?, "the first job is created")?;
        let replaced = world.answer(&world.unique(key, next)).await?;
        ensure(replaced == Enqueued::Replaced(first.id), "it is replaced")?;
        world.claim_only().await?;
        ensure(world.is_created(&world.unique(key, next)).await?, "then a new one is created")?;
        let claimed = world.claim(9).await?.claims.len();
        ensure(claimed == usize::from(!waits), "which waits for its end, or does not")?;
        world.expect_findings("").await?;
    }
    Ok(())
}

/// The second of two jobs with one lock in a call does not keep workers from the first.
pub(super) async fn delayed_together(world: &mut World) -> Check {
    let start = Start::After(Duration::from_millis(600));
    let [first, next] =
        [(); 2].map(|()| NewJob { start, ..world.unique("a", &Unique::by_payload()) });
    world.submit(&[first, next]).await?;
    ensure(world.take_wake_token().await, "a worker is woken for a job that is due soon")
}

/// A job that is ready keeps its place and its priority.
pub(super) async fn replaced_in_place(world: &mut World) -> Check {
    let unique = on(OnConflict::Replace).max_wait(Duration::from_secs(60));
    let first = world.unique("a", &unique);
    let behind = world.job("2");
    world.submit(&[first.clone(), behind.clone()]).await?;
    let mut next = world.unique("a", &unique);
    next.payload = "3".into();
    next = NewJob { start: Start::After(Duration::from_secs(5)), priority: Priority::Low, ..next };
    ensure(world.answer(&next).await? == Enqueued::Replaced(first.id), "it is replaced")?;
    world.expect_findings("").await?;
    let claims = world.claim(10).await?.claims;
    let claimed: Vec<_> = claims.iter().map(|it| (it.job.id, &it.job.payload.bytes[..])).collect();
    ensure(claimed == [(first.id, &b"3"[..]), (behind.id, b"2")], &format!("{claimed:?}"))?;

    let holder = world.unique("b", &Unique::by_payload());
    ensure(world.is_created(&holder).await?, "a lock that is held until the end")?;
    world.claim_only().await?;
    let newer = world.unique("b", &unique);
    ensure(world.answer(&newer).await? == Enqueued::Locked(holder.id), "not once it runs")
}

/// A job that becomes due earlier, or at once, is found.
pub(super) async fn replaced_earlier(world: &mut World) -> Check {
    let unique = on(OnConflict::Replace).max_wait(Duration::from_secs(600));
    let first = world.unique("a", &unique);
    let first = NewJob { start: Start::After(Duration::from_secs(500)), ..first };
    ensure(world.is_created(&first).await?, "the first job is created")?;
    let next = world.unique("a", &unique);
    ensure(world.answer(&next).await? == Enqueued::Replaced(first.id), "it is replaced")?;
    ensure(world.take_wake_token().await, "a worker is woken")?;
    ensure(world.query_number("ZCARD", "queue:story:delayed").await == 0, "it is not delayed")?;
    ensure(world.claim_only().await?.job.id == first.id, "it is claimed")
}

/// A payload that is stored before its job replaces the other one too, and leaves nothing behind.
pub(super) async fn replaced_large(world: &mut World) -> Check {
    let large = |byte: &str| format!("\"{}\"", byte.repeat(100_000));
    let unique = on(OnConflict::Replace);
    let first = world.unique("a", &unique);
    ensure(world.is_created(&first).await?, "the first job is created")?;
    for payload in [large("a"), "1".to_owned(), large("b")] {
        let next = NewJob { payload: payload.clone().into(), ..world.unique("a", &unique) };
        ensure(world.answer(&next).await? == Enqueued::Replaced(first.id), "it is replaced")?;
        let left = world.query_number("EXISTS", &format!("job:{}", next.id)).await;
        ensure(left == 0, "nothing is left under the id of the new one")?;
        let found = world.broker.payload(first.id).await.map_err(text)?;
        let Lookup::Found(Some(found)) = found else { return Err("it has no payload".to_owned()) };
        ensure(found.bytes == payload, "it has the new payload")?;
    }
    let claim = world.claim_only().await?;
    ensure(claim.job.payload.bytes == large("b"), "the last one is claimed")
}
