//! Small stories about single verbs, told with the same edited libraries as the random histories, so that a broken
//! function can be caught by either.

use crunch_tests::RedisServer;
use std::time::Duration;

use crunch_common::broker::{
    Broker, Enqueued, Exchange, Exchanged, Idempotency, Library, LogLines, Lookup, NewJob, Report,
    Start, WorkerId,
};
use crunch_common::job::{ErrorCode, JobError, Partition, Payload, Priority, Status};
use redis::aio::MultiplexedConnection;

use super::driver::{CLOCK, Check, library, options};

/// One story's world: a key space of its own and a clock that stands until it is moved.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) redis: MultiplexedConnection,
    prefix: String,
    worker: WorkerId,
    number: u64,
    busy: usize,
    now: u64,
}

impl World {
    pub(crate) async fn new(redis: &RedisServer, prefix: &str, library: Library) -> Self {
        let connection = redis.client().get_multiplexed_async_connection().await.unwrap();
        let broker = redis.broker(prefix, library);
        let now = crunch_common::time::Timestamp::now().unix_ms();
        let mut world = Self {
            broker,
            redis: connection,
            prefix: prefix.into(),
            worker: WorkerId::generate(),
            number: 0,
            busy: 0,
            now,
        };
        world.pass(0).await;
        world
    }

    async fn pass(&mut self, ms: u64) {
        self.now += ms;
        let () =
            redis::cmd("SET").arg(CLOCK).arg(self.now).query_async(&mut self.redis).await.unwrap();
    }

    fn key(&self, tail: &str) -> String {
        format!("{}:{{0}}:{tail}", self.prefix)
    }

    fn job(&self, payload: impl Into<bytes::Bytes>) -> NewJob {
        NewJob {
            id: self.broker.new_id(None),
            task: "story".parse().unwrap(),
            queue: "story".parse().unwrap(),
            priority: Priority::Normal,
            start: Start::Now,
            payload: payload.into(),
            options: options(),
            retention: None,
            idempotency: None,
        }
    }

    async fn submit(&self, jobs: &[NewJob]) -> Check {
        self.broker
            .enqueue(jobs)
            .await
            .into_iter()
            .try_for_each(|answer| answer.map(|_| ()).map_err(|error| error.to_string()))
    }

    async fn claim(&mut self, want: usize) -> Result<Exchanged, String> {
        self.exchange(Vec::new(), want).await
    }

    async fn exchange(
        &mut self,
        settlements: Vec<crunch_common::broker::Settlement>,
        want: usize,
    ) -> Result<Exchanged, String> {
        self.number += 1;
        let exchange = Exchange {
            worker: self.worker,
            number: self.number,
            lease: Duration::from_secs(10),
            queues: vec!["story".parse().unwrap()],
            settlements,
            want,
            busy: self.busy,
        };
        self.broker
            .exchange(Partition::default(), &exchange)
            .await
            .map_err(|error| error.to_string())
    }

