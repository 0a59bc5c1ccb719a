//! Lines of low bandwidth: what is large takes longer, and nothing else waits for it. (F29)

use crunch_common::broker::Broker;
use crunch_common::broker::BrokerConfig;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Api, DropMode, Filter, Proxy, RedisServer, Stack, Stage, Worker, eventually};
use futures_util::future::join_all;

use super::redis_server::connections;
use super::*;

/// Bytes a second of a worker's line, and a payload that takes six seconds on it: longer than any small call may take.
const SLOW: u64 = 32 * 1024;
const PAYLOAD: usize = 200 * 1024;
/// A result that takes three seconds on the line of an API, whose calls may take as long as at half a mebibyte a
/// second.
const SLOW_FOR_CALLERS: u64 = 600 * 1024;
const RESULT: usize = 2000 * 1024;
/// A line on which a large result takes three seconds, longer than the lease below.
const SLOW_FOR_RESULTS: u64 = 64 * 1024;
/// A line of several workers, on which each large value takes half a second if it is alone.
const SHARED: u64 = 400 * 1024;
/// A payload that takes three seconds on the line of an API, for a task that accepts this much.
const SUBMITTED: usize = 2000 * 1024;
/// Shorter than the transfer of a large payload.
const LEASE: [(&str, &str); 1] = [("CRUNCH_LEASE_MS", "2000")];

/// An API with a fast line, and a worker with some slots and a slow line.
struct Setup {
    stack: Stack,
    api: Api,
    line: Proxy,
    worker: Worker,
    stage: Stage,
}

