//! The cost of reads in Redis depends on what they return, not on what else there is. Measured in bytes that Redis
//! sent.

use std::collections::BTreeSet;
use std::time::Duration;

use crunch_common::broker::BrokerConfig;
use crunch_common::broker::{
    Broker, Durability, Exchange, Heartbeat, Library, ListQuery, Lookup, NewJob, QueueQuery, Start,
    TaskNames, WorkerId, WorkerInfo,
};
use crunch_common::job::{JobId, Partition, Payload, Priority, Status};
use crunch_common::queue::QueueName;
use crunch_tests::RedisServer;
use redis::aio::MultiplexedConnection;

use super::simulated::options;

fn job(broker: &Broker, queue: &str) -> NewJob {
    NewJob {
        id: broker.new_id(None),
        task: "read".parse().unwrap(),
        queue: queue.parse().unwrap(),
        priority: Priority::Normal,
        start: Start::Now,
        payload: "{}".into(),
        options: options(),
        retention: None,
        idempotency: None,
        durability: Durability::MEMORY,
        webhook: None,
        indexes: Vec::new(),
        lock: None,
        schedule: None,
    }
}

/// Fills this many queues with one job each; returns the names of the queues and the ids.
async fn fill_queues(redis: &RedisServer, count: usize) -> (Broker, Vec<String>, BTreeSet<JobId>) {
    let broker = redis.broker("reads", Library::shipped());
    let names: Vec<_> =
        (0..count).map(|number| format!("a-name-of-some-length-{number}")).collect();
    let jobs: Vec<_> = names.iter().map(|name| job(&broker, name)).collect();
    for answer in broker.enqueue(&jobs).await {
        answer.unwrap();
    }
    (broker, names, jobs.iter().map(|job| job.id).collect())
}

/// The number of bytes that Redis has sent to all its clients.
async fn bytes_sent(redis: &mut MultiplexedConnection) -> usize {
    let info: String = redis::cmd("INFO").arg("stats").query_async(redis).await.unwrap();
    let value = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    value.unwrap().trim().parse().unwrap()
}

/// Every job of a list, in pages of `limit`, and the number of pages.
async fn list_all(broker: &Broker, status: Option<Status>, limit: usize) -> (Vec<JobId>, usize) {
    let mut query = ListQuery { status, limit, ..ListQuery::default() };
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        let page = broker.list(&query).await.unwrap();
        ids.extend(page.items.iter().map(|job| job.id));
        pages += 1;
        query.cursor = page.next;
        if query.cursor.is_none() {
            return (ids, pages);
        }
    }
}

#[tokio::test]
async fn a_page_over_many_queues_reads_a_range_of_their_names() {
    let redis = RedisServer::start().with_partitions(1);
    let (broker, names, _) = fill_queues(&redis, 2000).await;
    let mut connection = redis.connect().await;
    let all_names: usize = names.iter().map(|name| name.len() + 8).sum();

    let before = bytes_sent(&mut connection).await;
    let query = ListQuery { status: Some(Status::Queued), limit: 20, ..ListQuery::default() };
    let page = broker.list(&query).await.unwrap();

    assert_eq!(page.items.len(), 20);
    let bytes = bytes_sent(&mut connection).await - before;
    assert!(bytes < 2 * all_names / 3, "{bytes} bytes for a page, {all_names} for all names");
}

/// How many records were read.
async fn records_read(redis: &mut MultiplexedConnection) -> usize {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(redis).await.unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_hmget:calls="));
    calls.and_then(|rest| rest.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn a_page_of_jobs_that_ended_together_reads_only_those_it_needs() {
    let redis = RedisServer::start().with_partitions(1);
    let broker = redis.broker("reads", Library::shipped());
    let (worker, lease) = (WorkerId::generate(), Duration::from_secs(10));
    let partition = Partition::default();
    for number in 0..10_u64 {
        let queue = format!("q{number}");
        let jobs: Vec<_> = (0..20).map(|_| job(&broker, &queue)).collect();
        broker.enqueue(&jobs).await.into_iter().for_each(|answer| drop(answer.unwrap()));
        let claim = Exchange {
            number: 2 * number + 1,
            queues: vec![queue.parse().unwrap()],
            want: 20,
            ..Exchange::only(worker, lease, Vec::new())
        };
        let claims = broker.exchange(partition, &claim).await.unwrap().claims;
        let complete = claims.into_iter().map(|claim| claim.lease.complete(Payload::json("1")));
        let settle = Exchange::only(worker, lease, complete.collect());
        let settle = Exchange { number: 2 * number + 2, ..settle };
        assert_eq!(broker.exchange(partition, &settle).await.unwrap().settled.len(), 20);
    }
    let mut connection = redis.connect().await;
    for limit in [1, 10, 30, 100] {
        let query = ListQuery { status: Some(Status::Succeeded), limit, ..ListQuery::default() };
        let before = records_read(&mut connection).await;
        assert_eq!(broker.list(&query).await.unwrap().items.len(), limit);
        let read = records_read(&mut connection).await - before;
        assert!(read <= 2 * limit + 20, "{read} records for {limit} jobs");
    }
    assert_eq!(list_all(&broker, Some(Status::Succeeded), 7).await.0.len(), 200);
}

/// Every queue of a list, in pages of `limit`.
async fn list_queues(broker: &Broker, mut query: QueueQuery) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let page = broker.queues(&query).await.unwrap();
        assert!(page.items.len() <= query.limit);
        names.extend(page.items.iter().map(|queue| queue.name.to_string()));
        query.after = page.next;
        if query.after.is_none() {
            return names;
        }
    }
}