    /// Seconds pass in which sweeps come by, but no beat.
    async fn silence(&mut self, seconds: u64) -> Check {
        for _ in 0..seconds {
            self.pass(1000).await;
            self.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes the wake-up token, if there is one.
    async fn token(&mut self) -> bool {
        let wake = self.key("queue:story:wake");
        let token: Option<String> =
            redis::cmd("LPOP").arg(wake).query_async(&mut self.redis).await.unwrap();
        token.is_some()
    }

    async fn length(&mut self, command: &str, tail: &str) -> u64 {
        let key = self.key(tail);
        redis::cmd(command).arg(key).query_async(&mut self.redis).await.unwrap()
    }
}

fn ensure(holds: bool, what: &str) -> Check {
    if holds { Ok(()) } else { Err(format!("it does not hold that {what}")) }
}

/// Every story, by its name.
pub(crate) const NAMES: [&str; 11] = [
    "the same key and request is one job, in one call or in two",
    "one unreadable record does not take nine others with it",
    "wake-up tokens chain until no claimable work is left",
    "a new earliest delayed job wakes a worker, a later one does not",
    "a call hands out at most 4 MiB, and a larger job alone",
    "a log keeps its newest 256 lines and 64 KiB",
    "expired jobs leave the indexes",
    "attempts are remembered, the last ten",
    "resume wakes a worker",
    "a revived job is kept again",
    "poison runs alone from its second loss and fails with its fifth",
];

/// Tells the story of that name.
pub(crate) async fn tell(name: &str, world: &mut World) -> Check {
    match NAMES.iter().position(|known| *known == name).expect("a known story") {
        0 => idempotency(world).await,
        1 => quarantine(world).await,
        2 => tokens(world).await,
        3 => delayed_tokens(world).await,
        4 => budget(world).await,
        5 => log_limits(world).await,
        6 => expiry(world).await,
        7 => history(world).await,
        8 => resume(world).await,
        9 => revived(world).await,
        _ => poison(world).await,
    }
}

async fn idempotency(world: &mut World) -> Check {
    let keyed = |world: &World, key: &str, request: &str| {
        let idempotency = Idempotency::new(&[key.as_bytes()], &[request.as_bytes()]);
        let id = world.broker.new_id(Some(&idempotency));
        NewJob { id, idempotency: Some(idempotency), ..world.job("{}") }
    };
    let batch = [
        keyed(world, "a", "x"),
        keyed(world, "a", "x"),
        keyed(world, "a", "y"),
        keyed(world, "b", "x"),
    ];
    let once = |answers: Vec<Result<Enqueued, _>>| {
        answers
            .into_iter()
            .map(Result::<_, crunch_common::broker::Error>::unwrap)
            .collect::<Vec<_>>()
    };
    let first = once(world.broker.enqueue(&batch).await);
    ensure(matches!(first[0], Enqueued::Created(_)), "the first makes a job")?;
    ensure(first[1] == Enqueued::Replayed(batch[0].id), "the second in the same call is that job")?;
    ensure(first[2] == Enqueued::Conflict, "another request with the key is refused")?;
    ensure(matches!(first[3], Enqueued::Created(_)), "another key makes another job")?;
    let again = once(world.broker.enqueue(&[keyed(world, "a", "x"), keyed(world, "a", "z")]).await);
    ensure(again[0] == Enqueued::Replayed(batch[0].id), "a later call finds that job")?;
    ensure(again[1] == Enqueued::Conflict, "and refuses another request")?;
    ensure(world.length("LLEN", "queue:story:ready:normal").await == 2, "two jobs are queued")
}

async fn quarantine(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..10).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    let broken = world.key(&format!("job:{}", jobs[4].id));
    let () = redis::pipe()
        .cmd("DEL")
        .arg(&broken)
        .cmd("SET")
        .arg(&broken)
        .arg("junk")
        .ignore()
        .exec_async(&mut world.redis)
        .await
        .unwrap();
    let claims = world.claim(10).await?.claims;
    ensure(claims.len() == 9, "nine are handed out")?;
    ensure(world.length("ZCARD", "quarantine").await == 1, "one is put aside")?;
    ensure(world.length("LLEN", "queue:story:ready:normal").await == 0, "none is left behind")
}

async fn tokens(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..3).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    for left in [2, 1, 0] {
        ensure(world.token().await, "a token lies there")?;
        ensure(!world.token().await, "it is the only one")?;
        ensure(world.claim(1).await?.claims.len() == 1, "a job is handed out")?;
        ensure(world.length("LLEN", "queue:story:ready:normal").await == left, "one fewer waits")?;
    }
    ensure(!world.token().await, "nobody is woken for nothing")
}

async fn delayed_tokens(world: &mut World) -> Check {
    let after = |world: &World, ms| NewJob {
        start: Start::After(Duration::from_millis(ms)),
        ..world.job("{}")
    };
    world.submit(&[after(world, 5000)]).await?;
    ensure(!world.token().await, "a job due in 5 s can wait for the next look")?;
    world.submit(&[after(world, 1000)]).await?;
    ensure(world.token().await, "a job due in 1 s makes somebody set a timer")?;
    ensure(
        world.claim(1).await?.next_due == Some(Duration::from_secs(1)),
        "the exchange tells when",
    )?;
    world.submit(&[after(world, 1500)]).await?;
    ensure(!world.token().await, "a later one changes nothing")?;
    world.pass(1000).await;
    let exchanged = world.claim(2).await?;
    ensure(
        exchanged.claims.len() == 1 && exchanged.next_due == Some(Duration::from_millis(500)),
        "it is handed out when due",
    )
}

async fn budget(world: &mut World) -> Check {
    let jobs: Vec<_> = [1, 3, 3, 6, 1].iter().map(|mib| world.job(vec![b' '; mib << 20])).collect();
    world.submit(&jobs).await?;
    for expected in [2, 1, 1, 1] {
        let claims = world.claim(5).await?.claims;
        ensure(claims.len() == expected, "what fits is handed out")?;
    }
    Ok(())
}

