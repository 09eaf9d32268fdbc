//! The lines of `haul serve` at its start.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use haul::diagnostics::{say, shell};
use haul::internals::{host_name as kernel_host_name, percent_encode_component};
use haul::server::config::ServeConfig;
use haul::server::{Pin, Server};

/// What a server says of itself once it is ready.
#[derive(Debug)]
pub(super) struct Announcement {
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    /// Of the last certificate's key.
    pin: Option<Pin>,
    admin: Option<SocketAddr>,
}

impl Announcement {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            addresses: server.local_addrs().to_vec(),
            tls_addresses: server.tls_addrs().to_vec(),
            pin: server.pins().pop(),
            admin: server.admin_addr(),
        }
    }

    /// Prints what is served, where, and how to reach it.
    pub(super) fn say(&self, config: &ServeConfig) {
        let addresses = &self.addresses;
        let (hot, cold) = (config.workers, config.disk_workers);
        say(format_args!(
            "haul {} serves {}",
            env!("CARGO_PKG_VERSION"),
            what_is_served(config)
        ));
        say(format_args!(
            "with {hot} workers and {cold} disk workers, for up to {} connections",
            config.limits.connections
        ));
        for address in addresses {
            let is_tls = self.tls_addresses.contains(address);
            say(format_args!("  {}", origin_of(address, is_tls)));
        }
        if let Some(address) = addresses.first() {
            let is_tls = self.tls_addresses.contains(address);
            announce_files(&config.files, &origin_of(address, is_tls));
        }
        if config.tls.own.is_some()
            && let (Some(pin), Some(address)) = (&self.pin, self.tls_addresses.first())
        {
            say(format_args!(
                "whoever is to trust this server's own key fetches by\n  haul get --pin {pin} {}FILE",
                origin_of(address, true)
            ));
        }
        let is_local = addresses.iter().all(|address| address.ip().is_loopback());
        if let Some(address) = addresses.first().filter(|_| is_local) {
            let option = match self.tls_addresses.contains(address) {
                true => "--listen-tls",
                false => "--listen",
            };
            say(format_args!(
                "only this host can reach it; for the network: {option} 0.0.0.0:{}",
                address.port()
            ));
        }
        for address in addresses {
            say(format_args!("listening on {address}"));
        }
        for address in &config.listen_local {
            say(format_args!("listening on {address}"));
        }
        if let Some(address) = &self.admin {
            say(format_args!("admin on http://{address}/"));
        }
    }
}

fn what_is_served(config: &ServeConfig) -> String {
    match &config.files[..] {
        [] => {
            let root = config.root.canonicalize();
            let root = root.unwrap_or_else(|_| config.root.clone());
            root.display().to_string()
        }
        [file] => shell::quote(file.as_os_str().as_bytes()),
        files => format!("{} files", files.len()),
    }
}

/// `http://host:port/`, as other hosts reach it.
fn origin_of(address: &SocketAddr, is_tls: bool) -> String {
    let host = match address.ip() {
        ip if ip.is_unspecified() => host_name(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{host}:{}/", address.port())
}

/// Says how to fetch the files.
fn announce_files(files: &[PathBuf], origin: &str) {
    for file in files.iter().take(MAX_FILES) {
        announce_file(file, origin);
    }
    if files.len() > MAX_FILES {
        say(format_args!("  and {} more", files.len() - MAX_FILES));
    }
}

fn announce_file(file: &Path, origin: &str) {
    let name = file.file_name().unwrap_or_default().as_bytes();
    let escaped: String = percent_encode_component(name).collect();
    let output = match escaped.as_bytes() == name {
        true => "-fOC -".to_owned(),
        // By its URL curl would name it as it is escaped.
        false => format!("-fC - -o {}", shell::quote(name)),
    };
    say(format_args!("  haul get '{origin}{escaped}'"));
    say(format_args!("  curl {output} '{origin}{escaped}'"));
}

fn host_name() -> String {
    kernel_host_name().unwrap_or_else(|| "localhost".into())
}

/// Files whose commands are printed: as many as a screen has room for.
const MAX_FILES: usize = 10;
