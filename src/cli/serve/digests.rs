//! `--digests` and what goes with it.

use clap::{Args, ValueEnum};

use haul::server::config::{DigestChoice, DigestPolicy};

use crate::cli::values::positive_size;

/// Digests of files.
#[derive(Args, Debug)]
#[command(next_help_heading = "Digests")]
pub(super) struct DigestArgs {
    /// Whose digests are computed: for Repr-Digest (RFC 9530), Digest (RFC 3230), and ?blocks, the
    /// list by which `haul get` checks each block as it comes
    #[arg(
        long,
        env = "HAUL_DIGESTS",
        value_name = "CHOICE",
        default_value = "asked"
    )]
    digests: DigestArg,

    /// Bytes a second that are read to hash them, of each of two file systems at the most
    #[arg(long, env = "HAUL_DIGEST_RATE", value_name = "SIZE", default_value = "256MiB",
        value_parser = positive_size)]
    digest_rate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DigestArg {
    /// No file's
    Off,
    /// A file's at its first request, which the client has to repeat
    Asked,
    /// All files' from the start on, and those of changed files as the system reports them
    /// (inotify), or each quarter of an hour: on network file systems, or with too few watches
    All,
}

impl DigestArgs {
    pub(super) fn policy(&self) -> DigestPolicy {
        DigestPolicy {
            choice: match self.digests {
                DigestArg::Off => DigestChoice::Off,
                DigestArg::Asked => DigestChoice::Asked,
                DigestArg::All => DigestChoice::All,
            },
            rate: self.digest_rate,
        }
    }
}
