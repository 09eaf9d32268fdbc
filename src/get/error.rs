//! Failures of a download: the kind, and whether another attempt can help.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::source::HttpUrl;

/// The kind of a failure; each has an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The user stopped it.
    Interrupted,
    /// The command makes no sense.
    Usage,
    /// The server does not have the file, or does not give it to us.
    NotFound,
    /// The server cannot be reached, or breaks the protocol.
    Network,
    /// The file is not whole: the line broke, or the file kept changing.
    Incomplete,
    /// A file or directory on this side.
    LocalFile,
    /// The bytes are not the expected ones.
    Verification,
    /// A server's certificate is not trusted, or a redirect leads from https to http.
    Untrusted,
}

impl ErrorKind {
    /// The exit status of a failed download, as `haul get --help` lists them.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Network => 4,
            Self::Incomplete => 5,
            Self::LocalFile => 6,
            Self::Verification => 7,
            Self::Untrusted => 8,
            Self::Interrupted => 130,
        }
    }
}

/// Whether the same request can go well later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    /// The run ends: interrupted, or its time is over.
    Stopped,
    Later,
    /// Bytes arrived too slowly, and do not count as progress.
    Slow,
    /// No connection was established, now or before, to this host and port.
    Unreached,
    /// After the server's `Retry-After`.
    After(Duration),
}

/// A failed download: the text says what happened and what to do.
#[derive(Clone, Debug)]
pub struct GetError {
    /// The kind, which decides the exit code.
    pub kind: ErrorKind,
    pub(super) retry: Retry,
    /// The server's answer, where that is the failure.
    pub(super) status: Option<u16>,
    /// The directory that an address turned out to be.
    pub(super) directory: Option<Box<HttpUrl>>,
    /// The metalink that it turned out to be.
    pub(super) metalink: Option<Box<HttpUrl>>,
    text: String,
}

impl GetError {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            retry: Retry::Never,
            status: None,
            directory: None,
            metalink: None,
            text: text.into(),
        }
    }

    /// An error of the network that trying again may cure.
    pub(super) fn passing(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            retry: Retry::Later,
            status: None,
            directory: None,
            metalink: None,
            text: text.into(),
        }
    }

    /// An address that was to be a file's.
    pub(super) fn directory(asked: &HttpUrl, found: HttpUrl) -> Self {
        let text = format!(
            "{asked} is a directory: --recursive fetches what is in it, -o FILE the page about it"
        );
        Self {
            directory: Some(Box::new(found)),
            ..Self::new(ErrorKind::Usage, text)
        }
    }

    /// The address is a metalink, which leads to other addresses.
    pub(super) fn metalink(found: HttpUrl) -> Self {
        let text = format!("{found} is a metalink: -o FILE fetches the document itself");
        Self {
            metalink: Some(Box::new(found)),
            ..Self::new(ErrorKind::Usage, text)
        }
    }

    pub(super) fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted").with_retry(Retry::Stopped)
    }

    /// The run ends.
    pub(super) fn is_stop(&self) -> bool {
        self.retry == Retry::Stopped
    }

    /// The system gives this process no more threads.
    pub(super) fn no_thread(error: &io::Error) -> Self {
        let text = format!(
            "cannot start a thread: {error}: the user or the group may have no more (ulimit -u, pids.max)"
        );
        Self::new(ErrorKind::LocalFile, text)
    }

    /// An error of the file system at `path`.
    pub(super) fn local(doing: &str, path: &Path, error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ": make room and run the same command again; it goes on where it stopped, if the \
                 server can"
            }
            io::ErrorKind::InvalidFilename => ": the name is too long here, choose one with -o",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ": choose another place with -o or --directory"
            }
            io::ErrorKind::FileTooLarge => {
                ": files here may not be as large, by ulimit -f or by the file system; choose \
                 another place with -o or --directory"
            }
            _ => "",
        };
        Self::new(
            ErrorKind::LocalFile,
            format!("cannot {doing} {}: {error}{advice}", path.display()),
        )
    }

    pub(super) fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    pub(super) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same error with where it happened.
    pub(super) fn at(mut self, place: &str) -> Self {
        if !self.text.contains(place) {
            self.text = format!("{place}: {}", self.text);
        }
        self
    }

    /// The same error with more text.
    pub(super) fn and(mut self, more: impl fmt::Display) -> Self {
        self.text = format!("{}; {more}", self.text);
        self
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::names::printable(&self.text))
    }
}

impl std::error::Error for GetError {}
