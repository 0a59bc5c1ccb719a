//! Messages about invalid configuration.

use std::collections::BTreeSet;
use std::process::Output;

use crunch_tests::{Stack, eventually};
use serde_json::json;

async fn run(stack: &Stack, name: &str, environment: (&str, &str)) -> Output {
    // The default port may be in use.
    let mut command = stack.command(name);
    command.env("CRUNCH_API_ADDR", "127.0.0.1:0").env(environment.0, environment.1);
    command.output().await.unwrap()
}

#[tokio::test]
async fn a_wrong_value_names_variable_value_and_what_is_accepted_and_exits_2() {
    let stack = Stack::start();
    let cases = [
        (
            "test-api",
            "CRUNCH_API_ADDR",
            "nowhere",
            "expected an IP address and a port, such as 127.0.0.1:8080",
        ),
        ("test-api", "CRUNCH_ROUTES", "crunch", "expected path=task, separated by commas"),
        (
            "test-api",
            "CRUNCH_DURABILITY",
            "disk",
            "expected memory, fsync, replica, or fsync,replica",
        ),
        ("test-api", "CRUNCH_LOG_FORMAT", "xml", "expected one of text, json"),
        (
            "test-worker",
            "CRUNCH_WORKER_CONCURRENCY",
            "lots",
            "expected a whole number from 1 to 1024",
        ),
        (
            "test-worker",
            "CRUNCH_LEASE_MS",
            "10s",
            "expected whole milliseconds from 1000 to 3600000",
        ),
        ("test-worker", "CRUNCH_WORKER_SUPERVISE", "0", "expected a whole number from 1 to 64"),
        (
            "test-worker",
            "CRUNCH_WORKER_ADDR",
            ":9090",
            "expected an IP address and a port, such as 127.0.0.1:8080",
        ),
        ("test-worker", "CRUNCH_WORKER_QUEUES", "a,B", "expected queue names separated by commas"),
        ("test-worker", "CRUNCH_KEY_PREFIX", "a:b", "expected"),
        ("test-worker", "CRUNCH_PARTITIONS", "0", "expected a whole number from 1 to 1024"),
    ];

    for (name, variable, value, accepted) in cases {
        let output = run(&stack, name, (variable, value)).await;
        let text = String::from_utf8(output.stderr).unwrap();
        let program = name.replace("test-", "crunch-");
        let start = format!("{program}: {variable}={value}: ");
        assert!(text.starts_with(&start) && text.contains(accepted), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[tokio::test]
async fn help_lists_every_variable() {
    let stack = Stack::start();
    let common = [
        "CRUNCH_REDIS_URL",
        "CRUNCH_REDIS_TLS_CA",
        "CRUNCH_REDIS_TLS_CERT",
        "CRUNCH_REDIS_TLS_KEY",
        "CRUNCH_REDIS_SENTINEL_USER",
        "CRUNCH_REDIS_SENTINEL_PASSWORD",
        "CRUNCH_KEY_PREFIX",
        "CRUNCH_PARTITIONS",
        "CRUNCH_LOG",
        "CRUNCH_LOG_FORMAT",
    ];
    let api = [
        "CRUNCH_API_ADDR",
        "CRUNCH_PUBLIC_URL",
        "CRUNCH_API_DRAIN_MS",
        "CRUNCH_ROUTES",
        "CRUNCH_DURABILITY",
        "CRUNCH_DURABILITY_REPLICAS",
        "CRUNCH_API_UNKNOWN_TASKS",
        "CRUNCH_AUTH",
        "CRUNCH_API_KEYS",
        "CRUNCH_API_RATE",
        "CRUNCH_API_RATE_BURST",
        "CRUNCH_API_TLS_CERT",
        "CRUNCH_API_TLS_KEY",
        "CRUNCH_API_MAX_CONNECTIONS",
        "CRUNCH_API_MAX_CONNECTIONS_PER_CLIENT",
    ];
    let worker = [
        "CRUNCH_WORKER_CONCURRENCY",
        "CRUNCH_WORKER_QUEUES",
        "CRUNCH_WORKER_GRACE_MS",
        "CRUNCH_LEASE_MS",
        "CRUNCH_WORKER_SUPERVISE",
        "CRUNCH_WORKER_ADDR",
        "CRUNCH_TASKS",
    ];

    for (name, own) in [("test-api", &api[..]), ("test-worker", &worker[..])] {
        let output = stack.command(name).arg("--help").output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for variable in common.iter().chain(own) {
            assert!(text.contains(variable), "{name} --help does not mention {variable}");
        }
        assert_eq!(output.status.code(), Some(0));
    }
}

/// Every variable that a page of the documentation names.
fn documented(page: &str) -> BTreeSet<&str> {
    let words = page.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("CRUNCH_")).collect()
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let mut stack = Stack::with_one_partition();
    let variables = documented(include_str!("../../docs/configuration.md"));

    assert!(variables.len() > 35, "{variables:?}");
    // A test must set the address of Redis, and that the port is a free one.
    let set = ["CRUNCH_REDIS_URL", "CRUNCH_API_ADDR"];
    let empty: Vec<_> =
        variables.iter().filter(|name| !set.contains(*name)).map(|name| (*name, "")).collect();
    let api = stack.api_with(&empty).await;
    let _worker = stack.worker_with(&api, 1, &empty).await;
    let id = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    // The variables that were left out above.
    let api =
        stack.command("test-api").args(["audit", "--json"]).env("CRUNCH_API_ADDR", "").output();
    assert!(api.await.unwrap().status.success());
    let help = stack.command("test-api").arg("--help").env("CRUNCH_PUBLIC_URL", "").output();
    assert!(String::from_utf8(help.await.unwrap().stdout).unwrap().contains("CRUNCH_PUBLIC_URL"));
    // Nothing listens on port 1; on the default one, an API of this machine may.
    let mut without = stack.command("test-api");
    without.arg("health").env("CRUNCH_REDIS_URL", "").env("CRUNCH_API_ADDR", "127.0.0.1:1");

    assert_eq!(without.output().await.unwrap().status.code(), Some(1), "not ready, but configured");
}

#[tokio::test]
async fn no_message_shows_the_password_of_redis() {
    let stack = Stack::start();
    let odd = [
        "redis://:hunter2#s/w?o%rd@127.0.0.1:7320/",
        "rediss://:hunter2#@127.0.0.1:6380/",
        "redis://hunter2@127.0.0.1/",
        "http://:hunter2@x",
    ];

    for name in ["test-api", "test-worker"] {
        for url in odd {
            let output = run(&stack, name, ("CRUNCH_REDIS_URL", url)).await;
            let text = String::from_utf8(output.stderr).unwrap();
            let start = format!("{}: CRUNCH_REDIS_URL: ", name.replace("test-", "crunch-"));
            assert!(text.starts_with(&start) && !text.contains("hunter2"), "{text}");
            assert_eq!(output.status.code(), Some(2), "{text}");
        }
        let url = "redis://:hunter2@127.0.0.1:1/";
        let help = stack.command(name).arg("--help").env("CRUNCH_REDIS_URL", url).output().await;
        let text = String::from_utf8(help.unwrap().stdout).unwrap();
        assert!(text.contains("CRUNCH_REDIS_URL") && !text.contains("hunter2"), "{text}");
        let url = stack.redis.url_with(":hunter2@");
        let output = run(&stack, name, ("CRUNCH_REDIS_URL", &url)).await;
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(text[1].contains("authentication"), "{text:?}");
        assert!(!text.concat().contains("hunter2"), "{text:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[tokio::test]
async fn a_taken_port_is_reported() {
    let stack = Stack::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = run(&stack, "test-api", ("CRUNCH_API_ADDR", &addr)).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("cannot listen on {addr}")), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn an_api_that_others_can_reach_needs_explicit_settings() {
    let stack = Stack::start();
    let output = run(&stack, "test-api", ("CRUNCH_API_ADDR", "0.0.0.0:0")).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("set CRUNCH_AUTH=off"), "{text}");
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn a_key_space_with_other_partitions_is_refused() {
    let mut stack = Stack::with_one_partition();
    let api = stack.api().await;
    // The first process initializes the key space; the API listens shortly before that.
    eventually("the key space is initialized", async || {
        api.get("/readyz").await.status.is_success().then_some(())
    })
    .await;
    let mut worker = stack.worker_process(1, &[("CRUNCH_PARTITIONS", "2")]);
    assert_eq!(worker.exited().await.code(), Some(1));
    let log = worker.log();
    assert!(log.contains("the key space has 1 partitions, but CRUNCH_PARTITIONS is 2"), "{log}");
    drop(api);
}
