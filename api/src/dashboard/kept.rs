//! Pages that were made a moment ago: a hundred viewers of a page cost Redis what one does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Dashboard;
use super::page::Page;
use super::viewer::Viewer;
use crate::auth::Identity;
use crate::problem::Problem;
use crate::state::App;

/// How long a page is kept: a little less than the second between two ticks, so that each tick sees a new one.
const KEPT_FOR: Duration = Duration::from_millis(950);
/// More pages than this are made for each viewer anew. A page has some 100 KiB at most.
const MAX_KEPT: usize = 512;

/// Pages by the rights of their viewers and their URL.
#[derive(Debug, Default)]
pub(super) struct KeptPages(Mutex<HashMap<Key, Arc<Slot>>>);

/// The key of the viewer, or none where none is required: then all have the same rights.
type Key = (Option<Identity>, String, String);
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
    let rights = identity.filter(|identity| matches!(identity, Identity::Key(_)));
    let slot = dashboard.kept.slot((rights, at.0.to_owned(), at.1.to_owned()));
    let mut page = slot.page.lock().await;
    if let Some(made) = &*page {
        return made.clone();
    }
    let made = super::page(dashboard, app, viewer, at).await.map(Arc::new);
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
        if slots.len() >= MAX_KEPT {
            slots.retain(|_, slot| is_new(slot));
        }
        let slot = new();
        if slots.len() < MAX_KEPT {
            slots.insert(key, slot.clone());
        }
        slot
    }
}
