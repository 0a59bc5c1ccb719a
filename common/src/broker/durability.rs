//! How safe a submission is before it is answered, and how Redis is made to prove it.
//!
//! `memory` is Redis' word. `fsync` and `replica` guard against different losses (power, and a whole machine), so neither
//! is more than the other: what a deployment and a request ask for adds up, and nobody gets less than either said.
//!
//! Never believes a setting it read earlier: what proves a batch is asked in the same round trip, after the batch.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use redis::{Cmd, InfoDict, Pipeline, Value};

use super::connection::Link;
use super::error::Error;
use super::opening::{field, version};
use super::reply;
use crate::config::whole_number;

/// How safe a submission is before it is answered.
#[derive(Debug, Clone, Copy, Args)]
pub struct DurabilityConfig {
    /// What a submission is safe from before it is answered; a request may ask for more, never for less. `memory`: Redis
    /// accepted it. `fsync`: it is on the disk of Redis. `replica`: a replica has it. `fsync,replica`: both.
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

    /// How many there are.
    pub(crate) const COUNT: usize = 4;
    /// Each, in the order of its number.
    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::MEMORY, Self::FSYNC, Self::REPLICA, Self::FSYNC.and(Self::REPLICA)];

    /// What both ask for.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { fsync: self.fsync || other.fsync, replica: self.replica || other.replica }
    }

    /// Whether Redis' word is enough.
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
    /// It is asked to wait for the disk: 7.2 and later.
    Waits,
    /// It answers nothing before its disk has it: earlier ones, as long as they are set up so.
    Always,
}

/// What follows a batch in the same round trip, and is read as a yes or a no.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof {
    fsync: Option<Fsync>,
    /// 0: none is asked for.
    replicas: u16,
}

/// What a Redis before 7.2 must be set to: each write is on disk before it is answered, also while the log is rewritten.
const ALWAYS: [(&str, &str); 3] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")];

impl Proof {
    /// Finds out how this Redis can prove it.
    ///
    /// # Errors
    /// [`Error::Refused`] if it cannot as it is set up.
    pub(crate) async fn of(link: &Link, wanted: DurabilityConfig) -> Result<Self, Error> {
        let DurabilityConfig { durability, replicas } = wanted;
        let fsync = if durability.fsync { Some(fsync(link).await?) } else { None };
        Ok(Self { fsync, replicas: if durability.replica { replicas } else { 0 } })
    }

    /// Writes the commands. They must be the last of their pipeline, on a connection that nothing else uses: waiting
    /// stops all that comes behind it.
    ///
    /// `mark` is a key to write to. Redis waits for the last write *of this connection*, and a batch that repeats an
    /// earlier one writes nothing: without the mark, Redis would at once say yes to what another connection wrote and
    /// no disk or replica has yet.
    pub(crate) fn write(self, pipeline: &mut Pipeline, mark: &str, time_limit_ms: u64) {
        if self.fsync.is_none() && self.replicas == 0 {
            return;
        }
        pipeline.cmd("SET").arg(mark).arg("");
        // One after the other. Zero would mean for ever.
        let both = self.fsync == Some(Fsync::Waits) && self.replicas > 0;
        let time_limit_ms = (time_limit_ms / if both { 2 } else { 1 }).max(1);
        match self.fsync {
            Some(Fsync::Waits) => {
                pipeline.cmd("WAITAOF").arg(1).arg(0).arg(time_limit_ms);
            }
            Some(Fsync::Always) => {
                pipeline.add_command(ask_settings());
            }
            None => {}
        }
        if self.replicas > 0 {
            pipeline.cmd("WAIT").arg(self.replicas).arg(time_limit_ms);
        }
    }

    /// Reads the answers.
    ///
    /// # Errors
    /// [`Error::NotDurable`] if it is not proven, for whatever reason: the jobs themselves were taken.
    pub(crate) fn read(
        self,
        answers: impl Iterator<Item = Result<Value, Error>>,
    ) -> Result<(), Error> {
        if self.fsync.is_none() && self.replicas == 0 {
            return Ok(());
        }
        self.judge(answers).map_err(|error| match error {
            Error::NotDurable { .. } => error,
            other => in_doubt(other.to_string()),
        })
    }

    fn judge(self, mut answers: impl Iterator<Item = Result<Value, Error>>) -> Result<(), Error> {
        let mut next = || answers.next().unwrap_or_else(|| Err(Error::unreadable("no proof")));
        let _marked = next()?;
        match self.fsync {
            Some(Fsync::Waits) => {
                let [here, _replicas] = reply::fields(next()?)?;
                if reply::unsigned(&here)? == 0 {
                    return Err(in_doubt("the disk of redis does not have it yet"));
                }
            }
            Some(Fsync::Always) => check_settings(next()?).map_err(in_doubt)?,
            None => {}
        }
        if self.replicas > 0 {
            let have = reply::unsigned(&next()?)?;
            if have < u64::from(self.replicas) {
                let wanted = self.replicas;
                return Err(in_doubt(format!("{have} of {wanted} replicas have it")));
            }
        }
        Ok(())
    }
}

fn in_doubt(reason: impl Into<String>) -> Error {
    Error::NotDurable { reason: reason.into(), taken: true }
}

/// How this Redis proves that something is on its disk.
async fn fsync(link: &Link) -> Result<Fsync, Error> {
    let refused = |what: String| Error::Refused {
        reason: format!("durability fsync cannot be given: {what}"),
    };
    let info = link.read(redis::pipe().cmd("INFO")).await?.pop().unwrap_or(Value::Nil);
    let info: InfoDict =
        redis::from_redis_value(info).map_err(|_| Error::unreadable("INFO is no list"))?;
    if version(&info) < (7, 2) {
        let mut pipeline = redis::pipe();
        pipeline.add_command(ask_settings());
        let settings = link.read(&pipeline).await.map_err(|error| match error {
            Error::Refused { reason } => refused(reason),
            other => other,
        });
        let settings = settings?.pop().unwrap_or(Value::Nil);
        let newer = ", or use Redis 7.2 or later, which can be asked to wait for its disk";
        return check_settings(settings)
            .map(|()| Fsync::Always)
            .map_err(|what| refused(what + newer));
    }
    match field::<u8>(&info, "aof_enabled") {
        0 => Err(refused("appendonly is no; set it to yes".to_owned())),
        _ => Ok(Fsync::Waits),
    }
}

fn ask_settings() -> Cmd {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(ALWAYS.map(|(name, _)| name).as_slice());
    command
}

/// Says what is set otherwise than each write on disk before its answer.
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
            let told = check_settings(settings(name, value)).unwrap_err();
            assert!(told.contains(&format!("{name} is {value}; set it to")), "{told}");
        }
        assert_eq!(
            check_settings(Value::Array(Vec::new())),
            Err("appendonly cannot be read".to_owned())
        );
    }
}