impl Setup {
    async fn start(slots: usize, environment: &[(&str, &str)]) -> Self {
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
async fn a_payload_that_takes_longer_than_a_call_may_runs_once_while_others_start() {
    let setup = Setup::start(2, &LEASE).await;
    let (api, stage) = (&setup.api, &setup.stage);
    // The timeout is shorter than the transfer of the payload: it begins when that is complete.
    let large = setup.submit_large(&json!({ "timeout_ms": 2000 })).await;
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
    setup.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_job_can_be_canceled_while_its_payload_is_transferred() {
    let setup = Setup::start(1, &[]).await;
    let large = setup.submit_large(&json!({})).await;
    setup.api.wait_for_status(&large, "running").await;

    let answer = setup.api.post_empty(&format!("/jobs/{large}/cancel")).await;
    assert!(answer.status.is_success(), "{answer:?}");
    setup.api.wait_for_status(&large, "canceled").await;

    let small = setup.api.submit("echo", &json!(1)).await;
    setup.api.wait_for_status(&small, "succeeded").await;
    assert!(setup.stage.is_empty().await, "a canceled job has started");
}

#[tokio::test]
async fn a_job_whose_payload_is_in_transfer_is_released_when_its_worker_ends() {
    let mut setup = Setup::start(1, &[("CRUNCH_WORKER_GRACE_MS", "0")]).await;
    let large = setup.submit_large(&json!({})).await;
    setup.api.wait_for_status(&large, "running").await;

    assert!(setup.worker.terminate().await.success());

    let _another = setup.stack.worker(&setup.api, 1).await;
    let actor = setup.stage.wait_for_handler().await;
    assert_eq!((&actor.id, actor.attempt), (&large, 1));
    actor.returns(&json!(1)).await;
    setup.api.wait_for_status(&large, "succeeded").await;
    assert_eq!(outcomes(&setup.api, &large).await, ["released", "succeeded"]);
}

#[tokio::test]
async fn large_results_arrive_over_a_slow_line_while_other_jobs_are_read() {
    let mut stack = Stack::start();
    let direct = stack.api().await;
    let limit = [("CRUNCH_WORKER_MAX_RESULT", "8388608")];
    let _worker = stack.worker_with(&direct, 1, &limit).await;
    let payload = json!({ "hex": "31", "times": RESULT });
    let large = direct.submit("return_bytes", &payload).await;
    direct.wait_for_status(&large, "succeeded").await;
    let line = stack.proxy();
    let api = stack.api_via(&line).await;
    line.throttle(SLOW_FOR_CALLERS);

    let result = api.request(reqwest::Method::GET, &format!("/jobs/{large}/result"));
    let result = api.send_in_background(result);
    let mut reads = 0;
    eventually("the result has arrived", async || {
        reads += 1;
        assert_eq!(api.get(&format!("/jobs/{large}")).await.status, StatusCode::OK);
        result.is_finished().then_some(())
    })
    .await;

    let answer = result.await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, RESULT));
    assert!(reads > 1, "other requests waited for it");
}

async fn status(api: &Api, id: &str) -> String {
    api.job(id).await["status"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_large_result_in_transfer_delays_no_other_job_and_keeps_its_lease() {
    let setup = Setup::start(2, &LEASE).await;
    setup.line.throttle(SLOW_FOR_RESULTS);
    let (api, stage) = (&setup.api, &setup.stage);
    let large = api.submit("act", &stage.payload()).await;
    let first = stage.wait_for_handler().await;
    let other = api.submit("act", &stage.payload()).await;
    let second = stage.wait_for_handler().await;

    first.returns(&json!("x".repeat(PAYLOAD))).await;
    // Only a worker that settles the second has a slot for a third.
    second.returns(&json!("other")).await;
    api.wait_for_status(&other, "succeeded").await;

    let last = api.submit("act", &stage.payload()).await;
    let third = stage.wait_for_handler().await;
    assert_eq!((&third.id, status(api, &large).await), (&last, "running".to_owned()));
    third.returns(&json!("last")).await;
    api.wait_for_status(&last, "succeeded").await;

    assert_eq!(status(api, &large).await, "running", "the others waited for the large one");
    api.wait_for_status(&large, "succeeded").await;
    for id in [&large, &other, &last] {
        assert_eq!(outcomes(api, id).await, ["succeeded"]);
    }
    setup.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_job_whose_result_is_in_transfer_is_settled_before_its_worker_ends() {
    let mut setup = Setup::start(1, &[]).await;
    setup.line.throttle(2 * SLOW_FOR_RESULTS);
    let large = setup.api.submit("act", &setup.stage.payload()).await;
    setup.stage.wait_for_handler().await.returns(&json!("x".repeat(PAYLOAD))).await;
    let ended = setup.worker.terminate().await;
    assert!(ended.success());
    setup.api.wait_for_status(&large, "succeeded").await;
    assert_eq!(outcomes(&setup.api, &large).await, ["succeeded"]);
}

#[tokio::test]
async fn a_large_submission_in_transfer_fails_no_small_one() {
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
    eventually("the large one is accepted", async || {
        // Over several connections, so that some of them are served by the thread that sends the large one.
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
    assert!(small.len() > 4, "other submissions waited for it");
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
    let payload = json!({ "hex": "31", "times": 100 * 1024 });
    let large = direct.submit("return_bytes", &payload).await;
    direct.wait_for_status(&large, "succeeded").await;
    let line = stack.proxy();
    let api = stack.api_via(&line).await;
    let result = format!("/jobs/{large}/result");
    // This opens the connections for small calls.
    assert_eq!(api.get(&format!("/jobs/{large}")).await.status, StatusCode::OK);

    let before = connections(&stack.redis).await;
    let dropped = 3;
    line.drop_replies(Filter::verb("hmget").containing("result_large"), dropped, DropMode::Silence);
    for _ in 0..dropped {
        assert_eq!(api.get(&result).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(line.dropped(), dropped);

    eventually("the connections of reads that were given up are closed", async || {
        // Another thread of the API may have opened its own connection meanwhile.
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
    let line = redis.proxy();
    line.throttle(SLOW);
    let broker = broker_via(&line);
    eventually("the functions are loaded", async || broker.open().await.ok()).await;
    // In a cluster another one asks which nodes there are.
    let others = u64::from(redis.is_node());
    assert_eq!(line.connections(), 1 + others, "a connection was given up while it loaded them");
}

#[tokio::test]
async fn many_large_tasks_are_declared_and_read_over_a_slow_line() {
    let redis = RedisServer::start();
    let line = redis.proxy();
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
