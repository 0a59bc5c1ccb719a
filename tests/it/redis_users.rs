//! A Redis whose users have minimal permissions: `docs/redis-users.conf`, as it is shipped.

use std::time::Duration;

use crunch_common::Broker;
use crunch_common::broker::BrokerConfig;
use crunch_common::broker::{Library, OtherLibrary, Pruned};
use crunch_tests::{RedisServer, Stack, eventually};
use redis::RedisError;
use serde_json::json;

const SHIPPED: &str = include_str!("../../docs/redis-users.conf");

/// A Redis with the shipped users, who have passwords, and a URL for each.
struct Users {
    stack: Stack,
}

impl Users {
    fn start() -> Self {
        Self::on(|arguments| RedisServer::with_login(["admin", "secret"], arguments))
    }

    fn on(start: impl FnOnce(&[&str]) -> RedisServer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users.conf");
        let with_password = |line: &str| match line.strip_prefix("user crunch-") {
            Some(rest) => format!(
                "user crunch-{} on >secret {}",
                rest.split_once(" on ").unwrap().0,
                rest.split_once(" on ").unwrap().1
            ),
            None => line.to_owned(),
        };
        // The two commands of which the file says that they are to be added.
        let newer = RedisServer::version() >= (7, 2);
        let added = if newer { " +waitaof +client|setinfo" } else { "" };
        let with_added = |line: String| {
            if line.starts_with("user crunch-") { line + added } else { line }
        };
        let users: Vec<_> = SHIPPED.lines().map(with_password).map(with_added).collect();
        std::fs::write(&file, users.join("\n")).unwrap();
        // An administrator of the test, to read what was refused.
        let extra = ["--user", "admin", "on", ">secret", "~*", "&*", "+@all"];
        let include = ["--include", file.to_str().unwrap()];
        let redis = start(
            &[&include[..], &extra, &["--appendonly", "yes", "--appendfsync", "always"]].concat(),
        );
        Self { stack: Stack::on(redis.with_partitions(1)) }
    }

    fn url(&self, user: &str) -> String {
        self.stack.redis.url_with(&format!("{user}:secret@"))
    }

    async fn connect(&self, user: &str) -> redis::aio::MultiplexedConnection {
        let port = self.stack.redis.port();
        let client = redis::Client::open(format!("redis://{user}:secret@127.0.0.1:{port}/"));
        let client = client.unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Commands that were refused for lack of permission.
    async fn refused_commands(&self) -> Vec<String> {
        let mut admin = self.connect("admin").await;
        let log: Vec<std::collections::HashMap<String, redis::Value>> =
            redis::cmd("ACL").arg("LOG").query_async(&mut admin).await.unwrap();
        log.iter()
            .map(|entry| format!("{:?} by {:?}", entry["object"], entry["username"]))
            .collect()
    }
}

#[tokio::test]
async fn crunch_runs_with_users_that_have_minimal_permissions() {
    let mut users = Users::start();
    let (api_url, worker_url, deploy_url) =
        (users.url("crunch-api"), users.url("crunch-worker"), users.url("crunch-deploy"));
    let mut deploy = users.stack.command("test-api");
    deploy.arg("audit").env("CRUNCH_REDIS_URL", &deploy_url);
    let output = deploy.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");

    let api = users.stack.api_with(&[("CRUNCH_REDIS_URL", &api_url)]).await;
    let worker = users.stack.worker_with(&api, 2, &[("CRUNCH_REDIS_URL", &worker_url)]).await;
    use_every_verb(&api).await;
    drop(worker);
    let as_user = |user: &str, library| {
        let redis_url = users.url(user).parse().unwrap();
        let config = BrokerConfig { redis_url, ..BrokerConfig::default() };
        Broker::with_library(&config, library).unwrap()
    };
    let older = as_user("admin", Library::edited(|text| text + "\n"));
    older.load_functions().await.unwrap();
    let mut prune = users.stack.command("test-api");
    prune.args(["load-functions", "--prune"]).env("CRUNCH_REDIS_URL", &deploy_url);
    let output = prune.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("is kept: unused for 0 s"), "{output:?}");
    let deploy = as_user("crunch-deploy", Library::shipped());
    let pruned = deploy.prune_functions(Duration::ZERO).await.unwrap();
    assert!(matches!(pruned[..], [OtherLibrary { outcome: Pruned::Deleted(_), .. }]), "{pruned:?}");
    let mut heal = users.stack.command("test-api");
    heal.args(["audit", "--heal"]).env("CRUNCH_REDIS_URL", &deploy_url);
    let output = heal.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(users.refused_commands().await, [""; 0]);
}

