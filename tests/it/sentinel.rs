//! Redis behind Sentinels: failovers, planned and not; Sentinels that know less than Redis; users and TLS.

use crunch_common::Broker;
use crunch_common::broker::{BrokerConfig, Error, SentinelLogin};
use crunch_common::job::Partition;
use crunch_tests::{Api, RedisServer, SentinelSettings, Sentinels, Stack, Worker, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A master and its replicas, and an API and a worker that find it by Sentinels.
struct Group {
    stack: Stack,
    _replicas: Vec<RedisServer>,
    sentinels: Sentinels,
    api: Api,
    worker: Worker,
}

impl Group {
    async fn start(replicas: usize, environment: &[(&str, &str)]) -> Self {
        let master =
            RedisServer::single_with(&["--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        let replicas: Vec<_> = (0..replicas).map(|_| master.start_replica()).collect();
        let sentinels = Sentinels::watch(&master, replicas.len()).await;
        let mut stack = Stack::on(master).by(sentinels.url());
        let api = stack.api_with(environment).await;
        let worker = stack.worker(&api, 2).await;
        Self { stack, _replicas: replicas, sentinels, api, worker }
    }

    /// Submits jobs one after the other until this many were accepted; returns their ids.
    async fn submit(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let accepted = eventually("a job is accepted", async || {
                let answer = self.api.post("/jobs", &json!({ "task": "echo", "payload": 1 })).await;
                let status = answer.status.as_u16();
                assert!([202, 503].contains(&status), "{}", answer.json());
                (status == 202).then(|| answer.id())
            });
            ids.push(accepted.await);
        }
        ids
    }

    /// Waits until the Sentinels name another master than this one; returns its port.
    async fn wait_for_other_master(&self, old: u16) -> u16 {
        eventually("there is another master", async || {
            self.sentinels.master().await.filter(|port| *port != old)
        })
        .await
    }

    async fn assert_all_succeed(&mut self, ids: &[String]) {
        for id in ids {
            self.api.wait_for_status(id, "succeeded").await;
        }
        self.stack.assert_clean_audit().await;
        assert!(!self.worker.has_exited());
    }
}

#[tokio::test]
async fn no_durable_job_is_lost_with_a_master_that_sentinels_replace() {
    let mut group = Group::start(2, &[("CRUNCH_DURABILITY", "replica")]).await;
    let old = group.stack.redis.port();
    let mut ids = group.submit(20).await;
    // Not even if the first Sentinel of the address died with it.
    group.sentinels.kill_first();
    group.stack.redis.kill();
    ids.extend(group.submit(20).await);
    assert_ne!(group.wait_for_other_master(old).await, old);
    group.assert_all_succeed(&ids).await;

    // As a replica, it takes what the new master has.
    group.stack.redis.restart();
    let ids = group.submit(20).await;
    group.assert_all_succeed(&ids).await;
}

#[tokio::test]
async fn a_master_that_became_a_replica_gets_no_more_calls() {
    // What the replica does not have when it is promoted is lost, here as with any failover.
    let mut group = Group::start(1, &[("CRUNCH_DURABILITY", "replica")]).await;
    let mut ids = group.submit(20).await;
    let old = group.stack.redis.port();
    group.sentinels.fail_over().await;
    let new = group.wait_for_other_master(old).await;
    ids.extend(group.submit(1).await);
    eventually("the old master follows the new one", async || {
        let mut connection = group.stack.redis.connect().await;
        let role = redis::cmd("ROLE").query_async::<Vec<redis::Value>>(&mut connection).await;
        format!("{:?}", role.ok()?).contains(&new.to_string()).then_some(())
    })
    .await;
    let calls = calls_of(&group.stack.redis).await;
    ids.extend(group.submit(20).await);
    group.assert_all_succeed(&ids).await;
    assert_eq!(calls_of(&group.stack.redis).await, calls, "a replica gets the changes only");
}

/// How many functions were called.
async fn calls_of(redis: &RedisServer) -> String {
    let mut connection = redis.connect().await;
    let text: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let line = text.lines().find(|line| line.starts_with("cmdstat_fcall:")).unwrap_or_default();
    line.split(',').next().unwrap_or_default().to_owned()
}

/// Starts something that is asked like a Sentinel, and always names the Redis at this port, as of that epoch; returns its
/// address.
pub(crate) async fn start_fake(port: u16, epoch: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let array = |words: &[&str]| {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let words: Vec<_> = words.collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    };
    let place = array(&["127.0.0.1", &port.to_string()]);
    let known = array(&["flags", "master", "config-epoch", &epoch.to_string()]);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (place, known) = (place.clone(), known.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    for command in text.split("\r\n*") {
                        let reply = match command {
                            _ if command.contains("get-master-addr-by-name") => &place,
                            _ if command.contains("MASTER") => &known,
                            _ => "+OK\r\n",
                        };
                        stream.write_all(reply.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

fn broker(url: &str) -> Broker {
    let config = BrokerConfig { redis_url: url.parse().unwrap(), ..BrokerConfig::default() };
    Broker::new(&config).unwrap()
}

#[tokio::test]
async fn a_sentinel_that_knows_less_than_redis_is_not_believed() {
    let master = RedisServer::single();
    let replica = master.start_replica();
    let nothing = RedisServer::single();
    let wrong = start_fake(replica.port(), 1).await;
    let [dead, right] = [start_fake(1, 1).await, start_fake(master.port(), 1).await];
    let error = broker(&format!("redis+sentinel://{wrong}/main")).open().await.unwrap_err();
    let expected = format!("master is 127.0.0.1:{}, which is a slave", replica.port());
    assert!(
        matches!(&error, Error::Rejected { reason } if reason.contains(&expected)),
        "{error:?}"
    );
    // One after the other is the first that is asked, and each connection finds the master soon.
    let sentinels = format!("{wrong},{dead},127.0.0.1:{},{right}", nothing.port());
    let broker = broker(&format!("redis+sentinel://{sentinels}/main"));
    for _ in 0..4 {
        eventually("the master is found", async || broker.open().await.ok()).await;
        broker.reset_connection(Partition::default());
    }
}

#[tokio::test]
async fn the_newest_configuration_counts_not_the_first_answer() {
    let [lost, master] = [RedisServer::single(), RedisServer::single()];
    // A master that lost its data says that it is one.
    let stale = [start_fake(lost.port(), 6).await, start_fake(lost.port(), 6).await];
    let newest = start_fake(master.port(), 7).await;
    let url = format!("redis+sentinel://{},{newest},{}/main", stale[0], stale[1]);
    // Each asks by itself.
    for _ in 0..6 {
        broker(&url).open().await.unwrap();
    }
    let mut connection = lost.connect().await;
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, 0, "nothing was written to the other one");
}

#[tokio::test]
async fn what_no_sentinel_can_answer_is_reported_by_each() {
    let master = RedisServer::single_with(&["--requirepass", "secret"]);
    let passwords = Some(["secret", "other"].map(str::to_owned));
    let settings = SentinelSettings { passwords, tls: None };
    let sentinels = Sentinels::with(&master, 0, &settings).await;
    let login = SentinelLogin {
        redis_sentinel_password: Some("other".to_owned()),
        ..SentinelLogin::default()
    };
    let wrong = SentinelLogin {
        redis_sentinel_password: Some("wrong".to_owned()),
        ..SentinelLogin::default()
    };
    let url = sentinels.url();
    let elsewhere = url.replace("/main", "/elsewhere");
    for (url, login, reason) in [
        (&url, SentinelLogin::default(), "Authentication required"),
        (&url, wrong, "Password authentication failed"),
        (&elsewhere, login.clone(), "it knows no master elsewhere"),
    ] {
        let redis_url = url.parse().unwrap();
        let config = BrokerConfig { redis_url, sentinel_login: login, ..BrokerConfig::default() };
        let error = Broker::new(&config).unwrap().open().await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert_eq!(error.to_string().matches(reason).count(), 3, "{error}");
    }
    let redis_url = url.parse().unwrap();
    let config = BrokerConfig { redis_url, sentinel_login: login, ..BrokerConfig::default() };
    Broker::new(&config).unwrap().open().await.unwrap();
}

#[test]
fn a_password_of_sentinel_for_a_redis_is_refused() {
    let sentinel_login = SentinelLogin {
        redis_sentinel_password: Some("secret".to_owned()),
        ..SentinelLogin::default()
    };
    let config = BrokerConfig { sentinel_login, ..BrokerConfig::default() };
    let error = Broker::new(&config).unwrap_err().to_string();
    assert!(error.contains("redis+sentinel") && !error.contains("secret"), "{error}");
}
