//! Jobs whose task a worker lacks: where they wait, and who gets them.

use crunch_common::broker::BrokerConfig;
use crunch_common::broker::{Claim, Error, ListQuery};
use crunch_common::task::TaskName;

use super::*;

impl World {
    /// From now on the worker can run these tasks.
    fn can_run(&mut self, tasks: &[&str]) {
        let tasks: Vec<TaskName> = tasks.iter().map(|task| task.parse().unwrap()).collect();
        self.tasks = tasks.iter().collect();
    }

    /// Submits as many jobs; then a worker that lacks their task claims all and gives them back.
    async fn parked(&mut self, count: usize) -> Result<Vec<JobId>, String> {
        let jobs: Vec<_> = (0..count).map(|_| self.job("{}")).collect();
        self.submit(&jobs).await?;
        self.can_run(&["another"]);
        let claims = self.claim(count).await?.claims;
        ensure(claims.len() == count, "everybody claims a job for the first time")?;
        let _ = self.take_wake_token().await;
        self.give_back(claims).await?;
        Ok(jobs.iter().map(|job| job.id).collect())
    }

    async fn give_back(&mut self, claims: Vec<Claim>) -> Check {
        let release = |claim: Claim| claim.lease.release(ReleaseCause::Unroutable);
        let exchanged = self.exchange(claims.into_iter().map(release).collect(), 0).await?;
        ensure(exchanged.settled.iter().all(|it| *it == Settled::Done), "they are given back")
    }
}

fn ids(exchanged: &Exchanged) -> Vec<JobId> {
    exchanged.claims.iter().map(|claim| claim.job.id).collect()
}

pub(super) async fn own_tasks(world: &mut World) -> Check {
    let parked = world.parked(3).await?;
    ensure(world.take_wake_token().await, "a worker is woken")?;
    let seen = world.read_job(parked[0]).await?;
    ensure(seen.status == Status::Queued && seen.attempt == 0, "they are ready, and uncharged")?;
    let waiting = seen.waiting_for.ok_or("they show what they wait for")?;
    let shown = (waiting.reason.as_str(), waiting.detail.as_deref());
    ensure(shown == ("worker_with_task", Some("story")), "a worker with the task")?;
    let usual = world.job("{}");
    world.submit(std::slice::from_ref(&usual)).await?;
    let _ = world.take_wake_token().await;
    let exchanged = world.claim(5).await?;
    ensure(ids(&exchanged) == [usual.id], "a worker without the task gets only other jobs")?;
    ensure(!world.take_wake_token().await, "and wakes nobody for the parked ones")?;
    world.can_run(&["another", "story"]);
    let exchanged = world.claim(2).await?;
    ensure(ids(&exchanged) == parked[..2], "a worker with the task gets the oldest")?;
    ensure(world.take_wake_token().await, "and wakes another worker for the rest")?;
    let exchanged = world.claim(5).await?;
    ensure(ids(&exchanged) == parked[2..], "which gets it")?;
    ensure(exchanged.claims[0].job.attempt == 1, "as its first attempt")?;
    ensure(world.read_job(parked[2]).await?.waiting_for.is_none(), "it waits for nothing any more")?;
    ensure(!world.take_wake_token().await, "nothing is left")
}

pub(super) async fn stays(world: &mut World) -> Check {
    let parked = world.parked(1).await?;
    world.can_run(&["story"]);
    let claim = world.claim(1).await?.claims.pop().ok_or("it is claimed")?;
    let error = JobError::retryable(ErrorCode::task_failed(), "once more");
    let retry = claim.lease.retry(error, Duration::from_secs(1));
    let _ = world.exchange(vec![retry], 0).await?;
    world.advance_clock(1000).await;
    world.can_run(&["another"]);
    ensure(world.claim(1).await?.claims.is_empty(), "its next attempt is for the same workers")?;
    world.can_run(&["story"]);
    let claim = world.claim(1).await?.claims.pop().ok_or("it is claimed again")?;
    let release = claim.lease.release(ReleaseCause::Shutdown);
    let _ = world.exchange(vec![release], 0).await?;
    world.can_run(&["another"]);
    ensure(world.claim(1).await?.claims.is_empty(), "so it is when it is given back")?;
    world.broker.cancel(parked[0]).await.map_err(|error| error.to_string())?;
    ensure(world.read_job(parked[0]).await?.status == Status::Canceled, "it can be canceled")?;
    world.broker.retry(parked[0]).await.map_err(|error| error.to_string())?;
    ensure(world.read_job(parked[0]).await?.waiting_for.is_none(), "a second life is for any worker")
}

