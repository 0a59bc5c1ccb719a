//! Reads a whole key space as text, to compare it with another one.

use std::collections::BTreeMap;

use redis::Value;
use redis::aio::MultiplexedConnection;

/// Every key with a prefix: its entries, its type and whether it expires. Entries of sets and hashes are sorted.
pub(crate) async fn dump(
    redis: &mut MultiplexedConnection,
    prefix: &str,
) -> BTreeMap<String, Vec<String>> {
    let pattern = format!("{prefix}:*");
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(redis).await.unwrap();
    if keys.is_empty() {
        return BTreeMap::new();
    }

    let mut pipe = redis::pipe();
    for key in &keys {
        pipe.cmd("TYPE").arg(key).cmd("EXPIRETIME").arg(key);
    }
    let metadata: Vec<Value> = pipe.query_async(redis).await.unwrap();

    let mut pipe = redis::pipe();
    let mut kinds = Vec::new();
    for (key, metadata) in keys.iter().zip(metadata.chunks_exact(2)) {
        let kind: String = redis::from_redis_value(metadata[0].clone()).unwrap();
        match kind.as_str() {
            "hash" => pipe.cmd("HGETALL").arg(key),
            "list" => pipe.cmd("LRANGE").arg(key).arg(0).arg(-1),
            "set" => pipe.cmd("SMEMBERS").arg(key),
            "zset" => pipe.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
            "string" => pipe.cmd("GET").arg(key),
            other => panic!("{key} is a {other}"),
        };
        kinds.push((kind, metadata[1] != Value::Int(-1)));
    }

    let values: Vec<Value> = pipe.query_async(redis).await.unwrap();
    let keys = keys.into_iter().zip(kinds).zip(values);
    keys.map(|((key, (kind, expires)), value)| {
        let mut entries = entries(&kind, value);
        entries.push(format!("{kind}, expires: {expires}"));
        (key, entries)
    })
    .collect()
}

fn entries(kind: &str, value: Value) -> Vec<String> {
    match kind {
        "string" => vec![redis::from_redis_value(value).unwrap()],
        "list" => redis::from_redis_value(value).unwrap(),
        _ => {
            let map: Vec<String> = redis::from_redis_value(value).unwrap();
            let width = if kind == "set" { 1 } else { 2 };
            let mut entries: Vec<_> = map.chunks(width).map(|entry| entry.join(" = ")).collect();
            entries.sort();
            entries
        }
    }
}
