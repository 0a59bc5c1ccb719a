//! Prometheus metrics of APIs and workers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crunch_tests::{Api, EventStream, Stack, Stage, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use crate::monitoring::queries::{Metric, table};

/// Samples by their name with labels. Every sample must belong to a family that is declared once, as the format
/// requires, and have the labels that the documentation lists.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let listed = table();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            assert!(families.insert(name, kind).is_none(), "{name} is declared twice");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(families.contains_key(name) || families.contains_key(family), "{line}");
            let is_histogram = families.get(family) == Some(&"histogram");
            check_labels(&listed[if is_histogram { family } else { name }], is_histogram, sample);
            assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{line}");
        }
    }
    samples
}

/// The labels of a sample are those that the documentation lists for its metric.
fn check_labels(metric: &Metric, is_histogram: bool, sample: &str) {
    assert_eq!(metric.is_histogram, is_histogram, "{sample}");
    let labels = sample.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
    let names = labels.split(',').filter_map(|label| label.split_once('='));
    let names: BTreeSet<_> = names.map(|(name, _)| name.to_owned()).collect();
    let expected: BTreeSet<_> = metric.labels.iter().cloned().collect();
    let beyond: Vec<_> = names.difference(&expected).filter(|name| *name != "le").collect();
    assert!(beyond.is_empty() && names.is_superset(&expected), "{sample}: {expected:?}");
}

async fn read_metrics(api: &Api) -> BTreeMap<String, f64> {
    let answer = api.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    parse(std::str::from_utf8(&answer.body).unwrap())
}

