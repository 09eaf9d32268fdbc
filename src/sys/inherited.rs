//! Listening sockets that whoever started the process has opened (sd_listen_fds(3)).

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;

/// A listening socket that was passed on.
#[derive(Debug)]
pub struct InheritedListener {
    /// TCP or Unix.
    pub socket: TcpListener,
    /// Its name (`LISTEN_FDNAMES`); empty if it has none.
    pub name: String,
}

impl InheritedListener {
    /// Whether it is meant for TLS: it is named `tls`, which is for whoever opened it to do
    /// (`FileDescriptorName=`, systemd.socket(5)).
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.name == "tls"
    }
}

/// Takes the sockets, and what tells of them out of the environment. To be called once, before any
/// thread is started.
///
/// # Errors
/// A descriptor is no stream socket.
pub fn inherited_listeners() -> io::Result<Vec<InheritedListener>> {
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
