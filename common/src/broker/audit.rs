//! The audit: checks whether everything in the key space is where it should be, and repairs what is not.
//!
//! It walks all keys (`SCAN`), then every list and set, in small pages with pauses, while the system is running. Jobs
//! move meanwhile, so what the walk sees proves nothing: it only yields suspects. Each suspect is then judged by one
//! function call, in one step, by the state at that moment. So a busy system has no false findings, and only proven
//! ones are healed.

mod finding;
mod groups;
mod indexes;
mod kind;
mod locks;
mod membership;
mod notes;
mod scan;
mod schedules;
mod suspect;
mod walk;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

pub use finding::{Audit, Tally};
pub use kind::FindingKind;

use self::kind::Kinds;
use self::notes::Notes;
use self::suspect::{Case, Suspect, Verdict, read_left, read_verdict};
use super::commands::Commands;
use super::error::Error;
use super::functions::Function;
use super::{Broker, CALL_DEADLINE, reply};
use crate::job::{JobId, Partition};

/// Suspects judged in one round trip: each may take most of a millisecond in the worst case, and Redis serves no other
/// call meanwhile.
const JUDGE_BATCH: usize = 8;
/// Maximum number of suspects in long lists that wait for the end of the walk, which may prove them.
const MAX_DEFERRED: usize = 10_000;
/// After each round trip the auditor pauses as long as it took, so that it never uses more than half of Redis' time;
/// within these bounds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Progress of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Keys of this key space that were read.
    pub keys: u64,
    /// Entries of lists and sets that were compared with them.
    pub entries: u64,
}

impl Broker {
    /// Audits the whole key space, on its own connection. Reports the progress to `watch` after every page. Takes time
    /// and memory in proportion to the number of jobs: about 40 bytes each, up to three times that while its table
    /// grows, and about ten seconds per million.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn audit(&self, watch: impl FnMut(Progress)) -> Result<Audit, Error> {
        let mut auditor = Auditor::new(self.with_own_connection(), watch).await?;
        auditor.scan().await?;
        auditor.walk().await?;
        auditor.conclude().await
    }

    /// Repairs the findings of an audit that are still true, and records in it what was healed. One function call per
    /// case, which judges again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; the audit then shows what was healed before.
    pub async fn heal(&self, audit: &mut Audit) -> Result<(), Error> {
        let broker = self.with_own_connection();
        let mut cases = std::mem::take(&mut audit.cases);
        // Jobs that are put back because a walk did not find them come first: once something is removed from a list, a
        // walk before that no longer proves anything. Each goes to the front of its lane, so the oldest is put back
        // last.
        cases.sort_by_key(|case| match case.suspect {
            Suspect::Job { id, .. } => {
                (!case.kinds.contains(&FindingKind::Lost), Some(Reverse(id)))
            }
            Suspect::Queue(..)
            | Suspect::Group(..)
            | Suspect::ErrorGroup(..)
            | Suspect::Schedule(..)
            | Suspect::Idempotency(..)
            | Suspect::Lock(..) => (true, None),
        });
        for cases in cases.chunks(JUDGE_BATCH) {
            let suspects = cases.iter().map(|case| &case.suspect);
            let replies = broker.call_each(Function::Heal, suspects, &audit.removals).await?;
            for (case, reply) in cases.iter().zip(replies) {
                record_healed(audit, case, &read_left(reply)?);
            }
        }
        Ok(())
    }

    /// How often ids were removed from lists, by partition.
    async fn removals(&self) -> Result<HashMap<Partition, String>, Error> {
        let mut commands = Commands::default();
        for partition in self.partitions() {
            let key = self.settings.keys(partition).audit();
            commands.at(partition).cmd("HGET").arg(key).arg("removals");
        }
        let counts = self.link.read_all(&commands, CALL_DEADLINE).await?;
        let text =
            |value| if value == Value::Nil { Ok("0".to_owned()) } else { reply::text(value) };
        let counts = counts.into_iter().map(text);
        self.partitions().zip(counts).map(|(partition, count)| Ok((partition, count?))).collect()
    }

    /// Calls a function for each suspect, in one round trip.
    async fn call_each(
        &self,
        function: Function,
        suspects: impl Iterator<Item = &Suspect>,
        removals: &HashMap<Partition, String>,
    ) -> Result<Vec<Value>, Error> {
        let mut commands = Commands::default();
        for suspect in suspects {
            let removals = removals.get(&suspect.partition()).map_or("0", String::as_str);
            let call = suspect.call(function, &self.settings, removals);
            commands.at(suspect.partition()).add_command(call);
        }
        let sent_at = Instant::now();
        let replies = self.link.read_all(&commands, CALL_DEADLINE).await?;
        pause(sent_at).await;
        Ok(replies)
    }
}

