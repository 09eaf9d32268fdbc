//! `NAME.part` and its state file: what survives a kill, a full disk and a concurrent `haul get` of
//! the same file.
//!
//! The rules, each against one way to a wrong file:
//! - A part file is locked from before its first byte until its name is final.
//! - A state file claims extents only after their bytes are synced, and is replaced atomically.
//! - A fresh state is written before the part file gets its length, and is valid only for a part
//!   file of that length: no leftover state can vouch for an empty file.
//! - A part file with bytes and no state belongs to another program and is not touched; nor is one
//!   that another user owns or can write to, or that has a second link.

pub(super) mod extents;
pub(super) mod keep;
mod paths;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(super) mod validate;

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::sys::receive::{self, Missing};

use super::config::{Existing, Preallocation};
use super::error::{ErrorKind, GetError};
use super::names::STATE_SUFFIX;
use extents::Extents;
pub(super) use paths::{
    Slot, is_foreign, is_part_name, part_path, refuse_existing, refuse_unfinished, slots,
};
use paths::{beside, check_ours, directory_of, refuse_stranger};
pub(super) use state::State;

/// A locked part file.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    target: PathBuf,
    path: PathBuf,
    state_path: PathBuf,
    slot: Slot,
}

impl PartFile {
    /// Opens a part file of `target` that an earlier run left, with the valid part of its state.
    /// `None` when there is none.
    ///
    /// # Errors
    /// LocalFile: it is locked, not ours, or cannot be opened.
    pub(super) fn open_existing(
        target: &Path,
        slot: Slot,
    ) -> Result<Option<(Self, State)>, GetError> {
        let (path, _) = beside(target, slot);
        match path.symlink_metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(GetError::local("look at", &path, &error)),
        }
        let part = Self::open(target, slot, Missing::Fail)?;
        let state = part.load()?;
        Ok(Some((part, state)))
    }

    /// Makes a part file for `target`.
    ///
    /// # Errors
    /// LocalFile: it is locked, not ours, or cannot be made.
    pub(super) fn create(target: &Path, slot: Slot) -> Result<Self, GetError> {
        let part = Self::open(target, slot, Missing::Create)?;
        if target.symlink_metadata().is_ok_and(|found| found.is_file()) {
            // The part must not be readable by more users than the file; some file systems have no
            // modes.
            let _ = part.file.set_permissions(Permissions::from_mode(0o600));
        }
        part.load()?;
        Ok(part)
    }

    /// The file at `target` itself, to be repaired where it is.
    ///
    /// # Errors
    /// LocalFile: it is being repaired already, or cannot be written.
    pub(super) fn in_place(target: &Path) -> Result<Self, GetError> {
        Self::open(target, Slot::InPlace, Missing::Fail)
    }

    fn open(target: &Path, slot: Slot, missing: Missing) -> Result<Self, GetError> {
        let (path, state_path) = beside(target, slot);
        loop {
            let file = receive::open_regular(&path, missing)
                .map_err(|error| paths::not_opened("open", &path, &error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let text = format!(
                        "another haul get is fetching {}: wait for it, or choose another name with -o",
                        target.display()
                    );
                    return Err(GetError::new(ErrorKind::LocalFile, text));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(GetError::local("lock", &path, &error));
                }
            }
            // The last holder of the lock may have renamed the file just before its release.
            if is_at(&file, &path) {
                if slot != Slot::InPlace {
                    check_ours(&file, &path)?;
                }
                return Ok(Self {
                    file,
                    target: target.to_owned(),
                    path,
                    state_path,
                    slot,
                });
            }
            if missing == Missing::Fail {
                return Err(refuse_existing(target));
            }
        }
    }

    fn load(&self) -> Result<State, GetError> {
        let length = self.length()?;
        let path = &self.state_path;
        let text = match receive::open_regular(path, Missing::Fail) {
            Ok(file) => {
                check_ours(&file, path)?;
                let mut text = Vec::new();
                let read = file.take(MAX_STATE_BYTES).read_to_end(&mut text);
                read.map_err(|error| GetError::local("read", path, &error))?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && length == 0 => {
                return Ok(State::default());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refuse_stranger(&self.path));
            }
            Err(error) => return Err(paths::not_opened("read", path, &error)),
        };
        Ok(State::parse(&text, length))
    }

    /// Empties the file, reserves `length` bytes, and writes a state that claims nothing. The
    /// decision is that of `part_file::keep`.
    ///
    /// # Errors
    /// LocalFile, with advice when the disk is full; the room is given back.
    pub(super) fn begin(
        &self,
        state: &State,
        length: Option<u64>,
        preallocation: Preallocation,
    ) -> Result<(), GetError> {
        self.save(state)?;
        let length = length.unwrap_or(0);
        if self.slot == Slot::InPlace {
            return self.set_length(length);
        }
        let room = self.file.set_len(0).and_then(|()| match preallocation {
            Preallocation::On => receive::allocate(&self.file, length),
            Preallocation::Off => self.file.set_len(length),
        });
        room.map_err(|error| {
            let _ = self.file.set_len(0);
            GetError::local("make room for", &self.path, &error)
        })
    }

    /// Writes the state; its extents' bytes must be synced ([`Self::sync_data`]).
    ///
    /// # Errors
    /// LocalFile; the state before stays valid.
    pub(super) fn save(&self, state: &State) -> Result<(), GetError> {
        if self.slot == Slot::InPlace {
            return Ok(());
        }
        // No name from a server ends so, and no other target's state is called so.
        let mut next = self.state_path.clone().into_os_string();
        next.push(STATE_SUFFIX);
        let next = PathBuf::from(next);
        let text = serde_json::to_vec(state).map_err(|error| {
            GetError::local("write", &self.state_path, &io::Error::other(error))
        })?;
        let write = || {
            // A link that another user put here is not written through.
            let _ = fs::remove_file(&next);
            // Addresses and tags may be secrets that grant access to a file.
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&next, &self.state_path)
        };
        write().map_err(|error| {
            // Half a state on a full disk only takes room.
            let _ = fs::remove_file(&next);
            GetError::local("write", &self.state_path, &error)
        })
    }

    /// Punches out the last bytes that are `done`, and all behind them, to make room on the disk
    /// for a state file.
    ///
    /// # Errors
    /// Of ftruncate(2); the bytes are not `done` any more all the same.
    pub(super) fn give_back(&self, done: &mut Extents) -> io::Result<()> {
        if self.slot == Slot::InPlace {
            return Ok(());
        }
        let length = self.file.metadata()?.len();
        let end = done.as_slice().last().map_or(0, |&(_, end)| end);
        let cut = end.saturating_sub(STATE_ROOM_BYTES);
        done.remove(cut, end);
        self.file.set_len(cut)?;
        self.file.set_len(length)
    }

    /// Gives a file that is repaired where it is the length that it must have.
    ///
    /// # Errors
    /// LocalFile.
    pub(super) fn set_length(&self, length: u64) -> Result<(), GetError> {
        let set = self.file.set_len(length);
        set.map_err(|error| GetError::local("make room for", &self.path, &error))
    }

    /// Waits until the bytes written so far are on the disk.
    pub(super) fn sync_data(&self) -> Result<(), GetError> {
        self.file
            .sync_data()
            .map_err(|error| GetError::local("write", &self.path, &error))
    }

    /// Gives the file the owner and mode of the one whose place it takes. Without the right to the
    /// group, the new one's gets nothing.
    fn take_after_target(&self) {
        let (Ok(own), Ok(found)) = (self.file.metadata(), self.target.symlink_metadata()) else {
            return;
        };
        // Where others make files too, one of them may have made it to own the new one.
        let is_strangers = own.uid() != found.uid() && is_of_several_users(&self.target);
        if !found.is_file() || is_strangers {
            return;
        }
        let ids = |it: &fs::Metadata| (it.uid(), it.gid());
        let is_alike = ids(&own) == ids(&found)
            || fchown(&self.file, Some(found.uid()), Some(found.gid())).is_ok();
        let mode = match is_alike {
            true => found.mode() & 0o777,
            false => found.mode() & 0o707,
        };
        // Some file systems cannot: the bytes are what counts.
        let _ = self.file.set_permissions(Permissions::from_mode(mode));
    }

    /// The whole file gets its time, its place on the disk and its name, in this order.
    ///
    /// # Errors
    /// LocalFile: unless it may be replaced, a file that has appeared under the name stays
    /// and the part file too.
    pub(super) fn finish(
        self,
        modified: Option<SystemTime>,
        existing: Existing,
    ) -> Result<PathBuf, GetError> {
        let failed = |error| GetError::local("write", &self.path, &error);
        if let Some(modified) = modified {
            // Some file systems cannot: the bytes are what counts.
            let _ = self.file.set_modified(modified);
        }
        self.file.sync_all().map_err(failed)?;
        if !is_at(&self.file, &self.path) {
            // An unrelated file of that name, as from a tree with both NAME and NAME.part.
            let text = format!(
                "{} was replaced by somebody while it was written: run the same command again",
                self.path.display()
            );
            // Its state must not vouch for the other file's bytes; one in place has none.
            let _ = fs::remove_file(&self.state_path);
            return Err(GetError::new(ErrorKind::LocalFile, text));
        }
        if self.slot == Slot::InPlace {
            return Ok(self.target);
        }
        refuse_unfinished(&self.target)?;
        let renamed = match existing {
            Existing::Overwrite | Existing::Update => {
                self.take_after_target();
                fs::rename(&self.path, &self.target)
            }
            Existing::Refuse | Existing::Skip => receive::rename_new(&self.path, &self.target),
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => refuse_existing(&self.target),
            _ => GetError::local("name", &self.target, &error),
        })?;
        // A state without a part file is never valid.
        let _ = fs::remove_file(&self.state_path);
        let directory = directory_of(&self.target);
        receive::sync_directory(directory)
            .map_err(|error| GetError::local("sync", directory, &error))?;
        Ok(self.target)
    }

    /// Takes the part file away again.
    pub(super) fn discard(self) {
        if self.slot == Slot::InPlace {
            return;
        }
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.state_path);
    }

    /// Takes the place of `other`, which has less.
    pub(super) fn replace(mut self, other: &Self) -> Result<Self, GetError> {
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|error| GetError::local("name", to, &error))
        };
        // Between the two the older state claims fewer bytes than there are.
        rename(&self.path, &other.path)?;
        rename(&self.state_path, &other.state_path)?;
        self.path.clone_from(&other.path);
        self.state_path.clone_from(&other.state_path);
        self.slot = other.slot;
        Ok(self)
    }

    /// Goes to another slot of the target, which is free, unless it has nothing.
    fn move_to(mut self, slot: Slot, state: &State) -> Result<(), GetError> {
        if state.done.total() == 0 {
            self.discard();
            return Ok(());
        }
        let (path, state_path) = beside(&self.target, slot);
        if path.symlink_metadata().is_ok() {
            let error = GetError::local("name", &path, &io::ErrorKind::AlreadyExists.into());
            return Err(error.and("an unfinished download has it: finish that one first"));
        }
        // A state without a part file is never valid, nor is a part file without its state.
        let old_state_path = std::mem::replace(&mut self.state_path, state_path);
        self.save(state)?;
        let renamed = receive::rename_new(&self.path, &path);
        renamed.map_err(|error| GetError::local("name", &path, &error))?;
        let _ = fs::remove_file(old_state_path);
        Ok(())
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Where the file goes once it is whole.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn length(&self) -> Result<u64, GetError> {
        let metadata = self.file.metadata();
        Ok(metadata
            .map_err(|error| GetError::local("look at", &self.path, &error))?
            .len())
    }
}

