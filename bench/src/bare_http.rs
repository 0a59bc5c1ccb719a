//! A minimal API on Redis, as a control for Crunch's: one command per request, and no body is parsed.
//!
//! It is set up like Crunch's API: actix-web with the same number of threads, no logs. Each thread has its own
//! connection to Redis, which is the fastest way.

use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};
use std::collections::HashMap;

/// Arguments of the bare server.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    redis_url: String,
}

/// The list to which it pushes request bodies.
const LIST: &str = "bare";
/// The backlog of Crunch's API.
const BACKLOG: u32 = 4096;

/// Serves until it is killed.
pub(crate) fn run(arguments: &Arguments) {
    let tcp = TcpSettings::default().set_nodelay(true);
    let info = arguments.redis_url.as_str().into_connection_info().unwrap();
    let client = Client::open(info.set_tcp_settings(tcp)).unwrap();
    // On a separate thread, because actix starts its own runtimes.
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
