//! Connects to a host by name: IPv6 and IPv4 by turns, a new attempt each quarter of a second; the
//! first established connection wins (RFC 8305).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::sys::client_socket;
use crate::sys::poll::{Direction, wait_ready};

/// The address families that may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Both.
    #[default]
    Any,
    /// IPv4 only (`-4`).
    V4,
    /// IPv6 only (`-6`).
    V6,
}

/// Connects, and remembers what a host's name resolved to and which address answered.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    family: Family,
    known: Mutex<HashMap<(String, u16), Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    /// In the order in which they are tried: the one that answered last is the first.
    addresses: Vec<SocketAddr>,
    resolved: Instant,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The name has no address of the requested family.
    Unresolvable(io::Error),
    /// No address took the connection.
    Unreachable(io::Error),
    /// The caller cancelled the attempt.
    Stopped,
}

impl fmt::Display for DialError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolvable(error) | Self::Unreachable(error) => error.fmt(formatter),
            Self::Stopped => formatter.write_str("interrupted"),
        }
    }
}

impl Dialer {
    pub(crate) fn new(family: Family) -> Self {
        Self {
            family,
            known: Mutex::default(),
        }
    }

    /// Connects within `timeout`, the resolver's time included. `host` is a name or an address,
    /// with brackets or without, with a zone (`fe80::1%eth0`) or without.
    pub(crate) fn connect(
        &self,
        host: &str,
        port: u16,
        timeout: Duration,
        stops: impl Fn() -> bool,
    ) -> Result<TcpStream, DialError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let key = (host.to_owned(), port);
        let known = self.known().get(&key).cloned();
        let known = match known.filter(|known| known.resolved.elapsed() < VALID_FOR) {
            Some(known) => known,
            None => Known {
                addresses: by_turns(self.resolve(host, port, deadline, &stops)?),
                resolved: Instant::now(),
            },
        };
        match race(&known.addresses, deadline, &stops) {
            Ok((winner, stream)) => {
                let mut known = known;
                known.addresses.retain(|address| *address != winner);
                known.addresses.insert(0, winner);
                self.known().insert(key, known);
                Ok(stream)
            }
            Err(error) => {
                self.known().remove(&key);
                Err(error)
            }
        }
    }

    /// The address to connect to: of several, the first one that takes a connection, else the first
    /// one of all.
    pub(crate) fn address(
        &self,
        host: &str,
        port: u16,
        timeout: Duration,
        stops: impl Fn() -> bool,
    ) -> Result<SocketAddr, DialError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let addresses = by_turns(self.resolve(host, port, deadline, &stops)?);
        match *addresses.as_slice() {
            [only] => Ok(only),
            _ => race(&addresses, deadline, &stops)
                .map(|(winner, _)| winner)
                .or(Ok(addresses[0])),
        }
    }

    /// The host's addresses, in the resolver's order.
    fn resolve(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
        stops: &impl Fn() -> bool,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let bare = bare.unwrap_or(host).to_owned();
        let (sender, resolved) = crossbeam_channel::bounded(1);
        // getaddrinfo(3) cannot be interrupted; a thread that is no longer waited for ends by itself.
        let look_up = move || {
            let addresses = (bare.as_str(), port).to_socket_addrs();
            let _ = sender.send(addresses.map(Vec::from_iter));
        };
        let thread = thread::Builder::new().spawn(look_up);
        thread.map_err(|error| {
            let text = format!("cannot start a thread: {error}");
            DialError::Unresolvable(io::Error::new(error.kind(), text))
        })?;
        let addresses = loop {
            if stops() {
                return Err(DialError::Stopped);
            }
            if Instant::now() >= deadline {
                return Err(DialError::Unresolvable(io::ErrorKind::TimedOut.into()));
            }
            match resolved.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(DialError::Stopped),
                Ok(addresses) => break addresses.map_err(DialError::Unresolvable)?,
            }
        };
        let mut addresses = addresses;
        addresses.retain(|address| match self.family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        });
        if addresses.is_empty() {
            let error = io::Error::new(io::ErrorKind::NotFound, "it has no address of that family");
            return Err(DialError::Unresolvable(error));
        }
        Ok(addresses)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u16), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the zone out of an address's URL, which the `url` crate refuses: `[fe80::1%25eth0]` (RFC 6874)
/// and `[fe80::1%eth0]`. Gives the URL without it, and the zone.
pub(crate) fn split_zone(url: &str) -> (String, Option<String>) {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let path = url[host..].find('/').map_or(url.len(), |path| host + path);
    let zone = url[..path].find('[').and_then(|open| {
        let close = open + url[open..path].find(']')?;
        let begin = open + url[open..close].find('%')?;
        Some((begin, close))
    });
    match zone {
        Some((begin, close)) => {
            let zone = &url[begin + 1..close];
            let zone = zone
                .strip_prefix("25")
                .filter(|zone| !zone.is_empty())
                .unwrap_or(zone);
            (
                format!("{}{}", &url[..begin], &url[close..]),
                Some(zone.to_owned()),
            )
        }
        None => (url.to_owned(), None),
    }
}

/// The addresses with their families by turns, beginning with that of the first (section 4).
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        ordered.extend(first.next());
        ordered.extend(second.next());
        if ordered.len() == before {
            return ordered;
        }
    }
}

