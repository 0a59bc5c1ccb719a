//! The task `messages.classify`: CPU-bound, with progress, and stopped between two texts.

use std::sync::Arc;

use crunch_worker::schemars::{self, JsonSchema};
use crunch_worker::{JobContext, TaskError};
use serde::{Deserialize, Serialize};

use crate::App;

/// Payload of `messages.classify`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Classify {
    /// The texts of the messages.
    #[schemars(length(min = 1, max = 10_000))]
    pub texts: Vec<String>,
}

/// Result of `messages.classify`.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Classified {
    /// How likely each text is spam, from 0 to 1, in their order.
    pub spam: Vec<f64>,
}

pub(crate) fn classify(
    app: Arc<App>,
    job: JobContext,
    input: Classify,
) -> Result<Classified, TaskError> {
    let total = input.texts.len();
    let mut spam = Vec::with_capacity(total);
    for text in &input.texts {
        // Nothing can interrupt a thread from outside, so a loop has to ask.
        if job.cancellation().is_cancelled() {
            return Err(TaskError::retryable(format!("stopped after {} texts", spam.len())));
        }
        spam.push(app.model.spam_probability(text));
        // Cheap enough for every step: the newest is sent ten times a second.
        job.progress(spam.len() as f64 / total as f64, format!("{} of {total}", spam.len()));
    }
    Ok(Classified { spam })
}
