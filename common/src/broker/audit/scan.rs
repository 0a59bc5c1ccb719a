//! The first walk: over all keys. Reads each job's record, and looks at what hangs on it.

use redis::Value;

use super::kind::FindingKind;
use super::notes::ExpectedPlace;
use super::suspect::Suspect;
use super::{Auditor, Progress};
use crate::broker::error::Error;
use crate::broker::keys::KeyName;
use crate::broker::record::State;
use crate::broker::reply;
use crate::job::{JobId, Partition, Priority, Status};
use crate::task::TaskName;

/// Keys that Redis looks at in one step of the walk: well below a millisecond.
const PAGE: usize = 200;

/// What the walk reads of a record.
const FIELDS: [&str; 21] = [
    "gone",
    "state",
    "spec",
    "rare",
    "priority",
    "losses",
    "unheard",
    "waiting_for",
    "deadline",
    // Of these it is only asked whether they are there.
    "run_at",
    "cancel_requested",
    "settled_epoch",
    "retention",
    "keep_until",
    "error",
    "log_bytes",
    "log_lines",
    "reported",
    "generation",
    "watched",
    "webhook",
];
/// From here on they are fields that few jobs have, and that the one before names.
const RARE: usize = 4;
/// What an earlier version wrote instead: there may be any of them.
const ANY_RARE: &str = "1";

/// The keys of one page, by what is asked about them.
#[derive(Default)]
struct Page {
    jobs: Vec<JobId>,
    along: Vec<JobId>,
    idempotency: Vec<(Partition, String)>,
}

