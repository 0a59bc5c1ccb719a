//! The life cycle of the API: what is started, and what happens on SIGTERM.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use crunch_common::broker::{self, Looks, WorkerId};
use crunch_common::telemetry;
use crunch_common::{Broker, Shutdown};
use crunch_otel::{Otel, Service};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auth::{Authority, KeyFile, KeyRing};
use crate::browser::Browsers;
use crate::budget::Budgets;
use crate::catalog::Catalog;
use crate::config::{ApiConfig, BrowserConfig};
use crate::connections::Connections;
use crate::deliver::Deliverer;
use crate::error::Error;
use crate::limits::Limits;
use crate::links::PublicUrl;
use crate::listener;
use crate::metrics::ApiMetrics;
use crate::openapi;
use crate::openapi_cache::OpenApiCache;
use crate::places::Places;
use crate::scheduler::Scheduler;
use crate::service::{Readiness, Sweeper, run_periodically};
use crate::state::App;
use crate::tls::Identity;
use crate::watching::Watchers;
use crate::webhook::Webhooks;

/// How often the number of log lines that were left out is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How often an API asks whether the history has the depths of this minute.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(15);

/// An API that is bound to its port and ready to run.
#[derive(Debug)]
pub struct Server {
    config: ApiConfig,
    listener: TcpListener,
    addr: SocketAddr,
    broker: Broker,
    /// The valid keys; `None`: no key is required.
    keys: Option<Arc<KeyRing>>,
    /// The TLS certificate; `None`: plain HTTP.
    tls: Option<Arc<Identity>>,
    webhooks: Arc<Webhooks>,
    otel: Otel,
}