/// Connects to one address after the other without waiting long for any; the first one wins.
fn race(
    addresses: &[SocketAddr],
    deadline: Instant,
    stops: &impl Fn() -> bool,
) -> Result<(SocketAddr, TcpStream), DialError> {
    let mut untried = addresses.iter().copied();
    let mut pending: Vec<(SocketAddr, TcpStream)> = Vec::new();
    let mut next_at = Instant::now();
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    loop {
        if stops() {
            return Err(DialError::Stopped);
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(DialError::Unreachable(failure));
        }
        if pending.is_empty() || now >= next_at {
            match untried.next() {
                Some(address) => match client_socket::connect(&address) {
                    Ok(socket) => {
                        pending.push((address, socket));
                        next_at = now + STAGGER;
                    }
                    Err(error) => {
                        failure = error;
                        continue;
                    }
                },
                None if pending.is_empty() => return Err(DialError::Unreachable(failure)),
                None => next_at = deadline,
            }
        }
        let wait = next_at
            .min(deadline)
            .saturating_duration_since(now)
            .min(TICK);
        let sockets: Vec<_> = pending
            .iter()
            .map(|(_, stream)| (stream.as_fd(), Direction::Write))
            .collect();
        let ready = wait_ready(&sockets, wait).map_err(DialError::Unreachable)?;
        for at in ready.into_iter().rev() {
            let (address, stream) = pending.swap_remove(at);
            match stand(&stream) {
                Ok(()) => return Ok((address, stream)),
                // The next one need not wait for its turn.
                Err(error) => (failure, next_at) = (error, now),
            }
        }
    }
}

/// The outcome of a connect; the connection blocks from now on.
fn stand(stream: &TcpStream) -> io::Result<()> {
    stream.take_error()?.map_or(Ok(()), Err)?;
    stream.set_nonblocking(false)
}

/// No clock overflows by this much.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// After this long the next address is tried as well (section 8).
const STAGGER: Duration = Duration::from_millis(250);
/// The interval at which a cancellation is noticed.
const TICK: Duration = Duration::from_millis(100);
/// How long the resolver's answer is used.
const VALID_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn families_take_turns() {
        let resolved = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(address);
        let ordered = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(address);
        assert_eq!(by_turns(resolved.to_vec()), ordered);
    }

    #[test]
    fn an_address_that_never_answers_costs_a_quarter_of_a_second_and_once_only() {
        // A listener with a full queue drops new connections, as a black hole does.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        full.bind(&address("127.0.0.1:0").into()).expect("a port");
        full.listen(0).expect("listens");
        let hole = full.local_addr().expect("bound").as_socket().expect("IPv4");
        let mut waiting = Vec::new();
        while let Ok(socket) = TcpStream::connect_timeout(&hole, Duration::from_millis(200)) {
            waiting.push(socket);
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let there = listener.local_addr().expect("bound");
        let dialer = Dialer::default();
        let known = Known {
            addresses: vec![hole, there],
            resolved: Instant::now(),
        };
        dialer.known().insert(("host".to_owned(), 1), known);
        for _ in 0..2 {
            let stream = dialer.connect("host", 1, TIMEOUT, || false);
            assert_eq!(stream.expect("one answers").peer_addr().unwrap(), there);
        }
        let known = dialer.known()[&("host".to_owned(), 1)].clone();
        assert_eq!(known.addresses, [there, hole]);
    }

    #[test]
    fn a_refused_address_is_followed_by_the_next_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let there = listener.local_addr().expect("bound");
        let refused = TcpListener::bind("127.0.0.1:0").expect("a port");
        let nobody = refused.local_addr().expect("bound");
        drop(refused);
        let deadline = Instant::now() + TIMEOUT;
        let (winner, _) = race(&[nobody, there], deadline, &|| false).expect("one answers");
        assert_eq!(winner, there);
        let error = race(&[nobody], deadline, &|| false).expect_err("nobody is there");
        assert!(
            matches!(&error, DialError::Unreachable(error)
                if error.kind() == io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
    }

    #[test]
    fn brackets_zones_and_families_are_understood() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let connect = |family, host| {
            Dialer::new(family)
                .connect(host, port, TIMEOUT, || false)
                .map(drop)
        };
        connect(Family::Any, "localhost").expect("IPv4 answers");
        connect(Family::V4, "127.0.0.1").expect("it is IPv4");
        assert!(matches!(
            connect(Family::V6, "127.0.0.1"),
            Err(DialError::Unresolvable(_))
        ));
        let resolved =
            Dialer::default().resolve("[fe80::1%lo]", 1, Instant::now() + TIMEOUT, &|| false);
        let Ok([SocketAddr::V6(zoned)]) = resolved.as_deref() else {
            panic!("{resolved:?}");
        };
        assert_ne!(zoned.scope_id(), 0);
    }

    #[test]
    fn a_zone_is_taken_out_of_a_url() {
        let zoned = |url| split_zone(url);
        let expected = ("http://[fe80::1]:80/".to_owned(), Some("eth0".to_owned()));
        assert_eq!(zoned("http://[fe80::1%25eth0]:80/"), expected);
        assert_eq!(zoned("http://[fe80::1%eth0]:80/"), expected);
        assert_eq!(zoned("http://[::1]/%41").1, None);
        assert_eq!(
            zoned("http://host/%41"),
            ("http://host/%41".to_owned(), None)
        );
    }

    #[test]
    fn a_wish_to_stop_ends_it() {
        let stopped = Dialer::default().connect("localhost", 1, TIMEOUT, || true);
        assert!(matches!(stopped, Err(DialError::Stopped)));
    }
}
