//! Jobs that must start in time: those that do not are canceled.

use crunch_common::broker::{Claim, GroupRule};

use super::groups::{RUNNING, text};
use super::webhooks::job_with_webhook;
use super::*;

const TIME: Duration = Duration::from_secs(5);
const LISTED: &str = "queue:story:deadlines";

impl World {
    fn job_to_start(&self) -> NewJob {
        to_start(self.job("{}"))
    }

    async fn is_expired(&self, id: JobId) -> Result<bool, String> {
        let job = self.read_job(id).await?;
        let code = job.error.as_ref().map(|error| error.code.clone());
        Ok(job.status == Status::Canceled && code == Some(ErrorCode::expired()))
    }

    async fn claim_one(&mut self) -> Result<Claim, String> {
        self.claim(1).await?.claims.pop().ok_or_else(|| "a job is claimed".to_owned())
    }

    async fn settle(&mut self, settlement: Settlement) -> Check {
        let settled = self.exchange(vec![settlement], 0).await?.settled;
        ensure(settled == [Settled::Done], "the attempt is settled")
    }
}

fn to_start(job: NewJob) -> NewJob {
    let options = JobOptions { start_within: Some(TIME), ..job.options.clone() };
    NewJob { options, ..job }
}

fn failed() -> JobError {
    JobError::retryable(ErrorCode::task_failed(), "no")
}

/// Wherever it waits, and though no worker comes.
pub(super) async fn waiting(world: &mut World) -> Check {
    let [plain, parked] = [(); 2].map(|()| world.job_to_start());
    let low = NewJob { priority: Priority::Low, ..world.job_to_start() };
    let grouped = to_start(world.grouped("a"));
    let late = NewJob { start: Start::After(Duration::from_secs(3)), ..world.job_to_start() };
    let (ids, late_id) = ([plain.id, parked.id, low.id, grouped.id], late.id);
    world.submit(&[parked]).await?;
    let claim = world.claim_one().await?;
    world.settle(claim.lease.release(ReleaseCause::Unroutable)).await?;
    world.submit(&[plain, low, grouped, late]).await?;
    let features = world.tamper("HGET", "layout", &["features"]).await;
    let features = format!("{features:?}");
    ensure(features.contains("expiry"), "the feature is listed")?;

    world.sweep_for_seconds(4).await?;
    for id in ids {
        ensure(!world.is_expired(id).await?, "no job expires before its time")?;
    }
    world.advance_clock(1000).await;
    let swept = world.broker.sweep(Partition::default(), None).await.map_err(text)?;
    for id in ids {
        ensure(world.is_expired(id).await?, "each job expires at its time")?;
    }
    let counts = (swept.expired, swept.overdue, swept.failed);
    ensure(counts == (4, 0, 0), &format!("four jobs expired: {swept:?}"))?;
    world.sweep_for_seconds(2).await?;
    ensure(!world.is_expired(late_id).await?, "the time begins when a delay ends")?;
    world.sweep_for_seconds(1).await?;
    ensure(world.is_expired(late_id).await?, "and ends after it")?;

    world.sweep_for_seconds(10).await?;
    for (command, set) in [("ZCARD", "deadlines"), ("ZCARD", "grouped"), ("SCARD", "ghosts")] {
        let left = world.query_number(command, &format!("queue:story:{set}")).await;
        ensure(left == 0, &format!("nothing is left in {set}"))?;
    }
    let audit = world.broker.audit(|_| ()).await.map_err(text)?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))
}

/// A claim that comes before the sweep starts none, and its receiver is notified.
pub(super) async fn claimed(world: &mut World) -> Check {
    world.set_each(GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    world.advance_clock(10_000).await;
    let noticed = to_start(job_with_webhook(world, &[Status::Canceled]));
    let (plain, grouped, next) =
        (world.job_to_start(), to_start(world.grouped("a")), world.grouped("a"));
    let (expired, last) = ([noticed.id, plain.id, grouped.id], next.id);
    world.submit(&[noticed, plain, grouped, next]).await?;
    world.advance_clock(5000).await;
    let claims = world.claim(9).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.id == last, "the next one of the group is claimed")?;
    for id in expired {
        ensure(world.is_expired(id).await?, "the others are canceled")?;
    }
    ensure(world.query_number("ZCARD", RUNNING).await == 1, "one job of the group runs")?;
    ensure(world.ready_count(&["crunch.webhooks"]).await == 1, "the receiver is notified")?;
    ensure(world.query_number("ZCARD", LISTED).await == 0, "no time is left")?;
    let ended = format!("queue:story:ended:{}", world.now / 10_000);
    let ended = world.tamper("GET", &ended, &[]).await;
    ensure(ended == redis::Value::BulkString(b"3".to_vec()), "they are counted as ended")
}

