//! The API is killed while a command waits for it: the command goes on, and misses nothing.

use std::time::{Duration, Instant};

use crunch_tests::{Api, Stack, Stage, eventually};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::fake::{Fake, answer, job, ok, page, problem};
use super::{Crunch, finish};

/// A new API is used within three seconds: no pause is longer than one. A machine that does other work takes longer.
const SOON: Duration = Duration::from_secs(10);

/// Kills an API and starts another one at its address.
async fn replace(stack: &mut Stack, mut api: Api) -> Api {
    let address = api.address().to_owned();
    api.process.kill().await;
    stack.api_with(&[("CRUNCH_API_ADDR", &address)]).await
}

#[tokio::test]
async fn wait_goes_on_after_the_api_was_killed() {
    let (mut stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let waits = crunch.start(&["submit", "act", "-d", &stage.payload().to_string(), "--wait"]);
    let actor = stage.wait_for_handler().await;
    let _api = replace(&mut stack, api).await;
    let since = Instant::now();
    actor.returns(&json!("kept")).await;
    let run = finish(waits).await;

    assert_eq!((run.code, run.out.as_str()), (0, "\"kept\""), "{}", run.err);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_followed_log_has_every_line_once_although_the_api_was_killed() {
    let (mut stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let mut follows = crunch.start(&["logs", "-f", &id]);
    let mut lines = BufReader::new(follows.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        line.expect("a line is printed").unwrap()
    };
    actor.send(&json!({ "log": "before" })).await;
    assert_eq!(next().await.as_deref(), Some("before"));
    let address = api.address().to_owned();
    let mut api = api;
    api.process.kill().await;
    // Nobody is there to receive these.
    for line in ["meanwhile 1", "meanwhile 2"] {
        actor.send(&json!({ "log": line })).await;
    }
    let api = stack.api_with(&[("CRUNCH_API_ADDR", &address)]).await;
    let since = Instant::now();
    for line in ["meanwhile 1", "meanwhile 2"] {
        assert_eq!(next().await.as_deref(), Some(line));
    }
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    actor.send(&json!({ "log": "after" })).await;
    actor.returns(&json!(null)).await;
    assert_eq!(next().await.as_deref(), Some("after"));
    assert_eq!(next().await, None);
    assert!(follows.wait().await.unwrap().success());
    api.wait_for_status(&id, "succeeded").await;
}

#[tokio::test]
async fn top_goes_on_after_the_api_was_killed() {
    let (mut stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    let mut top = crunch.start_at_terminal("crunch top");
    let shows = async |text: &str| {
        let what = format!("top shows {text}");
        eventually(&what, async || crunch.screen().contains(text).then_some(())).await;
    };
    shows("image.thumbnail").await;
    let address = api.address().to_owned();
    let mut api = api;
    api.process.kill().await;
    shows("away for").await;
    // The first in the list, and of other letters than what was there: only cells that differ are drawn.
    const NEW: &str = "0123456789";
    let api = stack.api_with(&[("CRUNCH_API_ADDR", &address)]).await;
    let since = Instant::now();
    api.submit_with("echo", &json!(1), &json!({ "queue": NEW, "delay_ms": 600_000 })).await;
    shows(NEW).await;

    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    top.stdin.as_mut().unwrap().write_all(b"q").await.unwrap();
    assert!(crunch_tests::in_time("the end of top", top.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_submission_whose_answer_is_lost_is_one_job() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let address = api.address().to_owned();
    let mut api = api;
    let crunch = Crunch::of(&api);
    api.process.kill().await;
    let submits = crunch.start(&["submit", "t", "-d", "1"]);
    let environment =
        [("CRUNCH_API_UNKNOWN_TASKS", "accept"), ("CRUNCH_API_ADDR", address.as_str())];
    let api = stack.api_with(&environment).await;
    let run = finish(submits).await;

    assert_eq!(run.code, 0, "{}", run.err);
    let jobs = api.get("/jobs").await.json();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1);
    assert_eq!(jobs["items"][0]["id"], run.out.trim());
}

/// A server that gives these answers, one after the other.
async fn answering(answers: Vec<String>) -> Crunch {
    let answers = std::sync::Mutex::new(answers.into_iter());
    let fake = Fake::start(move |_| answers.lock().unwrap().next().unwrap_or_default()).await;
    Crunch::new().with("CRUNCH_URL", &fake.url)
}

#[tokio::test]
async fn a_verb_whose_answer_is_lost_is_not_taken_for_one_that_failed() {
    let gone = problem(410, "gone", "");
    let lost = String::new();
    let deleted = answering(vec![lost.clone(), gone.clone()]).await.run(&["delete", "a"]).await;
    assert_eq!((deleted.code, deleted.out.as_str()), (0, "a\tdeleted\n"), "{}", deleted.err);
    assert_eq!(answering(vec![gone]).await.run(&["delete", "a"]).await.code, 3);

    // The state of the job is shown, and no more is claimed than is known.
    let conflict = problem(409, "job-not-retryable", "");
    for status in ["queued", "running", "succeeded"] {
        let answers = vec![lost.clone(), conflict.clone(), ok(&job("a", status))];
        let retried = answering(answers).await.run(&["retry", "a"]).await;
        assert_eq!((retried.code, retried.out), (0, format!("a\t{status}\n")), "{}", retried.err);
        let says = format!("job a is {status} now, perhaps because it was queued again");
        assert!(retried.err.contains(&says), "{}", retried.err);
    }
    assert_eq!(answering(vec![conflict]).await.run(&["retry", "a"]).await.code, 5);
    let finished = vec![lost, problem(409, "job-finished", "")];
    assert_eq!(answering(finished).await.run(&["cancel", "a"]).await.code, 5);
}

#[tokio::test]
async fn a_refusal_for_now_is_repeated_when_the_api_says() {
    let busy = problem(503, "queue-full", "");
    let answers =
        vec![busy.clone(), answer("502 Bad Gateway", "", "a proxy"), page(&json!([]), None)];
    assert_eq!(answering(answers).await.run(&["jobs"]).await.code, 0);
    let run = answering(vec![busy]).await.run(&["jobs", "--retry-for", "0s"]).await;
    assert!(run.code == 6 && run.err.contains("queue-full"), "{}", run.err);
}

#[tokio::test]
async fn a_pause_that_the_api_asks_for_ends_with_the_time_to_wait() {
    let fake = Fake::start(|head| match head.contains("/events") {
        true => problem(503, "overloaded", "retry-after: 25\r\n"),
        false => ok(&job("a", "running")),
    })
    .await;
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.url);
    let since = Instant::now();
    let late = crunch.run(&["wait", "a", "--timeout", "500ms"]).await;
    assert_eq!(late.code, 7, "{}", late.err);
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}

#[tokio::test]
async fn each_of_several_jobs_is_waited_for_whatever_becomes_of_the_others() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let unknown = "01a20c36-14f1-8000-8f8f-f34074aa25aa";
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let ended = api.submit_with("echo", &json!(1), &json!({ "delay_ms": 600_000 })).await;
    crunch.prints(&["cancel", &ended]).await;

    let run = crunch.run(&["wait", unknown, &running, &ended, "--timeout", "300ms"]).await;
    assert_eq!(run.code, 7, "the worst of 3, 7 and 1: {}", run.err);
    assert!(run.out.starts_with(&format!("{ended}\tcanceled\t")), "{}", run.out);
    assert!(run.err.contains(&format!("job {running} has not ended after 300ms")), "{}", run.err);
    assert!(run.err.contains("not-found") || run.err.contains("no such job"), "{}", run.err);
    let looked = crunch.run(&["wait", &ended, &running, "--timeout", "0"]).await;
    assert_eq!((looked.code, looked.out.lines().count()), (7, 1), "{}", looked.err);
    let both = crunch.run(&["wait", unknown, &ended]).await;
    assert_eq!((both.code, both.out.lines().count()), (3, 1), "{}", both.err);
    actor.returns(&json!(1)).await;
    let waited = crunch.run(&["wait", unknown, &running]).await;
    assert_eq!((waited.code, waited.out.as_str()), (3, &*format!("{running}\tsucceeded\t\n")));
}

#[tokio::test]
async fn a_followed_log_has_lines_that_its_stream_left_out() {
    let line = |number: u64| {
        json!({ "number": number, "attempt": 1, "at": "2026-11-30T10:00:00Z",
            "line": format!("line {number}") })
    };
    let fake = Fake::start(move |head| {
        if head.contains("/events") && !head.contains("last-event-id") {
            let done = job("a", "succeeded");
            let text = format!(
                "event: log\nid: 2.2\ndata: {}\n\nevent: done\nid: 3.9\ndata: {done}\n\n",
                line(2)
            );
            return answer("200 OK", "content-type: text/event-stream\r\n", &text);
        }
        match head {
            _ if head.contains("/events") => answer("204 No Content", "", ""),
            _ if head.contains("cursor=2") => page(&json!([line(8), line(9)]), None),
            _ => page(&json!([line(1)]), Some("1")),
        }
    })
    .await;
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.url);
    assert_eq!(crunch.prints(&["logs", "-f", "a"]).await, "line 1\nline 2\nline 8\nline 9\n");
    assert_eq!(crunch.prints(&["logs", "-f", "-n", "1", "a"]).await.lines().count(), 4);
}

#[tokio::test]
async fn a_redirect_and_a_problem_that_is_not_known_are_shown_with_their_addresses() {
    let moved = |head: &str| {
        let path = head.split(' ').nth(1).unwrap();
        answer("308 Permanent Redirect", &format!("location: https://b.example{path}\r\n"), "")
    };
    let crunch = Crunch::new().with("CRUNCH_URL", &Fake::start(moved).await.url);
    let run = crunch.run(&["jobs", "--status", "failed"]).await;
    assert_eq!(run.code, 6);
    assert!(run.err.contains("redirect (308) to https://b.example"), "{}", run.err);
    assert!(run.err.contains("--url https://b.example\n"), "{}", run.err);

    let fake = Fake::start(|_| problem(418, "teapot", "")).await;
    let run = Crunch::new().with("CRUNCH_URL", &fake.url).run(&["jobs"]).await;
    assert_eq!(run.code, 5);
    assert!(
        run.err.contains(&format!("explains it at {}/problems/teapot", fake.url)),
        "{}",
        run.err
    );
}

#[tokio::test]
async fn top_sends_no_more_than_one_request_a_second() {
    let fake = Fake::start(|_| page(&json!([]), None)).await;
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.url);
    let mut top = crunch.start_at_terminal("crunch top");
    eventually("all panes are read", async || (fake.heads().len() > 5).then_some(())).await;
    let (since, before) = (Instant::now(), fake.heads().len());
    for (at, key) in ["2", "3", "4"].into_iter().enumerate() {
        top.stdin.as_mut().unwrap().write_all(key.as_bytes()).await.unwrap();
        let next = before + at;
        eventually("the next request", async || (fake.heads().len() > next).then_some(())).await;
    }
    let requests = fake.heads().len() - before;
    assert!(requests as u64 <= since.elapsed().as_secs() + 1, "{requests}: {:#?}", fake.heads());
    top.stdin.as_mut().unwrap().write_all(b"q").await.unwrap();
    assert!(crunch_tests::in_time("the end of top", top.wait()).await.unwrap().success());
}
