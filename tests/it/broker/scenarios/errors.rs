//! Error groups: which failures are one, and which jobs they list.

use crunch_common::broker::{Claim, ErrorGroup, ErrorGroupQuery, ListQuery};

use super::*;

const DAY_MS: u64 = 24 * 3600 * 1000;

impl World {
    async fn error_groups(&self) -> Result<Vec<ErrorGroup>, String> {
        let query = ErrorGroupQuery { limit: 100, ..ErrorGroupQuery::default() };
        let page = self.broker.error_groups(&query).await.map_err(|error| error.to_string())?;
        Ok(page.items)
    }

    async fn keys(&mut self, tail: &str) -> Vec<String> {
        let pattern = self.key(tail);
        redis::cmd("KEYS").arg(pattern).query_async(&mut self.redis).await.unwrap()
    }

    /// Submits a job, claims it and settles it.
    async fn end(&mut self, settle: impl FnOnce(Lease) -> Settlement) -> Result<JobId, String> {
        let job = self.job("{}");
        self.submit(std::slice::from_ref(&job)).await?;
        let claim: Claim = self.claim(1).await?.claims.pop().ok_or("no job is claimed")?;
        let settled = self.exchange(vec![settle(claim.lease)], 0).await?.settled;
        ensure(settled == [Settled::Done], "the job is settled")?;
        Ok(job.id)
    }

    async fn fail(&mut self, message: &str) -> Result<JobId, String> {
        let error = JobError::permanent(ErrorCode::task_failed(), message);
        self.end(|lease| lease.fail(error)).await
    }

    /// The jobs that the list shows for an error group.
    async fn failed_with(&self, group: &ErrorGroup) -> Result<Vec<JobId>, String> {
        let query = ListQuery { error: Some(group.id.clone()), limit: 100, ..Default::default() };
        let page = self.broker.list(&query).await.map_err(|error| error.to_string())?;
        Ok(page.items.into_iter().map(|job| job.id).collect())
    }
}

pub(super) async fn grouped(world: &mut World) -> Check {
    let first_at = world.now;
    let one = world.fail("order 17: no file '/a'").await?;
    world.advance_clock(5).await;
    let other = world.fail("order 18: no file '/b'").await?;
    world.advance_clock(5).await;
    world.fail("no license").await?;

    let [newest, group] = <[_; 2]>::try_from(world.error_groups().await?)
        .map_err(|groups| format!("expected two groups, not {groups:?}"))?;
    ensure(newest.error.message == "no license", "the newest failure is first")?;
    let expected = ErrorGroup {
        id: group.id.clone(),
        queue: "story".parse().ok(),
        task: "story".parse().ok(),
        error: JobError::permanent(ErrorCode::task_failed(), "order 18: no file '/b'"),
        job: other,
        first_at: Timestamp::from_unix_ms(first_at),
        last_at: Timestamp::from_unix_ms(first_at + 5),
        failures: 2,
        failed_jobs: 2,
    };
    ensure(group == expected, "messages that differ in numbers and quoted texts are one group")?;
    ensure(world.failed_with(&group).await? == [other, one], "its jobs are listed, newest first")?;
    let listed = world.read_job(one).await?.error_group;
    ensure(listed.as_ref() == Some(&group.id), "a job names its group")
}

pub(super) async fn attempts(world: &mut World) -> Check {
    let error = JobError::retryable(ErrorCode::task_failed(), "try 1");
    world.end(|lease| lease.retry(error, Duration::from_secs(60))).await?;
    world.fail("try 2").await?;
    let groups = world.error_groups().await?;
    ensure(groups.len() == 1, "the attempts are of one kind")?;
    let counts: Vec<_> = groups.iter().map(|group| (group.failures, group.failed_jobs)).collect();
    ensure(counts == [(2, 1)], "attempts count that are retried, and jobs that failed for good")?;
    ensure(world.failed_with(&groups[0]).await?.len() == 1, "only those are listed")
}

