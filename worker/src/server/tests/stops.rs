//! Jobs that are canceled or run out of time, in children that do as they are told, and in others.

use super::*;

/// Long enough for the job to begin; the tests do not depend on it.
const SOON: Duration = Duration::from_millis(300);

async fn canceled(server: &Server, task: &str) {
    let report = in_time("it ends", server.attempt(task).cancel_after(SOON).run()).await;
    assert_eq!(report.outcome, Outcome::Canceled);
}

#[tokio::test]
async fn a_job_that_is_canceled_ends_and_its_child_goes_on() {
    let server = Server::with(&["none"]).await;
    canceled(&server, "d").await;
    assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
    assert_eq!(server.pool().numbers(), [1]);
    server.end().await;
}

#[tokio::test]
async fn a_child_with_one_job_that_does_not_end_it_is_ended() {
    for fault in
        ["ignores_cancel", "answers_at_term", "ignores_term", "loops_in_c", "ignores_everything"]
    {
        let server = Server::with(&[fault]).await;
        let task = if fault == "loops_in_c" { "a" } else { "d" };
        canceled(&server, task).await;
        server.ready(1).await;
        let after = server.run("b", json!(1)).await;
        assert_eq!(after.outcome, Outcome::Succeeded, "{fault}");
        assert_eq!(server.pool().numbers(), [2], "{fault}");
        server.end().await;
    }
}

#[tokio::test]
async fn a_job_that_runs_out_of_its_time_is_retried_and_its_child_is_replaced() {
    let times_out = async |fault: &str| {
        let server = Server::with(&[fault]).await;
        let task = server.task("a").timeout(Duration::from_secs(1));
        let report = in_time("it ends", Attempt::of(task).payload(1).run()).await;
        let error = error_of(report);
        assert_eq!((error.code.as_str(), error.retryable), ("timeout", true), "{fault}: {error:?}");
        server.ready(1).await;
        assert_eq!(server.pool().numbers(), [2], "{fault}");
        let after = server.run("b", json!(1)).await;
        assert_eq!(after.outcome, Outcome::Succeeded, "{fault}");
        server.end().await;
    };
    // Each takes as long as the child may take to stop.
    tokio::join!(times_out("loops_in_c"), times_out("half_frame_stays"), times_out("body_huge"));
}

#[tokio::test]
async fn a_child_may_clean_up_before_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let cleaned = folder.path().join("cleaned");
    let trap = format!("trap 'touch {}' TERM", cleaned.display());
    let mut spec = spec(&[]);
    spec.command.program = "sh".into();
    let script = format!("{trap}; python3 wrong.py ignores_cancel & wait");
    spec.command.arguments = ["-c".into(), script.into()].to_vec();
    let server = Server::of(spec).await;
    canceled(&server, "d").await;
    assert!(cleaned.exists());
    server.end().await;
}

#[tokio::test]
async fn a_job_of_many_that_does_not_end_is_given_up_and_its_child_replaced() {
    let spec = ServerSpec { concurrency: Some(8), ..spec(&["ignores_cancel"]) };
    let server = Server::of(spec).await;
    let other = server.attempt("d").cancel_after(Duration::from_secs(7));
    let (given_up, other) = tokio::join!(canceled(&server, "d"), other.run());
    let () = given_up;
    assert_eq!(other.outcome, Outcome::Canceled);
    wait_until("the child was replaced", || server.pool().numbers() == [2]).await;
    assert_eq!(server.pool().load(), 0);
    assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
    server.end().await;
}

#[tokio::test]
async fn an_answer_that_comes_late_still_frees_the_child() {
    let server = Server::with(&["answers_cancel_late", "1"]).await;
    canceled(&server, "d").await;
    assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
    assert_eq!(server.pool().numbers(), [1]);
    server.end().await;
}

#[tokio::test]
async fn a_child_that_never_reads_is_ended_when_its_job_must_stop() {
    let server = Server::with(&["never_reads"]).await;
    let large = server.attempt("a").payload("x".repeat(200_000)).cancel_after(SOON);
    let report = in_time("it ends", large.run()).await;
    assert_eq!(report.outcome, Outcome::Canceled);
    server.ready(1).await;
    server.end().await;
}

#[tokio::test]
async fn a_job_that_finishes_while_the_worker_shuts_down_counts() {
    let server = Server::with(&["slow_reader"]).await;
    let slow = server.attempt("a").payload("x".repeat(100_000)).shut_down_after(SOON);
    let report = in_time("it ends", slow.run()).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    server.end().await;
}
