//! API keys: the scope that every route requires, what a key may see, and how keys are added and revoked.

use std::path::PathBuf;

use crunch_tests::{Answer, Api, RawConnection, Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::{assert_problem, expect_problem};

/// Every route and the scope that it requires, written down a second time, so that a scope is not changed by accident.
const ROUTES: [(&str, &str, &str); 65] = [
    ("POST", "/crunch", "submit"),
    ("GET", "/jobs", "read"),
    ("POST", "/jobs", "submit"),
    ("POST", "/jobs/actions", "admin"),
    ("GET", "/jobs/summary", "read"),
    ("POST", "/jobs/batch", "submit"),
    ("POST", "/tasks/{task}/jobs", "submit"),
    ("GET", "/result/{token}", "read"),
    ("GET", "/jobs/{id}", "read"),
    ("DELETE", "/jobs/{id}", "admin"),
    ("GET", "/jobs/{id}/result", "read"),
    ("GET", "/jobs/{id}/payload", "read"),
    ("GET", "/jobs/{id}/attempts", "read"),
    ("GET", "/jobs/{id}/events", "read"),
    ("GET", "/jobs/{id}/deliveries", "read"),
    ("GET", "/jobs/{id}/logs", "read"),
    ("POST", "/stream-tickets", "read"),
    ("POST", "/jobs/{id}/cancel", "cancel"),
    ("POST", "/jobs/{id}/retry", "admin"),
    ("GET", "/tasks", "read"),
    ("GET", "/tasks/{task}", "read"),
    ("GET", "/queues", "read"),
    ("GET", "/queues/{queue}", "read"),
    ("POST", "/queues/{queue}/pause", "admin"),
    ("POST", "/queues/{queue}/resume", "admin"),
    ("POST", "/queues/{queue}/redrive", "admin"),
    ("POST", "/queues/{queue}/purge", "admin"),
    ("GET", "/queues/{queue}/limit", "read"),
    ("PUT", "/queues/{queue}/limit", "admin"),
    ("DELETE", "/queues/{queue}/limit", "admin"),
    ("GET", "/limits", "read"),
    ("GET", "/limits/{name}", "read"),
    ("PUT", "/limits/{name}", "admin"),
    ("DELETE", "/limits/{name}", "admin"),
    ("GET", "/queues/{queue}/groups", "read"),
    ("PUT", "/queues/{queue}/groups", "admin"),
    ("DELETE", "/queues/{queue}/groups", "admin"),
    ("PUT", "/queues/{queue}/groups/{group}", "admin"),
    ("DELETE", "/queues/{queue}/groups/{group}", "admin"),
    ("GET", "/schedules", "read"),
    ("GET", "/schedules/{name}", "read"),
    ("PUT", "/schedules/{name}", "submit"),
    ("DELETE", "/schedules/{name}", "submit"),
    ("POST", "/schedules/{name}/pause", "submit"),
    ("POST", "/schedules/{name}/resume", "submit"),
    ("POST", "/schedules/{name}/run", "submit"),
    ("POST", "/schedules/{name}/backfill", "submit"),
    ("DELETE", "/schedules/{name}/backfill", "submit"),
    ("GET", "/errors", "read"),
    ("GET", "/errors/{id}", "read"),
    ("GET", "/actions", "read"),
    ("GET", "/history", "read"),
    ("GET", "/workers", "read"),
    ("GET", "/workers/{id}", "read"),
    ("POST", "/workers/{id}/quiet", "admin"),
    ("POST", "/workers/{id}/resume", "admin"),
    ("POST", "/workers/{id}/stop", "admin"),
    ("GET", "/metrics", "read"),
    ("GET", "/system", "read"),
    ("GET", "/openapi.json", "read"),
    ("GET", "/docs", ""),
    ("GET", "/docs/{file}", ""),
    ("GET", "/problems/{slug}", "read"),
    ("GET", "/", "read"),
    ("GET", "/livez", ""),
];
/// Open as well, for load balancers.
const READY: (&str, &str, &str) = ("GET", "/readyz", "");

/// An API that requires keys, and the file of the keys.
pub(crate) struct ApiWithKeys {
    pub(crate) stack: Stack,
    pub(crate) api: Api,
    file: PathBuf,
}

impl ApiWithKeys {
    pub(crate) async fn start(environment: &[(&str, &str)]) -> Self {
        let mut stack = Stack::start();
        let file = stack.directory().join("keys.json");
        create(&stack, &file, &["--name", "first", "--scopes", "admin"]).await;
        let mut all = vec![
            ("CRUNCH_API_KEYS", file.to_str().unwrap()),
            ("CRUNCH_API_UNKNOWN_TASKS", "accept"),
        ];
        all.extend(environment);
        let api = stack.api_with(&all).await;
        Self { stack, api, file }
    }

    /// Creates a key and waits until the running API accepts it.
    pub(crate) async fn create_key(&self, arguments: &[&str]) -> String {
        let key = create(&self.stack, &self.file, &[&["--name", "test"], arguments].concat()).await;
        eventually("the key is accepted", async || {
            (self.send(&key, "GET", "/").await.status != 401).then_some(())
        })
        .await;
        key
    }

    pub(crate) async fn send(&self, key: &str, method: &str, path: &str) -> Answer {
        let request = self.api.request(method.parse().unwrap(), path);
        self.api.send(request.bearer_auth(key)).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.api.send(self.api.request(Method::POST, path).bearer_auth(key).json(body)).await
    }

    /// Another API with the same keys.
    pub(crate) async fn start_another_api(&mut self, environment: &[(&str, &str)]) -> Api {
        let mut all = vec![("CRUNCH_API_KEYS", self.file.to_str().unwrap())];
        all.extend(environment);
        self.stack.api_with(&all).await
    }

    pub(crate) async fn revoke(&self, key: &str) {
        let id = key.split('_').nth(1).unwrap();
        let output =
            run_keys(&self.stack, &["revoke", id, "--file", self.file.to_str().unwrap()]).await;
        assert_eq!(output, (0, format!("revoked {id}\n"), String::new()));
    }
}

async fn run_keys(stack: &Stack, arguments: &[&str]) -> (i32, String, String) {
    let output = stack.command("test-api").arg("keys").args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn create(stack: &Stack, file: &std::path::Path, arguments: &[&str]) -> String {
    let create = ["create", "--file", file.to_str().unwrap()];
    let (code, key, error) = run_keys(stack, &[&create[..], arguments].concat()).await;
    assert_eq!((code, error.as_str()), (0, ""));
    key.trim_end().to_owned()
}

#[tokio::test]
async fn every_route_requires_its_scope_and_accepts_no_other() {
    let keyed = ApiWithKeys::start(&[]).await;
    let mut callers = vec![("admin", keyed.create_key(&["--scopes", "admin"]).await)];

    for scope in ["submit", "read", "cancel"] {
        callers.push((scope, keyed.create_key(&["--scopes", scope]).await));
    }
    let unknown = format!("crk_abcdefghij_{}", "a".repeat(43));
    let forged = format!("{}{}", &callers[0].1[..20], "a".repeat(38));
    let document = keyed.send(&callers[0].1, "GET", "/openapi.json").await.json();
    let mut described = 0;
    for (method, path, scope) in ROUTES.into_iter().chain([READY]) {
        let operation = &document["paths"][path][method.to_lowercase()];
        described += usize::from(operation.is_object());
        let documented = &operation["security"][0]["key"][0];
        assert_eq!(documented.as_str().unwrap_or_default(), scope, "{method} {path}");
        let path = path.replace("{slug}", "gone").replace(['{', '}'], "");
        let without_key = keyed.api.send(keyed.api.request(method.parse().unwrap(), &path)).await;
        for (wrong, key) in [("unknown", &unknown), ("forged", &forged)] {
            let answer = keyed.send(key, method, &path).await;
            assert_eq!(answer.status == 401, !scope.is_empty(), "{wrong} {method} {path}");
        }
        assert_eq!(without_key.status == 401, !scope.is_empty(), "no key {method} {path}");
        for (has, key) in &callers {
            let answer = keyed.send(key, method, &path).await;
            let status = answer.status.as_u16();
            let allowed = scope.is_empty() || *has == scope || *has == "admin";
            assert_eq!(status == 403, !allowed, "{has} {method} {path}: {status}");
            assert!(status != 401 && status < 500, "{has} {method} {path}: {status}");
        }
    }
    let paths = document["paths"].as_object().unwrap().values();
    let all: usize = paths.map(|item| item.as_object().unwrap().len()).sum();

    assert_eq!(
        (described, all),
        (ROUTES.len() + 1, ROUTES.len() + 1),
        "every route is in the table"
    );
}

#[tokio::test]
async fn rejections_of_keys_reveal_only_what_the_caller_may_know() {
    let keyed = ApiWithKeys::start(&[]).await;
    let (admin, reader) = (
        keyed.create_key(&["--scopes", "admin"]).await,
        keyed.create_key(&["--scopes", "read"]).await,
    );
    let mut raw = RawConnection::to(&keyed.api).await;
    let authorization = format!("Authorization: Bearer {admin}");
    let missing = raw.request("GET /jobs", &[]).await;

    assert_problem(&missing, 401, "unauthorized");
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"crunch\"");
    let twice = [authorization.as_str(), authorization.as_str()];
    let basic = format!("Authorization: Basic {admin}");
    for wrong in [&twice[..], &[basic.as_str()], &["Authorization: Bearer"], &["Authorization: "]] {
        let answer = raw.request("GET /jobs", wrong).await;
        assert_problem(&answer, 401, "unauthorized");
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"crunch\", error=\"invalid_token\""
        );
    }
    assert_eq!(raw.request("GET /jobs", &[&authorization]).await.status, 200);
    let forbidden = keyed.send(&reader, "POST", "/queues/q/pause").await;
    assert_problem(&forbidden, 403, "forbidden");
    assert!(forbidden.json()["detail"].as_str().unwrap().contains("admin"), "{forbidden:?}");
    // Where there is no route, no key is required.
    assert_problem(&raw.request("GET /nothing", &[]).await, 404, "not-found");
    assert_problem(&raw.request("PUT /jobs", &[]).await, 405, "method-not-allowed");
    assert_eq!(raw.request("OPTIONS /jobs", &[]).await.status, 204);
    let log = keyed.api.process.log();
    for key in [&admin, &reader] {
        assert!(!log.contains(key.split('_').nth(2).unwrap()), "a secret is in the log");
    }
}

