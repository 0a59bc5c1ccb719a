//! Random schemas and values: every check stays within its budget, and has the same outcome as the library.
//!
//! The suite counts steps, which are the same on every machine. The ignored test measures time for a minute, on one
//! core: `taskset -c 0 cargo test --release -p crunch-common --lib -- --ignored long_run --nocapture`

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// A random number generator that only needs to be reproducible.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn one_of(&mut self, options: &[&'static str]) -> &'static str {
        options[usize::try_from(self.below(options.len() as u64)).unwrap()]
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "op"];

fn schema(dice: &mut Dice) -> Value {
    let mut root = object(dice, 3);
    let defs = (0..4).map(|at| (format!("d{at}"), object(dice, 2)));
    root["$defs"] = Value::Object(defs.collect());
    root
}

fn object(dice: &mut Dice, depth: u64) -> Value {
    let mut members = Map::new();
    for _ in 0..=dice.below(3) {
        let (keyword, value) = keyword(dice, depth);
        members.insert(keyword.to_owned(), value);
    }
    Value::Object(members)
}

fn below(dice: &mut Dice, depth: u64) -> Value {
    match dice.below(4) {
        0 => json!({ "$ref": format!("#/$defs/d{}", dice.below(4)) }),
        1 => json!({ "type": dice.one_of(&["object", "array", "string", "integer", "null"]) }),
        2 if dice.below(3) == 0 => json!(dice.below(2) == 0),
        _ if depth > 0 => object(dice, depth - 1),
        _ => json!({ "const": dice.below(3) }),
    }
}

fn list(dice: &mut Dice, depth: u64) -> Value {
    (0..=dice.below(3)).map(|_| below(dice, depth)).collect()
}

fn named(dice: &mut Dice, depth: u64) -> Value {
    let entries = (0..=dice.below(2)).map(|_| (dice.one_of(&NAMES).to_owned(), below(dice, depth)));
    Value::Object(entries.collect())
}

fn keyword(dice: &mut Dice, depth: u64) -> (&'static str, Value) {
    let keyword = dice.one_of(keywords::USABLE);
    let value = match keyword {
        "$ref" => json!(format!("#/$defs/d{}", dice.below(4))),
        "anyOf" | "oneOf" | "allOf" | "prefixItems" => list(dice, depth),
        "properties" | "dependentSchemas" => named(dice, depth),
        "patternProperties" => json!({ "^[ab]": below(dice, depth), "c+$": below(dice, depth) }),
        "uniqueItems" => json!(true),
        "required" => json!([dice.one_of(&NAMES)]),
        "pattern" => json!(dice.one_of(&["^a", "(ab|ba)*$", "x{2,20}"])),
        "enum" => json!([1, "a", null, [1], {"a": 1}]),
        "const" => small(dice, 2),
        "minItems" | "maxProperties" | "maxLength" | "minContains" => json!(dice.below(3)),
        "dependentRequired" => json!({ dice.one_of(&NAMES): [dice.one_of(&NAMES)] }),
        "format" => json!(dice.one_of(&["date-time", "email", "uuid"])),
        "minimum" | "multipleOf" => json!(1 + dice.below(2)),
        "type" => json!(["object", "array", dice.one_of(&["string", "integer", "null"])]),
        _ => below(dice, depth),
    };
    (keyword, value)
}

/// Either a small and varied value, or one shape of up to 64 KiB.
fn value(dice: &mut Dice) -> Value {
    let leaf = small(dice, 3);
    match dice.below(8) {
        0 => (0..60).fold(leaf, |inner, _| json!({ "op": "a", "a": inner })),
        1 => (0..60).fold(leaf, |inner, _| json!({ "a": inner, "b": 1, "c": [] })),
        2 => (0..60).fold(leaf, |inner, _| json!([inner, 1])),
        3 => (0..60).fold(
            leaf,
            |inner, at| if at % 2 == 0 { json!([inner]) } else { json!({ "b": inner }) },
        ),
        4 => {
            let many = usize::try_from(1 + dice.below(3_000)).unwrap();
            (0..many).map(|_| small(dice, 1)).collect()
        }
        5 => {
            let many = (0..dice.below(2_000)).map(|at| (format!("a{at}"), small(dice, 1)));
            Value::Object(many.collect())
        }
        _ => leaf,
    }
}

