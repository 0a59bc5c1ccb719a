//! A Redis that is not started, fails, is unsuitable, or has lost its data.

use crunch_tests::{RedisServer, Stack, Stage, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn all_processes_wait_for_a_redis_that_is_not_started_yet() {
    let mut stack = Stack::start();
    stack.redis.stop();
    let mut api = stack.api().await;
    let mut worker = stack.worker_process(1, &[]);
    worker.wait_for_log("cannot reach Redis, retrying").await;
    api.process.wait_for_log("cannot reach Redis, retrying").await;
    assert_eq!(api.get("/livez").await.status, StatusCode::OK);
    assert_eq!(api.get("/readyz").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let refused = api.post("/crunch", &json!({})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), "1");

    stack.redis.restart();
    Stack::wait_until_ready(&api, &worker).await;
    eventually("the API is ready", async || {
        (api.get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
    let id = api.submit("echo", &json!("hello")).await;
    api.wait_for_status(&id, "succeeded").await;
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_result_returned_during_an_outage_of_redis_is_stored_afterwards() {
    let mut stack = Stack::on(RedisServer::durable());
    let api = stack.api().await;
    let _worker = stack.worker(&api, 1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    stack.redis.stop();
    actor.returns(&json!("kept")).await;
    stack.redis.restart();
    let job = eventually("the job has ended", async || {
        let answer = api.get(&format!("/jobs/{id}")).await;
        (answer.status == StatusCode::OK && answer.json()["finished_at"].is_string())
            .then(|| answer.json())
    })
    .await;
    assert_eq!((&job["status"], &job["result"]), (&json!("succeeded"), &json!("kept")));

    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    assert_eq!(attempts["items"].as_array().map(Vec::len), Some(1), "{attempts}");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn idle_workers_claim_jobs_again_after_an_outage_of_redis() {
    let mut stack = Stack::on(RedisServer::durable());
    let api = stack.api().await;
    let _worker = stack.worker(&api, 1).await;
    stack.redis.restart();
    let id = eventually("a job is accepted", async || {
        let answer = api.post("/jobs", &json!({ "task": "echo" })).await;
        (answer.status == StatusCode::ACCEPTED).then(|| answer.id())
    })
    .await;
    api.wait_for_status(&id, "succeeded").await;
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_redis_that_may_evict_jobs_is_refused() {
    let mut stack = Stack::on(RedisServer::with(&["--maxmemory-policy", "allkeys-lru"]));
    let mut worker = stack.worker_process(1, &[]);
    let mut api = stack.command("test-api");
    api.env("CRUNCH_API_ADDR", "127.0.0.1:0");
    let mut api = stack.spawn(api, "api");
    for process in [&mut worker, &mut api] {
        assert_eq!(process.exited().await.code(), Some(1));
        let log = process.log();
        assert!(log.contains("maxmemory-policy is allkeys-lru"), "{log}");
        assert!(log.contains("set it to noeviction"), "{log}");
    }
}

#[tokio::test]
async fn an_unsuitable_redis_ends_the_start_with_the_reason() {
    // The default cluster port is the port + 10 000, which may not exist or be in use.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cluster_port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let cases: [(&[&str], &str); 4] = [
        (&["--rename-command", "FUNCTION", ""], "it does not know the command 'FUNCTION'"),
        (&["--rename-command", "INFO", ""], "it does not know the command 'INFO'"),
        (&["--rename-command", "FCALL", ""], "it does not know the command 'FCALL'"),
        (
            &["--cluster-enabled", "yes", "--cluster-port", &cluster_port],
            "a node of a Redis Cluster",
        ),
    ];

    for (arguments, reason) in cases {
        let mut stack = Stack::on(RedisServer::single_with(arguments));
        let mut worker = stack.worker_process(1, &[]);
        let mut api = stack.command("test-api");
        api.env("CRUNCH_API_ADDR", "127.0.0.1:0");
        let mut api = stack.spawn(api, "api");
        for process in [&mut worker, &mut api] {
            assert_eq!(process.exited().await.code(), Some(1), "{reason}");
            assert!(process.log().contains(reason), "{}", process.log());
        }
    }
}

#[tokio::test]
async fn a_redis_without_its_required_replicas_refuses_jobs_at_once_and_is_reported() {
    let (stack, mut api, mut worker) = Stack::on_one_node().with_api_and_worker(2).await;
    let stage = Stage::open().await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let require_replicas = async |redis: &RedisServer, count: u8| {
        let mut redis = redis.connect().await;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("min-replicas-to-write").arg(count);
        let () = set.query_async(&mut redis).await.unwrap();
    };

    require_replicas(&stack.redis, 1).await;
    // A large payload is sent on a connection of its own.
    for body in
        [json!({ "task": "echo" }), json!({ "task": "echo", "payload": "x".repeat(99_999) })]
    {
        let refused = api.post("/jobs", &body).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
        assert_eq!((refused.header("retry-after"), refused.json().get("outcome")), ("1", None));
    }
    eventually("the API is not ready", async || {
        (api.get("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    api.process.wait_for_log("cannot reach Redis, retrying").await;
    api.process.wait_for_log("NOREPLICAS").await;
    eventually("the metrics show that Redis is not usable", async || {
        let metrics = api.get("/metrics").await.body;
        String::from_utf8_lossy(&metrics).contains("crunch_redis_up 0").then_some(())
    })
    .await;
    // Reads continue.
    assert_eq!(api.job(&running).await["status"], "running");
    actor.returns(&json!("kept")).await;
    worker.wait_for_log("NOREPLICAS").await;
    require_replicas(&stack.redis, 0).await;
    assert_eq!(api.wait_for_status(&running, "succeeded").await["result"], "kept");

    let attempts = api.get(&format!("/jobs/{running}/attempts")).await.json();
    assert_eq!(attempts["items"].as_array().map(Vec::len), Some(1), "{attempts}");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_redis_that_lost_its_functions_gets_them_again() {
    let (stack, api, _worker) = Stack::on_one_node().with_api_and_worker(1).await;
    let mut redis = stack.redis.connect().await;
    let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    let id = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_used_again() {
    let (mut stack, api, worker) = Stack::on_one_node().with_api_and_worker(1).await;
    let mut redis = stack.redis.connect().await;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    // Another process may use it first, as if it were new.
    let _other = stack.api().await;

    // The worker detects the loss with its next heartbeat, and declares its tasks and queues again.
    Stack::wait_until_ready(&api, &worker).await;
    let id = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    let has_layout: bool =
        redis::cmd("EXISTS").arg("crunch:{0}:layout").query_async(&mut redis).await.unwrap();
    assert!(has_layout, "the key space is initialized again");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn an_unreadable_record_is_quarantined_and_the_others_run() {
    let (stack, api, _worker) = Stack::with_one_partition().with_api_and_worker(1).await;

    api.post("/queues/echo/pause", &json!({})).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(api.submit("echo", &json!(n)).await);
    }
    let mut redis = stack.redis.connect().await;
    let key = format!("crunch:{{0}}:job:{}", ids[1]);
    let () = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
    let () = redis::cmd("SET").arg(&key).arg("garbage").query_async(&mut redis).await.unwrap();
    api.post("/queues/echo/resume", &json!({})).await;
    for id in [&ids[0], &ids[2]] {
        api.wait_for_status(id, "succeeded").await;
    }
    let quarantined: Vec<String> = redis::cmd("ZRANGE")
        .arg("crunch:{0}:quarantine")
        .arg(0)
        .arg(-1)
        .query_async(&mut redis)
        .await
        .unwrap();
    assert_eq!(quarantined, [ids[1].clone()]);

    let workers: Value = api.get("/workers").await.json();
    assert_eq!(workers["items"].as_array().map(Vec::len), Some(1), "the worker still runs");
}
