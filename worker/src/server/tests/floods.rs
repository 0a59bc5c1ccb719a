//! Children that send or print without an end: the worker keeps little of it, and others are served meanwhile.

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// As many lines as the log of a job keeps.
const MAX_LINES: usize = 256;

#[tokio::test]
async fn floods_are_cut_and_the_job_succeeds() {
    for fault in ["flood_stdout", "flood_stdout_no_newline", "flood_progress", "flood_log"] {
        let argument = if fault.starts_with("flood_stdout") { "20000000" } else { "20000" };
        let server = Server::with(&[fault, argument]).await;
        let report = server.run("a", json!(1)).await;
        assert_eq!(report.outcome, Outcome::Succeeded, "{fault}");
        let expected = match fault {
            "flood_progress" => 0,
            // One line, which has an end only when its child has.
            "flood_stdout_no_newline" => 0,
            _ => MAX_LINES,
        };
        assert_eq!(report.log.len(), expected, "{fault}");
        assert!(report.log.iter().all(|line| line.len() <= 1024), "{fault}");
        server.end().await;
    }
}

// On one thread, which a task that never waits would keep.
#[tokio::test]
async fn what_is_printed_without_an_end_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of(prepared_by("yes & true", folder.path(), "none")).await;
    for number in 0..10 {
        assert_eq!(server.run("a", json!(number)).await.json::<i32>(), number);
    }
    server.end().await;
}

#[tokio::test]
async fn a_child_that_pings_and_does_not_read_is_owed_one_pong() {
    // Twenty times as many as the pipe has room for.
    let server = Server::with(&["flood_ping", "100000"]).await;
    assert_eq!(server.run("a", json!(1)).await.outcome, Outcome::Succeeded);
    // Part of one is written, and one waits for all the others.
    assert!(server.pool().unread() <= 2, "{} messages wait", server.pool().unread());
    server.end().await;
}

#[tokio::test]
async fn a_child_that_changes_its_credit_all_the_time_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mkdir $folder/first 2>/dev/null && exec python3 wrong.py flood_credit; echo $$ > $folder/$$";
    let spec = prepared_by(script, folder.path(), "none");
    let server = Server::of(ServerSpec { processes: 2, ..spec }).await;
    server.ready(2).await;
    let others = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let other: i32 = others.filter_map(|name| name.to_str()?.parse().ok()).next().unwrap();
    kill_process(Pid::from_raw(other).unwrap(), Signal::KILL).unwrap();
    wait_until("the other one is replaced", || server.pool().numbers().contains(&3)).await;
    for number in 0..10 {
        let (first, second) =
            tokio::join!(server.run("a", json!(number)), server.run("b", json!(number)));
        assert_eq!((first.json::<i32>(), second.json::<i32>()), (number, number));
    }
    server.end().await;
}
