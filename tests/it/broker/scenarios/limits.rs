//! Every call and every record has a limit.

use crunch_common::task::TaskDescriptor;

use super::reports::Reporting;
use super::*;

pub(super) async fn budget(world: &mut World) -> Check {
    let jobs: Vec<_> = [1, 2, 3, 6, 1].iter().map(|mib| world.job(vec![b' '; mib << 20])).collect();
    world.submit(&jobs).await?;
    for expected in [2, 1, 1, 1] {
        let claims = world.claim(5).await?.claims;
        ensure(claims.len() == expected, "the jobs that fit are handed out")?;
    }
    Ok(())
}

/// The queue is in use, so a single job takes the fast path.
pub(super) async fn alone(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..MAX_QUEUE_DEPTH).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    let answer = world.broker.enqueue(&[world.job("{}")]).await.remove(0);
    let refused = matches!(answer, Err(crunch_common::broker::Error::QueueFull { .. }));
    ensure(refused, "a full queue accepts no job")?;

    let _lease = world.claim(1).await?;
    world.tamper("HSET", "sweep", &["memory", "99"]).await;
    let answer = world.broker.enqueue(&[world.job("{}")]).await.remove(0);
    let refused = matches!(answer, Err(crunch_common::broker::Error::Full));
    ensure(refused, "a nearly full Redis accepts no job")?;

    world.tamper("HSET", "sweep", &["memory", "0"]).await;
    world.submit(&[world.job("{}")]).await?;

    let job = || NewJob { queue: "side".parse().unwrap(), ..world.job("{}") };
    let mut jobs: Vec<_> = (0..MAX_QUEUE_DEPTH).map(|_| job()).collect();
    jobs[0].start = Start::After(Duration::from_secs(60));
    world.submit(&jobs).await?;
    let answer = world.broker.enqueue(&[job()]).await.remove(0);
    let refused = matches!(answer, Err(crunch_common::broker::Error::QueueFull { .. }));
    ensure(refused, "a delayed job counts as well")
}

/// The first job of the second queue does not fit.
pub(super) async fn full(world: &mut World) -> Check {
    let queues: Vec<QueueName> = ["a", "b"].map(|name| name.parse().unwrap()).into();
    for (queue, count) in queues.iter().zip([2, 1]) {
        let job = |_| NewJob { queue: queue.clone(), ..world.job(vec![b' '; 50_000]) };
        let jobs: Vec<_> = (0..count).map(job).collect();
        world.submit(&jobs).await?;
    }

    for expected in [2, 1] {
        let exchanged = world.exchange_with_queues(queues.clone(), Vec::new(), 5).await?;
        ensure(exchanged.claims.len() == expected, "the jobs that fit are handed out")?;
    }
    Ok(())
}

pub(super) async fn log_limits(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let key = claim.lease.key();
    let mut reporting = Reporting::of(key);
    reporting.send(world, None, (0..300).map(|line| format!("line {line}")).collect()).await?;
    reporting.send(world, None, vec!["x".repeat(1000); 100]).await?;

    let name = world.key(&format!("job:{}:log", key.id));
    let lines: Vec<String> =
        redis::cmd("LRANGE").arg(name).arg(0).arg(-1).query_async(&mut world.redis).await.unwrap();
    let bytes: usize = lines.iter().map(String::len).sum();
    ensure(
        lines.len() <= 256 && bytes <= 65536 && bytes > 60000,
        "the log stays within its limits",
    )?;
    ensure(lines.iter().all(|line| line.ends_with('x')), "the oldest lines are dropped first")
}

pub(super) async fn history(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;

    for attempt in 1..=12 {
        let mut claims = world.claim(1).await?.claims;
        ensure(claims.len() == 1 && claims[0].job.attempt == attempt, "the attempt is handed out")?;
        let error = JobError::retryable(ErrorCode::timeout(), format!("\"{attempt}\"\n"));
        let settlement = claims.remove(0).lease.retry(error, Duration::ZERO);
        ensure(
            world.exchange(vec![settlement], 0).await?.settled.len() == 1,
            "the attempt is settled",
        )?;
    }

    let Lookup::Found(attempts) =
        world.broker.attempts(id).await.map_err(|error| error.to_string())?
    else {
        return Err("the job does not exist".into());
    };
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    ensure(numbers == (3..=12).collect::<Vec<_>>(), "the last ten attempts are kept")?;
    ensure(
        attempts[9].error.as_ref().is_some_and(|error| error.message == "\"12\"\n"),
        "attempts are kept with their errors",
    )
}

