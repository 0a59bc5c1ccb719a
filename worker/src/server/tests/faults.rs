//! Children that break: which code their jobs get, and what happens to others.

use super::*;

/// The job fails with this code; afterwards the pool runs jobs again.
async fn fails(fault: &[&str], code: &str, message: &str) {
    let server = Server::with(fault).await;
    let report = server.run("a", json!(1)).await;
    assert_ne!(report.outcome, Outcome::Succeeded, "{fault:?}");
    let error = error_of(report);
    assert_eq!(error.code.as_str(), code, "{fault:?}: {error:?}");
    assert!(error.retryable, "{fault:?}");
    assert!(error.message.contains(message), "{fault:?}: {error:?}");
    server.ready(1).await;
    let after = server.run("b", json!(1)).await;
    assert_eq!(after.outcome, Outcome::Succeeded, "{fault:?}");
    server.end().await;
}

#[tokio::test]
async fn a_child_that_dies_fails_its_job_with_how_it_died() {
    let cases = [
        ("os_exit", "the child exited with code 7; the end of its standard error"),
        ("exits_with_zero", "the child exited with code 0"),
        ("segfault", "signal 11 (SEGV)"),
        ("kills_itself", "signal 9 (KILL)"),
        ("out_of_memory", "MemoryError"),
        ("half_frame", "in the middle of a message"),
        ("half_line", "in the middle of a message, which begins"),
        ("closes_pipe", "it closed its pipe"),
        ("forks_and_holds", "the child exited with code 0"),
    ];
    for (fault, message) in cases {
        fails(&[fault], "child_died", message).await;
    }
}

#[tokio::test]
async fn what_is_no_message_fails_the_child_with_its_first_bytes() {
    let cases = [
        ("nul_bytes", "\\0"),
        ("line_too_long", "more than 65536 bytes"),
        ("endless_line", "more than 65536 bytes"),
        ("not_object", "not a JSON object; it begins \"["),
        ("not_utf8", "not UTF-8"),
        ("no_type", "missing field `type`"),
        ("empty_line", "an empty line"),
        ("body_negative", "invalid value"),
        ("body_text", "invalid type"),
        ("hello_again", "a second hello"),
        ("error_bad_code", "1 to 64 characters"),
        ("failed_without_error", "missing field `error`"),
    ];
    for (fault, message) in cases {
        fails(&[fault], "protocol", message).await;
    }
}

#[tokio::test]
async fn what_follows_a_body_that_was_too_long_is_no_message() {
    let server = Server::with(&["wrong_length"]).await;
    assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
    let error = server.failure("a").await;
    assert_eq!(error.code.as_str(), "protocol", "{error:?}");
    server.end().await;
}

#[tokio::test]
async fn only_the_jobs_of_the_child_that_dies_are_affected() {
    let spec = ServerSpec { processes: 2, ..spec(&["os_exit"]) };
    let server = Server::of(spec).await;
    server.ready(2).await;
    // The one that waits is in the first child, the one that dies in the second.
    let waiting = server.attempt("d").cancel_after(Duration::from_secs(2));
    let (waiting, failed) = tokio::join!(waiting.run(), server.failure("a"));
    assert_eq!(waiting.outcome, Outcome::Canceled);
    assert_eq!(failed.code.as_str(), "child_died");
    server.end().await;
}

#[tokio::test]
async fn all_jobs_of_a_child_that_dies_fail_together() {
    let spec = ServerSpec { concurrency: Some(4), ..spec(&["os_exit"]) };
    let server = Server::of(spec).await;
    let waiting = || async { error_of(server.attempt("d").run().await) };
    let wait = futures_util::future::join_all([waiting(), waiting(), waiting()]);
    let (waited, failed) = in_time("all end", async {
        tokio::join!(wait, async {
            wait_until("three wait", || server.pool().load() == 3).await;
            server.failure("a").await
        })
    })
    .await;
    for error in waited.iter().chain([&failed]) {
        assert_eq!(error.code.as_str(), "child_died");
    }
    server.end().await;
}

#[tokio::test]
async fn a_child_that_eats_memory_is_killed_for_it() {
    let spec = ServerSpec { max_memory: Some(150 << 20), ..spec(&["eats_memory"]) };
    let server = Server::of(spec).await;
    let error = server.failure("a").await;
    assert_eq!(error.code.as_str(), "out_of_memory", "{error:?}");
    assert!(error.message.contains("twice its max_memory"), "{error:?}");
    server.end().await;
}

#[tokio::test]
async fn a_kill_for_lack_of_memory_is_distinguished_from_other_kills() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("memory.events");
    let spec = |fault: &[&str]| {
        std::fs::write(&counter, "oom_kill 0\n").unwrap();
        ServerSpec { oom_counter: counter.clone().into(), ..spec(fault) }
    };
    let kills_itself = ["kills_itself", counter.to_str().unwrap()];
    for (fault, code, message) in [
        (&kills_itself[..], "out_of_memory", "the system killed the child: out of memory"),
        (&kills_itself[..1], "child_died", "signal 9 (KILL)"),
    ] {
        let server = Server::of(spec(fault)).await;
        let error = server.failure("a").await;
        assert_eq!((error.code.as_str(), error.retryable), (code, true), "{error:?}");
        assert!(error.message.contains(message), "{error:?}");
        server.end().await;
    }
    // The kernel has killed another process: this child has ended by itself.
    let server = Server::of(spec(&["os_exit"])).await;
    let (error, ()) = tokio::join!(server.failure("a"), async {
        std::fs::write(&counter, "oom_kill 1\n").unwrap();
    });
    assert_eq!(error.code.as_str(), "child_died", "{error:?}");
    server.end().await;
}

#[tokio::test]
async fn what_a_job_leaves_running_ends_with_its_child() {
    let server = Server::with(&["leaks_background"]).await;
    let process = server.run("a", json!(1)).await.json::<u32>();
    let exists = || Path::new(&format!("/proc/{process}")).exists();
    assert!(exists());
    server.end().await;
    wait_until("the process has ended", || !exists()).await;
}
