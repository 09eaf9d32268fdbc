//! Messages of a download to its display, in one direction only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::part_file::extents::Extent;

/// The number of a file, in the order of requests.
pub type FileId = usize;

/// Something that happened to one file.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The server has the file and sends it.
    Started {
        /// Which file.
        file: FileId,
        /// Where it will be.
        #[serde(serialize_with = "as_text")]
        name: PathBuf,
        /// The address.
        url: String,
        /// Bytes; `None` if unknown.
        length: Option<u64>,
        /// Bytes that an earlier run had fetched.
        resumed: u64,
    },
    /// How far it is; a few times a second.
    Progress {
        /// Which file.
        file: FileId,
        /// Bytes in the file.
        done: u64,
        /// Bytes; `None` if unknown.
        length: Option<u64>,
        /// Connections at work.
        connections: usize,
        /// Which bytes are there.
        #[serde(skip)]
        extents: Vec<Extent>,
    },
    /// A note for the user.
    Note {
        /// Which file.
        file: FileId,
        /// The text.
        text: String,
    },
    /// A failure that is tried again.
    Retry {
        /// Which file.
        file: FileId,
        /// The failure.
        text: String,
        /// Seconds to wait.
        wait: f64,
    },
    /// The file is whole and has its name.
    Finished {
        /// Which file.
        file: FileId,
        /// The outcome.
        #[serde(flatten)]
        summary: Summary,
    },
    /// The same file was there already.
    Skipped {
        /// Which file.
        file: FileId,
        /// Where it is.
        #[serde(serialize_with = "as_text")]
        name: PathBuf,
    },
    /// The file could not be had.
    Failed {
        /// Which file.
        file: FileId,
        /// Why, and what to do.
        text: String,
        /// The kind of failure.
        reason: super::error::ErrorKind,
        /// The status of the server's answer, where that is the failure.
        status: Option<u16>,
        /// The exit status that this failure has alone.
        exit_status: u8,
    },
    /// All bytes are there, and the rest of them is hashed; a few times a second.
    Verifying {
        /// Which file.
        file: FileId,
        /// Where it is.
        #[serde(serialize_with = "as_text")]
        name: PathBuf,
        /// Bytes that are hashed.
        done: u64,
        /// Bytes of the file.
        length: u64,
    },
    /// The run is over.
    Ended {
        /// The program's exit status.
        exit_status: u8,
    },
}

/// The outcome of a fetched file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Where the file is.
    #[serde(serialize_with = "as_text")]
    pub name: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes received in this run.
    pub received: u64,
    /// The time it took.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub elapsed: Duration,
    /// How often something was tried again.
    pub retries: u32,
    /// Whether a sum was compared.
    pub verified: bool,
}

/// A name that is not UTF-8 is no reason to lose the event.
fn as_text<S: serde::Serializer>(name: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&name.to_string_lossy())
}

fn as_seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}
