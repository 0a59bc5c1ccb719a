//! Two builds on one Redis, as in every rolling deploy. (F28)

use std::time::Duration;

use crunch_common::Broker;
use crunch_common::broker::{
    Enqueued, Exchange, Library, Lookup, NewJob, Pruned, Settled, TaskNames, WorkerId,
};
use crunch_common::job::{JobId, Partition, Payload, Status};
use crunch_common::queue::QueueName;
use crunch_tests::{RedisServer, Stack, eventually};
use reqwest::StatusCode;
use serde_json::json;

use super::SHORT_LEASE;
use super::stale::job;

/// Another build: its library differs, so its functions have other names.
fn other_build() -> Library {
    Library::edited(|text| {
        let other = text.replace("local RESERVED_MS = 600000", "local DRAIN_MS = 300000");
        assert_ne!(other, text, "the library must contain the replaced text");
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
    api.wait_for_status(&new.id.to_string(), "succeeded").await;

    let Lookup::Found(found) = other.job(new.id).await.unwrap() else {
        panic!("the job was not found")
    };
    assert_eq!(found.status, Status::Succeeded);
}

#[tokio::test]
async fn the_worker_of_another_build_runs_what_our_api_accepts() {
    let mut stack = Stack::with_one_partition();
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
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], 2);
}

#[tokio::test]
async fn a_key_space_of_a_later_layout_is_refused_by_workers_and_apis() {
    let mut stack = Stack::on_one_node();
    let mut redis = stack.redis.connect().await;
    let mut layout = redis::cmd("HSET");
    layout.arg("crunch:{0}:layout").arg("layout").arg(99).arg("partitions").arg(1);
    let () = layout.query_async(&mut redis).await.unwrap();

    let mut worker = stack.worker_process(1, &[]);
    let mut api = stack.command("test-api");
    api.env("CRUNCH_API_ADDR", "127.0.0.1:0");
    let mut api = stack.spawn(api, "api");

    for process in [&mut worker, &mut api] {
        assert_eq!(process.exited().await.code(), Some(1));
        let log = process.log();
        assert!(
            log.contains("the key space has layout 99") && log.contains("CRUNCH_KEY_PREFIX"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn processes_that_lack_a_feature_in_use_stop_and_name_it() {
    let (mut stack, api, worker) = Stack::on_one_node().with_api_and_worker(1).await;
    let mut redis = stack.redis.connect().await;
    let mut features = redis::cmd("HSET");
    features.arg("crunch:{0}:layout").arg("features").arg("webhooks teleport");
    let () = features.query_async(&mut redis).await.unwrap();

    eventually("the API stops", async || {
        (api.get("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let refused = api.post("/jobs", &json!({ "task": "echo" })).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let reason = "the key space uses the feature teleport, which this version lacks";
    eventually("both name it", async || {
        (api.process.log().contains(reason) && worker.log().contains(reason)).then_some(())
    })
    .await;

    let mut late = stack.worker_process(1, &[]);
    assert_eq!(late.exited().await.code(), Some(1));
    assert!(late.log().contains(reason), "{}", late.log());
}

/// Prunes the one library that does not belong to this broker's build; returns what was done with it.
async fn prune(broker: &Broker, unused_for: Duration) -> Pruned {
    let [other] = &broker.prune_functions(unused_for).await.unwrap()[..] else {
        panic!("there is exactly one other library")
    };
    other.outcome
}

/// How long that library has been unused. It is not deleted.
async fn unused(broker: &Broker) -> Duration {
    match prune(broker, Duration::MAX).await {
        Pruned::Kept(unused) => unused,
        outcome => panic!("it was not kept: {outcome:?}"),
    }
}

#[tokio::test]
async fn the_functions_of_a_build_are_pruned_once_they_are_unused_for_long_enough() {
    let redis = RedisServer::start();
    let ours = redis.broker("crunch", Library::shipped());
    let other = redis.broker("crunch", other_build());
    let theirs = other.load_functions().await.unwrap();

    // They are not used yet: what was just loaded may belong to processes that are about to start.
    assert_eq!(unused(&ours).await, Duration::ZERO);

    let short = Duration::from_millis(300);
    let deleted =
        eventually("the functions are deleted", async || match prune(&ours, short).await {
            Pruned::Deleted(unused) => Some(unused),
            _ => None,
        });
    assert!(deleted.await >= short);
    assert!(ours.prune_functions(Duration::ZERO).await.unwrap().is_empty());

    // A process of that build that still runs loads them again.
    other.sweep(Partition::default(), None).await.unwrap();
    let found = ours.prune_functions(Duration::MAX).await.unwrap();
    assert_eq!(found[0].name, theirs);
    ours.sweep(Partition::default(), None).await.unwrap();
}

/// Waits until a process has used the library again.
async fn wait_until_used_again(broker: &Broker) {
    let mut last = unused(broker).await;
    eventually("the library is used again", async || {
        let unused = unused(broker).await;
        let is_used = unused < last;
        last = unused;
        is_used.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_api_alone_and_a_worker_alone_keep_their_functions_in_use() {
    let mut stack = Stack::start();
    let other = stack.redis.broker("another", other_build());
    other.load_functions().await.unwrap();
    let mut api = stack.api().await;
    let mut worker = stack.worker_with(&api, 1, &SHORT_LEASE).await;

    assert!(api.process.terminate().await.success());
    wait_until_used_again(&other).await;

    assert!(worker.terminate().await.success());
    let _api = stack.api().await;
    wait_until_used_again(&other).await;
}

#[tokio::test]
async fn functions_that_do_not_report_their_use_and_those_of_others_are_never_pruned() {
    let redis = RedisServer::start();
    let ours = redis.broker("crunch", Library::shipped());
    ours.load_functions().await.unwrap();
    let mut connection = redis.connect().await;
    for name in ["crunch_00000000", "crunch_reports"] {
        let text = format!(
            "#!lua name={name}\nredis.register_function('{name}_open', function() return 1 end)"
        );
        let mut load = redis::cmd("FUNCTION");
        let () = load.arg("LOAD").arg(text).query_async(&mut connection).await.unwrap();
    }

    assert_eq!(prune(&ours, Duration::ZERO).await, Pruned::Unknown);
    for name in ["crunch_00000000", "crunch_reports"] {
        let mut call = redis::cmd("FCALL");
        let () =
            call.arg(format!("{name}_open")).arg(0).query_async(&mut connection).await.unwrap();
    }
}
