//! The audit: whether everything in the key space is where it should be, and putting back what is not.
//!
//! It walks all keys (`SCAN`), then every list and set, in small pages with pauses, while the system works. Jobs move
//! meanwhile, so what it notes on the way proves nothing: it only raises suspicions. Each is then judged by one function
//! call, in one step, by what is true at that moment. So a busy system audits clean, and nothing is healed by hearsay.

mod finding;
mod kind;
mod notes;
mod scan;
mod suspect;
mod walk;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::time::Instant;

pub use finding::{Audit, Tally};
pub use kind::FindingKind;

use self::kind::Kinds;
use self::notes::Notes;
use self::suspect::{Case, Suspect, Verdict, read_left, read_verdict};
use super::error::Error;
use super::functions::Function;
use super::{Broker, reply};
use crate::job::{JobId, Partition};

/// Suspects judged in one round trip: each may take most of a millisecond in the worst case, and nobody else is served
/// meanwhile.
const JUDGED: usize = 8;
/// Suspicions about long lists that wait for the end of the walk, which may prove them.
const DEFERRED: usize = 10_000;
/// After each round trip the auditor rests as long as it took, so that it never has more than half of Redis' time; within
/// these bounds.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// How far an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Keys of ours that were looked at.
    pub keys: u64,
    /// Entries of lists and sets that were compared with them.
    pub entries: u64,
}

impl Broker {
    /// Audits the whole key space, on a connection of its own. Tells `watch` how far it is after every page. Takes time
    /// and memory in proportion to the number of jobs: about 60 bytes each, and some ten seconds a million.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn audit(&self, watch: impl FnMut(Progress)) -> Result<Audit, Error> {
        let mut auditor = Auditor::new(self.with_own_connection(), watch).await?;
        auditor.scan().await?;
        auditor.walk().await?;
        auditor.conclude().await
    }

    /// Puts right what an audit has found, as far as it is still wrong, and notes in it what was healed. One function call
    /// a case, which judges anew.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; the audit then tells what was healed before.
    pub async fn heal(&self, audit: &mut Audit) -> Result<(), Error> {
        let broker = self.with_own_connection();
        let mut cases = std::mem::take(&mut audit.cases);
        // What is put back because a walk did not meet it comes first: once something is taken out of a list, a walk
        // before that proves nothing any more. Each goes to the front of its lane, so the oldest is put back last.
        cases.sort_by_key(|case| match case.suspect {
            Suspect::Job { id, .. } => {
                (!case.kinds.contains(&FindingKind::Lost), Some(Reverse(id)))
            }
            Suspect::Queue(..) | Suspect::Idempotency(..) => (true, None),
        });
        for cases in cases.chunks(JUDGED) {
            let suspects = cases.iter().map(|case| &case.suspect);
            let answers = broker.ask(Function::Heal, suspects, &audit.removals).await?;
            for (case, answer) in cases.iter().zip(answers) {
                note_healed(audit, case, &read_left(answer)?);
            }
        }
        Ok(())
    }

    /// How often ids were taken out of lists, by partition.
    async fn removals(&self) -> Result<HashMap<Partition, String>, Error> {
        let mut ask = redis::pipe();
        for partition in self.partitions() {
            ask.cmd("HGET").arg(self.settings.keys(partition).audit()).arg("removals");
        }
        let counts = self.link.read(&ask).await?;
        let text =
            |value| if value == Value::Nil { Ok("0".to_owned()) } else { reply::text(value) };
        let counts = counts.into_iter().map(text);
        self.partitions().zip(counts).map(|(partition, count)| Ok((partition, count?))).collect()
    }

    async fn ask(
        &self,
        function: Function,
        suspects: impl Iterator<Item = &Suspect>,
        removals: &HashMap<Partition, String>,
    ) -> Result<Vec<Value>, Error> {
        let mut ask = redis::pipe();
        for suspect in suspects {
            let removals = removals.get(&suspect.partition()).map_or("0", String::as_str);
            ask.add_command(suspect.call(function, &self.settings, removals));
        }
        let asked = Instant::now();
        let answers = self.link.read(&ask).await?;
        rest(asked).await;
        Ok(answers)
    }
}

