//! Deadlines: a job that no worker runs in time fails.

use super::*;

const DEADLINE: Duration = Duration::from_secs(5);

impl World {
    fn job_with_deadline(&self) -> NewJob {
        let options = JobOptions { deadline: Some(DEADLINE), ..options() };
        NewJob { options, ..self.job("{}") }
    }

    async fn is_overdue(&self, id: JobId) -> Result<bool, String> {
        let job = self.read_job(id).await?;
        let code = job.error.as_ref().map(|error| error.code.clone());
        Ok(job.status == Status::Failed && code == Some(ErrorCode::deadline_exceeded()))
    }
}

pub(super) async fn missed(world: &mut World) -> Check {
    let [plain, released] = [(); 2].map(|()| world.job_with_deadline());
    let low = NewJob { priority: Priority::Low, ..world.job_with_deadline() };
    let later =
        NewJob { start: Start::After(Duration::from_secs(60)), ..world.job_with_deadline() };
    let ids = [plain.id, released.id, low.id, later.id];
    world.submit(&[released]).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;
    let _ = world.exchange(vec![claim.lease.release(ReleaseCause::Unroutable)], 0).await?;

    world.submit(&[plain, low, later]).await?;

    world.sweep_for_seconds(4).await?;
    for id in ids {
        ensure(!world.is_overdue(id).await?, "no job fails before its deadline")?;
    }

    world.advance_clock(1000).await;
    let swept = world.broker.sweep(Partition::default(), None).await;
    let swept = swept.map_err(|error| error.to_string())?;
    for id in ids {
        ensure(world.is_overdue(id).await?, "each job fails at its deadline")?;
    }
    let counts = (swept.overdue, swept.expired, swept.failed);
    ensure(counts == (4, 0, 0), &format!("four jobs missed their deadline: {swept:?}"))?;

    // Ghosts are dropped in the next round.
    world.sweep_for_seconds(10).await?;
    let sets = [("ZCARD", "deadlines"), ("ZCARD", "delayed"), ("SCARD", "ghosts")];
    for (command, set) in sets {
        let left = world.query_number(command, &format!("queue:story:{set}")).await;
        ensure(left == 0, &format!("nothing is left in {set}"))?;
    }
    ensure(world.claim(5).await?.claims.is_empty(), "none of the jobs is claimed")
}

pub(super) async fn running(world: &mut World) -> Check {
    let job = world.job_with_deadline();
    let id = job.id;
    world.submit(&[job]).await?;
    world.sweep_for_seconds(2).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;

    world.sweep_for_seconds(6).await?;
    ensure(
        world.read_job(id).await?.status == Status::Running,
        "a running job stays with its worker, which knows the deadline",
    )?;

    world.sweep_for_seconds(14).await?;
    ensure(world.is_overdue(id).await?, "a sweep ends the job once its lease is lost")?;
    let exchanged = world.exchange(vec![claim.lease.complete(Payload::json("1"))], 1).await?;
    ensure(exchanged.settled == [Settled::Stale], "the late result of the worker is refused")
}

pub(super) async fn retried(world: &mut World) -> Check {
    let job = world.job_with_deadline();
    let id = job.id;
    world.submit(&[job]).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let _ = world.exchange(vec![claim.lease.fail(error)], 0).await?;
    let listed = "queue:story:deadlines";
    ensure(world.query_number("ZCARD", listed).await == 0, "a failed job is not listed")?;

    let done = world.job_with_deadline();
    world.submit(&[done]).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;
    let _ = world.exchange(vec![claim.lease.complete(Payload::json("1"))], 0).await?;
    ensure(world.query_number("ZCARD", listed).await == 0, "a succeeded job is not listed")?;

    world.broker.retry(id).await.map_err(|error| error.to_string())?;
    ensure(
        world.query_number("ZCARD", listed).await == 1,
        "a job that is retried by hand is listed again",
    )?;
    world.sweep_for_seconds(5).await?;
    ensure(world.is_overdue(id).await?, "the deadline is the same as before")
}
