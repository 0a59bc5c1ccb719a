//! The state that all request handlers share.

use std::sync::Arc;

use crunch_common::broker::Broker;
use crunch_otel::Otel;

use crate::auth::Authority;
use crate::browser::Browsers;
use crate::budget::Budgets;
use crate::catalog::Catalog;
use crate::config::TaskRoutes;
use crate::limits::Limits;
use crate::links::PublicUrl;
use crate::metrics::ApiMetrics;
use crate::openapi_cache::OpenApiCache;
use crate::places::Places;
use crate::service::Readiness;
use crate::watching::Watchers;
use crate::webhook::Webhooks;

/// Clones share the same state.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) broker: Broker,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<ApiMetrics>,
    pub(crate) authority: Authority,
    pub(crate) browsers: Arc<Browsers>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) places: Arc<Places>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) public_url: PublicUrl,
    pub(crate) task_routes: TaskRoutes,
    pub(crate) openapi: Arc<OpenApiCache>,
    pub(crate) webhooks: Arc<Webhooks>,
    pub(crate) otel: Otel,
}

impl App {
    /// Returns the state for one thread of the server, with own connections: a call of one thread to Redis need not
    /// wake another.
    pub(crate) fn for_thread(&self) -> Self {
        Self { broker: self.broker.with_own_connections(), ..self.clone() }
    }
}
