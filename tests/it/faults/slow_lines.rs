//! Lines that carry little: what is large takes longer, and nobody else waits for it. (F29)

use crunch_common::broker::Broker;
use crunch_common::broker::BrokerConfig;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Api, DropMode, Proxy, RedisServer, Stack, Stage, Filter, Worker, eventually};
use futures_util::future::join_all;

use super::redis_server::connections;
use super::*;

/// Bytes a second of a worker's line, and a payload that takes six seconds on it: more than any small call may.
const SLOW: u64 = 32 * 1024;
const PAYLOAD: usize = 200 * 1024;
/// A result that takes three seconds on the line of an API, whose callers wait as if it carried half a mebibyte a second.
const SLOW_FOR_CALLERS: u64 = 600 * 1024;
const RESULT: usize = 2000 * 1024;
/// A line on which a large result takes three seconds, longer than the lease below.
const SLOW_FOR_RESULTS: u64 = 64 * 1024;
/// A line of several workers, on which each large value takes half a second if it is alone.
const SHARED: u64 = 400 * 1024;
/// A payload that takes three seconds on the line of an API, of a task that takes so much.
const SUBMITTED: usize = 2000 * 1024;
/// Shorter than a large payload is on its way.
const LEASE: [(&str, &str); 1] = [("CRUNCH_LEASE_MS", "2000")];

/// An API on the spot, and a worker of some slots behind a line that carries little.
struct Behind {
    stack: Stack,
    api: Api,
    line: Proxy,
    worker: Worker,
    stage: Stage,
}

impl Behind {
    async fn a_slow_line(slots: usize, environment: &[(&str, &str)]) -> Self {
        let mut stack = Stack::start();
        let api = stack.api().await;
        let line = stack.proxy();
        let worker = stack.worker_via(&line, &api, slots, environment).await;
        line.throttle(SLOW);
        Self { stack, api, line, worker, stage: Stage::open().await }
    }

    /// Submits a job of `act` with a large payload.
    async fn submit_large(&self, options: &Value) -> String {
        let mut payload = self.stage.payload();
        payload["padding"] = json!("x".repeat(PAYLOAD));
        self.api.submit_with("act", &payload, options).await
    }
}

#[tokio::test]
async fn a_payload_larger_than_the_line_carries_in_a_call_runs_once_and_others_start_beside_it() {
    let behind = Behind::a_slow_line(2, &LEASE).await;
    let (api, stage) = (&behind.api, &behind.stage);
    // The timeout is shorter than the way of the payload: it begins when that is complete.
    let large = behind.submit_large(&json!({ "timeout_ms": 2000 })).await;
    api.wait_for_status(&large, "running").await;
    let small = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    assert_eq!(actor.id, small, "the small one waited for the large one");
    actor.returns(&json!("small")).await;
    api.wait_for_status(&small, "succeeded").await;
    let actor = stage.wait_for_handler().await;
    assert_eq!((&actor.id, actor.attempt), (&large, 1));
    actor.returns(&json!("large")).await;
    assert_eq!(api.wait_for_status(&large, "succeeded").await["result"], "large");
    for id in [&large, &small] {
        assert_eq!(outcomes(api, id).await, ["succeeded"]);
    }
    behind.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_job_whose_payload_is_on_its_way_can_be_canceled() {
    let behind = Behind::a_slow_line(1, &[]).await;
    let large = behind.submit_large(&json!({})).await;
    behind.api.wait_for_status(&large, "running").await;
    let answer = behind.api.post_empty(&format!("/jobs/{large}/cancel")).await;
    assert!(answer.status.is_success(), "{answer:?}");
    behind.api.wait_for_status(&large, "canceled").await;
    let small = behind.api.submit("echo", &json!(1)).await;
    behind.api.wait_for_status(&small, "succeeded").await;
    assert!(behind.stage.is_empty().await, "a canceled job has started");
}

#[tokio::test]
async fn a_job_whose_payload_is_on_its_way_is_given_back_when_its_worker_ends() {
    let mut behind = Behind::a_slow_line(1, &[("CRUNCH_WORKER_GRACE_MS", "0")]).await;
    let large = behind.submit_large(&json!({})).await;
    behind.api.wait_for_status(&large, "running").await;
    assert!(behind.worker.terminate().await.success());
    let _another = behind.stack.worker(&behind.api, 1).await;
    let actor = behind.stage.wait_for_handler().await;
    assert_eq!((&actor.id, actor.attempt), (&large, 1));
    actor.returns(&json!(1)).await;
    behind.api.wait_for_status(&large, "succeeded").await;
    assert_eq!(outcomes(&behind.api, &large).await, ["released", "succeeded"]);
}

#[tokio::test]
async fn large_results_arrive_over_a_slow_line_and_others_are_read_meanwhile() {
    let mut stack = Stack::start();
    let direct = stack.api().await;
    let room = [("CRUNCH_WORKER_MAX_RESULT", "8388608")];
    let _worker = stack.worker_with(&direct, 1, &room).await;
    let utterance = json!({ "hex": "31", "times": RESULT });
    let large = direct.submit("utter", &utterance).await;
    direct.wait_for_status(&large, "succeeded").await;
    let line = stack.proxy();
    let api = stack.api_via(&line).await;
    line.throttle(SLOW_FOR_CALLERS);
    let result = api.request(reqwest::Method::GET, &format!("/jobs/{large}/result"));
    let result = api.send_in_background(result);
    let mut reads = 0;
    eventually("the result is there", async || {
        reads += 1;
        assert_eq!(api.get(&format!("/jobs/{large}")).await.status, StatusCode::OK);
        result.is_finished().then_some(())
    })
    .await;
    let answer = result.await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, RESULT));
    assert!(reads > 1, "others waited for it");
}

