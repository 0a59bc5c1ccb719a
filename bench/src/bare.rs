//! The least that an API on Redis can do, as a control for ours: one command per request, and nothing understood.
//!
//! It serves as ours does: actix-web with as many threads, nothing logged. Each thread has a connection to Redis of its
//! own, which is the fastest there is.

use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};
use std::collections::HashMap;

/// Where its Redis is.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    redis_url: String,
}

/// Where it keeps what it is sent.
const LIST: &str = "bare";
/// As many as knock at ours.
const BACKLOG: u32 = 4096;

/// Serves until it is killed.
pub(crate) fn run(arguments: &Arguments) {
    let tcp = TcpSettings::default().set_nodelay(true);
    let info = arguments.redis_url.as_str().into_connection_info().unwrap();
    let client = Client::open(info.set_tcp_settings(tcp)).unwrap();
    // Its threads are actix's own, each with a runtime.
    let served = std::thread::spawn(|| actix_web::rt::System::new().block_on(serve(client)));
    served.join().unwrap();
}

async fn serve(client: Client) {
    let app = move || {
        let client = client.clone();
        App::new()
            .data_factory(move || connect(client.clone()))
            .route("/", web::post().to(push))
            .route("/{key}", web::get().to(show))
    };
    let server = HttpServer::new(app).backlog(BACKLOG).disable_signals();
    let server = server.bind("127.0.0.1:0").unwrap();
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await.unwrap();
}

async fn connect(client: Client) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn push(redis: web::Data<MultiplexedConnection>, body: web::Bytes) -> HttpResponse {
    let mut redis = MultiplexedConnection::clone(&redis);
    let length: u64 =
        redis::cmd("LPUSH").arg(LIST).arg(&*body).query_async(&mut redis).await.unwrap();
    let body = format!("{{\"length\":{length}}}");
    HttpResponse::Accepted().content_type(ContentType::json()).body(body)
}

async fn show(redis: web::Data<MultiplexedConnection>, key: web::Path<String>) -> HttpResponse {
    let mut redis = MultiplexedConnection::clone(&redis);
    let fields: HashMap<String, String> =
        redis::cmd("HGETALL").arg(&*key).query_async(&mut redis).await.unwrap();
    HttpResponse::Ok().json(fields)
}
