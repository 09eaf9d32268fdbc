//! What `haul serve` says when it starts.

use std::net::{IpAddr, SocketAddr};

use haul::diagnostics::say;
use haul::internals::host_name as kernel_host_name;
use haul::server::config::ServeConfig;

/// Says what is served, where, and how to reach it.
pub(super) fn announce(config: &ServeConfig, addresses: &[SocketAddr]) {
    let root = config
        .root
        .canonicalize()
        .unwrap_or_else(|_| config.root.clone());
    let (hot, cold) = (config.workers, config.disk_workers);
    say(format_args!(
        "haul {} serves {}",
        env!("CARGO_PKG_VERSION"),
        root.display()
    ));
    say(format_args!(
        "with {hot} workers and {cold} disk workers, for up to {} connections",
        config.limits.connections
    ));
    for address in addresses {
        let host = match address.ip() {
            ip if ip.is_unspecified() => host_name(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        say(format_args!("  http://{host}:{}/", address.port()));
    }
    let is_local = addresses.iter().all(|address| address.ip().is_loopback());
    if is_local && !addresses.is_empty() {
        let port = addresses.first().map_or(0, SocketAddr::port);
        say(format_args!(
            "only this host can reach it; for the network: --listen 0.0.0.0:{port}"
        ));
    }
    for address in addresses {
        say(format_args!("listening on {address}"));
    }
    for address in &config.listen_local {
        say(format_args!("listening on {address}"));
    }
}

fn host_name() -> String {
    kernel_host_name().unwrap_or_else(|| "localhost".into())
}
