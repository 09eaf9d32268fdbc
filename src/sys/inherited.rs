//! Listening sockets that the supervisor has opened (sd_listen_fds(3)).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::SockRef;

use crate::sys::local_socket::LocalAddress;
use crate::sys::resources::open_files;

/// A listening socket that was passed on.
#[derive(Debug)]
pub struct InheritedListener {
    /// TCP or Unix.
    pub socket: TcpListener,
    /// Its name (`LISTEN_FDNAMES`); empty if it has none.
    pub name: String,
}

impl InheritedListener {
    /// Whether the socket is meant for TLS: the supervisor names it `tls` (`FileDescriptorName=`,
    /// systemd.socket(5)).
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.name == "tls"
    }

    /// Whether a server opened it for itself, and passed it on to the one that takes over.
    #[must_use]
    pub fn is_own(&self) -> bool {
        Purpose::ALL.into_iter().any(|it| self.name == it.name()) || self.is_predecessor()
    }

    /// Whether it is no listener, but leads to the server that is being replaced.
    pub(crate) fn is_predecessor(&self) -> bool {
        self.name == PREDECESSOR
    }

    /// Whether it listens on this address; port 0 is the one that the system chose when a server
    /// opened the socket for the same purpose.
    pub(crate) fn listens_on(&self, address: SocketAddr, purpose: Purpose) -> bool {
        let was_chosen = address.port() == 0 && self.name == purpose.name();
        self.socket.local_addr().is_ok_and(|own| {
            own.ip() == address.ip() && (was_chosen || own.port() == address.port())
        })
    }

    /// Whether it listens on this Unix socket.
    pub(crate) fn listens_on_local(&self, address: &LocalAddress) -> bool {
        let own = SockRef::from(&self.socket).local_addr();
        own.is_ok_and(|own| match address {
            LocalAddress::Path(path) => own.as_pathname() == Some(path),
            LocalAddress::Abstract(name) => own.as_abstract_namespace() == Some(name.as_bytes()),
        })
    }
}

/// What a server opened a socket for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Files, without TLS.
    Plain,
    /// Files over TLS.
    Tls,
    /// The admin interface.
    Admin,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Admin];

    /// The name under which the socket is passed on to the server that takes over.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "own",
            Self::Tls => "own-tls",
            Self::Admin => "own-admin",
        }
    }
}

/// The name of the socket for queries to a replaced server.
pub(crate) const PREDECESSOR: &str = "haul-predecessor";

/// Whether the variables are meant for this process (`LISTEN_PID`), and not for one that started it.
fn is_for_this_process() -> bool {
    let process = std::env::var("LISTEN_PID").unwrap_or_default();
    process.is_empty() || process.parse() == Ok(std::process::id())
}

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;
/// Containers may have no limit on descriptors; a table of so many takes 16 MiB.
const MAX_DESCRIPTORS: u64 = 1 << 20;

/// Takes the sockets, and removes their variables from the environment. To be called once, before
/// any thread is started.
///
/// # Errors
/// A descriptor is no stream socket, or there cannot be so many.
pub fn inherited_listeners() -> io::Result<Vec<InheritedListener>> {
    // The crate makes a table of them, and numbers them in an `i32`.
    let number = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    let (first, count) = (number("LISTEN_FDS_FIRST_FD"), number("LISTEN_FDS"));
    let end = first.unwrap_or(FIRST).saturating_add(count.unwrap_or(0));
    let most = open_files().min(MAX_DESCRIPTORS);
    if count > Some(0) && end as u64 > most && is_for_this_process() {
        let why = format!("descriptor {} is beyond the limit of {most}", end - 1);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let take = |number| {
        let socket = match passed.take_tcp_listener(number) {
            Ok(socket) => socket,
            Err(_) => {
                let socket = passed.take_unix_listener(number)?;
                socket.map(|socket| OwnedFd::from(socket).into())
            }
        };
        let socket: TcpListener = socket.ok_or(io::ErrorKind::NotFound)?;
        socket.set_nonblocking(true)?;
        let name = names.next().unwrap_or_default();
        Ok(InheritedListener { socket, name })
    };
    (0..count).map(take).collect()
}
