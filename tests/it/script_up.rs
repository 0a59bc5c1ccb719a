//! `script/up`, as it is shipped, with every variable: the first command that a new user runs.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use crunch_tests::{RedisServer, binary, in_time};
use tempfile::TempDir;

/// A copy with only the files that the script needs, and a `cargo` that reports finished builds.
struct Checkout {
    root: TempDir,
}

impl Checkout {
    fn create() -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        std::fs::create_dir(root.path().join("script")).unwrap();
        for file in ["script/up", "script/install.bash", "redis.conf"] {
            let text = std::fs::read_to_string(source.join(file)).unwrap();
            // A short job, even without optimization.
            let text = text.replace("PHOTONS=3000000", "PHOTONS=3000");
            std::fs::write(root.path().join(file), text).unwrap();
        }
        let programs =
            [("test-api", "crunch-api"), ("test-worker", "crunch-worker"), ("crunch", "crunch")];
        let built = programs.map(|(built, name)| {
            let executable = binary(built);
            format!(
                r#"echo '{{"executable":"{}","target":{{"name":"{name}"}}}}'"#,
                executable.display()
            )
        });
        let checkout = Self { root };
        let cargo = checkout.file("bin/cargo", &format!("#!/bin/sh\n{}\n", built.join("\n")));
        std::fs::set_permissions(cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
        checkout
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn up(&self, environment: &BTreeMap<&str, String>) -> Output {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = format!("{}:{}", self.root.path().join("bin").display(), path.display());
        let mut script = tokio::process::Command::new("bash");
        script.arg(self.root.path().join("script/up")).arg("--once").env_clear();
        script.env("PATH", path).envs(environment).kill_on_drop(true);
        in_time("script/up", script.output()).await.unwrap()
    }
}

/// Every variable of `docs/configuration.md`.
fn documented() -> BTreeSet<&'static str> {
    let page = include_str!("../../docs/configuration.md");
    let words = page.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("CRUNCH_")).collect()
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A value for each variable that may be set together with the others, none of them the default.
fn everything(checkout: &Checkout) -> BTreeMap<&'static str, String> {
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = checkout.file("certificate.pem", &generated.cert.pem()).display().to_string();
    let key =
        checkout.file("key.pem", &generated.signing_key.serialize_pem()).display().to_string();
    let secrets = checkout.file("secrets", SECRET).display().to_string();
    let tasks = "[[task]]\nname = \"echo.command\"\ncommand = [\"cat\"]\n";
    let tasks = checkout.file("tasks.toml", tasks).display().to_string();
    let keys = checkout.root.path().join("keys").display().to_string();
    // No other process listens on an address that is derived from the id of this process.
    let [.., high, low] = std::process::id().to_be_bytes();
    let pairs = [
        ("CRUNCH_KEY_PREFIX", "mine"),
        ("CRUNCH_PARTITIONS", "2"),
        ("CRUNCH_MEMORY_WATERMARK", "80"),
        ("CRUNCH_MAX_QUEUE_DEPTH", "1000"),
        ("CRUNCH_MAX_QUEUES", "100"),
        ("CRUNCH_LOG", "debug"),
        ("CRUNCH_LOG_FORMAT", "json"),
        ("CRUNCH_API_ADDR", "127.0.0.1:0"),
        ("CRUNCH_API_KEYS", &keys),
        ("CRUNCH_API_RATE", "20"),
        ("CRUNCH_API_RATE_BURST", "1"),
        ("CRUNCH_API_TLS_CERT", &certificate),
        ("CRUNCH_API_TLS_KEY", &key),
        ("CRUNCH_API_MAX_BODY_MEMORY", "67108864"),
        ("CRUNCH_API_MAX_CONNECTIONS", "100"),
        ("CRUNCH_API_MAX_CONNECTIONS_PER_CLIENT", "50"),
        ("CRUNCH_API_MAX_WAITING_PER_CALLER", "20"),
        ("CRUNCH_PUBLIC_URL", "https://crunch.example.com"),
        ("CRUNCH_API_HOSTS", "crunch.example.com"),
        ("CRUNCH_API_CORS_ORIGINS", "https://app.example.com"),
        ("CRUNCH_ROUTES", "/simulate=crunch"),
        ("CRUNCH_DURABILITY", "fsync"),
        ("CRUNCH_DURABILITY_REPLICAS", "2"),
        ("CRUNCH_WEBHOOKS", "on"),
        ("CRUNCH_WEBHOOK_SECRETS", SECRET),
        ("CRUNCH_WEBHOOK_SECRETS_FILE", &secrets),
        ("CRUNCH_WEBHOOK_ALLOW", "127.0.0.0/8"),
        ("CRUNCH_WEBHOOK_CA_FILE", &certificate),
        ("CRUNCH_WEBHOOK_DELAYS_MS", "10,20"),
        ("CRUNCH_API_UNKNOWN_TASKS", "accept"),
        ("CRUNCH_API_DRAIN_MS", "10"),
        ("CRUNCH_WORKER_CONCURRENCY", "1"),
        ("CRUNCH_WORKER_QUEUES", "special,crunch"),
        ("CRUNCH_TASKS", &tasks),
        ("CRUNCH_WORKER_GRACE_MS", "1000"),
        ("CRUNCH_LEASE_MS", "2000"),
        ("CRUNCH_WORKER_SUPERVISE", "2"),
        ("CRUNCH_WORKER_ADDR", &format!("127.77.{high}.{low}:39090")),
        ("CRUNCH_WORKER_MAX_RESULT", "100000"),
    ];
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn assert_result(output: &Output) {
    let [printed, errors] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && printed.contains("Of the light"), "{printed}\n{errors}");
    assert!(printed.contains("/crunch top\n"), "{printed}");
}