fn small(dice: &mut Dice, depth: u64) -> Value {
    match dice.below(if depth == 0 { 4 } else { 7 }) {
        0 => json!(dice.below(3)),
        1 => json!(dice.one_of(&["a", "ab", "xx", ""])),
        2 => Value::Null,
        3 => json!(1.5),
        4 => (0..dice.below(4)).map(|_| small(dice, depth - 1)).collect(),
        _ => {
            let members = (0..dice.below(4))
                .map(|_| (dice.one_of(&NAMES).to_owned(), small(dice, depth - 1)));
            Value::Object(members.collect())
        }
    }
}

/// A schema that may be declared, and a value of at most 64 KiB.
fn case(seed: u64) -> Option<(Value, Validator, Vec<u8>)> {
    let mut dice = Dice::new(seed);
    let schema = schema(&mut dice);
    let validator = schema.to_string().parse::<Schema>().ok()?.compile().ok()?;
    let json = value(&mut dice).to_string().into_bytes();
    (json.len() <= 64 * 1024).then_some((schema, validator, json))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_check_stays_within_its_budget_and_answers_as_the_library_does(seed in any::<u64>()) {
        if let Some((schema, validator, json)) = case(seed) {
            let steps = validator.steps(&json);
            prop_assert!(steps.is_some(), "{schema} is not bounded for {}", String::from_utf8_lossy(&json));
            let library = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&schema).unwrap();
            let value: Value = serde_json::from_slice(&json).unwrap();
            let checked = validator.check(&json);
            prop_assert_eq!(checked.is_ok(), library.is_valid(&value), "{} {}", schema, value);
            if let Some(brief) = validator.check_briefly(&json) {
                prop_assert_eq!(brief, checked);
            }
        }
    }
}

/// CPU time of this thread: other load of the machine does not count.
fn cpu_time() -> Duration {
    // The kernel updates it at its ticks, 4 ms apart, and whenever a thread yields.
    std::thread::yield_now();
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

/// The shortest of three checks: a cache that other processes evict makes a check longer, never shorter.
fn best_of_three(validator: &Validator, json: &[u8]) -> Duration {
    let once = || {
        let begun = cpu_time();
        let _either = validator.check(json);
        cpu_time() - begun
    };
    (0..3).map(|_| once()).min().unwrap()
}

/// All checks that are expected to be slow, then random ones for a minute. Prints the slowest; more than 50 ms fails.
#[test]
#[ignore = "measures time, for a minute"]
fn long_run() {
    let mut found: Vec<(Duration, String)> = Vec::new();
    for (name, schema, json) in attacks::all() {
        let parsed = schema.to_string().parse::<Schema>();
        let Ok(validator) = parsed.and_then(|schema| schema.compile()) else { continue };
        found.push((best_of_three(&validator, json.as_bytes()), name.to_owned()));
    }
    let (end, mut checks) = (Instant::now() + Duration::from_secs(60), found.len());
    let mut slowest = Duration::ZERO;
    let mut seed = u64::from(std::process::id()) << 32;
    while Instant::now() < end {
        seed += 1;
        let Some((schema, validator, json)) = case(seed) else { continue };
        checks += 1;
        let begun = Instant::now();
        let _either = validator.check(&json);
        if begun.elapsed() > slowest {
            let took = best_of_three(&validator, &json);
            slowest = slowest.max(took);
            found.push((took, format!("{} bytes against {schema}", json.len())));
        }
    }
    found.sort();
    let slowest = &found[found.len().saturating_sub(12)..];
    slowest.iter().for_each(|(took, what)| println!("{took:>10.2?}  {what}"));
    let (took, what) = &found[found.len() - 1];
    assert!(*took < Duration::from_millis(50), "{checks} checks, slowest {took:?}: {what}");
}
