//! `--digests all`: every file beneath the root, again and again.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::digest::Wanted;
use crate::http::Target;
use crate::server::digests::service::DigestService;
use crate::server::files::{Found, LookUp, Root};
use crate::sys::directory::{Directory, EntryKind};
use crate::sys::file::Blocking;
use crate::sys::process;

/// Has the digests of all files computed that are not known, until `stopped`. Links are served but
/// not followed here: what they lead to is hashed when it is asked for.
pub(crate) fn follow_tree(service: &DigestService, root: &Root, stopped: &Receiver<()>) {
    process::have_least_priority();
    loop {
        let mut directories = vec![Vec::new()];
        while let Some(path) = directories.pop() {
            if walk(service, root, &path, &mut directories, stopped).is_none() {
                return;
            }
        }
        if stopped.recv_timeout(RESCAN) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Goes through one directory; `None` at the end of the server.
fn walk(
    service: &DigestService,
    root: &Root,
    path: &[u8],
    directories: &mut Vec<Vec<u8>>,
    stopped: &Receiver<()>,
) -> Option<()> {
    let handle = match look_up(root, path) {
        LookUp::Found(Found::Directory(handle)) => handle,
        LookUp::Found(Found::Names(names)) => {
            let mut names = names.iter();
            return names.try_for_each(|name| have_digest(service, root, name, stopped));
        }
        _ => return Some(()),
    };
    let opened = handle.open(Blocking::Allowed);
    let Ok(mut directory) = opened.and_then(|file| Directory::new(file.into())) else {
        return Some(());
    };
    while let Some(Ok(entry)) = directory.next_entry() {
        let below = match path {
            [] => entry.name.clone(),
            _ => [path, b"/", &entry.name].concat(),
        };
        let kind = match entry.kind {
            EntryKind::Unknown => directory.stat(&entry.name).map(|facts| facts.kind),
            kind => Ok(kind),
        };
        match kind {
            Ok(EntryKind::Directory) => directories.push(below),
            Ok(EntryKind::File) => have_digest(service, root, &below, stopped)?,
            _ => {}
        }
    }
    Some(())
}

/// Has a file's digests made; `None` at the end of the server.
fn have_digest(
    service: &DigestService,
    root: &Root,
    path: &[u8],
    stopped: &Receiver<()>,
) -> Option<()> {
    let LookUp::Found(Found::File(file)) = look_up(root, path) else {
        return Some(());
    };
    service.find(&file, ALL, Blocking::Allowed);
    drop(file);
    wait_for_room(service, stopped)
}

/// Leaves room in the line for files that are asked for.
fn wait_for_room(service: &DigestService, stopped: &Receiver<()>) -> Option<()> {
    while service.waiting() >= FEW_WAITING {
        if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            return None;
        }
    }
    (!service.is_shut()).then_some(())
}

fn look_up(root: &Root, path: &[u8]) -> LookUp {
    let target = Target {
        path: path.to_vec(),
        trailing_slash: false,
    };
    root.look_up(&target, Blocking::Allowed)
}

const ALL: Wanted = Wanted {
    sha256: true,
    sha512: false,
    blake3: true,
};

/// How often the tree is gone through for what has changed.
const RESCAN: Duration = Duration::from_secs(15 * 60);
const FEW_WAITING: usize = 4;
const LOOK: Duration = Duration::from_millis(20);
