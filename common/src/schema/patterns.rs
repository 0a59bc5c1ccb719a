//! The cost of matching the patterns of a schema.
//!
//! The engine builds its automaton while it reads a text, in a cache of bounded size. If all states fit into that
//! cache, each byte of a text costs the same few instructions. If they do not, the engine falls back to visiting every
//! state of the pattern for every byte. This module determines which case applies, by building all states with the
//! engine's own code.

use std::collections::{HashMap, HashSet};

use jsonschema_regex::{PatternAnalysis, Search, analyze_pattern, search_form, to_rust_regex};
use regex_automata::Anchored;
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::start;
use serde_json::{Map, Value};

use super::InvalidSchema;
use super::walk::each_subschema;

/// The largest compiled pattern, in bytes: ten times the size of most. With the default of ten megabytes, a check of a
/// short text could take seconds.
pub(super) const COMPILED_BYTES: usize = 256 * 1024;
/// The cache in which the engine keeps the states of one pattern, in bytes; for each direction, and each thread.
pub(super) const CACHE_BYTES: usize = 1024 * 1024;
/// States of up to this size here fit into the engine's cache: its configuration differs slightly.
const FITTING_BYTES: usize = CACHE_BYTES / 2;
/// The maximum size of all patterns of a schema in those caches, in bytes. Each thread that checks has its own caches.
const ALL_CACHES_BYTES: usize = 8 * 1024 * 1024;
/// Size of the smallest pattern, in bytes: its program, and the scratch space of a search.
const SMALLEST_BYTES: usize = 16 * 1024;

/// Reading a text without any pattern, in sixteenths of a step for each byte.
const PLAIN: u64 = 1;
/// Reading a text with the automaton, at most in both directions: 5 ns per byte.
const AUTOMATON: u64 = 12;
/// Visiting one state for one byte, in sixteenths of a step: 25 ns.
const STATE: u64 = 3 * 16;
/// Entering the engine and leaving it, in steps: 40 ns.
const MATCH: u64 = 5;

/// Price of an access to a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Price {
    /// In steps, for any length.
    pub(super) access: u64,
    /// In sixteenths of a step for each of its bytes.
    pub(super) byte: u64,
}

impl Price {
    pub(super) const NOTHING: Self = Self { access: 0, byte: 0 };

    /// Price of an access to this text, in steps.
    pub(super) fn of(self, text: &str) -> u64 {
        self.access.saturating_add((text.len() as u64).saturating_mul(self.byte) / 16)
    }

    fn plus(self, other: Self) -> Self {
        let byte = self.byte.saturating_add(other.byte);
        Self { access: self.access.saturating_add(other.access), byte }
    }

    fn or_more(self, other: Self) -> Self {
        Self { access: self.access.max(other.access), byte: self.byte.max(other.byte) }
    }
}

/// The price of an access to a text, and of an access to the name of a member. The library matches a text of one access
/// against one pattern. It accesses a name once for each pattern of the same `patternProperties`; but where
/// `additionalProperties` applies to names that match none, it matches the name of one access against all of them.
///
/// # Errors
/// If all patterns together are too large.
pub(super) fn prices(schema: &Value) -> Result<(Price, Price), InvalidSchema> {
    let mut cache = PriceCache { prices: HashMap::new(), bytes: 0 };
    let mut text = Price::NOTHING;
    let (mut dearest, mut all, mut together) = (Price::NOTHING, Price::NOTHING, false);
    let mut outcome = Ok(());
    each_subschema(&mut schema.clone(), &mut |members| {
        let named = members.get("patternProperties").and_then(Value::as_object);
        let named = named.into_iter().flat_map(Map::keys);
        let own = members.get("pattern").and_then(Value::as_str);
        let at_once =
            members.get("additionalProperties").is_some_and(|it| *it != Value::Bool(true));
        let priced =
            cache.all(own).and_then(|own| Ok((own, cache.all(named.map(String::as_str))?)));
        match priced {
            Ok((own, named)) => {
                text = text.or_more(own.dearest);
                let access = if at_once { named.together } else { named.dearest };
                (dearest, all) = (dearest.or_more(access), all.plus(named.together));
            }
            Err(error) => outcome = Err(error),
        }
        // To find out what has been evaluated, the patterns of all schemas that apply to the same value are matched.
        together |= members.contains_key("unevaluatedProperties");
    });
    let plain = Price { access: 1, byte: PLAIN };
    let name = if together { all } else { dearest };
    outcome.map(|()| (text.plus(plain), name.plus(plain)))
}

/// Prices of several patterns.
#[derive(Debug, Clone, Copy)]
struct Several {
    together: Price,
    dearest: Price,
}

