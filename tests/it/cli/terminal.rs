//! What a person at a terminal gets: tables, bars and questions.

use crunch_tests::{Stack, Stage, eventually, in_time};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::Crunch;
use super::fake::{Fake, answer, job, ok, page};

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
    // The question names the API and the filter as well.
    let question = format!(
        "Really cancel 2 jobs of {} (--queue t --status queued; --queue t --status scheduled)? [y/N]",
        api.url
    );
    assert!(code == 2 && screen.contains(&question), "{code} {screen}");
    let (code, screen) = at_terminal(&crunch, "crunch purge t --limit 2", "y\n").await;
    assert!(code == 0 && screen.contains("2 jobs canceled"), "{code} {screen}");
    crunch.run_with_input(&["submit", "t", "--lines"], b"1\n2\n3\n").await;
    let (code, screen) = at_terminal(&crunch, "crunch purge t", "y\n").await;
    assert!(code == 2 && screen.contains("Type 102 to cancel 102 jobs of "), "{code} {screen}");
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

#[tokio::test]
async fn jobs_that_arrive_between_a_question_and_its_answer_are_left_alone() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    let before = [api.submit("t", &json!(1)).await, api.submit("t", &json!(2)).await];
    let mut child = crunch.start_at_terminal("crunch cancel --status queued");
    let mut stdin = child.stdin.take().unwrap();
    let asks = async || crunch.screen().contains("Really cancel 2 jobs").then_some(());
    eventually("a question", asks).await;
    let after = api.submit("t", &json!(3)).await;
    stdin.write_all(b"y\n").await.unwrap();
    assert!(in_time("the end", child.wait()).await.unwrap().success(), "{}", crunch.screen());

    for id in before {
        assert_eq!(api.job(&id).await["status"], "canceled");
    }
    assert_eq!(api.job(&after).await["status"], "queued");
}

#[tokio::test]
async fn bytes_that_would_control_a_terminal_are_not_printed_there() {
    const BYTES: &str = "\u{1b}]0;title\u{7}\u{9b}2J";
    let fake = Fake::start(|head| match head {
        _ if head.contains("/jobs/text/") => ok(&json!({ "a": "b" })),
        _ => answer("200 OK", "content-type: text/plain\r\n", BYTES),
    })
    .await;
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.url);
    for what in ["result", "payload"] {
        let (code, screen) = at_terminal(&crunch, &format!("crunch {what} text"), "").await;
        assert!(code == 0 && screen.contains(r#"{"a":"b"}"#), "{screen}");
        let (code, screen) = at_terminal(&crunch, &format!("crunch {what} a"), "").await;
        assert_eq!(code, 2, "{screen}");
        assert!(screen.contains(&format!("crunch {what} a -o FILE")), "{screen}");
        assert!(!screen.contains("]0;title") && screen.contains("text/plain"), "{screen}");
    }
    assert_eq!(crunch.prints(&["result", "a"]).await, BYTES, "a pipe gets every byte");
}

#[tokio::test]
async fn documents_do_not_control_a_terminal() {
    let fake = Fake::start(|_| {
        let mut job = job("a", "failed");
        job["error"] = json!({ "code": "task_failed", "message": "\u{9b}2J\u{1b}[2J\u{7f}" });
        page(&json!([job]), None)
    })
    .await;
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.url);
    for command in ["crunch jobs --json", "NO_COLOR=1 crunch jobs"] {
        let (code, screen) = at_terminal(&crunch, command, "").await;
        assert_eq!(code, 0, "{screen}");
        let is_safe = |c: char| !c.is_control() || ['\n', '\r'].contains(&c);
        assert!(screen.chars().all(is_safe) && screen.contains("task_failed"), "{screen:?}");
    }
    let (_, screen) = at_terminal(&crunch, "crunch jobs --json", "").await;
    assert!(screen.contains(r"\u009b2J\u001b[2J\u007f"), "{screen:?}");
    assert!(crunch.prints(&["jobs", "--json"]).await.contains('\u{9b}'), "a pipe gets every byte");
}

#[tokio::test]
async fn top_acts_on_what_is_selected_and_not_on_what_took_its_row() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    api.submit("middle", &json!(1)).await;
    let crunch = Crunch::of(&api);
    let mut top = crunch.start_at_terminal("crunch top");
    let shows = async |text: &str| {
        let what = format!("top shows {text}");
        eventually(&what, async || crunch.screen().contains(text).then_some(())).await;
    };
    shows("middle").await;
    // It comes first in the list, where the selected queue was.
    const EARLIER: &str = "0123456789";
    api.submit(EARLIER, &json!(1)).await;
    shows(EARLIER).await;
    top.stdin.as_mut().unwrap().write_all(b"p").await.unwrap();
    let is_paused =
        async |queue: &str| api.get(&format!("/queues/{queue}")).await.json()["paused"] == true;
    eventually("a queue is paused", async || is_paused("middle").await.then_some(())).await;
    assert!(!is_paused(EARLIER).await);
    top.stdin.as_mut().unwrap().write_all(b"q").await.unwrap();
    assert!(in_time("the end of top", top.wait()).await.unwrap().success());
}
