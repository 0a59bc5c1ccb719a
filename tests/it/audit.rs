//! The audit of a busy system, and of one whose keys were damaged.

mod damage;
mod long_lists;
mod work;

use crunch_tests::{Api, Stack};
use redis::aio::MultiplexedConnection;
use serde_json::Value;

/// A stack whose keys a test can change directly.
struct AuditStack {
    stack: Stack,
    api: Api,
    redis: MultiplexedConnection,
}

impl AuditStack {
    async fn start() -> Self {
        let mut stack = Stack::with_one_partition();
        let api = stack.api().await;
        let redis = stack.redis.connect().await;
        Self { stack, api, redis }
    }

    /// Sends Redis a command on the key that ends with `tail`, behind the back of Crunch.
    async fn tamper(&mut self, command: &str, tail: &str, arguments: &[&str]) {
        let key = format!("crunch:{{0}}:{tail}");
        let mut command = redis::cmd(command);
        let () = command.arg(key).arg(arguments).query_async(&mut self.redis).await.unwrap();
    }

    /// Removes the worker from a running job's `state`: it is the sixth word of that field.
    async fn unfence(&mut self, id: &str) {
        let key = format!("crunch:{{0}}:job:{id}");
        let mut command = redis::cmd("HGET");
        let state: String =
            command.arg(key).arg("state").query_async(&mut self.redis).await.unwrap();
        let mut fields: Vec<_> = state.split(' ').collect();
        fields[5] = "-";
        self.tamper("HSET", &format!("job:{id}"), &["state", &fields.join(" ")]).await;
    }

    /// The report of `crunch-api audit` as JSON, and its exit code.
    async fn audit(&self, arguments: &[&str]) -> (Value, i32) {
        let mut command = self.stack.command("test-api");
        let output = command.args(["audit", "--json"]).args(arguments).output().await.unwrap();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (report, output.status.code().unwrap())
    }
}
