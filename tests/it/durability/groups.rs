//! Group commit: those who submit at once share their waiting, each with an answer of its own, in bounded room and time.

use std::collections::BTreeMap;
use std::time::Duration;

use crunch_common::broker::{
    Broker, Durability, Enqueued, Error, Library, NewJob, QueueQuery, Start,
};
use crunch_common::broker::{BrokerConfig, DurabilityConfig};
use crunch_common::job::{JobOptions, Priority};
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Proxy, RedisServer, Filter, eventually};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{figure, waits_for_disk};

fn broker(url: &str, durability: Durability) -> Broker {
    let config =
        BrokerConfig { redis_url: url.parse().unwrap(), partitions: 4, ..BrokerConfig::default() };
    let broker = Broker::with_library(&config, Library::shipped()).unwrap();
    broker.with_min_durability(&DurabilityConfig { durability, replicas: 1 })
}

fn job(broker: &Broker, bytes: usize) -> NewJob {
    let task = TaskDescriptor::new("t".parse().unwrap());
    NewJob {
        id: broker.new_id(None),
        task: task.name,
        queue: task.queue,
        priority: Priority::Normal,
        start: Start::Now,
        payload: vec![b' '; bytes].into(),
        options: JobOptions {
            max_attempts: task.max_attempts,
            timeout: task.timeout,
            deadline: None,
            backoff: task.backoff,
            content_type: task.content_type,
            payload_size: bytes as u64,
            metadata: Default::default(),
            trace: None,
        },
        retention: None,
        idempotency: None,
        durability: Durability::MEMORY,
        webhook: None,
    }
}

async fn enqueue(broker: &Broker, job: NewJob) -> Result<Enqueued, Error> {
    broker.enqueue(&[job]).await.pop().unwrap()
}

#[tokio::test]
async fn those_who_submit_at_once_share_their_calls() {
    share_their_calls(Durability::MEMORY).await;
}

#[tokio::test]
async fn those_who_wait_for_the_disk_at_once_share_its_flushes() {
    let redis = share_their_calls(Durability::FSYNC).await;
    // One mark a batch.
    let batches = figure(&redis, "commandstats", "cmdstat_set:calls=");
    assert!(batches * 8 <= SUBMITTERS * ROUNDS, "{batches} batches");
}

const SUBMITTERS: u64 = 64;
const ROUNDS: u64 = 20;

/// Lets many submit at once, each its own jobs one after the other, and counts.
async fn share_their_calls(durability: Durability) -> RedisServer {
    let redis = RedisServer::durable();
    let broker = broker(&redis.url(), durability);
    let submitter = async |_| {
        for _ in 0..ROUNDS {
            let job = job(&broker, 100);
            let id = job.id;
            let Ok(Enqueued::Created(record)) = enqueue(&broker, job).await else {
                panic!("it is taken")
            };
            assert_eq!(record.id, id);
        }
    };
    join_all((0..SUBMITTERS).map(submitter)).await;
    let calls = figure(&redis, "commandstats", "cmdstat_fcall:calls=");
    let jobs = SUBMITTERS * ROUNDS;
    // A batch is at most one call a partition, of which there are four.
    assert!(calls * 4 <= jobs, "{calls} calls for {jobs} jobs");
    let queues = broker.queues(&QueueQuery::first(1)).await.unwrap();
    assert_eq!(queues.items[0].queued, jobs);
    redis
}

#[tokio::test]
async fn whoever_comes_just_after_a_flush_began_does_not_wait_for_two() {
    let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    if !waits_for_disk(&redis) {
        // It refuses, as another test shows.
        return;
    }
    let broker = broker(&redis.url(), Durability::FSYNC);
    // A steady load over several flushes.
    let mut clock = tokio::time::interval(Duration::from_millis(40));
    let mut submitters = tokio::task::JoinSet::new();
    for _ in 0..100 {
        clock.tick().await;
        let broker = broker.clone();
        submitters.spawn(async move { enqueue(&broker, job(&broker, 100)).await });
    }
    for answer in submitters.join_all().await {
        assert!(matches!(answer, Ok(Enqueued::Created(_))), "{answer:?}");
    }
}

/// One for steps, and one for submissions that are collected.
const OF_A_BROKER: usize = 2;

