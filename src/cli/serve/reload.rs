//! SIGHUP: the settings that are read again while the server runs.

use haul::diagnostics::say;
use haul::server::Handle;

use super::config_file::ConfigFile;

/// A running server, and the file of its settings, if it has one.
pub(super) struct Reload {
    pub(super) handle: Handle,
    pub(super) config_file: Option<ConfigFile>,
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
            Ok(true) => {
                say(format_args!("certificates loaded anew"));
                for warning in self.handle.certificate_warnings() {
                    say(format_args!("haul: {warning}"));
                }
            }
            Ok(false) => {}
            Err(error) => say(format_args!(
                "haul: the certificates stay as they were: {error}"
            )),
        }
        if let Some(file) = &self.config_file {
            self.reread(file);
        }
    }

    fn reread(&self, file: &ConfigFile) {
        let reread = match file.reread(self.open_files, self.workers) {
            Ok(reread) => reread,
            Err(error) => {
                say(format_args!(
                    "haul: {error}; the settings stay as they were"
                ));
                return;
            }
        };
        self.handle.set_limits(&reread.rates, &reread.limits);
        let path = file.path().display();
        say(format_args!("rates and limits loaded anew from {path}"));
        if !reread.at_next_start.is_empty() {
            let names = reread.at_next_start.join(", ");
            say(format_args!(
                "haul: {path}: {names} counts at the next start"
            ));
        }
    }
}
