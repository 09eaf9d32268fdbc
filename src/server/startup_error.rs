//! Why a server cannot start, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::server::config::{AdminAddress, LocalAddress};
use crate::server::files::FileFault;
use crate::server::shared::RootError;
use crate::sys::resources::is_out_of_files;
use crate::tls::identity::IdentityError;

/// Why a server cannot start. The error is for the operator: which path, which address, what to do.
#[derive(Debug)]
pub enum StartupError {
    /// The root cannot be opened.
    Root(PathBuf, io::Error),
    /// A file cannot be served by its name.
    File(PathBuf, FileFault),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A Unix socket cannot be listened on.
    ListenLocal(LocalAddress, io::Error),
    /// A socket that was passed on cannot be used; its name.
    Inherited(String, io::Error),
    /// The admin interface cannot listen.
    Admin(AdminAddress, io::Error),
    /// The user cannot be changed to.
    User(io::Error),
    /// A certificate or a key cannot be used.
    Tls(IdentityError),
    /// The access log cannot be opened.
    AccessLog(io::Error),
    /// The sandbox is required, and a part of it cannot be had.
    Sandbox(String),
    /// A file of passwords or keys, or a glob, is invalid.
    Access(String),
    /// The system is out of descriptors, memory or threads.
    Resources(io::Error),
}

impl From<RootError> for StartupError {
    fn from(error: RootError) -> Self {
        match error {
            RootError::Directory(path, error) => Self::Root(path, error),
            RootError::File(path, fault) => Self::File(path, fault),
        }
    }
}

impl std::fmt::Display for StartupError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root(path, error) => {
                write!(formatter, "cannot serve {}: {error}; ", path.display())?;
                let parent = path.parent().filter(|_| path.is_file());
                match parent.map(|parent| Path::new(".").join(parent)) {
                    Some(directory) => {
                        write!(formatter, "serve its directory, {}", directory.display())
                    }
                    None => formatter.write_str("name a readable directory with --root"),
                }
            }
            Self::File(path, fault) => {
                write!(formatter, "cannot serve {}: {fault}", path.display())
            }
            Self::Listen(address, error) => {
                write!(formatter, "cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => formatter
                        .write_str("; another program has that port, choose one with --listen"),
                    io::ErrorKind::PermissionDenied => formatter.write_str(
                        "; ports below 1024 need a privilege, choose a higher one with --listen",
                    ),
                    io::ErrorKind::AddrNotAvailable => {
                        formatter.write_str("; this host has no such address, see `ip address`")
                    }
                    _ => Ok(()),
                }
            }
            Self::ListenLocal(address, error) => {
                write!(formatter, "cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => formatter
                        .write_str("; a program listens there, or it is a file that is no socket"),
                    _ => Ok(()),
                }
            }
            Self::Inherited(name, error) => write!(
                formatter,
                "cannot listen on the socket `{name}` that was passed (LISTEN_FDS): {error}"
            ),
            Self::Admin(address, error) => {
                write!(
                    formatter,
                    "cannot listen on {address}: {error}; see --admin"
                )
            }
            Self::User(error) => {
                write!(formatter, "cannot become another user: {error}; see --user")
            }
            Self::Tls(error) => write!(formatter, "TLS: {error}"),
            Self::AccessLog(error) => {
                write!(
                    formatter,
                    "cannot write the access log: {error}; see --access-log"
                )
            }
            Self::Sandbox(missing) => {
                write!(
                    formatter,
                    "cannot be confined: {missing}; --sandbox auto goes on without"
                )
            }
            Self::Access(why) => formatter.write_str(why),
            // Of clone(2): no other call is made that waits for a moment.
            Self::Resources(error) if error.kind() == io::ErrorKind::WouldBlock => formatter
                .write_str(
                    "cannot start: the system has no more threads for it (ulimit -u, ulimit -v, \
                     systemd's TasksMax=); see --workers and --disk-workers",
                ),
            Self::Resources(error) if is_out_of_files(error) => write!(
                formatter,
                "cannot start: {error}; raise the limit with `ulimit -n` or systemd's \
                 LimitNOFILE=, or see --workers"
            ),
            Self::Resources(error) => write!(formatter, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartupError {}
