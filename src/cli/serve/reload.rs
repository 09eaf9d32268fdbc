//! SIGHUP: the settings that are read again while the server runs.

use haul::diagnostics::say;
use haul::server::Handle;

use super::settings::Settings;

/// A running server, and the sources of its settings.
pub(super) struct Reload {
    pub(super) handle: Handle,
    pub(super) settings: Option<Settings>,
    pub(super) open_files: u64,
    pub(super) workers: usize,
}

impl Reload {
    /// Reads all reloadable settings again. A faulty one stays as it was, with a message.
    pub(super) fn run(&self) {
        self.handle.reopen_access_log();
        for error in self.handle.reload_access() {
            say(format_args!("haul: {error}; what was read before stays"));
        }
        match self.handle.reload_certificates() {
            Ok(true) => say(format_args!("certificates loaded anew")),
            Ok(false) => {}
            Err(error) => say(format_args!(
                "haul: the certificates stay as they were: {error}"
            )),
        }
        if let Some(settings) = &self.settings {
            self.reread(settings);
        }
    }

    fn reread(&self, settings: &Settings) {
        let reread = match settings.reread(self.open_files, self.workers) {
            Ok(reread) => reread,
            Err(error) => {
                say(format_args!(
                    "haul: {error}; the settings stay as they were"
                ));
                return;
            }
        };
        self.handle.set_limits(&reread.rates, &reread.limits);
        let path = settings.path().display();
        say(format_args!("rates and limits loaded anew from {path}"));
        if !reread.at_next_start.is_empty() {
            let names = reread.at_next_start.join(", ");
            say(format_args!(
                "haul: {path}: {names} counts at the next start"
            ));
        }
    }
}
