//! Input, output, and the result of each way to end.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn failed(message: &str) -> JobError {
    JobError::retryable(ErrorCode::command_failed(), message)
}

#[tokio::test]
async fn the_payload_goes_in_and_the_result_comes_out() {
    assert_eq!(Fixture::of(["cat"]).run(r#"{"words":[1,2]}"#).await.unwrap(), r#"{"words":[1,2]}"#);
    let text = Fixture::of(["tr", "a-z", "A-Z"]).text();
    assert_eq!(text.run(" plain text\n\n").await.unwrap(), " PLAIN TEXT\n\n");
}

#[tokio::test]
async fn a_json_result_is_one_value_and_nothing_is_null() {
    for (script, result) in
        [("echo 3", "3"), ("printf ' [1]\\r\\n'", "[1]"), ("true", "null"), ("echo", "null")]
    {
        assert_eq!(Fixture::sh(script).run("").await.unwrap(), result, "{script}");
    }
    for script in ["echo 1 2", "echo NaN", "echo done", "echo '{'", "printf '\"\\377\"'"] {
        let error = Fixture::sh(script).run("").await.unwrap_err();
        assert_eq!((error.code, error.retryable), (ErrorCode::result_invalid(), false), "{script}");
        assert!(
            error.message.starts_with("standard output is not one JSON value: "),
            "{}",
            error.message
        );
    }
    let error = Fixture::sh("echo hello; echo 3").run("").await.unwrap_err();
    assert!(error.message.contains(r#"it begins "hello\n3\n""#), "{}", error.message);
    assert!(error.message.ends_with("to standard error"), "{}", error.message);
    assert_eq!(Fixture::sh("true").text().run("").await.unwrap(), "");
}

#[tokio::test]
async fn the_environment_describes_the_job_and_holds_nothing_else() {
    let mut fixture = Fixture::of(["env"]).text();
    let mut more = vec![("GREETING".into(), "good day".into())];
    fixture.handler.command.environment.append(&mut more);
    let environment = fixture.run("").await.unwrap();
    let mut lines: Vec<_> = environment.lines().filter(|line| !line.starts_with("PATH=")).collect();
    lines.sort_unstable();
    let id = format!("CRUNCH_JOB_ID={}", fixture.job.id());
    let expected = [
        "CRUNCH_ATTEMPT=2",
        "CRUNCH_CONTENT_TYPE=application/json",
        "CRUNCH_DEADLINE_MS=1795354854426",
        "CRUNCH_EPOCH=7001",
        "CRUNCH_EVENTS_FD=3",
        &id,
        "CRUNCH_METADATA={\"colour\":\"gr\u{fc}n\"}",
        "CRUNCH_TASK=word.count",
        "GREETING=good day",
    ];
    assert_eq!(lines, expected);
}

/// An earlier version accepted labels whose JSON is longer than a variable may be. Jobs with labels that Linux accepts
/// still run.
#[tokio::test]
async fn labels_of_an_earlier_version_that_no_command_can_get_fail_the_job_at_once() {
    let labels = |bytes: usize| {
        let labels: Vec<_> =
            (0..bytes / 4096).map(|at| format!("\"k{at}\":\"{}\"", "x".repeat(4080))).collect();
        serde_json::from_str::<Metadata>(&format!("{{{}}}", labels.join(","))).unwrap()
    };
    let mut fixture = Fixture::sh("printf 1");
    fixture.job = job_with(ContentType::json(), labels(120 * 1024));
    assert_eq!(fixture.run("").await.unwrap(), "1");
    fixture.job = job_with(ContentType::json(), labels(196 * 1024));
    let error = fixture.run("").await.unwrap_err();
    assert_eq!((error.code, error.retryable), (ErrorCode::command_failed(), false));
    assert!(error.message.ends_with("submit it again with shorter labels"), "{}", error.message);
}

#[tokio::test]
async fn a_command_gets_its_four_pipes_and_no_descriptor_of_the_worker() {
    // The duplicate is not closed on exec, like a lock that a script passes to the worker it starts.
    let inherited = rustix::io::dup(std::fs::File::open("/dev/null").unwrap()).unwrap();
    let open = Fixture::of(["ls", "/proc/self/fd"]).text().run("").await.unwrap();
    drop(inherited);
    // 4 is the directory being listed.
    assert_eq!(open, "0\n1\n2\n3\n4\n");
}

#[tokio::test]
async fn the_launcher_has_an_empty_environment_but_for_its_mark() {
    let command = launcher::command_line();
    let set: Vec<_> = command.as_std().get_envs().filter_map(|(name, _)| name.to_str()).collect();
    assert!(
        set.iter().all(|name| ["CRUNCH_LAUNCHER", "LD_LIBRARY_PATH"].contains(name)),
        "{set:?}"
    );
    let read = "tr '\\0' '\\n' < /proc/$PPID/environ | grep -v LD_LIBRARY_PATH= ; true";
    let environment = Fixture::sh(read).text().run("").await.unwrap();
    // Root can read it; other users get nothing at all.
    assert!(["CRUNCH_LAUNCHER=1\n", ""].contains(&&*environment), "{environment}");
}

#[tokio::test]
async fn words_arrive_as_they_are_written() {
    let fixture = Fixture::of(["printf", "[%s]", "two words", "$HOME", "*", "\"", ""]).text();
    assert_eq!(fixture.run("").await.unwrap(), "[two words][$HOME][*][\"][]");
    let fixture = Fixture::of(["pwd", "-P"]).text();
    let folder = fixture.folder.path().canonicalize().unwrap();
    assert_eq!(fixture.run("").await.unwrap().trim_end(), folder.to_str().unwrap());
}

#[tokio::test]
async fn the_exit_code_says_whether_another_attempt_is_worth_it() {
    let error = Fixture::sh("echo working >&2; echo; echo disk full >&2; exit 7").run("").await;
    let message =
        "the command exited with code 7; the end of its standard error:\nworking\ndisk full";
    assert_eq!(error, Err(failed(message)));
    let silent = "the command exited with code 1 and wrote nothing to standard error";
    assert_eq!(Fixture::sh("exit 1").run("").await, Err(failed(silent)));
    let error = Fixture::sh("echo bad input >&2; exit 65").run("").await.unwrap_err();
    assert_eq!((error.code, error.retryable), (ErrorCode::command_failed(), false));
    assert!(error.message.ends_with("\nbad input"), "{}", error.message);
}

#[tokio::test]
async fn a_signal_that_was_not_ours_is_reported() {
    let error = Fixture::sh("echo last words >&2; kill -SEGV $$").run("").await.unwrap_err();
    assert_eq!((error.code, error.retryable), (ErrorCode::command_killed(), true));
    assert_eq!(
        error.message,
        "the command was killed by signal 11 (SEGV); the end of its standard error:\nlast words"
    );
}

#[tokio::test]
async fn an_error_event_explains_the_exit_that_follows() {
    let error = |event: &str, code: i32| {
        Fixture::sh(&format!("echo '{event}' >&3; echo noise >&2; exit {code}"))
    };
    let command = error(
        r#"{"error":{"code":"no_licence","message":"all seats taken","retryable":false}}"#,
        1,
    );
    let no_licence = JobError::permanent("no_licence".parse().unwrap(), "all seats taken");
    assert_eq!(command.run("").await, Err(no_licence));
    // The exit code decides what the event leaves out.
    let failure = error(r#"{"error":{"code":"bad_header"}}"#, 65).run("").await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("bad_header", false));
    assert!(failure.message.ends_with("\nnoise"), "{}", failure.message);
    let failure = error(r#"{"error":{"message":"busy","retryable":true}}"#, 65).run("").await;
    assert_eq!(failure, Err(failed("busy")));
    // An error event without a failure is ignored.
    assert_eq!(error(r#"{"error":{"message":"almost"}}"#, 0).run("").await.unwrap(), "null");
}

#[tokio::test]
async fn progress_and_log_are_reported_while_the_command_runs() {
    let fixture = Fixture::sh(
        r#"echo '{"progress":0.25,"message":"a quarter"}' >&"$CRUNCH_EVENTS_FD"
           echo started >&2; echo $$ > began; cat go 2> /dev/null || read -r line < fifo"#,
    );
    let fifo = fixture.folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let running = fixture.start();
    fixture.pid_in("began").await;
    let key = crunch_common::broker::LeaseKey { id: fixture.job.id(), epoch: fixture.job.epoch() };
    let (mut progress, mut log) = (None, Vec::new());
    wait_until(|| {
        let report = fixture.job.unconfirmed(key)?;
        (progress, log) = (report.progress, report.log);
        (progress.is_some() && !log.is_empty()).then_some(())
    })
    .await;
    let (_, progress) = progress.unwrap();
    assert_eq!((progress.fraction, progress.message.as_str()), (0.25, "a quarter"));
    assert_eq!(log, ["started"]);
    std::fs::write(fifo, "go\n").unwrap();
    assert_eq!(as_text(running.await.unwrap()).unwrap(), "null");
}

#[tokio::test]
async fn lines_that_are_no_events_are_logged_and_long_ones_cut() {
    let fixture = Fixture::python(
        "import os, sys\n\
         os.write(3, b'{\"progress\":55}\\nhello\\n' + b'x' * 100000 + b'\\nunfinished')\n\
         sys.stderr.write('y' * 100000 + '\\n\\n\\tend')",
    );
    assert_eq!(fixture.run("").await.unwrap(), "null");
    let log = fixture.log();
    let has = |start: &str| log.iter().any(|line| line.starts_with(start));
    assert!(has("not an event (progress must be from 0 to 1): {\"progress\":55}"), "{log:?}");
    assert!(has("not an event (not a JSON object): hello"));
    assert!(has("not an event (not a JSON object): xxx"));
    assert!(has("not an event (not a JSON object): unfinished"));
    assert!(has("yyy") && has(" end"));
    assert!(log.iter().all(|line| line.len() <= 1024));
}

#[tokio::test]
async fn megabytes_go_both_ways_at_once() {
    let fixture = Fixture::python(
        "import sys\n\
         sys.stdout.write('\"' + 'a' * 1000000)\n\
         sys.stderr.write('line\\n' * 200000)\n\
         sys.stdout.flush()\n\
         size = len(sys.stdin.buffer.read())\n\
         sys.stdout.write(str(size) + '\"')",
    );
    let result = fixture.run(vec![b'p'; 8 * 1024 * 1024]).await.unwrap();
    assert_eq!((result.len(), &result[1_000_001..]), (1_000_009, "8388608\""));
}

#[tokio::test]
async fn a_command_need_not_read_its_payload() {
    for script in ["echo 1", "exec <&-; echo 1"] {
        assert_eq!(Fixture::sh(script).run(vec![b'p'; 8 * 1024 * 1024]).await.unwrap(), "1");
    }
}

#[tokio::test]
async fn a_command_that_closes_its_output_is_waited_for() {
    let fixture = Fixture::sh(
        "mkfifo fifo; echo 1; exec >&- 2>&- 3>&-; echo $$ > began; read -r line < fifo; exit 9",
    );
    let running = fixture.start();
    fixture.pid_in("began").await;
    std::fs::write(fixture.folder.path().join("fifo"), "go\n").unwrap();
    let error = as_text(running.await.unwrap()).unwrap_err();
    assert!(error.message.starts_with("the command exited with code 9"), "{}", error.message);
}

#[tokio::test]
async fn a_result_over_the_limit_ends_the_command_at_once() {
    let fixture = Fixture::sh(
        "trap '' TERM PIPE; sleep 1000 & echo $! > child; while :; do cat /dev/zero; done",
    )
    .text();
    let error = fixture.run("").await.unwrap_err();
    assert_eq!((error.code, error.retryable), (ErrorCode::result_too_large(), false));
    let expected =
        "the command wrote more than 1048576 bytes, the limit for results (max_result of the task";
    assert!(error.message.starts_with(expected), "{}", error.message);
    assert!(error.message.contains("its output begins \"\\0"), "{}", error.message);
    assert!(is_dead(fixture.pid_in("child").await));
    let limit = Fixture::of(["head", "-c", "1048576", "/dev/zero"]).text();
    assert_eq!(limit.run("").await.unwrap().len(), MAX_RESULT);
}

#[tokio::test]
async fn a_command_that_cannot_be_started_is_the_machines_fault_and_says_why() {
    let fault = Fixture::of(["no-such-program-here"]).machine_fault().await.unwrap();
    assert!(fault.starts_with("cannot start no-such-program-here: No such file"), "{fault}");

    let mut fixture = Fixture::of(["true"]);
    fixture.handler.command.directory = "/nowhere".into();
    let fault = fixture.machine_fault().await.unwrap();
    assert_eq!(fault, "cannot start true: its working directory /nowhere does not exist");

    let fixture = Fixture::of(["./script"]);
    let script = fixture.folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let fault = fixture.machine_fault().await.unwrap();
    assert_eq!(fault, "cannot start ./script: Permission denied (os error 13)");

    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let fault = fixture.machine_fault().await.unwrap();
    assert!(fault.ends_with("the interpreter that its first line names does not exist"), "{fault}");
}

#[tokio::test]
async fn a_start_that_is_too_large_is_the_jobs_fault() {
    let mut fixture = Fixture::of(["true"]);
    // Linux allows 128 KiB a variable.
    let large = ("LARGE".into(), "x".repeat(128 * 1024).into());
    fixture.handler.command.environment.push(large);
    let error = fixture.attempt("").await.unwrap_err();
    assert_eq!(error.machine_fault(), None);
    let error = JobError::from(error);
    assert_eq!(error.code, ErrorCode::command_failed());
    assert!(error.message.contains("Argument list too long"), "{}", error.message);
}

#[tokio::test]
async fn how_a_command_ends_is_never_the_machines_fault_unless_it_says_so() {
    for script in ["exit 127", "exit 126", "no-such-program-here", "kill -KILL $$", "kill -9 $PPID"]
    {
        assert_eq!(Fixture::sh(script).machine_fault().await, None, "{script}");
    }
    let event = r#"{"error":{"machine":true,"message":"no card in the reader","retryable":false}}"#;
    let declared = Fixture::sh(&format!("echo '{event}' >&3; exit 1"));
    assert_eq!(declared.machine_fault().await.as_deref(), Some("no card in the reader"));
    let without_message =
        Fixture::sh(r#"echo '{"error":{"machine":true}}' >&3; echo secret >&2; exit 1"#);
    let fault = without_message.machine_fault().await;
    assert_eq!(fault.as_deref(), Some("the command exited with code 1"));
}
