//! `system`: what Redis says of itself.

use super::Session;
use super::list::{finish, list};
use crate::documents::{Node, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::bytes;
use crate::output::{Cell, Style, Table};

const HEADER: [&str; 8] =
    ["NODE", "SERVER", "ROLE", "MEMORY", "POLICY", "CLIENTS", "ROUND TRIP", "STATE"];

/// The share of its memory from which Redis refuses new jobs by default, in percent.
pub(super) const WATERMARK: u64 = 70;

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    list(session, &["system"], |document| {
        table.row(row(&read(document)?));
        Ok(())
    })?;
    finish(session, &table, "no node of Redis is known")
}

fn row(node: &Node) -> Vec<Cell> {
    let memory = node.used_memory.map(|used| match node.max_memory {
        Some(limit) => {
            let percent = used.saturating_mul(100) / limit.max(1);
            let memory = format!("{} of {} ({percent} %)", bytes(used), bytes(limit));
            Cell::text(memory).styled_if(percent >= WATERMARK, Style::Bad)
        }
        None => Cell::text(format!("{}, no limit", bytes(used))),
    });
    let server = node.server.as_ref().zip(node.version.as_ref());
    let role = node.role.as_ref().map(|role| match node.replicas {
        Some(replicas @ 1..) => format!("{role}, {replicas} replicas"),
        _ => role.clone(),
    });
    let clients = node.clients.map(|clients| match node.max_clients {
        Some(most) => format!("{clients} of {most}"),
        None => clients.to_string(),
    });
    let state = match (&node.problem, node.disk_ok, node.append_only) {
        (Some(problem), _, _) => Cell::text(problem).styled(Style::Bad),
        (None, Some(false), _) => Cell::text("its disk rejects writes").styled(Style::Bad),
        (None, _, Some(false)) => Cell::text("ok, without append-only file"),
        (None, _, _) => Cell::text("ok").styled(Style::Good),
    };
    vec![
        Cell::text(node.address.as_deref().unwrap_or("Redis")),
        Cell::optional(server.map(|(server, version)| format!("{server} {version}"))),
        Cell::optional(role),
        memory.unwrap_or_else(|| Cell::text("")),
        Cell::optional(node.memory_policy.as_ref()),
        Cell::optional(clients),
        Cell::optional(node.round_trip_ms.map(|ms| format!("{ms:.1} ms"))),
        state,
    ]
}
