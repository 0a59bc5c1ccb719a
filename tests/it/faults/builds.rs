//! Two builds on one Redis, as in every rolling deploy. (F28)

use std::time::Duration;

use crunch_common::broker::{
    Enqueued, Exchange, Library, Lookup, NewJob, Settled, TaskNames, WorkerId,
};
use crunch_common::job::{JobId, Partition, Payload, Status};
use crunch_common::queue::QueueName;
use crunch_tests::Stack;
use serde_json::json;

use super::stale::job;

/// Another build: its library differs, so its functions have names of their own.
fn other_build() -> Library {
    Library::edited(|text| {
        let other = text.replace("local DRAIN_MS = 600000", "local DRAIN_MS = 300000");
        assert_ne!(other, text, "what is replaced must stand in the library");
        other
    })
}

#[tokio::test]
async fn the_api_of_another_build_submits_to_our_workers() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let other = stack.redis.broker("crunch", other_build());
    let queue: QueueName = "echo".parse().unwrap();
    let new = NewJob { task: "echo".parse().unwrap(), ..job(&queue, &other) };
    let answer = other.enqueue(std::slice::from_ref(&new)).await.pop().unwrap().unwrap();
    assert!(matches!(answer, Enqueued::Created(_)));
    api.becomes(&new.id.to_string(), "succeeded").await;
    let Lookup::Found(seen) = other.job(new.id).await.unwrap() else { panic!("it is gone") };
    assert_eq!(seen.status, Status::Succeeded);
}

#[tokio::test]
async fn the_worker_of_another_build_runs_what_our_api_takes() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let id = api.submit("theirs", &json!(1)).await;
    let other = stack.redis.broker("crunch", other_build());
    let mut exchange = Exchange {
        worker: WorkerId::generate(),
        number: 1,
        lease: Duration::from_secs(10),
        tasks: TaskNames::default(),
        queues: vec!["theirs".parse().unwrap()],
        settlements: Vec::new(),
        want: 1,
        busy: 0,
    };
    let partition = id.parse::<JobId>().unwrap().partition();
    assert_eq!(partition, Partition::new(0).unwrap());
    let claims = other.exchange(partition, &exchange).await.unwrap().claims;
    assert_eq!(api.job(&id).await["status"], "running");
    exchange.number = 2;
    exchange.settlements =
        claims.into_iter().map(|claim| claim.lease.complete(Payload::json("2"))).collect();
    let settled = other.exchange(partition, &exchange).await.unwrap().settled;
    assert_eq!(settled, [Settled::Done]);
    assert_eq!(api.becomes(&id, "succeeded").await["result"], 2);
}

#[tokio::test]
async fn a_key_space_of_a_later_layout_is_refused_by_everybody() {
    let mut stack = Stack::start();
    let mut redis = stack.redis.connect().await;
    let mut found = redis::cmd("HSET");
    found.arg("crunch:{0}:layout").arg("layout").arg(99).arg("partitions").arg(1);
    let () = found.query_async(&mut redis).await.unwrap();
    let mut worker = stack.worker_process(1, &[]);
    let mut api = stack.command("test-api");
    api.env("CRUNCH_API_ADDR", "127.0.0.1:0");
    let mut api = stack.spawn(api, "api");
    for process in [&mut worker, &mut api] {
        assert_eq!(process.exited().await.code(), Some(1));
        assert!(process.log().contains("the key space has layout 99"), "{}", process.log());
    }
}