#[tokio::test]
async fn keys_are_added_and_revoked_while_the_api_runs() {
    let mut keyed = ApiWithKeys::start(&[]).await;
    let key = keyed.create_key(&["--scopes", "read"]).await;
    let kept = keyed.create_key(&["--scopes", "read"]).await;
    keyed.revoke(&key).await;
    eventually("the key is not accepted any more", async || {
        (keyed.send(&key, "GET", "/").await.status == 401).then_some(())
    })
    .await;
    assert_eq!(keyed.send(&kept, "GET", "/").await.status, 200);

    std::fs::write(&keyed.file, "{\"keys\": [").unwrap();
    keyed.api.process.wait_for_log("cannot read the file of API keys").await;
    assert_eq!(keyed.send(&kept, "GET", "/").await.status, 200);
    std::fs::remove_file(&keyed.file).unwrap();
    let new = keyed.create_key(&["--scopes", "read"]).await;
    assert_eq!(keyed.send(&new, "GET", "/").await.status, 200);
    assert_eq!(keyed.send(&kept, "GET", "/").await.status, 401);
}

#[tokio::test]
async fn the_key_file_is_private_and_contains_no_secret() {
    use std::os::unix::fs::PermissionsExt;
    let keyed = ApiWithKeys::start(&[]).await;
    let queues = ["--scopes", "read,submit", "--queues", "b,a", "--rate", "7"];
    let key = keyed.create_key(&queues).await;
    let (id, secret) = key.strip_prefix("crk_").unwrap().split_once('_').unwrap();
    let mode = std::fs::metadata(&keyed.file).unwrap().permissions().mode() & 0o777;
    let text = std::fs::read_to_string(&keyed.file).unwrap();

    assert!(mode == 0o600 && !text.contains(secret), "{mode:o} {text}");
    let arguments = ["list", "--file", keyed.file.to_str().unwrap()];
    let (code, list, _) = run_keys(&keyed.stack, &arguments).await;
    let line = list.lines().find(|line| line.starts_with(id)).unwrap();
    let columns: Vec<_> = line.split_whitespace().collect();
    assert_eq!((code, &columns[2..]), (0, &["submit,read", "a,b", "7", "test"][..]));
    let unknown = ["revoke", "aaaaaaaaaa", "--file", keyed.file.to_str().unwrap()];
    let (code, _, error) = run_keys(&keyed.stack, &unknown).await;

    assert!(code == 2 && error.contains("there is no key aaaaaaaaaa"), "{error}");
}

