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
