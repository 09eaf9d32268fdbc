//! `--check`.

use std::process::ExitCode;

use haul::diagnostics::say;
use haul::server::check::{Finding, check};
use haul::server::config::ServeConfig;

/// Prints the obstacles of a start, one a line.
pub(super) fn run(config: ServeConfig) -> ExitCode {
    let findings = check(config);
    let mut would_work = true;
    for finding in &findings {
        match finding {
            Finding::Fault(error) => {
                would_work = false;
                say(format_args!("haul: {error}"));
            }
            Finding::InUse(address) => say(format_args!(
                "haul: {address} is in use, by the running server or another program: not tried"
            )),
            Finding::Warning(warning) => say(format_args!("haul: {warning}")),
        }
    }
    match would_work {
        true => {
            say(format_args!("haul: a start would work"));
            ExitCode::SUCCESS
        }
        false => ExitCode::FAILURE,
    }
}