#[tokio::test]
async fn connections_that_slow_batches_needed_are_closed_when_nothing_needs_them() {
    let redis = RedisServer::start();
    let line = Proxy::to(redis.port());
    let broker = broker(&line.url(), Durability::MEMORY);
    let submit = || {
        let broker = broker.clone();
        tokio::spawn(async move { enqueue(&broker, job(&broker, 100)).await })
    };
    eventually("a batch does not wait for the one before", async || {
        let by_itself = line.hold_reply(Filter::verb("enqueue"));
        let first = submit();
        by_itself.wait_until_held().await;
        let in_a_batch = line.hold_reply(Filter::verb("enqueue"));
        let second = submit();
        in_a_batch.wait_until_held().await;
        let third = submit().await.unwrap();
        let open = connections(&redis).await;
        drop((by_itself, in_a_batch));
        let _outcomes = tokio::join!(first, second);
        (third.is_ok() && open > OF_A_BROKER).then_some(())
    })
    .await;
    eventually("connections without use are closed", async || {
        (connections(&redis).await <= OF_A_BROKER).then_some(())
    })
    .await;
    assert!(matches!(enqueue(&broker, job(&broker, 100)).await, Ok(Enqueued::Created(_))));
}

/// How many are open, without the one that asks.
async fn connections(redis: &RedisServer) -> usize {
    let mut redis = redis.connect().await;
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    list.lines().count() - 1
}

#[tokio::test]
async fn a_runtime_that_ends_takes_nobody_with_it() {
    let redis = RedisServer::durable();
    let broker = broker(&redis.url(), Durability::FSYNC);
    // The first to submit runs the task for all, as one thread of a server of many does.
    let first = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let submitted = first.spawn({
        let broker = broker.clone();
        async move { enqueue(&broker, job(&broker, 100)).await.unwrap() }
    });
    submitted.await.unwrap();
    redis.freeze();
    let waiting = enqueue(&broker, job(&broker, 100));
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    first.shutdown_background();
    redis.thaw();
    let answer = waiting.await;
    assert!(matches!(answer, Ok(Enqueued::Created(_) | Enqueued::Known(_))), "{answer:?}");
}

#[tokio::test]
async fn a_large_batch_keeps_its_order_and_its_answers() {
    let redis = RedisServer::durable();
    let broker = broker(&redis.url(), Durability::FSYNC);
    let mut jobs: Vec<_> = (0..2500).map(|n| job(&broker, n)).collect();
    jobs[1000] = jobs[0].clone();
    let answers = broker.enqueue(&jobs).await;
    for (at, (job, answer)) in jobs.iter().zip(answers).enumerate() {
        match answer {
            Ok(Enqueued::Created(record)) if at != 1000 => assert_eq!(record.id, job.id),
            Ok(Enqueued::Known(id)) if at == 1000 => assert_eq!(id, job.id),
            other => panic!("job {at}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_at_once_and_the_rest_in_time() {
    const MEBIBYTE: usize = 1024 * 1024;
    let redis = RedisServer::start();
    let broker = broker(&redis.url(), Durability::REPLICA);
    broker.open().await.unwrap();
    redis.freeze();
    let begun = Instant::now();
    let submitter = async |_| match enqueue(&broker, job(&broker, MEBIBYTE)).await {
        Err(Error::Busy) => ("busy", begun.elapsed()),
        Err(Error::Unavailable { .. } | Error::NotDurable { .. }) => ("away", begun.elapsed()),
        other => panic!("{other:?}"),
    };
    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (what, after) in join_all((0..80).map(submitter)).await {
        told.entry(what).or_default().push(after);
    }
    let slowest = |what: &str| *told[what].iter().max().unwrap();
    // 64 MiB are the room there is, a little of it taken by what stands beside a payload.
    assert!((60..64).contains(&told["away"].len()), "{told:?}");
    assert!(slowest("busy") < Duration::from_secs(1), "{told:?}");
    assert!(slowest("away") < Duration::from_secs(6), "{told:?}");

    // Nobody stormed it, the room is free again, and whoever gave up was not sent.
    redis.thaw();
    let connections = figure(&redis, "clients", "connected_clients:");
    assert!(connections <= 5, "{connections} connections");
    eventually("redis takes a job, and has no replica for it", async || {
        let answer = enqueue(&broker, job(&broker, MEBIBYTE)).await;
        matches!(answer, Err(Error::NotDurable { taken: true, .. })).then_some(())
    })
    .await;
}
