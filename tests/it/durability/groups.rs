//! Group commit: concurrent submissions share calls and flushes, each has its own answer, and space and time are
//! bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use crunch_common::broker::{Broker, Durability, Enqueued, Error, Library, NewJob, QueueQuery};
use crunch_common::broker::{BrokerConfig, DurabilityConfig};
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Filter, RedisServer, eventually};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{has_waitaof, info_value};

fn broker(url: &str, durability: Durability) -> Broker {
    let config =
        BrokerConfig { redis_url: url.parse().unwrap(), partitions: 4, ..BrokerConfig::default() };
    let broker = Broker::with_library(&config, Library::shipped()).unwrap();
    broker.with_min_durability(&DurabilityConfig { durability, replicas: 1 })
}

fn job(broker: &Broker, bytes: usize) -> NewJob {
    let task = TaskDescriptor::new("t".parse().unwrap());
    NewJob::of(&task, broker.new_id(None), vec![b' '; bytes])
}

async fn enqueue(broker: &Broker, job: NewJob) -> Result<Enqueued, Error> {
    broker.enqueue(&[job]).await.pop().unwrap()
}

#[tokio::test]
async fn concurrent_submissions_share_calls() {
    expect_shared_calls(Durability::MEMORY).await;
}

#[tokio::test]
async fn concurrent_submissions_that_wait_for_the_disk_share_flushes() {
    let redis = expect_shared_calls(Durability::FSYNC).await;
    // Each batch has one SET.
    let batches = info_value(&redis, "commandstats", "cmdstat_set:calls=");
    assert!(batches * 8 <= SUBMITTERS * ROUNDS, "{batches} batches");
}

const SUBMITTERS: u64 = 64;
const ROUNDS: u64 = 20;

/// Submits with many concurrent submitters, each one job after the other, and checks the number of calls.
async fn expect_shared_calls(durability: Durability) -> RedisServer {
    let redis = RedisServer::durable();
    let broker = broker(&redis.url(), durability);
    let submitter = async |_| {
        for _ in 0..ROUNDS {
            let job = job(&broker, 100);
            let id = job.id;
            let Ok(Enqueued::Created(record)) = enqueue(&broker, job).await else {
                panic!("the job is not created")
            };
            assert_eq!(record.id, id);
        }
    };
    join_all((0..SUBMITTERS).map(submitter)).await;

    let calls = info_value(&redis, "commandstats", "cmdstat_fcall:calls=");
    let jobs = SUBMITTERS * ROUNDS;
    // A batch is at most one call a partition, of which there are four.
    assert!(calls * 4 <= jobs, "{calls} calls for {jobs} jobs");

    let queues = broker.queues(&QueueQuery::first(1)).await.unwrap();
    assert_eq!(queues.items[0].queued, jobs);
    redis
}

#[tokio::test]
async fn a_submission_just_after_the_start_of_a_flush_does_not_wait_for_two() {
    let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    if !has_waitaof(&redis) {
        // Without WAITAOF such a Redis refuses fsync, as another test shows.
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

/// The connections of an idle broker: one for calls, and one for batches of submissions.
const IDLE_CONNECTIONS: usize = 2;

#[tokio::test]
async fn connections_of_slow_batches_are_closed_once_unused() {
    let redis = RedisServer::start();
    let proxy = redis.proxy();
    let broker = broker(&proxy.url(), Durability::MEMORY);
    let submit = || {
        let broker = broker.clone();
        tokio::spawn(async move { enqueue(&broker, job(&broker, 100)).await })
    };

    eventually("a batch does not wait for the one before", async || {
        let single_reply = proxy.hold_reply(Filter::verb("enqueue"));
        let first = submit();
        single_reply.wait_until_held().await;
        let batch_reply = proxy.hold_reply(Filter::verb("enqueue"));
        let second = submit();
        batch_reply.wait_until_held().await;
        let third = submit().await.unwrap();
        let open = connections(&redis).await;
        drop((single_reply, batch_reply));
        let _outcomes = tokio::join!(first, second);
        (third.is_ok() && open > IDLE_CONNECTIONS).then_some(())
    })
    .await;

    eventually("unused connections are closed", async || {
        (connections(&redis).await <= IDLE_CONNECTIONS).then_some(())
    })
    .await;

    assert!(matches!(enqueue(&broker, job(&broker, 100)).await, Ok(Enqueued::Created(_))));
}

/// The number of open connections, without the one of this call.
async fn connections(redis: &RedisServer) -> usize {
    let mut redis = redis.connect().await;
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    list.lines().count() - 1
}

#[tokio::test]
async fn submissions_survive_the_end_of_the_runtime_that_sends_batches() {
    let redis = RedisServer::durable();
    let broker = broker(&redis.url(), Durability::FSYNC);
    // The task that sends batches for all submitters runs on the runtime of the first one, as on one thread of a
    // server.
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
    assert!(matches!(answer, Ok(Enqueued::Created(_) | Enqueued::AlreadyCreated(_))), "{answer:?}");
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
            Ok(Enqueued::AlreadyCreated(id)) if at == 1000 => assert_eq!(id, job.id),
            other => panic!("job {at}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn submissions_beyond_the_limit_are_refused_at_once_and_the_rest_in_time() {
    const MEBIBYTE: usize = 1024 * 1024;
    let redis = RedisServer::start();
    let broker = broker(&redis.url(), Durability::REPLICA);
    broker.open().await.unwrap();

    redis.freeze();
    let started_at = Instant::now();
    let submitter = async |_| match enqueue(&broker, job(&broker, MEBIBYTE)).await {
        Err(Error::Busy) => ("busy", started_at.elapsed()),
        Err(Error::Unavailable { .. } | Error::NotDurable { .. }) => {
            ("unavailable", started_at.elapsed())
        }
        other => panic!("{other:?}"),
    };

    let mut answers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (what, after) in join_all((0..80).map(submitter)).await {
        answers.entry(what).or_default().push(after);
    }
    let slowest = |what: &str| *answers[what].iter().max().unwrap();
    // The limit is 64 MiB, of which other fields than payloads use a little.
    assert!((60..64).contains(&answers["unavailable"].len()), "{answers:?}");
    assert!(slowest("busy") < Duration::from_secs(1), "{answers:?}");
    assert!(slowest("unavailable") < Duration::from_secs(6), "{answers:?}");

    // Few connections were opened, the space is free again, and submissions that timed out were not sent.
    redis.thaw();
    let connections = info_value(&redis, "clients", "connected_clients:");
    assert!(connections <= 5, "{connections} connections");
    eventually("redis accepts a job, and has no replica for it", async || {
        let answer = enqueue(&broker, job(&broker, MEBIBYTE)).await;
        matches!(answer, Err(Error::NotDurable { taken: true, .. })).then_some(())
    })
    .await;
}
