//! Jobs whose task a worker lacks: where they wait, and which workers claim them.

use crunch_common::broker::{Claim, Error, ListQuery};
use crunch_common::task::TaskName;

use super::*;

impl World {
    /// Sets the tasks that the worker can run.
    pub(super) fn set_tasks(&mut self, tasks: &[&str]) {
        let tasks: Vec<TaskName> = tasks.iter().map(|task| task.parse().unwrap()).collect();
        self.tasks = tasks.iter().collect();
    }

    /// Submits this many jobs; a worker that lacks their task claims and releases all.
    async fn park_jobs(&mut self, count: usize) -> Result<Vec<JobId>, String> {
        let jobs: Vec<_> = (0..count).map(|_| self.job("{}")).collect();
        self.submit(&jobs).await?;
        self.set_tasks(&["another"]);
        let claims = self.claim(count).await?.claims;
        ensure(claims.len() == count, "a worker without the task claims the jobs")?;
        let _ = self.take_wake_token().await;
        self.release_all(claims).await?;
        Ok(jobs.iter().map(|job| job.id).collect())
    }

    async fn release_all(&mut self, claims: Vec<Claim>) -> Check {
        let release = |claim: Claim| claim.lease.release(ReleaseCause::Unroutable);
        let exchanged = self.exchange(claims.into_iter().map(release).collect(), 0).await?;
        ensure(exchanged.settled.iter().all(|it| *it == Settled::Done), "the jobs are released")
    }
}

fn ids(exchanged: &Exchanged) -> Vec<JobId> {
    exchanged.claims.iter().map(|claim| claim.job.id).collect()
}

pub(super) async fn own_tasks(world: &mut World) -> Check {
    let parked = world.park_jobs(3).await?;
    ensure(world.take_wake_token().await, "parking wakes a worker")?;
    let seen = world.read_job(parked[0]).await?;
    ensure(
        seen.status == Status::Queued && seen.attempt == 0,
        "a parked job is queued and uncharged",
    )?;
    let waiting = seen.waiting_for.ok_or("a parked job shows what it waits for")?;
    let shown = (waiting.reason.as_str(), waiting.detail.as_deref());
    ensure(
        shown == ("worker_with_task", Some("story")),
        "the job waits for a worker with its task",
    )?;

    let other = world.job("{}");
    world.submit(std::slice::from_ref(&other)).await?;
    let _ = world.take_wake_token().await;
    let exchanged = world.claim(5).await?;
    ensure(ids(&exchanged) == [other.id], "a worker without the task claims only other jobs")?;
    ensure(!world.take_wake_token().await, "its claim wakes no worker for the parked jobs")?;

    world.set_tasks(&["another", "story"]);

    let exchanged = world.claim(2).await?;
    ensure(ids(&exchanged) == parked[..2], "a worker with the task claims the oldest")?;
    ensure(world.take_wake_token().await, "its claim wakes another worker for the rest")?;
    let exchanged = world.claim(5).await?;
    ensure(ids(&exchanged) == parked[2..], "the next claim hands out the last parked job")?;
    ensure(exchanged.claims[0].job.attempt == 1, "it is the first attempt")?;
    ensure(
        world.read_job(parked[2]).await?.waiting_for.is_none(),
        "a running job waits for nothing",
    )?;
    ensure(!world.take_wake_token().await, "no token is left without a job")
}

pub(super) async fn stays(world: &mut World) -> Check {
    let parked = world.park_jobs(1).await?;
    world.set_tasks(&["story"]);
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;
    let error = JobError::retryable(ErrorCode::task_failed(), "once more");
    let retry = claim.lease.retry(error, Duration::from_secs(1));
    let _ = world.exchange(vec![retry], 0).await?;

    world.advance_clock(1000).await;
    world.set_tasks(&["another"]);
    ensure(
        world.claim(1).await?.claims.is_empty(),
        "a worker without the task does not claim the next attempt",
    )?;

    world.set_tasks(&["story"]);
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed again")?;
    let release = claim.lease.release(ReleaseCause::Worker);
    let _ = world.exchange(vec![release], 0).await?;
    world.set_tasks(&["another"]);
    ensure(
        world.claim(1).await?.claims.is_empty(),
        "a worker without the task does not claim a released job",
    )?;

    world.broker.cancel(parked[0]).await.map_err(|error| error.to_string())?;
    ensure(
        world.read_job(parked[0]).await?.status == Status::Canceled,
        "a parked job can be canceled",
    )?;
    world.broker.retry(parked[0]).await.map_err(|error| error.to_string())?;
    ensure(
        world.read_job(parked[0]).await?.waiting_for.is_none(),
        "a job that is retried by hand waits for nothing",
    )
}

pub(super) async fn turns(world: &mut World) -> Check {
    let mut tasks = ["a", "b", "c"];
    for task in tasks {
        let job = NewJob { task: task.parse().unwrap(), ..world.job("{}") };
        let more = NewJob { id: world.broker.new_id(None), ..job.clone() };
        world.submit(&[job, more]).await?;
    }

    world.set_tasks(&["another"]);
    let claims = world.claim(6).await?.claims;
    world.release_all(claims).await?;
    world.set_tasks(&tasks);

    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(world.claim(1).await?.claims.pop().ok_or("a job is claimed")?.job.task);
    }

    first.sort();
    tasks.sort_unstable();
    ensure(first.iter().map(TaskName::as_str).eq(tasks), "each task is first once")
}

