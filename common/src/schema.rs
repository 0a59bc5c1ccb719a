//! JSON Schemas of payloads and results: what a worker may declare, and how a value is held against it.
//!
//! The dialect is 2020-12. A schema stands for itself: nothing in it leads to another document, so nothing is ever fetched.
//! `format` is an annotation, as the dialect has it, and not enforced.

mod door;
mod growth;
mod measure;
mod meter;
mod patterns;
mod prices;
mod validator;
mod walk;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

pub use validator::{MAX_VIOLATIONS, Validator, Violation};
pub use walk::each_subschema;

/// A JSON Schema as it was written.
///
/// One that was parsed from text can be used. One that was read from Redis is taken as it is, for a later version may know
/// more than this one: [`Schema::compile`] tells.
#[derive(Clone, PartialEq, Eq)]
pub struct Schema(Arc<str>);

impl Schema {
    /// The largest schema, in bytes: many times what the richest payload needs, and bearable in every API's memory.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// The deepest nesting: that of the payloads themselves.
    pub const MAX_DEPTH: usize = 64;

    /// The schema as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The schema as raw JSON, to be put into a document.
    #[must_use]
    pub fn to_raw(&self) -> Option<Box<RawValue>> {
        RawValue::from_string(self.as_str().to_owned()).ok()
    }

    /// Makes it ready to check values.
    ///
    /// # Errors
    /// If it is not a schema that stands for itself, or too large.
    pub fn compile(&self) -> Result<Validator, InvalidSchema> {
        Validator::new(&door::read(self.as_str())?)
    }
}

impl FromStr for Schema {
    type Err = InvalidSchema;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let schema = Self(text.trim().into());
        schema.compile()?;
        Ok(schema)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({} bytes)", self.0.len())
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue =
            serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.get().into()))
    }
}

/// Why a text cannot be used as a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSchema {
    /// It has too many bytes.
    #[error("{bytes} bytes; a schema has at most {}", Schema::MAX_BYTES)]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// It is not one JSON value; the text names line and column.
    #[error("not JSON: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// It nests too deep.
    #[error("nested deeper than {} levels", Schema::MAX_DEPTH)]
    TooDeep,
    /// It is written for another dialect.
    #[error("$schema is {given:?}; expected \"{}\", or none", door::DIALECT)]
    Dialect {
        /// What it says.
        given: String,
    },
    /// It refers to another document.
    #[error(
        "$ref {reference:?} leads out of the file; only references such as \"#/$defs/name\" are followed"
    )]
    Remote {
        /// The reference.
        reference: String,
    },
    /// It refers to a place that is not in it.
    #[error("$ref {reference:?} leads nowhere")]
    Dangling {
        /// The reference.
        reference: String,
    },
    /// It uses a way to name places that would mean something else inside another document.
    #[error("{keyword} is not supported; refer to places by \"$ref\": \"#/$defs/name\"")]
    Unsupported {
        /// The keyword.
        keyword: &'static str,
    },
    /// Its references lead to so many schemas that no check would end in reasonable time.
    #[error(
        "its references multiply: one value would be checked against more than {limit} schemas {what}; \
         refer to a schema once where it is referred to twice, or describe less"
    )]
    Multiplies {
        /// Which of them were counted.
        what: &'static str,
        /// The most there may be.
        limit: u64,
    },
    /// Schemas for one and the same value lead to one another too many times.
    #[error("more than {limit} schemas for one value refer to one another in a chain; shorten it")]
    LongChain {
        /// The most there may be.
        limit: u64,
    },
    /// Matching its patterns needs too much memory.
    #[error(
        "its patterns are too large together: matching them takes more than {limit} bytes; shorten them, or use fewer"
    )]
    ManyPatterns {
        /// The most there may be.
        limit: usize,
    },
    /// A keyword does not have a value it may have, or a pattern is not one.
    #[error("not a JSON Schema: {place}{reason}")]
    NotSchema {
        /// Where, followed by a colon; empty at the top.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

#[cfg(test)]
mod tests;
