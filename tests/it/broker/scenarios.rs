//! Small scenarios for single verbs. They run with the same edited libraries as the random histories, so that either
//! can detect a broken function.

use crunch_tests::RedisServer;
use std::pin::Pin;
use std::time::Duration;

use crunch_common::broker::{
    Broker, BrokerConfig, Durability, Enqueued, Exchange, Exchanged, Heartbeat, Idempotency,
    JobRecord, Lease, LeaseKey, Library, LogLines, Lookup, NewJob, NumberedCounts, ReleaseCause,
    Report, Settled, Settlement, Start, TaskNames, Verdict, WorkerId, WorkerInfo, WorkerState,
};
use crunch_common::job::{
    ErrorCode, JobError, JobId, JobOptions, Partition, Payload, Priority, Status,
};
use crunch_common::queue::QueueName;
use crunch_common::time::Timestamp;
use redis::aio::MultiplexedConnection;

use super::driver::{CLOCK, Check, library};
use super::simulated::options;

mod audits;
mod deadlines;
mod depths;
mod ends;
mod errors;
mod expiry;
mod followers;
mod group_rules;
mod groups;
mod history;
mod indexes;
mod intake;
mod layout;
mod limits;
mod locks;
mod losses;
mod names;
mod parking;
mod queue_limits;
mod recent;
mod reclaims;
mod reports;
mod schedule_changes;
mod schedules;
mod shared_limits;
mod snoozes;
mod steering;
mod sweeps;
mod waking;
mod watching;
mod webhooks;
mod world;

pub(crate) use world::World;

/// How long a worker holds a claim, unless a scenario says otherwise.
const LEASE: Duration = Duration::from_secs(10);

/// How many jobs may wait in a queue.
const MAX_QUEUE_DEPTH: u64 = 1000;

fn ensure(holds: bool, what: &str) -> Check {
    if holds { Ok(()) } else { Err(format!("expected: {what}")) }
}

/// Calls a function in a stack frame of its own: the scenarios in one would be too large for the stack.
fn boxed<'a, F: Future>(
    start: impl FnOnce(&'a mut World) -> F,
    world: &'a mut World,
) -> Pin<Box<F>> {
    Box::pin(start(world))
}

macro_rules! scenarios {
    ($($name:literal => $file:ident::$scenario:ident,)*) => {
        /// The name of every scenario.
        pub(crate) const NAMES: &[&str] = &[$($name),*];

        /// Runs the scenario of that name.
        pub(crate) async fn run_scenario(name: &str, world: &mut World) -> Check {
            match name {
                $($name => boxed($file::$scenario, world).await,)*
                _ => panic!("no scenario is called {name:?}"),
            }
        }
    };
}

