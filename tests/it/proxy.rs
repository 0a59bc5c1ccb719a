//! The fault proxy injects the faults it should, and no others: a harness that cannot break a connection proves
//! nothing.

use std::time::Duration;

use crunch_tests::{Direction, DropMode, Filter, Proxy, RedisServer, eventually, in_time};
use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, cmd, pipe};

async fn connect(proxy: &Proxy) -> MultiplexedConnection {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = Client::open(proxy.url()).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

async fn set(redis: &mut MultiplexedConnection, value: &str) -> Result<(), RedisError> {
    cmd("SET").arg("key").arg(value).exec_async(redis).await
}

/// The value in Redis, read without the proxy.
async fn stored_value(redis: &RedisServer) -> Option<String> {
    let mut redis = redis.connect().await;
    cmd("GET").arg("key").query_async(&mut redis).await.unwrap()
}

#[tokio::test]
async fn commands_pass_and_are_counted() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    let mut client = connect(&proxy).await;
    let large = "x".repeat(1_000_000);
    set(&mut client, &large).await.unwrap();
    let mut many = pipe();
    for _ in 0..1000 {
        many.cmd("GET").arg("key").ignore().cmd("PING");
    }
    let pongs: Vec<String> = many.query_async(&mut client).await.unwrap();
    assert_eq!((pongs.len(), proxy.passed("get"), proxy.passed("ping")), (1000, 1000, 1000));
    assert_eq!(proxy.passed("set"), 1);
}

#[tokio::test]
async fn a_command_with_a_dropped_reply_is_executed_and_a_dropped_command_is_not() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    proxy.drop_replies(Filter::verb("set").containing("b").skip_first(1), 1, DropMode::Reset);

    let mut client = connect(&proxy).await;
    set(&mut client, "a").await.unwrap();
    set(&mut client, "b").await.unwrap();
    set(&mut client, "bb").await.unwrap_err();
    assert_eq!(stored_value(&redis).await.as_deref(), Some("bb"));

    proxy.drop_commands(Filter::verb("set"), 1, DropMode::Reset);
    let mut client = connect(&proxy).await;
    set(&mut client, "c").await.unwrap_err();
    assert_eq!(stored_value(&redis).await.as_deref(), Some("bb"));
    assert_eq!(proxy.dropped(), 2);
}

#[tokio::test]
async fn a_silently_dropped_reply_leaves_the_client_waiting() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    proxy.drop_replies(Filter::verb("set"), 1, DropMode::Silence);
    let mut client = connect(&proxy).await;

    let mut waiting = std::pin::pin!(set(&mut client, "a"));
    eventually("Redis has executed it", async || {
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        stored_value(&redis).await
    })
    .await;

    proxy.reset();
    in_time("the client sees the reset", waiting).await.unwrap_err();
}

#[tokio::test]
async fn held_messages_are_released_or_dropped() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    let hold = proxy.hold_command(Filter::verb("set"));
    let mut client = connect(&proxy).await;
    let writes = tokio::spawn(async move { set(&mut client, "a").await });
    hold.wait_until_held().await;
    assert_eq!(stored_value(&redis).await, None);
    hold.release();
    writes.await.unwrap().unwrap();
    assert_eq!(stored_value(&redis).await.as_deref(), Some("a"));

    let hold = proxy.hold_reply(Filter::verb("set"));
    let mut client = connect(&proxy).await;
    let writes = tokio::spawn(async move { set(&mut client, "b").await });
    hold.wait_until_held().await;
    assert_eq!(stored_value(&redis).await.as_deref(), Some("b"));
    hold.drop_and_reset();
    writes.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_port_that_refused_connections_accepts_them_again() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    let mut client = connect(&proxy).await;
    proxy.refuse().await;
    set(&mut client, "a").await.unwrap_err();
    let refused =
        Client::open(proxy.url()).unwrap().get_multiplexed_async_connection().await.unwrap_err();
    assert!(refused.is_connection_refusal(), "{refused}");
    proxy.heal();
    set(&mut connect(&proxy).await, "b").await.unwrap();
}

#[tokio::test]
async fn a_black_hole_delivers_late_and_a_stalled_connection_never() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    let mut client = connect(&proxy).await;

    proxy.black_hole_one_way(Direction::ToClient);
    let mut other = client.clone();
    let mut late = std::pin::pin!(set(&mut other, "late"));
    eventually("Redis has executed it", async || {
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        stored_value(&redis).await
    })
    .await;
    proxy.heal();
    in_time("the reply arrives late", late).await.unwrap();

    proxy.stall_open_connections();
    let mut stalled = std::pin::pin!(set(&mut client, "never"));
    assert!(futures_util::poll!(stalled.as_mut()).is_pending());
    set(&mut connect(&proxy).await, "new").await.unwrap();
    assert!(futures_util::poll!(stalled.as_mut()).is_pending());
    assert_eq!(stored_value(&redis).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_connection_is_cut_in_the_middle_of_a_command() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    let mut client = connect(&proxy).await;
    proxy.cut_after(Direction::ToRedis, 20);
    set(&mut client, "a long value that does not fit").await.unwrap_err();
    assert_eq!(stored_value(&redis).await, None);
    set(&mut connect(&proxy).await, "b").await.unwrap();
}

#[tokio::test]
async fn a_delay_applies_in_each_direction() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    let mut client = connect(&proxy).await;
    proxy.delay(Duration::from_millis(50));
    let start = std::time::Instant::now();
    set(&mut client, "a").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn proxies_with_a_shared_throttle_share_its_rate() {
    let redis = RedisServer::single();
    let proxy = Proxy::to(redis.port());
    let second = proxy.sharing_throttle();
    let (mut client, mut other) = (connect(&proxy).await, connect(&second).await);
    second.throttle(1024 * 1024);
    // Healing the faults of one proxy does not remove the throttle.
    proxy.heal();

    let quarter = "x".repeat(256 * 1024);
    let started_at = std::time::Instant::now();
    let both = tokio::join!(set(&mut client, &quarter), set(&mut other, &quarter));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert!(started_at.elapsed() > Duration::from_millis(450), "they did not share the rate");

    proxy.unthrottle();
    set(&mut other, "b").await.unwrap();
}

#[tokio::test]
async fn a_redirected_proxy_connects_to_the_other_redis() {
    let (first, second) = (RedisServer::single(), RedisServer::single());
    let proxy = Proxy::to(first.port());
    let mut client = connect(&proxy).await;
    set(&mut client, "a").await.unwrap();
    proxy.redirect_to(second.port());
    set(&mut client, "b").await.unwrap();
    set(&mut connect(&proxy).await, "c").await.unwrap();
    assert_eq!(
        (stored_value(&first).await.as_deref(), stored_value(&second).await.as_deref()),
        (Some("b"), Some("c"))
    );
}
