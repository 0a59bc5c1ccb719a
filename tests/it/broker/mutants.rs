//! A check that cannot fail is no check: the functions are broken on purpose, one way at a time, and a scenario or a
//! random history must detect each.

use std::collections::BTreeMap;

use crunch_tests::RedisServer;

use super::driver::library;
use super::properties;
use super::scenarios::{NAMES, World, run_scenario};

mod errors;
mod history;
mod indexes;
mod steps;
mod upkeep;
mod waiting;

/// What is broken, the text that is replaced, and by what.
type Mutant = (&'static str, &'static str, &'static str);

/// All mutants, in groups by what they break.
const MUTANTS: [&[Mutant]; 6] = [
    steps::MUTANTS,
    upkeep::MUTANTS,
    waiting::MUTANTS,
    errors::MUTANTS,
    history::MUTANTS,
    indexes::MUTANTS,
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

/// What detects the mutant: a scenario, or the random histories.
fn detect(redis: &RedisServer, number: usize, (_, from, to): Mutant) -> Option<String> {
    let edit = |text: String| text.replacen(from, to, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut connection = redis.client().get_connection().unwrap();
    for (at, scenario) in NAMES.iter().enumerate() {
        // Audits look at all keys: those of earlier scenarios would make them slower and slower.
        redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        let result = runtime.block_on(async {
            let mut world =
                World::new(redis, &format!("mutant-{number}-{at}"), library(edit)).await;
            run_scenario(scenario, &mut world).await
        });
        if result.is_err() {
            return Some(format!("scenario: {scenario}"));
        }
    }
    properties::run(redis, &format!("mutant-{number}"), 300, 0, edit)
        .err()
        .map(|_| "a random history".to_owned())
}

/// Threads, each with its own Redis: a scenario and its Redis wait for each other most of the time.
const THREADS: usize = 4;

#[test]
fn every_broken_function_is_detected() {
    let mutants = MUTANTS.concat();
    let mutants = &mutants;

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
            Some(detected_by) => println!("{name:<46} detected by {detected_by}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "nothing detected {missed:?}");
}

fn detect_all<'a>(
    mutants: impl Iterator<Item = (usize, &'a Mutant)>,
) -> Vec<(usize, Option<String>)> {
    let redis = RedisServer::start().with_partitions(1);
    mutants.map(|(number, &mutant)| (number, detect(&redis, number, mutant))).collect()
}
