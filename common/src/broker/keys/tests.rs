//! That Rust and Lua define the same keys.

use std::collections::BTreeMap;

use super::*;

/// The keys that `lua/keys.lua` defines: evaluates `return p .. ':job:' .. id` for the given variables.
fn lua_keys() -> BTreeMap<String, String> {
    let variables = BTreeMap::from([
        ("p", "crunch:{0}"),
        ("id", "00000000-0000-8000-8000-000000000000"),
        ("queue", "q.1"),
        ("lane", "normal"),
        ("worker", "00000000-0000-4000-8000-000000000000"),
        ("bucket", "42"),
        ("number", "1"),
        ("unit", "minute"),
        ("span", "42"),
        ("digest", "00112233445566778899aabbccddeeff"),
        ("group", "00112233aabbccdd"),
        ("index", "00112233aabbccdd"),
        ("name", "nightly"),
    ]);
    let value = |token: &str| {
        let literal = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\''));
        literal.or_else(|| variables.get(token).copied()).unwrap_or_default().to_owned()
    };
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("function key.")?.split_once('(')?;
        let expression = rest.split_once(" return ")?.1.strip_suffix(" end")?;
        Some((name.to_owned(), expression.split(" .. ").map(value).collect()))
    };
    include_str!("../lua/keys.lua").lines().filter_map(line).collect()
}

#[test]
fn rust_and_lua_spell_the_same_keys() {
    let keys = Keys::new(&"crunch".parse().unwrap(), Partition::default(), "0");
    let queue = "q.1".parse().unwrap();
    let group = "00112233aabbccdd".parse().unwrap();
    let id: JobId = "00000000-0000-8000-8000-000000000000".parse().unwrap();
    let worker: WorkerId = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    let rust = [
        ("layout", keys.layout()),
        ("queues", keys.queues()),
        ("names", keys.names()),
        ("ended_queues", keys.ended_queues()),
        ("recent", keys.recent()),
        ("audit", keys.audit()),
        ("quarantine", keys.quarantine()),
        ("paused", keys.paused()),
        ("workers", keys.workers()),
        ("worker", keys.worker(worker)),
        ("control", keys.control(worker)),
        ("tasks", keys.tasks()),
        ("tasks_seen", keys.tasks_seen()),
        ("tasks_version", keys.tasks_version()),
        ("job", keys.job(id)),
        ("log", keys.log(id)),
        ("events", keys.events(id)),
        ("changes", keys.changes()),
        ("errors", keys.errors()),
        ("error", keys.error(&group)),
        ("error_jobs", keys.error_jobs(&group)),
        ("index", keys.index("00112233aabbccdd".parse().unwrap())),
        ("actions", keys.actions()),
        ("history", keys.history(Unit::Minute, 42)),
        ("history_queues", keys.history_queues(Unit::Minute, 42)),
        ("limits", keys.limits()),
        ("limit_rates", keys.limit_rates()),
        ("schedules", keys.schedules()),
        ("schedule_names", keys.schedule_names()),
        ("schedule", keys.schedule(&"nightly".parse().unwrap())),
        ("lock", keys.lock("00112233445566778899aabbccddeeff")),
        ("idempotency", keys.idempotency("00112233445566778899aabbccddeeff")),
        ("ready", keys.ready(&queue, &Lane::Of(Priority::Normal))),
        ("parked", keys.parked(&queue)),
        ("deadlines", keys.deadlines(&queue)),
        ("ghosts", keys.ghosts(&queue)),
        ("delayed", keys.delayed(&queue)),
        ("running", keys.running(&queue)),
        ("failed", keys.failed(&queue)),
        ("finished", keys.finished(&queue)),
        ("group", keys.group(&queue, "00112233aabbccdd".parse().unwrap())),
        ("grouped", keys.grouped(&queue)),
        ("runnable", keys.runnable(&queue)),
        ("rules", keys.rules(&queue)),
        ("rates", keys.rates(&queue)),
        ("delayed_groups", keys.delayed_groups(&queue)),
        ("blocked_groups", keys.blocked_groups(&queue)),
        ("grouped_running", keys.grouped_running(&queue)),
        ("wake", keys.wake(&queue)),
        ("ended", keys.ended(&queue, 42)),
    ];
    let lua = lua_keys();
    for (name, key) in rust {
        assert_eq!(lua.get(name), Some(&key), "{name}");
    }
}

/// Names that are defined beside the keys and are not keys.
const NOT_KEYS: [&str; 3] = ["absent", "control", "changes"];

#[test]
fn every_key_that_lua_spells_is_known_by_its_name() {
    let space = KeySpace::new("crunch".parse().unwrap(), 1);
    for (name, key) in lua_keys() {
        let known = KeyName::read(&space, &key);
        assert!(known != KeyName::Unknown || NOT_KEYS.contains(&&*name), "{name}: {key}");
    }
}

#[test]
fn every_key_of_a_partition_carries_its_hash_tag() {
    assert!(lua_keys().values().all(|key| key.starts_with("crunch:{0}:")));
}

#[test]
fn a_prefix_that_could_escape_is_refused() {
    for bad in ["", "a:b", "a{b}", "A", "a b", &"a".repeat(33)] {
        assert!(bad.parse::<KeyPrefix>().is_err(), "{bad:?}");
    }
}
