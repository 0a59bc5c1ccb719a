//! The end of a job creates a delivery, in the same step.

use crunch_common::broker::{Claim, Delivery, QueueQuery, Webhook};
use crunch_common::job::JobId;

use super::*;

const ALL: [Status; 3] = [Status::Succeeded, Status::Failed, Status::Canceled];
const DAY_MS: u64 = 24 * 3600 * 1000;

pub(super) fn job_with_webhook(world: &World, ends: &[Status]) -> NewJob {
    let job = world.job("{}");
    let url = "https://example.com/?q=\"%s%d\"\\".to_owned();
    NewJob { webhook: Some(Webhook::new(job.id, url, ends.to_vec(), options())), ..job }
}

async fn deliveries(world: &World, id: JobId) -> Result<Vec<Delivery>, String> {
    match world.broker.deliveries(id).await.map_err(|error| error.to_string())? {
        Lookup::Found(deliveries) => Ok(deliveries),
        other => Err(format!("the job does not exist: {other:?}")),
    }
}

/// Checks that the newest delivery of a job reports that end, at the current time.
async fn expect_delivery(world: &World, id: JobId, end: Status) -> Check {
    let deliveries = deliveries(world, id).await?;
    let order = deliveries.last().and_then(|delivery| delivery.order.clone());
    let order = order.ok_or("no delivery was created")?;
    ensure(
        order.job == id && order.status == end && order.at().unix_ms() == world.now,
        "the delivery contains the job, its status and the time of its end",
    )?;
    ensure(order.url == "https://example.com/?q=\"%s%d\"\\", "the delivery contains the URL")
}

async fn claim_delivery(world: &mut World) -> Result<Claim, String> {
    let queues = vec!["crunch.webhooks".parse().unwrap()];
    let mut claims = world.exchange_with_queues(queues, Vec::new(), 1).await?.claims;
    claims.pop().ok_or_else(|| "no delivery can be claimed".to_owned())
}

pub(super) async fn created(world: &mut World) -> Check {
    let job = job_with_webhook(world, &ALL);
    let id = job.id;
    world.submit(&[job, world.job("{}")]).await?;
    let claims = world.claim(2).await?.claims;
    ensure(
        world.ready_count(&["crunch.webhooks"]).await == 0,
        "no delivery is created before the end",
    )?;

    let settlements =
        claims.into_iter().map(|claim| claim.lease.complete(Payload::json("1"))).collect();
    ensure(world.exchange(settlements, 0).await?.settled.len() == 2, "both jobs are settled")?;
    ensure(
        world.ready_count(&["crunch.webhooks"]).await == 1,
        "only the job with a webhook creates a delivery",
    )?;
    ensure(
        world.query_number("LLEN", "queue:crunch.webhooks:wake").await == 1,
        "a worker is woken",
    )?;
    let queues = world.broker.queues(&QueueQuery::first(10)).await;
    let queues = queues.map_err(|error| error.to_string())?;
    ensure(
        queues.items.iter().any(|queue| queue.name.is_reserved()),
        "the queue of deliveries is listed for sweeps",
    )?;

    expect_delivery(world, id, Status::Succeeded).await?;
    let claim = claim_delivery(world).await?;
    ensure(
        claim.job.payload.bytes.len() as u64 == claim.job.options.payload_size,
        "the payload has the size in its options",
    )?;
    ensure(
        claim.job.id.partition() == id.partition() && claim.job.id != id,
        "the delivery has its own id in the partition of its job",
    )?;

    let delivery = claim.job.id;
    let settlement = claim.lease.fail(JobError::permanent(ErrorCode::task_failed(), "no"));
    ensure(
        world.exchange(vec![settlement], 0).await?.settled.len() == 1,
        "the delivery is settled",
    )?;
    ensure(world.kept_ms(delivery).await? == DAY_MS, "a failed delivery is kept for a day only")?;
    ensure(
        world.ready_count(&["crunch.webhooks"]).await == 0,
        "the end of a delivery creates no delivery",
    )
}

pub(super) async fn every_end(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..3).map(|_| job_with_webhook(world, &ALL)).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    world.submit(&jobs).await?;

    world.broker.cancel(ids[0]).await.map_err(|error| error.to_string())?;
    expect_delivery(world, ids[0], Status::Canceled).await?;

    let claim = world.claim(1).await?.claims.remove(0);
    let failed = claim.lease.fail(JobError::permanent(ErrorCode::task_failed(), "no"));
    ensure(world.exchange(vec![failed], 0).await?.settled.len() == 1, "the job is settled")?;
    expect_delivery(world, ids[1], Status::Failed).await?;

    for _ in 0..5 {
        ensure(world.claim(1).await?.claims.len() == 1, "the last job is handed out")?;
        world.broker.reclaim(world.worker).await.map_err(|error| error.to_string())?;
        (world.worker, world.number) = (WorkerId::generate(), 0);
    }
    expect_delivery(world, ids[2], Status::Failed).await?;
    ensure(
        world.query_number("LLEN", "queue:crunch.webhooks:wake").await == 1,
        "one token is enough",
    )
}

pub(super) async fn generations(world: &mut World) -> Check {
    let (job, only_failed) =
        (job_with_webhook(world, &ALL), job_with_webhook(world, &[Status::Failed]));
    let (id, other) = (job.id, only_failed.id);
    world.submit(&[job, only_failed]).await?;
    world.broker.cancel(other).await.map_err(|error| error.to_string())?;
    ensure(
        deliveries(world, other).await?.is_empty(),
        "an end that was not requested creates no delivery",
    )?;

    for generation in 1..=3 {
        world.broker.cancel(id).await.map_err(|error| error.to_string())?;
        let all = deliveries(world, id).await?;
        ensure(all.len() == generation, "each generation has its own delivery")?;
        world.broker.retry(id).await.map_err(|error| error.to_string())?;
        world.advance_clock(1).await;
    }

    for _ in 0..2 {
        world.broker.mute(id).await.map_err(|error| error.to_string())?;
    }
    world.broker.cancel(id).await.map_err(|error| error.to_string())?;
    ensure(deliveries(world, id).await?.len() == 3, "a muted job creates no more deliveries")?;
    ensure(
        world.ready_count(&["crunch.webhooks"]).await == 3,
        "deliveries that exist are not removed",
    )?;

    let plain = world.job("{}");
    let plain_id = plain.id;
    world.submit(&[plain]).await?;
    for unknown in [plain_id, world.broker.new_id(None)] {
        world.broker.mute(unknown).await.map_err(|error| error.to_string())?;
    }
    let audit = world.broker.audit(|_| ()).await.map_err(|error| error.to_string())?;
    ensure(audit.is_clean(), "an audit finds nothing")
}
