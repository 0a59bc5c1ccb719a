//! JSON that counts how often it is accessed, and how many bytes of violations are built about it. These counts bound
//! every check, whatever its schema.
//!
//! The library has no budget. It reads values through traits, so this representation counts the accesses: when the
//! budget is spent, the next access unwinds the check. That is a cancellation, not a panic: no hook runs, nothing is
//! printed.

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object};
use serde_json::{Map, Number, Value, map};

use super::measure::copied_bytes;
use super::prices::Prices;

/// What a check may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Accesses to the value. One takes 5 to 10 ns, including the work of the library for it.
    pub(super) steps: u64,
    /// Bytes of violations that are under construction at once.
    pub(super) memory: u64,
    /// The longest pointer into the value, and the longest path through the schema to it: every violation may hold
    /// both.
    pub(super) paths: u64,
    /// Price of accesses that take more than one step.
    pub(super) prices: Prices,
}

/// The budget was spent before the check finished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exhausted;

/// A violation of the library takes about this many bytes besides its pointers and texts.
const VIOLATION_BYTES: u64 = 400;
/// How many bytes of a violation are allocated, written and freed in the time of one step.
const BYTES_PER_STEP: u64 = 32;
/// Steps for each item whose uniqueness is checked, and for each value in it: it is serialized, hashed and stored.
const UNIQUE_ITEM: u64 = 32;
const UNIQUE_VALUE: u64 = 3;
/// A key is compared with some of an object's keys; this many bytes of it take the time of one step.
const KEY_BYTES_PER_STEP: u64 = 32;
/// How deep the library may recurse, in bytes of stack. Threads of Tokio, Actix and the standard library have 2 MiB.
const STACK_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
struct Meter {
    steps: Cell<u64>,
    memory: Cell<u64>,
    paths: Cell<u64>,
    prices: Cell<Prices>,
    lowest_stack: Cell<usize>,
}

thread_local! {
    /// Nodes for names of members are created without access to another node, so the meter is per thread.
    static METER: Meter = const {
        Meter {
            steps: Cell::new(0),
            memory: Cell::new(0),
            paths: Cell::new(0),
            prices: Cell::new(Prices::NOTHING),
            lowest_stack: Cell::new(0),
        }
    };
}

/// Runs a check; returns its outcome and how many steps it took.
pub(super) fn within<T>(budget: Budget, check: impl FnOnce() -> T) -> Result<(T, u64), Exhausted> {
    METER.with(|meter| {
        meter.steps.set(budget.steps);
        meter.memory.set(budget.memory);
        meter.paths.set(budget.paths);
        meter.prices.set(budget.prices);
        meter.lowest_stack.set(stack_position().saturating_sub(STACK_BYTES));
    });
    // Unwinding drops everything that the check has built, and the value and the schema are only read.
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(found) => Ok((found, budget.steps - METER.with(|meter| meter.steps.get()))),
        Err(cause) => Err(exhausted(cause)),
    }
}

fn exhausted(cause: Box<dyn Any + Send>) -> Exhausted {
    match cause.downcast::<Exhausted>() {
        Ok(exhausted) => *exhausted,
        Err(panic) => resume_unwind(panic),
    }
}

fn stack_position() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

fn spend(steps: u64) {
    METER.with(|meter| {
        let left = meter.steps.get().checked_sub(steps);
        match left.filter(|_| stack_position() > meter.lowest_stack.get()) {
            Some(left) => meter.steps.set(left),
            None => resume_unwind(Box::new(Exhausted)),
        }
    });
}

fn prices() -> Prices {
    METER.with(|meter| meter.prices.get())
}

/// Spends the price of a violation that is about to be built, with this many bytes of its own.
fn spend_on_violation(bytes: u64) {
    let (paths, prices) = METER.with(|meter| (meter.paths.get(), meter.prices.get()));
    let bytes = bytes + VIOLATION_BYTES + paths + prices.violation;
    spend(bytes / BYTES_PER_STEP);
    METER.with(|meter| match meter.memory.get().checked_sub(bytes) {
        Some(left) => meter.memory.set(left),
        None => resume_unwind(Box::new(Exhausted)),
    });
}

/// Number of values in a value, including itself; 16 bytes of text count as one.
fn values_in(value: &Value) -> u64 {
    let text = |text: &str| text.len() as u64 / 16;
    1 + match value {
        Value::Array(items) => items.iter().map(values_in).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| text(name) + values_in(value)).sum()
        }
        Value::String(own) => text(own),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The metered representation of JSON.
#[derive(Debug)]
pub(super) struct MeteredJson;

/// A value that counts its accesses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metered<'a>(pub(super) &'a Value);

/// The members of an object.
#[derive(Debug)]
pub(super) struct MeteredMembers<'a>(&'a Map<String, Value>);

/// The items of an array.
#[derive(Debug)]
pub(super) struct MeteredItems<'a>(&'a [Value]);