pub(super) async fn left(world: &mut World) -> Check {
    let [retried, deleted, expired] =
        [world.fail("no").await?, world.fail("no").await?, world.fail("no").await?];
    let text = |error: crunch_common::broker::Error| error.to_string();
    let failed_at = Timestamp::from_unix_ms(world.now);
    world.advance_clock(5).await;
    world.broker.retry(retried).await.map_err(text)?;
    let Lookup::Found(attempts) = world.broker.attempts(retried).await.map_err(text)? else {
        return Err("the job does not exist".into());
    };
    let ended_at = attempts.last().and_then(|attempt| attempt.finished_at);
    ensure(ended_at == Some(failed_at), "a retry by hand does not change when the attempt ended")?;
    world.broker.delete(deleted).await.map_err(text)?;
    let [group] = <[_; 1]>::try_from(world.error_groups().await?)
        .map_err(|groups| format!("expected one group, not {groups:?}"))?;
    ensure(
        (group.failures, group.failed_jobs) == (3, 1),
        "jobs leave that run again or are deleted",
    )?;
    ensure(world.failed_with(&group).await? == [expired], "and are not listed")?;
    ensure(world.read_job(retried).await?.error_group.is_none(), "a retried job has no group")?;

    world.advance_clock(8 * DAY_MS).await;
    world.broker.sweep(Partition::default(), None).await.map_err(text)?;
    ensure(world.error_groups().await?.len() == 1, "a group stays while it has jobs")?;
    world.advance_clock(23 * DAY_MS).await;
    world.broker.sweep(Partition::default(), None).await.map_err(text)?;
    let jobs = format!("error:{}:jobs", group.id);
    ensure(world.query_number("EXISTS", &jobs).await == 0, "jobs that expire leave it")?;
    world.advance_clock(60_000).await;
    world.broker.sweep(Partition::default(), None).await.map_err(text)?;
    ensure(world.error_groups().await?.is_empty(), "then it is removed")?;
    let hash = format!("error:{}", group.id);
    ensure(world.query_number("EXISTS", &hash).await == 0, "with its record")?;

    // A group without jobs shows for a week that there were failures.
    let id = world.fail("no").await?;
    world.broker.delete(id).await.map_err(text)?;
    world.advance_clock(6 * DAY_MS).await;
    world.broker.sweep(Partition::default(), None).await.map_err(text)?;
    ensure(world.error_groups().await?.len() == 1, "a group without jobs stays for a week")
}

pub(super) async fn kinds(world: &mut World) -> Check {
    let known = world.fail("known").await?;
    let [group] = <[_; 1]>::try_from(world.error_groups().await?)
        .map_err(|groups| format!("expected one group, not {groups:?}"))?;
    let error = |kind: u8| {
        let name = format!("{}{}", char::from(b'a' + kind / 26), char::from(b'a' + kind % 26));
        JobError::permanent(ErrorCode::task_failed(), format!("no user {name}"))
    };
    world.advance_clock(5).await;
    for kind in 0..103 {
        world.end(|lease| lease.fail(error(kind))).await?;
    }
    world.advance_clock(5).await;
    let again = world.fail("known").await?;
    ensure(world.failed_with(&group).await? == [again, known], "a known kind keeps its group")?;
    let groups = world.error_groups().await?;
    ensure(groups.len() == 100, "a page has as many as are asked for")?;
    let rest = |group: &&ErrorGroup| group.failed_jobs == 4;
    let rest: Vec<_> = groups.iter().filter(rest).collect();
    ensure(
        rest.len() == 1,
        "a hundred kinds of a task have a group, and the further ones share one",
    )?;
    ensure(rest[0].task == "story".parse().ok(), "which names the task")?;

    // Another task has groups of its own, and the first one has again once theirs are removed.
    let other = NewJob { task: "other".parse().unwrap(), ..world.job("{}") };
    world.tasks = [&other.task].into_iter().collect();
    world.advance_clock(5).await;
    world.submit(std::slice::from_ref(&other)).await?;
    let lease = world.claim(1).await?.claims.pop().ok_or("no job is claimed")?.lease;
    let settled = world.exchange(vec![lease.fail(error(0))], 0).await?.settled;
    ensure(settled == [Settled::Done], "a job of another task fails")?;
    let newest = world.error_groups().await?.into_iter().next().and_then(|group| group.task);
    ensure(newest == Some(other.task), "it has a group of its own")?;
    world.advance_clock(31 * DAY_MS).await;
    for _ in 0..40 {
        world.advance_clock(11_000).await;
        let swept = world.broker.sweep(Partition::default(), None).await;
        swept.map_err(|error| error.to_string())?;
    }
    ensure(world.error_groups().await?.is_empty(), "all groups are removed")?;
    ensure(world.keys("error:*").await.is_empty(), "with what counted the kinds of each task")
}

