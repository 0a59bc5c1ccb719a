//! Jobs whose changes are watched or followed, and queues that are purged.

use crunch_common::broker::{Change, Changes, Event, Followed, JobRecord, Reported};
use crunch_common::job::JobId;

use super::reports::Reporting;
use super::*;

/// How long a published change may take; short, because mutants that publish nothing take as long.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);

/// How long a purge may take.
const PURGED_WITHIN: Duration = Duration::from_secs(10);

/// The changes that are published of the one watched job until it has that status.
async fn changes_until(
    changes: &mut Changes,
    id: JobId,
    until: Status,
) -> Result<Vec<(u64, Status)>, String> {
    let mut received = Vec::new();
    loop {
        let next = tokio::time::timeout(CHANGE_WITHIN, changes.next(|| true)).await;
        let next = next.ok().flatten().ok_or_else(|| format!("no change after {received:?}"))?;
        let Change { id: changed, version, status } = next;
        if changed != id {
            return Err(format!("a change of {changed} is published, which is not watched"));
        }
        received.push((version, status));
        if status == until {
            return Ok(received);
        }
    }
}

async fn follow(
    world: &World,
    id: JobId,
    version: Option<u64>,
    line: u64,
) -> Result<Followed, String> {
    match world.broker.follow(id, version, line).await.map_err(|error| error.to_string())? {
        Lookup::Found(followed) => Ok(followed),
        Lookup::Gone(_) | Lookup::Unknown => Err("the job does not exist".into()),
    }
}

async fn read_job(world: &World, id: JobId) -> Result<JobRecord, String> {
    match world.broker.job(id).await.map_err(|error| error.to_string())? {
        Lookup::Found(job) => Ok(job),
        Lookup::Gone(_) | Lookup::Unknown => Err("the job does not exist".into()),
    }
}

pub(super) async fn published_in_order(world: &mut World) -> Check {
    let mut changes = world.broker.changes().await.map_err(|error| error.to_string())?;
    // Its own retention takes it off the fast path, to the code that publishes changes.
    let kept = Some(Duration::from_secs(3600));
    let (watched, other) = (world.job("{}"), NewJob { retention: kept, ..world.job("{}") });
    let (id, unwatched) = (watched.id, other.id);
    world.submit(&[watched, other]).await?;
    world.broker.watch(id).await.map_err(|error| error.to_string())?;

    let mut claims = world.claim(2).await?.claims;
    let first = claims.remove(0).lease;
    ensure(first.key().id == id, "the watched job is claimed first")?;
    let mut reporting = Reporting::of(first.key());
    reporting.send(world, Some((0.5, "half")), Vec::new()).await?;
    reporting.send(world, None, vec!["a line".into()]).await?;
    let error = JobError::retryable(ErrorCode::timeout(), "once more");
    let settlements = vec![
        first.retry(error, Duration::ZERO),
        claims.remove(0).lease.complete(Payload::json("1")),
    ];
    let again = world.exchange(settlements, 1).await?.claims.remove(0).lease;
    let _answer = world.exchange(vec![again.complete(Payload::json("2"))], 0).await?;

    let received = changes_until(&mut changes, id, Status::Succeeded).await?;
    let (running, retrying) = (Status::Running, Status::Retrying);
    let expected = [(2, running), (3, running), (3, running), (4, retrying), (5, Status::Queued)];
    ensure(
        received.len() == 7 && received[..5] == expected,
        &format!("changes are published in order: {received:?}"),
    )?;
    ensure(
        received[5..] == [(6, running), (7, Status::Succeeded)],
        "changes are published until the end",
    )?;

    let mut redis = world.redis.clone();
    let key = world.key(&format!("job:{unwatched}"));
    let mark: Option<String> =
        redis::cmd("HGET").arg(key).arg("watched").query_async(&mut redis).await.unwrap();
    ensure(mark.is_none(), "the other job is not marked as watched")?;
    ensure(
        world.query_number("EXISTS", &format!("job:{id}:events")).await == 0,
        "no events are kept of a job that is not followed",
    )
}

