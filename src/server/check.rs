//! Whether a start would work, found out without one: nothing is listened on, made or changed.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::server::access::{Access, secret_files};
use crate::server::config::{AdminAddress, SandboxChoice, ServeConfig};
use crate::server::shared;
use crate::server::startup_error::StartupError;
use crate::server::telemetry::access_log::Destination;
use crate::server::thread_pool;
use crate::sys::file::{may_enter, may_write};
use crate::sys::poller::Poller;
use crate::sys::{local_socket, sandbox, socket};
use crate::tls::identity::{self, IdentityError};
use crate::tls::server::{ServerTls, TlsConfig};

/// A finding of the check.
#[derive(Debug)]
pub enum Finding {
    /// A start would fail.
    Fault(StartupError),
    /// An address is in use, perhaps by the server that is to be replaced.
    InUse(String),
    /// A start would work and say this.
    Warning(String),
}

/// The faults that a start would meet, and its warnings. The process takes the server's user and sandbox on, if there
/// are any: call it last.
#[must_use]
pub fn check(config: ServeConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    look_at_addresses(&config, &mut findings);
    let mut note = |result: Result<(), StartupError>| {
        findings.extend(result.err().map(Finding::Fault));
    };
    if let Some(user) = &config.user {
        note(user.assume().map_err(StartupError::User));
    }
    if let Destination::File(path) = &config.access_log {
        note(may_append(path).map_err(StartupError::AccessLog));
    }
    let mut warnings = secret_files::warnings(&config);
    note(secret_files::check(&config).map_err(StartupError::Access));
    let looked = look_at_tls(&config).map(|found| warnings.extend(found));
    note(looked.map_err(StartupError::Tls));
    let access = Access::load(&config, Arc::default());
    note(access.map(drop).map_err(StartupError::Access));
    let (closer, _closing) = crossbeam_channel::unbounded();
    let root = shared::open_root(&config, closer);
    note(root.map(drop).map_err(StartupError::from));
    if config.sandbox == SandboxChoice::Require {
        let entered = sandbox::enter(&config.allowed_paths());
        let missing = match entered {
            Ok(confinement) if confinement.holds() => None,
            Ok(confinement) => Some(confinement.to_string()),
            Err(error) => Some(format!("none: {error}")),
        };
        note(missing.map_or(Ok(()), |missing| Err(StartupError::Sandbox(missing))));
    }
    note(try_workers(&config).map_err(StartupError::Resources));
    findings.extend(warnings.into_iter().map(Finding::Warning));
    findings
}

fn look_at_addresses(config: &ServeConfig, findings: &mut Vec<Finding>) {
    let mut note = |address: &dyn fmt::Display,
                    tried: io::Result<()>,
                    fault: &dyn Fn(io::Error) -> StartupError| {
        match tried {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                findings.push(Finding::InUse(address.to_string()));
            }
            Err(error) => findings.push(Finding::Fault(fault(error))),
        }
    };
    for address in config.listen.iter().chain(&config.listen_tls) {
        let fault = |error| StartupError::Listen(*address, error);
        note(address, socket::can_listen(*address), &fault);
    }
    for address in &config.listen_local {
        let fault = |error| StartupError::ListenLocal(address.clone(), error);
        note(address, local_socket::can_listen(address), &fault);
    }
    if let Some(address) = &config.admin {
        let tried = match address {
            AdminAddress::Inet(address) => socket::can_listen(*address),
            AdminAddress::Local(address) => local_socket::can_listen(address),
        };
        note(address, tried, &|error| {
            StartupError::Admin(address.clone(), error)
        });
    }
}

/// Warnings of certificates that can be used; a key of the server's own is not made, but could be.
fn look_at_tls(config: &ServeConfig) -> Result<Vec<String>, IdentityError> {
    let tls = &config.tls;
    if let Some(own) = config.speaks_tls().then_some(tls.own.as_ref()).flatten() {
        let directory = own.directory.as_deref().ok_or(IdentityError::NoDirectory)?;
        if identity::find_own(directory)?.is_none() {
            may_make(directory)
                .map_err(|error| IdentityError::Own(directory.to_owned(), error.to_string()))?;
        }
    }
    if config.speaks_tls() && !tls.identities.is_empty() {
        let own = None;
        let tls = ServerTls::new(TlsConfig { own, ..tls.clone() }, None)?;
        return Ok(tls.warnings());
    }
    Ok(Vec::new())
}

/// Takes what the workers take, for a moment.
fn try_workers(config: &ServeConfig) -> io::Result<()> {
    let pollers = (0..=config.workers.get()).map(|_| Poller::new());
    let _pollers = pollers.collect::<io::Result<Vec<_>>>()?;
    let _workers = thread_pool::start("haul-check", config.workers.get())?;
    let _disk_workers = thread_pool::start("haul-check", config.disk_workers.get())?;
    Ok(())
}

/// Whether lines can be appended to a file, which need not be there.
fn may_append(path: &Path) -> io::Result<()> {
    if path.exists() {
        return may_write(path);
    }
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    may_enter(parent.unwrap_or_else(|| Path::new(".")))
}

/// Whether files can be made in a directory, which need not be there.
fn may_make(directory: &Path) -> io::Result<()> {
    let there = directory.ancestors().find(|it| it.exists());
    may_enter(there.unwrap_or_else(|| Path::new(".")))
}
