//! What a person at a terminal gets: tables, bars and questions.

use crunch_tests::{Stack, Stage, eventually, in_time};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::Crunch;

/// Runs a line to its end with this input; returns its exit code and what was drawn.
async fn at_terminal(crunch: &Crunch, line: &str, input: &str) -> (i32, String) {
    let mut child = crunch.start_at_terminal(line);
    // It stays open: its end would be an answer, too.
    let mut stdin = child.stdin.take().unwrap();
    if !input.is_empty() {
        let asks =
            async || [": ", "] "].iter().any(|end| crunch.screen().ends_with(end)).then_some(());
        eventually("a question", asks).await;
        stdin.write_all(input.as_bytes()).await.unwrap();
    }
    let status = in_time("the end of the command", child.wait()).await.unwrap();
    (status.code().unwrap(), crunch.screen())
}

#[tokio::test]
async fn a_terminal_gets_a_header_relative_times_and_colours() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    crunch.prints(&["submit", "echo", "--wait"]).await;
    let (code, screen) = at_terminal(&crunch, "crunch jobs", "").await;
    assert_eq!(code, 0);
    assert!(screen.contains("STATUS") && screen.contains("s ago"), "{screen}");
    assert!(screen.contains("\u{1b}[32msucceeded"), "{screen}");
    let (_, plain) = at_terminal(&crunch, "NO_COLOR=1 crunch jobs", "").await;
    assert!(plain.contains("succeeded") && !plain.contains("\u{1b}["), "{plain}");
}

#[tokio::test]
async fn a_person_is_asked_with_the_exact_number() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    let lines = "1\n".repeat(101);
    crunch.run_with_input(&["submit", "t", "--lines"], lines.as_bytes()).await;

    let (code, screen) = at_terminal(&crunch, "crunch purge t --limit 2", "n\n").await;
    assert!(code == 2 && screen.contains("Really cancel 2 jobs? [y/N]"), "{code} {screen}");
    let (code, screen) = at_terminal(&crunch, "crunch purge t --limit 2", "y\n").await;
    assert!(code == 0 && screen.contains("2 jobs canceled"), "{code} {screen}");
    crunch.run_with_input(&["submit", "t", "--lines"], b"1\n2\n3\n").await;
    let (code, screen) = at_terminal(&crunch, "crunch purge t", "y\n").await;
    assert!(code == 2 && screen.contains("Type 102 to cancel 102 jobs:"), "{code} {screen}");
    let (code, screen) = at_terminal(&crunch, "crunch purge t", "102\n").await;
    assert!(code == 0 && screen.contains("102 jobs canceled"), "{code} {screen}");
}

#[tokio::test]
async fn a_bar_is_shown_while_standard_output_gets_only_the_result() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    std::fs::write(crunch.path("payload"), stage.payload().to_string()).unwrap();
    let line = "crunch submit act -f ~/payload --wait > ~/result";
    let mut child = crunch.start_at_terminal(line);
    let mut actor = stage.wait_for_handler().await;
    actor.send(&json!({ "progress": [0.4, "\u{1b}[2Jforty"] })).await;
    let bar = format!("[{}{}]  40 %  running", "#".repeat(10), "-".repeat(15));
    eventually("the bar", async || crunch.screen().contains(&bar).then_some(())).await;
    actor.returns(&json!({ "done": true })).await;
    assert!(in_time("the end", child.wait()).await.unwrap().success());

    assert_eq!(std::fs::read_to_string(crunch.path("result")).unwrap(), r#"{"done":true}"#);
    assert!(!crunch.screen().contains("\u{1b}[2J"), "a message does not control the terminal");
}