scenarios! {
    "a list begins with the newest jobs over all queues" => recent::listed,
    "a partition lists a thousand of its newest jobs" => recent::trimmed,
    "failures of one kind are one group" => errors::grouped,
    "an error group counts attempts and lists jobs" => errors::attempts,
    "jobs leave their error group, which stays for a week" => errors::left,
    "kinds of errors beyond the limit share a group" => errors::limited,
    "failures of one kind in one call are one kind" => errors::together,
    "kinds of errors of one task beyond its limit share a group" => errors::kinds,
    "whatever fails a job lists it in a group" => errors::every_end,
    "an audit checks the groups of errors" => audits::error_groups,
    "jobs are in their indexes until they are deleted" => indexes::kept,
    "jobs that expire leave their indexes" => indexes::expiry,
    "an index lists the newest jobs first" => indexes::listed,
    "an audit checks indexes" => audits::indexes,
    "the groups of a queue take turns" => groups::turns,
    "groups get shares by their weights" => groups::weights,
    "a thousand groups of a queue may have rules" => group_rules::rules_limited,
    "as many jobs of a group run as may" => group_rules::concurrency,
    "groups that come and go do not stop the others" => groups::one_shot,
    "a faster rate applies at once" => group_rules::faster,
    "a call looks at a limited number of groups" => group_rules::bounded,
    "sweeps look at groups that wait for the end of a job" => group_rules::looked_at,
    "jobs of a group start at its rate" => group_rules::rate,
    "as many jobs of a group wait as may" => group_rules::capped,
    "a job that must run alone counts in its group" => group_rules::alone_limited,
    "a job that must run alone stops no worker while its group may not start it" => group_rules::alone_blocked,
    "a job that must run alone goes before the others of its group" => queue_limits::solitary_first,
    "as many jobs of a queue run as may" => queue_limits::running,
    "jobs of a queue that are lost make room" => queue_limits::lost,
    "jobs that failed elsewhere do not run again in a queue with a limit" => queue_limits::failed_elsewhere,
    "a key whose job never was names the next one" => queue_limits::forgotten,
    "a group waits for a job that must run alone only until it starts or ends" => queue_limits::solitary_ends,
    "jobs of a queue start at its rate" => queue_limits::rates,
    "sweeps come when the rate of a queue allows the next start" => queue_limits::rates_swept,
    "of two changes of a limit the later one is made" => queue_limits::contended,
    "one worker comes when a rate allows the next start" => queue_limits::timekeeper,
    "all jobs of a queue with a limit are in one partition" => queue_limits::confined,
    "as many jobs of queues that share a limit run as may" => shared_limits::running,
    "the end of a job wakes workers of queues that share its limit" => shared_limits::siblings,
    "jobs of queues that share a limit start at its rate" => shared_limits::rates,
    "a queue has several limits" => shared_limits::several,
    "jobs without a group are one group" => groups::plain,
    "in a group the highest priority is first, and a job that runs again keeps its place" => groups::order,
    "a group earns nothing while it is idle" => groups::idle,
    "a job that leaves its group leaves no trace" => groups::left,
    "a purge cancels the jobs of all groups" => groups::purged,
    "jobs of groups are counted and listed" => groups::shown,
    "jobs of groups count towards the depth of their queue" => groups::limited,
    "jobs of groups wake workers" => groups::woken,
    "a job that must run alone leaves its group" => groups::alone,
    "parked jobs of groups count in them" => group_rules::parked,
    "what starts in one call counts in its group" => group_rules::together,
    "broken records in a group are passed over" => groups::unreadable,
    "sweeps forget when groups had their turns once that does not matter" => groups::forgotten,
    "an idempotency key in another partition than its job is reserved first" => groups::reserved,
    "an audit checks groups" => audits::groups,
    "another job with the lock of a live one is answered with that" => locks::existing,
    "locks are asked in one call with other jobs" => locks::together,
    "a lock may be free once its job starts" => locks::until_start,
    "a lock for a time outlives its job" => locks::for_a_time,
    "a job that waits is replaced by a new one" => locks::replaced,
    "a replaced job holds its lock until when the latest one says" => locks::replaced_until,
    "the second of two jobs with one lock does not delay the first" => locks::delayed_together,
    "one of two jobs whose holders are gone gets the lock" => followers::lost_holders,
    "a job that is ready keeps its place when it is replaced" => locks::replaced_in_place,
    "a job that is replaced may be due earlier" => locks::replaced_earlier,
    "a large payload replaces another one" => locks::replaced_large,
    "one job waits for the holder of its lock, the latest" => followers::follows,
    "a job that ends while it waits for a lock is not named" => followers::follower_ends,
    "however a job ends, the next one with its lock is ready" => followers::every_end,
    "the holder of a lock and its follower may end in one call" => followers::both_end,
    "a lock whose holder is gone is free" => followers::lost_holder,
    "a job that is retried by hand needs its lock" => followers::retried,
    "a repeated request is answered before its lock is asked" => followers::idempotent,
    "the key of a request that replaced a job is a key of that" => followers::idempotent_replacement,
    "a tick is skipped while its lock is held" => followers::scheduled,
    "an audit checks locks" => followers::audited,
    "a tick of a schedule happens once, in one step with its job" => schedules::once,
    "a tick that a dead process took is done by another" => schedules::taken,
    "a tick is skipped while the job of an earlier one lives, or both run" => schedules::overlapping,
    "a buffered tick follows when the job before it has ended" => schedules::buffered,
    "a tick cancels the job before it" => schedules::replaced,
    "missed ticks are made up for within their limit" => schedules::missed,
    "a paused schedule has no ticks, and makes up for none" => schedule_changes::paused,
    "a schedule is changed if it is what the caller expects" => schedule_changes::changed,
    "a removed schedule has no more ticks, and its jobs stay" => schedule_changes::removed,
    "a tick whose job has no room is tried again" => schedules::held,
    "a run on request waits for no tick" => schedules::requested,
    "ticks of the past are made up for one job at a time" => schedules::made_up,
    "a schedule ends with its last tick" => schedules::ended,
    "schedules are listed by name, and limited" => schedule_changes::limited,
    "an audit checks schedules" => schedule_changes::audited,
    "a worker learns with its heartbeats what an operator requested" => steering::requested,
    "attempts are counted in their minute and their hour, once" => history::counted,
    "series of attempts beyond the limit share one" => history::limited,
    "a queue with failed jobs is listed, and a sweep finds one that is not" => depths::ended_queues,
    "the jobs of queues are counted by state, with the age of the oldest" => depths::counted,
    "the depths of queues are sampled once a minute" => history::sampled,
    "the same key and request is one job, in one call or in two" => intake::idempotency,
    "one unreadable record does not stop the claim of nine others" => intake::quarantine,
    "each claim leaves a wake-up token until no claimable work is left" => waking::tokens,
    "a new earliest delayed job wakes a worker, a later one does not" => waking::delayed_tokens,
    "resume wakes a worker" => waking::resume,
    "jobs that a worker without queues releases wake another worker" => waking::released,
    "a call about many queues leaves exactly the tokens that are missing" => waking::many_queues,
    "an urgent job among empty queues is found" => waking::urgent_among_empty,
    "a job for which a call has no room wakes a worker" => waking::no_room,
    "a worker's first queue does not wait for the due jobs of the others" => limits::first_queue_first,
    "a queue with side jobs is listed, and a sweep finds one that is not" => waking::side_queues,
    "large payloads are stored before their job, and deleted with it" => intake::large_payloads,
    "a call hands out at most 4 MiB, and a larger job by itself" => limits::budget,
    "a job that does not fit into a call waits for the next one, whatever its queue" => limits::full,
    "a job that is submitted alone is refused where one of many would be" => limits::alone,
    "a log keeps its newest 256 lines and 64 KiB" => limits::log_limits,
    "a report that is sent again is written once, in each attempt" => reports::repeated,
    "the log shows how many lines are missing" => reports::missing,
    "a nearly full Redis takes reports later, and counts the lines of the last one" => reports::full,
    "the history keeps the last ten attempts" => limits::history,
    "a history of long errors stays within its byte limit" => limits::long_history,
    "a call promotes a hundred jobs over all queues, and a sweep continues until all are" => limits::hundred,
    "a worker gets as many jobs in each call while due jobs are promoted" => limits::due_backlog,
    "canceled jobs do not hide a live job of their priority" => limits::ghosts,
    "expired jobs leave the indexes" => ends::expiry,
    "jobs that ended together are listed once, in pages of all sizes" => ends::listed,
    "jobs that end together are one entry, from which each can be removed" => ends::together,
    "settling removes twice as many expired entries as it adds" => ends::trimmed,
    "a job that is retried by hand no longer expires" => ends::retried,
    "no job expires before a call whose reply was lost can be repeated" => ends::minimum_retention,
    "a job that kills its workers runs alone from the second loss and fails with the fifth" => losses::poison,
    "a worker that is reserved for a solitary job stays so, and paused queues reserve none" => losses::reserved,
    "failed hand-overs run alone from the third and end with the eighth" => losses::not_delivered,
    "a worker that died before the clock was set back is counted as a loss" => losses::set_back,
    "a broken running record can be canceled" => losses::broken_canceled,
    "what a machine cannot run is uncharged, waits ever longer, and shows why" => losses::machine,
    "a cancel wins over another attempt" => losses::canceled_meanwhile,
    "a batch of plain and special jobs keeps its order" => intake::order,
    "two exchanges of a worker may be under way, each with its own number" => losses::sequences,
    "a live worker keeps its job through an outage of seven seconds" => losses::outage,
    "a lease is valid only for its worker" => losses::stolen,
    "a job that is in no list is put back where its status says" => audits::put_back,
    "a running job without a lease stays with a worker that sends heartbeats" => audits::lease,
    "a job that is canceled while it is in no list stays canceled" => audits::canceled,
    "healing leaves alone what has changed since the audit" => audits::late,
    "an id in the wrong place is removed from it" => audits::misplaced,
    "an id that is in two places is handed out once" => audits::twice,
    "entries and keys without a job are removed" => audits::orphans,
    "ended jobs are listed and expire again" => audits::ended,
    "an audit reports nothing that only looks wrong" => audits::odd_but_correct,
    "what an operator must decide is reported and left alone" => audits::left,
    "a reclaim requeues the jobs of a dead worker at once and counts a loss, and another worker goes on"
        => reclaims::requeued,
    "calls of a worker that arrive after its reclaim are refused" => reclaims::late_calls,
    "a job fails with the fifth reclaim of its worker" => reclaims::poison,
    "a job that waits to run alone does not wait for a dead worker" => reclaims::reserved,
    "a reclaim requeues everything, however much its worker held" => reclaims::many,
    "a broken running record does not stop the recovery of others" => losses::broken,
    "every change of a watched job is published, and none of other jobs" => watching::published_in_order,
    "the changes of a job that is followed are kept without a gap, or the gap is reported"
        => watching::kept_without_gap,
    "lines of a log keep their numbers when older ones are dropped" => watching::numbered_lines,
    "a purge cancels what waits and leaves what runs or has run" => watching::purged,
    "the end of a job creates a delivery in the same step" => webhooks::created,
    "whatever ends a job creates a delivery" => webhooks::every_end,
    "each generation of a job has one delivery, and a muted job has no more" => webhooks::generations,
    "parked jobs go to workers with their task, in order" => parking::own_tasks,
    "a job that was parked once goes only to workers that have its task" => parking::stays,
    "parked jobs of several tasks take turns" => parking::turns,
    "a job that cannot be parked is tried again later" => parking::not_parked,
    "parked jobs are counted, listed, canceled and purged" => parking::managed,
    "parked jobs may wait for hours" => parking::kept,
    "sweeps drop parked jobs that were canceled" => parking::ghosts,
    "a deadline ends a job that no worker claims, wherever it waits" => deadlines::missed,
    "a job that runs at its deadline stays with its worker until it is lost" => deadlines::running,
    "a job that ended has no deadline any more, and one that is retried has" => deadlines::retried,
    "an audit checks deadlines and parked jobs" => audits::side_lists,
    "a job that does not start in time is canceled, wherever it waits" => expiry::waiting,
    "a claim starts no job that is too late" => expiry::claimed,
    "a job that started need not start in time again" => expiry::started,
    "the first of deadline and time to start decides, in each generation" => expiry::again,
    "an audit checks which jobs must start in time" => expiry::audited,
    "a handler puts its job off, uncharged" => snoozes::put_off,
    "a cancel wins over a snooze" => snoozes::canceled,
    "a job that is put off makes room in its group and keeps its place" => snoozes::grouped,
    "a job may be put off a thousand times, and not beyond its deadline" => snoozes::bounded,
    "pages list every queue by name, also those of a version without the index of names" => names::listed,
    "an audit finds a queue that is missing from the index of names" => names::audited,
    "a partition that is being moved is not written to" => layout::moving,
    "a heartbeat stops a process that lacks a feature in use" => layout::lacking_in_heartbeat,
    "a sweep stops a process that lacks a feature in use" => layout::lacking_in_sweep,
    // The slowest are last: a mutant runs them in order until one detects it.
    "a sweep finds what is due in one of many queues, and visits the others in turn" => sweeps::many_queues,
    "queues in which nothing is due are visited in rounds" => sweeps::rounds,
    "a queue with many due jobs is visited until all are promoted" => sweeps::many_jobs,
    "a clock that went back makes a sweep visit every queue" => sweeps::clock_back,
    "a nearly full Redis makes a sweep visit every queue" => sweeps::nearly_full,
    "no worker is waited for where nothing was due before" => sweeps::quiet,
    "workers are waited for after an outage, whatever was seen before it" => sweeps::outage_after_look,
    "new queues are refused at the limit, and known ones go on" => limits::names,
    "an empty queue is removed an hour after its last use, and not after its first" => limits::last_use,
    "new tasks are refused at the limit, and declared ones are renewed" => limits::tasks,
    "shared limits are bounded" => shared_limits::bounds,
}

/// Runs every scenario with functions whose text was edited.
async fn run_all_scenarios(edit: impl Fn(String) -> String) {
    let redis = RedisServer::start().with_partitions(1);
    let mut wrong_ones = Vec::new();
    for (at, name) in NAMES.iter().enumerate() {
        let mut world = World::new(&redis, &format!("scenario-{at}"), library(&edit)).await;
        if let Err(wrong) = run_scenario(name, &mut world).await {
            wrong_ones.push(format!("{name}: {wrong}"));
        }
    }
    assert!(wrong_ones.is_empty(), "{wrong_ones:#?}");
}

#[tokio::test]
async fn every_scenario_holds() {
    run_all_scenarios(|text| text).await;
}

/// What the functions cache for the next call is never needed for a correct answer.
#[tokio::test]
async fn every_scenario_holds_with_caches_of_one_entry() {
    run_all_scenarios(|text| {
        let edited = text.replace("_KEPT = 4096", "_KEPT = 1").replace("_KEPT = 512", "_KEPT = 1");
        assert_ne!(edited, text);
        edited
    })
    .await;
}
