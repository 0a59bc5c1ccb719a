//! A check that cannot fail is no check: the functions are broken on purpose, one way at a time, and a story or a random
//! history must notice each.

use std::collections::BTreeMap;

use crunch_tests::RedisServer;

use super::driver::library;
use super::properties;
use super::scenarios::{NAMES, World, tell};

mod steps;
mod upkeep;
mod waiting;

/// What is broken, the text that is replaced, and by what.
type Mutant = (&'static str, &'static str, &'static str);

/// All of them, by what they break.
const MUTANTS: [&[Mutant]; 3] = [steps::MUTANTS, upkeep::MUTANTS, waiting::MUTANTS];

/// How many there are.
pub(crate) fn count() -> usize {
    MUTANTS.iter().map(|part| part.len()).sum()
}

/// Who notices the mutant: a story, or the random histories.
fn catcher(redis: &RedisServer, number: usize, (name, from, to): Mutant) -> Option<String> {
    let edit = |text: String| {
        assert_eq!(
            text.matches(from).count(),
            1,
            "the text of mutant {name:?} must stand exactly once in the library"
        );
        text.replacen(from, to, 1)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (at, story) in NAMES.iter().enumerate() {
        let told = runtime.block_on(async {
            let mut world =
                World::new(redis, &format!("mutant-{number}-{at}"), library(edit)).await;
            tell(story, &mut world).await
        });
        if told.is_err() {
            return Some(format!("story: {story}"));
        }
    }
    properties::run(redis, &format!("mutant-{number}"), 300, 0, edit)
        .err()
        .map(|_| "a random history".to_owned())
}

/// Each with a Redis of its own: a story waits for Redis, and Redis for the story.
const HUNTERS: usize = 4;

#[test]
fn every_broken_function_is_noticed() {
    let mutants = MUTANTS.concat();
    let mutants = &mutants;
    let caught = std::thread::scope(|scope| {
        let hunters: Vec<_> = (0..HUNTERS)
            .map(|first| {
                scope.spawn(move || hunt(mutants.iter().enumerate().skip(first).step_by(HUNTERS)))
            })
            .collect();
        hunters.into_iter().flat_map(|hunter| hunter.join().unwrap()).collect::<BTreeMap<_, _>>()
    });
    let mut missed = Vec::new();
    for (number, catcher) in caught {
        let name = mutants[number].0;
        match catcher {
            Some(catcher) => println!("{name:<46} caught by {catcher}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "nothing noticed: {missed:?}");
}

fn hunt<'a>(mutants: impl Iterator<Item = (usize, &'a Mutant)>) -> Vec<(usize, Option<String>)> {
    let redis = RedisServer::start();
    mutants.map(|(number, &mutant)| (number, catcher(&redis, number, mutant))).collect()
}
