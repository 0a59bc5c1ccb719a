//! The groups of a queue and their rules, and jobs that name a group.

use std::collections::BTreeMap;

use crunch_common::broker::Library;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Answer, Api, Stack, Stage};
use reqwest::Method;
use serde_json::{Value, json};

use super::keys::ApiWithKeys;
use super::{api_without_workers, assert_problem, expect_problem, pointers};

async fn put(api: &Api, path: &str, rule: &Value) -> Answer {
    api.send(api.request(Method::PUT, path).json(rule)).await
}

async fn delete(api: &Api, path: &str) -> Answer {
    api.send(api.request(Method::DELETE, path)).await
}

async fn submit(api: &Api, group: &str) -> String {
    api.submit_with("t", &json!(1), &json!({ "group": group })).await
}

/// The value of a member of every group.
fn each<'a>(page: &'a Value, member: &str) -> Vec<&'a Value> {
    page["items"].as_array().unwrap().iter().map(|group| &group[member]).collect()
}

const NO_RULE: &str = r#"{"weight":1.0,"concurrency":null,"rate":null,"max_queued":null}"#;

#[tokio::test]
async fn groups_with_waiting_jobs_are_listed_with_every_member() {
    let (_stack, api) = api_without_workers().await;
    submit(&api, "a/b ä").await;
    submit(&api, "a/b ä").await;
    let page = api.get("/queues/t/groups").await;
    assert_eq!((page.status.as_u16(), page.header("cache-control")), (200, "no-store"));
    let mut page = page.json();
    assert!(page["items"][0]["next_age_ms"].take().as_u64().unwrap() < 60_000, "{page}");
    assert_eq!(page["items"][0]["id"].take().as_str().unwrap().len(), 16);
    let group = json!({
        "id": null, "name": "a/b ä", "weight": 1.0, "concurrency": null, "rate": null, "max_queued": null,
        "own_rule": false, "state": "runnable", "next_start_at": null, "queued": 2, "running": 0,
        "next_age_ms": null,
    });
    let expected = json!({ "items": [group], "next_cursor": null, "waiting": 1, "each": null });
    assert_eq!(page, expected);
}

#[tokio::test]
async fn pages_of_groups_follow_each_other_and_those_with_a_rule_only_come_last() {
    let (_stack, api) = api_without_workers().await;
    for group in ["one", "two", "three"] {
        submit(&api, group).await;
    }
    assert_eq!(put(&api, "/queues/t/groups/idle", &json!({})).await.status, 200);
    let (mut path, mut names) = ("/queues/t/groups?limit=2".to_owned(), Vec::new());
    loop {
        let answer = api.get(&path).await;
        let page = answer.json();
        assert_eq!(page["waiting"], 3);
        names.push(each(&page, "name").into_iter().cloned().collect::<Vec<_>>());
        let Some(link) = answer.header("link").strip_prefix('<') else {
            assert_eq!(page["next_cursor"], Value::Null);
            break;
        };
        path = link.split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(names.len(), 2);
    assert_eq!(names[1][1], "idle");
    let mut names = names.concat();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["idle", "one", "three", "two"]);
    for (query, name) in
        [("limit=0", "limit"), ("limit=1001", "limit"), ("cursor=x", "cursor"), ("x=1", "x")]
    {
        let answer = api.get(&format!("/queues/t/groups?{query}")).await;
        let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
        assert!(problem["detail"].as_str().unwrap().starts_with(&format!("{name}: ")), "{problem}");
    }
}

