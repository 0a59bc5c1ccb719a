//! Very many jobs at once: no call of ours may block Redis. (F25)

use std::time::Duration;

use crunch_common::broker::{Exchange, Library, NewJob, Start, TaskNames, WorkerId};
use crunch_common::job::{Partition, Payload};
use crunch_common::queue::QueueName;
use crunch_tests::{RedisServer, eventually};

use super::stale::job;

/// A job costs the same in a queue of two thousand and of twenty thousand; if a call read all waiting jobs, it would
/// cost ten times as much.
const FEW: usize = 2_000;
const MANY: usize = 20_000;

/// The CPU time of Redis, in microseconds. Unlike the duration of calls, it does not depend on other load of the
/// machine.
async fn cpu_time(redis: &RedisServer) -> f64 {
    let mut redis = redis.connect().await;
    let info: redis::InfoDict =
        redis::cmd("INFO").arg("cpu").query_async(&mut redis).await.unwrap();
    let seconds = ["used_cpu_user_main_thread", "used_cpu_sys_main_thread"]
        .map(|name| info.get::<String>(name).unwrap().parse::<f64>().unwrap());
    seconds.iter().sum::<f64>() * 1e6
}

/// Enqueues jobs and runs them by the exchanges of one worker; returns the CPU time of Redis for each job, in
/// microseconds.
async fn cost_of_a_job(count: usize, start: Start) -> f64 {
    let redis = RedisServer::start().with_partitions(1);
    let broker = redis.broker("load", Library::shipped());
    let queue: QueueName = "square".parse().unwrap();
    let jobs: Vec<_> = (0..count).map(|_| NewJob { start, ..job(&queue, &broker) }).collect();
    assert!(broker.enqueue(&jobs).await.iter().all(Result::is_ok));

    let mut exchange = Exchange {
        worker: WorkerId::generate(),
        number: 0,
        lease: Duration::from_secs(60),
        tasks: TaskNames::default(),
        queues: vec![queue],
        settlements: Vec::new(),
        want: Exchange::MAX_CLAIMS,
        busy: 0,
    };

    let partition = Partition::new(0).unwrap();
    let mut done = 0;
    eventually("all jobs have run", async || {
        exchange.number += 1;
        done += exchange.settlements.len();
        let exchanged = broker.exchange(partition, &exchange).await.unwrap();
        let claims = exchanged.claims.into_iter();
        exchange.settlements =
            claims.map(|claim| claim.lease.complete(Payload::json("1"))).collect();
        (done == count).then_some(())
    })
    .await;
    cpu_time(&redis).await / count as f64
}

async fn assert_cost_is_independent_of_depth(start: Start) {
    let few = cost_of_a_job(FEW, start).await;
    let many = cost_of_a_job(MANY, start).await;
    assert!(many < 2.0 * few, "{few} µs a job of {FEW}, {many} µs a job of {MANY}");
}

#[tokio::test]
async fn twenty_thousand_jobs_due_at_once_cost_no_more_than_two_thousand_each() {
    assert_cost_is_independent_of_depth(Start::After(Duration::from_millis(500))).await;
}

#[tokio::test]
async fn twenty_thousand_jobs_that_wait_cost_no_more_than_two_thousand_each() {
    assert_cost_is_independent_of_depth(Start::Now).await;
}