#[tokio::test]
async fn an_api_that_cannot_read_its_keys_does_not_start_and_reports_why() {
    use std::os::unix::fs::PermissionsExt;
    let stack = Stack::start();
    let file = stack.directory().join("keys.json");
    let example = json!({ "keys": [{
        "id": "examplekey", "name": "docs", "hash": format!("sha256:{}", "0".repeat(64)),
        "scopes": ["admin"], "created_at": "2026-11-22T13:40:54.426Z",
    }] });
    let cases = [
        (None, 0o600, "`crunch-api keys create` creates it"),
        (Some("{\"keys\": [{\"id\": 1}]}".to_owned()), 0o600, "at line 1"),
        (Some("{\"keys\": [], \"more\": 1}".to_owned()), 0o600, "unknown field `more`"),
        (Some(example.to_string()), 0o600, "the example key of the documentation is public"),
        (Some("{\"keys\": []}".to_owned()), 0o622, "is writable by other users"),
    ];

    for (text, mode, error) in cases {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        }
        let mut command = stack.command("test-api");
        command.env("CRUNCH_API_KEYS", &file).env("CRUNCH_API_ADDR", "127.0.0.1:0");
        let output = command.output().await.unwrap();
        let error_output = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error_output}");
        assert!(
            error_output.contains(error) && error_output.contains("crunch-api: CRUNCH_API_KEYS: "),
            "{error_output}"
        );
    }
    let mut both = stack.command("test-api");
    both.env("CRUNCH_API_KEYS", &file).env("CRUNCH_AUTH", "off");
    let output = both.output().await.unwrap();
    let error_output = String::from_utf8(output.stderr).unwrap();

    assert!(
        output.status.code() == Some(2) && error_output.contains("set one of them"),
        "{error_output}"
    );
}

