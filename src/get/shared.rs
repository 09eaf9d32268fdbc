//! The state that all threads of a run share, and the reporter of one file.

pub(super) mod attempts;
pub(super) mod places;
pub(super) mod polling;
pub(super) mod rate;
pub(super) mod written;

use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::client::Client;
use super::client::body::{Body, Finished};
use super::client::cancellation::{Cancel, Cancellation};
use super::client::connection::Connection;
use super::config::GetConfig;
use super::error::{ErrorKind, GetError};
use super::event::{Event, FileId};
use super::part_file;
use super::source::Source;
use attempts::Attempts;
use places::Places;
use rate::RateLimit;
use written::{Owner, Written};

/// The state that all threads of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: GetConfig,
    pub(super) client: Client,
    pub(super) rate_limit: RateLimit,
    pub(super) cancel: Cancel,
    /// The end of `--max-time`.
    pub(super) end: Option<Instant>,
    pub(super) written: Written,
    pub(super) places: Places,
}

impl Shared {
    pub(super) fn cancellation(&self) -> Cancellation {
        Cancellation::new(self.cancel.clone(), self.config.stall_timeout, self.end)
    }

    pub(super) fn check(&self) -> Result<(), GetError> {
        self.cancellation().check()
    }

    /// Whether `target`'s part file cannot have its usual name, which another file of the run has
    /// or will have, or one of another program: see [`part_file::is_foreign`].
    pub(super) fn is_foreign_part(&self, target: &Path, source: &Source) -> bool {
        let is_known = |found: &_| self.written.owner(found, source) != Owner::Nobody;
        self.places.has_part_of(target) || part_file::is_foreign(target, is_known)
    }

    /// Whether `target` is another source's file of this run, or has been `source`'s already.
    ///
    /// # Errors
    /// LocalFile: two names of servers map to one file here, and the first one keeps it.
    pub(super) fn check_owner(&self, target: &Path, source: &Source) -> Result<Owner, GetError> {
        let owner = match target.symlink_metadata() {
            Ok(found) => self.written.owner(&found, source),
            Err(_) => Owner::Nobody,
        };
        if owner == Owner::Other {
            let path = target.display();
            let text = format!("{source}: another file of this run is {path} here: left out");
            return Err(GetError::new(ErrorKind::LocalFile, text));
        }
        Ok(owner)
    }
}

/// Tells the display of one file.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) file: FileId,
    pub(super) events: Sender<Event>,
    /// Its address, for texts of a run with several files.
    pub(super) about: Option<String>,
}

impl Reporter {
    pub(super) fn send(&self, event: impl FnOnce(FileId) -> Event) {
        // The download continues without a display.
        let _ = self.events.send(event(self.file));
    }

    pub(super) fn failed(&self, error: &GetError) -> (FileId, ErrorKind) {
        let (text, kind) = (self.told(error.to_string()), error.kind);
        self.send(|file| Event::Failed {
            file,
            text,
            reason: kind,
            status: error.status,
            exit_status: kind.exit_status(),
        });
        (self.file, kind)
    }

    pub(super) fn note(&self, text: String) {
        let text = self.told(text);
        self.send(|file| Event::Note { file, text });
    }

    /// Ends a whole body; notes an excess of bytes.
    pub(super) fn end_of(&self, body: Body) -> Option<Connection> {
        let Finished {
            connection,
            has_excess,
        } = body.finish();
        if has_excess {
            self.note("the server sent more bytes than it had promised: they are left out".into());
        }
        connection
    }

    pub(super) fn retry(&self, text: String, wait: Duration) {
        let text = self.told(text);
        self.send(|file| Event::Retry {
            file,
            text,
            wait: wait.as_secs_f64(),
        });
    }

    /// Says that a request failed, and waits until it is time for the next one.
    ///
    /// # Errors
    /// The failure itself, when another attempt is no use, or a stop.
    pub(super) fn wait(
        &self,
        attempts: &mut Attempts,
        error: GetError,
        kept: u64,
        cancellation: &Cancellation,
    ) -> Result<(), GetError> {
        let text = error.to_string();
        let wait = attempts.failed(error, kept)?;
        self.retry(text, wait);
        cancellation.sleep(wait)
    }

    /// `text`, with the file's address where it does not have it already.
    pub(super) fn told(&self, text: String) -> String {
        match &self.about {
            Some(about) if !text.contains(about.as_str()) => format!("{about}: {text}"),
            _ => text,
        }
    }
}
