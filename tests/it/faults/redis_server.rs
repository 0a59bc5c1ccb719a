//! A Redis that dies, freezes, forgets, or is not to be trusted any more. (F9, F11, F18, F20, F21)

use std::time::{Duration, Instant};

use crunch_tests::{Api, RedisServer, Stack, Stage, eventually};
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;

use super::network::{RESUME, works_again};
use super::*;

/// Submits one by one until told to stop; returns every id that was acknowledged, and when.
async fn submit_until(api: &Api, stop: &std::cell::Cell<bool>) -> Vec<(String, Instant)> {
    let mut taken = Vec::new();
    while !stop.get() {
        let job = json!({ "task": "square", "payload": { "n": 1, "busy_ms": 5 } });
        let answer = api.post("/jobs", &job).await;
        match answer.status {
            StatusCode::ACCEPTED => taken.push((answer.id(), Instant::now())),
            StatusCode::SERVICE_UNAVAILABLE => {}
            other => panic!("{other}: {answer:?}"),
        }
    }
    taken
}

/// Kills Redis under load, five times, and starts it again; returns what was acknowledged, and when Redis died.
async fn killed_under_load(stack: &mut Stack, api: &Api) -> (Vec<(String, Instant)>, Vec<Instant>) {
    let stop = std::cell::Cell::new(false);
    let kills = async {
        let mut died = Vec::new();
        for round in 1..=5 {
            let done = stack.ledger().len();
            eventually("the jobs get on", async || {
                (stack.ledger().len() > done + 100).then_some(())
            })
            .await;
            died.push(Instant::now());
            stack.redis.kill();
            stack.redis.restart();
            let resumed = works_again(api).await;
            assert!(resumed < RESUME, "kill {round}: {resumed:?}");
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
    let (taken, _died) = killed_under_load(&mut stack, &api).await;
    drained(&api, "square").await;
    for (id, _) in &taken {
        assert_eq!(api.job(id).await["status"], "succeeded");
    }
    let entries = stack.ledger();
    let twice = runs(&entries).values().filter(|runs| runs.len() > 1).count();
    assert_eq!(twice, 0, "the worker lived all the time");
    assert!(!worker.has_exited());
}

#[tokio::test]
async fn a_redis_killed_under_load_loses_the_last_second_if_it_syncs_every_second() {
    let redis = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut stack = Stack::on(redis);
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 8, &SAFE_LEASE).await;
    let (taken, died) = killed_under_load(&mut stack, &api).await;
    drained(&api, "square").await;
    for (id, at) in &taken {
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

/// Everybody gets an answer in bounded time from an API whose Redis does not answer.
async fn everybody_is_refused_in_time(api: &Api) {
    for _ in 0..2 {
        let start = Instant::now();
        let asked = (0..50).map(|n| async move {
            if n % 2 == 0 {
                api.post("/jobs", &json!({ "task": "echo" })).await
            } else {
                api.get("/jobs/018c0000-0000-8000-8000-000000000000").await
            }
        });
        for answer in join_all(asked).await {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
            assert_eq!(answer.header("retry-after"), "1");
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

/// Only root can list those of a process that cannot be inspected; their number is the size of the folder (Linux 6.2).
fn descriptors(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fd");
    let size = || usize::try_from(std::fs::metadata(&folder).unwrap().len()).unwrap();
    std::fs::read_dir(&folder).map_or_else(|_| size(), Iterator::count)
}

/// How many are open, the one that asks included.
pub(super) async fn connections(redis: &RedisServer) -> usize {
    let mut redis = redis.connect().await;
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    list.lines().count()
}

/// What each thread of an API that serves clients keeps open, once two submissions came to it at a time: a connection for steps, and
/// one for submissions that are collected. Which threads serve a test depends on where the system puts its connections.
const OF_A_THREAD: usize = 2;
/// What an API keeps open at most for lists and figures, of which one is open already.
const POOL: usize = 4;

/// How many connections an API may have gained by having to do with many clients at once.
fn gained_by_an_api() -> usize {
    std::thread::available_parallelism().unwrap().get() * OF_A_THREAD + POOL - 1
}

#[tokio::test]
async fn a_frozen_redis_is_told_of_in_time_and_nothing_piles_up() {
    let (stack, api, worker) = Stack::simple(2).await;
    works_again(&api).await;
    let before = connections(&stack.redis).await;
    let open = [api.process.pid(), worker.pid()].map(descriptors);
    stack.redis.freeze();
    everybody_is_refused_in_time(&api).await;
    eventually("the API says that it is not ready", async || {
        (api.get("/readyz").await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    stack.redis.thaw();
    assert!(works_again(&api).await < RESUME);
    eventually("connections that were given up are closed", async || {
        (connections(&stack.redis).await <= before + gained_by_an_api()).then_some(())
    })
    .await;
    for (pid, open) in [api.process.pid(), worker.pid()].into_iter().zip(open) {
        // The clients of this test hold some.
        assert!(descriptors(pid) <= open + 55, "{pid}: {open} to {}", descriptors(pid));
    }
}

#[tokio::test]
async fn a_paused_redis_costs_no_second_run() {
    let mut stack = Stack::start();
    let (api, stage) = (stack.api().await, Stage::open().await);
    let _worker = stack.worker_with(&api, 2, &SHORT_LEASE).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let mut redis = stack.redis.connect().await;
    let pause = redis::cmd("CLIENT").arg("PAUSE").arg(5 * LEASE_MS).arg("ALL").to_owned();
    let () = pause.query_async(&mut redis).await.unwrap();
    everybody_is_refused_in_time(&api).await;
    works_again(&api).await;
    actor.returns(&json!("kept")).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
    assert!(stage.is_empty().await);
}

#[tokio::test]
async fn functions_flushed_under_load_come_back_unnoticed() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let _worker = stack.worker_with(&api, 8, &SAFE_LEASE).await;
    let ids = submit_squares(&api, 2000, 2).await;
    let mut redis = stack.redis.connect().await;
    for round in 1..=10 {
        eventually("the jobs get on", async || (stack.ledger().len() > round * 300).then_some(()))
            .await;
        let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut redis).await.unwrap();
        api.submit("echo", &json!(round)).await;
    }
    drained(&api, "square").await;
    every_square_is_right(&api, &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() == 1), "something ran twice");
}

#[tokio::test]
async fn a_redis_that_turns_to_eviction_is_left_alone_until_it_is_mended() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let mut worker = stack.worker_via(&proxy, &api, 1, &SHORT_LEASE).await;
    let mut redis = stack.redis.connect().await;
    let policy = |policy: &str| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg(policy).to_owned()
    };
    let () = policy("allkeys-lru").query_async(&mut redis).await.unwrap();
    // Looked at on every new connection, and once a minute.
    proxy.reset();
    eventually("the API is not ready and says why", async || {
        let ready = api.get("/readyz").await;
        (ready.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    worker.wait_for_log("maxmemory-policy is allkeys-lru").await;
    let refused = api.post("/jobs", &json!({ "task": "echo" })).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    let () = policy("noeviction").query_async(&mut redis).await.unwrap();
    assert!(works_again(&api).await < RESUME);
    assert!(!worker.has_exited());
}
