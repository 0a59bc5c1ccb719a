//! Schedules: each must be looked at when its tick is due.

use super::suspect::Suspect;
use super::{Auditor, Progress};
use crate::broker::commands::Commands;
use crate::broker::error::Error;
use crate::broker::reply;

impl<W: FnMut(Progress)> Auditor<W> {
    /// Judges each schedule that has a record or is listed. There are ten thousand at most.
    pub(super) async fn check_schedules(&mut self) -> Result<(), Error> {
        let settings = self.broker.settings.clone();
        for partition in self.broker.partitions() {
            let keys = settings.keys(partition);
            let mut commands = Commands::default();
            for key in [keys.schedules(), keys.schedule_names()] {
                commands.at(partition).cmd("ZRANGE").arg(key).arg(0).arg(-1);
            }
            for listed in self.look(&commands).await? {
                for name in reply::array(listed).unwrap_or_default() {
                    if let Ok(name) = reply::parsed(name) {
                        self.notes.schedule(partition, name);
                    }
                }
            }
        }
        for (partition, name) in self.notes.take_schedules() {
            self.progress.entries += 1;
            self.suspect(Suspect::Schedule(partition, name)).await?;
        }
        Ok(())
    }
}