async fn log_limits(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    let key = claim.lease.key();
    let say = async |log: LogLines| {
        let report = Report { lease: key, progress: None, log };
        world
            .broker
            .report(Partition::default(), world.worker, &[report])
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    say((0..300).map(|line| format!("line {line}")).collect()).await?;
    say(vec!["x".repeat(1000); 100]).await?;
    let name = world.key(&format!("job:{}:log", key.id));
    let lines: Vec<String> =
        redis::cmd("LRANGE").arg(name).arg(0).arg(-1).query_async(&mut world.redis).await.unwrap();
    let bytes: usize = lines.iter().map(String::len).sum();
    ensure(
        lines.len() <= 256 && bytes <= 65536 && bytes > 60000,
        "the log stays within its limits",
    )?;
    ensure(lines.iter().all(|line| line.ends_with('x')), "the oldest lines went first")
}

async fn expiry(world: &mut World) -> Check {
    world.submit(&[world.job("{}"), world.job("{}")]).await?;
    let [one, other] = <[_; 2]>::try_from(world.claim(2).await?.claims).expect("two claims");
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let settlements = vec![one.lease.complete(Payload::json("1")), other.lease.fail(error)];
    ensure(world.exchange(settlements, 0).await?.settled.len() == 2, "both are settled")?;
    world.pass(25 * 3600 * 1000).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(
        world.length("ZCARD", "queue:story:finished").await == 1,
        "a success leaves after a day",
    )?;
    world.pass(30 * 24 * 3600 * 1000).await;
    world.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
    ensure(
        world.length("ZCARD", "queue:story:finished").await == 0,
        "a failure leaves after a month",
    )?;
    ensure(world.length("ZCARD", "queue:story:failed").await == 0, "the dead letters too")
}

async fn history(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    for attempt in 1..=12 {
        let mut claims = world.claim(1).await?.claims;
        ensure(claims.len() == 1 && claims[0].job.attempt == attempt, "the attempt is handed out")?;
        let error = JobError::retryable(ErrorCode::timeout(), format!("\"{attempt}\"\n"));
        let settlement = claims.remove(0).lease.retry(error, Duration::ZERO);
        ensure(world.exchange(vec![settlement], 0).await?.settled.len() == 1, "it is settled")?;
    }
    let Lookup::Found(attempts) =
        world.broker.attempts(id).await.map_err(|error| error.to_string())?
    else {
        return Err("the job is gone".into());
    };
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    ensure(numbers == (3..=12).collect::<Vec<_>>(), "the last ten are there")?;
    ensure(
        attempts[9].error.as_ref().is_some_and(|error| error.message == "\"12\"\n"),
        "with their errors",
    )
}

async fn resume(world: &mut World) -> Check {
    let queue = "story".parse().unwrap();
    world.broker.pause(&queue).await.map_err(|error| error.to_string())?;
    world.submit(&[world.job("{}")]).await?;
    let _ = world.token().await;
    ensure(world.claim(1).await?.claims.is_empty(), "a paused queue hands out nothing")?;
    ensure(!world.token().await, "and wakes nobody")?;
    world.broker.resume(&queue).await.map_err(|error| error.to_string())?;
    ensure(world.token().await, "resume wakes a worker")?;
    ensure(world.claim(1).await?.claims.len() == 1, "which gets the job")
}

async fn revived(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    world.broker.cancel(id).await.map_err(|error| error.to_string())?;
    ensure(world.length("PTTL", &format!("job:{id}")).await > 0, "a canceled job expires")?;
    world.broker.retry(id).await.map_err(|error| error.to_string())?;
    let ttl: i64 = redis::cmd("PTTL")
        .arg(world.key(&format!("job:{id}")))
        .query_async(&mut world.redis)
        .await
        .unwrap();
    ensure(ttl == -1, "a live one does not")?;
    let mut claims = world.claim(1).await?.claims;
    ensure(claims.len() == 1, "it kept its place in the queue")?;
    let settlement = claims.remove(0).lease.complete(Payload::json("2"));
    ensure(world.exchange(vec![settlement], 0).await?.settled.len() == 1, "it is settled")?;
    let Lookup::Found(job) = world.broker.job(id).await.map_err(|error| error.to_string())? else {
        return Err("the job is gone".into());
    };
    ensure(
        job.status == Status::Succeeded && job.error.is_none() && !job.cancel_requested,
        "it ended well",
    )
}

async fn poison(world: &mut World) -> Check {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job, world.job("{}")]).await?;
    world.silence(11).await?;
    for loss in 1..=5 {
        // Nobody beats for this worker, so its lease is taken back, and it is to blame.
        let first = world.claim(1).await?.claims;
        ensure(
            first.len() == 1 && first[0].job.id == id && first[0].job.attempt == 1,
            "it comes first, uncharged",
        )?;
        world.silence(11).await?;
        if (2..5).contains(&loss) {
            world.busy = 1;
            let exchanged = world.claim(9).await?;
            ensure(
                exchanged.claims.is_empty() && exchanged.drain,
                "a busy worker gets nothing but the wish to drain",
            )?;
            world.busy = 0;
        }
    }
    let Lookup::Found(job) = world.broker.job(id).await.map_err(|error| error.to_string())? else {
        return Err("the job is gone".into());
    };
    ensure(job.status == Status::Failed && job.losses == 5, "it failed")?;
    ensure(
        job.error.is_some_and(|error| error.code == ErrorCode::worker_lost()),
        "for the loss of its workers",
    )?;
    ensure(world.claim(9).await?.claims.len() == 1, "its neighbour is unharmed")
}

#[tokio::test]
async fn every_story_of_a_verb_holds() {
    let redis = RedisServer::start();
    for (at, name) in NAMES.iter().enumerate() {
        let mut world = World::new(&redis, &format!("story-{at}"), library(|text| text)).await;
        if let Err(wrong) = tell(name, &mut world).await {
            panic!("{name}: {wrong}");
        }
    }
}
