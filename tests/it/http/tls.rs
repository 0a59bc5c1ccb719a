//! HTTPS: the certificate that is served, who can use it, and what is reported about invalid files.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crunch_tests::{Stack, eventually};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

/// Certificate and key for `localhost`, in files.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn create(directory: &Path) -> Self {
        let files =
            Self { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") };
        let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.key, generated.signing_key.serialize_pem()).unwrap();
        std::fs::write(&files.certificate, generated.cert.pem()).unwrap();
        files
    }

    fn environment(&self) -> [(&str, &str); 2] {
        [
            ("CRUNCH_API_TLS_CERT", self.certificate.to_str().unwrap()),
            ("CRUNCH_API_TLS_KEY", self.key.to_str().unwrap()),
        ]
    }

    /// Returns the answer to a client that trusts this certificate and no other.
    fn request(&self, address: &str, request: &str) -> std::io::Result<String> {
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_file(&self.certificate).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(address)?;
        let mut stream = Stream::new(&mut session, &mut socket);
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

const HOME: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn an_api_with_a_certificate_serves_https_only() {
    let mut stack = Stack::start();
    let files = Files::create(stack.directory());
    let mut environment = files.environment().to_vec();

    environment.push(("CRUNCH_API_UNKNOWN_TASKS", "accept"));
    let api = stack.api_with(&environment).await;
    let address = api.url.strip_prefix("https://").unwrap().to_owned();
    let submit = "POST /crunch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1";
    let answer = files.request(&address, submit).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(answer.contains(&format!("location: https://{address}/result/")), "{answer}");
    // Without TLS, it closes the connection.
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(HOME.as_bytes()).unwrap();
    let mut received = Vec::new();
    let _ = plain.read_to_end(&mut received);

    assert!(!received.starts_with(b"HTTP"), "{received:?}");
    assert_health_command(&stack, &files, &address).await;
}

async fn assert_health_command(stack: &Stack, files: &Files, address: &str) {
    let check_health = async |certificate: &Path| {
        let mut command = stack.command("test-api");
        command.args(["health", "--at", address]);
        command.env("CRUNCH_API_TLS_CERT", certificate).env("CRUNCH_API_TLS_KEY", &files.key);
        let output = command.output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check_health(&files.certificate).await, (Some(0), String::new()));
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, error_output) = check_health(&Files::create(elsewhere.path()).certificate).await;
    assert!(code == Some(1) && error_output.contains("another certificate"), "{error_output}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let mut stack = Stack::start();
    let files = Files::create(stack.directory());
    let mut api = stack.api_with(&files.environment()).await;
    let address = api.url.strip_prefix("https://").unwrap().to_owned();
    assert!(files.request(&address, HOME).unwrap().starts_with("HTTP/1.1 200 "));
    std::fs::write(&files.certificate, "half of one").unwrap();
    api.process.wait_for_log("the new certificate cannot be used").await;
    let renewed = Files::create(stack.directory());
    eventually("the new certificate is served", async || {
        renewed.request(&address, HOME).ok().filter(|answer| answer.starts_with("HTTP/1.1 200 "))
    })
    .await;
}

#[tokio::test]
async fn invalid_certificate_and_key_files_are_named() {
    let stack = Stack::start();
    let files = Files::create(stack.directory());
    let elsewhere = tempfile::tempdir().unwrap();
    let others = Files::create(elsewhere.path());
    let none = stack.directory().join("none.pem");
    let cases = [
        (&none, &files.key, "CRUNCH_API_TLS_CERT="),
        (&files.certificate, &none, "CRUNCH_API_TLS_KEY="),
        (&files.key, &files.key, "there is no certificate in it"),
        (&files.certificate, &files.certificate, "expected a private key in PEM"),
        (&files.certificate, &others.key, "CRUNCH_API_TLS_CERT and CRUNCH_API_TLS_KEY: "),
    ];

    for (certificate, key, message) in cases {
        let mut command = stack.command("test-api");
        command.env("CRUNCH_API_ADDR", "127.0.0.1:0");
        command.env("CRUNCH_API_TLS_CERT", certificate).env("CRUNCH_API_TLS_KEY", key);
        let output = command.output().await.unwrap();
        let error_output = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && error_output.contains(message),
            "{message}: {error_output}"
        );
    }
    let output =
        stack.command("test-api").env("CRUNCH_API_TLS_CERT", &none).output().await.unwrap();

    assert_eq!(output.status.code(), Some(2));
}
