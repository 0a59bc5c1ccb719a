//! A model that is read from a file when the worker starts: a logistic regression over the words of a text.

use std::collections::HashMap;
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

/// Weights of words; shared by all jobs, and never changed.
#[derive(Debug, Deserialize)]
pub struct Model {
    bias: f64,
    words: HashMap<String, f64>,
}

impl Model {
    /// Reads a model.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a model.
    pub fn read(path: &Path) -> io::Result<Self> {
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("the model {}: {error}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(explain)?;
        serde_json::from_str(&text).map_err(|error| explain(error.into()))
    }

    /// Returns how likely a text is spam, from 0 to 1.
    pub(crate) fn spam_probability(&self, text: &str) -> f64 {
        let words = text.split(|char: char| !char.is_alphanumeric()).map(str::to_lowercase);
        let weight: f64 = words.filter_map(|word| self.words.get(&word)).sum();
        1.0 / (1.0 + (-self.bias - weight).exp())
    }
}