/// Whether a directory is for files of several users: anybody may write it, or it is sticky.
fn is_of_several_users(target: &Path) -> bool {
    let directory = target.parent().filter(|it| !it.as_os_str().is_empty());
    let found = directory.unwrap_or_else(|| Path::new(".")).metadata();
    found.is_ok_and(|directory| directory.mode() & 0o1002 != 0)
}

/// Moves the part file that an earlier run left at `path`, which is to be another file's or a
/// directory's name, to where its own file looks for it next.
///
/// # Errors
/// LocalFile: a `haul get` is filling it, or there is a part file already where it would go.
pub(super) fn make_way(path: &Path) -> Result<(), GetError> {
    let Some(target) = paths::target_of(path) else {
        return Ok(());
    };
    let (_, state_path) = beside(&target, Slot::Part);
    if state_path.symlink_metadata().is_err() || path.is_dir() {
        return Ok(());
    }
    let Some((part, state)) = PartFile::open_existing(&target, Slot::Part)? else {
        // Its file got its name, and the state stayed.
        let _ = fs::remove_file(&state_path);
        return Ok(());
    };
    // A state that cannot be read may be another program's.
    if state.url.is_empty() {
        return Ok(());
    }
    if state.done.total() == 0 {
        part.discard();
        return Ok(());
    }
    if let Some((other, state)) = PartFile::open_existing(&target, Slot::New)? {
        other.move_to(Slot::Alternative, &state)?;
    }
    part.move_to(Slot::New, &state)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// The note when an earlier run's part file cannot be resumed.
pub(super) const NOT_RESUMED: &str =
    "what an earlier run left cannot be gone on with: the file is fetched anew beside it";
/// Some million extents; a longer state is cut, and thereby invalid. Some blocks of any file
/// system.
const STATE_ROOM_BYTES: u64 = 64 * 1024;
const MAX_STATE_BYTES: u64 = 64 << 20;