/// Prices of patterns that were already analyzed, as the library compiles each of them once.
struct PriceCache {
    prices: HashMap<String, Price>,
    bytes: usize,
}

impl PriceCache {
    /// Returns the prices of these patterns.
    fn all<'a>(
        &mut self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Several, InvalidSchema> {
        let none = Several { together: Price::NOTHING, dearest: Price::NOTHING };
        patterns.into_iter().try_fold(none, |Several { together, dearest }, pattern| {
            let price = self.price(pattern)?;
            Ok(Several { together: together.plus(price), dearest: dearest.or_more(price) })
        })
    }

    fn price(&mut self, pattern: &str) -> Result<Price, InvalidSchema> {
        if let Some(&price) = self.prices.get(pattern) {
            return Ok(price);
        }
        let (price, bytes) = measure(pattern);
        self.bytes += bytes.max(SMALLEST_BYTES);
        if self.bytes > ALL_CACHES_BYTES {
            return Err(InvalidSchema::ManyPatterns { limit: ALL_CACHES_BYTES });
        }
        self.prices.insert(pattern.to_owned(), price);
        Ok(price)
    }
}

/// The price of matching a pattern, and how many bytes the engine stores for it.
fn measure(pattern: &str) -> (Price, usize) {
    let cheap = (Price { access: MATCH, byte: AUTOMATON }, 0);
    if let Some(literal) = analyze_pattern(pattern) {
        return (of_literal(&literal), 0);
    }
    let Some(searched) = searched(pattern) else { return cheap };
    let compile = |reverse: bool| {
        let config = thompson::Config::new()
            .nfa_size_limit(Some(COMPILED_BYTES))
            .which_captures(WhichCaptures::None)
            .reverse(reverse);
        NFA::compiler().configure(config).build(&searched).ok()
    };
    // A pattern that is too large is rejected when the library compiles it.
    let (Some(forwards), Some(backwards)) = (compile(false), compile(true)) else { return cheap };
    let states = forwards.states().len().max(backwards.states().len()) as u64;
    match (all_states(forwards), all_states(backwards)) {
        (Some(forwards), Some(backwards)) => (cheap.0, forwards + backwards),
        _ => (Price { access: MATCH, byte: states.saturating_mul(STATE) }, CACHE_BYTES),
    }
}

/// Price of a pattern that the library compares without the engine: all alternatives, one after the other.
fn of_literal(pattern: &PatternAnalysis<'_>) -> Price {
    let compared =
        if let PatternAnalysis::Alternation(all) = pattern { all.len() as u64 } else { 1 };
    Price { access: MATCH + compared, byte: AUTOMATON }
}

/// The expression that the library searches for; `None` if it needs none, or rejects the pattern.
fn searched(pattern: &str) -> Option<String> {
    let translated = to_rust_regex(pattern).ok()?;
    match search_form(pattern, &translated) {
        Some(Search::RepeatedClass(_)) => None,
        Some(Search::Collapsed(collapsed)) => Some(collapsed),
        None => Some(translated.into_owned()),
    }
}

/// How many bytes all states of the automaton take, if they fit into the engine's cache.
fn all_states(nfa: NFA) -> Option<usize> {
    let config = DFA::config().cache_capacity(FITTING_BYTES).minimum_cache_clear_count(Some(0));
    let automaton = DFA::builder().configure(config).build_from_nfa(nfa).ok()?;
    let mut cache = automaton.create_cache();
    let mut open = starts(&automaton, &mut cache)?;
    let mut seen: HashSet<_> = open.iter().copied().collect();
    let bytes: Vec<_> = automaton.byte_classes().representatives(..).collect();
    while let Some(state) = open.pop() {
        for byte in &bytes {
            let next = match byte.as_u8() {
                Some(byte) => automaton.next_state(&mut cache, state, byte),
                None => automaton.next_eoi_state(&mut cache, state),
            };
            // An error means that the cache is full.
            let next = next.ok()?;
            // The engine gives up in a quit state.
            if next.is_quit() {
                return None;
            }
            if !next.is_dead() && seen.insert(next) {
                open.push(next);
            }
        }
    }
    Some(cache.memory_usage())
}

/// States in which a search may start: at the start of a text, or after each class of byte that the engine
/// distinguishes.
fn starts(automaton: &DFA, cache: &mut Cache) -> Option<Vec<LazyStateID>> {
    let behind = [None, Some(b'\n'), Some(b'\r'), Some(b'a'), Some(b' ')];
    let mut states = Vec::new();
    for anchored in [Anchored::No, Anchored::Yes] {
        for byte in behind {
            let config = start::Config::new().anchored(anchored).look_behind(byte);
            states.push(automaton.start_state(cache, &config).ok()?);
        }
    }
    Some(states)
}
