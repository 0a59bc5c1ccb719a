//! Replicas: in step, hanging, gone, and promoted.

use std::sync::Arc;

use crunch_tests::{RedisServer, Stack, eventually};
use serde_json::json;

use super::{ACCEPT, insisting, not_durable, queued, ready, submit, taken};

const AT_REPLICA: &str = "/crunch?durability=replica";

/// A Redis that lets replicas in at once.
fn master() -> RedisServer {
    RedisServer::with(&["--appendonly", "no", "--repl-diskless-sync-delay", "0"])
}

/// A replica that is in step.
async fn replica(master: &RedisServer) -> RedisServer {
    let port = master.port().to_string();
    let replica =
        RedisServer::with(&["--appendonly", "no", "--replicaof", "127.0.0.1", port.as_str()]);
    in_step(&replica).await;
    replica
}

async fn in_step(replica: &RedisServer) {
    eventually("the replica is in step", async || {
        let mut connection = replica.client().get_connection().unwrap();
        let text: String = redis::cmd("INFO").arg("replication").query(&mut connection).unwrap();
        text.contains("master_link_status:up").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_a_replica_has_survives_the_loss_of_the_master() {
    let master = master();
    let replica = replica(&master).await;
    let (mut stack, api) = insisting(master, "replica").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(submit(&api, "/crunch", &format!("job-{n}")).await.id());
    }
    stack.redis.kill();
    let mut connection = replica.client().get_connection().unwrap();
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut connection).unwrap();
    let promoted = stack.api_with(&[ACCEPT, ("CRUNCH_REDIS_URL", &replica.url())]).await;
    ready(&promoted, 200).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(promoted.job(id).await["status"], "queued");
        assert_eq!(submit(&promoted, "/crunch", &format!("job-{n}")).await.id(), *id);
    }
}

#[tokio::test]
async fn a_job_the_replica_does_not_have_is_not_durable_until_it_has() {
    let master = master();
    let replica = replica(&master).await;
    let (_stack, api) = insisting(master, "memory").await;
    let safe = submit(&api, AT_REPLICA, "safe").await;
    assert_eq!((safe.status.as_u16(), safe.header("idempotency-replayed")), (202, ""));

    replica.freeze();
    not_durable(&submit(&api, AT_REPLICA, "k").await, Some("unknown"));
    // A repeat finds the job and writes nothing; it must wait all the same.
    not_durable(&submit(&api, AT_REPLICA, "k").await, Some("unknown"));
    assert_eq!(queued(&api).await, 2);
    replica.thaw();
    let again = taken(&api, AT_REPLICA, "k").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(queued(&api).await, 2);
}

#[tokio::test]
async fn a_repeat_over_another_connection_waits_too() {
    let master = master();
    let replica = replica(&master).await;
    let (mut stack, first) = insisting(master, "replica").await;
    let second = stack.api_with(&[ACCEPT, ("CRUNCH_DURABILITY", "replica")]).await;
    // Both have a connection on which something was confirmed.
    for (api, key) in [(&first, "first"), (&second, "second")] {
        assert_eq!(taken(api, "/crunch", key).await.status.as_u16(), 202);
    }
    replica.freeze();
    not_durable(&submit(&first, "/crunch", "k").await, Some("unknown"));
    not_durable(&submit(&second, "/crunch", "k").await, Some("unknown"));
    replica.thaw();
    assert_eq!(taken(&first, "/crunch", "k").await.id(), taken(&second, "/crunch", "k").await.id());
}

#[tokio::test]
async fn a_replica_that_died_is_missed_and_welcome_again() {
    let master = master();
    let mut replica = replica(&master).await;
    let (_stack, api) = insisting(master, "replica").await;
    let first = submit(&api, "/crunch", "a").await;
    replica.kill();
    not_durable(&submit(&api, "/crunch", "b").await, Some("unknown"));
    // Reads and operators' verbs go on: the API is ready.
    ready(&api, 200).await;
    assert_eq!(api.job(&first.id()).await["status"], "queued");
    replica.restart();
    let again = taken(&api, "/crunch", "b").await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(queued(&api).await, 2);
}

#[tokio::test]
async fn a_request_cannot_ask_for_less_than_its_deployment() {
    let (_stack, api) = insisting(master(), "replica").await;
    let (plain, less) = tokio::join!(
        submit(&api, "/crunch", "plain"),
        submit(&api, "/crunch?durability=memory", "less")
    );
    not_durable(&plain, Some("unknown"));
    not_durable(&less, Some("unknown"));
    let (_stack, api) = insisting(RedisServer::durable(), "fsync").await;
    // What both ask for adds up: the disk alone does not do.
    not_durable(&submit(&api, AT_REPLICA, "k").await, Some("unknown"));
}

#[tokio::test]
async fn as_many_replicas_as_are_configured_must_have_it() {
    let master = master();
    let _first = replica(&master).await;
    let mut stack = Stack::on(master);
    let two = [ACCEPT, ("CRUNCH_DURABILITY", "replica"), ("CRUNCH_DURABILITY_REPLICAS", "2")];
    let api = stack.api_with(&two).await;
    not_durable(&submit(&api, "/crunch", "k").await, Some("unknown"));
    let _second = replica(&stack.redis).await;
    taken(&api, "/crunch", "k").await;
}

#[tokio::test]
async fn nobody_else_waits_for_a_replica_that_hangs() {
    let master = master();
    let replica = replica(&master).await;
    let (_stack, api) = insisting(master, "memory").await;
    let api = Arc::new(api);
    assert_eq!(submit(&api, AT_REPLICA, "warm").await.status.as_u16(), 202);
    replica.freeze();
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { submit(&api, AT_REPLICA, "k").await }
    });
    // It is under way once its job is there.
    eventually("the job is written", async || (queued(&api).await == 2).then_some(())).await;
    for n in 0..10 {
        let id = submit(&api, "/crunch", &format!("memory-{n}")).await.id();
        assert_eq!(api.job(&id).await["status"], "queued");
    }
    assert!(!waiting.is_finished(), "the others were answered while it waits");
    not_durable(&waiting.await.unwrap(), Some("unknown"));
}

#[tokio::test]
async fn each_item_of_a_batch_waits_for_what_it_asks() {
    let (_stack, api) = insisting(master(), "memory").await;
    let jobs = json!({ "jobs": [
        { "task": "t", "durability": "replica" },
        { "task": "t" },
        { "task": "t", "durability": "fsync" },
        { "task": "t", "durability": "disk" },
    ] });
    let answer = api.post("/jobs/batch", &jobs).await;
    assert_eq!(answer.status.as_u16(), 202);
    let items = answer.json()["items"].clone();
    let told: Vec<_> = (0..4)
        .map(|at| (items[at]["status"].clone(), items[at]["problem"]["outcome"].clone()))
        .collect();
    let expected = json!([[503, "unknown"], [202, null], [503, null], [422, null]]);
    assert_eq!(json!(told), expected, "{items:#}");
}
