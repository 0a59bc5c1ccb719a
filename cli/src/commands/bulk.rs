//! One verb on all jobs that a filter finds: counted first, confirmed with the exact number, then done in steps.

use std::io::{self, BufRead, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;

use super::Session;
use super::filter::Filter;
use crate::client::{Client, Request};
use crate::clock;
use crate::documents::{Acted, FailureCount, Search};
use crate::error::Error;
use crate::exit::Exit;
use crate::format;
use crate::output::bar::Bar;
use crate::output::{log, printable};

/// The largest step of a request: the API ends each after five seconds in any case.
const STEP: u64 = 1000;
/// How far the clock of an API is ahead of the date in its answers at most: that has whole seconds, and is kept for half a
/// second.
const DATE_LAG: Duration = Duration::from_secs(2);
/// Above this many jobs a person confirms with the number instead of a letter.
const MANY: u64 = 100;

/// How a bulk verb is confirmed.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Many jobs")]
pub(super) struct Consent {
    /// Only count the jobs
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do it without a question
    #[arg(long, short)]
    pub(super) yes: bool,
    /// At most this many jobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
}

/// What is done to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Cancel,
    Retry,
    Delete,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Delete => "delete",
        }
    }

    pub(super) fn past(self) -> &'static str {
        match self {
            Self::Cancel => "canceled",
            Self::Retry => "queued again",
            Self::Delete => "deleted",
        }
    }

    /// Whether it cannot be undone.
    fn is_destructive(self) -> bool {
        matches!(self, Self::Cancel | Self::Delete)
    }
}

/// A time after all jobs that there are: those that arrive between a question and its answer are left alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Horizon {
    /// By the clock of the API, which gives jobs their times.
    pub(super) time: Timestamp,
    passes: Instant,
}

impl Horizon {
    pub(super) fn take(client: &Client) -> Result<Self, Error> {
        let date = client.send(&Request::get(&["livez"]))?.date();
        let time = date.unwrap_or_else(clock::now) + DATE_LAG;
        Ok(Self { time, passes: Instant::now() + DATE_LAG })
    }

    /// Waits until no further job can be before it: so the number in a question is exact.
    pub(super) fn pass(self) {
        thread::sleep(self.passes.saturating_duration_since(Instant::now()));
    }
}

/// Counts the jobs, asks, and acts on as many as were counted.
pub(super) fn run(
    session: &mut Session<'_>,
    verb: Verb,
    filters: &[Filter],
    consent: Consent,
) -> Result<Exit, Error> {
    let limit = consent.limit.unwrap_or(u64::MAX);
    let asks = verb.is_destructive() && !consent.yes && !consent.dry_run;
    let horizon = Horizon::take(&session.client)?;
    if asks && can_ask() {
        horizon.pass();
    }
    let bounded: Vec<_> = filters.iter().map(|it| it.created_before(horizon.time)).collect();
    let (mut counted, mut sum) = (Vec::new(), Acted::default());
    for filter in &bounded {
        let found = act(&session.client, (verb, filter), limit - sum.matched, true, |_| ())?;
        counted.push((filter, found.matched));
        sum.add(found);
    }
    let total = sum.matched;
    if sum.search.as_ref().is_some_and(Search::is_by_index) {
        log::note(
            "only jobs that had this label declared as an index when they were submitted; --search scan finds all",
        );
    }
    if consent.dry_run || total == 0 {
        return report(session, &sum, verb, consent.dry_run);
    }
    if asks {
        confirm(session, verb, filters, total)?;
    }
    let mut bar = Bar::new();
    let mut done = Acted::default();
    for (filter, matched) in counted {
        // No more than what was counted and confirmed: others may have come since.
        let acted = act(&session.client, (verb, filter), matched, false, |so_far| {
            let matched = done.matched + so_far;
            bar.show(part(matched, total), &format!("{matched} of {}", format::jobs(total)));
        })?;
        done.add(acted);
    }
    bar.clear();
    report(session, &done, verb, false)
}

