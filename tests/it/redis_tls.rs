//! TLS to Redis: who is trusted, who is let in, and what is reported about a wrong certificate.

use std::path::{Path, PathBuf};

use crunch_common::Broker;
use crunch_common::broker::{BrokerConfig, RedisTls};
use crunch_tests::{RedisServer, SentinelSettings, Sentinels, Stack};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

/// An authority, and files of certificates that it issued.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn create(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(directory.path().join("ca"), params.self_signed(&key).unwrap().pem())
            .unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn certificate(&self) -> PathBuf {
        self.file("ca")
    }

    /// Issues a certificate for that host; returns the files of certificate and key.
    fn issue(&self, host: &str) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["cert", "key"].map(|kind| self.file(&format!("{host}.{kind}")));
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }

    /// Starts a Redis with a certificate for `localhost` that accepts only clients with one of this authority; at its
    /// other port it needs no TLS.
    fn start_redis(&self) -> RedisServer {
        let [certificate, key, ca] = self.server();
        RedisServer::with_tls(&[
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
        ])
    }

    /// The paths of certificate, key and authority of a server.
    fn server(&self) -> [String; 3] {
        let [certificate, key] = self.issue("localhost");
        [certificate, key, self.certificate()].map(|path| path.display().to_string())
    }

    /// The settings of a client that trusts this authority and has a certificate of it.
    fn client(&self) -> RedisTls {
        let [certificate, key] = self.issue("client");
        RedisTls {
            redis_tls_ca: Some(self.certificate()),
            redis_tls_cert: Some(certificate),
            redis_tls_key: Some(key),
        }
    }
}

fn text(path: &Option<PathBuf>) -> &str {
    path.as_deref().and_then(Path::to_str).unwrap()
}

#[tokio::test]
async fn all_connections_of_api_and_worker_are_encrypted() {
    let authority = Authority::create("ours");
    let mut stack = Stack::on(authority.start_redis());
    let (url, tls) = (stack.redis.tls_url("localhost"), authority.client());
    let environment = [
        ("CRUNCH_REDIS_URL", &*url),
        ("CRUNCH_REDIS_TLS_CA", text(&tls.redis_tls_ca)),
        ("CRUNCH_REDIS_TLS_CERT", text(&tls.redis_tls_cert)),
        ("CRUNCH_REDIS_TLS_KEY", text(&tls.redis_tls_key)),
    ];
    let api = stack.api_with(&environment).await;
    let _worker = stack.worker_with(&api, 2, &environment).await;

    // Steps, pushed changes, a payload and a result with connections of their own, lists, operators' requests.
    let body = json!({ "task": "echo", "payload": "x".repeat(200_000) });
    let job = api.post("/jobs?wait=60", &body).await.json();
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(api.get("/jobs?status=succeeded").await.json()["items"][0]["id"], job["id"]);
    assert!(api.post_empty("/queues/echo/pause").await.status.is_success());

    let mut redis = stack.redis.connect().await;
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    let plain = format!("laddr=127.0.0.1:{} ", stack.redis.port());
    let plain = clients.lines().filter(|line| line.contains(&plain)).count();
    assert!(clients.lines().count() > 5 && plain == 1, "only that of this test: {clients}");
}

#[tokio::test]
async fn sentinels_and_the_master_that_they_name_are_trusted_by_their_certificates() {
    let (authority, other) = (Authority::create("ours"), Authority::create("another"));
    let redis = authority.start_redis();
    let settings = SentinelSettings { tls: Some(authority.server()), ..Default::default() };
    let sentinels = Sentinels::with(&redis, 0, &settings).await;
    let connect = async |redis_tls| {
        let redis_url = sentinels.url().parse().unwrap();
        let config = BrokerConfig { redis_url, redis_tls, ..BrokerConfig::default() };
        Broker::new(&config).unwrap().open().await
    };
    connect(authority.client()).await.unwrap();
    let error = connect(other.client()).await.unwrap_err().to_string();
    assert_eq!(error.matches("UnknownIssuer").count(), 3, "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_reported() {
    let (authority, other) = (Authority::create("ours"), Authority::create("another"));
    let redis = authority.start_redis();
    let tls = authority.client();
    let without = RedisTls { redis_tls_cert: None, redis_tls_key: None, ..tls.clone() };
    for (host, tls, reason) in [
        ("localhost", RedisTls::default(), "UnknownIssuer"),
        (
            "localhost",
            RedisTls { redis_tls_ca: Some(other.certificate()), ..tls.clone() },
            "UnknownIssuer",
        ),
        ("127.0.0.1", tls.clone(), "not valid for name"),
        ("localhost", without, "CertificateRequired"),
        (
            "localhost",
            RedisTls { redis_tls_ca: tls.redis_tls_ca.clone(), ..other.client() },
            "UnknownCA",
        ),
    ] {
        let config = BrokerConfig {
            redis_url: redis.tls_url(host).parse().unwrap(),
            redis_tls: tls,
            ..BrokerConfig::default()
        };
        let error = Broker::new(&config).unwrap().open().await.unwrap_err();
        let refused = matches!(error, crunch_common::broker::Error::Refused { .. });
        assert!(refused && error.to_string().contains(reason), "{reason}: {error:?}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_setting() {
    let authority = Authority::create("ours");
    let [certificate, key] = authority.issue("client");
    let missing = || Some(authority.file("missing"));
    let client = |certificate: &PathBuf, key: &PathBuf| RedisTls {
        redis_tls_cert: Some(certificate.clone()),
        redis_tls_key: Some(key.clone()),
        ..RedisTls::default()
    };
    let [_, other_key] = authority.issue("other");
    for (tls, reason) in [
        (RedisTls { redis_tls_ca: missing(), ..RedisTls::default() }, "CRUNCH_REDIS_TLS_CA="),
        (
            RedisTls { redis_tls_ca: Some(key.clone()), ..RedisTls::default() },
            "no certificate in it",
        ),
        (client(&key, &key), "CRUNCH_REDIS_TLS_CERT="),
        (client(&certificate, &certificate), "CRUNCH_REDIS_TLS_KEY="),
        (client(&certificate, &other_key), "CRUNCH_REDIS_TLS_CERT and CRUNCH_REDIS_TLS_KEY: "),
    ] {
        let config = BrokerConfig {
            redis_url: "rediss://localhost/".parse().unwrap(),
            redis_tls: tls,
            ..BrokerConfig::default()
        };
        let error = Broker::new(&config).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let config = BrokerConfig {
        redis_url: "redis://localhost/".parse().unwrap(),
        redis_tls: RedisTls { redis_tls_ca: Some(certificate), ..RedisTls::default() },
        ..BrokerConfig::default()
    };
    let error = Broker::new(&config).unwrap_err().to_string();
    assert!(error.contains("rediss://"), "TLS is not switched off by a forgotten letter: {error}");
}

#[tokio::test]
async fn certificates_are_read_again_for_each_connection() {
    let (authority, other) = (Authority::create("ours"), Authority::create("another"));
    let redis = authority.start_redis();
    let tls = authority.client();
    let ca = tls.redis_tls_ca.clone().unwrap();
    let good = std::fs::read(&ca).unwrap();
    std::fs::write(&ca, std::fs::read(other.certificate()).unwrap()).unwrap();
    let config = BrokerConfig {
        redis_url: redis.tls_url("localhost").parse().unwrap(),
        redis_tls: tls,
        ..BrokerConfig::default()
    };
    let broker = Broker::new(&config).unwrap();
    broker.open().await.unwrap_err();
    std::fs::write(&ca, good).unwrap();
    broker.open().await.unwrap();
}