async fn status(api: &Api, id: &str) -> String {
    api.job(id).await["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_large_result_on_its_way_holds_up_no_other_job_and_keeps_its_lease() {
    let behind = Behind::a_slow_line(2, &LEASE).await;
    behind.line.throttle(SLOW_FOR_RESULTS);
    let (api, stage) = (&behind.api, &behind.stage);
    let large = api.submit("act", &stage.payload()).await;
    let first = stage.wait_for_handler().await;
    let beside = api.submit("act", &stage.payload()).await;
    let second = stage.wait_for_handler().await;
    first.returns(&json!("x".repeat(PAYLOAD))).await;
    // Only a worker that settles the second has a slot for a third.
    second.returns(&json!("beside")).await;
    api.wait_for_status(&beside, "succeeded").await;
    let after = api.submit("act", &stage.payload()).await;
    let third = stage.wait_for_handler().await;
    assert_eq!((&third.id, status(api, &large).await), (&after, "running".to_owned()));
    third.returns(&json!("after")).await;
    api.wait_for_status(&after, "succeeded").await;
    assert_eq!(status(api, &large).await, "running", "the others waited for the large one");
    api.wait_for_status(&large, "succeeded").await;
    for id in [&large, &beside, &after] {
        assert_eq!(outcomes(api, id).await, ["succeeded"]);
    }
    behind.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_job_whose_result_is_on_its_way_is_settled_before_its_worker_ends() {
    let mut behind = Behind::a_slow_line(1, &[]).await;
    behind.line.throttle(2 * SLOW_FOR_RESULTS);
    let large = behind.api.submit("act", &behind.stage.payload()).await;
    behind.stage.wait_for_handler().await.returns(&json!("x".repeat(PAYLOAD))).await;
    let ended = behind.worker.terminate().await;
    assert!(ended.success());
    behind.api.wait_for_status(&large, "succeeded").await;
    assert_eq!(outcomes(&behind.api, &large).await, ["succeeded"]);
}

#[tokio::test]
async fn a_large_submission_on_its_way_fails_no_small_one() {
    let mut stack = Stack::start();
    let direct = stack.api().await;
    let _worker = stack.worker(&direct, 1).await;
    let line = stack.proxy();
    let api = stack.api_via(&line).await;
    Stack::wait_for_task(&api, "chaos.work").await;
    line.throttle(SLOW_FOR_CALLERS);
    let work = json!({ "number": 1, "busy_ms": 0, "fails": 0, "returns": 0, "padding": "x".repeat(SUBMITTED) });
    let large = api.request(reqwest::Method::POST, "/tasks/chaos.work/jobs").json(&work);
    let large = api.send_in_background(large);
    let mut small = Vec::new();
    eventually("the large one is taken", async || {
        // Over several connections, so that some of them meet the thread that carries the large one.
        let round = (0..4).map(async |_| {
            let id = api.submit("echo", &json!(1)).await;
            assert_eq!(api.get(&format!("/jobs/{id}")).await.status, StatusCode::OK);
            id
        });
        small.extend(join_all(round).await);
        large.is_finished().then_some(())
    })
    .await;
    let answer = large.await.unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert!(small.len() > 4, "others waited for it");
    small.push(answer.id());
    for id in &small {
        direct.wait_for_status(id, "succeeded").await;
    }
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn workers_that_share_a_slow_line_lose_no_job() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let line = stack.proxy();
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(stack.worker_via(&line, &api, 4, &[("CRUNCH_LEASE_MS", "3000")]).await);
    }
    line.throttle(SHARED);
    let work = |number: u64, bytes: usize| {
        let padding = "x".repeat(bytes);
        json!({ "number": number, "busy_ms": 0, "fails": 0, "returns": bytes, "padding": padding })
    };
    let mut jobs = Vec::new();
    for number in 0..6 {
        jobs.push(api.submit("chaos.work", &work(number, PAYLOAD)).await);
        for _ in 0..10 {
            jobs.push(api.submit("chaos.work", &work(number, 0)).await);
        }
    }
    for id in &jobs {
        api.wait_for_status(id, "succeeded").await;
        assert_eq!(outcomes(&api, id).await, ["succeeded"]);
    }
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_large_read_that_is_given_up_closes_its_connection() {
    let mut stack = Stack::start();
    let direct = stack.api().await;
    let _worker = stack.worker(&direct, 1).await;
    let utterance = json!({ "hex": "31", "times": 100 * 1024 });
    let large = direct.submit("utter", &utterance).await;
    direct.wait_for_status(&large, "succeeded").await;
    let line = stack.proxy();
    let api = stack.api_via(&line).await;
    let result = format!("/jobs/{large}/result");
    // The connections for small calls are made.
    assert_eq!(api.get(&format!("/jobs/{large}")).await.status, StatusCode::OK);
    let before = connections(&stack.redis).await;
    let lost = 3;
    line.drop_replies(Filter::verb("hmget").containing("result_large"), lost, DropMode::Silence);
    for _ in 0..lost {
        assert_eq!(api.get(&result).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(line.dropped(), lost);
    eventually("the connections of reads that were given up are closed", async || {
        // Another thread of the API may have got one of its own meanwhile.
        (connections(&stack.redis).await <= before + 1).then_some(())
    })
    .await;
    assert_eq!(api.get(&result).await.status, StatusCode::OK);
}

fn broker_via(line: &Proxy) -> Broker {
    let redis_url = line.url().parse().unwrap();
    Broker::new(&BrokerConfig { redis_url, ..BrokerConfig::default() }).unwrap()
}

#[tokio::test]
async fn functions_are_loaded_over_a_slow_line_by_the_first_connection() {
    let redis = RedisServer::start();
    let line = Proxy::to(redis.port());
    line.throttle(SLOW);
    let broker = broker_via(&line);
    eventually("the functions are there", async || broker.open().await.ok()).await;
    assert_eq!(line.connections(), 1, "a connection was given up while it loaded them");
}

#[tokio::test]
async fn many_large_tasks_are_declared_and_read_over_a_slow_line() {
    let redis = RedisServer::start();
    let line = Proxy::to(redis.port());
    let broker = broker_via(&line);
    broker.open().await.unwrap();
    line.throttle(SLOW_FOR_CALLERS);
    let large = |number| TaskDescriptor {
        description: "x".repeat(RESULT / 40),
        ..TaskDescriptor::new(format!("large-{number}").parse().unwrap())
    };
    let tasks: Vec<_> = (0..40).map(large).collect();
    broker.announce(&[], &tasks).await.unwrap();
    assert_eq!(broker.tasks().await.unwrap().len(), 40);
}
