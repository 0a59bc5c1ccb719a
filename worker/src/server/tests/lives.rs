//! Children that cannot start, that are replaced, and that are idle.

use crunch_common::broker::ReleaseCause;
use crunch_common::task::TaskDescriptor;

use super::*;
use crate::{JobContext, TaskError};

/// The pool has no ready child, and says why.
async fn never_ready(spec: ServerSpec, why: &str) {
    let name = format!("{:?}", spec.command.arguments);
    let servers = Server::start(spec);
    let problem = || servers.pools()[0].info().problem;
    wait_until(&format!("{name} says why"), || problem().is_some()).await;
    let problem = problem().unwrap();
    assert!(problem.contains(why), "{name}: {problem}");
    assert!(!servers.pools()[0].can_run(&Suspensions::default()));
    in_time("the server ends", servers.end()).await;
}

#[tokio::test]
async fn a_pool_that_cannot_start_says_why() {
    let cases = [
        (
            "exits_before_hello",
            "exited with code 3 before its hello; the end of its standard error:\ncannot start",
        ),
        ("bye", "the child cannot work: the model is missing"),
        ("hello_other_version", "version 2 of the channel"),
        ("hello_not_json", "not a JSON object; it begins \"ready"),
        ("hello_twice", "a second hello"),
        ("hello_body_too_long", "more than 4 MiB"),
        ("hello_body_not_json", "the tasks of its hello"),
        ("task_twice", "twice"),
        ("task_bad_name", "the tasks of its hello: [5].name"),
        ("too_many_credits", "concurrency of 100000"),
    ];
    for (fault, why) in cases {
        never_ready(spec(&[fault]), why).await;
    }
    let soon = Duration::from_secs(1);
    for fault in ["no_hello", "hello_without_body_bytes"] {
        let spec = ServerSpec { start_timeout: soon, ..spec(&[fault]) };
        never_ready(spec, "no hello within 1s").await;
    }
    let mut missing = spec(&[]);
    missing.command.program = "/no/such/program".into();
    never_ready(missing, "does not exist").await;
}

#[tokio::test]
async fn after_five_deaths_in_a_row_the_tasks_are_not_available() {
    let folder = tempfile::tempdir().unwrap();
    // The first child dies in its first job, and the others before their hello.
    let first = format!(
        "mkdir {0}/first 2>/dev/null || exit 3; exec python3 wrong.py os_exit",
        folder.path().display()
    );
    let mut spec = spec(&[]);
    spec.command.program = "sh".into();
    spec.command.arguments = ["-c".into(), first.into()].to_vec();
    let server = Server::of(spec).await;
    assert_eq!(server.failure("a").await.code.as_str(), "child_died");
    assert_eq!(server.pool().unavailable(), []);
    wait_until("the tasks are not available", || !server.pool().unavailable().is_empty()).await;
    let listed = server.pool().unavailable();
    assert_eq!(listed.len(), 5);
    assert!(listed[0].reason.contains("exited with code 3"), "{listed:?}");
    server.end().await;
}

#[tokio::test]
async fn an_idle_child_that_does_not_answer_a_ping_is_replaced() {
    let soon = Duration::from_secs(1);
    let silence = Silence { ping_after: soon, pong_within: soon };
    let server = Server::of(ServerSpec { silence, ..spec(&["no_pong"]) }).await;
    wait_until("it is replaced", || server.pool().numbers() == [2]).await;
    server.end().await;

    let server = Server::of(ServerSpec { silence, ..spec(&["none"]) }).await;
    // Long enough for several pings.
    let waits = server.attempt("d").cancel_after(4 * soon).run().await;
    assert_eq!(waits.outcome, Outcome::Canceled);
    assert_eq!(server.pool().numbers(), [1]);
    server.end().await;
}

