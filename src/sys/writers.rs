//! Whether a process may be writing a file.

use std::fs::File;

/// Whether the file is open for writing, mappings included: a shared mapping keeps its file open,
/// and writes through it leave the time stamps unchanged while the page is dirty. `None` where the
/// system does not report it: it does for files of the calling user, and with `CAP_LEASE` for all.
pub(crate) fn has_writer(file: &File) -> Option<bool> {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    {
        lease::has_writer(file)
    }
    #[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
    {
        let _ = file;
        None
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod lease {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    use nix::errno::Errno;
    use nix::libc::{F_RDLCK, F_SETLEASE, F_UNLCK, SIGURG, c_int, fcntl};

    /// A read lease is refused while there is a writer (fcntl(2)); it is returned at once.
    pub(super) fn has_writer(file: &File) -> Option<bool> {
        // An opening for writing meanwhile sends this signal instead of SIGIO, which kills.
        call(file, F_SETSIG, SIGURG).ok()?;
        match call(file, F_SETLEASE, c_int::from(F_RDLCK as i16)) {
            Ok(()) => {
                let _ = call(file, F_SETLEASE, c_int::from(F_UNLCK as i16));
                Some(false)
            }
            Err(Errno::EAGAIN) => Some(true),
            Err(_) => None,
        }
    }

    fn call(file: &File, command: c_int, argument: c_int) -> Result<(), Errno> {
        // SAFETY: the descriptor is open while `file` is borrowed, and these commands take a number.
        #[allow(unsafe_code)]
        let result = unsafe { fcntl(file.as_raw_fd(), command, argument) };
        Errno::result(result).map(drop)
    }

    /// As in asm-generic/fcntl.h; `libc` lacks it.
    const F_SETSIG: c_int = 10;
}

#[cfg(all(test, target_os = "linux", not(feature = "portable")))]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_writer_as_long_as_it_is_open_for_writing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(has_writer(&reader), Some(true));
        drop(writer);
        assert_eq!(has_writer(&reader), Some(false));
        // The lease was returned: no writer waits for it.
        File::options().write(true).open(&path).unwrap();
    }
}