impl Server {
    /// Binds the port; does not serve yet.
    ///
    /// # Errors
    /// If the port cannot be bound, or the configuration would open the API to other machines without authentication.
    pub fn bind(config: ApiConfig) -> Result<Self, Error> {
        if config.is_open_to_others() {
            return Err(Error::Open { addr: config.addr });
        }
        if config.auth.is_some() && config.security.keys.is_some() {
            return Err(Error::Contradiction);
        }
        let keys = config.security.keys.as_deref().map(|path| KeyRing::open(KeyFile::new(path)));
        let keys = keys.transpose()?.map(Arc::new);
        let tls = config.security.tls().map(Identity::open).transpose()?.map(Arc::new);
        let webhooks =
            Webhooks::new(&config.webhooks).map_err(|reason| Error::Webhooks { reason })?;
        let webhooks = Arc::new(webhooks);
        let broker = Broker::new(&config.broker)?.with_min_durability(&config.durability);
        let bind_error = |source| Error::Bind { addr: config.addr, source };
        let listener = TcpListener::bind(config.addr).map_err(bind_error)?;
        let addr = listener.local_addr()?;
        if addr.ip().is_unspecified() && config.public_url.is_none() {
            tracing::warn!(
                "links use localhost; set CRUNCH_PUBLIC_URL to the address that clients use"
            );
        }
        let otel = start_otel(&config)?;
        Ok(Self { config, listener, addr, broker, keys, tls, webhooks, otel })
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` is requested: then `/readyz` answers 503 at once while requests are served as usual for
    /// the configured time, then waiting requests are answered, the listener closes, and requests in flight end. Each
    /// further request to shut down ends the current wait.
    ///
    /// # Errors
    /// If Redis is reachable but not usable as configured, or an operation of the system fails.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let readiness = Readiness::new(&self.broker);
        let catalog = Catalog::new(self.broker.with_own_connection(), self.config.unknown_tasks);
        match readiness.tick().await {
            // So that the first request is answered like all later ones. If this fails, the service reads again.
            Ok(()) => drop(catalog.tick().await),
            Err(refused @ broker::Error::Refused { .. }) => return Err(refused.into()),
            Err(_) => {}
        }
        let drain_for = self.config.drain;
        let mut running = self.start(readiness, catalog)?;
        tokio::select! {
            ended = &mut running.serving => {
                running.app.otel.end().await;
                return ended.map_err(std::io::Error::other)?.map_err(Into::into);
            }
            () = shutdown.requested(1) => {}
        }
        running.stop(&shutdown, drain_for).await;
        running.app.otel.end().await;
        tracing::info!("stopped");
        Ok(())
    }

    /// Starts the services, then the HTTP server.
    fn start(self, readiness: Readiness, catalog: Catalog) -> Result<Running, Error> {
        let security = &self.config.security;
        let max = listener::raise_fd_limit(security.max_connections);
        let connections = Connections::new(max, security.max_connections_per_client);
        let connections = Arc::new(connections);
        let app = self.app(readiness, catalog, max);
        let services = watch::Sender::new(false);
        self.start_connection_services(&services, connections.clone());
        self.start_services(&services, &app);
        let on = self.webhooks.are_on();
        let start = || Deliverer::start(&self.broker, &self.webhooks, &self.otel);
        let deliverer = on.then(start).transpose()?;
        tracing::info!(
            address = %self.addr,
            public_url = %app.public_url,
            redis = %self.config.broker.redis_url,
            "serving"
        );
        let tls = self.tls.as_ref().map(Identity::server_config).transpose()?;
        let server = listener::serve(self.listener, app.clone(), connections, tls)?;
        let handle = server.handle();
        Ok(Running { app, deliverer, handle, serving: tokio::spawn(server), services })
    }

    /// Creates the state of the handlers, for `connections`.
    fn app(&self, readiness: Readiness, catalog: Catalog, connections: usize) -> App {
        let config = &self.config;
        let security = &config.security;
        let public_url = PublicUrl::new(config.public_url.as_deref(), self.scheme(), self.addr);
        App {
            browsers: self.browsers(&public_url).into(),
            broker: self.broker.clone(),
            catalog: catalog.into(),
            readiness: readiness.into(),
            metrics: ApiMetrics::new(self.broker.clone()).into(),
            authority: self.keys.clone().map_or(Authority::Off, Authority::Keys),
            budgets: Budgets::new(security.max_body_memory).into(),
            places: Places::new(connections, security.max_waiting_per_caller).into(),
            limits: Limits::new(security.rate, security.rate_burst).into(),
            public_url,
            watchers: Watchers::new(self.broker.clone()).into(),
            task_routes: config.routes.clone(),
            openapi: OpenApiCache::new(openapi::write).into(),
            webhooks: self.webhooks.clone(),
            otel: self.otel.clone(),
        }
    }

    fn browsers(&self, public_url: &PublicUrl) -> Browsers {
        let BrowserConfig { hosts, cors_origins } = self.config.browsers.clone();
        let (hosts, origins) = (hosts.unwrap_or_default(), cors_origins.unwrap_or_default());
        Browsers::new(public_url, hosts, origins, self.keys.is_some())
    }

    fn start_services(&self, stop: &watch::Sender<bool>, app: &App) {
        let broker = self.broker.with_own_connection();
        let mut sweeper = Sweeper { broker, looks: Looks::default() };
        tokio::spawn(run_periodically(
            "sweeper",
            Sweeper::INTERVAL,
            stop.subscribe(),
            async move || sweeper.tick().await,
        ));
        let broker = self.broker.with_own_connection();
        tokio::spawn(run_periodically(
            "history",
            SAMPLE_INTERVAL,
            stop.subscribe(),
            async move || broker.sample_queues().await.map(drop),
        ));
        let readiness = app.readiness.clone();
        tokio::spawn(run_periodically(
            "readiness",
            Readiness::INTERVAL,
            stop.subscribe(),
            async move || readiness.tick().await,
        ));
        let catalog = app.catalog.clone();
        tokio::spawn(run_periodically(
            "catalog",
            Catalog::INTERVAL,
            stop.subscribe(),
            async move || catalog.tick().await,
        ));
        let metrics = app.metrics.clone();
        tokio::spawn(run_periodically(
            "metrics",
            ApiMetrics::INTERVAL,
            stop.subscribe(),
            async move || metrics.tick().await,
        ));
        tokio::spawn(Scheduler::new(app).run(stop.subscribe()));
        tokio::spawn(app.watchers.clone().run(stop.subscribe()));
    }
}

fn start_otel(config: &ApiConfig) -> Result<Otel, Error> {
    let instance = WorkerId::generate().to_string();
    let service = Service { name: "crunch-api", instance: &instance };
    Ok(Otel::start(&config.otel, service)?)
}

/// Services for connections; they need no Redis.
impl Server {
    fn start_connection_services(&self, stop: &watch::Sender<bool>, connections: Arc<Connections>) {
        let start = |name, interval, tick: Box<dyn Fn() + Send + Sync>| {
            tokio::spawn(run_periodically(name, interval, stop.subscribe(), async move || {
                tick();
                Ok(())
            }));
        };
        start("log", LOG_INTERVAL, Box::new(telemetry::log_left_out));
        start("connections", Connections::INTERVAL, Box::new(move || connections.tick()));
        if let Some(keys) = self.keys.clone() {
            start("keys", KeyRing::INTERVAL, Box::new(move || keys.tick()));
        }
        if let Some(tls) = self.tls.clone() {
            start("certificate", Identity::INTERVAL, Box::new(move || tls.tick()));
        }
    }
}

/// Everything that runs.
struct Running {
    app: App,
    /// `None`: webhooks are off.
    deliverer: Option<Deliverer>,
    handle: ServerHandle,
    /// The HTTP server.
    serving: JoinHandle<std::io::Result<()>>,
    /// `true` ends the services.
    services: watch::Sender<bool>,
}

impl Running {
    /// Stops in this order: no delivery is claimed, requests are answered and deliveries in flight end, the rest is
    /// aborted, and the services end.
    async fn stop(&mut self, shutdown: &Shutdown, drain_for: Duration) {
        self.app.readiness.drain();
        let deliverer = self.deliverer.take();
        let deliveries = async {
            if let Some(deliverer) = deliverer {
                deliverer.end(drain_for, shutdown).await;
            }
        };
        tokio::join!(self.stop_serving(shutdown, drain_for), deliveries);
        self.services.send_replace(true);
    }

    async fn stop_serving(&mut self, shutdown: &Shutdown, drain_for: Duration) {
        drain(shutdown, drain_for).await;
        self.app.watchers.close();
        let close = async {
            self.handle.stop(true).await;
            let _ended = (&mut self.serving).await;
        };
        close_or_abort(shutdown, close).await;
    }
}

/// Serves as usual for a while, so that load balancers see `/readyz` before they see a refused connection.
async fn drain(shutdown: &Shutdown, drain: Duration) {
    tracing::info!(drain_ms = drain.as_millis(), "shutting down: not ready, still serving");
    tokio::select! {
        () = tokio::time::sleep(drain) => {}
        () = shutdown.requested(2) => {}
    }
}

/// Closes the listener and every idle connection, and waits for the requests in flight. A further request to shut down
/// aborts them: they end with the process.
async fn close_or_abort(shutdown: &Shutdown, close: impl Future<Output = ()>) {
    let requests = shutdown.requests();
    tracing::info!("closing: no new connections, waiting for requests in flight");
    tokio::select! {
        () = close => {}
        () = shutdown.requested(requests + 1) => tracing::warn!("another signal: aborting requests in flight"),
    }
}

/// Serves as configured until SIGTERM or SIGINT.
pub(crate) fn serve(config: ApiConfig) -> Result<(), Error> {
    let server = Server::bind(config)?;
    actix_web::rt::System::new().block_on(async {
        let shutdown = Shutdown::default();
        shutdown.request_on_signals()?;
        print_address(server.scheme(), server.addr());
        Box::pin(server.run(shutdown)).await
    })
}

/// Reports on standard output, to the process that started this one, that clients may connect.
fn print_address(scheme: &str, addr: SocketAddr) {
    // A write error is ignored: standard output may be closed.
    let _ = writeln!(std::io::stdout(), "listening on {scheme}://{addr}");
}
