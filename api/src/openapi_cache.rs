//! Caches the OpenAPI document as text; it is built again only when the declared tasks have changed.

use actix_web::web::Bytes;
use crunch_common::task::TaskDescriptor;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::catalog::Catalog;
use crate::config::TaskRoute;

/// Writes the document of these routes and tasks, for a server at that address.
pub(crate) type Writer = fn(&[TaskRoute], &[&TaskDescriptor], &str) -> serde_json::Result<Vec<u8>>;

/// Keeps the last document.
#[derive(Debug)]
pub(crate) struct OpenApiCache {
    write: Writer,
    last: Mutex<Option<CachedDocument>>,
}

/// One state of the document.
#[derive(Debug, Clone)]
pub(crate) struct CachedDocument {
    revision: u64,
    pub(crate) text: Bytes,
    /// A strong entity tag: the same text has the same tag, from every API.
    pub(crate) tag: String,
}

impl OpenApiCache {
    pub(crate) const fn new(write: Writer) -> Self {
        Self { write, last: Mutex::new(None) }
    }

    /// Returns the document of the tasks that are known now.
    pub(crate) fn get(
        &self,
        catalog: &Catalog,
        routes: &[TaskRoute],
        server: &str,
    ) -> serde_json::Result<CachedDocument> {
        let (revision, tasks) = catalog.snapshot();
        // Locked while the document is built: a hundred requests just after a change build it once.
        let mut last = self.last.lock();
        if let Some(document) = last.as_ref().filter(|document| document.revision >= revision) {
            return Ok(document.clone());
        }
        let tasks: Vec<_> = tasks.iter().map(|declared| &declared.task).collect();
        let text = Bytes::from((self.write)(routes, &tasks, server)?);
        let digest = Sha256::digest(&text);
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let document = CachedDocument { revision, text, tag: format!("\"{hex}\"") };
        *last = Some(document.clone());
        Ok(document)
    }
}
