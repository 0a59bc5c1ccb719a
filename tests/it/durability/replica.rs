//! Replicas: connected, frozen, dead, and promoted.

use std::sync::Arc;

use crunch_tests::{RedisServer, Stack, eventually};
use serde_json::json;

use super::{
    ACCEPT_UNKNOWN_TASKS, api_with_durability, expect_not_durable, queued_count, submit,
    submit_until_accepted, wait_for_readiness,
};

const AT_REPLICA: &str = "/crunch?durability=replica";

/// A Redis that starts the synchronization of replicas at once.
fn master() -> RedisServer {
    RedisServer::single_with(&["--appendonly", "no", "--repl-diskless-sync-delay", "0"])
}

/// A replica that is synchronized.
async fn replica(master: &RedisServer) -> RedisServer {
    let replica = master.start_replica();
    wait_for_sync(&replica).await;
    replica
}

async fn wait_for_sync(replica: &RedisServer) {
    eventually("the replica is synchronized", async || {
        replica.is_synchronized().await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_that_a_replica_has_survives_the_loss_of_the_master() {
    let master = master();
    let replica = replica(&master).await;
    let (mut stack, api) = api_with_durability(master, "replica").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(submit(&api, "/crunch", &format!("job-{n}")).await.id());
    }

    stack.redis.kill();
    let mut connection = replica.client().get_connection().unwrap();
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut connection).unwrap();

    let promoted =
        stack.api_with(&[ACCEPT_UNKNOWN_TASKS, ("CRUNCH_REDIS_URL", &replica.url())]).await;
    wait_for_readiness(&promoted, 200).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(promoted.job(id).await["status"], "queued");
        assert_eq!(submit(&promoted, "/crunch", &format!("job-{n}")).await.id(), *id);
    }
}

#[tokio::test]
async fn a_job_is_not_durable_until_the_replica_has_it() {
    let master = master();
    let replica = replica(&master).await;
    let (_stack, api) = api_with_durability(master, "memory").await;
    let safe = submit(&api, AT_REPLICA, "safe").await;
    assert_eq!((safe.status.as_u16(), safe.header("idempotency-replayed")), (202, ""));

    replica.freeze();
    expect_not_durable(&submit(&api, AT_REPLICA, "k").await, Some("unknown"));
    // A repeated submission finds the job and writes nothing; it must wait nevertheless.
    expect_not_durable(&submit(&api, AT_REPLICA, "k").await, Some("unknown"));
    assert_eq!(queued_count(&api).await, 2);
    replica.thaw();
    let again = submit_until_accepted(&api, AT_REPLICA, "k").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(queued_count(&api).await, 2);
}

#[tokio::test]
async fn a_repeat_over_another_connection_waits_too() {
    let master = master();
    let replica = replica(&master).await;
    let (mut stack, first) = api_with_durability(master, "replica").await;
    let second = stack.api_with(&[ACCEPT_UNKNOWN_TASKS, ("CRUNCH_DURABILITY", "replica")]).await;
    // Both have a connection on which something was confirmed.
    for (api, key) in [(&first, "first"), (&second, "second")] {
        assert_eq!(submit_until_accepted(api, "/crunch", key).await.status.as_u16(), 202);
    }

    replica.freeze();
    expect_not_durable(&submit(&first, "/crunch", "k").await, Some("unknown"));
    expect_not_durable(&submit(&second, "/crunch", "k").await, Some("unknown"));
    replica.thaw();
    assert_eq!(
        submit_until_accepted(&first, "/crunch", "k").await.id(),
        submit_until_accepted(&second, "/crunch", "k").await.id()
    );
}

#[tokio::test]
async fn a_replica_that_died_is_missed_until_it_is_back() {
    let master = master();
    let mut replica = replica(&master).await;
    let (_stack, api) = api_with_durability(master, "replica").await;
    let first = submit(&api, "/crunch", "a").await;

    replica.kill();
    expect_not_durable(&submit(&api, "/crunch", "b").await, Some("unknown"));
    // Reads and the verbs of operators still work, so the API is ready.
    wait_for_readiness(&api, 200).await;
    assert_eq!(api.job(&first.id()).await["status"], "queued");

    replica.restart();
    let again = submit_until_accepted(&api, "/crunch", "b").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(queued_count(&api).await, 2);
}

#[tokio::test]
async fn a_request_cannot_ask_for_less_than_its_deployment() {
    let (_stack, api) = api_with_durability(master(), "replica").await;
    let (plain, less) = tokio::join!(
        submit(&api, "/crunch", "plain"),
        submit(&api, "/crunch?durability=memory", "less")
    );
    expect_not_durable(&plain, Some("unknown"));
    expect_not_durable(&less, Some("unknown"));

    let (_stack, api) = api_with_durability(RedisServer::durable(), "fsync").await;
    // Both requirements must be met: the disk alone is not enough.
    expect_not_durable(&submit(&api, AT_REPLICA, "k").await, Some("unknown"));
}

#[tokio::test]
async fn as_many_replicas_as_are_configured_must_have_it() {
    let master = master();
    let _first = replica(&master).await;
    let mut stack = Stack::on(master);
    let two = [
        ACCEPT_UNKNOWN_TASKS,
        ("CRUNCH_DURABILITY", "replica"),
        ("CRUNCH_DURABILITY_REPLICAS", "2"),
    ];
    let api = stack.api_with(&two).await;
    expect_not_durable(&submit(&api, "/crunch", "k").await, Some("unknown"));
    let _second = replica(&stack.redis).await;
    submit_until_accepted(&api, "/crunch", "k").await;
}

#[tokio::test]
async fn other_requests_do_not_wait_for_a_frozen_replica() {
    let master = master();
    let replica = replica(&master).await;
    let (_stack, api) = api_with_durability(master, "memory").await;
    let api = Arc::new(api);
    assert_eq!(submit(&api, AT_REPLICA, "warm").await.status.as_u16(), 202);

    replica.freeze();
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { submit(&api, AT_REPLICA, "k").await }
    });
    // The request waits for the replica once its job is written.
    eventually("the job is written", async || (queued_count(&api).await == 2).then_some(())).await;

    for n in 0..10 {
        let id = submit(&api, "/crunch", &format!("memory-{n}")).await.id();
        assert_eq!(api.job(&id).await["status"], "queued");
    }
    assert!(!waiting.is_finished(), "the other requests are answered while this one waits");
    expect_not_durable(&waiting.await.unwrap(), Some("unknown"));
}

#[tokio::test]
async fn each_item_of_a_batch_waits_for_what_it_asks() {
    let (_stack, api) = api_with_durability(master(), "memory").await;
    let jobs = json!({ "jobs": [
        { "task": "t", "durability": "replica" },
        { "task": "t" },
        { "task": "t", "durability": "fsync" },
        { "task": "t", "durability": "disk" },
    ] });

    let answer = api.post("/jobs/batch", &jobs).await;
    assert_eq!(answer.status.as_u16(), 202);
    let items = answer.json()["items"].clone();
    let outcomes: Vec<_> = (0..4)
        .map(|at| (items[at]["status"].clone(), items[at]["problem"]["outcome"].clone()))
        .collect();
    let expected = json!([[503, "unknown"], [202, null], [503, null], [422, null]]);
    assert_eq!(json!(outcomes), expected, "{items:#}");
}