pub(super) async fn turns(world: &mut World) -> Check {
    let mut tasks = ["a", "b", "c"];
    for task in tasks {
        let job = NewJob { task: task.parse().unwrap(), ..world.job("{}") };
        let more = NewJob { id: world.broker.new_id(None), ..job.clone() };
        world.submit(&[job, more]).await?;
    }
    world.can_run(&["another"]);
    let claims = world.claim(6).await?.claims;
    world.give_back(claims).await?;
    world.can_run(&tasks);
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(world.claim(1).await?.claims.pop().ok_or("one is claimed")?.job.task);
    }
    first.sort();
    tasks.sort_unstable();
    ensure(first.iter().map(TaskName::as_str).eq(tasks), "no task is always the last")
}

pub(super) async fn not_parked(world: &mut World) -> Check {
    let parked = world.key("queue:story:parked");
    let names: Vec<_> = (0..256).map(|number| format!("other-{number}")).collect();
    let () = redis::cmd("SADD").arg(&parked).arg(&names).query_async(&mut world.redis).await.unwrap();
    let ids = world.parked(1).await?;
    let seen = world.read_job(ids[0]).await?;
    ensure(seen.status == Status::Scheduled, "beyond 256 tasks it is tried again later")?;
    let waiting = seen.waiting_for.ok_or("it shows what it waits for")?;
    ensure(waiting.reason == "worker_with_task" && waiting.detail.is_none(), "the same")?;
    world.advance_clock(1000).await;
    let claims = world.claim(1).await?.claims;
    ensure(claims.len() == 1, "by any worker")?;
    let () = redis::cmd("DEL").arg(&parked).query_async(&mut world.redis).await.unwrap();
    world.give_back(claims).await?;
    ensure(world.read_job(ids[0]).await?.status == Status::Queued, "then it is parked")
}

pub(super) async fn left_alone(world: &mut World) -> Check {
    let parked = world.parked(3).await?;
    let queue: QueueName = "story".parse().unwrap();
    let known = world.broker.queue(&queue).await.map_err(|error| error.to_string())?;
    let known = known.ok_or("the queue is known")?;
    ensure(known.queued == 3 && known.oldest_age.is_some(), "parked jobs count as queued")?;
    let listed = ListQuery { status: Some(Status::Queued), limit: 2, ..ListQuery::default() };
    let page = world.broker.list(&listed).await.map_err(|error| error.to_string())?;
    let rest = ListQuery { cursor: page.next, ..listed };
    let rest = world.broker.list(&rest).await.map_err(|error| error.to_string())?;
    ensure((page.items.len(), rest.items.len()) == (2, 1), "they are listed")?;
    world.broker.cancel(parked[1]).await.map_err(|error| error.to_string())?;
    ensure(world.broker.purge(&queue).await.ok() == Some(Some(2)), "a purge cancels the others")?;
    let audit = world.broker.audit(|_| ()).await.map_err(|error| error.to_string())?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))?;
    world.sweep_for_seconds(1).await?;
    let left = ["queue:story:parked", "queue:story:ghosts", "unusual"];
    for name in left {
        ensure(world.query_number("SCARD", name).await == 0, &format!("nothing is left in {name}"))?;
    }
    Ok(())
}

pub(super) async fn kept(world: &mut World) -> Check {
    let parked = world.parked(1).await?;
    world.advance_clock(2 * 3_600_000).await;
    world.sweep_for_seconds(2).await?;
    ensure(world.query_number("ZCARD", "queues").await == 1, "their queue is not forgotten")?;
    world.can_run(&["story"]);
    ensure(ids(&world.claim(1).await?) == parked, "nor are they")
}

pub(super) async fn ghosts(world: &mut World) -> Check {
    let parked = world.parked(3).await?;
    let _ = world.take_wake_token().await;
    for id in &parked[..2] {
        world.broker.cancel(*id).await.map_err(|error| error.to_string())?;
    }
    world.sweep_for_seconds(1).await?;
    let lane = "queue:story:ready:task:story";
    ensure(world.query_number("LLEN", lane).await == 1, "a sweep drops them where nobody claims")?;
    ensure(world.query_number("SCARD", "queue:story:parked").await == 1, "and keeps the task's name")?;
    ensure(world.take_wake_token().await, "and wakes a worker for the one that is left")?;
    world.can_run(&["story"]);
    ensure(ids(&world.claim(5).await?) == parked[2..], "which gets it")
}

/// Not a story: it needs a broker with a bound of its own.
#[tokio::test]
async fn parked_jobs_fill_their_queue() {
    let redis = RedisServer::start();
    let mut world = World::new(&redis, "parking", library(|text| text)).await;
    let config = BrokerConfig {
        redis_url: redis.url().parse().unwrap(),
        key_prefix: "parking".parse().unwrap(),
        max_queue_depth: 4,
        ..BrokerConfig::default()
    };
    world.broker = Broker::with_library(&config, library(|text| text)).unwrap();
    world.parked(3).await.unwrap();
    let answers = world.broker.enqueue(&[world.job("{}"), world.job("{}")]).await;
    assert!(answers[0].is_ok() && matches!(answers[1], Err(Error::QueueFull { .. })));
}
