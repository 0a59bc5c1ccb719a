//! How durable a submission is before it is answered, and how Redis proves it.
//!
//! `memory` means that Redis accepted it. `fsync` and `replica` protect against different losses (of power, and of a
//! whole machine), so neither includes the other: the levels of a deployment and of a request are combined, and a
//! submission gets at least both.
//!
//! Never relies on a setting that was read earlier: the proof of a batch is requested in the same round trip, after it.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use redis::{Cmd, InfoDict, Pipeline, Value};

use super::connection::Link;
use super::error::Error;
use super::opening::{field, version};
use super::reply;
use crate::config::whole_number;
use crate::job::Partition;

/// How durable a submission is before it is answered.
#[derive(Debug, Clone, Copy, Args)]
pub struct DurabilityConfig {
    /// Minimum durability of a submission before it is answered; a request may ask for more, never for less. `memory`:
    /// Redis accepted it. `fsync`: it is on the disk of Redis. `replica`: a replica has it. `fsync,replica`: both.
    #[arg(long, env = "CRUNCH_DURABILITY", value_name = "LEVEL", default_value = "memory")]
    pub durability: Durability,

    /// How many replicas must have a submission for `replica`, 1 to 16.
    #[arg(long = "durability-replicas", env = "CRUNCH_DURABILITY_REPLICAS", value_name = "N", default_value = "1", value_parser = whole_number::<u16>(1..=16))]
    pub replicas: u16,
}

impl Default for DurabilityConfig {
    fn default() -> Self {
        Self { durability: Durability::MEMORY, replicas: 1 }
    }
}

/// What must have happened to a submission before it is answered, beyond Redis having accepted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durability {
    fsync: bool,
    replica: bool,
}

impl Durability {
    /// Redis accepted it.
    pub const MEMORY: Self = Self { fsync: false, replica: false };
    /// It is on the disk of Redis.
    pub const FSYNC: Self = Self { fsync: true, replica: false };
    /// Replicas have it.
    pub const REPLICA: Self = Self { fsync: false, replica: true };

    /// Number of levels.
    pub const COUNT: usize = 4;
    /// All levels, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::MEMORY, Self::FSYNC, Self::REPLICA, Self::FSYNC.and(Self::REPLICA)];

    /// Returns the combination of both levels.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { fsync: self.fsync || other.fsync, replica: self.replica || other.replica }
    }

    /// Whether acceptance by Redis is enough.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        !self.fsync && !self.replica
    }

    pub(crate) const fn number(self) -> usize {
        self.fsync as usize + 2 * self.replica as usize
    }
}

impl FromStr for Durability {
    type Err = InvalidDurability;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').try_fold(Self::MEMORY, |sum, word| match word.trim() {
            "memory" => Ok(sum),
            "fsync" => Ok(sum.and(Self::FSYNC)),
            "replica" => Ok(sum.and(Self::REPLICA)),
            _ => Err(InvalidDurability),
        })
    }
}

/// Not the name of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected memory, fsync, replica, or fsync,replica")]
pub struct InvalidDurability;

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.fsync, self.replica) {
            (false, false) => "memory",
            (true, false) => "fsync",
            (false, true) => "replica",
            (true, true) => "fsync,replica",
        })
    }
}

/// How this Redis proves that something is on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fsync {
    /// `WAITAOF` waits for the disk: 7.2 and later.
    WaitAof,
    /// Each write is on the disk before it is answered: earlier versions, while they are configured so.
    Always,
}

/// The commands after a batch in the same round trip whose replies prove its durability.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof {
    fsync: Option<Fsync>,
    /// 0: no replica is required.
    replicas: u16,
}

/// Required settings of a Redis before 7.2: each write is on disk before it is answered, also during rewrites of the
/// AOF.
const ALWAYS: [(&str, &str); 3] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")];

impl Proof {
    /// Determines how the node of a partition can prove it.
    ///
    /// # Errors
    /// [`Error::Refused`] if it cannot with its configuration.
    pub(crate) async fn of(
        link: &Link,
        partition: Partition,
        wanted: DurabilityConfig,
    ) -> Result<Self, Error> {
        let DurabilityConfig { durability, replicas } = wanted;
        let fsync = if durability.fsync { Some(fsync(link, partition).await?) } else { None };
        Ok(Self { fsync, replicas: if durability.replica { replicas } else { 0 } })
    }

    /// Writes the commands. They must be the last of their pipeline, on a connection that nothing else uses: waiting
    /// blocks all commands after it.
    ///
    /// `mark` is a key to write to. Redis waits for the last write *of this connection*, and a batch that repeats an
    /// earlier one writes nothing: without the mark, Redis would immediately confirm what another connection wrote and
    /// no disk or replica has yet.
    pub(crate) fn write(self, pipeline: &mut Pipeline, mark: &str, time_limit_ms: u64) {
        if self.fsync.is_none() && self.replicas == 0 {
            return;
        }
        pipeline.cmd("SET").arg(mark).arg("");
        // The waits run one after the other. Zero would mean no limit.
        let both = self.fsync == Some(Fsync::WaitAof) && self.replicas > 0;
        let time_limit_ms = (time_limit_ms / if both { 2 } else { 1 }).max(1);
        match self.fsync {
            Some(Fsync::WaitAof) => {
                pipeline.cmd("WAITAOF").arg(1).arg(0).arg(time_limit_ms);
            }
            Some(Fsync::Always) => {
                pipeline.add_command(get_settings());
            }
            None => {}
        }
        if self.replicas > 0 {
            pipeline.cmd("WAIT").arg(self.replicas).arg(time_limit_ms);
        }
    }

