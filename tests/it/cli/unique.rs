//! Jobs that are unique: submitted, answered with another one, refused, and explained.

use crunch_tests::{Api, Stack, Stage, eventually, in_time};
use serde_json::{Value, json};

use super::fake::{Fake, ok};
use super::{Crunch, Run};

async fn accepting() -> (Stack, Api, Crunch) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    (stack, api, crunch)
}

/// Runs a command whose words are separated by spaces.
async fn run(crunch: &Crunch, words: &str) -> Run {
    crunch.run(&words.split(' ').collect::<Vec<_>>()).await
}

#[tokio::test]
async fn a_job_whose_lock_is_held_is_the_existing_one_or_refused() {
    let (_stack, api, crunch) = accepting().await;
    let first = run(&crunch, r#"submit t -d {"a":1,"b":1} --unique-fields /a,/c"#).await;
    assert_eq!((first.code, first.err.as_str()), (0, ""));
    let id = first.out.trim();
    let unique = &api.job(id).await["unique"];
    assert_eq!(
        (&unique["fields"], &unique["on_conflict"]),
        (&json!(["/a", "/c"]), &json!("existing"))
    );

    let again = run(&crunch, r#"submit t -d {"b":2,"a":1} --unique-fields /a,/c"#).await;
    assert_eq!((again.code, again.out.trim()), (0, id));
    assert_eq!(again.err, format!("crunch: no job was created: job {id} holds the lock\n"));
    let other = run(&crunch, r#"submit t -d {"a":2} --unique-fields /a,/c"#).await;
    assert!(other.code == 0 && other.err.is_empty() && other.out.trim() != id, "{other:?}");

    let refused =
        run(&crunch, r#"submit t -d {"a":1} --unique-fields /a,/c --on-conflict reject"#).await;
    assert_eq!((refused.code, refused.out.as_str()), (5, ""), "{}", refused.err);
    assert!(refused.err.contains(&format!("job {id} holds its lock\n")), "{}", refused.err);
    assert!(refused.err.ends_with(&format!("crunch get {id}\n")), "{}", refused.err);
}

#[tokio::test]
async fn a_job_that_waits_is_replaced() {
    let (_stack, api, crunch) = accepting().await;
    let options = "--unique-key k --on-conflict replace --in 1h --max-wait 2h";
    let first = run(&crunch, &format!("submit t -d 1 {options}")).await;
    let id = first.out.trim();
    let second = run(&crunch, &format!("submit t -d 2 {options} --priority high --json")).await;
    assert!(second.code == 0 && second.err.contains("it has this payload"), "{}", second.err);
    let job = second.documents().remove(0);
    assert_eq!((&job["id"], &job["priority"]), (&json!(id), &json!("high")));
    assert_eq!(crunch.prints(&["payload", id]).await, "2");
    let unique = &api.job(id).await["unique"];
    assert_eq!((&unique["key"], &unique["until"]), (&json!("k"), &json!("start")));
    assert_eq!(unique["max_wait_ms"], 7_200_000);
    // The API says what is wrong with what clap cannot know.
    let without = run(&crunch, "submit t --unique --on-conflict replace --in 1h").await;
    assert!(without.err.contains("unique.max_wait_ms"), "{}", without.err);
}

#[tokio::test]
async fn lines_that_create_no_job_are_counted() {
    let (_stack, api, crunch) = accepting().await;
    let lines = b"{\"a\":1}\n{\"a\":2}\n{ \"a\": 1.0 }\n";
    let unique = ["submit", "--lines", "t", "--unique-for", "1h", "--unique"];
    let counted = crunch.run_with_input(&unique, lines).await;
    assert_eq!((counted.code, counted.out.as_str()), (0, "2\t0\t1\n"), "{}", counted.err);
    let again = crunch.run_with_input(&[&unique[..], &["--json"]].concat(), lines).await;
    let counts = json!({ "accepted": 0, "existing": 3, "refused": 0, "errors": [] });
    assert_eq!((again.code, again.documents()), (0, vec![counts]), "{}", again.err);
    let jobs = api.get("/jobs").await.json();
    let held: Vec<_> =
        jobs["items"].as_array().unwrap().iter().map(|job| &job["unique"]["for_ms"]).collect();
    assert_eq!(held, [3_600_000, 3_600_000]);
    // Options of a job are for payloads of a task.
    let bodies = crunch.run_with_input(&["submit", "--lines", "--unique"], b"{}").await;
    assert_eq!(bodies.code, 2, "{}", bodies.err);
}

#[tokio::test]
async fn a_job_that_waits_for_the_holder_of_its_lock_is_explained() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let payload = stage.payload().to_string();
    let submit =
        ["submit", "act", "-d", &payload, "--unique-key", "k", "--on-conflict", "keep_latest"];
    let first = crunch.prints(&submit).await.trim().to_owned();
    let actor = stage.wait_for_handler().await;
    let second = crunch.prints(&submit).await.trim().to_owned();
    assert_ne!(second, first);
    let why = crunch.prints(&["why", &second]).await;
    let reason =
        format!("{second}\tlock\tit waits for the end of job {first}, which holds its lock\n");
    assert!(why.starts_with(&reason), "{why}");

    let mut get = crunch.start_at_terminal(&format!("crunch get {second}"));
    assert!(in_time("the end of get", get.wait()).await.unwrap().success());
    let screen = crunch.screen();
    for shown in ["by the key k until it ends; another one replaces it", "waits for the end of job"]
    {
        assert!(screen.contains(shown), "{screen}");
    }
    actor.returns(&json!(1)).await;
    stage.wait_for_handler().await.returns(&json!(2)).await;
    eventually("the second job succeeds", async || {
        (crunch.run(&["wait", &second]).await.code == 0).then_some(())
    })
    .await;
}

/// A job whose lock another one got meanwhile is not retried.
#[tokio::test]
async fn a_retry_needs_the_lock() {
    let (_stack, _api, crunch) = accepting().await;
    let submit = ["submit", "t", "--unique"];
    let canceled = crunch.prints(&submit).await.trim().to_owned();
    crunch.prints(&["cancel", &canceled]).await;
    let holder = crunch.prints(&submit).await.trim().to_owned();
    let retried = crunch.run(&["retry", &canceled]).await;
    assert_eq!(retried.code, 5, "{}", retried.err);
    assert!(retried.err.ends_with(&format!("crunch get {holder}\n")), "{}", retried.err);
}

#[tokio::test]
async fn a_task_says_what_its_jobs_are_unique_by_if_its_api_does() {
    let mut task: Value = json!({ "name": "t", "queue": "q", "description": "", "accepts": ["*/*"],
        "content_type": "application/json", "timeout_ms": 1000, "max_attempts": 3,
        "priority": "normal", "max_payload": 9, "payload_schema": null, "result_schema": null,
        "workers": 1 });
    let of_earlier_version = ok(&task);
    task["unique"] = json!({ "key": null, "fields": ["/customer"], "until": "end", "for_ms": null,
        "on_conflict": "reject", "max_wait_ms": null });
    let answers = [of_earlier_version, ok(&task)];
    let fake = Fake::start(move |head| answers[usize::from(head.contains("/tasks/new"))].clone());
    let crunch = Crunch::new().with("CRUNCH_URL", &fake.await.url);
    assert!(!crunch.prints(&["tasks", "old"]).await.contains("unique"));
    let shown = crunch.prints(&["tasks", "new"]).await;
    let words = "unique\tby /customer until it ends; another one is refused\n";
    assert!(shown.contains(words), "{shown}");
}