#[tokio::test]
async fn a_rule_applies_to_its_group_or_to_each_without_one_until_it_is_removed() {
    let (_stack, api) = api_without_workers().await;
    submit(&api, "own").await;
    submit(&api, "other").await;
    let own = json!({ "weight": 2.5, "concurrency": 3, "rate": { "starts": 100, "per_ms": 60_000, "burst": 5 }, "max_queued": 7 });
    let set = put(&api, "/queues/t/groups/own", &own).await;
    assert_eq!((set.status.as_u16(), set.header("cache-control")), (200, "no-store"));
    assert_eq!(set.json(), own);
    let set = put(&api, "/queues/t/groups", &json!({ "rate": { "starts": 1, "per_ms": 5 } })).await;
    let each_rule = json!({ "weight": 1.0, "concurrency": null, "rate": { "starts": 1, "per_ms": 5, "burst": 20 }, "max_queued": null });
    assert_eq!(set.json(), each_rule);

    let page = api.get("/queues/t/groups").await.json();
    assert_eq!(page["each"], each_rule);
    for group in page["items"].as_array().unwrap() {
        let (rule, is_own) =
            if group["name"] == "own" { (&own, true) } else { (&each_rule, false) };
        assert_eq!(group["own_rule"], is_own);
        for (member, value) in rule.as_object().unwrap() {
            assert_eq!(&group[member], value, "{member} of {group}");
        }
    }

    for _ in 0..2 {
        for path in ["/queues/t/groups", "/queues/t/groups/own"] {
            let answer = delete(&api, path).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{path}");
        }
    }
    let page = api.get("/queues/t/groups").await.json();
    assert_eq!((&page["each"], each(&page, "own_rule")), (&Value::Null, vec![&json!(false); 2]));
}

#[tokio::test]
async fn the_name_of_a_group_may_have_any_characters_but_control_characters() {
    let (_stack, api) = api_without_workers().await;
    api.submit("t", &json!(1)).await;
    let long = "ä".repeat(64);
    let names = [
        ("a%2Fb", "a/b"),
        ("%2F", "/"),
        ("a%252Fb", "a%2Fb"),
        ("a+b%20c", "a+b c"),
        ("%2B", "+"),
        ("%3F%23%26", "?#&"),
        ("%7Bx%7D", "{x}"),
        ("a:b*", "a:b*"),
        ("%F0%9F%98%80", "😀"),
        (&"%C3%A4".repeat(64), &long),
    ];
    for (encoded, _) in names {
        let answer = put(&api, &format!("/queues/t/groups/{encoded}"), &json!({})).await;
        assert_eq!(answer.status.as_u16(), 200, "{encoded}: {answer:?}");
    }
    let page = api.get("/queues/t/groups").await.json();
    let mut expected: Vec<_> = names.iter().map(|(_, name)| *name).collect();
    expected.sort_unstable();
    assert_eq!(each(&page, "name"), expected);
    for (encoded, _) in names {
        assert_eq!(delete(&api, &format!("/queues/t/groups/{encoded}")).await.status, 204);
    }
    assert_eq!(api.get("/queues/t/groups").await.json()["items"], json!([]));

    for wrong in ["a%0Ab", "%00", "%ff", "a%FF", "%C2%80", &"a".repeat(129)] {
        for method in [Method::PUT, Method::DELETE] {
            let request = api.request(method.clone(), &format!("/queues/t/groups/{wrong}"));
            let request = if method == Method::PUT { request.json(&json!({})) } else { request };
            let problem = expect_problem(&api, &api.send(request).await, 404, "not-found").await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("1 to 128 bytes of text"), "{method} {wrong}: {detail}");
        }
    }
    assert_problem(&put(&api, "/queues/t/groups/", &json!({})).await, 404, "not-found");
    assert_problem(&put(&api, "/queues/t/groups/a/b", &json!({})).await, 404, "not-found");
}

