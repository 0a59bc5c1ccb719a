//! The labels that a task declares as indexed.

use serde::{Deserialize, Serialize};

use crate::job::Metadata;

/// Names of at most three labels of a task's jobs by which the jobs can be found without reading others.
///
/// Each costs a job an entry in a sorted set, about 150 bytes; so there are few.
///
/// ```
/// use crunch_common::task::Indexes;
///
/// let indexes = Indexes::new(["customer", "region"]).unwrap();
/// assert!(indexes.contains("customer"));
/// assert!(Indexes::new(["a", "a"]).is_err());
/// assert!(Indexes::new(["a", "b", "c", "d"]).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Indexes(Vec<String>);

/// Why names cannot be declared as indexed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIndexes {
    /// There are more than three.
    #[error("at most {} labels can be indexed", Indexes::MAX)]
    TooMany,
    /// No label can have such a name.
    #[error("{0:?} is not the name of a label: 1 to 64 bytes without control characters")]
    Name(String),
    /// One is there twice.
    #[error("{0:?} is listed twice")]
    Twice(String),
}

impl Indexes {
    /// Maximum number of names.
    pub const MAX: usize = 3;

    /// Checks names.
    ///
    /// # Errors
    /// If there are too many, or one is listed twice or not the name of a label.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, InvalidIndexes> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        for (at, name) in names.iter().enumerate() {
            if !Metadata::is_name(name) || name.contains(char::is_control) {
                return Err(InvalidIndexes::Name(name.clone()));
            }
            if names[..at].contains(name) {
                return Err(InvalidIndexes::Twice(name.clone()));
            }
        }
        if names.len() > Self::MAX { Err(InvalidIndexes::TooMany) } else { Ok(Self(names)) }
    }

    /// Whether a label with this name is indexed.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|known| known == name)
    }

    /// Whether nothing is indexed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, in the order in which they are declared.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_of_a_label_is_refused() {
        assert!(Indexes::new(["a".repeat(64)]).is_ok());
        for wrong in [String::new(), "a".repeat(65), "a\nb".to_owned()] {
            assert_eq!(Indexes::new([wrong.clone()]), Err(InvalidIndexes::Name(wrong)));
        }
    }
}
