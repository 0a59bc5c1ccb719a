//! Checks on every new connection before it is used: the library is loaded, the key space has this layout, and Redis
//! does not evict jobs.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, InfoDict, RedisError, Value};

use super::error::{Error, Remedy, classify};
use super::functions::{Function, LAYOUT, Library};
use super::reply::server_errors;
use super::transfer::MinRate;
use super::{CALL_DEADLINE, Settings};
use crate::job::Partition;

/// Checks the Redis at the other end of a new connection, which has these partitions, and loads the library if it is
/// missing.
pub(crate) async fn open(
    connection: &mut MultiplexedConnection,
    settings: &Settings,
    partitions: &[Partition],
    in_cluster: bool,
) -> Result<(), (Remedy, Error)> {
    let check = check_and_open(connection, settings, partitions, in_cluster);
    let stored = match within(CALL_DEADLINE, check).await? {
        Some(stored) => stored,
        None => {
            // On a slow network shared with others this takes longer than any call, and a restart would not make it
            // faster.
            let time_limit = MinRate::ForJob.time_limit(settings.library.text().len() as u64);
            within(time_limit, load(connection, &settings.library)).await?;
            let retry = async {
                let opened = open_partitions(connection, settings, partitions);
                opened.await.map_err(|error| classify(&error))
            };
            within(CALL_DEADLINE, retry).await?
        }
    };
    let checked = stored.into_iter().try_for_each(|stored| check_layout(&stored, settings));
    checked.map_err(|error| (Remedy::Wait, error))
}

async fn within<T>(
    time_limit: Duration,
    step: impl Future<Output = Result<T, (Remedy, Error)>>,
) -> Result<T, (Remedy, Error)> {
    let result = tokio::time::timeout(time_limit, step).await;
    result.map_err(|_| (Remedy::Wait, Error::timed_out()))?
}

/// Checks the configuration that Redis reports and opens every partition; `None` if the library is missing.
async fn check_and_open(
    connection: &mut MultiplexedConnection,
    settings: &Settings,
    partitions: &[Partition],
    in_cluster: bool,
) -> Result<Option<Vec<Layout>>, (Remedy, Error)> {
    let reply = redis::cmd("INFO").query_async(connection).await;
    let info: InfoDict = reply.map_err(|error| classify(&Arc::new(error)))?;
    check_info(&info, settings, in_cluster).map_err(|error| (Remedy::Wait, error))?;
    match open_partitions(connection, settings, partitions).await {
        Ok(stored) => Ok(Some(stored)),
        Err(error) => match classify(&error) {
            (Remedy::Reload, _) => Ok(None),
            failure => Err(failure),
        },
    }
}

/// Loads the library; one that is already loaded stays as it is. If this user may not load functions, an operator must:
/// a retry does not help until then, and that takes longer than one call.
pub(crate) async fn load(
    connection: &mut MultiplexedConnection,
    library: &Library,
) -> Result<(), (Remedy, Error)> {
    let mut command = redis::cmd("FUNCTION");
    command.arg("LOAD").arg("REPLACE").arg(library.text());
    let loaded = command.exec_async(connection).await.map_err(Arc::new);
    loaded.map_err(|error| match error.code() {
        Some("NOPERM") => (Remedy::GiveUp, Error::Rejected { reason: not_loaded(library) }),
        _ => classify(&error),
    })
}

fn not_loaded(library: &Library) -> String {
    format!(
        "the functions {} of version {} are not loaded, and this user may not load them: run `crunch-api load-functions` of this version as a user with that permission (docs/security.md)",
        library.name(),
        env!("CARGO_PKG_VERSION")
    )
}