pub(super) async fn kept_without_gap(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    let first = follow(world, id, None, 0).await?;
    ensure(first.events.is_none() && first.job.version == 1, "there are no events yet")?;

    let lease = world.claim(1).await?.claims.remove(0).lease;
    let mut reporting = Reporting::of(lease.key());
    reporting.send(world, Some((0.25, "ä quarter")), vec!["one".into(), "two".into()]).await?;
    reporting.send(world, Some((0.5, &"€".repeat(100))), Vec::new()).await?;

    let behind = follow(world, id, Some(1), 1).await?;
    let events = behind.events.ok_or("events were kept")?;
    let steps: Vec<_> = events.iter().map(|event| (event.version, event.status)).collect();
    let running = Status::Running;
    ensure(
        steps == [(2, running), (3, running), (4, running)],
        &format!("each change is kept once: {steps:?}"),
    )?;
    ensure(
        events[1].progress == Some((0.25, "ä quarter".into())),
        "an event contains the progress",
    )?;
    let (_, message) = events[2].progress.clone().ok_or("an event contains the progress")?;
    ensure(message == "€".repeat(60), "a long message is cut between characters")?;
    ensure(
        behind.log.len() == 1 && behind.log[0].line == "two",
        "the log continues after the known line",
    )?;
    ensure(
        follow(world, id, Some(4), 2).await?.events == Some(Vec::new()),
        "there are no new events",
    )?;

    let many: Vec<_> = (0..300).map(|_| reporting.next(Some((0.5, "on")), Vec::new())).collect();
    let sent = world.broker.report(Partition::default(), world.worker, &many, false).await;
    let confirmed = |outcomes: Vec<_>| outcomes.iter().all(|it| *it == Reported::Confirmed);
    ensure(sent.is_ok_and(confirmed), "300 more reports are confirmed")?;
    ensure(
        world.query_number("LLEN", &format!("job:{id}:events")).await == 256,
        "256 events are kept",
    )?;
    ensure(
        follow(world, id, Some(4), 2).await?.events.is_none(),
        "a gap is reported instead of events",
    )?;
    let rest = follow(world, id, Some(300), 2).await?.events.ok_or("no gap after version 300")?;
    let last: Option<&Event> = rest.last();
    ensure(
        rest.len() == 4 && last.is_some_and(|event| event.version == 304),
        "events are returned up to the newest",
    )?;

    expire_with_their_job(world, id, lease).await
}

async fn expire_with_their_job(
    world: &mut World,
    id: JobId,
    lease: crunch_common::broker::Lease,
) -> Check {
    let events = format!("job:{id}:events");
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let _answer = world.exchange(vec![lease.fail(error)], 0).await?;
    let expire = world.query_number("PEXPIRETIME", &events).await;
    ensure(expire == world.now + world.kept_ms(id).await?, "events expire with their job")?;
    world.broker.retry(id).await.map_err(|error| error.to_string())?;
    let mut redis = world.redis.clone();
    let ttl: i64 =
        redis::cmd("PTTL").arg(world.key(&events)).query_async(&mut redis).await.unwrap();
    ensure(ttl == -1, "events of a retried job do not expire")?;
    world.broker.cancel(id).await.map_err(|error| error.to_string())?;
    world.broker.delete(id).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("EXISTS", &events).await == 0, "events are deleted with their job")
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
    let Lookup::Found((_, lines)) = read else { return Err("the job does not exist".into()) };
    let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
    ensure(numbers == (391..=400).collect::<Vec<_>>(), "lines keep their numbers")?;
    ensure(lines[0].line == "line 390", "lines keep their order")?;
    let read = world.broker.log(id, 0).await.map_err(|error| error.to_string())?;
    let Lookup::Found((_, lines)) = read else { return Err("the job does not exist".into()) };
    ensure(lines.len() == 256 && lines[0].number == 145, "older lines are dropped")
}

pub(super) async fn purged(world: &mut World) -> Check {
    let queue: QueueName = "story".parse().unwrap();
    let job = world.job("{}");
    let retrying = job.id;
    world.submit(&[job]).await?;
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let error = JobError::retryable(ErrorCode::timeout(), "once more");
    let _answer = world.exchange(vec![lease.retry(error, Duration::from_secs(60))], 0).await?;

    let running = world.job("{}");
    let ran = running.id;
    world.submit(&[running]).await?;
    let lease = world.claim(1).await?.claims.remove(0).lease;

    let mut waiting: Vec<_> = (0..150).map(|_| world.job("{}")).collect();
    waiting.push(NewJob { start: Start::After(Duration::from_secs(3600)), ..world.job("{}") });
    waiting.push(NewJob { priority: Priority::Low, ..world.job("{}") });
    world.submit(&waiting).await?;
    world.broker.cancel(waiting[7].id).await.map_err(|error| error.to_string())?;

    // A mutant of it may never end.
    let purged = tokio::time::timeout(PURGED_WITHIN, world.broker.purge(&queue)).await;
    let purged = purged.map_err(|_| "a purge ends".to_owned())?;
    let purged = purged.map_err(|error| error.to_string())?;
    ensure(purged == Some(151), &format!("all waiting jobs are canceled: {purged:?}"))?;

    for job in &waiting {
        let job = read_job(world, job.id).await?;
        ensure(
            job.status == Status::Canceled && job.expires_at.is_some(),
            "each is canceled and expires",
        )?;
    }
    ensure(
        read_job(world, retrying).await?.status == Status::Retrying,
        "a job that has run is not canceled",
    )?;
    ensure(read_job(world, ran).await?.status == Status::Running, "a running job is not canceled")?;
    ensure(world.ready_count(&["story"]).await == 0, "the ready lists are empty")?;
    ensure(world.query_number("SCARD", "queue:story:ghosts").await == 0, "there are no ghosts")?;

    let _answer = world.exchange(vec![lease.complete(Payload::json("1"))], 0).await?;
    let audit = world.broker.audit(|_| ()).await.map_err(|error| error.to_string())?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))
}
