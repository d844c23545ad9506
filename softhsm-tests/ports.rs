//! Ports for peers that cannot be told to take any free one.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use crate::failure::{Doing, Failure};

/// How often another port is tried when somebody else took the one that was free.
const TRIES: usize = 5;

/// Starts a peer on a loopback port that was free a moment ago, on another one if it was taken
/// meanwhile. `start` returns `None` when the peer says that the address is in use.
///
/// # Errors
///
/// The peer does not start, for that or for another reason.
pub fn on_free_port<T>(
    mut start: impl FnMut(u16) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    for _ in 0..TRIES {
        if let Some(started) = start(free_port()?)? {
            return Ok(started);
        }
    }
    Err(Failure::new(format!("{TRIES} free ports were taken before the peer could listen")))
}

/// A port of 127.0.0.1 where nobody listens, and nobody can as long as the socket is kept.
///
/// # Errors
///
/// The system gives none.
pub fn closed_port() -> Result<(OwnedFd, u16), Failure> {
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).doing("make a socket")?;
    bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).doing("take a port")?;
    let address = getsockname(&held).doing("ask for a port")?;
    let address = SocketAddrV4::try_from(address).doing("read an address")?;
    Ok((held, address.port()))
}

/// A loopback port that is free for TCP and UDP now.
fn free_port() -> Result<u16, Failure> {
    for _ in 0..TRIES {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen on a free port")?;
        let port = tcp.local_addr().doing("ask for a port")?.port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::new("no loopback port is free for both TCP and UDP"))
}