    /// Reads the replies.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if it is not proven, for whatever reason: the jobs themselves were accepted.
    pub(crate) fn read(
        self,
        replies: impl Iterator<Item = Result<Value, Error>>,
    ) -> Result<(), Error> {
        if self.fsync.is_none() && self.replicas == 0 {
            return Ok(());
        }
        self.check(replies).map_err(|error| match error {
            Error::NotDurable { .. } => error,
            other => in_doubt(other.to_string()),
        })
    }

    fn check(self, mut replies: impl Iterator<Item = Result<Value, Error>>) -> Result<(), Error> {
        let mut next = || {
            replies
                .next()
                .unwrap_or_else(|| Err(Error::unreadable("no reply to the durability check")))
        };
        let _marked = next()?;
        match self.fsync {
            Some(Fsync::WaitAof) => {
                let [local, _replicas] = reply::fields(next()?)?;
                if reply::unsigned(&local)? == 0 {
                    return Err(in_doubt("it is not on the disk of Redis yet"));
                }
            }
            Some(Fsync::Always) => check_settings(next()?).map_err(in_doubt)?,
            None => {}
        }
        if self.replicas > 0 {
            let confirmed = reply::unsigned(&next()?)?;
            if confirmed < u64::from(self.replicas) {
                let wanted = self.replicas;
                return Err(in_doubt(format!("{confirmed} of {wanted} replicas have it")));
            }
        }
        Ok(())
    }
}

fn in_doubt(reason: impl Into<String>) -> Error {
    Error::NotDurable { reason: reason.into(), taken: true }
}

/// Determines how this Redis proves that something is on its disk.
async fn fsync(link: &Link, partition: Partition) -> Result<Fsync, Error> {
    let refused = |cause: String| Error::Refused {
        reason: format!("durability fsync is not possible: {cause}"),
    };
    let info = link.read(partition, redis::pipe().cmd("INFO")).await?.pop().unwrap_or(Value::Nil);
    let info: InfoDict =
        redis::from_redis_value(info).map_err(|_| Error::unreadable("INFO is not a list"))?;
    if version(&info) < (7, 2) {
        let mut pipeline = redis::pipe();
        pipeline.add_command(get_settings());
        let settings = link.read(partition, &pipeline).await.map_err(|error| match error {
            Error::Refused { reason } => refused(reason),
            other => other,
        });
        let settings = settings?.pop().unwrap_or(Value::Nil);
        let newer = ", or use Redis 7.2 or later, which supports WAITAOF";
        return check_settings(settings)
            .map(|()| Fsync::Always)
            .map_err(|cause| refused(cause + newer));
    }
    match field::<u8>(&info, "aof_enabled") {
        0 => Err(refused("appendonly is no; set it to yes".to_owned())),
        _ => Ok(Fsync::WaitAof),
    }
}

fn get_settings() -> Cmd {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(ALWAYS.map(|(name, _)| name).as_slice());
    command
}

/// Returns the first setting that does not ensure that each write is on disk before its reply.
fn check_settings(settings: Value) -> Result<(), String> {
    let settings: Vec<(String, String)> =
        redis::from_redis_value(settings).map_err(|_| "its settings cannot be read".to_owned())?;
    ALWAYS.into_iter().try_for_each(|(name, wanted)| {
        match settings.iter().find(|(set, _)| set == name) {
            Some((_, value)) if value == wanted => Ok(()),
            Some((_, value)) => Err(format!("{name} is {value}; set it to {wanted}")),
            None => Err(format!("{name} cannot be read")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_ask_for_adds_up() {
        let both = Durability::FSYNC.and(Durability::REPLICA);
        assert_eq!("fsync,replica".parse(), Ok(both));
        assert_eq!("replica, memory,fsync".parse(), Ok(both));
        assert_eq!(Durability::FSYNC.and(Durability::MEMORY), Durability::FSYNC);
        for (number, durability) in Durability::ALL.into_iter().enumerate() {
            assert_eq!(durability.to_string().parse(), Ok(durability));
            assert_eq!(durability.number(), number);
        }
        for bad in ["", "disk", "fsync,", "FSYNC", "fsync replica"] {
            assert_eq!(bad.parse::<Durability>(), Err(InvalidDurability), "{bad:?}");
        }
    }

    #[test]
    fn a_setting_that_would_lose_writes_is_named() {
        let settings = |changed: &str, value: &str| {
            let pairs = ALWAYS.map(|(name, wanted)| {
                let value = if name == changed { value } else { wanted };
                [name, value].map(|text| Value::BulkString(text.into()))
            });
            Value::Array(pairs.into_iter().flatten().collect())
        };
        assert_eq!(check_settings(settings("", "")), Ok(()));
        for (name, value) in [
            ("appendonly", "no"),
            ("appendfsync", "everysec"),
            ("no-appendfsync-on-rewrite", "yes"),
        ] {
            let message = check_settings(settings(name, value)).unwrap_err();
            assert!(message.contains(&format!("{name} is {value}; set it to")), "{message}");
        }
        assert_eq!(
            check_settings(Value::Array(Vec::new())),
            Err("appendonly cannot be read".to_owned())
        );
    }
}
