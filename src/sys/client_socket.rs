//! Non-blocking client sockets by the thousand, and the readiness of them (`epoll(7)`).

use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use socket2::{Domain, Socket, Type};

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes to receive, or the end of them.
    Readable,
    /// Room to send, or the outcome of a connect.
    Writable,
}

/// The readiness of many sockets, level-triggered, with time-outs finer than `epoll_wait(2)` has.
#[derive(Debug)]
pub(crate) struct Readiness {
    epoll: OwnedFd,
    /// Wakes the wait where a millisecond is too coarse.
    timer: OwnedFd,
}

impl Readiness {
    /// An empty set.
    ///
    /// # Errors
    /// Those of `epoll_create1(2)` and `timerfd_create(2)`.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(
            &epoll,
            &timer,
            epoll::EventData::new_u64(TIMER),
            epoll::EventFlags::IN,
        )?;
        Ok(Self { epoll, timer })
    }

    /// Waits for `interest` in `socket` from now on. Closing the socket ends it.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn add(&self, socket: &OwnedFd, token: usize, interest: Interest) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::add(&self.epoll, socket, data, flags(interest))?)
    }

    /// Waits for another `interest` in a socket that was added before.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn modify(
        &self,
        socket: &OwnedFd,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token as u64);
        Ok(epoll::modify(&self.epoll, socket, data, flags(interest))?)
    }

    /// Waits until a socket is ready or the time is up, and fills `ready` with the tokens.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)` and `timerfd_settime(2)`.
    pub(crate) fn wait(&self, timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        let mut coarse = timespec(timeout);
        if !timeout.is_zero() && timeout < COARSE {
            let once = Itimerspec {
                it_interval: timespec(Duration::ZERO),
                it_value: coarse,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            coarse = timespec(COARSE);
        } else {
            // Whole milliseconds, so that `epoll_wait` can express them.
            coarse.tv_nsec -= coarse.tv_nsec % 1_000_000;
        }
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_AT_ONCE];
        let events = match epoll::wait(&self.epoll, &mut room, Some(&coarse)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            let token = event.data.u64();
            if token == TIMER {
                let mut expirations = [0; 8];
                // An expiry that was rearmed meanwhile reads as EAGAIN: nothing is lost.
                let _ = rustix::io::read(&self.timer, &mut expirations);
            } else {
                ready.push(token as usize);
            }
        }
        Ok(())
    }
}

/// Connects within `timeout`, blocking, with a receive buffer of no more than `receive_bytes`
/// (`SO_RCVBUF`, socket(7)), so that what the peer sends stays with the peer.
///
/// # Errors
/// As connect(2) and setsockopt(2).
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
///
/// # Errors
/// Those of `socket(2)` and `connect(2)`, `EINPROGRESS` excepted.
pub(crate) fn connect(address: &SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&(*address).into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Sends what the socket takes of `bytes`, without `SIGPIPE`; `WouldBlock` also while connecting.
///
/// # Errors
/// Those of `send(2)`.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| {
        rustix::net::send(socket.as_fd(), bytes, SendFlags::NOSIGNAL)
    })?)
}

/// Receives into `buffer`; zero is the end of the stream.
///
/// # Errors
/// Those of `recv(2)`.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let received =
        retry_on_intr(|| rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::empty()))?;
    Ok(received.1)
}

/// Has the kernel throw away up to `room.len()` received bytes, and returns how many; zero is the
/// end of the stream. On TCP, `MSG_TRUNC` takes bytes off the queue without copying them, so
/// `room` is never written: it only says how many may go (`tcp(7)`).
///
/// # Errors
/// Those of `recv(2)`.
pub(crate) fn discard(socket: impl AsFd, room: &mut [u8]) -> io::Result<usize> {
    let received =
        retry_on_intr(|| rustix::net::recv(socket.as_fd(), &mut *room, RecvFlags::TRUNC))?;
    Ok(received.1)
}

fn flags(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::Readable => epoll::EventFlags::IN,
        Interest::Writable => epoll::EventFlags::OUT,
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

const TIMER: u64 = u64::MAX;
const EVENTS_AT_ONCE: usize = 512;
/// From here on the millisecond of `epoll_wait(2)` is fine enough.
const COARSE: Duration = Duration::from_millis(50);