#[tokio::test]
async fn equal_idempotency_keys_of_two_callers_do_not_conflict() {
    let keyed = ApiWithKeys::start(&[]).await;
    let one = keyed.create_key(&["--scopes", "submit"]).await;
    let other = keyed.create_key(&["--scopes", "submit"]).await;

    for path in ["/jobs", "/jobs/batch"] {
        let item = json!({ "task": "t", "idempotency_key": "same" });
        let body = if path == "/jobs" { item } else { json!({ "jobs": [item] }) };
        let id = |answer: &Answer| match path {
            "/jobs" => answer.id(),
            _ => answer.json()["items"][0]["job"]["id"].as_str().unwrap().to_owned(),
        };
        let first = keyed.post(&one, path, &body).await;
        let again = keyed.post(&one, path, &body).await;
        let others = keyed.post(&other, path, &body).await;
        assert_eq!(id(&first), id(&again), "{path}");
        assert_ne!(id(&first), id(&others), "{path}");
        assert_eq!((first.status.as_u16(), others.status.as_u16()), (202, 202));
    }
}

#[tokio::test]
async fn a_key_for_some_queues_does_not_reveal_that_others_exist() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = keyed.create_key(&["--scopes", "admin"]).await;
    let some = keyed.create_key(&["--scopes", "admin", "--queues", "mine,mine.too"]).await;
    let submit = async |key: &str, queue: &str| {
        keyed.post(key, "/jobs", &json!({ "task": "t", "queue": queue })).await
    };
    let (foreign, mine) = (submit(&all, "yours").await.id(), submit(&some, "mine").await.id());
    let unknown = "01a20c36-14f1-8000-8f8f-f34074aa25aa";
    assert_forbidden(&keyed, &some, &submit(&some, "yours").await).await;
    assert_forbidden(&keyed, &some, &keyed.post(&some, "/jobs", &json!({ "task": "t" })).await)
        .await;
    let batch =
        json!({ "jobs": [{ "task": "t", "queue": "yours" }, { "task": "t", "queue": "mine" }] });
    let answer = keyed.post(&some, "/jobs/batch", &batch).await.json();
    assert_eq!(
        (&answer["items"][0]["status"], &answer["items"][1]["status"]),
        (&json!(403), &json!(202))
    );

    for (method, path) in [
        ("GET", "/result/{}"),
        ("GET", "/jobs/{}"),
        ("GET", "/jobs/{}/result"),
        ("GET", "/jobs/{}/payload"),
        ("GET", "/jobs/{}/attempts"),
        ("GET", "/jobs/{}?wait=1"),
        ("GET", "/jobs/{}/deliveries"),
        ("GET", "/jobs/{}/logs"),
        ("GET", "/jobs/{}/events"),
        ("GET", "/result/{}?wait=1"),
        ("POST", "/jobs/{}/retry"),
        ("DELETE", "/jobs/{}"),
        ("POST", "/jobs/{}/cancel"),
    ] {
        let seen = async |id: &str| {
            let answer = keyed.send(&some, method, &path.replace("{}", id)).await;
            let text = String::from_utf8(answer.body.to_vec()).unwrap().replace(id, "{}");
            (answer.status.as_u16(), answer.header("cache-control").to_owned(), text)
        };
        assert_eq!(seen(&foreign).await, seen(unknown).await, "{method} {path}");
        assert_eq!(seen(&foreign).await.0, 404);
        // The event stream of a waiting job does not end.
        if !path.ends_with("/events") {
            assert_ne!(seen(&mine).await.0, 404, "{method} {path}");
        }
    }
    assert_eq!(
        keyed.send(&all, "GET", &format!("/jobs/{foreign}")).await.json()["status"],
        "queued"
    );
    assert_lists_show_only_own_queues(&keyed, &all, &some).await;
}

