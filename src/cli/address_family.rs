//! The options `-4` and `-6` of clients.

use haul::message::Family;

/// The address family that a client uses.
#[derive(clap::Args, Debug)]
pub(crate) struct FamilyArguments {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
}

impl FamilyArguments {
    pub(crate) fn family(&self) -> Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }
}
