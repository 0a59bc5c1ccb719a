//! A network between clients and the nodes of a cluster, and among the nodes, whose links can be cut one by one.
//!
//! Every node is reached through relays, at the ports that it announces. A relay knows which node has connected by the
//! address that it connects from; everything else is a client. It passes bytes, whatever their protocol: commands,
//! replication, the cluster's bus. Tests reach the nodes at their own ports, whatever is cut.

use std::net::{IpAddr, Ipv4Addr};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::port::Port;

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// All clients of the cluster.
    Clients,
    /// The node with this number.
    Node(usize),
}

/// How a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Open connections are reset, and so are new ones.
    Reset,
    /// Nothing arrives any more, without an error to either side. It arrives once the link is healed, as with TCP.
    Silence,
}

/// The links that are cut.
type Cuts = Vec<([Host; 2], Cut)>;

/// A network without cuts, until there are some. Its links end with it.
#[derive(Debug)]
pub struct Network {
    cuts: watch::Sender<Cuts>,
    relays: Mutex<JoinSet<()>>,
    /// Reserved for the relays.
    ports: Mutex<Vec<Port>>,
}

impl Network {
    pub(crate) fn new() -> Self {
        let (cuts, relays) = (watch::Sender::default(), Mutex::default());
        Self { cuts, relays, ports: Mutex::default() }
    }

    /// Returns the address that a node must connect from.
    pub(crate) fn source(number: usize) -> String {
        let number = u8::try_from(number + 1).expect("a cluster has few nodes");
        Ipv4Addr::new(127, 0, 1, number).to_string()
    }

    /// Starts a relay to a port of a node.
    pub(crate) fn relay(&self, number: usize, from: Port, to: u16) {
        let listener = from.socket().and_then(|socket| socket.listen(1024));
        let listener = listener.expect("the port is reserved");
        self.ports.lock().push(from);
        let (node, cuts) = (Host::Node(number), self.cuts.subscribe());
        self.relays.lock().spawn(accept(listener, node, to, cuts));
    }

    /// Cuts all links between hosts of one side and hosts of the other.
    pub fn split(&self, one_side: &[Host], other_side: &[Host], how: Cut) {
        self.cuts.send_modify(|cuts| {
            for &one in one_side {
                cuts.extend(other_side.iter().map(|&other| ([one, other], how)));
            }
        });
    }

    /// Heals all links.
    pub fn heal(&self) {
        self.cuts.send_modify(Vec::clear);
    }
}

/// Accepts connections until it is aborted; they are closed with it.
async fn accept(listener: TcpListener, node: Host, to: u16, cuts: watch::Receiver<Cuts>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, address)) = accepted else { continue };
                let link = Link { ends: [host_at(address.ip()), node], cuts: cuts.clone() };
                open.spawn(carry(link, stream, to));
            }
            Some(_) = open.join_next() => {}
        }
    }
}

/// Returns what connects from this address.
fn host_at(address: IpAddr) -> Host {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [127, 0, 1, number] if number > 0 => Host::Node(usize::from(number) - 1),
            _ => Host::Clients,
        },
        IpAddr::V6(_) => Host::Clients,
    }
}

/// The link that a connection uses.
#[derive(Clone)]
struct Link {
    ends: [Host; 2],
    cuts: watch::Receiver<Cuts>,
}

impl Link {
    /// Waits until the link is cut in this way, or not at all.
    async fn wait_until(&mut self, how: Option<Cut>) {
        let [from, to] = self.ends;
        let is_so = |cuts: &Cuts| {
            let mut these = cuts.iter().filter(|(ends, _)| [[from, to], [to, from]].contains(ends));
            these.next().map(|&(_, how)| how) == how
        };
        // The sender lives as long as the network, and this connection no longer than that.
        let _ = self.cuts.wait_for(is_so).await;
    }
}

/// Carries a connection until one side closes it or it is reset.
async fn carry(link: Link, mut from: TcpStream, to: u16) {
    let (mut watched, mut opened) = (link.clone(), link.clone());
    let connected = async {
        opened.wait_until(None).await;
        TcpStream::connect(("127.0.0.1", to)).await
    };
    let connected = tokio::select! {
        connected = connected => connected,
        () = watched.wait_until(Some(Cut::Reset)) => Err(std::io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut to) = connected else {
        let _ = from.set_zero_linger();
        return;
    };
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let is_closed = {
        let ((from_reads, from_writes), (to_reads, to_writes)) = (from.split(), to.split());
        tokio::select! {
            () = pump(link.clone(), from_reads, to_writes) => true,
            () = pump(link, to_reads, from_writes) => true,
            () = watched.wait_until(Some(Cut::Reset)) => false,
        }
    };
    if !is_closed {
        let _ = (from.set_zero_linger(), to.set_zero_linger());
    }
}

/// Passes bytes in one direction while the link is not cut.
async fn pump(mut link: Link, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        link.wait_until(None).await;
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
