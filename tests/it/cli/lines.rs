//! A job for each line.

use std::fmt::Write as _;
use std::process::Stdio;

use crunch_tests::{Api, Stack, eventually};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{Crunch, finish};

async fn accepting_everything() -> (Stack, Api) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    (stack, api)
}

async fn queued(api: &Api, queue: &str) -> u64 {
    api.get(&format!("/queues/{queue}")).await.json()["counts"]["queued"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn lines_are_payloads_of_a_task_or_whole_bodies() {
    let (_stack, api) = accepting_everything().await;
    let crunch = Crunch::of(&api);
    let run = crunch
        .run_with_input(
            &["submit", "--lines", "t", "--key", "a", "--metadata", "k=v"],
            b"1\n\n{\"b\": 2}\n",
        )
        .await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "2\t0\t0\n", ""));
    // The first argument may be the source of the lines.
    let run = crunch.run_with_input(&["submit", "--lines", "-"], b"{\"task\":\"v\"}\n").await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "1\t0\t0\n", ""));
    assert_eq!(crunch.run(&["submit", "-"]).await.code, 2);
    let bodies = b"{\"task\":\"u\",\"payload\":[3]}\n{\"task\":\"u\",\"idempotency_key\":\"own\"}";
    let run = crunch.run_with_input(&["submit", "--lines", "--key", "b", "--json"], bodies).await;
    assert_eq!(
        run.documents(),
        [json!({ "accepted": 2, "existing": 0, "refused": 0, "errors": [] })]
    );

    let jobs = crunch.run(&["jobs", "--json"]).await.documents();
    let payloads = async |task: &str| {
        let mut payloads = Vec::new();
        for job in jobs.iter().filter(|job| job["task"] == task) {
            let id = job["id"].as_str().unwrap();
            payloads.push(crunch.prints(&["payload", id]).await);
        }
        payloads.sort();
        payloads
    };
    assert_eq!(payloads("t").await, ["1", "{\"b\": 2}"]);
    assert_eq!(payloads("u").await, ["[3]", "null"]);
    let labels = jobs.iter().filter(|job| job["task"] == "t").map(|job| &job["metadata"]["k"]);
    assert!(labels.into_iter().all(|label| label == "v"));
}

#[tokio::test]
async fn rejected_lines_are_reported_by_their_numbers() {
    let (_stack, api) = accepting_everything().await;
    let crunch = Crunch::of(&api);
    let mut lines: Vec<_> = (1..=250).map(|number| number.to_string()).collect();
    lines[204] = "1, \"queue\": \"other\"".to_owned();
    lines[7] = "{".to_owned();
    let run = crunch
        .run_with_input(
            &["submit", "t", "--lines", "-f", "-", "--json", "--key", "k"],
            lines.join("\n").as_bytes(),
        )
        .await;

    assert_eq!(run.code, 5, "{}", run.err);
    let document = run.documents().remove(0);
    assert_eq!((&document["accepted"], &document["refused"]), (&json!(248), &json!(2)));
    let mut numbers: Vec<_> =
        document["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [Some(8), Some(205)]);
    assert!(run.err.contains("line 205: "), "{}", run.err);
    let all = crunch.run_with_input(&["submit", "t", "--lines", "--key", "k2"], b"{\n[\n").await;
    assert_eq!((all.code, all.out.as_str()), (5, "0\t2\t0\n"));
}

#[tokio::test]
async fn an_interrupted_run_is_continued_with_its_key() {
    let (_stack, api) = accepting_everything().await;
    let crunch = Crunch::of(&api);
    let input = (1..=3000).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{number}");
        text
    });
    let arguments = ["submit", "t", "--lines", "--key", "run"];
    let mut first = crunch.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = first.stdin.take().unwrap();
    stdin.write_all(&input.as_bytes()[..input.len() / 2]).await.unwrap();
    eventually("some lines are accepted", async || (queued(&api, "t").await > 500).then_some(()))
        .await;
    first.kill().await.unwrap();
    let run = crunch.run_with_input(&arguments, input.as_bytes()).await;

    assert_eq!((run.code, run.out.as_str()), (0, "3000\t0\t0\n"), "{}", run.err);
    assert_eq!(queued(&api, "t").await, 3000, "each line is one job");
}

#[tokio::test]
async fn lines_go_on_after_the_api_was_killed() {
    let (mut stack, mut api) = accepting_everything().await;
    let crunch = Crunch::of(&api);
    let mut child =
        crunch.command(&["submit", "t", "--lines"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for number in 0..1000 {
        stdin.write_all(format!("{number}\n").as_bytes()).await.unwrap();
    }
    eventually("some lines are accepted", async || (queued(&api, "t").await > 300).then_some(()))
        .await;
    let address = api.address().to_owned();
    api.process.kill().await;
    let writes = tokio::spawn(async move {
        for number in 1000..2000 {
            stdin.write_all(format!("{number}\n").as_bytes()).await.unwrap();
        }
    });
    let environment =
        [("CRUNCH_API_UNKNOWN_TASKS", "accept"), ("CRUNCH_API_ADDR", address.as_str())];
    let api = stack.api_with(&environment).await;
    writes.await.unwrap();
    let run = finish(child).await;

    assert_eq!((run.code, run.out.as_str()), (0, "2000\t0\t0\n"), "{}", run.err);
    assert_eq!(queued(&api, "t").await, 2000);
    let jobs: Value = api.get("/jobs?limit=1").await.json();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1);
}