pub(super) async fn long_history(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;

    for _ in 0..8 {
        let claim = world.claim(1).await?.claims.remove(0);
        let error = JobError::retryable(ErrorCode::timeout(), "\u{1}".repeat(4096));
        let settlement = claim.lease.retry(error, Duration::ZERO);
        ensure(
            world.exchange(vec![settlement], 0).await?.settled.len() == 1,
            "the attempt is settled",
        )?;
    }

    let bytes: u64 = redis::cmd("HSTRLEN")
        .arg(world.key(&format!("job:{id}")))
        .arg("history")
        .query_async(&mut world.redis)
        .await
        .unwrap();
    ensure((24_000..26_000).contains(&bytes), "only the newest long error is kept")
}

/// Five queues of sixty jobs, all due.
pub(super) async fn hundred(world: &mut World) -> Check {
    for queue in ["a", "b", "c", "d", "e"] {
        let jobs: Vec<_> = (0..60)
            .map(|_| NewJob {
                queue: queue.parse().unwrap(),
                start: Start::After(Duration::from_millis(1000)),
                ..world.job("{}")
            })
            .collect();
        world.submit(&jobs).await?;
    }

    let queues: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| name.parse().unwrap()).into();
    world.advance_clock(2000).await;
    let exchanged = world.exchange_with_queues(queues, Vec::new(), 0).await?;
    ensure(exchanged.more, "an exchange asks to be called again")?;
    let moved = world.ready_count(&["a", "b", "c", "d", "e"]).await;
    ensure(moved == 100, "the exchange has promoted a hundred jobs")?;

    world.heartbeat(&[]).await?;
    let moved = world.ready_count(&["a", "b", "c", "d", "e"]).await;
    ensure(moved == 200, "the sweep in a heartbeat promotes a hundred more")?;
    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    let moved = world.ready_count(&["a", "b", "c", "d", "e"]).await;
    ensure(moved == 300, "a sweep promotes the rest")
}

pub(super) async fn due_backlog(world: &mut World) -> Check {
    let due = NewJob { start: Start::After(Duration::from_secs(1)), ..world.job("{}") };
    let jobs: Vec<_> =
        (0..200).map(|_| NewJob { id: world.broker.new_id(None), ..due.clone() }).collect();
    world.submit(&jobs).await?;
    world.advance_clock(2000).await;

    let mut settlements = Vec::new();
    for _ in 0..5 {
        let claims = world.exchange(settlements, Exchange::MAX_CLAIMS).await?.claims;
        ensure(claims.len() == Exchange::MAX_CLAIMS, "a call hands out as many as are wanted")?;
        settlements =
            claims.into_iter().map(|claim| claim.lease.complete(Payload::json("1"))).collect();
    }
    Ok(())
}

pub(super) async fn ghosts(world: &mut World) -> Check {
    let urgent: Vec<_> =
        (0..20).map(|_| NewJob { priority: Priority::Urgent, ..world.job("{}") }).collect();
    let low = NewJob { priority: Priority::Low, ..world.job("{}") };
    world.submit(&urgent).await?;
    world.submit(&[low]).await?;
    for job in &urgent[..19] {
        world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
    }

    let claims = world.claim(1).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.id == urgent[19].id, "the live job is claimed")?;
    ensure(world.query_number("SCARD", "queue:story:ghosts").await == 0, "the ghosts are dropped")
}

pub(super) async fn first_queue_first(world: &mut World) -> Check {
    let due_soon = |world: &World, queue: &str| NewJob {
        queue: queue.parse().unwrap(),
        start: Start::After(Duration::from_millis(1000)),
        ..world.job("{}")
    };
    let names = ["a", "b", "c", "d", "e"];
    for queue in &names[1..] {
        let jobs: Vec<_> = (0..110).map(|_| due_soon(world, queue)).collect();
        world.submit(&jobs).await?;
    }

    let first = due_soon(world, "a");
    world.submit(std::slice::from_ref(&first)).await?;
    world.advance_clock(2000).await;

    let claims = world
        .exchange_with_queues(names.map(|name| name.parse().unwrap()).into(), Vec::new(), 1)
        .await?;
    ensure(
        claims.claims[0].lease.key().id == first.id,
        "the job of the first queue is handed out first",
    )
}

/// Fills a sorted set or hash with this many names.
async fn fill(world: &mut World, tail: &str, count: u64) {
    let (key, now) = (world.key(tail), world.now);
    let body = "for at = 1, ARGV[1] do \
        if not string.find(KEYS[1], 'tasks$') then redis.call('ZADD', KEYS[1], ARGV[2], 'n' .. at) \
        else redis.call('HSET', KEYS[1], 'n' .. at, '{}') end end";
    let mut fill = redis::cmd("EVAL");
    fill.arg(body).arg(1).arg(key).arg(count).arg(now);
    let () = fill.query_async(&mut world.redis).await.unwrap();
}

