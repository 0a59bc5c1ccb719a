//! What every handler of a request may use.

use std::sync::Arc;

use crunch_common::broker::Broker;

use crate::auth::Authority;
use crate::catalog::Catalog;
use crate::config::TaskRoutes;
use crate::links::PublicUrl;
use crate::metrics::Figures;
use crate::openapi::Shelf;
use crate::rate::Limits;
use crate::service::Readiness;
use crate::watching::Watchers;
use crate::webhook::Webhooks;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) broker: Broker,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) authority: Authority,
    pub(crate) limits: Limits,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) public_url: PublicUrl,
    pub(crate) task_routes: TaskRoutes,
    pub(crate) openapi: Shelf,
    pub(crate) webhooks: Arc<Webhooks>,
}