#[tokio::test]
async fn an_api_counts_requests_and_shows_the_state_of_queues() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let stage = Stage::open().await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let later = api.submit_with("act", &json!({}), &json!({ "delay_ms": 3_600_000 })).await;

    api.submit_with("act", &json!({}), &json!({ "delay_ms": 3_600_000 })).await;
    for _ in 0..2 {
        api.post_empty(&format!("/jobs/{later}/cancel")).await;
    }
    let _stream = EventStream::open(&api, &running, None).await;
    api.get("/nowhere").await;
    let metrics = read_metrics(&api).await;
    for (sample, value) in [
        (r#"crunch_jobs_submitted_total{task="act",queue="act"}"#, 3.0),
        (r#"crunch_jobs_finished_total{task="act",queue="act",status="canceled"}"#, 1.0),
        (r#"crunch_queue_jobs{queue="act",state="delayed"}"#, 1.0),
        (r#"crunch_queue_jobs{queue="act",state="running"}"#, 1.0),
        (r#"crunch_queue_jobs{queue="act",state="queued"}"#, 0.0),
        (r#"crunch_queue_oldest_age_seconds{queue="act"}"#, 0.0),
        (r#"crunch_queue_paused{queue="act"}"#, 0.0),
        (r#"crunch_queue_workers{queue="act"}"#, 1.0),
        ("crunch_fleet_workers", 1.0),
        ("crunch_fleet_slots", 2.0),
        ("crunch_redis_up", 1.0),
        ("crunch_leases_lost_total", 0.0),
        ("crunch_jobs_expired_total", 0.0),
        (r#"crunch_http_refused_total{sum="bodies"}"#, 0.0),
        ("crunch_http_waiting", 1.0),
        (
            r#"crunch_http_request_duration_seconds_count{method="POST",route="/jobs",status="202"}"#,
            3.0,
        ),
        (
            r#"crunch_http_request_duration_seconds_count{method="GET",route="other",status="404"}"#,
            1.0,
        ),
    ] {
        assert_eq!(metrics.get(sample), Some(&value), "{sample} in {metrics:#?}");
    }
    let ids = metrics.keys().filter(|sample| sample.contains(&running) || sample.contains(&later));
    assert_eq!(ids.count(), 0, "no label contains an id");
    actor.returns(&json!(1)).await;
}

#[tokio::test]
async fn an_api_shows_what_needs_attention_in_queues_and_workers() {
    let (mut stack, api) = {
        let mut stack = Stack::start();
        let api = stack.api().await;
        (stack, api)
    };
    let _worker = stack.worker_with(&api, 3, &[("CRUNCH_WORKER_QUEUES", "echo")]).await;
    api.post_empty("/queues/echo/pause").await;
    for task in ["echo", "square"] {
        api.submit(task, &json!(1)).await;
    }
    let metrics = eventually("the workers are counted", async || {
        let metrics = read_metrics(&api).await;
        let served = metrics.get(r#"crunch_queue_workers{queue="echo"}"#) == Some(&1.0);
        let both = metrics.contains_key(r#"crunch_queue_workers{queue="square"}"#);
        (served && both).then_some(metrics)
    })
    .await;
    for (sample, value) in [
        (r#"crunch_queue_paused{queue="echo"}"#, 1.0),
        (r#"crunch_queue_paused{queue="square"}"#, 0.0),
        (r#"crunch_queue_workers{queue="square"}"#, 0.0),
        (r#"crunch_queue_jobs{queue="square",state="queued"}"#, 1.0),
    ] {
        assert_eq!(metrics.get(sample), Some(&value), "{sample} in {metrics:#?}");
    }
    assert!(metrics[r#"crunch_queue_oldest_age_seconds{queue="square"}"#] > 0.0);
    let of = |name: &str| {
        let found = metrics.iter().filter(|(sample, _)| sample.starts_with(&format!("{name}{{")));
        found.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    assert_eq!((of("crunch_host_slots"), of("crunch_host_slots_busy")), (vec![3.0], vec![0.0]));
    // A node of a cluster has a label too.
    let memory = of("crunch_redis_memory_bytes");
    assert!(!memory.is_empty() && memory.iter().all(|bytes| *bytes > 100_000.0), "{memory:?}");
    assert!(of("crunch_redis_disk_ok").iter().all(|ok| *ok == 1.0));
}

#[tokio::test]
async fn an_api_shows_groups_limits_locks_and_schedules() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let put = async |path: &str, body: &Value| {
        let answer = api.send(api.request(Method::PUT, path).json(body)).await;
        assert!(answer.status.is_success(), "{answer:?}");
    };
    for group in ["a", "b", "b"] {
        api.submit_with("t", &json!(1), &json!({ "group": group })).await;
    }
    put("/queues/t/limit", &json!({ "concurrency": 3 })).await;
    for on_conflict in ["existing", "existing", "replace", "reject"] {
        let unique = json!({ "key": "k", "on_conflict": on_conflict });
        api.post("/jobs", &json!({ "task": "t", "unique": unique })).await;
    }
    put("/schedules/often", &json!({ "task": "u", "every_ms": 1000, "overlap": "allow" })).await;
    put("/schedules/yearly", &json!({ "task": "u", "cron": "@yearly" })).await;
    api.post_empty("/schedules/yearly/pause").await;
    let ticks = |outcome| format!(r#"crunch_schedule_ticks_total{{outcome="{outcome}"}}"#);
    let metrics = eventually("a tick is counted", async || {
        let metrics = read_metrics(&api).await;
        (metrics[&ticks("submitted")] > 0.0).then_some(metrics)
    })
    .await;
    let conflicts = |outcome| {
        format!(r#"crunch_submissions_conflicting_total{{task="t",queue="t",outcome="{outcome}"}}"#)
    };
    for (sample, value) in [
        (r#"crunch_queue_groups{queue="t",state="runnable"}"#, 2.0),
        (r#"crunch_queue_groups{queue="t",state="blocked"}"#, 0.0),
        (r#"crunch_queue_concurrency{queue="t"}"#, 3.0),
        (&conflicts("existing"), 1.0),
        (&conflicts("replaced"), 1.0),
        (&conflicts("locked"), 1.0),
        (r#"crunch_schedules{state="active"}"#, 1.0),
        (r#"crunch_schedules{state="inactive"}"#, 1.0),
        (&ticks("rejected"), 0.0),
    ] {
        assert_eq!(metrics.get(sample), Some(&value), "{sample} in {metrics:#?}");
    }
    assert!(metrics["crunch_schedules_late_seconds"] < 60.0, "{metrics:#?}");
    let other = metrics.keys().filter(|sample| sample.starts_with("crunch_queue_groups{"));
    assert!(other.into_iter().all(|sample| sample.contains("\"t\"")), "{metrics:#?}");
}

#[tokio::test]
async fn the_state_of_queues_is_read_at_most_every_two_seconds() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let waiting = async || {
        let later = json!({ "delay_ms": 3_600_000 });
        api.submit_with("act", &json!({}), &later).await;
        read_metrics(&api).await.get(r#"crunch_queue_jobs{queue="act",state="delayed"}"#).copied()
    };
    let begun = Instant::now();
    let first = waiting().await;
    for _ in 0..10 {
        let next = waiting().await;
        if begun.elapsed() < Duration::from_secs(2) {
            assert_eq!(next, first, "the answer is the one of the first request");
        }
    }
    eventually("the state is read again", async || {
        let metrics = read_metrics(&api).await;
        let delayed = metrics.get(r#"crunch_queue_jobs{queue="act",state="delayed"}"#);
        (delayed == Some(&11.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_redis_an_api_still_has_its_own_metrics() {
    let (mut stack, api) = {
        let mut stack = Stack::start();
        let api = stack.api().await;
        (stack, api)
    };
    stack.redis.stop();
    eventually("the API has detected the outage", async || {
        let metrics = read_metrics(&api).await;
        (metrics.get("crunch_redis_up") == Some(&0.0)).then_some(())
    })
    .await;
    assert!(read_metrics(&api).await.keys().any(|sample| sample.starts_with("crunch_build_info")));
}

#[tokio::test]
async fn a_worker_with_a_port_exports_metrics_of_its_attempts() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let address = [("CRUNCH_WORKER_ADDR", "127.0.0.1:0")];
    let mut worker = stack.worker_with(&api, 3, &address).await;
    let url = worker.wait_for_log("listening on ").await;
    let done = api.submit("echo", &json!(1)).await;

    api.wait_for_status(&done, "succeeded").await;
    let failed = api.submit_with("square", &json!("x"), &json!({ "max_attempts": 1 })).await;
    api.wait_for_status(&failed, "failed").await;
    let stage = Stage::open().await;
    api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let request = reqwest::Client::new().request(Method::GET, format!("{url}/metrics"));
    let metrics = parse(&request.send().await.unwrap().text().await.unwrap());
    for (sample, value) in [
        (r#"crunch_attempts_total{task="echo",queue="echo",outcome="succeeded"}"#, 1.0),
        (r#"crunch_jobs_finished_total{task="echo",queue="echo",status="succeeded"}"#, 1.0),
        (r#"crunch_jobs_finished_total{task="square",queue="square",status="failed"}"#, 1.0),
        (r#"crunch_job_wait_seconds_count{task="echo",queue="echo"}"#, 1.0),
        (r#"crunch_job_run_seconds_count{task="echo",queue="echo",outcome="succeeded"}"#, 1.0),
        ("crunch_stale_settlements_total", 0.0),
        ("crunch_worker_slots", 3.0),
        ("crunch_worker_slots_busy", 1.0),
    ] {
        assert_eq!(metrics.get(sample), Some(&value), "{sample} in {metrics:#?}");
    }
    actor.returns(&json!(1)).await;
}

/// Whichever process finds it: heartbeats of workers sweep too.
#[tokio::test]
async fn a_lease_that_is_lost_is_counted_by_one_process() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let lease = ("CRUNCH_WORKER_LEASE_MS", "1000");
    let mut killed = stack.worker_with(&api, 1, &[lease]).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let _lost = stage.wait_for_handler().await;
    let mut other =
        stack.worker_with(&api, 1, &[lease, ("CRUNCH_WORKER_ADDR", "127.0.0.1:0")]).await;
    let url = other.wait_for_log("listening on ").await;

    killed.kill().await;
    stage.wait_for_handler().await.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    let lost = |metrics: &BTreeMap<String, f64>| metrics["crunch_leases_lost_total"];
    let of_worker = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert_eq!((lost(&read_metrics(&api).await) + lost(&parse(&of_worker))), 1.0);
}

/// Whichever process finds it: a claim, or the sweep of either.
#[tokio::test]
async fn a_job_that_expires_is_counted_by_one_process() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 1, &[("CRUNCH_WORKER_ADDR", "127.0.0.1:0")]).await;
    let url = worker.wait_for_log("listening on ").await;
    let stage = Stage::open().await;
    let _blocker = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let expires = json!({ "start_within_ms": 200 });
    for _ in 0..3 {
        let id = api.submit_with("act", &stage.payload(), &expires).await;
        api.wait_for_status(&id, "canceled").await;
    }
    let overdue = api.submit_with("act", &stage.payload(), &json!({ "deadline_ms": 200 })).await;
    api.wait_for_status(&overdue, "failed").await;
    actor.returns(&json!(1)).await;

    eventually("each is counted once", async || {
        let of_worker = reqwest::get(format!("{url}/metrics")).await.ok()?.text().await.ok()?;
        let (of_api, of_worker) = (read_metrics(&api).await, parse(&of_worker));
        let sum = |name: &str| {
            let of = |metrics: &BTreeMap<String, f64>| metrics.get(name).copied().unwrap_or(0.0);
            of(&of_api) + of(&of_worker)
        };
        let ended =
            |status| format!(r#"crunch_jobs_finished_total{{task="",queue="",status="{status}"}}"#);
        let counts = (
            sum("crunch_jobs_expired_total"),
            sum(&ended("canceled")),
            sum(&ended("failed")),
            sum("crunch_leases_lost_total"),
        );
        (counts == (3.0, 3.0, 1.0, 0.0)).then_some(())
    })
    .await;
}
