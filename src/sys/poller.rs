//! Readiness of sockets, and a way to wake the thread that waits for it.
//!
//! The contract is that of epoll's edge triggering, which oneshot pollers can keep too: a socket is
//! reported when it becomes readable or writable after [`Poller::watch`] or [`Poller::rearm`], and
//! at once if it already is. A report carries no result; the next call on the socket does. Tokens
//! are the caller's, except the last two numbers.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) use self::epoll::Poller;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) use self::portable::Poller;

/// The token that [`Poller::wake`] uses itself.
pub(crate) const WAKE: u64 = u64::MAX;

/// Which direction a parked connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes, the end of the peer's stream, or an error.
    Read,
    /// Room in the send queue, or an error.
    Write,
}

/// A socket that may be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// The token given to [`Poller::watch`].
    pub token: u64,
    /// Bytes, the end of the stream or an error can be read.
    pub readable: bool,
    /// There is room in the send queue, or an error that a send would meet.
    pub writable: bool,
    /// The end of the stream or an error is queued behind the readable bytes, and is not reported
    /// again: a short read does not mean that the queue is empty.
    pub hung_up: bool,
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod epoll {
    use nix::errno::Errno;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use crate::sync::atomic::{AtomicBool, Ordering};
    use crate::sync::wait;
    use crate::sys::poller::{Interest, Readiness, WAKE};

    /// epoll(7), edge-triggered: one registration serves a connection for as long as it stays.
    #[derive(Debug)]
    pub(crate) struct Poller {
        epoll: Epoll,
        wake: EventFd,
        /// A wake-up is under way, so that the next ones need no system call.
        woken: AtomicBool,
        /// Ends a wait for which a millisecond is too coarse.
        timer: Option<TimerFd>,
    }

    impl Poller {
        /// Makes a poller that watches nothing yet.
        ///
        /// # Errors
        /// No descriptor or memory left (epoll_create1(2), eventfd(2)).
        pub(crate) fn new() -> io::Result<Self> {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll.add(&wake, EpollEvent::new(edges, WAKE))?;
            Ok(Self {
                epoll,
                wake,
                woken: AtomicBool::new(false),
                timer: None,
            })
        }

        /// Creates a poller whose waits end to the microsecond, at the cost of a system call for
        /// each wait below [`FINE`].
        ///
        /// # Errors
        /// No descriptor or memory left (epoll_create1(2), eventfd(2), timerfd_create(2)).
        pub(crate) fn with_fine_timeouts() -> io::Result<Self> {
            let poller = Self::new()?;
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            poller.epoll.add(&timer, EpollEvent::new(edges, TIMER))?;
            Ok(Self {
                timer: Some(timer),
                ..poller
            })
        }

        /// Watches a socket in both directions; present readiness is reported too.
        ///
        /// # Errors
        /// No memory, or the user's limit of watches is reached (epoll_ctl(2)).
        pub(crate) fn watch(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
            let edges = EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP
                | EpollFlags::EPOLLET;
            Ok(self.epoll.add(socket, EpollEvent::new(edges, token))?)
        }

        /// Stops watching. Reports that were fetched before are stale.
        pub(crate) fn forget(&self, socket: impl AsFd) -> io::Result<()> {
            Ok(self.epoll.delete(socket)?)
        }

        /// Stops watching a socket that is about to be closed. The kernel does so itself where no
        /// other descriptor has the socket (epoll(7)).
        #[inline]
        pub(crate) fn forget_closing(&self, _socket: impl AsFd) {}

        /// Asks for another report once the socket is ready. Edges need no asking.
        #[inline]
        pub(crate) fn rearm(&self, _socket: impl AsFd, _token: u64, _: Interest) -> io::Result<()> {
            Ok(())
        }

        /// Waits for readiness, a wake-up or the time-out (rounded up to milliseconds), and puts
        /// ready sockets in `ready`.
        pub(crate) fn wait(
            &self,
            ready: &mut Vec<Readiness>,
            timeout: Option<Duration>,
        ) -> io::Result<()> {
            ready.clear();
            let mut events = [EpollEvent::empty(); 128];
            let timeout = match (timeout, &self.timer) {
                (Some(timeout), Some(timer)) if !timeout.is_zero() && timeout < FINE => {
                    let once = Expiration::OneShot(TimeSpec::from_duration(timeout));
                    timer.set(once, TimerSetTimeFlags::empty())?;
                    Some(FINE)
                }
                (timeout, _) => timeout,
            };
            let timeout = match timeout {
                None => EpollTimeout::NONE,
                Some(timeout) => {
                    let millis = timeout.as_micros().div_ceil(1000).min(86_400_000);
                    EpollTimeout::try_from(millis as i32).unwrap_or(EpollTimeout::ZERO)
                }
            };
            let events_within = |timeout| self.epoll.wait(&mut events, timeout);
            let count = match wait(timeout, EpollTimeout::ZERO, events_within) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno.into()),
            };
            for event in &events[..count] {
                // The timer's expirations are never read: each is a new edge.
                if event.data() == TIMER {
                    continue;
                }
                if event.data() == WAKE {
                    // Cleared before the caller looks for work: a later wake-up writes again.
                    self.woken.swap(false, Ordering::SeqCst);
                } else {
                    let faults = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
                    let ends = EpollFlags::EPOLLRDHUP | faults;
                    ready.push(Readiness {
                        token: event.data(),
                        readable: event.events().intersects(ends | EpollFlags::EPOLLIN),
                        writable: event.events().intersects(faults | EpollFlags::EPOLLOUT),
                        hung_up: event.events().intersects(ends),
                    });
                }
            }
            Ok(())
        }

        /// Makes the current or the next [`Self::wait`] return. Any thread may call it.
        pub(crate) fn wake(&self) {
            if !self.woken.swap(true, Ordering::SeqCst) && !self.signal() {
                // The flag would keep every later wake-up from being tried.
                self.woken.store(false, Ordering::SeqCst);
            }
        }

        /// Makes an edge for the waiting thread. Returns whether there is one.
        fn signal(&self) -> bool {
            // The counter is never read: each write is a new edge.
            (0..SIGNAL_TRIES).any(|_| self.wake.write(1).is_ok() || self.signal_by_change())
        }

        /// Replaces a failed write(2): a changed registration reports present readiness again, and
        /// an eventfd always has room.
        fn signal_by_change(&self) -> bool {
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            let changed = self
                .epoll
                .modify(&self.wake, &mut EpollEvent::new(both, WAKE));
            changed.is_ok()
        }
    }

    /// Both calls fail by accident only, such as a signal or a moment without memory.
    const SIGNAL_TRIES: usize = 3;

    /// The token of the timer.
    const TIMER: u64 = WAKE - 1;
    /// From here on the millisecond of epoll_wait(2) is fine enough.
    const FINE: Duration = Duration::from_millis(50);
}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod portable {
    use std::os::fd::AsRawFd;

    use polling::{Event, Events, PollMode};

    use std::io;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use crate::sys::poller::{Interest, Readiness, WAKE};

    /// Whatever the `polling` crate finds (kqueue, event ports, poll), armed for one report.
    #[derive(Debug)]
    pub(crate) struct Poller {
        poller: polling::Poller,
    }

    impl Poller {
        /// Makes a poller that watches nothing yet.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self {
                poller: polling::Poller::new()?,
            })
        }

        /// The same: its waits are as fine as the system's.
        pub(crate) fn with_fine_timeouts() -> io::Result<Self> {
            Self::new()
        }

        /// Watches a socket in both directions; present readiness is reported too.
        pub(crate) fn watch(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
            let socket = socket.as_fd().as_raw_fd();
            let interest = Event::readable(token as usize);
            // SAFETY: every owner of a watched socket (`hot_worker::Table`, `acceptor`, `load`) calls
            // `forget` or `forget_closing` before it drops the socket, as `polling` demands.
            #[allow(unsafe_code)]
            unsafe {
                self.poller
                    .add_with_mode(socket, interest, PollMode::Oneshot)
            }
        }

        /// Stops watching. Reports that were fetched before are stale.
        pub(crate) fn forget(&self, socket: impl AsFd) -> io::Result<()> {
            self.poller.delete(socket.as_fd())
        }

        /// Stops watching a socket that is about to be closed.
        pub(crate) fn forget_closing(&self, socket: impl AsFd) {
            // The socket was watched; if the system thinks otherwise, no stale report can harm.
            let _ = self.forget(socket);
        }

        /// Asks for one more report once the socket is ready in that direction.
        pub(crate) fn rearm(
            &self,
            socket: impl AsFd,
            token: u64,
            interest: Interest,
        ) -> io::Result<()> {
            let interest = match interest {
                Interest::Read => Event::readable(token as usize),
                Interest::Write => Event::writable(token as usize),
            };
            self.poller
                .modify_with_mode(socket.as_fd(), interest, PollMode::Oneshot)
        }

        /// Waits for readiness, a wake-up or the time-out, and puts ready sockets in `ready`.
        pub(crate) fn wait(
            &self,
            ready: &mut Vec<Readiness>,
            timeout: Option<Duration>,
        ) -> io::Result<()> {
            ready.clear();
            let mut events = Events::new();
            let timeout = timeout.map_or(MAX_WAIT, |timeout| timeout.min(MAX_WAIT));
            self.poller.wait(&mut events, Some(timeout))?;
            ready.extend(
                events
                    .iter()
                    .filter(|event| event.key as u64 != WAKE)
                    .map(|event| Readiness {
                        token: event.key as u64,
                        readable: event.readable,
                        // Oneshot registers one direction at a time, so any event while sending
                        // means room.
                        writable: true,
                        // Level-triggered events are reported again.
                        hung_up: false,
                    }),
            );
            Ok(())
        }

        /// Makes the current or the next [`Self::wait`] return. Any thread may call it.
        pub(crate) fn wake(&self) {
            // The call can fail only for a descriptor that the poller itself owns.
            let _ = self.poller.notify();
        }
    }

    /// `polling` does not report a failed wake-up, and takes it for one under way.
    const MAX_WAIT: Duration = Duration::from_secs(1);
}
