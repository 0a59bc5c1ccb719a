//! The indexes of metadata, compared with the records during the scan: there may be as many of them as jobs, so nothing is
//! noted of them.

use redis::Value;

use super::kind::FindingKind;
use super::suspect::{Met, Place, Suspect};
use super::{Auditor, Progress};
use crate::broker::commands::Commands;
use crate::broker::error::Error;
use crate::broker::{IndexId, reply};
use crate::job::{JobId, Partition};

/// Number of entries read in one step.
const PAGE: usize = 500;

/// Reads the field `indexes`; a name that is none is found by no list, and does no harm.
pub(super) fn names(field: &Value) -> Vec<IndexId> {
    let text = reply::text(field.clone()).unwrap_or_default();
    text.split(' ').filter_map(|name| name.parse().ok()).collect()
}

impl<W: FnMut(Progress)> Auditor<W> {
    /// Checks that jobs are in the indexes that their records name.
    pub(super) async fn check_indexed(
        &mut self,
        jobs: &[(JobId, Vec<IndexId>)],
    ) -> Result<(), Error> {
        let mut commands = Commands::default();
        for (id, indexes) in jobs {
            let keys = self.broker.settings.keys(id.partition());
            for &index in indexes {
                let pipeline = commands.at(id.partition());
                pipeline.cmd("ZSCORE").arg(keys.index(index)).arg(id.to_string());
            }
        }
        let mut scores = self.look(&commands).await?.into_iter();
        for (id, indexes) in jobs {
            // All of them are consumed: the next ones belong to the next job.
            let missing = scores.by_ref().take(indexes.len()).filter(|score| *score == Value::Nil);
            if missing.count() > 0 {
                self.suspect(Suspect::job(*id)).await?;
            }
        }
        Ok(())
    }

    /// Checks that the jobs in an index name it.
    pub(super) async fn check_index(
        &mut self,
        partition: Partition,
        index: IndexId,
    ) -> Result<(), Error> {
        let key = self.broker.settings.keys(partition).index(index);
        let mut cursor = 0_u64;
        loop {
            let mut commands = Commands::default();
            let pipeline = commands.at(partition);
            pipeline.cmd("ZSCAN").arg(&key).arg(cursor).arg("COUNT").arg(PAGE);
            let page = match self.look(&commands).await?.pop() {
                Some(Value::ServerError(_)) | None => {
                    self.audit.count(FindingKind::Unreadable, || key);
                    return Ok(());
                }
                Some(page) => page,
            };
            let [next, entries] = reply::fields(page)?;
            let mut ids = Vec::new();
            for entry in reply::array(entries)?.chunks_exact(2) {
                self.progress.entries += 1;
                let id = reply::parsed::<JobId>(entry[0].clone()).ok();
                match id.filter(|id| id.partition() == partition) {
                    Some(id) => ids.push(id),
                    None => self.audit.count(FindingKind::Unreadable, || key.clone()),
                }
            }
            self.check_entries(partition, index, &ids).await?;
            cursor = reply::unsigned(&next)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn check_entries(
        &mut self,
        partition: Partition,
        index: IndexId,
        ids: &[JobId],
    ) -> Result<(), Error> {
        let mut commands = Commands::default();
        for &id in ids {
            let key = self.broker.settings.keys(partition).job(id);
            commands.at(partition).cmd("HGET").arg(key).arg("indexes");
        }
        for (&id, field) in ids.iter().zip(self.look(&commands).await?) {
            if !names(&field).contains(&index) {
                let place = Place::Index(index);
                let met = Met { queue: None, place, index: None, again: false };
                self.suspect(Suspect::met(id, met)).await?;
            }
        }
        Ok(())
    }
}
