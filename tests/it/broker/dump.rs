//! A whole key space as text, to be compared with another one.

use std::collections::BTreeMap;

use redis::Value;
use redis::aio::MultiplexedConnection;

/// Every key below a prefix, with its type, whether it expires, and what it holds; in sets and hashes the order says nothing.
pub(crate) async fn dump(
    redis: &mut MultiplexedConnection,
    prefix: &str,
) -> BTreeMap<String, Vec<String>> {
    let pattern = format!("{prefix}:*");
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(redis).await.unwrap();
    if keys.is_empty() {
        return BTreeMap::new();
    }
    let mut ask = redis::pipe();
    for key in &keys {
        ask.cmd("TYPE").arg(key).cmd("EXPIRETIME").arg(key);
    }
    let about: Vec<Value> = ask.query_async(redis).await.unwrap();
    let mut ask = redis::pipe();
    let mut kinds = Vec::new();
    for (key, about) in keys.iter().zip(about.chunks_exact(2)) {
        let kind: String = redis::from_redis_value(about[0].clone()).unwrap();
        match kind.as_str() {
            "hash" => ask.cmd("HGETALL").arg(key),
            "list" => ask.cmd("LRANGE").arg(key).arg(0).arg(-1),
            "set" => ask.cmd("SMEMBERS").arg(key),
            "zset" => ask.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
            "string" => ask.cmd("GET").arg(key),
            other => panic!("{key} is a {other}"),
        };
        kinds.push((kind, about[1] != Value::Int(-1)));
    }
    let held: Vec<Value> = ask.query_async(redis).await.unwrap();
    let keys = keys.into_iter().zip(kinds).zip(held);
    keys.map(|((key, (kind, expires)), held)| {
        let mut entries = entries(&kind, held);
        entries.push(format!("{kind}, expires: {expires}"));
        (key, entries)
    })
    .collect()
}

fn entries(kind: &str, held: Value) -> Vec<String> {
    match kind {
        "string" => vec![redis::from_redis_value(held).unwrap()],
        "list" => redis::from_redis_value(held).unwrap(),
        _ => {
            let map: Vec<String> = redis::from_redis_value(held).unwrap();
            let width = if kind == "set" { 1 } else { 2 };
            let mut entries: Vec<_> = map.chunks(width).map(|entry| entry.join(" = ")).collect();
            entries.sort();
            entries
        }
    }
}
