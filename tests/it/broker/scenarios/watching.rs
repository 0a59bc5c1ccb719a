//! Jobs that somebody watches, and queues that are emptied.

use crunch_common::broker::{Change, Changes, Event, Followed, JobRecord, Reported};
use crunch_common::job::JobId;

use super::reports::Reporting;
use super::*;

/// What is told takes no longer; a mutant that tells nothing is to be caught soon.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// A purge of some jobs takes no longer.
const PURGED_WITHIN: Duration = Duration::from_secs(10);

/// What is told of the one job that is watched until it has that status.
async fn told(
    changes: &mut Changes,
    id: JobId,
    until: Status,
) -> Result<Vec<(u64, Status)>, String> {
    let mut told = Vec::new();
    loop {
        let next = tokio::time::timeout(TOLD_WITHIN, changes.next(|| true)).await;
        let next = next.ok().flatten().ok_or_else(|| format!("no more was told than {told:?}"))?;
        let Change { id: whose, version, status } = next;
        if whose != id {
            return Err(format!("{whose} is told, whom nobody watches"));
        }
        told.push((version, status));
        if status == until {
            return Ok(told);
        }
    }
}

async fn followed(
    world: &World,
    id: JobId,
    version: Option<u64>,
    line: u64,
) -> Result<Followed, String> {
    match world.broker.follow(id, version, line).await.map_err(|error| error.to_string())? {
        Lookup::Found(followed) => Ok(followed),
        Lookup::Gone(_) | Lookup::Unknown => Err("the job is gone".into()),
    }
}

async fn found(world: &World, id: JobId) -> Result<JobRecord, String> {
    match world.broker.job(id).await.map_err(|error| error.to_string())? {
        Lookup::Found(job) => Ok(job),
        Lookup::Gone(_) | Lookup::Unknown => Err("the job is gone".into()),
    }
}

pub(super) async fn told_in_order(world: &mut World) -> Check {
    let mut changes = world.broker.changes().await.map_err(|error| error.to_string())?;
    // With a term of its own: it takes the way on which changes are told.
    let kept = Some(Duration::from_secs(3600));
    let (watched, other) = (world.job("{}"), NewJob { retention: kept, ..world.job("{}") });
    let (id, unwatched) = (watched.id, other.id);
    world.submit(&[watched, other]).await?;
    world.broker.watch(id).await.map_err(|error| error.to_string())?;
    let mut claims = world.claim(2).await?.claims;
    let first = claims.remove(0).lease;
    ensure(first.key().id == id, "the watched one is claimed first")?;
    let mut reporting = Reporting::of(first.key());
    reporting.send(world, Some((0.5, "half")), Vec::new()).await?;
    reporting.send(world, None, vec!["a line".into()]).await?;
    let later = JobError::retryable(ErrorCode::timeout(), "once more");
    let settlements = vec![
        first.retry(later, Duration::ZERO),
        claims.remove(0).lease.complete(Payload::json("1")),
    ];
    let again = world.exchange(settlements, 1).await?.claims.remove(0).lease;
    let _nothing = world.exchange(vec![again.complete(Payload::json("2"))], 0).await?;
    let heard = told(&mut changes, id, Status::Succeeded).await?;
    let (running, retrying) = (Status::Running, Status::Retrying);
    let expected = [(2, running), (3, running), (3, running), (4, retrying), (5, Status::Queued)];
    ensure(
        heard.len() == 7 && heard[..5] == expected,
        &format!("changes are told in their order: {heard:?}"),
    )?;
    ensure(heard[5..] == [(6, running), (7, Status::Succeeded)], "to the end")?;
    let mut redis = world.redis.clone();
    let key = world.key(&format!("job:{unwatched}"));
    let mark: Option<String> =
        redis::cmd("HGET").arg(key).arg("watched").query_async(&mut redis).await.unwrap();
    ensure(mark.is_none(), "nobody watches the other")?;
    ensure(world.query_number("EXISTS", &format!("job:{id}:events")).await == 0, "nothing was kept")
}

