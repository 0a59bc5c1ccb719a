//! Pages that were made a moment ago: a hundred viewers of a page cost Redis what one does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use crunch_common::queue::QueueName;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Dashboard;
use super::page::Page;
use super::viewer::{Rights, Viewer};
use crate::auth::Identity;
use crate::problem::Problem;
use crate::state::App;

/// How long a page is kept: a little less than the second between two ticks, so that each tick sees a new one.
const KEPT_FOR: Duration = Duration::from_millis(950);
/// More pages than this, and larger ones, are made for each viewer anew: so at most 64 MiB are kept. Most pages have less
/// than 100 KiB.
const MAX_KEPT: usize = 256;
const MAX_BYTES: usize = 256 * 1024;

/// Pages by the rights of their viewers and their URL.
#[derive(Debug, Default)]
pub(super) struct KeptPages(Mutex<HashMap<Key, Arc<Slot>>>);

/// What a page depends on: its URL, and the key of the viewer with its rights, which may change; where no key is required,
/// all have the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    identity: Option<Identity>,
    rights: Rights,
    queues: Option<BTreeSet<QueueName>>,
    path: String,
    query: String,
}

type Made = Result<Arc<Page>, Problem>;

/// A page that is being made, or was made.
#[derive(Debug)]
struct Slot {
    opened: Instant,
    page: tokio::sync::Mutex<Option<Made>>,
}

/// Returns a page as it was in the last second. Of several requests one makes it, and the others wait.
///
/// # Errors
/// Those of the page.
pub(super) async fn get(
    dashboard: &Dashboard,
    app: &web::Data<App>,
    viewer: &Viewer,
    at: (&str, &str),
) -> Made {
    let identity = Some(viewer.caller.identity());
    let key = Key {
        identity: identity.filter(|identity| matches!(identity, Identity::Key(_))),
        rights: viewer.rights(),
        queues: viewer.caller.queues().cloned(),
        path: at.0.to_owned(),
        query: at.1.to_owned(),
    };
    let slot = dashboard.kept.slot(key);
    let mut page = slot.page.lock().await;
    if let Some(made) = &*page {
        return made.clone();
    }
    let made = super::page(dashboard, app, viewer, at).await.map(Arc::new);
    if made.as_ref().is_ok_and(|page| page.size() > MAX_BYTES) {
        return made;
    }
    page.insert(made).clone()
}

impl KeptPages {
    /// Forgets all pages.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let now = Instant::now();
        let new = || Arc::new(Slot { opened: now, page: tokio::sync::Mutex::default() });
        let is_new = |slot: &Arc<Slot>| now < slot.opened + KEPT_FOR;
        let mut slots = self.0.lock();
        if let Some(slot) = slots.get(&key).filter(|slot| is_new(slot)) {
            return slot.clone();
        }
        slots.retain(|_, slot| is_new(slot));
        let slot = new();
        if slots.len() < MAX_KEPT {
            slots.insert(key, slot.clone());
        }
        slot
    }
}
