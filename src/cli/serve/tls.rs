//! The options of TLS that the server has.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use haul::internals::host_name;
use haul::server::config::{
    ClientAuth, IdentityFiles, KernelTlsChoice, OwnIdentity, ServeConfig, TlsConfig,
};

use crate::cli::values::listen_address;

/// HTTPS: listeners, certificates, clients.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsArgs {
    /// Address to listen on for HTTPS; may be repeated. Wants a certificate, or --tls-self
    #[arg(long, env = "HAUL_LISTEN_TLS", value_name = "[HOST:]PORT",
        value_parser = listen_address, value_delimiter = ',')]
    pub(super) listen_tls: Vec<SocketAddr>,

    /// Certificate chain in PEM, the server's own certificate first; may be repeated, each with its
    /// --tls-key. A client gets the one for the host that it names, else the first
    #[arg(
        long = "tls-cert",
        env = "HAUL_TLS_CERT",
        value_name = "FILE",
        value_delimiter = ','
    )]
    certificates: Vec<PathBuf>,

    /// Private key of the certificate, in PEM without a passphrase
    #[arg(
        long = "tls-key",
        env = "HAUL_TLS_KEY",
        value_name = "FILE",
        value_delimiter = ','
    )]
    keys: Vec<PathBuf>,

    /// Use a key of haul's own, made once and kept in the state directory (--state). The start shows
    /// its pin, which clients trust in the place of a certificate: haul get --pin, curl
    /// --pinnedpubkey
    #[arg(id = "tls_self", long = "tls-self", env = "HAUL_TLS_SELF")]
    own: bool,

    /// Issuers of client certificates, in PEM: each client is requested to send one
    #[arg(
        id = "tls_client_ca",
        long = "tls-client-ca",
        env = "HAUL_TLS_CLIENT_CA",
        value_name = "FILE"
    )]
    client_ca: Option<PathBuf>,

    /// Whether a client must have a certificate
    #[arg(
        id = "tls_client_auth",
        long = "tls-client-auth",
        env = "HAUL_TLS_CLIENT_AUTH",
        value_name = "CHOICE",
        default_value = "require",
        requires = "tls_client_ca"
    )]
    client_auth: ClientAuthArg,

    /// Whether the kernel seals and opens the records of large responses, which then leave by
    /// sendfile(2) as in plain text (kernel TLS). The start says what the kernel can; what it cannot
    /// stays in haul. Its speed was not measured: try both
    #[arg(
        long = "ktls",
        env = "HAUL_KTLS",
        value_name = "CHOICE",
        default_value = "auto"
    )]
    kernel: KernelTlsArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KernelTlsArg {
    /// Where the kernel can (Linux with the module `tls`)
    Auto,
    /// Never
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientAuthArg {
    /// No connection without
    Require,
    /// With or without; one that is shown has to be good
    Allow,
}

impl TlsArgs {
    /// Whether the kernel may take sessions over.
    pub(super) fn kernel(&self) -> KernelTlsChoice {
        match self.kernel {
            KernelTlsArg::Auto => KernelTlsChoice::Auto,
            KernelTlsArg::Off => KernelTlsChoice::Off,
        }
    }

    /// What they mean; a key of the server's own is kept in `state`.
    pub(super) fn config(&self, state: Option<PathBuf>) -> Result<TlsConfig, String> {
        if self.certificates.len() != self.keys.len() {
            return Err("each --tls-cert takes a --tls-key, in the same order".into());
        }
        let pairs = self.certificates.iter().zip(&self.keys);
        Ok(TlsConfig {
            identities: pairs
                .map(|(certificate, key)| IdentityFiles {
                    certificate: certificate.clone(),
                    key: key.clone(),
                })
                .collect(),
            own: self.own.then(|| OwnIdentity {
                directory: state,
                names: own_names(),
            }),
            client_ca: self.client_ca.clone(),
            client_auth: match self.client_auth {
                ClientAuthArg::Require => ClientAuth::Require,
                ClientAuthArg::Allow => ClientAuth::Allow,
            },
        })
    }
}

/// Checks that there is a certificate exactly where one is needed.
pub(super) fn check(config: &ServeConfig) -> Result<(), String> {
    let is_inherited = config.inherited.iter().any(|it| it.speaks_tls());
    let has_identity = config.tls.own.is_some() || !config.tls.identities.is_empty();
    match (is_inherited || !config.listen_tls.is_empty(), has_identity) {
        (true, false) => {
            Err("TLS wants a certificate: --tls-cert with --tls-key, or --tls-self".into())
        }
        (false, true) => Err("a certificate is of no use without --listen-tls".into()),
        _ => Ok(()),
    }
}

/// The name of this host, by gethostname(2).
fn own_names() -> Vec<String> {
    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    local.into_iter().chain(host_name()).collect()
}