impl<W: FnMut(Progress)> Auditor<W> {
    pub(super) async fn scan(&mut self) -> Result<(), Error> {
        let pattern = format!("{}:*", self.broker.settings.prefix);
        let mut cursor = 0_u64;
        loop {
            let mut ask = redis::pipe();
            ask.cmd("SCAN").arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(PAGE);
            let answer = self.look(&ask).await?.pop().unwrap_or(Value::Nil);
            let [next, keys] = reply::fields(answer)?;
            let page = self.sort(reply::array(keys)?)?;
            self.read_jobs(&page.jobs).await?;
            self.read_along(&page.along).await?;
            self.read_idempotency(page.idempotency).await?;
            cursor = reply::unsigned(&next)?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn sort(&mut self, keys: Vec<Value>) -> Result<Page, Error> {
        let mut page = Page::default();
        let settings = self.broker.settings.clone();
        for key in keys {
            let key = String::from_utf8_lossy(&reply::bytes(key)?).into_owned();
            self.progress.keys += 1;
            match KeyName::read(&settings.prefix, settings.partitions, &key) {
                KeyName::Job(id) => page.jobs.push(id),
                KeyName::Along(id) => page.along.push(id),
                KeyName::Idempotency(partition, digest) => {
                    page.idempotency.push((partition, digest));
                }
                KeyName::Queue(partition, name) => {
                    self.notes.queue(partition, &name);
                }
                KeyName::Other => {}
                KeyName::Unknown => self.audit.count(FindingKind::Unknown, || key),
            }
        }
        Ok(page)
    }

    async fn read_jobs(&mut self, ids: &[JobId]) -> Result<(), Error> {
        let mut ask = redis::pipe();
        for &id in ids {
            let key = self.broker.settings.keys(id.partition()).job(id);
            ask.cmd("HMGET").arg(&key).arg(&FIELDS).cmd("HEXISTS").arg(&key).arg("payload");
            ask.cmd("PTTL").arg(&key);
        }
        let values = self.look(&ask).await?;
        for (&id, job) in ids.iter().zip(values.chunks_exact(3)) {
            match read_job(job) {
                Seen::Nothing => {}
                Seen::ExpectedPlace(expected, sound) => {
                    self.notes.expect(id, &expected);
                    if !sound {
                        self.suspect(Suspect::job(id)).await?;
                    }
                }
                Seen::Odd => self.suspect(Suspect::job(id)).await?,
            }
        }
        Ok(())
    }

    /// A log and events belong to a job, and expire with it.
    async fn read_along(&mut self, ids: &[JobId]) -> Result<(), Error> {
        let mut ask = redis::pipe();
        for &id in ids {
            let keys = self.broker.settings.keys(id.partition());
            ask.cmd("HMGET").arg(keys.job(id)).arg("state");
            ask.cmd("PTTL").arg(keys.log(id)).cmd("PTTL").arg(keys.events(id));
        }
        let values = self.look(&ask).await?;
        for (&id, seen) in ids.iter().zip(values.chunks_exact(3)) {
            let state = reply::array(seen[0].clone()).ok().and_then(|mut state| state.pop());
            let status = state.and_then(read_state).map(|state| state.status);
            // Of one that is not there nothing can be wrong.
            let left = [reply::integer(&seen[1])?, reply::integer(&seen[2])?];
            let fits = |status: Status| {
                left.iter().all(|&left| left == -2 || status.is_terminal() == (left >= 0))
            };
            if !status.is_some_and(fits) {
                self.suspect(Suspect::job(id)).await?;
            }
        }
        Ok(())
    }

    /// An idempotency key leads to a job.
    async fn read_idempotency(&mut self, keys: Vec<(Partition, String)>) -> Result<(), Error> {
        let mut ask = redis::pipe();
        for (partition, digest) in &keys {
            ask.cmd("GET").arg(self.broker.settings.keys(*partition).idempotency(digest));
        }
        let claimed = self.look(&ask).await?;
        let mut leads = Vec::new();
        let mut ask = redis::pipe();
        for ((partition, digest), claimed) in keys.into_iter().zip(claimed) {
            match claimed_job(partition, &claimed) {
                _ if claimed == Value::Nil => {}
                Some(id) => {
                    ask.cmd("EXISTS").arg(self.broker.settings.keys(partition).job(id));
                    leads.push((partition, digest));
                }
                None => self.suspect(Suspect::Idempotency(partition, digest)).await?,
            }
        }
        for ((partition, digest), known) in leads.into_iter().zip(self.look(&ask).await?) {
            if reply::integer(&known)? == 0 {
                self.suspect(Suspect::Idempotency(partition, digest)).await?;
            }
        }
        Ok(())
    }
}

/// The job that an idempotency key made.
fn claimed_job(partition: Partition, claimed: &Value) -> Option<JobId> {
    let text = reply::text(claimed.clone()).ok()?;
    text.split(' ').next()?.parse().ok().filter(|id: &JobId| id.partition() == partition)
}

/// What a record looks like at first sight.
enum Seen {
    /// It has expired meanwhile, or is a tombstone that will.
    Nothing,
    /// Where it says it stands, and whether everything else is sound.
    ExpectedPlace(ExpectedPlace, bool),
    /// Something that needs a closer look.
    Odd,
}

fn read_job(values: &[Value]) -> Seen {
    let (Ok(fields), Ok(left)) =
        (reply::fields::<{ FIELDS.len() }>(values[0].clone()), reply::integer(&values[2]))
    else {
        return Seen::Odd;
    };
    let [gone, state, spec, ..] = fields.each_ref().map(|value| *value != Value::Nil);
    if left == -2 || (gone && !state && left >= 0) {
        return Seen::Nothing;
    }
    let Some(state) = read_state(fields[1].clone()) else {
        return Seen::Odd;
    };
    let asked = spec && values[1] == Value::Int(1);
    let marked = are_named(&fields);
    let fenced =
        state.status != Status::Running || (state.worker.is_some() && state.epoch.is_some());
    let expires = state.status.is_terminal() == (left >= 0);
    match read_standing(state, &fields) {
        Some(expected) => Seen::ExpectedPlace(expected, asked && marked && fenced && expires),
        None => Seen::Odd,
    }
}

/// Whether the field `rare` names every rare field that the record has.
fn are_named(fields: &[Value; FIELDS.len()]) -> bool {
    let rare = reply::text(fields[RARE - 1].clone()).unwrap_or_default();
    let named = |name| rare == ANY_RARE || rare.split(' ').any(|word| word == name);
    FIELDS.iter().zip(fields).skip(RARE).all(|(name, value)| *value == Value::Nil || named(*name))
}

fn read_state(value: Value) -> Option<State> {
    State::read(&reply::text(value).ok()?).ok()
}

/// The task of a job that is parked: `<n> worker_with_task <task>`.
fn parked_as(waiting_for: &Value) -> Option<TaskName> {
    let text = reply::text(waiting_for.clone()).ok()?;
    let (_, reason) = text.split_once(' ')?;
    reason.strip_prefix("worker_with_task ")?.parse().ok()
}

fn read_standing(state: State, fields: &[Value]) -> Option<ExpectedPlace> {
    let [priority, losses, unheard, waiting_for, deadline] =
        [4, 5, 6, 7, 8].map(|at| Some(&fields[at]).filter(|it| **it != Value::Nil));
    Some(ExpectedPlace {
        status: state.status,
        queue: state.queue,
        priority: match priority {
            None => Priority::Normal,
            Some(text) => reply::parsed(text.clone()).ok()?,
        },
        losses: losses.map_or(Ok(0), reply::unsigned).ok()?,
        unheard: unheard.map_or(Ok(0), reply::unsigned).ok()?,
        parked: waiting_for.and_then(parked_as),
        deadline: deadline.is_some(),
        version: state.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_few_jobs_have_are_those_of_the_functions() {
        let text = include_str!("../lua/core.lua");
        let (_, list) = text.split_once("local OPTIONAL, ANY = {").unwrap();
        let (list, any) = list.split_once('}').unwrap();
        let names: Vec<_> = list.split('\'').skip(1).step_by(2).collect();
        assert_eq!(any.lines().next(), Some(&*format!(", '{ANY_RARE}'")));
        let (mut ours, mut theirs) = (FIELDS[RARE..].to_vec(), names);
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }
}
