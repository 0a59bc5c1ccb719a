//! Durability `fsync`: submissions wait until Redis has written them to disk.

use crunch_tests::{RedisServer, Stack};
use serde_json::json;

use super::{
    api_with_durability, expect_not_durable, has_waitaof, queued_count, set_config, submit,
    submit_until_accepted, wait_for_readiness,
};

#[tokio::test]
async fn a_job_on_disk_survives_the_death_of_redis() {
    let (mut stack, api) = api_with_durability(RedisServer::durable(), "fsync").await;
    for round in 0..3 {
        // The first submission after an outage may fail.
        let id = submit_until_accepted(&api, "/crunch", &format!("round-{round}")).await.id();
        stack.redis.kill();
        stack.redis.restart();
        wait_for_readiness(&api, 200).await;
        // A node of a cluster serves requests two seconds after its start.
        api.wait_for_status(&id, "queued").await;
        assert_eq!(queued_count(&api).await, round + 1);
    }
}

#[tokio::test]
async fn a_request_may_ask_for_more_than_its_deployment() {
    let (_stack, api) = api_with_durability(RedisServer::durable(), "memory").await;
    assert_eq!(submit(&api, "/crunch?durability=fsync", "a").await.status.as_u16(), 202);
    let envelope = json!({ "task": "t", "durability": "fsync" });
    assert_eq!(api.post("/jobs", &envelope).await.status.as_u16(), 202);

    let wrong = submit(&api, "/crunch?durability=disk", "b").await;
    assert_eq!((wrong.status.as_u16(), wrong.problem().as_str()), (400, "invalid-parameter"));
    let wrong = api.post("/jobs", &json!({ "task": "t", "durability": true })).await;
    assert_eq!(wrong.json()["errors"][0]["pointer"], "/durability");
}

#[tokio::test]
async fn an_api_with_durability_fsync_does_not_start_on_a_redis_without_it() {
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
        if case > 0 && has_waitaof(&redis) {
            // With WAITAOF any `appendfsync` is enough.
            let (_stack, api) = api_with_durability(redis, "fsync").await;
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
async fn a_request_for_fsync_on_a_redis_without_it_creates_no_job() {
    let (_stack, api) = api_with_durability(RedisServer::start(), "memory").await;
    let refused = submit(&api, "/crunch?durability=fsync", "a").await;
    expect_not_durable(&refused, None);
    assert_eq!(queued_count(&api).await, 0);
    // The idempotency key was not used up, and submissions without fsync are accepted.
    assert_eq!(submit(&api, "/crunch", "a").await.status.as_u16(), 202);
}

#[tokio::test]
async fn a_setting_of_redis_that_changes_is_detected_before_the_next_answer() {
    let (stack, api) = api_with_durability(RedisServer::durable(), "fsync").await;
    let id = submit(&api, "/crunch", "a").await.id();
    let (setting, unsafe_value, value) = match has_waitaof(&stack.redis) {
        true => ("appendonly", "no", "yes"),
        false => ("appendfsync", "everysec", "always"),
    };

    set_config(&stack.redis, setting, unsafe_value);
    expect_not_durable(&submit(&api, "/crunch", "b").await, Some("unknown"));
    // The API knows the setting now, so it sends nothing, also not for a job that exists.
    expect_not_durable(&submit(&api, "/crunch", "a").await, None);
    wait_for_readiness(&api, 503).await;

    set_config(&stack.redis, setting, value);
    wait_for_readiness(&api, 200).await;
    assert_eq!(submit_until_accepted(&api, "/crunch", "a").await.id(), id);
    let second = submit_until_accepted(&api, "/crunch", "b").await;
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(queued_count(&api).await, 2);
}