#[tokio::test]
async fn a_page_of_queues_reads_only_those_queues() {
    let redis = RedisServer::start().with_partitions(1);
    let (broker, mut names, _) = fill_queues(&redis, 2000).await;
    names.sort();
    let mut connection = redis.connect().await;
    let before = bytes_sent(&mut connection).await;

    let mut query = QueueQuery::first(10);
    query.after = Some(names[699].parse().unwrap());
    let page = broker.queues(&query).await.unwrap();

    let bytes = bytes_sent(&mut connection).await - before;
    assert!(bytes < 10_000, "{bytes} bytes for ten queues");
    let shown: Vec<_> = page.items.iter().map(|queue| queue.name.to_string()).collect();
    assert_eq!((&shown[..], page.next), (&names[700..710], names[709].parse().ok()));
    assert!(page.items.iter().all(|queue| queue.queued == 1 && !queue.paused));

    for limit in [333, 1000] {
        assert_eq!(list_queues(&broker, QueueQuery::first(limit)).await, names);
    }

    let some = [&names[3], &names[1999], "unknown"].map(|name| name.parse().unwrap());
    let query = QueueQuery { among: Some(some.into()), ..QueueQuery::first(1) };
    assert_eq!(list_queues(&broker, query).await, [names[3].as_str(), &names[1999]]);
}

#[tokio::test]
async fn queues_of_all_partitions_are_listed_once() {
    let redis = RedisServer::start().with_partitions(1);
    let config = BrokerConfig {
        redis_url: redis.url().parse().unwrap(),
        partitions: 4,
        ..BrokerConfig::default()
    };
    let broker = Broker::with_library(&config, Library::shipped()).unwrap();
    let names: Vec<_> = (0..40).map(|at| format!("q{:02}", at / 2)).collect();
    let jobs: Vec<_> = names.iter().map(|name| job(&broker, name)).collect();
    for answer in broker.enqueue(&jobs).await {
        answer.unwrap();
    }

    let once: BTreeSet<_> = names.into_iter().collect();
    for limit in [1, 7, 20, 100] {
        let listed = list_queues(&broker, QueueQuery::first(limit)).await;
        assert_eq!(listed, once.iter().cloned().collect::<Vec<_>>(), "{limit}");
    }

    let page = broker.queues(&QueueQuery::first(20)).await.unwrap();
    assert!(page.items.iter().all(|queue| queue.queued == 2));
    let (ids, _) = list_all(&broker, Some(Status::Queued), 7).await;
    assert_eq!(ids.len(), 40);
}

#[tokio::test]
async fn a_page_of_workers_reads_only_those_workers() {
    let redis = RedisServer::start().with_partitions(1);
    let broker = redis.broker("reads", Library::shipped());
    let info = WorkerInfo { host: "h".repeat(500), ..WorkerInfo::of_this_process() };
    let mut ids: Vec<_> = (0..200).map(|_| WorkerId::generate()).collect();
    for &worker in &ids {
        let lease = Duration::from_secs(60);
        let heartbeat = Heartbeat::idle(worker, lease, &info);
        broker.heartbeat(Partition::default(), &heartbeat).await.unwrap();
    }
    ids.sort();

    let mut connection = redis.connect().await;
    let before = bytes_sent(&mut connection).await;
    let page = broker.workers(Some(ids[99]), 10).await.unwrap();

    let bytes = bytes_sent(&mut connection).await - before;
    assert!(bytes < 30_000, "{bytes} bytes for ten workers");
    let shown: Vec<_> = page.items.iter().map(|worker| worker.id).collect();
    assert_eq!((&shown[..], page.next), (&ids[100..110], Some(ids[109])));

    let last = broker.workers(Some(ids[189]), 10).await.unwrap();
    assert_eq!((last.items.len(), last.next), (10, None));
}

