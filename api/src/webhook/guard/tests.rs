use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Returns its answers in order, and then the last one for ever.
struct Scripted {
    answers: Vec<Vec<&'static str>>,
    calls: AtomicUsize,
}

impl Resolve for Scripted {
    async fn resolve(&self, _name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let at = self.calls.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), port);
        Ok(self.answers[at].iter().map(address).collect())
    }
}

fn resolving_to(answers: &[&[&'static str]]) -> Guard<Scripted> {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    Guard { allow: Allow::default(), resolver: Scripted { answers, calls: AtomicUsize::new(0) } }
}

fn target(url: &str) -> Target {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// All ways to write an address that is not of the public internet.
const FORBIDDEN: [&str; 73] = [
    // Loopback, in every base and length that parsers accept.
    "http://127.0.0.1/",
    "http://127.0.0.1:80/",
    "https://127.0.0.1:443/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7F.0x0.0x0.0x1/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://0177.0x0.0.1/",
    "http://127.000.000.001/",
    "http://127.0.0.1./",
    "http://127.255.255.254/",
    "http:127.0.0.1",
    "http:\\\\127.0.0.1\\",
    "http://%31%32%37%2e0.0.1/",
    "http://１２７.０.０.１/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://\t127.0.0.1\n/",
    // The unspecified address is loopback on Linux.
    "http://0/",
    "http://0.0.0.0/",
    "http://0x0/",
    "http://0.1.2.3/",
    // Private networks and similar ones.
    "http://10.0.0.1/",
    "http://167772161/",
    "http://012.0.0.1/",
    "http://10.255.255.255/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://0xac.0x10.0.1/",
    "http://192.168.0.1/",
    "http://3232235521/",
    "http://100.64.0.1/",
    "http://100.127.255.255/",
    // Metadata of clouds, and link-local.
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.0.1/",
    // Special-purpose addresses.
    "http://192.0.0.1/",
    "http://192.0.2.1/",
    "http://192.31.196.1/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://198.19.255.255/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://239.255.255.255/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    // IPv6.
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[100::1]/",
    "http://[2001::1]/",
    "http://[2001:2::1]/",
    "http://[2001:db8::1]/",
    "http://[2002:7f00:1::1]/",
    "http://[3fff::1]/",
    "http://[fc00::1]/",
    "http://[fd12:3456::1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
];

#[tokio::test]
async fn every_spelling_of_an_inner_address_is_refused_at_once_and_when_it_is_connected_to() {
    let guard = resolving_to(&[&["93.184.215.14"]]);
    for url in FORBIDDEN.into_iter().chain(["http://[ff02::1]/"]) {
        let target = target(url);
        assert_eq!(guard.check_spelling(&target), Err(Forbidden::Address), "{url}");
        assert_eq!(guard.addresses(&target).await, Err(Forbidden::Address), "{url}");
    }
    assert_eq!(guard.resolver.calls.load(Ordering::Relaxed), 0, "an address is not resolved");
}

#[tokio::test]
async fn a_name_is_refused_if_any_of_its_addresses_is_inside() {
    for inside in [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fd00::1",
        "fe80::1",
    ] {
        for answer in [&[inside][..], &["93.184.215.14", inside], &[inside, "2606:2800:21f::1"]] {
            let guard = resolving_to(&[answer]);
            for url in ["http://hooks.example/", "https://localhost./", "https://BÜCHER.example/"]
            {
                let target = target(url);
                assert_eq!(guard.check_spelling(&target), Ok(()), "{url}");
                assert_eq!(
                    guard.addresses(&target).await,
                    Err(Forbidden::Address),
                    "{url} {answer:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_next_moment_is_not_asked_again() {
    let guard = resolving_to(&[&["93.184.215.14"], &["127.0.0.1"]]);
    let target = target("http://rebinding.example/");
    let addresses = guard.addresses(&target).await.unwrap();
    assert_eq!(addresses, ["93.184.215.14:80".parse().unwrap()]);
    assert_eq!(guard.resolver.calls.load(Ordering::Relaxed), 1);
    // The next attempt resolves again, and is rejected.
    assert_eq!(guard.addresses(&target).await, Err(Forbidden::Address));
}

#[tokio::test]
async fn other_ports_and_names_without_addresses_are_refused() {
    let guard = resolving_to(&[&["93.184.215.14"]]);
    for url in
        ["http://hooks.example:22/", "https://hooks.example:6379/", "http://93.184.215.14:8080/"]
    {
        assert_eq!(guard.check_spelling(&target(url)), Err(Forbidden::Port), "{url}");
        assert_eq!(guard.addresses(&target(url)).await, Err(Forbidden::Port), "{url}");
    }
    let nowhere = resolving_to(&[&[]]);
    assert_eq!(nowhere.addresses(&target("http://a.example/")).await, Err(Forbidden::Address));
}

#[tokio::test]
async fn public_receivers_are_reached() {
    let guard = resolving_to(&[&["93.184.215.14", "2606:2800:21f::1"]]);
    for url in [
        "https://hooks.example/",
        "http://hooks.example./",
        "http://8.8.8.8/",
        "https://[2606:2800:21f::1]/",
    ] {
        let target = target(url);
        assert_eq!(guard.check_spelling(&target), Ok(()), "{url}");
        assert!(guard.addresses(&target).await.is_ok(), "{url}");
    }
    // Neighbours of the forbidden networks are public.
    for open in [
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.0",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2003::1",
    ] {
        assert!(is_public(open.parse().unwrap()), "{open}");
    }
}

#[tokio::test]
async fn what_the_operator_allows_is_reached_and_nothing_beside_it() {
    let allow = "127.0.0.0/8,hooks.internal:8443".parse().unwrap();
    let guard = Guard { allow, ..resolving_to(&[&["10.0.0.7"]]) };
    for (url, reached) in [
        ("http://127.0.0.1:9999/", true),
        ("http://2130706433/", true),
        ("https://hooks.internal:8443/", true),
        ("https://hooks.internal/", false),
        ("https://other.internal:8443/", false),
        ("http://10.0.0.7/", false),
        ("http://[::1]/", false),
        ("http://[::ffff:127.0.0.1]/", false),
    ] {
        assert_eq!(guard.addresses(&target(url)).await.is_ok(), reached, "{url}");
    }
}
