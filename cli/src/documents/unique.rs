//! What jobs are unique by.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::format::short_duration;

/// What a job is unique by, until when, and what happens to another one meanwhile; in words as a [`fmt::Display`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Unique {
    key: Option<String>,
    fields: Option<Vec<String>>,
    until: Option<String>,
    for_ms: Option<u64>,
    on_conflict: String,
    max_wait_ms: Option<u64>,
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |ms| short_duration(Duration::from_millis(ms));
        match (&self.key, &self.fields) {
            (Some(key), _) => write!(f, "by the key {key}")?,
            // The empty pointer is the whole payload.
            (None, Some(fields)) if fields.iter().any(|field| !field.is_empty()) => {
                write!(f, "by {}", fields.join(" and "))?;
            }
            (None, _) => write!(f, "by its whole payload")?,
        }
        match (self.until.as_deref(), self.for_ms) {
            (_, Some(ms)) => write!(f, " for {} from its submission", time(ms))?,
            (Some("start"), None) => write!(f, " until it starts")?,
            (_, None) => write!(f, " until it ends")?,
        }
        match self.on_conflict.as_str() {
            "reject" => write!(f, "; another one is refused")?,
            "replace" => write!(f, "; another one replaces it while it waits")?,
            "keep_latest" => {
                write!(f, "; another one replaces it while it waits, and follows it once it runs")?;
            }
            "" | "existing" => write!(f, "; another one is answered with it")?,
            // A later version may add words.
            other => write!(f, "; {other}")?,
        }
        self.max_wait_ms.map_or(Ok(()), |ms| write!(f, ", which is at most {}", time(ms)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn it_is_a_sentence() {
        let words = |unique: Value| Unique::deserialize(unique).unwrap().to_string();
        assert_eq!(
            words(json!({ "key": null, "fields": null, "until": "end", "for_ms": null,
                "on_conflict": "existing", "max_wait_ms": null })),
            "by its whole payload until it ends; another one is answered with it"
        );
        assert_eq!(
            words(json!({ "fields": ["/a", "/b"], "for_ms": 90_000, "on_conflict": "reject" })),
            "by /a and /b for 1m30s from its submission; another one is refused"
        );
        assert_eq!(
            words(json!({ "key": "k", "until": "start", "on_conflict": "replace",
                "max_wait_ms": 5000 })),
            "by the key k until it starts; another one replaces it while it waits, which is at most 5s"
        );
        assert_eq!(
            words(json!({ "fields": [""], "until": "end", "on_conflict": "keep_latest" })),
            "by its whole payload until it ends; another one replaces it while it waits, and follows it once it runs"
        );
    }
}
