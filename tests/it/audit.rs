//! The audit of a system at work, and of one that somebody has tampered with.

mod damage;
mod long_lists;
mod work;

use crunch_tests::{Api, Stack};
use redis::aio::MultiplexedConnection;
use serde_json::Value;

/// A stack whose keys a test may change behind everybody's back.
struct Scene {
    stack: Stack,
    api: Api,
    redis: MultiplexedConnection,
}

impl Scene {
    async fn open() -> Self {
        let mut stack = Stack::start();
        let api = stack.api().await;
        let redis = stack.redis.client().get_multiplexed_async_connection().await.unwrap();
        Self { stack, api, redis }
    }

    /// Sends a command about a key, and about what follows.
    async fn tamper(&mut self, command: &str, tail: &str, arguments: &[&str]) {
        let key = format!("crunch:{{0}}:{tail}");
        let mut command = redis::cmd(command);
        let () = command.arg(key).arg(arguments).query_async(&mut self.redis).await.unwrap();
    }

    /// Takes the worker out of a running job's state.
    async fn unfence(&mut self, id: &str) {
        let key = format!("crunch:{{0}}:job:{id}");
        let mut ask = redis::cmd("HGET");
        let state: String = ask.arg(key).arg("state").query_async(&mut self.redis).await.unwrap();
        let mut words: Vec<_> = state.split(' ').collect();
        words[5] = "-";
        self.tamper("HSET", &format!("job:{id}"), &["state", &words.join(" ")]).await;
    }

    /// What `crunch-api audit` says, as JSON, and its exit code.
    async fn audit(&self, more: &[&str]) -> (Value, i32) {
        let mut command = self.stack.command("test-api");
        let output = command.args(["audit", "--json"]).args(more).output().await.unwrap();
        let account = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (account, output.status.code().unwrap())
    }
}
