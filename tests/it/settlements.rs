//! Settlements that Redis cannot carry out: each is given up alone, for workers and for deliveries of webhooks alike.

use crunch_tests::{Filter, Receiver, RedisServer, Stack, Stage, eventually, in_time};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::json;

/// Makes every end of a job of this queue fail in Redis: the key of its running jobs has another type.
async fn damage(redis: &RedisServer, queue: &str) {
    let (mut redis, key) = running(redis, queue).await;
    let () = redis.rename(&key, aside(&key)).await.unwrap();
    let () = redis.set(&key, "damaged").await.unwrap();
}

async fn repair(redis: &RedisServer, queue: &str) {
    let (mut redis, key) = running(redis, queue).await;
    let () = redis.rename(aside(&key), &key).await.unwrap();
}

fn aside(key: &str) -> String {
    format!("{key}:aside")
}

async fn running(redis: &RedisServer, queue: &str) -> (MultiplexedConnection, String) {
    redis.find(&format!("queue:{queue}:running")).await
}

#[tokio::test]
async fn a_settlement_that_redis_cannot_carry_out_does_not_hold_up_those_beside_it() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let environment = [("CRUNCH_WORKER_QUEUES", "act,other,echo"), ("CRUNCH_LEASE_MS", "3000")];
    let mut worker = stack.worker_via(&proxy, &api, 4, &environment).await;
    let damaged = api.submit("act", &stage.payload()).await;
    let in_damaged = stage.wait_for_handler().await;
    let first = in_damaged.epoch;
    let healthy = api.submit_with("act", &stage.payload(), &json!({ "queue": "other" })).await;
    let in_healthy = stage.wait_for_handler().await;

    // Both attempts end while an exchange is in flight, so the next one carries both.
    damage(&stack.redis, "act").await;
    let hold = proxy.hold_reply(Filter::verb("exchange").containing("in between"));
    let between = api.submit("echo", &json!("in between")).await;
    hold.wait_until_held().await;
    in_damaged.fails("to be retried").await;
    in_healthy.returns(&json!(1)).await;
    hold.release();

    api.wait_for_status(&between, "succeeded").await;
    api.wait_for_status(&healthy, "succeeded").await;
    worker.wait_for_log("cannot settle the outcome of this job").await;
    repair(&stack.redis, "act").await;
    let again = stage.wait_for_handler().await;
    assert_eq!(again.id, damaged);
    assert!(again.epoch > first, "it runs again after its lease");
    again.returns(&json!(2)).await;
    api.wait_for_status(&damaged, "succeeded").await;
}

#[tokio::test]
async fn deliveries_continue_after_one_that_could_not_be_settled() {
    let mut stack = Stack::start();
    let mut api = stack.api_with(&crate::webhooks::SETTINGS).await;
    let (_worker, receiver) = (stack.worker(&api, 1).await, Receiver::open().await);
    let webhook = json!({ "webhook": { "url": receiver.url("/") } });

    api.submit_with("echo", &json!(1), &webhook).await;
    let call = receiver.next_call().await;
    damage(&stack.redis, "crunch.webhooks").await;
    call.answer(200, "").await;
    api.process.wait_for_log("cannot settle the outcome of this job").await;
    repair(&stack.redis, "crunch.webhooks").await;

    let id = api.submit_with("echo", &json!(2), &webhook).await;
    receiver.next_call().await.answer(200, "").await;
    eventually("the second delivery is settled", async || {
        let deliveries = api.get(&format!("/jobs/{id}/deliveries")).await.json();
        (deliveries["items"][0]["status"] == "succeeded").then_some(())
    })
    .await;
}

/// The exchange that settles has looked for jobs before this one came; the next one is not left to the visits of an idle
/// worker, which are two seconds apart: thirty of them would exceed the time limit.
#[tokio::test]
async fn jobs_that_come_while_a_settlement_is_in_flight_start_after_it() {
    let mut stack = Stack::with_one_partition();
    let (api, line, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let _worker = stack.worker_via(&line, &api, 2, &[]).await;
    let mut redis = stack.redis.connect().await;
    let mut running = api.submit("act", &stage.payload()).await;
    let rounds = async {
        for _ in 0..30 {
            let actor = stage.wait_for_handler().await;
            assert_eq!(actor.id, running);
            // Else the exchange takes all idle slots before, and the worker waits for no token until it is answered.
            wait_until_it_waits_for_tokens(&mut redis).await;
            let settlement = line.hold_reply(Filter::verb("exchange").containing(&running));
            actor.returns(&json!(null)).await;
            settlement.wait_until_held().await;
            running = api.submit("act", &stage.payload()).await;
            eventually("the listener has taken the token", async || {
                let exists: bool = redis.exists("crunch:{0}:queue:act:wake").await.unwrap();
                (!exists).then_some(())
            })
            .await;
            settlement.release();
        }
    };
    in_time("all of them", rounds).await;
}

async fn wait_until_it_waits_for_tokens(redis: &mut MultiplexedConnection) {
    eventually("the worker waits for tokens", async || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
        let waits = |client: &str| client.contains(" flags=b ") && client.contains(" cmd=blpop ");
        clients.lines().any(waits).then_some(())
    })
    .await;
}
