//! Sockets of clients: connect, receive, discard.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::libc;
use socket2::{Domain, Socket, Type};

/// Connects within `timeout`, blocking, with a receive buffer of at most `receive_bytes`
/// (`SO_RCVBUF`, socket(7)), so that unread bytes stay in the peer's send queue.
pub(crate) fn connect_with_small_buffer(
    address: SocketAddr,
    timeout: Duration,
    receive_bytes: usize,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // The window is agreed on when the connection is made.
    socket.set_recv_buffer_size(receive_bytes)?;
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

/// Begins to connect to `address`; the socket becomes writable when that is decided.
pub(crate) fn connect(address: &SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&(*address).into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Receives into `buffer`; zero is the end of the stream.
pub(crate) fn receive(mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Discards up to `room.len()` received bytes, and returns how many; zero is the end of the stream.
/// On TCP, `MSG_TRUNC` removes bytes from the queue without a copy, so `room` is never written: its
/// length is the limit (tcp(7)).
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn discard(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd;

    use crate::sys::retry::retry;

    Ok(retry(|| {
        recv(socket.as_raw_fd(), room, MsgFlags::MSG_TRUNC)
    })?)
}

/// Receives into `room`, where only Linux can throw bytes away unseen.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) fn discard(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    receive(socket, room)
}
