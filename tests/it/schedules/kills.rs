//! Ticks while processes are killed: none is twice, none is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use crunch_common::schedule::ScheduleName;
use crunch_common::time::Timestamp;
use crunch_tests::{Api, RedisServer, Stack, eventually};
use serde_json::json;
use tokio::time::Instant;

use super::ticks::put;

const ENVIRONMENT: [(&str, &str); 2] =
    [("CRUNCH_API_UNKNOWN_TASKS", "accept"), ("CRUNCH_MAX_QUEUE_DEPTH", "10000000")];
/// More than it takes to create all schedules.
const LEAD: Duration = Duration::from_secs(5);

/// The newest tick of a schedule that was dealt with.
async fn newest_tick(api: &Api, number: usize) -> Option<Timestamp> {
    let shown = api.get(&format!("/schedules/s{number}")).await.json();
    Some(shown["runs"][0]["tick"].as_str()?.parse().unwrap())
}

/// Every tick of every schedule for which there is a job, how often.
async fn ticks(redis: &RedisServer) -> BTreeMap<String, BTreeMap<u64, usize>> {
    let mut found: BTreeMap<String, BTreeMap<u64, usize>> = BTreeMap::new();
    for node in redis.all() {
        let mut connection = node.connect().await;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg("*:job:*").arg("COUNT").arg(2000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await.unwrap();
            for keys in keys.chunks(500) {
                let mut pipeline = redis::pipe();
                for key in keys {
                    pipeline.cmd("HGET").arg(key).arg("schedule");
                }
                let fields: Vec<Option<String>> =
                    pipeline.query_async(&mut connection).await.unwrap();
                for (key, field) in keys.iter().zip(fields) {
                    let field = field.unwrap_or_else(|| panic!("{key} is of no schedule"));
                    let (name, tick) = field.split_once(' ').unwrap();
                    let _: ScheduleName = name.parse().unwrap();
                    let ticks = found.entry(name.to_owned()).or_default();
                    *ticks.entry(tick.parse().unwrap()).or_default() += 1;
                }
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    found
}

/// Runs schedules of one second with several APIs of which one is killed each second. Each tick must have one job. Returns how
/// many there are.
async fn run(schedules: usize, processes: usize, time: Duration) -> usize {
    let mut stack = Stack::start();
    let first = stack.api_with(&ENVIRONMENT).await;
    let start = Timestamp::from_unix_ms(Timestamp::now().unix_ms() / 1000 * 1000 + 1000);
    let start = Timestamp::from_unix_ms(start.unix_ms() + u64::try_from(LEAD.as_millis()).unwrap());
    for number in 0..schedules {
        let schedule = json!({
            "task": "t", "every_ms": 1000, "overlap": "allow", "missed": "all", "missed_at_most": 1000,
            "start_at": start.to_string(),
        });
        let answer = put(&first, &format!("s{number}"), &schedule).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let mut others: Vec<Api> = Vec::new();
    for _ in 1..processes {
        others.push(stack.api_with(&ENVIRONMENT).await);
    }
    let end = Instant::now() + time;
    let mut next = 0;
    while Instant::now() < end {
        let before = newest_tick(&first, 0).await;
        eventually("another tick", async || (newest_tick(&first, 0).await > before).then_some(()))
            .await;
        others[next].process.kill().await;
        others[next] = stack.api_with(&ENVIRONMENT).await;
        next = (next + 1) % others.len();
    }
    let stopped = Timestamp::now();
    eventually("all ticks up to now are submitted", async || {
        for number in [0, schedules - 1] {
            if newest_tick(&first, number).await? < stopped {
                return None;
            }
        }
        Some(())
    })
    .await;
    for number in 0..schedules {
        let paused = first.post_empty(&format!("/schedules/s{number}/pause")).await;
        assert_eq!(paused.status, 200);
    }

    let found = ticks(&stack.redis).await;
    assert_eq!(found.len(), schedules);
    let mut jobs = 0;
    for (name, ticks) in found {
        let twice: Vec<_> = ticks.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{name}: ticks with two jobs: {twice:?}");
        let last = *ticks.keys().last().unwrap();
        let expected: Vec<_> = (start.unix_ms()..=last).step_by(1000).collect();
        let found: Vec<_> = ticks.keys().copied().collect();
        assert_eq!(found, expected, "{name}: ticks are missing");
        jobs += found.len();
    }
    stack.assert_clean_audit().await;
    jobs
}

#[tokio::test]
async fn no_tick_is_twice_or_missing_while_processes_are_killed() {
    assert!(run(30, 3, Duration::from_secs(10)).await > 100);
}

/// The long form: ten minutes, a thousand schedules, eight processes.
#[tokio::test]
#[ignore = "takes eleven minutes and both cores"]
async fn no_tick_is_twice_or_missing_in_ten_minutes() {
    let jobs = run(1000, 8, Duration::from_secs(600)).await;
    println!("{jobs} ticks: none twice, none missing");
}