/// Opens partitions, in one round trip. Those that have been moved away, or are being moved, are left out: they have been
/// opened before, and the others do not wait for them.
async fn open_partitions(
    connection: &mut MultiplexedConnection,
    settings: &Settings,
    partitions: &[Partition],
) -> Result<Vec<Layout>, Arc<RedisError>> {
    let mut pipeline = redis::pipe();
    for &partition in partitions {
        let mut command = settings.call(Function::Open, partition);
        write(&mut command, settings);
        pipeline.add_command(command);
    }
    if pipeline.is_empty() {
        return Ok(Vec::new());
    }
    // The client library's own conversion would hide the code of an error, and a rejection would look like an outage.
    let count = pipeline.cmd_iter().count();
    let replies = connection.send_packed_commands(&pipeline, 0, count).await;
    let replies =
        replies.and_then(|replies| server_errors(replies, is_elsewhere)).map_err(Arc::new)?;
    let here = replies.into_iter().filter(|reply| !matches!(reply, Value::ServerError(_)));
    Vec::from_redis_value(Value::Array(here.collect())).map_err(|error| Arc::new(error.into()))
}

/// Whether a partition is at another node, or will be soon.
fn is_elsewhere(error: &Arc<RedisError>) -> bool {
    matches!(error.code(), Some("MOVED" | "ASK" | "TRYAGAIN" | "MOVING" | "CLUSTERDOWN"))
}

/// Writes the arguments of `open`.
pub(crate) fn write(command: &mut Cmd, settings: &Settings) {
    command.arg(LAYOUT).arg(settings.space.len());
}

fn check_info(info: &InfoDict, settings: &Settings, in_cluster: bool) -> Result<(), Error> {
    check_version(info)?;
    if !in_cluster && field::<u8>(info, "cluster_enabled") == 1 {
        let reason = "it is a node of a Redis Cluster: set CRUNCH_REDIS_URL to redis+cluster://host1,host2/ with some of its nodes";
        return Err(Error::Refused { reason: reason.to_owned() });
    }
    check_eviction(info)?;
    warn_of_no_maxmemory(info, settings);
    Ok(())
}

fn check_version(info: &InfoDict) -> Result<(), Error> {
    if version(info).0 >= 7 {
        return Ok(());
    }
    let version: String = field(info, "redis_version");
    Err(Error::Refused { reason: format!("it is version {version}; functions need 7.0 or later") })
}

fn check_eviction(info: &InfoDict) -> Result<(), Error> {
    let policy: String = field(info, "maxmemory_policy");
    if policy == "noeviction" {
        return Ok(());
    }
    Err(Error::Refused {
        reason: format!("maxmemory-policy is {policy}, which may evict jobs; set it to noeviction"),
    })
}

/// Without a limit no job can be rejected before the machine itself is out of memory.
fn warn_of_no_maxmemory(info: &InfoDict, settings: &Settings) {
    if field::<u64>(info, "maxmemory") == 0 {
        settings.warned_of_no_maxmemory.call_once(|| {
            tracing::info!(
                "redis has no maxmemory: new jobs are accepted until the machine has no memory left; with a limit they are rejected in time"
            );
        });
    }
}

/// What a partition stores about its layout: version, number of partitions, and the features in use.
pub(crate) type Layout = (u64, u16, Option<String>);

pub(crate) fn check_layout(
    (layout, partitions, features): &Layout,
    settings: &Settings,
) -> Result<(), Error> {
    if *layout != LAYOUT {
        let reason = format!(
            "the key space has layout {layout}, and this version reads and writes layout {LAYOUT}; nothing is converted: set another CRUNCH_KEY_PREFIX, or delete the keys of this one when its jobs are no longer needed (docs/upgrade.md)"
        );
        return Err(Error::Refused { reason });
    }
    if *partitions != settings.space.len() {
        let reason = format!(
            "the key space has {partitions} partitions, but CRUNCH_PARTITIONS is {}; the number is fixed once the key space was used",
            settings.space.len()
        );
        return Err(Error::Refused { reason });
    }
    settings.check_features(features.as_deref().unwrap_or_default())
}

/// The major and minor version of Redis.
pub(crate) fn version(info: &InfoDict) -> (u32, u32) {
    let version: String = field(info, "redis_version");
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

pub(crate) fn field<T: FromRedisValue + Default>(info: &InfoDict, name: &str) -> T {
    info.get(name).unwrap_or_default()
}