#[tokio::test]
async fn reading_one_queue_reads_no_other() {
    let redis = RedisServer::start().with_partitions(1);
    let (broker, names, _) = fill_queues(&redis, 2000).await;
    let mut connection = redis.connect().await;
    let before = bytes_sent(&mut connection).await;

    let queue = broker.queue(&names[700].parse().unwrap()).await.unwrap().unwrap();

    assert_eq!((queue.queued, queue.paused), (1, false));
    let bytes = bytes_sent(&mut connection).await - before;
    assert!(bytes < 10_000, "{bytes} bytes for one queue");
    assert_eq!(broker.queue(&"unknown".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn pages_over_many_queues_list_every_job_once() {
    let redis = RedisServer::start().with_partitions(1);
    let (broker, _, all) = fill_queues(&redis, 700).await;
    for limit in [100, 63] {
        let (ids, _) = list_all(&broker, Some(Status::Queued), limit).await;
        assert_eq!((ids.len(), ids.into_iter().collect()), (all.len(), all.clone()));
    }
}

#[tokio::test]
async fn a_page_that_finds_nothing_ends_after_bounded_work_with_a_cursor() {
    let redis = RedisServer::start().with_partitions(1);
    let (broker, ..) = fill_queues(&redis, 6000).await;
    let (ids, pages) = list_all(&broker, Some(Status::Failed), 20).await;
    assert_eq!((ids.len(), pages), (0, 2));
}

/// A page reads up to 1000 jobs, whichever it shows: their results would be 60 MB.
#[tokio::test]
async fn lists_do_not_fetch_results_that_they_do_not_show() {
    const SIZE: usize = 60_000;
    let redis = RedisServer::start().with_partitions(1);
    let broker = redis.broker("reads", Library::shipped());
    let queue: QueueName = "q".parse().unwrap();
    let jobs: Vec<_> = (0..60).map(|_| job(&broker, "q")).collect();
    for answer in broker.enqueue(&jobs).await {
        answer.unwrap();
    }

    let mut exchange = Exchange {
        worker: WorkerId::generate(),
        number: 0,
        lease: Duration::from_secs(60),
        tasks: TaskNames::default(),
        queues: vec![queue.clone()],
        settlements: Vec::new(),
        want: 20,
        busy: 0,
    };
    while exchange.number < 4 {
        exchange.number += 1;
        let claims = broker.exchange(Partition::default(), &exchange).await.unwrap().claims;
        let result = || Payload::json(format!("\"{}\"", "x".repeat(SIZE - 2)));
        let settlements = claims.into_iter().map(|claim| claim.lease.complete(result()));
        exchange.settlements = settlements.collect();
    }

    let mut connection = redis.connect().await;
    let before = bytes_sent(&mut connection).await;
    let query = ListQuery { limit: 100, ..ListQuery::default() };
    let page = broker.list(&query).await.unwrap();

    let bytes = bytes_sent(&mut connection).await - before;
    assert!(bytes < SIZE, "{bytes} bytes for a list of 60 jobs");
    let result = page.items[0].result.clone().unwrap();
    assert_eq!((page.items.len(), result.size, result.inline), (60, SIZE as u64, None));

    let Lookup::Found(job) = broker.job(page.items[0].id).await.unwrap() else {
        panic!("the job does not exist");
    };
    let full_result = job.result.unwrap();
    assert_eq!(full_result.inline.map(|bytes| bytes.len()), Some(SIZE));
    assert_eq!((full_result.size, full_result.content_type), (result.size, result.content_type));
}

/// The jobs of a queue are spread over the partitions, and new ones may be in any of them.
#[tokio::test]
async fn a_queue_that_one_partition_knows_is_paused_in_all() {
    let redis = RedisServer::start().with_partitions(1);
    let config = BrokerConfig {
        redis_url: redis.url().parse().unwrap(),
        partitions: 4,
        ..BrokerConfig::default()
    };
    let broker = Broker::with_library(&config, Library::shipped()).unwrap();
    let queue: QueueName = "q".parse().unwrap();
    assert!(!broker.pause(&queue, false).await.unwrap());
    assert!(!broker.resume(&queue).await.unwrap());

    for answer in broker.enqueue(&[job(&broker, "q")]).await {
        answer.unwrap();
    }
    assert!(broker.pause(&queue, false).await.unwrap());

    let mut connection = redis.connect().await;
    let mut paused_in = async || {
        let mut keys = redis::cmd("KEYS");
        keys.arg("crunch:{*}:paused");
        keys.query_async::<Vec<String>>(&mut connection).await.unwrap().len()
    };

    assert_eq!(paused_in().await, 4);

    assert!(broker.resume(&queue).await.unwrap());
    assert_eq!(paused_in().await, 0);
    assert_eq!(broker.purge(&queue).await.unwrap(), Some(1));
    assert_eq!(broker.redrive(&queue, None, 1).await.unwrap(), Some(0));
}
