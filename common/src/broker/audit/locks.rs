//! Locks, compared with the records during the scan: there may be as many of them as jobs, so nothing is noted of them.

use redis::Value;

use super::suspect::Suspect;
use super::{Auditor, Progress};
use crate::broker::commands::Commands;
use crate::broker::error::Error;
use crate::broker::record::State;
use crate::broker::reply;
use crate::job::{JobId, Partition, Status};

/// The digest of the lock that must name a live job with this field `unique`: none if it is held for a time, or only until
/// the job starts and a worker claimed it before.
pub(super) fn digest(unique: &Value, state: &State) -> Option<String> {
    let text = reply::text(unique.clone()).ok()?;
    let (digest, until) = text.split_once(' ')?;
    let must = until == "end" || (until == "start" && state.epoch.is_none());
    must.then(|| digest.to_owned())
}

impl<W: FnMut(Progress)> Auditor<W> {
    /// Checks that the locks of these live jobs name them.
    pub(super) async fn check_locked(&mut self, jobs: &[(JobId, String)]) -> Result<(), Error> {
        let mut commands = Commands::default();
        for (id, digest) in jobs {
            let keys = self.broker.settings.keys(id.partition());
            commands.at(id.partition()).cmd("GET").arg(keys.lock(digest));
        }
        let values = self.look(&commands).await?;
        for ((id, _), value) in jobs.iter().zip(values) {
            if !named(&value).contains(id) {
                self.suspect(Suspect::job(*id)).await?;
            }
        }
        Ok(())
    }

    /// Checks that locks name live jobs with a field `unique`.
    pub(super) async fn check_locks(
        &mut self,
        locks: Vec<(Partition, String)>,
    ) -> Result<(), Error> {
        let mut commands = Commands::default();
        for (partition, digest) in &locks {
            let key = self.broker.settings.keys(*partition).lock(digest);
            commands.at(*partition).cmd("GET").arg(&key).cmd("PTTL").arg(&key);
        }
        let values = self.look(&commands).await?;
        let values: Vec<_> = values.chunks_exact(2).collect();
        let (mut commands, mut counts) = (Commands::default(), Vec::new());
        for ((partition, _), value) in locks.iter().zip(&values) {
            let ids = named(&value[0]);
            for &id in &ids {
                let key = self.broker.settings.keys(*partition).job(id);
                commands.at(*partition).cmd("HMGET").arg(key).arg(&["state", "unique"]);
            }
            counts.push(ids.len());
        }
        let mut records = self.look(&commands).await?.into_iter();
        for (((partition, digest), value), count) in locks.into_iter().zip(values).zip(counts) {
            let expires = reply::integer(&value[1])? >= 0;
            // All of them are consumed: the next ones belong to the next lock.
            let fitting =
                records.by_ref().take(count).filter(|record| is_live(record, &digest, expires));
            let fits = count > 0 && fitting.count() == count;
            if value[0] != Value::Nil && !fits {
                self.suspect(Suspect::Lock(partition, digest)).await?;
            }
        }
        Ok(())
    }
}

/// The jobs that a lock names.
fn named(value: &Value) -> Vec<JobId> {
    let text = reply::text(value.clone()).unwrap_or_default();
    text.split(' ').filter_map(|id| id.parse().ok()).collect()
}

/// Whether a record is that of a live job with this lock, which expires or not, and which it may hold.
fn is_live(record: &Value, digest: &str, expires: bool) -> bool {
    let Ok([state, unique]) = reply::fields(record.clone()) else { return false };
    let status = reply::text(state).ok().and_then(|text| State::read(&text).ok());
    let unique = reply::text(unique).unwrap_or_default();
    let Some((of, until)) = unique.split_once(' ') else { return false };
    let may = |status: Status| match until {
        "start" => !status.is_terminal() && status != Status::Running,
        _ => !status.is_terminal(),
    };
    of == digest && expires == (until == "time") && status.is_some_and(|state| may(state.status))
}
