//! Deadlines: what ends a job that nobody runs in time.

use super::*;

const DEADLINE: Duration = Duration::from_secs(5);

impl World {
    fn urgent_for_a_while(&self) -> NewJob {
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
    let [plain, given_back] = [(); 2].map(|()| world.urgent_for_a_while());
    let low = NewJob { priority: Priority::Low, ..world.urgent_for_a_while() };
    let later =
        NewJob { start: Start::After(Duration::from_secs(60)), ..world.urgent_for_a_while() };
    let ids = [plain.id, given_back.id, low.id, later.id];
    world.submit(&[given_back]).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("it is claimed")?;
    let _ = world.exchange(vec![claim.lease.release(ReleaseCause::Unroutable)], 0).await?;
    world.submit(&[plain, low, later]).await?;
    world.sweep_for_seconds(4).await?;
    for id in ids {
        ensure(!world.is_overdue(id).await?, "there is time left")?;
    }
    world.sweep_for_seconds(1).await?;
    for id in ids {
        ensure(world.is_overdue(id).await?, "each fails at its deadline")?;
    }
    // Ghosts are dropped in the next round.
    world.sweep_for_seconds(10).await?;
    let sets = [("ZCARD", "deadlines"), ("ZCARD", "delayed"), ("SCARD", "ghosts")];
    for (command, set) in sets {
        let left = world.query_number(command, &format!("queue:story:{set}")).await;
        ensure(left == 0, &format!("nothing is left in {set}"))?;
    }
    ensure(world.claim(5).await?.claims.is_empty(), "nobody gets any of them")
}

pub(super) async fn running(world: &mut World) -> Check {
    let job = world.urgent_for_a_while();
    let id = job.id;
    world.submit(&[job]).await?;
    world.sweep_for_seconds(2).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("it is claimed")?;
    world.sweep_for_seconds(6).await?;
    ensure(world.read_job(id).await?.status == Status::Running, "its worker knows the deadline")?;
    world.sweep_for_seconds(14).await?;
    ensure(world.is_overdue(id).await?, "once it is lost a sweep ends it")?;
    let exchanged = world.exchange(vec![claim.lease.complete(Payload::json("1"))], 1).await?;
    ensure(exchanged.settled == [Settled::Stale], "and its worker comes too late")
}

pub(super) async fn revived(world: &mut World) -> Check {
    let job = world.urgent_for_a_while();
    let id = job.id;
    world.submit(&[job]).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("it is claimed")?;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let _ = world.exchange(vec![claim.lease.fail(error)], 0).await?;
    let listed = "queue:story:deadlines";
    ensure(world.query_number("ZCARD", listed).await == 0, "it is listed no more")?;
    let done = world.urgent_for_a_while();
    world.submit(&[done]).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("it is claimed")?;
    let _ = world.exchange(vec![claim.lease.complete(Payload::json("1"))], 0).await?;
    ensure(world.query_number("ZCARD", listed).await == 0, "nor is one that succeeded")?;
    world.broker.retry(id).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("ZCARD", listed).await == 1, "until it lives again")?;
    world.sweep_for_seconds(5).await?;
    ensure(world.is_overdue(id).await?, "its deadline is what it was")
}
