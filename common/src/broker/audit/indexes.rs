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

/// Number of entries read in one step, about.
const PAGE: usize = 500;
/// Number of indexes read in one step: small ones are read whole.
const AT_ONCE: usize = 50;

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

    /// Checks that the jobs in these indexes name them, and are sorted by their ids.
    pub(super) async fn check_indexes(
        &mut self,
        indexes: &[(Partition, IndexId)],
    ) -> Result<(), Error> {
        for some in indexes.chunks(AT_ONCE) {
            let mut unread: Vec<_> = some.iter().map(|&(at, index)| (at, index, 0)).collect();
            while !unread.is_empty() {
                unread = self.check_parts(&unread).await?;
            }
        }
        Ok(())
    }

    /// Checks a part of each of these indexes, which begins at a cursor. Returns where the others begin.
    async fn check_parts(
        &mut self,
        unread: &[(Partition, IndexId, u64)],
    ) -> Result<Vec<(Partition, IndexId, u64)>, Error> {
        let keys = self.broker.settings.clone();
        let key = |partition, index| keys.keys(partition).index(index);
        let mut commands = Commands::default();
        for &(partition, index, cursor) in unread {
            let pipeline = commands.at(partition);
            pipeline.cmd("ZSCAN").arg(key(partition, index)).arg(cursor);
            pipeline.arg("COUNT").arg(PAGE / unread.len());
        }
        let (mut entries, mut rest) = (Vec::new(), Vec::new());
        for (&(partition, index, _), page) in unread.iter().zip(self.look(&commands).await?) {
            if matches!(page, Value::ServerError(_)) {
                self.audit.count(FindingKind::Unreadable, || key(partition, index));
                continue;
            }
            let [next, page] = reply::fields(page)?;
            for entry in reply::array(page)?.chunks_exact(2) {
                self.progress.entries += 1;
                let id = reply::parsed::<JobId>(entry[0].clone()).ok();
                let score = reply::parsed::<f64>(entry[1].clone()).ok();
                match id.filter(|id| id.partition() == partition) {
                    Some(id) => entries.push((index, id, score == Some(0.0))),
                    None => self.audit.count(FindingKind::Unreadable, || key(partition, index)),
                }
            }
            let next = reply::unsigned(&next)?;
            rest.extend((next > 0).then_some((partition, index, next)));
        }
        for some in entries.chunks(PAGE) {
            self.check_entries(some).await?;
        }
        Ok(rest)
    }

    async fn check_entries(&mut self, entries: &[(IndexId, JobId, bool)]) -> Result<(), Error> {
        let mut commands = Commands::default();
        for &(_, id, _) in entries {
            let key = self.broker.settings.keys(id.partition()).job(id);
            commands.at(id.partition()).cmd("HGET").arg(key).arg("indexes");
        }
        for (&(index, id, is_sorted), field) in entries.iter().zip(self.look(&commands).await?) {
            if !is_sorted || !names(&field).contains(&index) {
                let place = Place::Index(index);
                let met = Met { queue: None, place, index: None, again: false };
                self.suspect(Suspect::met(id, met)).await?;
            }
        }
        Ok(())
    }
}
