use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::Task;
use crate::testing::{Attempt, Outcome, Report};

/// No batch of these tests waits for its time.
const LONG: Batch = Batch::of(3).linger(Batch::MAX_LINGER);

type Outputs = Result<Vec<Result<Value, TaskError>>, TaskError>;

/// A task whose jobs return how many are in their batch, or do what their payload says.
fn task(batch: Batch) -> Task {
    Task::batched("sized", batch, async |jobs: Vec<(JobContext, String)>| -> Outputs {
        let size = jobs.len();
        let says = |word: &str| jobs.iter().any(|(_, payload)| payload == word);
        match () {
            () if says("panic") => panic!("index out of bounds"),
            () if says("error") => return Err(TaskError::retryable("no connection")),
            () if says("fewer") => return Ok(vec![Ok(json!(1))]),
            () if says("wait") => tokio::time::sleep(Duration::from_millis(200)).await,
            () => {}
        }
        let outcome = |(_, payload): &(JobContext, String)| match payload.as_str() {
            "refused" => Err(TaskError::permanent("no")),
            _ => Ok(json!(size)),
        };
        Ok(jobs.iter().map(outcome).collect())
    })
}

async fn run(attempts: Vec<Attempt>) -> Vec<Report> {
    join_all(attempts.into_iter().map(async |attempt| attempt.run().await)).await
}

fn with(task: &Task, payloads: &[&str]) -> Vec<Attempt> {
    payloads.iter().map(|it| Attempt::of(task.clone()).payload(it)).collect()
}

/// The result of each, or its error.
fn outcomes(reports: &[Report]) -> Vec<String> {
    let outcome = |report: &Report| match report.error() {
        Some(error) => format!("{} {}: {}", error.code, error.retryable, error.message),
        None => report.json::<Value>().to_string(),
    };
    reports.iter().map(outcome).collect()
}

#[tokio::test]
async fn a_full_batch_is_one_call_and_each_job_has_its_outcome() {
    let reports = run(with(&task(LONG), &["a", "refused", "b"])).await;
    assert_eq!(outcomes(&reports), ["3", "task_failed false: no", "3"]);
    let six = run(with(&task(LONG), &["a"; 6])).await;
    assert_eq!(outcomes(&six), ["3"; 6]);
}

#[tokio::test]
async fn a_batch_starts_when_its_first_job_has_waited() {
    let batch = Batch::of(100).linger(Duration::from_millis(20));
    assert_eq!(outcomes(&run(with(&task(batch), &["a", "b"])).await), ["2", "2"]);
    assert_eq!(outcomes(&run(with(&task(batch.linger(Duration::ZERO)), &["a"])).await), ["1"]);
}

#[tokio::test]
async fn a_batch_has_no_more_jobs_than_there_are_slots() {
    let task = task(LONG);
    let mut registry = crate::registry::Registry::default();
    registry.add(task.clone()).unwrap();
    registry.bound_batches(2);
    assert_eq!(outcomes(&run(with(&task, &["a", "b"])).await), ["2", "2"]);
    registry.bound_batches(8);
    assert_eq!(outcomes(&run(with(&task, &["a", "b"])).await), ["2", "2"]);
}

#[tokio::test]
async fn what_fails_the_call_fails_all_of_its_jobs() {
    for (word, expected) in [
        ("panic", "handler_panicked true: index out of bounds"),
        ("error", "task_failed true: no connection"),
        ("fewer", "task_failed false: the handler returned 1 outcomes for a batch of 3 jobs"),
    ] {
        let reports = run(with(&task(LONG).max_attempts(1), &["a", word, "b"])).await;
        assert_eq!(outcomes(&reports), [expected; 3]);
    }
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_in_no_batch() {
    let task = task(LONG);
    let mut attempts = with(&task, &["a", "b", "c"]);
    attempts.insert(1, Attempt::of(task).payload(17));
    let reports = run(attempts).await;
    let code = reports[1].error().map(|error| error.code.to_string());
    assert_eq!(code.as_deref(), Some("payload_invalid"));
    assert_eq!(reports[3].json::<usize>(), 3);
}

#[tokio::test]
async fn a_job_that_is_canceled_leaves_a_batch_that_collects() {
    let task = task(LONG);
    let canceled = Attempt::of(task.clone()).payload("a").cancel_after(Duration::ZERO);
    assert_eq!(canceled.run().await.outcome, Outcome::Canceled);
    assert_eq!(outcomes(&run(with(&task, &["a", "b", "c"])).await), ["3", "3", "3"]);
}

#[tokio::test]
async fn a_job_that_is_canceled_in_a_call_ends_and_the_others_go_on() {
    let mut attempts = with(&task(LONG), &["wait", "b", "c"]);
    attempts[1] = attempts[1].clone().cancel_after(Duration::from_millis(20));
    let reports = run(attempts).await;
    assert_eq!(reports[1].outcome, Outcome::Canceled);
    assert_eq!((reports[0].json::<usize>(), reports[2].json::<usize>()), (3, 3));
}

#[tokio::test]
async fn a_call_that_ends_while_the_worker_shuts_down_counts() {
    let stop = |attempt: Attempt| attempt.shut_down_after(Duration::from_millis(20));
    let attempts = with(&task(LONG), &["wait", "b", "c"]).into_iter().map(stop).collect();
    assert_eq!(outcomes(&run(attempts).await), ["3", "3", "3"]);
    let report = stop(Attempt::of(task(LONG)).payload("a")).run().await;
    assert!(matches!(report.outcome, Outcome::Released(_)), "{report:?}");
}

#[tokio::test]
async fn groups_have_batches_of_their_own() {
    let task = task(LONG.by_group());
    let groups = ["acme", "globex", "acme", "globex", "globex", "acme"];
    let attempts = with(&task, &["a"; 6]).into_iter().zip(groups);
    let reports = run(attempts.map(|(attempt, group)| attempt.group(group)).collect()).await;
    assert_eq!(outcomes(&reports), ["3"; 6]);
}

#[tokio::test]
async fn a_call_may_have_a_thread_of_its_own() {
    let name = |jobs: Vec<(JobContext, u32)>| {
        let thread = std::thread::current().name().map(str::to_owned);
        Ok(jobs.iter().map(|_| Ok(thread.clone())).collect())
    };
    let task = Task::batched_blocking("named", Batch::of(2), name);
    let report = Attempt::of(task).payload(1).run().await;
    assert_eq!(report.json::<String>(), "crunch-task");
}
