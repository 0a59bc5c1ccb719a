//! What a job's child gets, and what it reports, from the client and back (`tests/children/reports.py`).

use super::*;

/// Starts a worker whose children report what they get, in a folder that they know.
async fn start() -> (Stack, Api, Worker) {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let options = format!("env = {{ CRUNCH_TEST_FOLDER = '{}' }}", stack.directory().display());
    let path = declare_child(&stack, &["reports.py"], &format!("processes = 1\n{options}"));
    let worker = worker_with(&mut stack, &path);
    Stack::wait_for_task(&api, "trace").await;
    (stack, api, worker)
}

#[tokio::test]
async fn a_job_that_its_child_cannot_run_on_this_machine_waits_uncharged() {
    let (stack, api, _worker) = start().await;
    let broken = stack.directory().join("is-broken");
    std::fs::write(&broken, "").unwrap();
    let id = api.submit_with("machine", &json!(null), &json!({ "max_attempts": 1 })).await;
    let is_released = |job: &Value| job["waiting_for"]["reason"] == "machine";
    let job = api.wait_for_job(&id, "it waits for a machine", is_released).await;
    assert_eq!((&job["attempt"], &job["error"]), (&json!(0), &Value::Null), "{job}");
    assert_eq!(job["waiting_for"]["detail"], "there is no device", "{job}");
    std::fs::remove_file(broken).unwrap();
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["attempt"], &job["result"]), (&json!(1), &json!(1)), "{job}");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_child_puts_its_job_off_and_says_when_to_try_again() {
    let (stack, api, _worker) = start().await;
    let id = api.submit_with("later", &json!(null), &json!({ "max_attempts": 2 })).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["attempt"], &job["snoozes"]), (&json!(2), &json!(1)), "{job}");
    let attempts = api.get(&format!("/jobs/{id}/attempts")).await.json();
    let outcomes: Vec<_> = (0..3).map(|at| attempts["items"][at]["outcome"].clone()).collect();
    assert_eq!(outcomes, ["snoozed", "failed", "succeeded"], "{attempts}");
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_child_gets_the_trace_context_of_its_job() {
    let (_stack, api, _worker) = start().await;
    let (trace, span) = ("00-0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let submit = || api.request(reqwest::Method::POST, "/jobs").json(&json!({ "task": "trace" }));
    let request = submit().header("traceparent", format!("{trace}-{span}-01"));
    let sent = api.send(request.header("tracestate", "a=1,b=2")).await;
    let job = api.wait_for_status(&sent.id(), "succeeded").await;
    let own = job["result"]["traceparent"].as_str().unwrap();
    assert!(own.starts_with(trace) && own.ends_with("-01") && !own.contains(span), "{job}");
    assert_eq!(job["result"]["tracestate"], "a=1,b=2");

    let job = api.wait_for_status(&api.send(submit()).await.id(), "succeeded").await;
    assert_eq!(job["result"], Value::Null);
}

#[tokio::test]
async fn a_result_that_does_not_match_the_schema_of_the_child_fails_the_job() {
    let (_stack, api, _worker) = start().await;
    let (good, bad) =
        (api.submit("payload", &json!(5)).await, api.submit("payload", &json!("five")).await);
    assert_eq!(api.wait_for_status(&good, "succeeded").await["result"], 5);
    let job = api.wait_for_status(&bad, "failed").await;
    assert_eq!((&job["error"]["code"], &job["attempt"]), (&json!("result_invalid"), &json!(1)));
    let after = api.submit("payload", &json!(6)).await;
    assert_eq!(api.wait_for_status(&after, "succeeded").await["result"], 6);
}

#[tokio::test]
async fn a_child_does_not_get_the_address_of_redis() {
    let (_stack, api, _worker) = start().await;
    let id = api.submit("variables", &json!(null)).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    let names: Vec<_> =
        job["result"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&"CRUNCH_TEST_FOLDER") && names.contains(&"PATH"), "{names:?}");
    let own = ["CRUNCH_DIR", "CRUNCH_IN_FD", "CRUNCH_OUT_FD", "CRUNCH_TEST_FOLDER"];
    let of_crunch: Vec<_> = names.into_iter().filter(|name| name.starts_with("CRUNCH_")).collect();
    assert_eq!(of_crunch, own);
}
