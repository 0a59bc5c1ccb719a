//! A Redis that dies, freezes, loses its functions, or may evict keys. (F9, F11, F18, F20, F21)

use std::time::{Duration, Instant};

use crunch_tests::{Api, RedisServer, Stack, Stage, eventually};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;

use super::network::{RESUME, wait_until_working};
use super::*;

/// Submits jobs one by one until `stop` is set; returns every acknowledged id, and when it was acknowledged.
async fn submit_until(api: &Api, stop: &std::cell::Cell<bool>) -> Vec<(String, Instant)> {
    let mut accepted = Vec::new();
    while !stop.get() {
        let job = json!({ "task": "square", "payload": { "n": 1, "busy_ms": 5 } });
        let answer = api.post("/jobs", &job).await;
        match answer.status {
            StatusCode::ACCEPTED => accepted.push((answer.id(), Instant::now())),
            StatusCode::SERVICE_UNAVAILABLE => {}
            other => panic!("{other}: {answer:?}"),
        }
    }
    accepted
}

/// Kills Redis under load and restarts it, five times; returns the acknowledged jobs, and when Redis died.
async fn kill_under_load(stack: &mut Stack, api: &Api) -> (Vec<(String, Instant)>, Vec<Instant>) {
    let stop = std::cell::Cell::new(false);
    let kills = async {
        let mut died = Vec::new();
        for round in 1..=5 {
            let done = stack.ledger().len();
            eventually("more jobs have run", async || {
                (stack.ledger().len() > done + 100).then_some(())
            })
            .await;
            died.push(Instant::now());
            stack.redis.kill();
            stack.redis.restart();
            let resumed = wait_until_working(api).await;
            let limit = RESUME + stack.redis.start_delay();
            assert!(resumed < limit, "kill {round}: {resumed:?}");
        }
        stop.set(true);
        died
    };
    tokio::join!(submit_until(api, &stop), kills)
}

#[tokio::test]
async fn a_redis_killed_under_load_loses_nothing_if_it_syncs_always() {
    let mut stack = Stack::on(RedisServer::durable());
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 8, &SAFE_LEASE).await;

    let (accepted, _died) = kill_under_load(&mut stack, &api).await;

    wait_until_drained(&api, "square").await;
    for (id, _) in &accepted {
        assert_eq!(api.job(id).await["status"], "succeeded");
    }
    let entries = stack.ledger();
    let twice = runs(&entries).values().filter(|runs| runs.len() > 1).count();
    assert_eq!(twice, 0, "the worker lived all the time, so no job may run twice");
    assert!(!worker.has_exited());
}

#[tokio::test]
async fn a_redis_killed_under_load_loses_the_last_second_if_it_syncs_every_second() {
    let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut stack = Stack::on(redis);
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 8, &SAFE_LEASE).await;

    let (accepted, died) = kill_under_load(&mut stack, &api).await;

    wait_until_drained(&api, "square").await;
    for (id, at) in &accepted {
        let answer = api.get(&format!("/jobs/{id}")).await;
        if answer.status == StatusCode::NOT_FOUND {
            let age = died.iter().filter_map(|died| died.checked_duration_since(*at)).min();
            assert!(age.is_some_and(|age| age < Duration::from_secs(2)), "{id} was {age:?} old");
        } else {
            assert_eq!(answer.json()["status"], "succeeded");
        }
    }
    assert!(!worker.has_exited());
}

