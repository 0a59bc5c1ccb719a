//! `crunch groups`: the groups of a queue and their rules.

use crunch_tests::{Stack, Stage, eventually};
use serde_json::json;

use super::Crunch;

#[tokio::test]
async fn a_rule_is_set_shown_and_removed() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    let group = "acme/ä b";
    crunch.prints(&["submit", "t", "-d", "1", "--group", group]).await;
    let listed = crunch.prints(&["groups", "t"]).await;
    let cells: Vec<_> = listed.trim_end_matches('\n').split('\t').collect();
    assert_eq!(cells[..4], [group, "runnable", "1", "0"]);
    assert_eq!(cells[5..], ["", "", "1", "", "", ""]);

    let rule = ["--weight", "2.5", "--concurrency", "3", "--rate", "100/60s", "--burst", "5"];
    let set = [&["groups", "t", group][..], &rule, &["--max-queued", "9"]].concat();
    assert_eq!(crunch.prints(&set).await, "2.5\t3\t100/1m burst 5\t9\n");
    let listed = crunch.prints(&["groups", "t", "-n", "1"]).await;
    assert!(listed.ends_with("\town\t2.5\t3\t100/1m burst 5\t9\n"), "{listed}");
    // A rule replaces the one before.
    assert_eq!(crunch.prints(&["groups", "t", group, "--weight", "1"]).await, "1\t\t\t\n");
    assert_eq!(crunch.prints(&["groups", "t", group, "--remove"]).await, "");
    assert!(!crunch.prints(&["groups", "t"]).await.contains("own"));

    let none = crunch.run(&["groups", "t", "--each"]).await;
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    crunch.prints(&["groups", "t", "--each", "--max-queued", "7"]).await;
    assert_eq!(crunch.prints(&["groups", "t", "--each"]).await, "1\t\t\t7\n");
    crunch.prints(&["groups", "t", "--each", "--remove"]).await;
    assert_eq!(crunch.run(&["groups", "t", "--each"]).await.out, "");
    let actions = crunch.prints(&["actions"]).await;
    assert!(actions.contains(&format!("set-group-rule\tt: {group}\t")), "{actions}");
}

#[tokio::test]
async fn what_cannot_be_a_rule_is_refused_with_a_hint() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let crunch = Crunch::of(&api);
    api.submit("t", &json!(1)).await;
    for (arguments, code, message) in [
        (&["groups", "t", "g"][..], 2, "there is no rule to set"),
        (&["groups", "t", "--weight", "2"], 2, "there is no group whose rule would change"),
        (&["groups", "t", "--remove"], 2, "there is no group whose rule would change"),
        (&["groups", "t", "g", "--each", "--weight", "2"], 2, "cannot be used with"),
        (&["groups", "t", "g", "--remove", "--weight", "2"], 2, "cannot be used with"),
        (&["groups", "t", "g", "--rate", "5"], 2, "such as 100/60s"),
        (&["groups", "t", "g", "--burst", "5"], 2, "--rate"),
        (&["groups", "t", "g", "--weight", "0"], 5, "expected a number from 0.001 to 1000"),
        (&["groups", "none"], 3, "there is no such queue"),
    ] {
        let run = crunch.run(arguments).await;
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(message), "{arguments:?}: {}", run.err);
    }
    crunch.prints(&["groups", "t", "full", "--max-queued", "1"]).await;
    api.submit_with("t", &json!(1), &json!({ "group": "full" })).await;
    let full = ["submit", "t", "--group", "full", "--retry-for", "0"];
    let full = crunch.run(&full).await;
    assert_eq!(full.code, 6, "{}", full.err);
    assert!(full.err.contains("group full of queue t is full"), "{}", full.err);
    assert!(full.err.contains("crunch groups QUEUE"), "{}", full.err);
}

#[tokio::test]
async fn a_job_whose_group_waits_is_explained() {
    let (_stack, api, _worker) = Stack::simple(3).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    for (group, option, value, reason) in [
        ("blocked", "--concurrency", "1", "group_concurrency"),
        ("delayed", "--rate", "1/1d", "group_rate"),
    ] {
        crunch.prints(&["groups", "act", group, option, value]).await;
        let options = json!({ "group": group });
        let first = api.submit_with("act", &stage.payload(), &options).await;
        api.wait_for_status(&first, "running").await;
        let waiting = api.submit_with("act", &stage.payload(), &options).await;
        let printed = eventually("the group waits", async || {
            let printed = crunch.prints(&["why", &waiting]).await;
            printed.contains(reason).then_some(printed)
        })
        .await;
        assert!(printed.starts_with(&format!("{waiting}\t{reason}\t")), "{printed}");
    }
}
