//! The pages of a file that are in the page cache.

use std::fs::File;
use std::io;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use crate::sys::resources;

/// The presence of an extent in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// Every page looked at is there and up to date.
    Resident,
    /// A page is missing or being read.
    Absent,
    /// The file system does not report it.
    Unknown,
}

/// Looks whether the bytes from `offset` on are in the page cache, without waiting and without
/// reading them in.
///
/// The kernel counts the pages in the cache, complete or not (`cachestat(2)`, Linux 6.5). The last
/// page, which sequential reads reach last, and random ones are then probed with
/// `preadv2(RWF_NOWAIT)`, which refuses a page that is still being read (readv(2)). Where pages are
/// not counted, or not without write permission, more are probed: a client could have read fixed
/// ones beforehand.
#[must_use]
pub fn residency(file: &File, offset: u64, len: u64) -> Residency {
    let Some(last) = (offset + len).checked_sub(1).filter(|_| len > 0) else {
        return Residency::Resident;
    };
    let samples = match are_all_cached(file, offset, len) {
        Some(false) => return Residency::Absent,
        Some(true) => COUNTED_SAMPLES,
        None => SAMPLES,
    };
    let random = (0..samples).map(|_| fastrand::u64(offset..=last));
    let found = std::iter::once(last)
        .chain(random)
        .find_map(|at| match probe(file, at) {
            Residency::Resident => None,
            other => Some(other),
        });
    found.unwrap_or(Residency::Resident)
}

/// Without Linux's `RWF_NOWAIT` it cannot be known.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
fn probe(_: &File, _: u64) -> Residency {
    Residency::Unknown
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn probe(file: &File, offset: u64) -> Residency {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut byte = [0];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    match preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
        // Zero is the end of the file, or a quirk of Linux 5.9 and 5.10; the send finds out.
        Ok(_) => Residency::Resident,
        Err(Errno::AGAIN) => Residency::Absent,
        Err(_) => Residency::Unknown,
    }
}

/// Only Linux counts them.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
fn are_all_cached(_: &File, _: u64, _: u64) -> Option<bool> {
    None
}

/// Whether all pages of the bytes are in the page cache, those being read included
/// (`cachestat(2)`). `None` where the kernel does not report it, or keeps the content elsewhere
/// (DAX).
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn are_all_cached(file: &File, offset: u64, len: u64) -> Option<bool> {
    use nix::libc;
    use std::os::fd::AsRawFd as _;

    /// `struct cachestat_range` of linux/mman.h.
    #[repr(C)]
    struct Range {
        offset: u64,
        len: u64,
    }
    /// `struct cachestat` of linux/mman.h.
    #[repr(C)]
    #[derive(Default)]
    struct Counts {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    let range = Range { offset, len };
    let mut counts = Counts::default();
    // SAFETY: both structures have the kernel's layout, and outlive the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.as_raw_fd(),
            &raw const range,
            &raw mut counts,
            0,
        )
    };
    let page = resources::page_bytes();
    let pages = (offset + len).div_ceil(page) - offset / page;
    (result == 0 && counts.cached > 0).then_some(counts.cached >= pages)
}

/// Reads what is in the page cache, without waiting (`preadv2(RWF_NOWAIT)`, readv(2)). `None` if
/// some of it is not there.
///
/// # Errors
/// As readv(2); `Unsupported` if the file system does not report it.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn read_resident(
    file: &File,
    bytes: &mut [u8],
    offset: u64,
) -> io::Result<Option<usize>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let wanted = bytes.len();
    let mut buffers = [io::IoSliceMut::new(bytes)];
    match preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
        // A short count may be the end of the file or of the resident pages: a blocking read finds
        // out.
        Ok(count) if count < wanted => Ok(None),
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        // The file system does not support the flag, or a filter refuses the call (seccomp(2)).
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Without Linux's `RWF_NOWAIT` it cannot be known.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) fn read_resident(_: &File, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Takes pages that were sent out of the page cache (`POSIX_FADV_DONTNEED`, posix_fadvise(2)).
pub fn drop_behind(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

/// Asks the kernel to read an extent in, without waiting for it (`POSIX_FADV_WILLNEED`).
pub(crate) fn will_need(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(len) {
        let _ = rustix::fs::fadvise(file, offset, Some(len), rustix::fs::Advice::WillNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}

/// The same number on all architectures, which crates do not name for all.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) const SYS_CACHESTAT: nix::libc::c_long = 451;

/// Random probes where all pages are counted as cached: a readahead under way in half of an extent
/// is found with probability 0.94, in 128 KiB of its 2 MiB with 0.23, at its end always.
const COUNTED_SAMPLES: usize = 4;

/// Random probes where the kernel does not count pages: one missing page in three is found with
/// probability 0.96. Each costs 0.9 µs, and sending an extent 70; probing every page would cost
/// more than sending it.
const SAMPLES: usize = 8;

#[cfg(all(test, target_os = "linux", not(feature = "portable")))]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn one_missing_page_is_found() {
        let page = resources::page_bytes();
        let pages = 64;
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![1; (page * pages) as usize]).expect("a file");
        let file = File::open(&path).expect("the file");
        file.sync_all().expect("written");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).expect("advice");
        drop_behind(&file, 0, page * pages);
        for number in (0..pages).filter(|&number| number != 7) {
            file.read_at(&mut [0], number * page).expect("read");
        }
        // A blocking read would bring the page into the cache (Linux 6.18).
        let told = [6, 7].map(|number| are_all_cached(&file, number * page, page));
        if told != [Some(true), None] {
            let reason = "skipped: this kernel or file system does not count cached pages";
            return writeln!(io::stderr(), "{reason}").expect("standard error");
        }
        assert_eq!(residency(&file, 0, page * pages), Residency::Absent);
        assert_eq!(residency(&file, 0, page * 7), Residency::Resident);
        assert_eq!(residency(&file, 7 * page + 1, page), Residency::Absent);
        assert_eq!(residency(&file, 8 * page, page * 56), Residency::Resident);
    }
}
