//! A reserved port, kept while nothing listens on it: otherwise another test's Redis could get the port of one that is
//! down, and be mistaken for it.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port that the system assigns to no other socket, not even to an outgoing connection: it is bound, and never
/// listening. A process that listens on it must allow the address to be shared (`SO_REUSEADDR`), as Redis does.
#[derive(Debug)]
pub(crate) struct Port {
    addr: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    /// # Panics
    /// If there is no free port.
    pub(crate) fn reserve() -> Self {
        let bound = socket("127.0.0.1:0".parse().expect("an address")).unwrap();
        Self { addr: bound.local_addr().unwrap(), _bound: bound }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Creates a socket to listen on the port.
    pub(crate) fn socket(&self) -> io::Result<TcpSocket> {
        socket(self.addr)
    }
}

fn socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}