/// A job that started need not start in time again; one that was not run must.
pub(super) async fn started(world: &mut World) -> Check {
    world.submit(&[world.job_to_start()]).await?;
    let claim = world.claim_one().await?;
    let id = claim.job.id;
    world.sweep_for_seconds(6).await?;
    ensure(world.query_number("ZCARD", LISTED).await == 0, "a running job started in time")?;
    world.settle(claim.lease.retry(failed(), TIME)).await?;
    world.sweep_for_seconds(6).await?;
    let claim = world.claim_one().await?;
    world.settle(claim.lease.complete(Payload::json("1"))).await?;
    ensure(world.read_job(id).await?.status == Status::Succeeded, "its retry is not late")?;

    world.submit(&[world.job_to_start()]).await?;
    let claim = world.claim_one().await?;
    world.settle(claim.lease.release(ReleaseCause::Worker)).await?;
    world.advance_clock(6000).await;
    let claim = world.claim_one().await?;
    world.settle(claim.lease.snooze(TIME)).await?;
    world.sweep_for_seconds(6).await?;
    let claim = world.claim_one().await?;
    world.broker.reclaim(world.worker).await.map_err(text)?;
    (world.worker, world.number) = (WorkerId::generate(), 0);
    let _ = claim.lease;
    ensure(world.claim(1).await?.claims.len() == 1, "released, put off or lost, it started")?;

    world.submit(&[world.job_to_start()]).await?;
    let claim = world.claim_one().await?;
    let id = claim.job.id;
    world.sweep_for_seconds(6).await?;
    world.settle(claim.lease.release(ReleaseCause::Machine(String::new()))).await?;
    world.sweep_for_seconds(1).await?;
    ensure(world.is_expired(id).await?, "one that no machine could run did not start")
}

/// The first of deadline and time to start decides; each generation has its own time to start.
pub(super) async fn again(world: &mut World) -> Check {
    let with_deadline = |seconds| {
        let job = world.job_to_start();
        let deadline = Some(Duration::from_secs(seconds));
        NewJob { options: JobOptions { deadline, ..job.options.clone() }, ..job }
    };
    let (early, late, plain) = (with_deadline(3), with_deadline(8), world.job_to_start());
    let (early_id, late_id, id) = (early.id, late.id, plain.id);
    world.submit(&[early, late, plain]).await?;
    world.sweep_for_seconds(5).await?;
    let error = world.read_job(early_id).await?.error.ok_or("the job failed")?;
    ensure(error.code == ErrorCode::deadline_exceeded(), "an earlier deadline decides")?;
    ensure(world.is_expired(late_id).await?, "a later one does not")?;
    ensure(world.is_expired(id).await?, "without one the job expires")?;

    world.broker.retry(id).await.map_err(text)?;
    world.sweep_for_seconds(4).await?;
    ensure(!world.is_expired(id).await?, "a job that is retried by hand has time again")?;
    world.sweep_for_seconds(1).await?;
    ensure(world.is_expired(id).await?, "as much as before")
}

/// An audit knows which jobs have a time to start.
pub(super) async fn audited(world: &mut World) -> Check {
    let job = world.job_to_start();
    let id = job.id.to_string();
    world.submit(&[job]).await?;
    let clean = async |world: &World| {
        let audit = world.broker.audit(|_| ()).await.map_err(text)?;
        ensure(audit.is_clean(), &format!("{:?}", audit.findings))
    };
    clean(world).await?;
    world.tamper("ZREM", LISTED, &[&id]).await;
    let mut audit = world.broker.audit(|_| ()).await.map_err(text)?;
    ensure(audit.findings.len() == 1, "a job that no sweep would end is found")?;
    world.broker.heal(&mut audit).await.map_err(text)?;
    ensure(world.query_number("ZCARD", LISTED).await == 1, "and listed")?;

    let claim = world.claim_one().await?;
    clean(world).await?;
    world.tamper("ZREM", LISTED, &[&id]).await;
    clean(world).await?;
    world.tamper("ZADD", LISTED, &["9999999999999", &id]).await;
    world.settle(claim.lease.retry(failed(), TIME)).await?;
    clean(world).await
}
