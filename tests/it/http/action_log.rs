//! The log of operators' actions.

use crunch_tests::{Api, eventually};
use serde_json::{Value, json};

use super::api_without_workers;
use super::keys::ApiWithKeys;

async fn actions(api: &Api) -> Vec<Value> {
    api.get("/actions").await.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_operators_do_is_recorded_with_who_what_and_how_many() {
    let (_stack, api) = api_without_workers().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(api.submit("report", &json!({})).await);
    }
    let [first, second, _] = &ids[..] else { unreachable!("three were submitted") };
    api.post_empty(&format!("/jobs/{first}/cancel")).await;
    api.post_empty(&format!("/jobs/{first}/retry")).await;
    api.post_empty("/queues/report/pause").await;
    let filter = "action=cancel&status=queued&queue=report";
    api.post_empty(&format!("/jobs/actions?{filter}&dry_run=true")).await;
    api.post_empty(&format!("/jobs/actions?{filter}&limit=2")).await;
    let purged = api.post_empty("/queues/report/purge").await.json();
    assert_eq!((&purged["count"], &purged["left"]["queued"]), (&json!(1), &json!(0)));
    let answer = api.send(api.request(reqwest::Method::DELETE, &format!("/jobs/{second}"))).await;
    assert_eq!(answer.status.as_u16(), 204);

    let actions = actions(&api).await;
    let short =
        |it: &Value| json!([it["action"], it["queue"], it["job"], it["filter"], it["count"]]);
    let expected = [
        json!(["delete", null, second, null, 1]),
        json!(["purge", "report", null, null, 1]),
        json!(["cancel", "report", null, "status=queued queue=report", 2]),
        json!(["pause", "report", null, null, null]),
        json!(["retry", "report", first, null, 1]),
    ];
    assert_eq!(actions.iter().map(short).collect::<Vec<_>>(), expected);
    for action in &actions {
        assert_eq!((&action["address"], &action["key"]), (&json!("127.0.0.1"), &Value::Null));
        assert!(action["at"].as_str().unwrap().starts_with("20"), "{action}");
    }
    // A page at a time.
    let page = api.get("/actions?limit=2&cursor=2").await.json();
    assert_eq!(
        (&page["items"][0]["action"], &page["next_cursor"]),
        (&json!("cancel"), &json!("4"))
    );
    let last = api.get("/actions?limit=2&cursor=4").await.json();
    assert_eq!((last["items"].as_array().unwrap().len(), &last["next_cursor"]), (1, &Value::Null));
}

#[tokio::test]
async fn a_key_for_some_queues_sees_the_actions_on_its_queues() {
    let keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let own = keyed.create_key(&["--scopes", "read", "--queues", "mine"]).await;
    for queue in ["mine", "other"] {
        let job = json!({ "task": "report", "queue": queue, "payload": {} });
        keyed.post(&admin, "/jobs", &job).await;
        keyed.send(&admin, "POST", &format!("/queues/{queue}/pause")).await;
    }
    let seen = async |key: &str| {
        let actions = keyed.send(key, "GET", "/actions").await.json()["items"].clone();
        let actions = actions.as_array().unwrap().iter();
        actions.map(|it| json!([it["key"], it["queue"]])).collect::<Vec<_>>()
    };
    let both = eventually("both are recorded", async || {
        let seen = seen(&admin).await;
        (seen.len() == 2).then_some(seen)
    })
    .await;
    assert_eq!(both, [json!(["test", "other"]), json!(["test", "mine"])]);
    assert_eq!(seen(&own).await, [json!(["test", "mine"])]);
}

#[tokio::test]
async fn the_log_is_filtered_by_who_what_and_when() {
    let keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let id = keyed.post(&admin, "/jobs", &json!({ "task": "report" })).await.id();
    keyed.send(&admin, "POST", "/queues/report/pause").await;
    keyed.send(&admin, "POST", "/queues/report/resume").await;
    keyed.send(&admin, "POST", &format!("/jobs/{id}/cancel")).await;
    keyed.send(&admin, "POST", &format!("/jobs/{id}/retry")).await;

    let all = keyed.send(&admin, "GET", "/actions").await.json()["items"].clone();
    let at = |index: usize| all[index]["at"].as_str().unwrap().replace(':', "%3A");
    let found = async |query: &str| {
        let page = keyed.send(&admin, "GET", &format!("/actions?{query}")).await.json();
        let names = page["items"].as_array().unwrap().iter().map(|it| it["action"].clone());
        (names.collect::<Vec<_>>(), page["next_cursor"].clone())
    };
    let (retry, resume, pause) = (json!("retry"), json!("resume"), json!("pause"));
    let three = vec![retry.clone(), resume.clone(), pause.clone()];
    assert_eq!(found("").await, (three.clone(), Value::Null));
    assert_eq!(found("by=test&queue=report").await.0, three);
    assert_eq!(found("by=other").await, (Vec::new(), Value::Null));
    assert_eq!(found("action=pause").await.0, std::slice::from_ref(&pause));
    assert_eq!(found(&format!("job={}", id.to_uppercase())).await.0, std::slice::from_ref(&retry));
    assert_eq!(found(&format!("from={}", at(1))).await, (vec![retry, resume], Value::Null));
    assert_eq!(found(&format!("to={}", at(1))).await.0, [pause]);
    assert_eq!(found("action=pause&limit=1").await.1, "3", "a page ends after its last action");
    for wrong in ["action=none", "queue=No!", "error=x", "from=yesterday", "who=test"] {
        let answer = keyed.send(&admin, "GET", &format!("/actions?{wrong}")).await;
        assert_eq!(answer.status.as_u16(), 400, "{wrong}");
    }
}