/// Asserts that an API whose Redis does not reply responds to fifty concurrent requests in bounded time.
async fn assert_refuses_in_time(api: &Api) {
    for _ in 0..2 {
        let start = Instant::now();
        let requests = (0..50).map(|n| async move {
            if n % 2 == 0 {
                api.post("/jobs", &json!({ "task": "echo" })).await
            } else {
                api.get("/jobs/018c0000-0000-8000-8000-000000000000").await
            }
        });
        for answer in join_all(requests).await {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
            assert_eq!(answer.header("retry-after"), "1");
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

/// The number of open descriptors of a process. If the process cannot be inspected, only root can list them; their
/// number is then the size of the directory (Linux 6.2).
fn descriptors(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fd");
    let size = || usize::try_from(std::fs::metadata(&folder).unwrap().len()).unwrap();
    std::fs::read_dir(&folder).map_or_else(|_| size(), Iterator::count)
}

/// How many connections Redis has, including the one of this call.
pub(super) async fn connections(redis: &RedisServer) -> usize {
    let mut redis = redis.connect().await;
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    list.lines().count()
}

/// How many connections each serving thread of an API keeps open, once it got two submissions at a time: one for steps,
/// and one for collected submissions. Which threads serve a test depends on how the system assigns its connections.
const CONNECTIONS_PER_THREAD: usize = 2;
/// The most connections that an API keeps open for lists and figures, of which one is open already.
const POOL: usize = 4;

/// How many more connections an API may have open after it served many clients at once.
fn allowed_growth() -> usize {
    std::thread::available_parallelism().unwrap().get() * CONNECTIONS_PER_THREAD + POOL - 1
}

#[tokio::test]
async fn requests_fail_in_time_while_redis_is_frozen_and_no_connections_pile_up() {
    let (stack, api, worker) = Stack::on_one_node().with_api_and_worker(2).await;
    wait_until_working(&api).await;
    let before = connections(&stack.redis).await;
    let open = [api.process.pid(), worker.pid()].map(descriptors);

    stack.redis.freeze();
    assert_refuses_in_time(&api).await;
    eventually("the API is not ready", async || {
        (api.get("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;

    stack.redis.thaw();
    assert!(wait_until_working(&api).await < RESUME);
    eventually("connections that were given up are closed", async || {
        (connections(&stack.redis).await <= before + allowed_growth()).then_some(())
    })
    .await;
    for (pid, open) in [api.process.pid(), worker.pid()].into_iter().zip(open) {
        // The connections of this test's client are among them.
        assert!(descriptors(pid) <= open + 55, "{pid}: {open} to {}", descriptors(pid));
    }
}

#[tokio::test]
async fn a_paused_redis_costs_no_second_run() {
    let mut stack = Stack::on_one_node();
    let (api, stage) = (stack.api().await, Stage::open().await);
    let _worker = stack.worker_with(&api, 2, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    let mut redis = stack.redis.connect().await;
    let pause = redis::cmd("CLIENT").arg("PAUSE").arg(5 * LEASE_MS).arg("ALL").to_owned();
    let () = pause.query_async(&mut redis).await.unwrap();

    assert_refuses_in_time(&api).await;
    wait_until_working(&api).await;

    actor.returns(&json!("kept")).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
    assert!(stage.is_empty().await);
}

#[tokio::test]
async fn functions_flushed_under_load_are_loaded_again_without_an_error() {
    let mut stack = Stack::on_one_node();
    let api = stack.api().await;
    let _worker = stack.worker_with(&api, 8, &SAFE_LEASE).await;
    let ids = submit_squares(&api, 2000, 2).await;

    let mut redis = stack.redis.connect().await;
    for round in 1..=10 {
        eventually("more jobs have run", async || {
            (stack.ledger().len() > round * 300).then_some(())
        })
        .await;
        let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut redis).await.unwrap();
        api.submit("echo", &json!(round)).await;
    }

    wait_until_drained(&api, "square").await;
    assert_squares(&api, &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() == 1), "a job ran twice");
}

#[tokio::test]
async fn a_redis_that_may_evict_keys_is_not_used_until_its_policy_is_fixed() {
    let mut stack = Stack::on_one_node();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let mut worker = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let mut redis = stack.redis.connect().await;
    let policy = |policy: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg(policy).to_owned()
    };

    let () = policy("allkeys-lru").query_async(&mut redis).await.unwrap();
    // Checked on every new connection, and once a minute.
    proxy.reset();

    eventually("the API is not ready", async || {
        let ready = api.get("/readyz").await;
        (ready.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    worker.wait_for_log("maxmemory-policy is allkeys-lru").await;
    let refused = api.post("/jobs", &json!({ "task": "echo" })).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");

    let () = policy("noeviction").query_async(&mut redis).await.unwrap();
    assert!(wait_until_working(&api).await < RESUME);
    assert!(!worker.has_exited());
}
