//! `--sandbox`.

use clap::ValueEnum;

use haul::server::config::SandboxChoice;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SandboxArg {
    /// As far as this kernel can (landlock(7), seccomp(2))
    Auto,
    /// Wholly, or not start
    Require,
    /// Not confined
    Off,
}

impl SandboxArg {
    pub(super) fn choice(self) -> SandboxChoice {
        match self {
            Self::Auto => SandboxChoice::Auto,
            Self::Require => SandboxChoice::Require,
            Self::Off => SandboxChoice::Off,
        }
    }
}