pub(super) async fn names(world: &mut World) -> Check {
    fill(world, "queues", 49_999).await;
    let job =
        |world: &World, queue: &str| NewJob { queue: queue.parse().unwrap(), ..world.job("{}") };
    let jobs = ["a", "b", "a", "n7"].map(|queue| job(world, queue));

    let answers = world.broker.enqueue(&jobs).await;
    let taken: Vec<_> = answers.iter().map(Result::is_ok).collect();
    ensure(taken == [true, false, true, true], "one new queue is accepted, and known ones")?;
    let refused = matches!(&answers[1], Err(crunch_common::broker::Error::TooManyQueues { .. }));
    ensure(refused, "the refusal names the limit")?;
    let key = world.key(&format!("job:{}", jobs[1].id));
    let left: bool = redis::cmd("EXISTS").arg(key).query_async(&mut world.redis).await.unwrap();
    ensure(!left, "nothing is left of the refused job")?;

    world.submit(&[job(world, "a")]).await?;
    let served = ["b".parse().unwrap()];
    world.broker.announce(&served, &[]).await.map_err(|error| error.to_string())?;
    world.submit(&[job(world, "b")]).await
}

pub(super) async fn tasks(world: &mut World) -> Check {
    fill(world, "tasks", 9_999).await;
    fill(world, "tasks:seen", 9_999).await;
    let tasks = ["a", "b", "n7"].map(|name| TaskDescriptor::new(name.parse().unwrap()));

    let declared = world.broker.announce(&[], &tasks).await;
    let named = declared.map_err(|error| error.to_string()).err().unwrap_or_default();
    ensure(named.contains("rejected: b;"), "the error names the second task")?;
    let known = world.broker.tasks().await.map_err(|error| error.to_string())?;
    let known: Vec<_> = known.iter().map(|task| task.name.as_str()).collect();
    ensure(
        known == ["a", "n7"],
        "the first task is declared, and one that was declared before is renewed",
    )?;

    let version = world.broker.tasks_version().await.map_err(|error| error.to_string())?;
    let replaced =
        world.broker.announce(&[], &tasks[..1]).await.map_err(|error| error.to_string())?;
    ensure(replaced.is_empty(), "the same declaration replaces none")?;
    let again = world.broker.tasks_version().await.map_err(|error| error.to_string())?;
    ensure(version.is_some() && again == version, "the same declaration is no change")?;

    let mut changed = tasks[0].clone();
    changed.description = "changed".to_owned();
    let declared = [changed, tasks[2].clone()];
    let replaced =
        world.broker.announce(&[], &declared).await.map_err(|error| error.to_string())?;
    ensure(replaced == [tasks[0].name.clone()], "another declaration is named")?;
    let after = world.broker.tasks_version().await.map_err(|error| error.to_string())?;
    ensure(after > version, "another declaration is a change")?;

    // Tasks are removed a month after the last worker declared them.
    world.advance_clock(2_592_000_001).await;
    let replaced =
        world.broker.announce(&[], &tasks[2..]).await.map_err(|error| error.to_string())?;
    ensure(replaced.is_empty(), "the same declaration replaces none, however late")?;
    let known = world.broker.tasks().await.map_err(|error| error.to_string())?;
    ensure(known.iter().all(|task| task.name.as_str() == "n7"), "the other tasks are removed")?;
    let replaced =
        world.broker.announce(&[], &tasks[..1]).await.map_err(|error| error.to_string())?;
    ensure(replaced.is_empty(), "a first declaration replaces none")
}

pub(super) async fn last_use(world: &mut World) -> Check {
    let queue: QueueName = "story".parse().unwrap();
    let jobs = [world.job("{}"), world.job("{}")];
    for job in &jobs {
        world.submit(std::slice::from_ref(job)).await?;
        world.advance_clock(3_000_000).await;
    }

    let is_known = async |world: &World| {
        world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
        world.broker.knows(&queue).await.map_err(|error| error.to_string())
    };

    for job in &jobs {
        world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
        world.broker.delete(job.id).await.map_err(|error| error.to_string())?;
    }

    let _answer = world.claim(1).await?;
    ensure(
        is_known(world).await?,
        "the queue is known fifty minutes after its last job was submitted",
    )?;
    world.advance_clock(601_000).await;
    ensure(!is_known(world).await?, "the queue is removed after an hour")?;
    ensure(
        world.query_number("ZCARD", "queues:names").await == 0,
        "the queue is removed from the index of names",
    )
}
