//! Prices of accesses to a value, by the keywords of the schema. They are known before any value is.

use serde_json::{Number, Value};

use super::InvalidSchema;
use super::measure::{copied_bytes, longest_pointer};
use super::patterns::{self, Price};
use super::walk::each_subschema;

/// Keywords that keep a copy of the value in a violation, or of all of its items.
const COPYING: [&str; 4] = ["anyOf", "oneOf", "propertyNames", "unevaluatedItems"];

/// Prices, in steps unless stated otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prices {
    pub(super) text: Price,
    pub(super) name: Price,
    pub(super) number: NumberPrice,
    /// How many bytes a violation copies from the schema.
    pub(super) violation: u64,
    /// Whether a violation may copy the value.
    pub(super) copies: bool,
    /// The longest path to a place in the schema, in bytes. Where references recurse, it is repeated for each level of
    /// the value.
    pub(super) path: u64,
}

impl Prices {
    pub(super) const NOTHING: Self = Self {
        text: Price::NOTHING,
        name: Price::NOTHING,
        number: NumberPrice::Plain,
        violation: 0,
        copies: false,
        path: 0,
    };

    /// # Errors
    /// If its patterns need too much memory.
    pub(super) fn of(schema: &Value) -> Result<Self, InvalidSchema> {
        let (text, name) = patterns::prices(schema)?;
        let path = longest_pointer(schema);
        let mut prices = Self { text, name, path, ..Self::NOTHING };
        each_subschema(&mut schema.clone(), &mut |members| {
            prices.copies |= COPYING.iter().any(|&keyword| members.contains_key(keyword));
            let copied =
                ["not", "pattern", "required"].into_iter().filter_map(|it| members.get(it));
            prices.violation = copied.map(copied_bytes).fold(prices.violation, u64::max);
            let multiple = members.get("multipleOf").and_then(Value::as_f64);
            prices.number = multiple.map_or(prices.number, |it| prices.number.with(it));
        });
        Ok(prices)
    }
}

/// Price of an access to a number.
#[derive(Debug, Clone, Copy)]
pub(super) enum NumberPrice {
    /// There is no `multipleOf`.
    Plain,
    /// Fractions are split into their digits.
    Multiple,
    /// The `multipleOf` is very small or large: digits do not suffice, and fractions of any length are divided.
    ExtremeMultiple,
}

/// In this range, the digits of two numbers fit into 128 bits, with the powers of ten between them.
const ORDINARY: std::ops::RangeInclusive<f64> = 1e-6..=1e12;

impl NumberPrice {
    fn with(self, multiple: f64) -> Self {
        match self {
            Self::ExtremeMultiple => self,
            _ if ORDINARY.contains(&multiple) => Self::Multiple,
            _ => Self::ExtremeMultiple,
        }
    }

    pub(super) fn of(self, number: &Number) -> u64 {
        let ordinary =
            || number.as_f64().is_some_and(|it| it == 0.0 || ORDINARY.contains(&it.abs()));
        match self {
            Self::Plain => 1,
            Self::Multiple if number.is_u64() && ordinary() => 4,
            Self::Multiple if ordinary() => 60,
            Self::Multiple | Self::ExtremeMultiple => 600,
        }
    }
}
