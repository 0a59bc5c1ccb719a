//! What matching the patterns of a schema costs.
//!
//! The engine builds its automaton while it reads a text, in a cache of bounded size. If all states fit into that cache, each
//! byte of a text costs the same few instructions. If they do not, the engine falls back to visiting every state of the pattern
//! for every byte. Which of them holds is found out here, by building every state there is with the engine's own means.

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

/// The largest pattern, compiled, in bytes: ten times what most take. The default of ten megabytes would make a check of a
/// short text take seconds.
pub(super) const COMPILED_BYTES: usize = 256 * 1024;
/// The cache in which the engine keeps the states of one pattern, in bytes; for each direction, and each thread.
pub(super) const CACHE_BYTES: usize = 1024 * 1024;
/// States that take this much here fit into the engine's cache: its configuration differs a little.
const FITTING_BYTES: usize = CACHE_BYTES / 2;
/// What all patterns of a schema may take in those caches, in bytes. Each thread that checks keeps them.
const ALL_CACHES_BYTES: usize = 8 * 1024 * 1024;
/// What the smallest pattern takes, in bytes: its program, and the scratch space of a search.
const SMALLEST_BYTES: usize = 16 * 1024;

/// Reading a text without any pattern, in sixteenths of a step for each byte.
const PLAIN: u64 = 1;
/// Reading a text with the automaton, at most in both directions: 5 ns a byte.
const AUTOMATON: u64 = 12;
/// Visiting one state for one byte, in sixteenths: 25 ns.
const STATE: u64 = 3 * 16;
/// Entering the engine and leaving it, in steps: 40 ns.
const MATCH: u64 = 5;

/// What it costs to look at a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Price {
    /// In steps, whatever its length.
    pub(super) look: u64,
    /// In sixteenths of a step for each of its bytes.
    pub(super) byte: u64,
}

impl Price {
    pub(super) const NOTHING: Self = Self { look: 0, byte: 0 };

    /// Of a look at this text, in steps.
    pub(super) fn of(self, text: &str) -> u64 {
        self.look.saturating_add((text.len() as u64).saturating_mul(self.byte) / 16)
    }

    fn plus(self, other: Self) -> Self {
        let byte = self.byte.saturating_add(other.byte);
        Self { look: self.look.saturating_add(other.look), byte }
    }

    fn or_more(self, other: Self) -> Self {
        Self { look: self.look.max(other.look), byte: self.byte.max(other.byte) }
    }
}

/// The price of looking at a text, and of looking at the name of a member. The library holds one look at a text against one
/// pattern. Names are looked at once for each pattern beside each other; but where `additionalProperties` applies to those that
/// fit none, one look is held against all of them.
///
/// # Errors
/// If all of them are too large together.
pub(super) fn prices(schema: &Value) -> Result<(Price, Price), InvalidSchema> {
    let mut known = Known { prices: HashMap::new(), bytes: 0 };
    let mut text = Price::NOTHING;
    let (mut dearest, mut all, mut together) = (Price::NOTHING, Price::NOTHING, false);
    let mut outcome = Ok(());
    each_subschema(&mut schema.clone(), &mut |members| {
        let beside = members.get("patternProperties").and_then(Value::as_object);
        let beside = beside.into_iter().flat_map(Map::keys);
        let own = members.get("pattern").and_then(Value::as_str);
        let at_once =
            members.get("additionalProperties").is_some_and(|it| *it != Value::Bool(true));
        let priced =
            known.all(own).and_then(|own| Ok((own, known.all(beside.map(String::as_str))?)));
        match priced {
            Ok((own, beside)) => {
                text = text.or_more(own.dearest);
                let look = if at_once { beside.together } else { beside.dearest };
                (dearest, all) = (dearest.or_more(look), all.plus(beside.together));
            }
            Err(error) => outcome = Err(error),
        }
        // What has been evaluated is known from the patterns of all schemas that apply to the same value.
        together |= members.contains_key("unevaluatedProperties");
    });
    let plain = Price { look: 1, byte: PLAIN };
    let name = if together { all } else { dearest };
    outcome.map(|()| (text.plus(plain), name.plus(plain)))
}

/// What several patterns cost.
#[derive(Debug, Clone, Copy)]
struct Several {
    together: Price,
    dearest: Price,
}

/// Patterns that were looked at already, as the library compiles each of them once.
struct Known {
    prices: HashMap<String, Price>,
    bytes: usize,
}

impl Known {
    /// What all of them cost.
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
        let (price, bytes) = weigh(pattern);
        self.bytes += bytes.max(SMALLEST_BYTES);
        if self.bytes > ALL_CACHES_BYTES {
            return Err(InvalidSchema::ManyPatterns { limit: ALL_CACHES_BYTES });
        }
        self.prices.insert(pattern.to_owned(), price);
        Ok(price)
    }
}

/// What matching a pattern costs, and how many bytes the engine keeps for it.
fn weigh(pattern: &str) -> (Price, usize) {
    let cheap = (Price { look: MATCH, byte: AUTOMATON }, 0);
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
    // What is too large is refused when the library compiles it.
    let (Some(forwards), Some(backwards)) = (compile(false), compile(true)) else { return cheap };
    let states = forwards.states().len().max(backwards.states().len()) as u64;
    match (all_states(forwards), all_states(backwards)) {
        (Some(forwards), Some(backwards)) => (cheap.0, forwards + backwards),
        _ => (Price { look: MATCH, byte: states.saturating_mul(STATE) }, CACHE_BYTES),
    }
}

/// What the library compares by itself: all alternatives, one after the other.
fn of_literal(pattern: &PatternAnalysis<'_>) -> Price {
    let compared =
        if let PatternAnalysis::Alternation(all) = pattern { all.len() as u64 } else { 1 };
    Price { look: MATCH + compared, byte: AUTOMATON }
}

/// The expression that the library searches for; `None` if it needs none, or refuses the pattern.
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
            // An error is a cache that is full.
            let next = next.ok()?;
            // The engine gives up where it quits.
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

/// Where a search may begin: at the start of a text, or behind a byte of any kind that the engine tells apart.
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