#[tokio::test]
async fn an_invalid_rule_changes_nothing_and_every_error_has_its_pointer() {
    let (_stack, api) = api_without_workers().await;
    submit(&api, "g").await;
    for path in ["/queues/t/groups", "/queues/t/groups/g"] {
        for (rule, expected) in [
            (json!([]), &[""][..]),
            (json!({ "weight": 0, "concurrency": "1" }), &["/concurrency", "/weight"]),
            (json!({ "rate": { "starts": 0, "per_ms": 1 } }), &["/rate/starts"]),
            (json!({ "rate": { "starts": 1 } }), &["/rate/per_ms"]),
            (json!({ "rates": 1 }), &["/rates"]),
            (json!({ "max_queued": 1_000_001 }), &["/max_queued"]),
        ] {
            let answer = put(&api, path, &rule).await;
            let problem = expect_problem(&api, &answer, 422, "invalid-submission").await;
            let mut found = pointers(&problem);
            found.sort_unstable();
            assert_eq!(found, expected, "{rule}");
        }
        let request = |content_type: &str, body: &str| {
            let request = api.request(Method::PUT, path).header("content-type", content_type);
            api.send(request.body(body.to_owned()))
        };
        assert_problem(&request("text/plain", "{}").await, 415, "unsupported-media-type");
        assert_problem(&request("application/json", "").await, 400, "malformed-json");
        assert_problem(&request("application/json", "{").await, 400, "malformed-json");
        let twice = request("application/json", r#"{"weight":1,"weight":2}"#).await;
        assert_eq!(pointers(&twice.json()), ["/weight"]);
        let large = format!("{}{{}}", " ".repeat(4096));
        assert_problem(&request("application/json", &large).await, 413, "payload-too-large");
        let problem = put(&api, &format!("{path}?weight=2"), &json!({})).await;
        assert_problem(&problem, 400, "invalid-parameter");
    }
    let page = api.get("/queues/t/groups").await.json();
    assert_eq!((&page["each"], each(&page, "own_rule")), (&Value::Null, vec![&json!(false)]));
}

#[tokio::test]
async fn rules_belong_to_queues_that_are_known() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let task = TaskDescriptor::new("declared".parse().unwrap());
    stack.redis.broker("crunch", Library::shipped()).announce(&[], &[task]).await.unwrap();
    Stack::wait_for_task(&api, "declared").await;

    let paths = ["/queues/none/groups", "/queues/none/groups/g", "/queues/UPPER/groups/g"];
    for path in paths {
        expect_problem(&api, &put(&api, path, &json!({})).await, 404, "not-found").await;
        expect_problem(&api, &delete(&api, path).await, 404, "not-found").await;
    }
    assert_problem(&api.get("/queues/none/groups").await, 404, "not-found");
    assert_problem(&api.get("/queues/none").await, 404, "not-found");

    let empty = json!({ "items": [], "next_cursor": null, "waiting": 0, "each": null });
    assert_eq!(api.get("/queues/declared/groups").await.json(), empty);
    assert_eq!(put(&api, "/queues/declared/groups/g", &json!({})).await.status, 200);
    let page = api.get("/queues/declared/groups").await.json();
    assert_eq!(each(&page, "name"), ["g"], "the queue has a rule before its first job");
}

#[tokio::test]
async fn more_than_a_thousand_rules_of_a_queue_are_refused() {
    let (stack, api) = api_without_workers().await;
    api.submit("t", &json!(1)).await;
    let broker = stack.redis.broker("crunch", Library::shipped());
    let (queue, rule) = ("t".parse().unwrap(), crunch_common::broker::GroupRule::default());
    for number in 0..1000 {
        let group = format!("g{number}").parse().unwrap();
        broker.set_group_rule(&queue, false, Some(&group), Some(&rule)).await.unwrap();
    }
    for path in ["/queues/t/groups", "/queues/t/groups/more"] {
        let answer = put(&api, path, &json!({})).await;
        expect_problem(&api, &answer, 409, "too-many-rules").await;
    }
    assert_eq!(put(&api, "/queues/t/groups/g7", &json!({ "weight": 2 })).await.status, 200);
    assert_eq!(delete(&api, "/queues/t/groups/g7").await.status, 204);
    assert_eq!(put(&api, "/queues/t/groups", &json!({})).await.status, 200);
}