fn part(done: u64, total: u64) -> f64 {
    done as f64 / total.max(1) as f64
}

/// Repeats a request until the list ends or `limit` jobs were found.
pub(super) fn act(
    client: &Client,
    (verb, filter): (Verb, &Filter),
    limit: u64,
    dry_run: bool,
    mut progress: impl FnMut(u64),
) -> Result<Acted, Error> {
    let mut request =
        filter.apply(Request::post(&["jobs", "actions"]).query("action", verb.name()));
    if dry_run {
        request = request.query("dry_run", &true);
    }
    let most = if dry_run { 100 * STEP } else { STEP };
    let mut sum = Acted::default();
    while sum.matched < limit {
        let step = request.clone().query("limit", &most.min(limit - sum.matched));
        let mut acted: Acted = match dry_run {
            true => client.read(&step)?,
            // A step that is repeated would act on further jobs.
            false => match client.send_once(&step) {
                Ok(answer) => answer.json(&client.target.url)?,
                Err((error, in_doubt)) => {
                    let step = if in_doubt { most.min(limit - sum.matched) } else { 0 };
                    note_progress(verb, sum.changed, step);
                    return Err(error);
                }
            },
        };
        let next_cursor = acted.next_cursor.take();
        sum.add(acted);
        progress(sum.matched);
        match next_cursor {
            Some(cursor) => request = request.query("cursor", &cursor),
            None => break,
        }
    }
    Ok(sum)
}

/// Reports what was done before an error, and what may have been done by the step that failed.
fn note_progress(verb: Verb, changed: u64, in_doubt: u64) {
    if changed + in_doubt > 0 {
        let done = format!("{} {} before the error", format::jobs(changed), verb.past());
        let more =
            if in_doubt > 0 { format!("; up to {in_doubt} more may be") } else { String::new() };
        log::note(&(done + &more));
    }
}

fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a person, with everything that a wrong answer would cost; without a person, `--yes` is needed.
fn confirm(session: &Session<'_>, verb: Verb, filters: &[Filter], count: u64) -> Result<(), Error> {
    let which: Vec<_> = filters.iter().map(ToString::to_string).collect();
    let what = format!(
        "{} {} of {} ({})",
        verb.name(),
        format::jobs(count),
        session.client.target,
        which.join("; ")
    );
    if !can_ask() {
        return Err(Error::usage(
            format!("this would {what}, and nobody can be asked"),
            "repeat it with --yes, or count first with --dry-run",
        ));
    }
    let expected = if count > MANY { count.to_string() } else { "y".to_owned() };
    let mut stderr = io::stderr().lock();
    let question = if count > MANY {
        format!("Type {count} to {what}: ")
    } else {
        format!("Really {what}? [y/N] ")
    };
    write!(stderr, "{}", printable(&question)).and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case(&expected) {
        return Ok(());
    }
    Err(Error::usage("nothing was changed", format!("answer {expected}, or use --yes")))
}

fn report(
    session: &mut Session<'_>,
    done: &Acted,
    verb: Verb,
    dry_run: bool,
) -> Result<Exit, Error> {
    if session.output.json {
        session.output.own_document(done)?;
        return Ok(Exit::Done);
    }
    let Acted { matched, changed, .. } = *done;
    let count = if dry_run { matched } else { changed };
    if session.output.is_terminal {
        let would = if dry_run { "would be " } else { "" };
        session.output.line(&format!("{} {would}{}", format::jobs(count), verb.past()))?;
        let failures = done.failures.iter().filter(|_| dry_run);
        for FailureCount { error, jobs } in failures {
            session.output.line(&format!("{} failed with {error}", format::jobs(*jobs)))?;
        }
    } else {
        session.output.line(&count.to_string())?;
    }
    if !dry_run && changed < matched {
        log::note(&format!("{} had changed meanwhile", format::jobs(matched - changed)));
    }
    Ok(Exit::Done)
}