pub(super) async fn kept_without_gap(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    let first = followed(world, id, None, 0).await?;
    ensure(first.events.is_none() && first.job.version == 1, "there is no history yet")?;
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let mut reporting = Reporting::of(lease.key());
    reporting.send(world, Some((0.25, "ä quarter")), vec!["one".into(), "two".into()]).await?;
    reporting.send(world, Some((0.5, &"€".repeat(100))), Vec::new()).await?;
    let behind = followed(world, id, Some(1), 1).await?;
    let events = behind.events.ok_or("events were kept")?;
    let steps: Vec<_> = events.iter().map(|event| (event.version, event.status)).collect();
    let running = Status::Running;
    ensure(steps == [(2, running), (3, running), (4, running)], &format!("each once: {steps:?}"))?;
    ensure(events[1].progress == Some((0.25, "ä quarter".into())), "with its words")?;
    let (_, message) = events[2].progress.clone().ok_or("with its progress")?;
    ensure(message == "€".repeat(60), "a long message is cut between characters")?;
    ensure(behind.log.len() == 1 && behind.log[0].line == "two", "and the log goes on")?;
    ensure(followed(world, id, Some(4), 2).await?.events == Some(Vec::new()), "nothing is new")?;
    let many: Vec<_> = (0..300).map(|_| reporting.next(Some((0.5, "on")), Vec::new())).collect();
    let sent = world.broker.report(Partition::default(), world.worker, &many, false).await;
    let confirmed = |outcomes: Vec<_>| outcomes.iter().all(|it| *it == Reported::Confirmed);
    ensure(sent.is_ok_and(confirmed), "it goes on")?;
    ensure(world.query_number("LLEN", &format!("job:{id}:events")).await == 256, "256 are kept")?;
    ensure(followed(world, id, Some(4), 2).await?.events.is_none(), "a gap is told as one")?;
    let rest = followed(world, id, Some(300), 2).await?.events.ok_or("no gap behind 300")?;
    let last: Option<&Event> = rest.last();
    ensure(rest.len() == 4 && last.is_some_and(|event| event.version == 304), "up to the newest")?;
    expire_with_their_job(world, id, lease).await
}

async fn expire_with_their_job(
    world: &mut World,
    id: JobId,
    lease: crunch_common::broker::Lease,
) -> Check {
    let (job, events) = (format!("job:{id}"), format!("job:{id}:events"));
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let _nothing = world.exchange(vec![lease.fail(error)], 0).await?;
    let alike =
        world.query_number("PEXPIRETIME", &events).await == world.query_number("PEXPIRETIME", &job).await;
    ensure(alike, "events are forgotten with their job")?;
    world.broker.retry(id).await.map_err(|error| error.to_string())?;
    let mut redis = world.redis.clone();
    let ttl: i64 =
        redis::cmd("PTTL").arg(world.key(&events)).query_async(&mut redis).await.unwrap();
    ensure(ttl == -1, "and live again with it")?;
    world.broker.cancel(id).await.map_err(|error| error.to_string())?;
    world.broker.delete(id).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("EXISTS", &events).await == 0, "and are deleted with it")
}

pub(super) async fn numbered_lines(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let mut reporting = Reporting::of(lease.key());
    for first in [0, 200] {
        let lines = (first..first + 200).map(|line| format!("line {line}")).collect();
        reporting.send(world, None, lines).await?;
    }
    let read = world.broker.log(id, 390).await.map_err(|error| error.to_string())?;
    let Lookup::Found((_, lines)) = read else { return Err("the job is gone".into()) };
    let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
    ensure(numbers == (391..=400).collect::<Vec<_>>(), "lines keep their numbers")?;
    ensure(lines[0].line == "line 390", "and their order")?;
    let read = world.broker.log(id, 0).await.map_err(|error| error.to_string())?;
    let Lookup::Found((_, lines)) = read else { return Err("the job is gone".into()) };
    ensure(lines.len() == 256 && lines[0].number == 145, "older ones are gone")
}

pub(super) async fn purged(world: &mut World) -> Check {
    let queue: QueueName = "story".parse().unwrap();
    let job = world.job("{}");
    let retrying = job.id;
    world.submit(&[job]).await?;
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let later = JobError::retryable(ErrorCode::timeout(), "once more");
    let _nothing = world.exchange(vec![lease.retry(later, Duration::from_secs(60))], 0).await?;
    let running = world.job("{}");
    let ran = running.id;
    world.submit(&[running]).await?;
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let mut waiting: Vec<_> = (0..150).map(|_| world.job("{}")).collect();
    waiting.push(NewJob { start: Start::After(Duration::from_secs(3600)), ..world.job("{}") });
    waiting.push(NewJob { priority: Priority::Low, ..world.job("{}") });
    world.submit(&waiting).await?;
    world.broker.cancel(waiting[7].id).await.map_err(|error| error.to_string())?;
    // A broken one may go on for ever.
    let purged = tokio::time::timeout(PURGED_WITHIN, world.broker.purge(&queue)).await;
    let purged = purged.map_err(|_| "a purge comes to its end".to_owned())?;
    let purged = purged.map_err(|error| error.to_string())?;
    ensure(purged == Some(151), &format!("all that waits is canceled: {purged:?}"))?;
    for job in &waiting {
        let job = found(world, job.id).await?;
        ensure(job.status == Status::Canceled && job.expires_at.is_some(), "each is canceled")?;
    }
    ensure(found(world, retrying).await?.status == Status::Retrying, "what has run is left")?;
    ensure(found(world, ran).await?.status == Status::Running, "what runs, too")?;
    ensure(world.ready_count(&["story"]).await == 0, "the lists are empty")?;
    ensure(world.query_number("SCARD", "queue:story:ghosts").await == 0, "without ghosts")?;
    let _nothing = world.exchange(vec![lease.complete(Payload::json("1"))], 0).await?;
    let audit = world.broker.audit(|_| ()).await.map_err(|error| error.to_string())?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))
}
