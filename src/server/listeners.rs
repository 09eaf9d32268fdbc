//! The sockets that a server listens on: opened, or passed on by the process that started it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use crate::server::config::{AdminAddress, LocalAddress, ServeConfig};
use crate::server::shared::UNSENT_BYTES;
use crate::server::startup_error::StartupError;
use crate::sys::inherited::{InheritedListener, Purpose};
use crate::sys::{local_socket, socket};

/// Listening sockets, those with TLS last.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) all: Vec<InheritedListener>,
    /// Listeners from this index on are for TLS.
    pub(super) first_tls: usize,
    /// That of the admin interface.
    pub(super) admin: Option<TcpListener>,
    /// The way to the server that is taken over from.
    pub(super) predecessor: Option<UnixStream>,
}

/// Opens the sockets. An inherited socket is used for the address it is bound to, so that a server
/// can take over from another one.
///
/// # Errors
/// [`StartupError`] names the address.
pub(super) fn open(config: &mut ServeConfig) -> Result<Listeners, StartupError> {
    let mut passed = Vec::new();
    for inherited in config.inherited.drain(..) {
        let socket = inherited.socket.try_clone();
        let name = inherited.name.clone();
        let socket = socket.map_err(|error| StartupError::Inherited(name.clone(), error))?;
        passed.push(InheritedListener { socket, name });
    }
    let predecessor = take(&mut passed, InheritedListener::is_predecessor);
    let admin = match &config.admin {
        Some(address) => Some(admin(address, config, &mut passed)?),
        None => None,
    };
    let (mut plain, mut tls) = (Vec::new(), Vec::new());
    for address in &config.listen {
        plain.push(inet(*address, Purpose::Plain, &mut passed)?);
    }
    for address in &config.listen_local {
        let socket = local(address, config, &mut passed, (Purpose::Plain, BACKLOG))
            .map_err(|error| StartupError::ListenLocal(address.clone(), error))?;
        plain.push(socket);
    }
    for address in &config.listen_tls {
        tls.push(inet(*address, Purpose::Tls, &mut passed)?);
    }
    // What another server opened by itself, and this one's settings do not name, is closed.
    let kept = passed.into_iter().filter(|it| !it.is_own());
    let (kept_tls, kept_plain): (Vec<_>, Vec<_>) = kept.partition(InheritedListener::speaks_tls);
    let mut all = kept_plain;
    all.append(&mut plain);
    let first_tls = all.len();
    all.extend(kept_tls);
    all.append(&mut tls);
    for listener in &all {
        // Handed down to every connection. Without them only memory is lost, not function.
        let _ = socket::send_at_once(&listener.socket);
        let _ = socket::limit_unsent(&listener.socket, UNSENT_BYTES);
    }
    Ok(Listeners {
        all,
        first_tls,
        admin,
        predecessor: predecessor.map(|it| OwnedFd::from(it.socket).into()),
    })
}

fn own(socket: TcpListener, purpose: Purpose) -> InheritedListener {
    let name = purpose.name().to_owned();
    InheritedListener { socket, name }
}

fn take(
    passed: &mut Vec<InheritedListener>,
    is_it: impl Fn(&InheritedListener) -> bool,
) -> Option<InheritedListener> {
    let at = passed.iter().position(is_it)?;
    Some(passed.remove(at))
}

fn inet(
    address: SocketAddr,
    purpose: Purpose,
    passed: &mut Vec<InheritedListener>,
) -> Result<InheritedListener, StartupError> {
    if let Some(found) = take(passed, |it| it.listens_on(address, purpose)) {
        return Ok(found);
    }
    let opened = socket::listen(address, BACKLOG);
    opened
        .map(|socket| own(socket, purpose))
        .map_err(|error| StartupError::Listen(address, error))
}

fn local(
    address: &LocalAddress,
    config: &ServeConfig,
    passed: &mut Vec<InheritedListener>,
    (purpose, backlog): (Purpose, i32),
) -> io::Result<InheritedListener> {
    match take(passed, |it| it.listens_on_local(address)) {
        Some(found) => Ok(found),
        None => local_socket::listen(address, config.local_access, backlog)
            .map(|socket| own(socket, purpose)),
    }
}

fn admin(
    address: &AdminAddress,
    config: &ServeConfig,
    passed: &mut Vec<InheritedListener>,
) -> Result<TcpListener, StartupError> {
    let opened = match address {
        AdminAddress::Inet(inet) => match take(passed, |it| it.listens_on(*inet, Purpose::Admin)) {
            Some(found) => Ok(found.socket),
            None => socket::listen(*inet, ADMIN_BACKLOG),
        },
        AdminAddress::Local(name) => {
            let purpose = (Purpose::Admin, ADMIN_BACKLOG);
            local(name, config, passed, purpose).map(|found| found.socket)
        }
    };
    opened.map_err(|error| StartupError::Admin(address.clone(), error))
}

/// Connections that the kernel keeps until they are accepted; it takes the smaller of this and
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
const ADMIN_BACKLOG: i32 = 64;