impl Json for MeteredJson {
    type Node<'a> = Metered<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    /// The same as for `serde_json`: a lookup compares texts at every branch of a tree.
    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(
        buffer: &mut Value,
        string: &str,
        check: impl FnOnce(Metered<'_>) -> T,
    ) -> T {
        spend(4 + prices().text.of(string));
        *buffer = Value::String(string.to_owned());
        check(Metered(buffer))
    }
}

impl<'a> Node<'a, MeteredJson> for Metered<'a> {
    type Object = MeteredMembers<'a>;
    type Array = MeteredItems<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<MeteredMembers<'a>> {
        spend(1);
        self.0.as_object().map(MeteredMembers)
    }

    fn as_array(&self) -> Option<MeteredItems<'a>> {
        spend(1);
        self.0.as_array().map(|items| MeteredItems(items))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.0.as_str();
        spend(prices().text.of(text.unwrap_or_default()));
        text.map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        let number = self.0.as_number();
        spend(number.map_or(1, |number| prices().number.of(number)));
        number
    }

    fn as_boolean(&self) -> Option<bool> {
        spend(1);
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        spend(1);
        self.0.is_null()
    }

    fn json_type(&self) -> JsonType {
        spend(1);
        JsonType::from(self.0)
    }

    fn string_length(&self) -> Option<u64> {
        let text = self.0.as_str()?;
        spend(1 + text.len() as u64 / 16);
        Some(text.chars().count() as u64)
    }

    fn equals_value(&self, expected: &Value) -> bool {
        spend(1);
        match (self.0, expected) {
            (Value::Array(own), Value::Array(expected)) if own.len() != expected.len() => false,
            (Value::Object(own), Value::Object(expected)) if own.len() != expected.len() => false,
            (Value::String(own), Value::String(expected)) if own.len() != expected.len() => false,
            (own, expected) => {
                // No comparison visits more values than this one contains.
                spend(values_in(own));
                jsonschema::json::cmp::equal(own, expected)
            }
        }
    }

    /// The library calls this whenever it builds a violation.
    fn to_value(&self) -> Cow<'a, Value> {
        // A violation may list the names of all members.
        let names = || {
            let names = self.0.as_object().into_iter().flat_map(Map::keys);
            names.map(|name| name.len() as u64 + 32).sum()
        };
        let own = if prices().copies { copied_bytes(self.0) } else { names() };
        spend_on_violation(own);
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        spend(1);
        Some(NodeIdentity::new(std::ptr::from_ref(self.0).addr()))
    }
}

impl<'a> Object<'a, MeteredJson> for MeteredMembers<'a> {
    type Node = Metered<'a>;
    type MemberName = &'a str;
    type MembersIter = MeteredMembersIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Metered<'a>> {
        spend(1 + key.len() as u64 / KEY_BYTES_PER_STEP);
        self.0.get(key).map(Metered)
    }

    fn members(&self) -> MeteredMembersIter<'a> {
        MeteredMembersIter(self.0.iter())
    }
}

/// Counts every member.
#[derive(Debug)]
pub(super) struct MeteredMembersIter<'a>(map::Iter<'a>);

impl<'a> Iterator for MeteredMembersIter<'a> {
    type Item = (&'a str, Metered<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.next()?;
        spend(prices().name.of(name));
        Some((name, Metered(value)))
    }
}

impl<'a> Array<'a, MeteredJson> for MeteredItems<'a> {
    type Node = Metered<'a>;
    type ElementsIter = MeteredItemsIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> MeteredItemsIter<'a> {
        MeteredItemsIter(self.0.iter())
    }

    /// The library's implementation compares all pairs of values with the same hash, and arrays that differ only in
    /// their nesting have the same hash: 64 KiB of those take a second.
    fn is_unique(&self) -> bool {
        let mut seen = HashSet::new();
        self.0.iter().all(|item| {
            spend(UNIQUE_ITEM + UNIQUE_VALUE * values_in(item));
            let mut form = Vec::new();
            write_form(item, &mut form);
            seen.insert(form)
        })
    }
}

/// Counts every item.
#[derive(Debug)]
pub(super) struct MeteredItemsIter<'a>(std::slice::Iter<'a, Value>);

impl<'a> Iterator for MeteredItemsIter<'a> {
    type Item = Metered<'a>;

    fn next(&mut self) -> Option<Metered<'a>> {
        let item = self.0.next()?;
        spend(1);
        Some(Metered(item))
    }
}

/// Writes a canonical form: two values have the same form exactly if they are equal in JSON Schema.
fn write_form(value: &Value, form: &mut Vec<u8>) {
    match value {
        Value::Null => form.push(b'n'),
        Value::Bool(bool) => form.push(if *bool { b't' } else { b'f' }),
        Value::Number(number) => write_number(number, form),
        Value::String(text) => write_text(text, form),
        Value::Array(items) => {
            form.push(b'[');
            items.iter().for_each(|item| write_form(item, form));
            form.push(b']');
        }
        Value::Object(members) => {
            form.push(b'{');
            // `serde_json` may keep the written order of members, depending on its features.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            for (name, value) in members {
                write_text(name, form);
                write_form(value, form);
            }
            form.push(b'}');
        }
    }
}

fn write_text(text: &str, form: &mut Vec<u8>) {
    form.push(b'"');
    form.extend_from_slice(&text.len().to_le_bytes());
    form.extend_from_slice(text.as_bytes());
}

/// Writes equal numbers in the same form, independent of their notation. A fraction without decimals counts as an
/// integer within the range of 64-bit integers.
fn write_number(number: &Number, form: &mut Vec<u8>) {
    let fraction = number.as_f64().unwrap_or_default();
    let whole = number.as_i128().or_else(|| whole(fraction));
    match whole {
        Some(whole) => {
            form.push(b'i');
            form.extend_from_slice(&whole.to_le_bytes());
        }
        None => {
            form.push(b'd');
            form.extend_from_slice(&fraction.to_bits().to_le_bytes());
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is whole and within 65 bits")]
fn whole(fraction: f64) -> Option<i128> {
    let within = fraction.fract() == 0.0 && fraction.abs() <= 18_446_744_073_709_551_616.0;
    within.then_some(fraction as i128)
}
