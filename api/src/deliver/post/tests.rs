use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::*;

/// Resolves every name to this machine.
struct Loopback;

impl Resolve for Loopback {
    async fn resolve(&self, _name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![([127, 0, 0, 1], port).into()])
    }
}

/// Starts a receiver with a certificate for `hooks.example`, which answers one request with 204.
async fn receiver() -> (u16, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["hooks.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    (port, cert.der().clone())
}

async fn send(url: &str, trusted: &[CertificateDer<'static>]) -> Result<Answer, Unanswered> {
    let guard = Guard::resolving("127.0.0.0/8".parse().unwrap(), Loopback);
    let target: Target = url.parse().unwrap();
    let request = Request::post(target.path_and_query()).header("host", target.authority());
    let request = request.body(Full::default()).unwrap();
    PostClient::trusting(trusted).send(&guard, &target, request).await
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_the_name_of_the_url() {
    for (name, trust, reached) in [
        ("hooks.example", true, true),
        ("hooks.example.", true, true),
        ("hooks.example", false, false),
        ("other.example", true, false),
        ("127.0.0.1", true, false),
    ] {
        let (port, certificate) = receiver().await;
        let trusted = if trust { vec![certificate] } else { Vec::new() };
        let answer = send(&format!("https://{name}:{port}/"), &trusted).await;
        match answer {
            Ok(answer) => assert!(reached && answer.status == 204, "{name} {trust}"),
            Err(Unanswered::Unreachable(error)) => {
                assert!(!reached && error.kind() == io::ErrorKind::InvalidData, "{name}: {error}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}
