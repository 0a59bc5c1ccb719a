//! JSON Schemas of payloads and results: what a worker may declare, and how a value is checked against it.
//!
//! The dialect is 2020-12. A schema is self-contained: nothing in it refers to another document, so nothing is ever
//! fetched. `format` is an annotation, as the dialect specifies, and not enforced.

mod accepted;
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
/// A schema that was parsed from text is valid. A schema that was read from Redis is accepted unchecked, because a
/// later version may support more than this one: [`Schema::compile`] checks it.
#[derive(Clone, PartialEq, Eq)]
pub struct Schema(Arc<str>);

impl Schema {
    /// The largest schema, in bytes: many times what the richest payload needs, and affordable in every API's memory.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// The deepest nesting: the same limit as for payloads.
    pub const MAX_DEPTH: usize = 64;

    /// The schema as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The schema as raw JSON, for embedding in a document.
    #[must_use]
    pub fn to_raw(&self) -> Option<Box<RawValue>> {
        RawValue::from_string(self.as_str().to_owned()).ok()
    }

    /// Compiles the schema for checking values.
    ///
    /// # Errors
    /// If it is not a self-contained schema, or too large.
    pub fn compile(&self) -> Result<Validator, InvalidSchema> {
        Validator::new(&accepted::read(self.as_str())?)
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
    /// It is too large.
    #[error("{bytes} bytes; a schema has at most {}", Schema::MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not one JSON value; the reason names line and column.
    #[error("not JSON: {reason}")]
    NotJson {
        /// Error of the parser.
        reason: String,
    },
    /// It is nested too deep.
    #[error("nested deeper than {} levels", Schema::MAX_DEPTH)]
    TooDeep,
    /// It is written for another dialect.
    #[error("$schema is {given:?}; expected \"{}\", or none", accepted::DIALECT)]
    Dialect {
        /// Its `$schema`.
        given: String,
    },
    /// It refers to another document.
    #[error(
        "$ref {reference:?} refers outside the file; only references such as \"#/$defs/name\" are supported"
    )]
    Remote {
        /// The reference.
        reference: String,
    },
    /// It refers to a place that does not exist in it.
    #[error("$ref {reference:?} refers to a place that does not exist")]
    Dangling {
        /// The reference.
        reference: String,
    },
    /// It uses a keyword for references whose meaning would change inside another document.
    #[error("{keyword} is not supported; refer to places by \"$ref\": \"#/$defs/name\"")]
    Unsupported {
        /// The keyword.
        keyword: &'static str,
    },
    /// Its references lead to too many schemas for a check to finish in reasonable time.
    #[error(
        "its references multiply: one value would be checked against more than {limit} schemas {what}; \
         refer to each schema fewer times, or describe less"
    )]
    Multiplies {
        /// Which schemas were counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Schemas for the same value refer to one another in a chain that is too long.
    #[error("more than {limit} schemas for one value refer to one another in a chain; shorten it")]
    LongChain {
        /// The limit.
        limit: u64,
    },
    /// Matching its patterns needs too much memory.
    #[error(
        "its patterns are too large together: matching them takes more than {limit} bytes; shorten them, or use fewer"
    )]
    ManyPatterns {
        /// The limit.
        limit: usize,
    },
    /// A keyword has an invalid value, or a pattern is invalid.
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
