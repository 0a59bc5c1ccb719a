//! A check that cannot fail is no check: the functions are broken on purpose, one way at a time, and a scenario or a
//! random history must detect each.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use crunch_common::broker::Library;
use crunch_tests::RedisServer;

use super::driver::library;
use super::properties;
use super::scenarios::{NAMES, World, run_scenario};

mod errors;
mod expiry;
mod groups;
mod history;
mod indexes;
mod limits;
mod locks;
mod schedules;
mod steps;
mod upkeep;
mod waiting;

/// What is broken, the text that is replaced, and by what.
type Mutant = (&'static str, &'static str, &'static str);

/// All mutants, in groups by what they break.
const MUTANTS: [&[Mutant]; 11] = [
    steps::MUTANTS,
    upkeep::MUTANTS,
    waiting::MUTANTS,
    errors::MUTANTS,
    history::MUTANTS,
    indexes::MUTANTS,
    groups::MUTANTS,
    limits::MUTANTS,
    expiry::MUTANTS,
    schedules::MUTANTS,
    locks::MUTANTS,
];

/// The number of mutants.
pub(crate) fn count() -> usize {
    MUTANTS.iter().map(|group| group.len()).sum()
}

#[test]
fn every_mutant_changes_one_place() {
    let _ = library(|text| {
        let mutants = MUTANTS.concat();
        let misplaced = mutants.iter().filter(|(_, from, _)| text.matches(from).count() != 1);
        let misplaced: Vec<_> = misplaced.map(|(name, from, _)| (name, from)).collect();
        assert!(misplaced.is_empty(), "not in one place: {misplaced:#?}");
        text
    });
}

/// Mutants, and what detected each the last time, separated by a tab.
const DETECTED_BY: &str = include_str!("mutants/detected_by.tsv");

/// What detects a mutant where no scenario does.
const HISTORIES: &str = "random histories";

/// What detected a mutant when all were last run.
fn last_time(name: &str) -> Option<&'static str> {
    DETECTED_BY.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'))
}

/// What detects the mutant: a scenario, or the random histories. What did the last time is tried first.
fn detect(redis: &RedisServer, number: usize, (name, from, to): Mutant) -> Option<&'static str> {
    let edit = |text: String| text.replacen(from, to, 1);
    let last_time = last_time(name);
    let mut all: Vec<_> = NAMES.iter().copied().chain([HISTORIES]).collect();
    all.sort_by_key(|by| Some(*by) != last_time);
    all.into_iter().enumerate().find_map(|(at, by)| {
        // Audits look at all keys: earlier ones would make them slower and slower.
        let mut connection = redis.client().get_connection().unwrap();
        redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        let prefix = format!("mutant-{number}-{at}");
        let detected = match by {
            HISTORIES => properties::run(redis, &prefix, 300, 0, edit).is_err(),
            scenario => fails(redis, &prefix, scenario, library(edit)),
        };
        detected.then_some(by)
    })
}

fn fails(redis: &RedisServer, prefix: &str, scenario: &str, library: Library) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(redis, prefix, library).await;
        run_scenario(scenario, &mut world).await.is_err()
    })
}

/// Threads, each with its own Redis: a scenario and its Redis wait for each other most of the time.
const THREADS: usize = 4;

/// How many of the mutants that only random histories detect are tried in one run: some take minutes.
const SLOW_ONES: usize = 4;

/// The mutants to try: all whose names contain the word in `CRUNCH_TEST_MUTANTS`, or `all`. Without it, all that a scenario
/// detects, and a few of the others, by chance.
fn chosen() -> Vec<Mutant> {
    let mut mutants = MUTANTS.concat();
    if let Some(word) = std::env::var_os("CRUNCH_TEST_MUTANTS") {
        let word = word.to_string_lossy();
        mutants.retain(|(name, ..)| word == "all" || name.contains(&*word));
        return mutants;
    }
    let is_slow = |name: &str| last_time(name) == Some(HISTORIES);
    let mut slow: Vec<_> = mutants.extract_if(.., |(name, ..)| is_slow(name)).collect();
    let by_chance = RandomState::new();
    slow.sort_by_key(|(name, ..)| by_chance.hash_one(name));
    mutants.extend(slow.into_iter().take(SLOW_ONES));
    mutants
}

#[test]
fn every_broken_function_is_detected() {
    let mutants = &chosen();

    let detected = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                scope.spawn(move || {
                    detect_all(mutants.iter().enumerate().skip(first).step_by(THREADS))
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<BTreeMap<_, _>>()
    });

    let mut missed = Vec::new();
    for (number, detected_by) in detected {
        let name = mutants[number].0;
        match detected_by {
            Some(detected_by) => println!("{name}\t{detected_by}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "nothing detected {missed:?}");
}

fn detect_all<'a>(
    mutants: impl Iterator<Item = (usize, &'a Mutant)>,
) -> Vec<(usize, Option<&'static str>)> {
    let redis = RedisServer::start().with_partitions(1);
    mutants.map(|(number, &mutant)| (number, detect(&redis, number, mutant))).collect()
}