#[tokio::test]
async fn a_child_says_how_many_jobs_it_runs_at_once() {
    let server = Server::with(&["zero_credit"]).await;
    wait_until("it runs none", || server.pool().info().slots == 0).await;
    server.end().await;
    never_ready_for_long(spec(&["negative_credit"]), "invalid value").await;
}

/// A child that is ready for a moment.
async fn never_ready_for_long(spec: ServerSpec, why: &str) {
    let servers = Server::start(spec);
    let has_problem =
        || servers.pools()[0].info().problem.is_some_and(|problem| problem.contains(why));
    wait_until("it says why", has_problem).await;
    servers.end().await;
}

#[tokio::test]
async fn a_task_has_one_owner() {
    let own = [TaskDescriptor::new("a".parse().unwrap())];
    let servers = Servers::start(vec![spec(&["none"])], MAX_RESULT as u64, &own);
    let problem = || servers.pools()[0].info().problem;
    wait_until("the server says why", || problem().is_some()).await;
    let why = problem().unwrap();
    assert!(why.contains("\"a\" is already a task of the worker itself"), "{why}");
    servers.end().await;

    let second = ServerSpec { name: "second".to_owned(), ..spec(&["none"]) };
    let servers = Servers::start(vec![spec(&["none"]), second], MAX_RESULT as u64, &[]);
    let problems =
        || servers.pools().iter().filter_map(|pool| pool.info().problem).collect::<Vec<_>>();
    wait_until("one of them says why", || !problems().is_empty()).await;
    assert!(problems()[0].contains("is already a task of "), "{:?}", problems());
    assert_eq!(servers.pools().iter().filter(|pool| pool.info().ready == 1).count(), 1);
    servers.end().await;
}

#[tokio::test]
async fn children_of_a_server_declare_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    let fault = ["declares_differently", counter.to_str().unwrap()];
    let server = Server::of(ServerSpec { processes: 2, ..spec(&fault) }).await;
    wait_until("the second is stopped", || server.pool().info().problem.is_some()).await;
    let problem = server.pool().info().problem.unwrap();
    assert!(problem.contains("it declares other tasks than the children before it"), "{problem}");
    assert_eq!(server.pool().info().ready, 1);
    server.end().await;
}

#[tokio::test]
async fn a_child_is_replaced_after_its_jobs_and_nobody_notices() {
    let spec = ServerSpec { max_jobs: Some(5), processes: 2, ..spec(&["none"]) };
    let server = Server::of(spec).await;
    let start = Instant::now();
    let mut number = 0;
    // One job directly after the other: the next one must not go to a child that was just asked to exit.
    while server.pool().numbers().iter().any(|&child| child <= 8) {
        let report = server.run("a", json!(number)).await;
        assert_eq!(report.json::<i32>(), number);
        assert!(start.elapsed() < DEADLINE, "in time: children are replaced");
        number += 1;
    }
    assert_eq!(server.pool().info().problem, None);
    server.end().await;
}

#[tokio::test]
async fn a_child_that_is_replaced_runs_a_job_that_was_assigned_to_it_before() {
    let server = Server::of(ServerSpec { max_jobs: Some(1), ..spec(&["none"]) }).await;
    let pool = server.servers.pools()[0].clone();
    let run = move |job: JobContext, payload: i32| {
        let pool = pool.clone();
        async move {
            let assignment = pool.assign().await?;
            // Until its child is replaced.
            while pool.numbers() != [2] {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let payload = payload.to_string().into();
            let answer = task::run(assignment, &job, payload, MAX_RESULT).await?;
            answer.map(|_| ()).map_err(|failure| TaskError::retryable(format!("{failure:?}")))
        }
    };
    let task = Task::new("a", run);
    let report = in_time("it ends", Attempt::of(task).payload(7).run()).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    server.end().await;
}

#[tokio::test]
async fn a_child_goes_on_until_its_replacement_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mkdir $folder/first || until [ -e $folder/go ]; do sleep 0.1; done";
    let spec = prepared_by(script, folder.path(), "none");
    let server = Server::of(ServerSpec { max_jobs: Some(1), ..spec }).await;
    for number in 0..3 {
        assert_eq!(server.run("a", json!(number)).await.json::<i32>(), number);
        assert_eq!(server.pool().numbers(), [1]);
    }
    std::fs::write(folder.path().join("go"), "").unwrap();
    wait_until("it is replaced", || server.pool().numbers() == [2]).await;
    server.end().await;
}