#[tokio::test]
async fn the_script_starts_everything_with_every_documented_variable_set() {
    let checkout = Checkout::create();
    let mut environment = everything(&checkout);
    // These cannot be set together with the others, or the others would have no effect.
    let excluded = BTreeSet::from([
        "CRUNCH_REDIS_URL",
        "CRUNCH_REDIS_TLS_CA",
        "CRUNCH_REDIS_TLS_CERT",
        "CRUNCH_REDIS_TLS_KEY",
        "CRUNCH_REDIS_SENTINEL_USER",
        "CRUNCH_REDIS_SENTINEL_PASSWORD",
        "CRUNCH_AUTH",
    ]);
    let set = environment.keys().copied().chain(excluded.iter().copied()).collect();
    assert_eq!(documented(), set, "each documented variable is tested here");
    environment.extend(excluded.iter().map(|name| (*name, String::new())));
    assert_result(&checkout.up(&environment).await);
    let keys = std::fs::read_to_string(checkout.root.path().join("keys")).unwrap();
    assert!(!keys.contains("script/up"), "the key of the run is revoked: {keys}");
}

#[tokio::test]
async fn the_script_uses_the_configured_redis_and_the_tasks_of_its_workers() {
    let (checkout, redis) = (Checkout::create(), RedisServer::start());
    let mut environment = BTreeMap::from([
        ("CRUNCH_REDIS_URL", redis.url()),
        ("CRUNCH_API_ADDR", "0.0.0.0:0".to_owned()),
        ("CRUNCH_AUTH", "off".to_owned()),
    ]);

    assert_result(&checkout.up(&environment).await);
    // The second has the name of the example.
    for name in ["mine", "crunch"] {
        let own = format!("builtin = false\n[[task]]\nname = {name:?}\ncommand = [\"cat\"]\n");
        let tasks = checkout.file("tasks.toml", &own).display().to_string();
        environment.insert("CRUNCH_TASKS", tasks);
        let output = checkout.up(&environment).await;
        let printed = String::from_utf8_lossy(&output.stdout);

        assert!(
            output.status.success() && printed.contains("do not have the task crunch"),
            "{printed}"
        );
    }
}
