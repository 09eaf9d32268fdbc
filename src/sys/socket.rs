//! TCP sockets: listening, accepting, options.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod tcp_info;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::sys::peer::Peer;
use crate::sys::retry::retry;

/// Opens a non-blocking listening socket. IPv6 sockets take IPv6 only, so that `0.0.0.0` and
/// `[::]` can be listened on side by side.
///
/// # Errors
/// The address is taken, is not this host's, or needs a privilege.
pub(crate) fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = bind(address)?;
    // Linux hands these options down to every accepted connection, at no further cost.
    socket.set_tcp_nodelay(true)?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether [`listen`] would work; no peer can connect meanwhile.
pub(crate) fn can_listen(address: SocketAddr) -> io::Result<()> {
    bind(address).map(drop)
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Makes small segments leave at once (`TCP_NODELAY`, tcp(7)); on a listener, for its connections.
pub(crate) fn send_at_once(listener: &TcpListener) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)
}

/// Takes the next connection, non-blocking and closed on exec.
///
/// # Errors
/// As accept(2): `WouldBlock` when none waits, errors of the one connection, or exhaustion.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    #[cfg(target_os = "linux")]
    {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let (socket, peer) = SockRef::from(listener).accept4(flags)?;
        let peer = match peer.as_socket() {
            Some(peer) => peer.into(),
            None => local_peer(&socket)?,
        };
        Ok((socket.into(), peer))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let (stream, peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok((stream, peer.into()))
    }
}

/// The peer of a Unix socket.
#[cfg(target_os = "linux")]
fn local_peer(socket: &impl AsFd) -> io::Result<Peer> {
    let gone = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
    let credentials = getsockopt(socket, sockopt::PeerCredentials).map_err(gone)?;
    HAS_LOCAL_PEERS.store(true, Ordering::Relaxed);
    let uid = credentials.uid();
    Ok(Peer::Unix { uid })
}

/// Whether this process has ever accepted from a Unix socket: if not, the check costs no system
/// call.
static HAS_LOCAL_PEERS: AtomicBool = AtomicBool::new(false);

/// Whether it is a Unix socket.
fn is_local(stream: &TcpStream) -> bool {
    HAS_LOCAL_PEERS.load(Ordering::Relaxed)
        && SockRef::from(stream)
            .local_addr()
            .is_ok_and(|address| address.is_unix())
}

/// Sends bytes; `more` follows at once, so an incomplete segment may wait for it (`MSG_MORE`).
pub(crate) fn send(stream: &TcpStream, bytes: &[u8], more: bool) -> io::Result<usize> {
    let flags = send_flags(more);
    Ok(retry(|| {
        nix::sys::socket::send(stream.as_raw_fd(), bytes, flags)
    })?)
}

fn send_flags(more: bool) -> MsgFlags {
    #[cfg(target_os = "linux")]
    let more_follows = MsgFlags::from_bits_retain(libc::MSG_MORE);
    #[cfg(not(target_os = "linux"))]
    let more_follows = MsgFlags::empty();
    match more {
        true => MsgFlags::MSG_NOSIGNAL | more_follows,
        false => MsgFlags::MSG_NOSIGNAL,
    }
}

/// Makes the coming close a reset: unsent bytes are discarded and the peer's next read fails
/// (`SO_LINGER` of zero, socket(7)).
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    linger(stream, true)
}

/// Takes [`reset_on_close`] back: an orderly close again.
pub(crate) fn orderly_on_close(stream: &TcpStream) -> io::Result<()> {
    linger(stream, false)
}

/// Linger for no time at all on close, or the system's way.
fn linger(stream: &TcpStream, on: bool) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: on.into(),
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &linger)?)
}

/// Closes the sending direction (`FIN`), after the queued bytes.
///
/// # Errors
/// The peer has reset the connection.
pub(crate) fn end_of_stream(stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)
}

/// Holds back incomplete segments, or lets them go (`TCP_CORK`, tcp(7)). Does nothing where the
/// system has no such option.
pub(crate) fn cork(stream: &TcpStream, held: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(setsockopt(stream, sockopt::TcpCork, &held)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (stream, held);
        Ok(())
    }
}

/// Sends what waits for a full segment. Setting `TCP_NODELAY` does that even when it is set
/// already (tcp(7)).
pub(crate) fn push(stream: &TcpStream) -> io::Result<()> {
    match stream.set_nodelay(true) {
        // Nothing waits in a Unix socket.
        Err(_) if is_local(stream) => Ok(()),
        pushed => pushed,
    }
}

/// Limits the bytes that wait in the send queue without having been sent
/// (`TCP_NOTSENT_LOWAT`, tcp(7)). Does nothing where the system has no such option.
///
/// # Errors
/// As setsockopt(2).
pub fn limit_unsent(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return Ok(setsockopt(socket, linux::UnsentLimit, &bytes)?);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, bytes);
        Ok(())
    }
}

/// The name of the congestion control (`TCP_CONGESTION`, tcp(7)).
///
/// # Errors
/// As getsockopt(2); `Unsupported` on systems without a choice.
pub(crate) fn congestion_control(socket: &impl AsFd) -> io::Result<Vec<u8>> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStringExt;
        let name = getsockopt(socket, sockopt::TcpCongestion)?;
        let mut name = name.into_vec();
        name.retain(|&byte| byte != 0);
        Ok(name)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Sets the congestion control, on a listener for its connections (`TCP_CONGESTION`, tcp(7)).
