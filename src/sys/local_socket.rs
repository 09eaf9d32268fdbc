//! Listening on Unix sockets (unix(7)).

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Where a Unix socket is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// In the file system.
    Path(PathBuf),
    /// In the abstract namespace, which has no permissions (Linux).
    Abstract(String),
}

impl std::fmt::Display for LocalAddress {
    /// As `--listen` takes it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "unix:{}", path.display()),
            Self::Abstract(name) => write!(formatter, "unix:@{name}"),
        }
    }
}

/// The owner and mode of sockets in the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalAccess {
    /// The permissions; what the process' umask leaves if there are none.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

/// Opens a non-blocking listening socket. A socket that another program has left behind is
/// replaced; one with a listener is not.
///
/// # Errors
/// `AddrInUse` if a process listens there, or another kind of file has the name; those of bind(2),
/// chmod(2) and chown(2).
pub(crate) fn listen(
    address: &LocalAddress,
    access: LocalAccess,
    backlog: i32,
) -> io::Result<TcpListener> {
    let name = name_of(address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Err(error) = socket.bind(&name) {
        match address {
            LocalAddress::Path(path)
                if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path, &name) =>
            {
                fs::remove_file(path)?;
                socket.bind(&name)?;
            }
            _ => return Err(error),
        }
    }
    if let LocalAddress::Path(path) = address {
        // No peer can connect before listen(2).
        if let Some(mode) = access.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        if access.uid.is_some() || access.gid.is_some() {
            chown(path, access.uid, access.gid)?;
        }
    }
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

fn name_of(address: &LocalAddress) -> io::Result<SockAddr> {
    match address {
        LocalAddress::Path(path) => SockAddr::unix(path),
        LocalAddress::Abstract(name) => SockAddr::unix(format!("\0{name}")),
    }
}

/// Connects.
///
/// # Errors
/// As connect(2).
pub fn connect_local(address: &LocalAddress) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect(&name_of(address)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// Whether [`listen`] would work; leaves nothing behind.
///
/// # Errors
/// `AddrInUse` if a process listens there, or another kind of file has the name; those of bind(2).
pub(crate) fn can_listen(address: &LocalAddress) -> io::Result<()> {
    let name = name_of(address)?;
    let bound = Socket::new(Domain::UNIX, Type::STREAM, None)?.bind(&name);
    match (address, bound) {
        (LocalAddress::Path(path), Ok(())) => fs::remove_file(path),
        (LocalAddress::Path(path), Err(error)) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = |found: fs::Metadata| found.file_type().is_socket();
            match fs::symlink_metadata(path).map(is_socket) {
                Ok(true) if is_left_behind(path, &name) => Ok(()),
                Ok(false) => Err(io::Error::other("there is a file that is no socket")),
                _ => Err(error),
            }
        }
        (_, bound) => bound,
    }
}

/// Whether the name is that of a socket without a listener.
fn is_left_behind(path: &Path, name: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let connected = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|probe| {
        // A socket whose queue is full has a listener as well.
        probe.set_nonblocking(true)?;
        probe.connect(name)
    });
    is_socket && connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