pub(super) async fn not_parked(world: &mut World) -> Check {
    let parked = world.key("queue:story:parked");
    let names: Vec<_> = (0..256).map(|number| format!("other-{number}")).collect();
    let () =
        redis::cmd("SADD").arg(&parked).arg(&names).query_async(&mut world.redis).await.unwrap();
    let ids = world.park_jobs(1).await?;
    let seen = world.read_job(ids[0]).await?;
    ensure(seen.status == Status::Scheduled, "with 256 parked tasks the job is tried again later")?;
    let waiting = seen.waiting_for.ok_or("a delayed job shows what it waits for")?;
    ensure(
        waiting.reason == "worker_with_task" && waiting.detail.is_none(),
        "a job that is not parked has the same reason, without detail",
    )?;

    world.advance_clock(1000).await;
    let claims = world.claim(1).await?.claims;
    ensure(claims.len() == 1, "any worker claims the job again")?;

    let () = redis::cmd("DEL").arg(&parked).query_async(&mut world.redis).await.unwrap();
    world.release_all(claims).await?;
    ensure(
        world.read_job(ids[0]).await?.status == Status::Queued,
        "the job is parked once there is room",
    )
}

pub(super) async fn managed(world: &mut World) -> Check {
    let parked = world.park_jobs(3).await?;
    let queue: QueueName = "story".parse().unwrap();
    let known = world.broker.queue(&queue).await.map_err(|error| error.to_string())?;
    let known = known.ok_or("the queue is known")?;
    ensure(known.queued == 3 && known.oldest_age.is_some(), "parked jobs count as queued")?;
    let listed = ListQuery { status: Some(Status::Queued), limit: 2, ..ListQuery::default() };
    let page = world.broker.list(&listed).await.map_err(|error| error.to_string())?;
    let rest = ListQuery { cursor: page.next, ..listed };
    let rest = world.broker.list(&rest).await.map_err(|error| error.to_string())?;
    ensure((page.items.len(), rest.items.len()) == (2, 1), "parked jobs are listed")?;

    world.broker.cancel(parked[1]).await.map_err(|error| error.to_string())?;
    ensure(
        world.broker.purge(&queue).await.ok() == Some(Some(2)),
        "a purge cancels the other parked jobs",
    )?;
    let audit = world.broker.audit(|_| ()).await.map_err(|error| error.to_string())?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))?;

    world.sweep_for_seconds(1).await?;
    let left = ["queue:story:parked", "queue:story:ghosts", "queues:side"];
    for name in left {
        ensure(
            world.query_number("SCARD", name).await == 0,
            &format!("nothing is left in {name}"),
        )?;
    }
    Ok(())
}

pub(super) async fn kept(world: &mut World) -> Check {
    let parked = world.park_jobs(1).await?;
    world.advance_clock(2 * 3_600_000).await;
    world.sweep_for_seconds(2).await?;
    ensure(
        world.query_number("ZCARD", "queues").await == 1,
        "a queue with parked jobs is not removed",
    )?;
    world.set_tasks(&["story"]);
    ensure(ids(&world.claim(1).await?) == parked, "the parked job is claimed after two hours")
}

pub(super) async fn ghosts(world: &mut World) -> Check {
    let parked = world.park_jobs(3).await?;
    let _ = world.take_wake_token().await;
    for id in &parked[..2] {
        world.broker.cancel(*id).await.map_err(|error| error.to_string())?;
    }

    world.sweep_for_seconds(1).await?;
    let lane = "queue:story:ready:task:story";
    ensure(
        world.query_number("LLEN", lane).await == 1,
        "a sweep drops the ghosts of a lane that no worker claims from",
    )?;
    ensure(
        world.query_number("SCARD", "queue:story:parked").await == 1,
        "the task is still listed as parked",
    )?;
    ensure(world.take_wake_token().await, "the sweep wakes a worker for the job that is left")?;

    world.set_tasks(&["story"]);
    ensure(
        ids(&world.claim(5).await?) == parked[2..],
        "the next claim hands out the last parked job",
    )?;

    world.broker.retry(parked[0]).await.map_err(|error| error.to_string())?;
    world.set_tasks(&["another"]);
    ensure(
        ids(&world.claim(5).await?) == parked[..1],
        "a job that is retried by hand is no longer parked: any worker claims it",
    )
}

/// Not a scenario: it needs a broker with another limit.
#[tokio::test]
async fn parked_jobs_count_towards_the_depth_of_their_queue() {
    let redis = RedisServer::start().with_partitions(1);
    let mut world = World::new(&redis, "parking", library(|text| text)).await;
    let config = BrokerConfig {
        redis_url: redis.url().parse().unwrap(),
        key_prefix: "parking".parse().unwrap(),
        max_queue_depth: 4,
        ..BrokerConfig::default()
    };
    world.broker = Broker::with_library(&config, library(|text| text)).unwrap();

    world.park_jobs(3).await.unwrap();
    let answers = world.broker.enqueue(&[world.job("{}"), world.job("{}")]).await;
    assert!(answers[0].is_ok() && matches!(answers[1], Err(Error::QueueFull { .. })));
}
