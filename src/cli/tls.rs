//! The options of TLS that all clients have: how https servers are known.

use std::path::PathBuf;

use clap::Args;
use haul::diagnostics::say;
use haul::get::{ClientTls, Pin, Verification};

/// See [`ClientTls`].
#[derive(Args, Debug)]
pub(crate) struct TlsArguments {
    /// Trust https servers by the authorities in FILE (PEM) instead of the system's
    #[arg(long, value_name = "FILE", help_heading = TRUST, env = "HAUL_CACERT")]
    cacert: Option<PathBuf>,
    /// Trust only https servers with this key: sha256: and the digest of the public key, as printed
    /// by haul serve --tls-self; no authority is needed. May be repeated
    #[arg(long, value_name = "sha256:DIGEST", help_heading = TRUST)]
    pin: Vec<Pin>,
    /// Certificate for https servers that require one (PEM; the chain); only for the servers named
    /// here, not where they redirect to
    #[arg(long, value_name = "FILE", help_heading = TRUST, requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert (PEM)
    #[arg(long, value_name = "FILE", help_heading = TRUST, requires = "cert")]
    key: Option<PathBuf>,
    /// Trust any https server: the content may come from an attacker
    #[arg(long, help_heading = TRUST, conflicts_with_all = ["cacert", "pin"])]
    insecure: bool,
}

impl TlsArguments {
    /// Whether servers are known by their keys.
    pub(crate) fn has_pins(&self) -> bool {
        !self.pin.is_empty()
    }

    /// Reads the files that are named, and warns where nothing is checked.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(crate) fn read(&self) -> Result<ClientTls, String> {
        let verification = match self.insecure {
            true => Verification::Off,
            false => Verification::On,
        };
        if verification == Verification::Off {
            say(format_args!(
                "haul: warning: --insecure: https servers need not prove who they are, and what \
                 comes may be from anybody"
            ));
        }
        let identity = self.cert.as_deref().zip(self.key.as_deref());
        let (cacert, pins) = (self.cacert.as_deref(), self.pin.clone());
        ClientTls::new(cacert, pins, identity, verification)
    }
}

pub(crate) const TRUST: &str = "Whom https trusts";