pub(super) async fn together(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..3).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    let claims = world.claim(3).await?.claims;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let fail = |claim: Claim| claim.lease.fail(error.clone());
    let settled = world.exchange(claims.into_iter().map(fail).collect(), 0).await?.settled;
    ensure(settled == [Settled::Done; 3], "three jobs fail in one call")?;
    let groups = world.error_groups().await?;
    ensure(groups.len() == 1 && groups[0].failures == 3, "they are one group")?;
    let mut kinds = 0;
    for key in world.keys("error:*").await {
        let count = redis::cmd("HGET").arg(&key).arg("kinds").query_async(&mut world.redis).await;
        kinds += count.ok().flatten().unwrap_or(0_u64);
    }
    ensure(kinds == 1, "and one kind of their task")
}

pub(super) async fn limited(world: &mut World) -> Check {
    let known = world.fail("known").await?;
    // Groups of which nothing but the index knows.
    let many: Vec<_> =
        (1..1000).flat_map(|number| [number.to_string(), format!("{number:016x}")]).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    world.tamper("ZADD", "errors", &many).await;
    world.advance_clock(5).await;
    let new = world.fail("new").await?;
    world.advance_clock(5).await;
    let newer = world.fail("newer").await?;
    world.advance_clock(5).await;
    let again = world.fail("known").await?;

    let groups = world.error_groups().await?;
    let [group, other] = <[_; 2]>::try_from(groups)
        .map_err(|groups| format!("expected two groups, not {groups:?}"))?;
    ensure(world.failed_with(&group).await? == [again, known], "a known kind keeps its group")?;
    ensure(other.id.to_string() == "other" && other.failures == 2, "further kinds share one")?;
    ensure(other.queue.is_none() && other.task.is_none(), "which has no queue and no task")?;
    ensure(world.failed_with(&other).await? == [newer, new], "and lists their jobs")
}

pub(super) async fn every_end(world: &mut World) -> Check {
    let missed = NewJob {
        options: JobOptions { deadline: Some(Duration::from_secs(1)), ..options() },
        ..world.job("{}")
    };
    world.submit(std::slice::from_ref(&missed)).await?;
    world.sweep_for_seconds(2).await?;
    let lost = world.job("{}");
    world.submit(std::slice::from_ref(&lost)).await?;
    for _ in 0..5 {
        let claims = world.claim(1).await?.claims;
        ensure(claims.len() == 1, "the job is claimed again")?;
        let reclaimed = world.broker.reclaim(world.worker).await;
        reclaimed.map_err(|error| error.to_string())?;
        (world.worker, world.number) = (WorkerId::generate(), 0);
    }
    // A handler that finds its deadline missed is the same kind.
    let error =
        JobError::permanent(ErrorCode::deadline_exceeded(), "the deadline of the job has passed");
    let found = world.end(|lease| lease.fail(error)).await?;

    let mut jobs = Vec::new();
    for group in world.error_groups().await? {
        jobs.push((group.error.code.to_string(), world.failed_with(&group).await?));
    }
    let expected = [
        ("deadline_exceeded".to_owned(), vec![found, missed.id]),
        ("worker_lost".to_owned(), vec![lost.id]),
    ];
    jobs.sort();
    ensure(jobs == expected, "whatever fails a job lists it in a group")
}
