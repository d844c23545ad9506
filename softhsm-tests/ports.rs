//! Ports for peers that cannot be told to take any free one.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

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
