//! Handlers that put their job off.

use crunch_common::broker::GroupRule;

use super::groups::{group_of, text};
use super::*;

const DELAY: Duration = Duration::from_secs(3);

impl World {
    async fn snooze(&mut self, delay: Duration) -> Result<JobId, String> {
        let claim = self.claim(1).await?.claims.pop().ok_or("a job is claimed")?;
        let id = claim.job.id;
        let settled = self.exchange(vec![claim.lease.snooze(delay)], 0).await?.settled;
        ensure(settled == [Settled::Done], "the attempt is settled")?;
        Ok(id)
    }

    async fn failed_by(&self, id: JobId, code: ErrorCode) -> Result<bool, String> {
        let job = self.read_job(id).await?;
        let found = job.error.map(|error| error.code);
        Ok(job.status == Status::Failed && job.error_group.is_some() && found == Some(code))
    }
}

pub(super) async fn put_off(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    let id = world.snooze(DELAY).await?;
    let job = world.read_job(id).await?;
    ensure((job.status, job.attempt, job.snoozes) == (Status::Scheduled, 0, 1), "it is uncharged")?;
    ensure(job.run_at.is_some_and(|at| at.unix_ms() == world.now + 3000), "it says until when")?;
    let waiting = job.waiting_for.ok_or("it says why")?;
    ensure((waiting.reason.as_str(), waiting.detail) == ("snooze", None), "it says why")?;
    let Lookup::Found(attempts) = world.broker.attempts(id).await.map_err(text)? else {
        return Err("the job has attempts".to_owned());
    };
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
    ensure(outcomes == ["snoozed"], "the attempt is in the history")?;

    world.advance_clock(2999).await;
    ensure(world.claim(1).await?.claims.is_empty(), "it is not due")?;
    world.advance_clock(1).await;
    let claim = world.claim(1).await?.claims.pop().ok_or("it is due")?;
    ensure(claim.job.attempt == 1, "this is its first charged attempt")?;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let _ = world.exchange(vec![claim.lease.fail(error)], 0).await?;
    world.broker.retry(id).await.map_err(text)?;
    ensure(world.read_job(id).await?.snoozes == 0, "a new generation was not put off")?;
    let audit = world.broker.audit(|_| ()).await.map_err(text)?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))
}

pub(super) async fn bounded(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    for _ in 0..1000 {
        let id = world.snooze(Duration::ZERO).await?;
        ensure(world.read_job(id).await?.status != Status::Failed, "it may be put off")?;
    }
    let id = world.snooze(Duration::ZERO).await?;
    let failed = world.failed_by(id, ErrorCode::snoozed_too_often()).await?;
    ensure(failed, "the 1001st time it fails")?;

    let options = JobOptions { deadline: Some(Duration::from_secs(5)), ..options() };
    world.submit(&[NewJob { options, ..world.job("{}") }]).await?;
    let id = world.snooze(DELAY).await?;
    ensure(world.read_job(id).await?.status == Status::Scheduled, "it may wait until then")?;
    world.advance_clock(3000).await;
    let id = world.snooze(DELAY).await?;
    let failed = world.failed_by(id, ErrorCode::deadline_exceeded()).await?;
    ensure(failed, "but not beyond its deadline")
}

pub(super) async fn canceled(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("a job is claimed")?;
    let id = claim.job.id;
    world.broker.cancel(id).await.map_err(text)?;
    let _ = world.exchange(vec![claim.lease.snooze(DELAY)], 0).await?;
    ensure(world.read_job(id).await?.status == Status::Canceled, "a cancel wins")
}

/// It makes room for the next of its group, and keeps its place there.
pub(super) async fn grouped(world: &mut World) -> Check {
    world.set_each(GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    let ids = world.submit_grouped("a", 3).await?;
    ensure(world.snooze(DELAY).await? == ids[0], "the first one is put off")?;
    let claims = world.claim(9).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.id == ids[1], "the next one runs")?;
    world.advance_clock(3000).await;
    let done = claims.into_iter().map(|claim| claim.lease.complete(Payload::json("1"))).collect();
    let claims = world.exchange(done, 9).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.id == ids[0], "then it is first again")?;
    ensure(group_of(&claims[0]) == "a", "in its group")
}