#[tokio::test]
async fn a_group_that_may_start_no_job_now_is_delayed_or_blocked() {
    let (_stack, api, _worker) = Stack::simple(3).await;
    let stage = Stage::open().await;
    let submit = async |group: &str| {
        api.submit_with("act", &stage.payload(), &json!({ "group": group })).await
    };
    for (group, rule) in [
        ("blocked", json!({ "concurrency": 1 })),
        ("delayed", json!({ "rate": { "starts": 1, "per_ms": 86_400_000 } })),
    ] {
        let path = format!("/queues/act/groups/{group}");
        // The queue is known by the declaration of its task.
        assert_eq!(put(&api, &path, &rule).await.status, 200);
    }
    for group in ["blocked", "delayed"] {
        let first = submit(group).await;
        api.wait_for_status(&first, "running").await;
        submit(group).await;
    }
    let page = crunch_tests::eventually("both groups wait", async || {
        let page = api.get("/queues/act/groups").await.json();
        (each(&page, "state") == ["delayed", "blocked"]).then_some(page)
    })
    .await;
    assert_eq!(each(&page, "name"), ["delayed", "blocked"]);
    assert_eq!(
        (each(&page, "queued"), each(&page, "running")),
        (vec![&json!(1); 2], vec![&json!(1); 2])
    );
    let [delayed, blocked] = [0, 1].map(|at| &page["items"][at]["next_start_at"]);
    assert!(delayed.as_str().unwrap().ends_with('Z') && blocked.is_null(), "{page}");
}

#[tokio::test]
async fn a_full_group_is_refused_and_others_of_the_queue_are_not() {
    let (_stack, api) = api_without_workers().await;
    api.submit("t", &json!(1)).await;
    put(&api, "/queues/t/groups/full", &json!({ "max_queued": 1 })).await;
    let job = |group: &str| json!({ "task": "t", "group": group });
    assert_eq!(api.post("/jobs", &job("full")).await.status, 202);
    for answer in [
        api.post("/jobs", &job("full")).await,
        api.post("/tasks/t/jobs?group=full", &json!(1)).await,
    ] {
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (429, "group-full"));
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.json()["detail"], "group full of queue t is full");
    }
    assert_eq!(api.get("/problems/group-full").await.status, 200);
    assert_eq!(api.post("/jobs", &job("free")).await.status, 202);

    let batch = json!({ "jobs": [job("full"), job("free"), job("full")] });
    let answer = api.post("/jobs/batch", &batch).await;
    assert_eq!(answer.status.as_u16(), 202);
    assert_eq!(each(&answer.json(), "status"), [429, 202, 429]);
    assert_eq!(answer.json()["items"][0]["problem"]["type"], "/problems/group-full");
    // A later one may be accepted.
    let none = api.post("/jobs/batch", &json!({ "jobs": [job("full")] })).await;
    assert_eq!((none.status.as_u16(), none.header("retry-after")), (503, "1"));
    assert_eq!(each(&none.json(), "status"), [429]);
    let lines = format!("{}\n{}\n", job("full"), job("full"));
    let request = api.request(Method::POST, "/jobs/batch").body(lines);
    let answer = api.send(request.header("content-type", "application/x-ndjson")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["refused"]), (503, &json!(2)));
}

/// The key may be in another partition than the group, and is then reserved before the group is found to be full.
#[tokio::test]
async fn a_submission_with_a_key_is_accepted_once_its_group_has_room() {
    let (_stack, api) = api_without_workers().await;
    api.submit("t", &json!(1)).await;
    put(&api, "/queues/t/groups/full", &json!({ "max_queued": 1 })).await;
    submit(&api, "full").await;
    for key in 0..8 {
        let job = json!({ "task": "t", "group": "full", "idempotency_key": format!("k{key}") });
        for _ in 0..2 {
            assert_eq!(api.post("/jobs", &job).await.problem(), "group-full");
        }
        put(&api, "/queues/t/groups/full", &json!({ "max_queued": 100 })).await;
        let accepted = api.post("/jobs", &job).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let again = api.post("/jobs", &job).await;
        assert_eq!((again.id(), again.header("idempotency-replayed")), (accepted.id(), "true"));
        put(&api, "/queues/t/groups/full", &json!({ "max_queued": 1 })).await;
        // A repeated submission needs no room.
        assert_eq!(api.post("/jobs", &job).await.id(), accepted.id());
    }
    assert_eq!(api.get("/queues/t/groups").await.json()["items"][0]["queued"], 9);
}