async fn assert_forbidden(keyed: &ApiWithKeys, key: &str, answer: &Answer) {
    assert_problem(answer, 403, "forbidden");
    assert_eq!(keyed.send(key, "GET", "/problems/forbidden").await.status, 200);
}

async fn assert_lists_show_only_own_queues(keyed: &ApiWithKeys, all: &str, some: &str) {
    let queues = async |key: &str, path: &str, member: &str| {
        let items = keyed.send(key, "GET", path).await.json()["items"].as_array().unwrap().clone();
        let mut names: Vec<_> =
            items.iter().map(|item| item[member].as_str().unwrap().to_owned()).collect();
        // The list of jobs goes through the partitions.
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(queues(some, "/queues", "name").await, ["mine"]);
    assert_eq!(queues(all, "/queues", "name").await, ["mine", "yours"]);
    assert_eq!(queues(all, "/jobs?status=queued", "queue").await, ["mine", "yours"]);
    for path in ["/jobs", "/jobs?status=queued", "/jobs?queue=mine", "/jobs?limit=1"] {
        let names = queues(some, path, "queue").await;
        assert!(names.is_empty() || names == ["mine"], "{path}: {names:?}");
    }
    assert_eq!(queues(some, "/jobs?status=queued", "queue").await, ["mine"]);
    for path in ["/jobs?queue=yours", "/jobs?queue=none"] {
        assert_problem(&keyed.send(some, "GET", path).await, 404, "not-found");
    }
    // A cursor into another queue can only be forged by the caller.
    use base64::Engine;
    let forged =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode("queued/0/yours/normal/0//");
    assert_eq!(queues(some, &format!("/jobs?cursor={forged}"), "queue").await, ["mine"]);
    for path in ["/queues/yours", "/queues/none"] {
        assert_problem(&keyed.send(some, "GET", path).await, 404, "not-found");
        assert_problem(&keyed.send(some, "POST", &format!("{path}/pause")).await, 404, "not-found");
    }
    assert_eq!(keyed.send(some, "POST", "/queues/mine/pause").await.status, 200);
}

#[tokio::test]
async fn a_key_that_may_not_read_sees_only_the_status_of_a_job_that_holds_its_lock() {
    let mut keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let submitter = keyed.create_key(&["--scopes", "submit"]).await;
    let _worker = keyed.stack.worker_process(1, &[("CRUNCH_WORKER_QUEUES", "echo")]);
    let job = json!({
        "task": "echo", "queue": "echo", "payload": "secret", "metadata": { "a": "secret" },
        "unique": { "key": "a", "for_ms": 600_000 },
    });
    let id = keyed.post(&admin, "/jobs", &job).await.json()["id"].as_str().unwrap().to_owned();
    eventually("the job ends", async || {
        let job = keyed.send(&admin, "GET", &format!("/jobs/{id}")).await.json();
        (job["result"] == "secret").then_some(())
    })
    .await;

    let mine = json!({ "task": "echo", "queue": "echo", "payload": 1, "unique": { "key": "a" } });
    let batch = json!({ "jobs": [mine] });
    for (key, sees) in [(&admin, true), (&submitter, false)] {
        let one = keyed.post(key, "/jobs", &mine).await;
        assert_eq!((one.status.as_u16(), one.header("crunch-existing")), (202, "true"));
        let (one, many) = (one.json(), keyed.post(key, "/jobs/batch", &batch).await);
        assert_eq!(many.json()["items"][0]["existing"], true);
        for job in [&one, &many.json()["items"][0]["job"]] {
            assert_eq!((&job["id"], &job["status"]), (&json!(id), &json!("succeeded")), "{job}");
            assert_eq!(
                (job.to_string().contains("secret"), job["worker"].is_string()),
                (sees, sees)
            );
        }
        let omitted = if sees { Value::Null } else { json!("scope") };
        assert_eq!(one["result_omitted"], omitted);
    }
}

#[tokio::test]
async fn without_keys_an_api_on_loopback_is_open() {
    let (_stack, api) = super::api_without_workers().await;
    let answer = api.send(api.request(Method::GET, "/jobs").bearer_auth("crk_nonsense")).await;
    assert_eq!(answer.status, 200);
    expect_problem(&api, &api.get("/jobs/x").await, 404, "not-found").await;
}
