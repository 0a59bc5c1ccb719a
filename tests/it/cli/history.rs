//! What happened over time, and what jobs wait for.

use crunch_tests::{Stack, Stage, eventually};
use serde_json::json;

use super::Crunch;
use super::fake::{Fake, ok};

#[tokio::test]
async fn the_history_shows_rates_failures_and_durations_of_tasks() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker_process(2, &[]);
    let crunch = Crunch::of(&api);
    Stack::wait_for_task(&api, "square").await;
    for payload in [json!({ "n": 2 }), json!({ "n": 3 }), json!("no number")] {
        let id = api.submit_with("square", &payload, &json!({ "max_attempts": 1 })).await;
        crunch.run(&["wait", &id]).await;
    }
    // Its last counts are sent when it ends.
    worker.terminate().await;
    let rows = eventually("the attempts are counted", async || {
        let rows = crunch.prints(&["history", "--task", "square"]).await;
        rows.contains("square\tsquare\t2\t1\t0\t0\t").then_some(rows)
    })
    .await;
    let cells: Vec<_> = rows.trim_end().split('\t').collect();
    assert_eq!((cells.len(), cells[6]), (11, "0.1"), "{rows}");
    let ms: Vec<u64> = cells[7..10].iter().map(|cell| cell.parse().unwrap()).collect();
    assert!(ms[0] >= 1 && ms.is_sorted(), "{rows}");
    let counts: Vec<u64> = cells[10].split(',').map(|count| count.parse().unwrap()).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (60, 3));

    // The last hour in six parts of which the attempts are in the last one, or in two if ten minutes are over just now.
    let parts = crunch.prints(&["history", "--task", "square", "--parts", "6"]).await;
    let rows: Vec<Vec<_>> = parts.lines().map(|line| line.split('\t').collect()).collect();
    assert!(!rows.is_empty() && rows.len() <= 2 && rows.iter().all(|row| row.len() == 11));
    assert!(rows[0][2].ends_with(":00Z"), "{parts}");
    let by_hour = crunch.prints(&["history", "--over", "7d"]).await;
    assert!(by_hour.contains("square\tsquare\t2\t1\t"), "{by_hour}");
    assert_eq!(crunch.prints(&["history", "--over", "1h", "--until", "2d"]).await, "");
    for (code, arguments) in [
        (2, ["history", "--over", "30d"]),
        (2, ["history", "--over", "0s"]),
        (2, ["history", "--parts", "100"]),
        (3, ["history", "--queue", "no.such.queue"]),
    ] {
        assert_eq!(crunch.run(&arguments).await.code, code, "{arguments:?}");
    }
}

/// A sample is taken once a minute, whatever is in the queues by then: so these are made up.
#[tokio::test]
async fn the_history_shows_how_deep_queues_were() {
    let fake = Fake::start(|_| {
        let series = |queue: Option<&str>| {
            json!({ "queue": queue, "queued": [null, 5, 3], "delayed": [null, 0, 1],
                "running": [null, 0, 2], "failed": [null, 0, 0],
                "oldest_age_ms": [null, 9000, null] })
        };
        ok(&json!({ "step": "minute", "from": "2026-11-30T10:00:00Z", "to": "2026-11-30T10:03:00Z",
            "attempts": [], "queues": [series(Some("t")), series(None)] }))
    })
    .await;
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.url);
    let rows = crunch.prints(&["history", "--depth", "--over", "3m"]).await;
    assert_eq!(rows, "t\t3\t1\t2\t0\t9000\t,5,3\n\t3\t1\t2\t0\t9000\t,5,3\n");
    let head = fake.heads().remove(0);
    assert!(
        head.starts_with("GET /history?step=minute&from=2") && head.contains("&to=2"),
        "{head}"
    );
}

#[tokio::test]
async fn a_job_is_explained_by_its_queue_and_its_workers() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    let reasons = async |id: &str| {
        let reasons = crunch.run(&["why", id, "--json"]).await;
        assert_eq!((reasons.code, reasons.err.as_str()), (0, ""));
        let documents = reasons.documents();
        assert!(documents.iter().all(|it| it["id"] == id && it["detail"].is_string()));
        let reasons = documents.iter().map(|it| it["reason"].as_str().unwrap().to_owned());
        reasons.collect::<Vec<_>>()
    };
    let orphan = api.submit("act", &json!(null)).await;
    assert_eq!(reasons(&orphan).await, ["no_worker"]);
    let later = api.submit_with("act", &json!(null), &json!({ "delay_ms": 600_000 })).await;
    assert_eq!(reasons(&later).await, ["start_time", "no_worker"]);
    crunch.prints(&["cancel", &orphan]).await;
    assert_eq!(reasons(&orphan).await, ["ended"]);

    let _worker = stack.worker(&api, 1).await;
    let stage = Stage::open().await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    assert_eq!(reasons(&running).await, ["running"]);
    let waiting = api.submit("act", &stage.payload()).await;
    let printed = eventually("the slot is counted as busy", async || {
        let printed = crunch.prints(&["why", &waiting]).await;
        printed.contains("1 of 1 slots are busy; 1 job wait in act").then_some(printed)
    })
    .await;
    assert!(printed.starts_with(&format!("{waiting}\tothers\t")), "{printed}");
    crunch.prints(&["pause", "act"]).await;
    assert_eq!(reasons(&waiting).await, ["paused", "others"]);
    let several = crunch.run(&["why", "01a20c36-14f1-8000-8f8f-f34074aa25aa", &waiting]).await;
    assert_eq!((several.code, several.out.lines().count()), (3, 2), "{}", several.err);
    actor.returns(&json!(1)).await;
}