#[tokio::test]
async fn they_may_ask_redis_for_its_role_and_for_the_nodes_of_a_cluster() {
    let users = Users::on(RedisServer::single_with);
    let sentinel = crate::sentinel::start_fake(users.stack.redis.port(), 1).await;
    for user in ["admin", "crunch-deploy", "crunch-api", "crunch-worker"] {
        let redis_url = format!("redis+sentinel://{user}:secret@{sentinel}/main").parse().unwrap();
        let config = BrokerConfig { redis_url, ..BrokerConfig::default() };
        Broker::new(&config).unwrap().open().await.unwrap();
        let url = users.url(user).replace("redis://", "redis+cluster://");
        let config = BrokerConfig { redis_url: url.parse().unwrap(), ..BrokerConfig::default() };
        let error = Broker::new(&config).unwrap().open().await.unwrap_err().to_string();
        assert!(error.contains("does not belong to a cluster"), "{error}");
    }
    assert_eq!(users.refused_commands().await, [""; 0]);
}

#[tokio::test]
async fn processes_that_may_load_no_functions_wait_for_them() {
    let mut users = Users::start();
    let (api_url, worker_url, deploy_url) =
        (users.url("crunch-api"), users.url("crunch-worker"), users.url("crunch-deploy"));
    let mut api = users.stack.api_with(&[("CRUNCH_REDIS_URL", &api_url)]).await;
    let port = [("CRUNCH_REDIS_URL", &*worker_url), ("CRUNCH_WORKER_ADDR", "127.0.0.1:0")];
    let mut worker = users.stack.worker_process(1, &port);
    let address = worker.wait_for_log("listening on ").await;
    let remedy = "run `crunch-api load-functions` of this version";
    api.process.wait_for_log(remedy).await;
    worker.wait_for_log(remedy).await;
    assert_eq!(api.get("/readyz").await.status, 503);
    eventually("the worker reports what is missing", async || {
        let answer = reqwest::get(format!("{address}/readyz")).await.unwrap();
        (answer.status() == 503 && answer.text().await.unwrap().contains(remedy)).then_some(())
    })
    .await;
    let refused = api.post("/jobs", &json!({ "task": "echo" })).await;
    assert_eq!((refused.status.as_u16(), refused.json().get("outcome")), (503, None));
    assert!(!api.process.has_exited() && !worker.has_exited());

    let mut deploy = users.stack.command("test-api");
    deploy.arg("load-functions").env("CRUNCH_REDIS_URL", &deploy_url);
    let output = deploy.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    Stack::wait_until_ready(&api, &worker).await;
    let id = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
}

/// Uses every operation of the API.
async fn use_every_verb(api: &crunch_tests::Api) {
    let ended = api.submit_with("echo", &json!(1), &json!({ "idempotency_key": "k" })).await;
    api.wait_for_status(&ended, "succeeded").await;
    let durable = json!({ "durability": "fsync" });
    let durable = api.submit_with("echo", &json!(2), &durable).await;
    api.wait_for_status(&durable, "succeeded").await;
    let large = api.submit("echo", &json!("x".repeat(100_000))).await;
    api.wait_for_status(&large, "succeeded").await;
    let later = api.submit_with("echo", &json!(3), &json!({ "delay_ms": 3_600_000 })).await;
    assert_eq!(api.post_empty(&format!("/jobs/{later}/cancel")).await.status, 200);
    assert_eq!(api.post_empty(&format!("/jobs/{later}/retry")).await.status, 202);
    api.wait_for_status(&later, "succeeded").await;
    for path in ["/jobs", "/queues", "/workers", "/tasks", "/readyz", "/metrics"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    for rest in ["", "/result", "/payload", "/attempts"] {
        assert_eq!(api.get(&format!("/jobs/{ended}{rest}")).await.status, 200, "{rest}");
    }
    for verb in ["pause", "resume", "redrive", "purge"] {
        assert_eq!(api.post_empty(&format!("/queues/echo/{verb}")).await.status, 200, "{verb}");
    }
    let deleted = api.request(reqwest::Method::DELETE, &format!("/jobs/{ended}"));
    assert_eq!(api.send(deleted).await.status, 204);
}

#[tokio::test]
async fn a_stolen_password_permits_nothing_else() {
    let users = Users::start();
    let forbidden: [&[&str]; 12] = [
        &["EVAL", "return 1", "0"],
        &["SCRIPT", "FLUSH"],
        &["FUNCTION", "DELETE", "x"],
        &["FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('x', function() end)"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["KEYS", "*"],
        &["FLUSHALL"],
        &["ACL", "LIST"],
        &["SHUTDOWN"],
        &["GET", "other"],
        &["SET", "other", "1"],
        &["SUBSCRIBE", "other"],
    ];

    for user in ["crunch-api", "crunch-worker"] {
        let mut connection = users.connect(user).await;
        for arguments in forbidden {
            let mut command = redis::cmd(arguments[0]);
            command.arg(&arguments[1..]);
            let answer: Result<redis::Value, RedisError> =
                command.query_async(&mut connection).await;
            assert_eq!(answer.unwrap_err().code(), Some("NOPERM"), "{user}: {arguments:?}");
        }
    }
    let client = users.stack.redis.client();
    let mut anonymous = client.get_multiplexed_async_connection().await.unwrap();
    let answer: Result<redis::Value, RedisError> =
        redis::cmd("GET").arg("crunch:x").query_async(&mut anonymous).await;

    assert_eq!(answer.unwrap_err().code(), Some("NOAUTH"));
}
