//! The disk of Redis.

use crunch_tests::{RedisServer, Stack};
use serde_json::json;

use super::{insisting, not_durable, queued, ready, set, submit, taken, waits_for_disk};

#[tokio::test]
async fn a_job_on_disk_survives_the_death_of_redis() {
    let (mut stack, api) = insisting(RedisServer::durable(), "fsync").await;
    for round in 0..3 {
        // The first after an outage may hear of it.
        let id = taken(&api, "/crunch", &format!("round-{round}")).await.id();
        stack.redis.kill();
        stack.redis.restart();
        ready(&api, 200).await;
        assert_eq!(api.job(&id).await["status"], "queued");
        assert_eq!(queued(&api).await, round + 1);
    }
}

#[tokio::test]
async fn a_request_may_ask_for_more_than_its_deployment() {
    let (_stack, api) = insisting(RedisServer::durable(), "memory").await;
    assert_eq!(submit(&api, "/crunch?durability=fsync", "a").await.status.as_u16(), 202);
    let envelope = json!({ "task": "t", "durability": "fsync" });
    assert_eq!(api.post("/jobs", &envelope).await.status.as_u16(), 202);
    let wrong = submit(&api, "/crunch?durability=disk", "b").await;
    assert_eq!((wrong.status.as_u16(), wrong.problem().as_str()), (400, "invalid-parameter"));
    let wrong = api.post("/jobs", &json!({ "task": "t", "durability": true })).await;
    assert_eq!(wrong.json()["errors"][0]["pointer"], "/durability");
}

#[tokio::test]
async fn an_api_that_insists_on_a_disk_does_not_start_without_one() {
    let cases = [
        (&["--appendonly", "no"][..], "appendonly is no; set it to yes"),
        (&["--appendonly", "yes"], "appendfsync is everysec; set it to always"),
        (
            &[
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--no-appendfsync-on-rewrite",
                "yes",
            ],
            "no-appendfsync-on-rewrite is yes; set it to no",
        ),
    ];
    for (case, (arguments, message)) in cases.into_iter().enumerate() {
        let redis = RedisServer::with(arguments);
        if case > 0 && waits_for_disk(&redis) {
            // It is asked to wait, however it is set.
            let (_stack, api) = insisting(redis, "fsync").await;
            assert_eq!(submit(&api, "/crunch", "a").await.status.as_u16(), 202);
            continue;
        }
        let mut stack = Stack::on(redis);
        let mut command = stack.command("test-api");
        command.env("CRUNCH_API_ADDR", "127.0.0.1:0").env("CRUNCH_DURABILITY", "fsync");
        let mut process = stack.spawn(command, "api");
        assert_eq!(process.exited().await.code(), Some(1));
        let log = process.log();
        assert!(log.contains("durability fsync is not possible") && log.contains(message), "{log}");
    }
}

#[tokio::test]
async fn a_request_for_a_disk_that_is_not_there_takes_nothing() {
    let (_stack, api) = insisting(RedisServer::start(), "memory").await;
    let refused = submit(&api, "/crunch?durability=fsync", "a").await;
    not_durable(&refused, None);
    assert_eq!(queued(&api).await, 0);
    // The key was not used up, and other submissions do not care.
    assert_eq!(submit(&api, "/crunch", "a").await.status.as_u16(), 202);
}

#[tokio::test]
async fn a_setting_that_is_changed_under_us_is_noticed_before_the_next_answer() {
    let (stack, api) = insisting(RedisServer::durable(), "fsync").await;
    let id = submit(&api, "/crunch", "a").await.id();
    let (setting, unsafe_value, value) = match waits_for_disk(&stack.redis) {
        true => ("appendonly", "no", "yes"),
        false => ("appendfsync", "everysec", "always"),
    };
    set(&stack.redis, setting, unsafe_value);
    not_durable(&submit(&api, "/crunch", "b").await, Some("unknown"));
    // Known by now, so nothing is sent; also not for a job that is there.
    not_durable(&submit(&api, "/crunch", "a").await, None);
    ready(&api, 503).await;

    set(&stack.redis, setting, value);
    ready(&api, 200).await;
    assert_eq!(taken(&api, "/crunch", "a").await.id(), id);
    let second = taken(&api, "/crunch", "b").await;
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(queued(&api).await, 2);
}
