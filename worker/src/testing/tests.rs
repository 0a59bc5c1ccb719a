use crunch_common::backoff::Backoff;
use crunch_common::broker::ReleaseCause;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::*;
use crate::TaskError;

/// A task that fails as its payload says, after the bound of its backoff at most.
fn failing() -> Task {
    let backoff = Backoff { base: Duration::from_secs(3), max: Duration::from_secs(4) };
    let fail = async |_job: JobContext, how: String| -> Result<Value, TaskError> {
        Err(match how.as_str() {
            "retryable" => TaskError::retryable("no answer"),
            "machine" => TaskError::machine("no device"),
            "panic" => panic!("index out of bounds"),
            how => TaskError::permanent(how),
        })
    };
    Task::new("failing", fail).max_attempts(2).backoff(backoff)
}

/// A task that waits until it is asked to stop, and then returns how often it was asked.
fn waiting() -> Task {
    Task::new("waiting", async |job: JobContext, finishes: bool| {
        job.cancellation().cancelled().await;
        if finishes { Ok("finished") } else { Err(TaskError::retryable("stopped")) }
    })
}

#[tokio::test]
async fn a_report_has_the_result_and_everything_that_was_reported() {
    let task = Task::blocking("report", |job: JobContext, input: Value| {
        for step in 0..3_u8 {
            job.progress(f64::from(step) / 2.0, format!("step {step}"));
        }
        job.log("one\ntwo");
        let owner = job.metadata().get("owner").map(str::to_owned);
        Ok(json!([input, job.attempt(), owner]))
    });
    let attempt = Attempt::of(task).payload(json!({"a": 1})).metadata("owner", "me").attempt(3);
    let report = attempt.run().await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    assert_eq!(report.json::<Value>(), json!([{"a": 1}, 3, "me"]));
    let progress: Vec<_> =
        report.progress.iter().map(|it| (it.fraction, it.message.as_str())).collect();
    assert_eq!(progress, [(0.0, "step 0"), (0.5, "step 1"), (1.0, "step 2")]);
    assert_eq!(report.log, ["one", "two"]);
}

#[tokio::test]
async fn failures_are_classified_as_by_a_worker() {
    let fails = |how: &str| Attempt::of(failing()).payload(how);
    let report = fails("retryable").run().await;
    let Outcome::Retried { error, delay } = &report.outcome else { panic!("{report:?}") };
    assert_eq!((error.message.as_str(), report.error()), ("no answer", Some(error)));
    assert!(*delay <= Duration::from_secs(4));

    let last = fails("retryable").attempt(2).run().await;
    assert!(matches!(last.outcome, Outcome::Failed(error) if error.retryable));
    let permanent = fails("wrong input").run().await;
    assert!(matches!(permanent.outcome, Outcome::Failed(error) if !error.retryable));
    let machine = fails("machine").run().await;
    let fault = ReleaseCause::Machine("no device".to_owned());
    assert_eq!(machine.outcome, Outcome::Released(fault));
    let panicked = fails("panic").run().await;
    let error = panicked.error().unwrap();
    assert_eq!((error.code.as_str(), &*error.message), ("handler_panicked", "index out of bounds"));
}

#[tokio::test]
async fn a_handler_is_stopped_for_the_reason_that_the_test_names() {
    let timed_out =
        Attempt::of(waiting().timeout(Duration::from_millis(20))).payload(true).run().await;
    assert_eq!(timed_out.error().unwrap().code.as_str(), "timeout");

    let soon = Duration::from_millis(20);
    let canceled = Attempt::of(waiting()).payload(true).cancel_after(soon).run().await;
    assert_eq!((canceled.outcome, canceled.result), (Outcome::Canceled, None));

    let finished = Attempt::of(waiting()).payload(true).shut_down_after(soon).run().await;
    assert_eq!(finished.json::<String>(), "finished");
    let released = Attempt::of(waiting()).payload(false).shut_down_after(soon).run().await;
    assert_eq!(released.outcome, Outcome::Released(ReleaseCause::Worker));
}

#[tokio::test]
async fn results_are_checked_and_limited() {
    let echo = || {
        let as_json = async |_job, payload: Payload| Ok(Payload::json(payload.bytes));
        Task::raw("echo", as_json).accepts(&["text/plain"])
    };
    let code = async |task: Task, text: &str| {
        let report = Attempt::of(task).raw_payload(text.to_owned(), "text/plain").run().await;
        report.error().map(|error| error.code.to_string())
    };
    assert_eq!(code(echo(), "[1]").await, None);
    let as_text = || Task::raw("text", async |_job, payload| Ok(payload)).accepts(&["text/plain"]);
    assert_eq!(code(as_text(), "[1").await, None);
    let with_schema = as_text().result_schema::<Vec<u8>>();
    assert_eq!(code(with_schema, "[1]").await.as_deref(), Some("result_invalid"));
    assert_eq!(code(echo(), "[1").await.as_deref(), Some("result_invalid"));
    assert_eq!(code(echo().max_result(2), "[1]").await.as_deref(), Some("result_too_large"));
    assert_eq!(code(echo().result_schema::<Vec<u8>>(), "[1]").await, None);
    let with_schema = echo().result_schema::<Vec<u8>>();
    assert_eq!(code(with_schema, "[-1]").await.as_deref(), Some("result_invalid"));
    let large = format!("\"{}\"", "a".repeat(DEFAULT_MAX_RESULT));
    let task = echo().max_payload(2 * large.len() as u64);
    assert_eq!(code(task, &large).await.as_deref(), Some("result_too_large"));
}

#[derive(serde::Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Text {
    text: String,
}

#[tokio::test]
async fn a_payload_that_the_api_would_reject_does_not_reach_the_handler() {
    let run = async |_job: JobContext, _: Value| -> Result<Value, TaskError> { panic!("it ran") };
    let task = Task::new("t", run).payload_schema::<Text>().max_payload(30);
    let attempt = Attempt::of(task);
    let cases = [
        (attempt.clone().payload(json!({"text": 7})), "/text: the value is not of type \"string\""),
        (attempt.clone().payload("x".repeat(30)), "the payload has more than 30 bytes"),
        (attempt.clone().raw_payload("{", "application/json"), "EOF while parsing"),
        (attempt.clone().raw_payload("", "application/json"), "the body is empty"),
        (attempt.raw_payload("text", "text/plain"), "t accepts application/json"),
    ];
    for (attempt, expected) in cases {
        let report = attempt.run().await;
        let Outcome::Rejected(reason) = &report.outcome else { panic!("{report:?}") };
        assert!(reason.starts_with(expected), "{reason}");
    }
}

#[tokio::test]
async fn an_attempt_that_runs_again_is_the_same_job_with_a_higher_epoch() {
    let task = Task::new("id", async |job: JobContext, ()| Ok((job.id(), job.epoch().number())));
    let attempt = Attempt::of(task.clone());
    let (id, epoch) = attempt.run().await.json::<(String, u64)>();
    let (id_again, later) = attempt.run().await.json::<(String, u64)>();
    assert_eq!(id, id_again);
    assert!(later > epoch);
    let (other, _) = Attempt::of(task).run().await.json::<(String, u64)>();
    assert_ne!(id, other);
}

#[tokio::test]
async fn a_report_keeps_the_newest_lines_as_a_log_does() {
    let task = Task::new("log", async |job: JobContext, lines: u32| {
        (0..lines).for_each(|line| job.log(line.to_string()));
        Ok(())
    });
    let report = Attempt::of(task).payload(300).run().await;
    assert_eq!((report.log.len(), &*report.log[0], &*report.log[255]), (256, "44", "299"));
}
