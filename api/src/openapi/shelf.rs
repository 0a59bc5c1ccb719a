//! The document as text, made again only when what workers declared has changed.

use std::sync::{Mutex, PoisonError};

use actix_web::web::Bytes;
use sha2::{Digest, Sha256};

use crate::state::App;

/// Where the last one made is kept.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<Option<Edition>>);

/// One state of the document.
#[derive(Debug, Clone)]
pub(crate) struct Edition {
    revision: u64,
    pub(crate) text: Bytes,
    /// A strong entity tag: the same text has the same one, from every API.
    pub(crate) tag: String,
}

impl Shelf {
    /// The document of what is known now.
    pub(crate) fn newest(&self, app: &App) -> Result<Edition, serde_json::Error> {
        let (revision, tasks) = app.catalog.snapshot();
        // Held while it is made: a hundred clients that come just after a change have it made once.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(edition) = kept.as_ref().filter(|edition| edition.revision >= revision) {
            return Ok(edition.clone());
        }
        let tasks: Vec<_> = tasks.iter().map(|declared| &declared.task).collect();
        let server = app.public_url.to_string();
        let document = super::document(&app.task_routes, &tasks, &server);
        let text = Bytes::from(serde_json::to_vec(&document)?);
        let digest = Sha256::digest(&text);
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let edition = Edition { revision, text, tag: format!("\"{hex}\"") };
        *kept = Some(edition.clone());
        Ok(edition)
    }
}
