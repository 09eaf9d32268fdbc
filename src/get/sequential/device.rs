//! A device or FIFO that is written to: a wait for its reader ends as any other.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::get::client::cancellation::{Cancellation, TICK};
use crate::get::error::GetError;
use crate::sys::poll::{Direction, wait_ready};
use crate::sys::receive;

/// A device or FIFO, or an open file by its name.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
    cancellation: Cancellation,
}

impl Device {
    /// Opens it, once a FIFO has a reader.
    ///
    /// # Errors
    /// LocalFile: it cannot be opened. Interrupted.
    pub(crate) fn open(path: &Path, cancellation: Cancellation) -> Result<Self, GetError> {
        loop {
            let opened = receive::open_device(path);
            match opened.map_err(|error| GetError::local("open", path, &error))? {
                Some(file) => return Ok(Self { file, cancellation }),
                None => cancellation.sleep(TICK)?,
            }
        }
    }

    /// Standard output, if it is a pipe: opened anew, so that no other program that has it must
    /// write without blocking too.
    pub(crate) fn standard_output(cancellation: Cancellation) -> Option<Self> {
        let path = Path::new("/dev/stdout");
        if !path.metadata().ok()?.file_type().is_fifo() {
            return None;
        }
        let file = receive::open_device(path).ok()??;
        Some(Self { file, cancellation })
    }
}

impl Write for Device {
    /// Fails with a [`GetError`] inside once there is a reason to end.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.cancellation.check().map_err(io::Error::other)?;
                    wait_ready(&[(self.file.as_fd(), Direction::Write)], TICK)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
