//! Turns accepted connections into HTTP: socket options, admission among the others, TLS if there is a certificate.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service,
    map_config,
};
use actix_web::dev::{self, AppConfig, ServiceRequest, ServiceResponse};
use actix_web::rt::net::TcpStream;
use actix_web::{App as ActixApp, middleware, web};
use crunch_common::machine;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::budget::Budgets;
use crate::connections::{Connections, HEAD_DEADLINE, KEEP_ALIVE, Socket};
use crate::dashboard::{self, Dashboard};
use crate::routes;
use crate::state::App;
use crate::wire::Wire;

/// Seconds that requests in flight get when the listener closes: as long as the longest may take.
const LAST_REQUESTS: u64 = 5;
/// Length of the accept queue: a burst of connections does not keep others from being accepted.
const BACKLOG: i32 = 4096;
/// The connection of a client that reads nothing it is sent, or has disappeared, is closed after this time.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// A client that was rejected before its body was complete may keep sending for this long, and then reads the answer:
/// closing the connection at once would lose it.
const REJECTED_BODY_LIMIT: Duration = HEAD_DEADLINE;
/// Descriptors for everything but clients: Redis, files, the listener; and for connections beyond the maximum.
const OTHER_DESCRIPTORS: u64 = 256 + 32;

/// Starts the HTTP server of an app.
pub(crate) fn serve(
    listener: TcpListener,
    app: App,
    connections: Arc<Connections>,
    tls: Option<ServerConfig>,
) -> io::Result<dev::Server> {
    rustix::net::listen(&listener, BACKLOG)?;
    let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    let builder = actix_server::Server::build();
    let closing = builder.graceful_shutdown_signal();
    let dashboard = web::Data::new(Dashboard::default());
    let factory = move || {
        let app = web::Data::new(app.for_thread());
        let (connections, tls, budgets) = (connections.clone(), tls.clone(), app.budgets.clone());
        let closing = closing.clone();
        let http = HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_DEADLINE)
            .client_disconnect_timeout(REJECTED_BODY_LIMIT)
            .graceful_shutdown_signal(move || {
                let closing = closing.clone();
                async move { closing.notified().await }
            })
            .finish(map_config(routed(app, dashboard.clone()).into_factory(), |_| {
                AppConfig::default()
            }));
        let prepared =
            fn_service(move |stream| prepare(stream, tls.clone(), budgets.clone())).and_then(http);
        apply_fn_factory(prepared, move |stream: TcpStream, http: &_| {
            serve_if_admitted(&connections, stream, http)
        })
    };
    let server = builder
        .max_concurrent_connections(usize::MAX / 2)
        .shutdown_timeout(LAST_REQUESTS)
        .disable_signals()
        .listen("http", listener, factory)?;
    Ok(server.run())
}

/// The routes with the middleware around them.
fn routed(
    app: web::Data<App>,
    dashboard: web::Data<Dashboard>,
) -> ActixApp<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    ActixApp::new()
        .app_data(app.clone())
        .wrap(middleware::from_fn(crate::middleware::around))
        .configure(move |config| {
            dashboard::configure(&dashboard, config);
            routes::configure(&app, config);
        })
}

/// Serves a connection with `http`, if it is admitted; otherwise it is closed.
fn serve_if_admitted<S>(
    connections: &Arc<Connections>,
    stream: TcpStream,
    http: &S,
) -> impl Future<Output = Result<(), S::Error>> + use<S>
where
    S: Service<TcpStream, Response = ()>,
{
    let peer = stream.peer_addr().ok();
    let connection = peer.and_then(|peer| connections.admit(peer));
    let admitted = connection.map(|connection| (connection, http.call(stream)));
    async move {
        match admitted {
            Some((connection, serving)) => connection.serve(serving).await,
            None => Ok(()),
        }
    }
}

/// Sets up a new connection's socket, and does the handshake if there is TLS. It may take no longer than a head: a
/// client can be slow at the handshake, too.
async fn prepare(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    budgets: Arc<Budgets>,
) -> Result<(Wire, Protocol, Option<std::net::SocketAddr>), DispatchError> {
    let peer = stream.peer_addr().ok();
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED.as_millis() as u32)
        .map_err(io::Error::from)?;
    let socket: Box<dyn Socket> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let handshake = tokio::time::timeout(HEAD_DEADLINE, tls.accept(stream)).await;
            Box::new(handshake.map_err(|_| DispatchError::SlowRequestTimeout)??)
        }
    };
    Ok((Wire::new(socket, &budgets.heads), Protocol::Http1, peer))
}

/// Raises the limit on open files as far as the system allows, and returns how many connections fit into it.
pub(crate) fn raise_fd_limit(wanted: usize) -> usize {
    let current = machine::raise_open_files();
    let room = current.map_or(u64::MAX, |max| max.saturating_sub(OTHER_DESCRIPTORS).max(1));
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            "the limit on open files allows fewer connections than configured"
        );
    }
    wanted.min(room)
}