fn record_healed(audit: &mut Audit, case: &Case, left: &Verdict) {
    for kind in &case.kinds {
        if !left.undecided
            && !left.kinds.contains(kind)
            && let Some(tally) = audit.findings.get_mut(kind)
        {
            tally.healed += 1;
        }
    }
}

async fn pause(sent_at: Instant) {
    tokio::time::sleep(sent_at.elapsed().clamp(PAUSE.0, PAUSE.1)).await;
}

/// One audit in progress.
struct Auditor<W> {
    broker: Broker,
    watch: W,
    progress: Progress,
    notes: Notes,
    /// Suspects that wait to be judged.
    suspects: Vec<Suspect>,
    /// Suspects that could not be decided during the walk.
    deferred: Vec<Suspect>,
    /// What was already found about a job.
    known: HashMap<JobId, Kinds>,
    audit: Audit,
}

impl<W: FnMut(Progress)> Auditor<W> {
    async fn new(broker: Broker, watch: W) -> Result<Self, Error> {
        Ok(Self {
            audit: Audit { removals: broker.removals().await?, ..Audit::default() },
            broker,
            watch,
            progress: Progress { keys: 0, entries: 0 },
            notes: Notes::default(),
            suspects: Vec::new(),
            deferred: Vec::new(),
            known: HashMap::new(),
        })
    }

    /// Reads a page, pauses, and reports the progress.
    async fn look(&mut self, commands: &Commands) -> Result<Vec<Value>, Error> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let sent_at = Instant::now();
        let values = self.broker.link.read_any_type(commands).await?;
        pause(sent_at).await;
        (self.watch)(self.progress);
        Ok(values)
    }

    async fn suspect(&mut self, suspect: Suspect) -> Result<(), Error> {
        self.suspects.push(suspect);
        if self.suspects.len() >= JUDGE_BATCH { self.judge().await } else { Ok(()) }
    }

    /// Judges all suspects that wait for it.
    async fn judge(&mut self) -> Result<(), Error> {
        let suspects = std::mem::take(&mut self.suspects);
        for suspects in suspects.chunks(JUDGE_BATCH) {
            let broker = &self.broker;
            let replies =
                broker.call_each(Function::Judge, suspects.iter(), &self.audit.removals).await?;
            for (suspect, reply) in suspects.iter().zip(replies) {
                self.record(suspect, &read_verdict(reply)?);
            }
        }
        Ok(())
    }

    fn record(&mut self, suspect: &Suspect, verdict: &Verdict) {
        if verdict.undecided {
            self.defer(suspect);
        }
        if verdict.kinds.is_empty() {
            return;
        }
        let kinds = match suspect {
            Suspect::Job { id, .. } => self.new_kinds(*id, &verdict.kinds),
            Suspect::Queue(..)
            | Suspect::Group(..)
            | Suspect::ErrorGroup(..)
            | Suspect::Schedule(..)
            | Suspect::Idempotency(..)
            | Suspect::Lock(..) => verdict.kinds.clone(),
        };
        for &kind in &kinds {
            self.audit.count(kind, || suspect.name());
        }
        self.audit.keep(Case { suspect: suspect.clone(), kinds });
    }

    /// Returns the findings that are new for a job: the walk may find it in several places.
    fn new_kinds(&mut self, id: JobId, kinds: &[FindingKind]) -> Vec<FindingKind> {
        let known = self.known.entry(id).or_default();
        kinds.iter().copied().filter(|&kind| known.add(kind)).collect()
    }

    /// Judges again when the walk is over; a suspect that is undecided then remains so.
    fn defer(&mut self, suspect: &Suspect) {
        match suspect {
            Suspect::Job { id, met, version: None } if self.deferred.len() < MAX_DEFERRED => {
                let version = self.notes.version(*id);
                let met = met.clone();
                self.deferred.push(Suspect::Job { id: *id, met, version: version.or(Some(0)) });
            }
            _ => self.audit.undecided += 1,
        }
    }

    /// Judges the jobs that the walk did not find where they belong.
    async fn conclude(mut self) -> Result<Audit, Error> {
        self.judge().await?;
        for suspect in std::mem::take(&mut self.deferred) {
            self.suspect(suspect).await?;
        }
        self.audit.jobs = self.notes.jobs() as u64;
        for (id, version) in self.notes.missing() {
            // Its case already records where it was found instead.
            if self.known.get(&id).is_some_and(|known| known.is_out_of_place()) {
                continue;
            }
            self.suspect(Suspect::Job { id, met: None, version: Some(version) }).await?;
        }
        self.judge().await?;
        self.audit.keys = self.progress.keys;
        Ok(self.audit)
    }
}
