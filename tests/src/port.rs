//! A port of our own, kept while nobody listens on it: a Redis that is down must not be taken for the one that another
//! test starts meanwhile.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port that the system gives to nobody else, not even to an outgoing connection: it is bound, and never listening.
/// Whoever listens on it in our stead must allow the address to be shared (`SO_REUSEADDR`), as Redis does.
#[derive(Debug)]
pub(crate) struct Port {
    addr: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    /// # Panics
    /// If there is none.
    pub(crate) fn reserve() -> Self {
        let bound = socket("127.0.0.1:0".parse().expect("an address")).unwrap();
        Self { addr: bound.local_addr().unwrap(), _bound: bound }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A socket to listen with.
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
