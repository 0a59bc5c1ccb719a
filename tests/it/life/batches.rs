//! Handlers that are called with many jobs at once.

use std::collections::BTreeSet;

use crunch_tests::Stack;
use serde_json::{Value, json};

#[tokio::test]
async fn jobs_in_one_call_end_one_by_one() {
    let (stack, api, _worker) = Stack::simple(6).await;
    let canceled = api.submit("gather", &json!(0)).await;
    api.wait_for_status(&canceled, "running").await;
    api.post(&format!("/jobs/{canceled}/cancel"), &Value::Null).await;
    api.wait_for_status(&canceled, "canceled").await;

    let mut ids = Vec::new();
    for payload in [json!(1), json!("fail"), json!(3)] {
        ids.push(api.submit("gather", &payload).await);
    }
    let failed = api.wait_for_status(&ids[1], "failed").await;
    assert_eq!(failed["error"]["message"], "as requested");
    for id in [&ids[0], &ids[2]] {
        let together = api.wait_for_status(id, "succeeded").await["result"].clone();
        let together: BTreeSet<String> = serde_json::from_value(together).unwrap();
        assert_eq!(together, ids.iter().cloned().collect());
    }
    stack.assert_clean_audit().await;
}