#[tokio::test]
async fn a_child_that_is_replaced_has_the_slots_of_its_last_jobs_only() {
    let spec = ServerSpec { concurrency: Some(4), max_jobs: Some(2), ..spec(&["none"]) };
    let server = Server::of(spec).await;
    let slots = || server.pool().info().slots;
    let waits = server.attempt("d");
    tokio::select! {
        report = waits.run() => panic!("it waits until it is canceled: {report:?}"),
        () = async {
            wait_until("it runs", || server.pool().load() == 1).await;
            assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
            wait_until("there is one slot of the first child", || slots() == 1 + 4).await;
        } => {}
    }
    server.end().await;
}

#[tokio::test]
async fn deaths_are_counted_anew_after_a_child_that_answered_and_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    // Every other child dies before its hello.
    let script = "rmdir $folder/last 2>/dev/null || { mkdir $folder/last; exit 3; }";
    let spec = prepared_by(script, folder.path(), "none");
    let server = Server::of(ServerSpec { max_jobs: Some(1), ..spec }).await;
    assert_eq!(server.pool().deaths(), 1);
    assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
    wait_until("it is replaced", || server.pool().numbers() == [4]).await;
    wait_until("none has died since", || server.pool().deaths() == 0).await;
    server.end().await;
}

#[tokio::test]
async fn a_child_that_grows_is_replaced() {
    // Too slowly to use twice as much before it is noticed.
    let spec = ServerSpec { max_memory: Some(64 << 20), ..spec(&["leaks_memory", "200000"]) };
    let server = Server::of(spec).await;
    eventually("it is replaced", async || {
        assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
        server.pool().numbers().iter().any(|&number| number > 1)
    })
    .await;
    server.end().await;
}

#[tokio::test]
async fn idle_children_end_but_one_and_come_back_when_all_are_busy() {
    let spec =
        ServerSpec { processes: 2, idle_exit: Some(Duration::from_secs(1)), ..spec(&["none"]) };
    let server = Server::of(spec).await;
    server.ready(2).await;
    server.ready(1).await;
    let waits = server.attempt("d").cancel_after(Duration::from_secs(5));
    let (waits, ()) = tokio::join!(waits.run(), async {
        server.ready(2).await;
        assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
    });
    assert_eq!(waits.outcome, Outcome::Canceled);
    server.end().await;
}

#[tokio::test]
async fn a_job_that_finds_all_children_busy_is_released() {
    let server = Server::with(&["none"]).await;
    let long = server.attempt("d").cancel_after(DEADLINE);
    let other = async {
        wait_until("the child is busy", || server.pool().load() == 1).await;
        server.run("a", json!(1)).await
    };
    let report = tokio::select! {
        ended = long.run() => panic!("{ended:?}"),
        report = other => report,
    };
    assert_eq!(report.outcome, Outcome::Released(ReleaseCause::Worker));
    server.end().await;
}

#[tokio::test]
async fn a_child_that_does_not_exit_when_it_should_is_ended() {
    for fault in ["ignores_drain", "ignores_everything"] {
        let server = Server::with(&[fault]).await;
        assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
        server.end().await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_server_not_even_its_directories() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = ServerSpec { processes: 3, ..spec(&["none"]) };
    spec.command.environment.push(("TMPDIR".into(), folder.path().into()));
    let server = Server::of(spec).await;
    server.ready(3).await;
    let directories = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(directories(), 3);
    server.end().await;
    wait_until("the directories are gone", || directories() == 0).await;
}
