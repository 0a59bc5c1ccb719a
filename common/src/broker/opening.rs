//! What happens on every new connection before it is used: the library is there, the key space is ours, and Redis will
//! not evict jobs.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, InfoDict, RedisError};

use super::connection::Call;
use super::error::{Error, Remedy, classify};
use super::functions::{Function, LAYOUT, Library};
use super::{Broker, Settings, reply};
use crate::job::Partition;

/// Checks the Redis at the other end of a new connection and loads the library if it is missing.
pub(crate) async fn open(
    connection: &mut MultiplexedConnection,
    settings: &Settings,
) -> Result<(), Error> {
    let info: InfoDict = redis::cmd("INFO").query_async(connection).await.map_err(heard)?;
    check_version(&info)?;
    check_eviction(&info)?;
    tell_of_no_maxmemory(&info, settings);
    let stored = match ask(connection, settings).await {
        Err(error) if classify(&error).0 == Remedy::Reload => {
            load(connection, &settings.library).await.map_err(heard)?;
            ask(connection, settings).await
        }
        answer => answer,
    };
    let stored = stored.map_err(|error| classify(&error).1)?;
    stored.into_iter().try_for_each(|stored| check_layout(stored, settings))
}

/// Loads the library; one that is there already is left as it is.
pub(crate) async fn load(
    connection: &mut MultiplexedConnection,
    library: &Library,
) -> Result<(), RedisError> {
    let mut command = redis::cmd("FUNCTION");
    command.arg("LOAD").arg("REPLACE").arg(library.text());
    command.exec_async(connection).await
}

/// Opens every partition, in one round trip.
async fn ask(
    connection: &mut MultiplexedConnection,
    settings: &Settings,
) -> Result<Vec<(u64, u16)>, Arc<RedisError>> {
    let mut pipeline = redis::pipe();
    for partition in settings.partitions() {
        let mut command = redis::cmd("FCALL");
        let root = settings.keys(partition).root().to_string();
        command.arg(settings.library.name_of(Function::Open)).arg(1).arg(root);
        write(&mut command, settings);
        pipeline.add_command(command);
    }
    pipeline.query_async(connection).await.map_err(Arc::new)
}

/// Writes the arguments of `open`.
fn write(command: &mut Cmd, settings: &Settings) {
    command.arg(LAYOUT).arg(settings.partitions);
}

impl Broker {
    /// Founds the key space of a partition again, if Redis lost its memory while we were connected.
    pub(crate) async fn found(&self, partition: Partition) -> Result<(), Error> {
        let arguments = |command: &mut Cmd| write(command, &self.settings);
        let reply = self.link.call(Call::new(Function::Open, partition), arguments).await?;
        let [layout, partitions] = reply::fields(reply)?;
        let partitions = u16::try_from(reply::unsigned(&partitions)?).unwrap_or(u16::MAX);
        check_layout((reply::unsigned(&layout)?, partitions), &self.settings)
    }
}

fn heard(error: RedisError) -> Error {
    classify(&Arc::new(error)).1
}

fn check_version(info: &InfoDict) -> Result<(), Error> {
    let version: String = field(info, "redis_version");
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major >= 7 {
        return Ok(());
    }
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

/// Without a limit nothing can be done before the machine itself is out of memory.
fn tell_of_no_maxmemory(info: &InfoDict, settings: &Settings) {
    if field::<u64>(info, "maxmemory") == 0 {
        settings.told_of_no_maxmemory.call_once(|| {
            tracing::info!(
                "redis has no maxmemory: new jobs are taken until the machine has no memory left; set one, and they are refused in time"
            );
        });
    }
}

fn check_layout((layout, partitions): (u64, u16), settings: &Settings) -> Result<(), Error> {
    if layout != LAYOUT {
        let reason = format!(
            "the key space has layout {layout}; this version reads and writes layout {LAYOUT}"
        );
        return Err(Error::Refused { reason });
    }
    if partitions != settings.partitions {
        let reason = format!(
            "the key space has {partitions} partitions, CRUNCH_PARTITIONS says {}; they are fixed once used",
            settings.partitions
        );
        return Err(Error::Refused { reason });
    }
    Ok(())
}

fn field<T: FromRedisValue + Default>(info: &InfoDict, name: &str) -> T {
    info.get(name).unwrap_or_default()
}
