//! A private Redis for one test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crunch_common::broker::{Broker, Library};
use crunch_common::config::BrokerConfig;

/// A `redis-server` on a free port that dies with this value.
pub(crate) struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server did not start");
            std::thread::yield_now();
        }
        redis
    }

    pub(crate) fn config(&self, prefix: &str) -> BrokerConfig {
        BrokerConfig {
            redis_url: format!("redis://127.0.0.1:{}/", self.port),
            key_prefix: prefix.parse().unwrap(),
            ..BrokerConfig::default()
        }
    }

    pub(crate) fn broker(&self, prefix: &str, library: Library) -> Broker {
        Broker::with_library(&self.config(prefix), library).unwrap()
    }

    pub(crate) fn client(&self) -> ::redis::Client {
        ::redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
