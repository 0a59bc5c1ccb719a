//! Children that write without an end: what the worker and the API keep of it.

use super::*;

/// What a worker may need for what a full pipe holds, several times.
const ROOM_BYTES: u64 = 8 << 20;

#[tokio::test]
async fn what_a_child_floods_takes_no_memory_and_few_lines() {
    // Each would take more than twice the room if it was kept.
    let floods = [
        ("flood_stdout", "20000000"),
        ("flood_stdout_no_newline", "20000000"),
        ("flood_progress", "150000"),
        ("flood_log", "150000"),
        ("flood_ping", "200000"),
    ];
    for (fault, argument) in floods {
        let (_stack, api, worker) = start(&[fault, argument], "processes = 2").await;
        Stack::wait_for_task(&api, "a").await;
        let before = api.submit("b", &json!(1)).await;
        api.wait_for_status(&before, "succeeded").await;
        let peak = worker.peak_memory();
        let id = api.submit("a", &json!(1)).await;
        let neighbour = api.submit("b", &json!(2)).await;
        api.wait_for_status(&neighbour, "succeeded").await;
        api.wait_for_status(&id, "succeeded").await;
        let grown = worker.peak_memory() - peak;
        assert!(grown < ROOM_BYTES, "{fault}: {grown} bytes");
        let log = api.get(&format!("/jobs/{id}/logs")).await.json();
        let lines = log["items"].as_array().unwrap().len();
        assert!(lines <= 256, "{fault}: {lines} lines");
        assert_eq!(lines > 0, ["flood_stdout", "flood_log"].contains(&fault), "{fault}: {lines}");
    }
}

#[tokio::test]
async fn answers_that_count_for_nothing_are_counted() {
    for (fault, ignored) in [("two_answers", 1.0), ("answer_old_epoch", 1.0), ("none", 0.0)] {
        let (_stack, api, mut worker) = start(&[fault], "processes = 1").await;
        let health = HealthPort::of(&mut worker).await;
        Stack::wait_for_task(&api, "a").await;
        for jobs in 1..=3 {
            let id = api.submit("a", &json!(jobs)).await;
            assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], jobs);
            eventually("its further answer is counted", async || {
                let count = health.metric("crunch_worker_ignored_answers_total").await;
                (count.unwrap_or(0.0) == f64::from(jobs) * ignored).then_some(())
            })
            .await;
        }
    }
}
