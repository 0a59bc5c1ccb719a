//! How late the jobs of schedules are submitted: from a tick to the creation of its job, by the clocks of one machine. Not of
//! the first ticks: an API looks once a second for schedules that are new.

use std::time::Duration;

use crunch_common::time::Timestamp;
use crunch_tests::Api;

use serde_json::{Value, json};

use crate::metrics::{Samples, Unit};
use crate::session::Session;
use crate::testbed::{SHIPPED, TASK, Testbed};

/// Size of the measurement.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Schedules, each with a tick every second.
    #[arg(long, default_value_t = 100)]
    schedules: usize,
    /// How long they are observed, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Longer than a schedule is new to an API.
const NEW: Duration = Duration::from_secs(2);

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let Arguments { schedules, seconds } = *arguments;
    let mut testbed = Testbed::start(SHIPPED).await;
    let api = testbed.start_api().await;
    for number in 0..schedules {
        let schedule =
            json!({ "task": TASK, "every_ms": 1000, "overlap": "allow", "missed": "all" });
        let request = api.request("PUT".parse().unwrap(), &format!("/schedules/s{number}"));
        let answer = api.send(request.json(&schedule)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    tokio::time::sleep(NEW).await;
    let from = Timestamp::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let late = Samples::new(lateness(&api, from).await);
    for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
        session.record(&format!("schedules: late, {name}"), late.ms(share), Unit::Milliseconds);
    }
}

/// How late the job of each tick from that time on was submitted.
async fn lateness(api: &Api, from: Timestamp) -> Vec<Duration> {
    let (mut late, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/jobs?queue={TASK}&limit=100{cursor}")).await.json();
        let jobs = page["items"].as_array().unwrap().iter();
        late.extend(jobs.map(tick_and_time).filter(|(tick, _)| *tick >= from).map(late_by));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return late,
        }
    }
}

/// The tick of a job, and when the job was created.
fn tick_and_time(job: &Value) -> (Timestamp, Timestamp) {
    let time = |time: &Value| time.as_str().unwrap().parse().unwrap();
    (time(&job["schedule"]["tick"]), time(&job["created_at"]))
}

fn late_by((tick, created_at): (Timestamp, Timestamp)) -> Duration {
    Duration::from_millis(created_at.unix_ms().saturating_sub(tick.unix_ms()))
}