///
/// # Errors
/// As setsockopt(2): it is not available, or needs a privilege; `Unsupported` on systems without a
/// choice.
pub(crate) fn set_congestion_control(socket: &impl AsFd, name: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(name).to_owned();
        Ok(setsockopt(socket, sockopt::TcpCongestion, &name)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, name);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Limits the rate at which the kernel sends (`SO_MAX_PACING_RATE`, socket(7)). `None` removes the
/// limit.
///
/// # Errors
/// As setsockopt(2); `Unsupported` where the system has no pacing.
pub(crate) fn pace(stream: &TcpStream, bytes_per_second: Option<u64>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let rate = bytes_per_second.unwrap_or(u64::MAX);
        Ok(setsockopt(stream, linux::MaxPacingRate, &rate)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = stream;
        bytes_per_second.map_or(Ok(()), |_| Err(io::ErrorKind::Unsupported.into()))
    }
}

/// Options that `nix` does not name, defined by its macro.
#[cfg(target_os = "linux")]
mod linux {
    use nix::libc;
    use nix::sys::socket::sockopt::SetStruct;

    /// `TCP_NOTSENT_LOWAT` (tcp(7)).
    #[derive(Clone, Copy, Debug)]
    pub(super) struct UnsentLimit;

    nix::setsockopt_impl!(
        UnsentLimit,
        libc::IPPROTO_TCP,
        libc::TCP_NOTSENT_LOWAT,
        u32,
        SetStruct<u32>
    );

    /// `SO_MAX_PACING_RATE` (socket(7)) in 64 bits (Linux 4.20).
    #[derive(Clone, Copy, Debug)]
    pub(super) struct MaxPacingRate;

    // Not named by `libc` on every architecture.
    const SO_MAX_PACING_RATE: libc::c_int = 47;

    nix::setsockopt_impl!(
        MaxPacingRate,
        libc::SOL_SOCKET,
        SO_MAX_PACING_RATE,
        u64,
        SetStruct<u64>
    );
}

/// Whether the connection is over in both directions: it was reset, or has failed (poll(2)).
#[must_use]
pub(crate) fn is_broken(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let asked = poll(&mut polled, PollTimeout::ZERO);
    asked.is_ok() && polled[0].revents().is_some_and(|seen| !seen.is_empty())
}

/// Enables keep-alive probes at intervals of ten seconds (tcp(7)).
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let every = TcpKeepalive::new()
        .with_time(PROBE_EVERY)
        .with_interval(PROBE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&every)
}

const PROBE_EVERY: Duration = Duration::from_secs(10);

/// Bytes in the send queue that the peer has not acknowledged (`SIOCOUTQ`, tcp(7)); `None` where
/// the system does not report it. Bytes in a Unix socket have arrived at its peer.
#[must_use]
pub(crate) fn unacknowledged(stream: &TcpStream) -> Option<u64> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        // The number would be one of memory, not of bytes.
        if is_local(stream) {
            return Some(0);
        }
        outq::bytes(stream)
    }
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    {
        let _ = stream;
        None
    }
}

/// How many more bytes the peer's window and the congestion window take now if `unsent` of them may
/// be queued besides (`TCP_INFO`, tcp(7)); `None` where the system does not report it (before Linux
/// 5.4).
#[must_use]
pub(crate) fn window_left(stream: &TcpStream, unsent: u32) -> Option<u64> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        let window = tcp_info::window(stream)? + u64::from(unsent);
        Some(window.saturating_sub(outq::bytes(stream)?))
    }
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    {
        let _ = (stream, unsent);
        None
    }
}

/// Bytes that the socket has taken since the connection was made, but for a number that stays the
/// same; `None` where the system cannot say (before Linux 5.4).
#[must_use]
pub(crate) fn bytes_taken(stream: &TcpStream) -> Option<u64> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        // In this order: what is acknowledged in between is missing rather than counted twice.
        Some(tcp_info::acknowledged(stream)? + outq::bytes(stream)?)
    }
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    {
        let _ = stream;
        None
    }
}

/// Bytes that were received and not read (`SIOCINQ`, tcp(7)); `None` where the system cannot say.
/// The end of the stream is none.
#[must_use]
pub(crate) fn unread(stream: &TcpStream) -> Option<u64> {
    rustix::io::ioctl_fionread(stream).ok()
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod outq {
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;
    use nix::libc::{TIOCOUTQ, c_int, ioctl};

    pub(super) fn bytes(stream: &TcpStream) -> Option<u64> {
        let mut queued: c_int = 0;
        // SAFETY: the descriptor is open while `stream` is borrowed, and SIOCOUTQ (the same
        // number as TIOCOUTQ) writes one int.
        #[allow(unsafe_code)]
        let result = unsafe { ioctl(stream.as_raw_fd(), TIOCOUTQ, &raw mut queued) };
        Errno::result(result).ok()?;
        u64::try_from(queued).ok()
    }
}