fn note_healed(audit: &mut Audit, case: &Case, left: &Verdict) {
    for kind in &case.kinds {
        if !left.undecided
            && !left.kinds.contains(kind)
            && let Some(tally) = audit.findings.get_mut(kind)
        {
            tally.healed += 1;
        }
    }
}

async fn rest(asked: Instant) {
    tokio::time::sleep(asked.elapsed().clamp(REST.0, REST.1)).await;
}

/// One audit under way.
struct Auditor<W> {
    broker: Broker,
    watch: W,
    progress: Progress,
    notes: Notes,
    /// Waiting to be judged.
    suspects: Vec<Suspect>,
    /// Could not be decided during the walk.
    deferred: Vec<Suspect>,
    /// What is known of a job already.
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

    /// Reads a page, rests, and tells how far it is.
    async fn look(&mut self, ask: &Pipeline) -> Result<Vec<Value>, Error> {
        if ask.cmd_iter().next().is_none() {
            return Ok(Vec::new());
        }
        let asked = Instant::now();
        let values = self.broker.link.look(ask).await?;
        rest(asked).await;
        (self.watch)(self.progress);
        Ok(values)
    }

    async fn suspect(&mut self, suspect: Suspect) -> Result<(), Error> {
        self.suspects.push(suspect);
        if self.suspects.len() >= JUDGED { self.judge().await } else { Ok(()) }
    }

    /// Has all suspects judged that wait for it.
    async fn judge(&mut self) -> Result<(), Error> {
        let suspects = std::mem::take(&mut self.suspects);
        for suspects in suspects.chunks(JUDGED) {
            let broker = &self.broker;
            let answers =
                broker.ask(Function::Judge, suspects.iter(), &self.audit.removals).await?;
            for (suspect, answer) in suspects.iter().zip(answers) {
                self.note(suspect, &read_verdict(answer)?);
            }
        }
        Ok(())
    }

    fn note(&mut self, suspect: &Suspect, verdict: &Verdict) {
        if verdict.undecided {
            self.defer(suspect);
        }
        if verdict.kinds.is_empty() {
            return;
        }
        let kinds = match suspect {
            Suspect::Job { id, .. } => self.news_of(*id, &verdict.kinds),
            Suspect::Queue(..) | Suspect::Idempotency(..) => verdict.kinds.clone(),
        };
        for &kind in &kinds {
            self.audit.count(kind, || suspect.name());
        }
        self.audit.keep(Case { suspect: suspect.clone(), kinds });
    }

    /// What was not known of a job: the walk may come upon it in several places.
    fn news_of(&mut self, id: JobId, kinds: &[FindingKind]) -> Vec<FindingKind> {
        let known = self.known.entry(id).or_default();
        kinds.iter().copied().filter(|&kind| known.add(kind)).collect()
    }

    /// Asks again when the walk is over; what is undecided then remains so.
    fn defer(&mut self, suspect: &Suspect) {
        match suspect {
            Suspect::Job { id, met, version: None } if self.deferred.len() < DEFERRED => {
                let version = self.notes.version(*id);
                let met = met.clone();
                self.deferred.push(Suspect::Job { id: *id, met, version: version.or(Some(0)) });
            }
            _ => self.audit.undecided += 1,
        }
    }

    /// Judges those the walk did not meet where they belong.
    async fn conclude(mut self) -> Result<Audit, Error> {
        self.judge().await?;
        for suspect in std::mem::take(&mut self.deferred) {
            self.suspect(suspect).await?;
        }
        self.audit.jobs = self.notes.jobs() as u64;
        for (id, version) in self.notes.missing() {
            // Where it was met instead is told in its case.
            if self.known.get(&id).is_some_and(|known| known.is_homeless()) {
                continue;
            }
            self.suspect(Suspect::Job { id, met: None, version: Some(version) }).await?;
        }
        self.judge().await?;
        self.audit.keys = self.progress.keys;
        Ok(self.audit)
    }
}
