//! Redis, as the API sees it.

use super::Findings;
use crate::client::{Client, Request};
use crate::commands::system::WATERMARK;
use crate::documents::{Node, read};
use crate::error::Error;

/// The share of its connections that leaves too few for another process, in percent.
const CROWDED: u64 = 90;

/// Whether the API serves requests.
pub(super) fn is_ready(client: &Client, findings: &mut Findings) -> bool {
    let error = match client.send(&Request::get(&["readyz"])) {
        Ok(_) => {
            findings.ok("readiness", "the API serves requests");
            return true;
        }
        Err(error) => error,
    };
    match &error {
        Error::Problem(problem) if problem.status == 503 => findings.fault(
            "readiness",
            "the API is not ready: Redis is unavailable, wrongly configured, or rejects writes",
            "see the log of crunch-api, and start or repair Redis",
        ),
        _ => findings.error("readiness", &error),
    }
    false
}

/// Every node of Redis; a key for some queues does not see them. Returns whether all can be used.
pub(super) fn nodes(client: &Client, findings: &mut Findings) -> bool {
    let before = findings.0.len();
    let mut usable = true;
    for document in client.items(Request::get(&["system"])) {
        match document.and_then(|document| read::<Node>(&document)) {
            Ok(node) => usable &= examine(&node, findings),
            Err(Error::Problem(problem)) if problem.status == 403 => {
                findings.ok("redis", "not visible to a key for some queues");
                return true;
            }
            Err(error) => {
                findings.error("redis", &error);
                return false;
            }
        }
    }
    findings.ok_unless_found(before, "redis", "it answers, keeps everything and has room");
    usable
}

/// Returns whether the node can be used.
fn examine(node: &Node, findings: &mut Findings) -> bool {
    let name = node.address.as_deref().unwrap_or("Redis");
    if let Some(problem) = &node.problem {
        findings.fault(
            "redis",
            format!("{name} cannot be used: {problem}"),
            "start it if it does not run, correct what this says, or CRUNCH_REDIS_URL of the API",
        );
        return false;
    }
    if node.memory_policy.as_deref().is_some_and(|policy| policy != "noeviction") {
        let policy = node.memory_policy.as_deref().unwrap_or_default();
        findings.fault(
            "redis",
            format!("{name} deletes jobs when it is full: its policy is {policy}"),
            "set maxmemory-policy noeviction",
        );
    }
    if node.disk_ok == Some(false) {
        findings.fault(
            "redis",
            format!("{name} cannot write to its disk"),
            "see its log, and make room on the disk",
        );
    }
    if node.append_only == Some(false) {
        findings.warning(
            "redis",
            format!("{name} loses the newest jobs when it is killed: it has no append-only file"),
            "set appendonly yes; see docs/durability.md",
        );
    }
    room(node, name, findings);
    true
}

fn room(node: &Node, name: &str, findings: &mut Findings) {
    match (node.used_memory, node.max_memory) {
        (Some(used), Some(limit)) if used * 100 >= limit * WATERMARK => findings.fault(
            "redis",
            format!(
                "{name} uses {} % of its memory: new jobs are refused",
                used * 100 / limit.max(1)
            ),
            "raise maxmemory, or let jobs be kept for a shorter time",
        ),
        (Some(_), None) => findings.warning(
            "redis",
            format!("{name} has no limit of memory: the system may kill it"),
            "set maxmemory to less than the machine has",
        ),
        _ => {}
    }
    if let (Some(clients), Some(most)) = (node.clients, node.max_clients)
        && clients * 100 >= most * CROWDED
    {
        findings.fault(
            "redis",
            format!("{name} has {clients} of at most {most} connections"),
            "raise maxclients",
        );
    }
}