#[tokio::test]
async fn a_job_keeps_its_group_and_a_key_makes_it_one_job() {
    let (_stack, api) = api_without_workers().await;
    let envelope = json!({ "task": "t", "group": "tenant-7", "idempotency_key": "k" });
    let first = api.post("/jobs", &envelope).await.json();
    assert_eq!(first["group"], "tenant-7");
    let again = api.post("/jobs", &envelope).await;
    assert_eq!(
        (again.json()["id"].clone(), again.header("idempotency-replayed")),
        (first["id"].clone(), "true")
    );
    let other = json!({ "task": "t", "group": "tenant-8", "idempotency_key": "k" });
    assert_problem(&api.post("/jobs", &other).await, 422, "idempotency-conflict");
    let job = api.job(first["id"].as_str().unwrap()).await;
    assert_eq!(job["group"], "tenant-7");
    let by_query = api.post("/tasks/t/jobs?group=a%2Fb+c", &json!(1)).await.json();
    assert_eq!(by_query["group"], "a/b c");
    assert_eq!(api.post("/jobs", &json!({ "task": "t" })).await.json()["group"], Value::Null);
    let page = api.get("/queues/t/groups").await.json();
    assert_eq!(page["waiting"], 2, "{page}");
}

/// Where a group comes from: the option, or the payload where the task declares it.
#[tokio::test]
async fn a_task_may_declare_where_the_group_is_in_the_payload() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut task = TaskDescriptor::new("report".parse().unwrap());
    task.group = Some("/customer/id".parse().unwrap());
    task.accepts.push("text/plain".parse().unwrap());
    stack.redis.broker("crunch", Library::shipped()).announce(&[], &[task]).await.unwrap();
    Stack::wait_for_task(&api, "report").await;
    assert_eq!(api.get("/tasks/report").await.json()["group"], "/customer/id");

    let of = |id: Value| json!({ "customer": { "id": id } });
    let found = [
        (of(json!("acme/ä")), json!("acme/ä")),
        (of(json!(17)), json!("17")),
        (of(json!(1.5)), json!("1.5")),
        (of(json!(false)), json!("false")),
        (of(json!(null)), json!(null)),
        (json!({ "customer": 7 }), json!(null)),
        (json!([]), json!(null)),
    ];
    for (payload, group) in &found {
        let envelope = json!({ "task": "report", "payload": payload });
        for answer in
            [api.post("/jobs", &envelope).await, api.post("/tasks/report/jobs", payload).await]
        {
            assert_eq!(answer.json()["group"], *group, "{payload}: {answer:?}");
        }
    }
    let named = json!({ "task": "report", "payload": of(json!("acme")), "group": "vip" });
    assert_eq!(api.post("/jobs", &named).await.json()["group"], "vip");
    let text = api.request(Method::POST, "/tasks/report/jobs").header("content-type", "text/plain");
    assert_eq!(api.send(text.body("{}")).await.json()["group"], Value::Null);

    let wrong = of(json!({}));
    let envelope = |payload: &Value| json!({ "task": "report", "payload": payload });
    let answers = [
        (api.post("/jobs", &envelope(&wrong)).await, "/payload/customer/id"),
        (api.post("/tasks/report/jobs", &wrong).await, "/customer/id"),
        (api.post("/tasks/report/jobs", &of(json!(""))).await, "/customer/id"),
    ];
    for (answer, pointer) in answers {
        let problem = expect_problem(&api, &answer, 422, "invalid-submission").await;
        assert_eq!(pointers(&problem), [pointer]);
        assert!(problem["detail"].as_str().unwrap().contains("takes the group from here"));
    }
    let batch =
        json!({ "jobs": [envelope(&wrong), envelope(&of(json!("acme"))), envelope(&wrong)] });
    let batch = api.post("/jobs/batch", &batch).await.json();
    assert_eq!(each(&batch, "status"), [422, 202, 422]);
    assert_eq!(pointers(&batch["items"][2]["problem"]), ["/jobs/2/payload/customer/id"]);
    assert_eq!(batch["items"][1]["job"]["group"], "acme");
    let names = api.get("/queues/report/groups").await.json();
    let queued: BTreeMap<_, _> = names["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["name"].as_str().unwrap().to_owned(), it["queued"].as_u64().unwrap()))
        .collect();
    let expected = [("1.5", 2), ("17", 2), ("acme", 1), ("acme/ä", 2), ("false", 2), ("vip", 1)];
    assert_eq!(queued, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[tokio::test]
async fn changes_of_rules_are_in_the_log_of_actions() {
    let (_stack, api) = api_without_workers().await;
    api.submit("t", &json!(1)).await;
    put(&api, "/queues/t/groups/a%2Fb", &json!({ "weight": 2 })).await;
    put(&api, "/queues/t/groups", &json!({})).await;
    put(&api, "/queues/t/groups", &json!({ "weight": 0 })).await;
    put(&api, "/queues/none/groups", &json!({})).await;
    delete(&api, "/queues/t/groups/a%2Fb").await;
    delete(&api, "/queues/t/groups").await;

    let actions = api.get("/actions").await.json();
    let short = |it: &Value| json!([it["action"], it["queue"], it["group"]]);
    let actions: Vec<_> = actions["items"].as_array().unwrap().iter().map(short).collect();
    let expected = [
        json!(["remove-group-rule", "t", null]),
        json!(["remove-group-rule", "t", "a/b"]),
        json!(["set-group-rule", "t", null]),
        json!(["set-group-rule", "t", "a/b"]),
    ];
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn a_key_for_some_queues_sees_and_changes_the_groups_of_those_only() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = keyed.create_key(&["--scopes", "admin"]).await;
    let some = keyed.create_key(&["--scopes", "admin", "--queues", "mine"]).await;
    let reader = keyed.create_key(&["--scopes", "read"]).await;
    for queue in ["mine", "yours"] {
        let job = json!({ "task": "t", "queue": queue, "group": "g" });
        assert_eq!(keyed.post(&all, "/jobs", &job).await.status, 202);
    }
    let put = async |key: &str, path: &str| {
        let request = keyed.api.request(Method::PUT, path).bearer_auth(key).json(&json!({}));
        keyed.api.send(request).await
    };
    for path in ["/queues/mine/groups", "/queues/mine/groups/g"] {
        assert_eq!(put(&some, path).await.json(), serde_json::from_str::<Value>(NO_RULE).unwrap());
        assert_problem(&put(&reader, path).await, 403, "forbidden");
        assert_problem(&keyed.send(&reader, "DELETE", path).await, 403, "forbidden");
    }
    assert_eq!(keyed.send(&reader, "GET", "/queues/yours/groups").await.status, 200);
    assert_eq!(keyed.send(&some, "GET", "/queues/mine/groups").await.status, 200);
    for rest in ["", "/g"] {
        let answer = async |method: &str, queue: &str| {
            let path = format!("/queues/{queue}/groups{rest}");
            let request = keyed.api.request(method.parse().unwrap(), &path).bearer_auth(&some);
            let request = if method == "PUT" { request.json(&json!({})) } else { request };
            let answer = keyed.api.send(request).await;
            let text = String::from_utf8(answer.body.to_vec()).unwrap().replace(queue, "{}");
            (answer.status.as_u16(), text)
        };
        for method in ["GET", "PUT", "DELETE"] {
            if method == "GET" && rest == "/g" {
                continue;
            }
            let foreign = answer(method, "yours").await;
            assert_eq!(foreign, answer(method, "none").await, "{method} {rest}");
            assert_eq!(foreign.0, 404);
        }
    }
    let page = keyed.send(&all, "GET", "/queues/yours/groups").await.json();
    assert_eq!((&page["each"], &page["items"][0]["own_rule"]), (&Value::Null, &json!(false)));
}
