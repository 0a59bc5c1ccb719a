//! What a correct child gets, and what becomes of its answers.

use futures_util::{StreamExt, stream};

use super::*;

#[tokio::test]
async fn payloads_come_back_as_they_were() {
    let server = Server::with(&["none"]).await;
    let types = "application/octet-stream";
    for size in [0, 1, 255, 100_000, MAX_RESULT] {
        let payload: Vec<u8> = (0..=255).cycle().take(size).collect();
        let attempt = server.attempt("a").raw_payload(payload.clone(), types);
        let result = in_time("it ends", attempt.run()).await.result.unwrap();
        assert_eq!((&result.bytes[..], result.content_type.as_str()), (&payload[..], types));
    }
    for payload in [json!(null), json!({ "text": "x\n\"\u{1f600}" }), json!("x".repeat(200_000))] {
        let report = server.run("a", payload.clone()).await;
        assert_eq!((report.outcome.clone(), report.json::<Value>()), (Outcome::Succeeded, payload));
    }
    server.end().await;
}

#[tokio::test]
async fn failures_progress_and_prints_reach_the_job() {
    let server = Server::with(&["none"]).await;
    let failed = server.run("c", json!(1)).await;
    let Outcome::Failed(error) = failed.outcome else { panic!("{failed:?}") };
    assert_eq!((error.code.as_str(), error.retryable), ("on_purpose", false));

    let printed = server.run("e", json!("a line\nand another")).await;
    assert_eq!(printed.outcome, Outcome::Succeeded);
    assert_eq!(printed.log, [r#""a line\nand another""#]);
    server.end().await;
}

#[tokio::test]
async fn many_jobs_run_in_few_children_and_several_at_once_in_one() {
    for (processes, concurrency) in [(3, None), (1, Some(8))] {
        let server = Server::of(ServerSpec { processes, concurrency, ..spec(&["none"]) }).await;
        server.ready(processes).await;
        let jobs = (0..100).map(|number| {
            let attempt = server.attempt("a").payload(number);
            async move { (number, attempt.run().await) }
        });
        // As many as a worker claims.
        let at_once = processes * concurrency.unwrap_or(1) as usize;
        let jobs = stream::iter(jobs).buffered(at_once);
        let all: Vec<_> = in_time("all end", jobs.collect()).await;
        for (number, report) in all {
            assert_eq!(report.json::<i32>(), number);
        }
        server.end().await;
    }
}

#[tokio::test]
async fn answers_to_nothing_are_ignored_and_the_right_one_counts() {
    for fault in
        ["two_answers", "answer_old_epoch", "answer_unknown_job", "unknown_type", "deep_json"]
    {
        let server = Server::with(&[fault]).await;
        for number in 0..3 {
            let report = server.run("a", json!(number)).await;
            assert_eq!(report.outcome, Outcome::Succeeded, "{fault}");
            assert_eq!(report.json::<i32>(), number, "{fault}");
        }
        assert_eq!(server.pool().info().problem, None, "{fault}");
        server.end().await;
    }
}

#[tokio::test]
async fn a_second_answer_ends_no_other_job_of_the_child() {
    let server = Server::of(ServerSpec { concurrency: Some(8), ..spec(&["two_answers"]) }).await;
    let jobs = (0..100).map(|number| {
        let attempt = server.attempt("a").payload(number);
        async move { (number, attempt.run().await) }
    });
    let jobs = stream::iter(jobs).buffered(8);
    let all: Vec<_> = in_time("all end", jobs.collect()).await;
    for (number, report) in all {
        assert_eq!(report.json::<i32>(), number);
    }
    server.end().await;
}

#[tokio::test]
async fn an_answer_counts_though_its_child_exits_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $PPID > $folder/launcher";
    let mut spec = prepared_by(script, folder.path(), "exits_after_answer");
    // Without a directory, in which results may be left, a launcher ends with its child.
    spec.command.environment.push(("TMPDIR".into(), folder.path().join("missing").into()));
    let server = Server::of(spec).await;
    // The worker finds the answer and the end at the same moment. It looks at a random one first, rarely at the end.
    for number in 1..=30 {
        wait_until("the next child is ready", || server.pool().numbers() == [number]).await;
        let launcher = std::fs::read_to_string(folder.path().join("launcher")).unwrap();
        let (report, ()) = tokio::join!(server.run("a", json!(number)), async {
            while server.pool().load() == 0 {
                tokio::task::yield_now().await;
            }
            block_until_ended(launcher.trim());
        });
        assert_eq!(report.json::<u64>(), number);
    }
    server.end().await;
}

/// Waits until a process that nothing waits for has ended. Meanwhile the runtime does nothing.
fn block_until_ended(process: &str) {
    let start = Instant::now();
    let is_zombie = |stat: String| stat.rsplit(") ").next().is_some_and(|it| it.starts_with('Z'));
    while !std::fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, is_zombie) {
        assert!(start.elapsed() < DEADLINE, "in time: the launcher ends");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn files_of_payloads_and_results_are_deleted_once_they_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(&["takes_files"]);
    spec.command.environment.push(("TMPDIR".into(), folder.path().into()));
    let server = Server::of(spec).await;
    let payload = vec![b'x'; 2 * MAX_RESULT];
    let attempt = server.attempt("a").raw_payload(payload, "text/plain");
    let report = in_time("it ends", attempt.run()).await;
    assert_eq!(report.json::<usize>(), 2 * MAX_RESULT);
    let directories = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let files = directories.flat_map(|path| std::fs::read_dir(path).unwrap());
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    assert!(files.is_empty(), "{files:?}");
    server.end().await;
}

#[tokio::test]
async fn invalid_results_fail_their_job_and_no_other() {
    let cases = [
        ("result_too_large", "result_too_large", "more than 1048576 bytes"),
        ("result_not_json", "result_invalid", "not JSON"),
        ("done_by_file_outside", "result_invalid", "not in the directory that CRUNCH_DIR names"),
        ("done_by_file_dotdot", "result_invalid", "not in the directory that CRUNCH_DIR names"),
        ("done_by_symlink", "result_invalid", "cannot be read"),
        ("done_by_file_missing", "result_invalid", "No such file"),
        ("done_by_fifo", "result_invalid", "not a regular file"),
        ("done_by_directory", "result_invalid", "not a regular file"),
        ("done_by_large_file", "result_too_large", "more than 1048576 bytes"),
    ];
    for (fault, code, message) in cases {
        let server = Server::with(&[fault]).await;
        let error = server.failure("a").await;
        assert_eq!((error.code.as_str(), error.retryable), (code, false), "{fault}: {error:?}");
        assert!(error.message.contains(message), "{fault}: {error:?}");
        assert_eq!(server.run("b", json!(1)).await.outcome, Outcome::Succeeded, "{fault}");
        assert_eq!(server.pool().info().problem, None, "{fault}");
        server.end().await;
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_cut() {
    let server = Server::with(&["error_too_long"]).await;
    let error = server.failure("a").await;
    assert_eq!((error.code.as_str(), error.retryable), ("task_failed", true));
    assert_eq!(error.message.len(), 4096);
    assert!(error.message.chars().all(|it| it == '\u{1f600}'), "{}", error.message);
    server.end().await;
}

#[tokio::test]
async fn progress_out_of_range_is_a_line_of_the_log() {
    let server = Server::with(&["progress_out_of_range"]).await;
    let report = server.run("a", json!(1)).await;
    assert_eq!((report.outcome, report.progress.len()), (Outcome::Succeeded, 0));
    let lines = ["progress must be from 0 to 1: 7.5", "progress must be from 0 to 1: -1"];
    assert_eq!(report.log, lines);
    server.end().await;
}

#[tokio::test]
async fn a_file_wins_over_a_body() {
    let server = Server::with(&["done_by_file_and_body"]).await;
    assert_eq!(server.run("a", json!(1)).await.json::<String>(), "file");
    server.end().await;
}

#[test]
fn a_shell_finds_the_members_of_a_job_before_what_clients_fill() {
    let line = message::ToChild::Job(message::JobMessage {
        id: crunch_common::job::JobId::generate(crunch_common::job::Partition::default()),
        epoch: 1,
        task: "a",
        attempt: 1,
        max_attempts: 3,
        deadline_ms: 5,
        body: Some(2),
        file: None,
        content_type: "application/json",
        trace: Some(message::Trace { traceparent: "00-1-2-01", tracestate: None }),
        metadata: &crunch_common::job::Metadata::default(),
    })
    .line();
    let line = String::from_utf8(line.to_vec()).unwrap();
    assert!(line.starts_with(r#"{"type":"job","id":"#), "{line}");
    assert!(
        line.ends_with("\"trace\":{\"traceparent\":\"00-1-2-01\"},\"metadata\":{}}\n"),
        "{line}"
    );
}
