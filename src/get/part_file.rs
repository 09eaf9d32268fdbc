//! `NAME.part` and the state file beside it: what survives a kill, a full disk and a second
//! `haul get` of the same file.
//!
//! The rules, each against one way to a wrong file:
//! - A part file is locked from before its first byte until its name is final.
//! - A state file claims extents only after their bytes are synced, and is replaced atomically.
//! - A fresh state is written before the part file gets its length, and is believed only for a
//!   part file of that length: no leftover can vouch for an empty file.
//! - A part file with bytes and no state is not ours, and is not touched; nor is one that another
//!   user owns, can write to, or has another name for.

pub(super) mod extents;
pub(super) mod keep;
pub(super) mod validate;

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::sys::process::effective_user;
use crate::sys::receive::{self, Missing};

use super::config::{Existing, Preallocation};
use super::error::{ErrorKind, GetError};
use super::names::STATE_SUFFIX;
use extents::Extents;
use validate::Identity;

/// A locked part file.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    target: PathBuf,
    path: PathBuf,
    state_path: PathBuf,
    slot: Slot,
}

/// Which of a target's two part files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// `NAME.part`.
    Part,
    /// `NAME.part-new`: another version, until it is whole.
    New,
}

/// What the state file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub(super) url: String,
    /// `None`: the file's length was not told.
    pub(super) identity: Option<Identity>,
    #[serde(default)]
    pub(super) content_type: Option<String>,
    pub(super) done: Extents,
    /// The whole file is here, whether its length was told or not.
    #[serde(default)]
    pub(super) whole: bool,
}

impl State {
    /// A state that claims nothing yet.
    pub(super) fn new(
        url: String,
        identity: Option<Identity>,
        content_type: Option<String>,
    ) -> Self {
        Self {
            version: STATE_VERSION,
            url,
            identity,
            content_type,
            ..Self::default()
        }
    }

    /// The file's length, where it is known.
    pub(super) fn length(&self) -> Option<u64> {
        let told = self.identity.as_ref().map(|identity| identity.length);
        told.or_else(|| self.whole.then(|| self.done.total()))
    }

    /// Every byte of the file is claimed.
    pub(super) fn is_whole(&self) -> bool {
        self.length() == Some(self.done.total())
    }
}

impl PartFile {
    /// Opens a part file of `target` that an earlier run left, with its state as far as that can
    /// be believed. `None` when there is none.
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
        part.load()?;
        Ok(part)
    }

    fn open(target: &Path, slot: Slot, missing: Missing) -> Result<Self, GetError> {
        let (path, state_path) = beside(target, slot);
        loop {
            let file = receive::open_regular(&path, missing)
                .map_err(|error| GetError::local("open", &path, &error))?;
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
            // The one who held the lock may have renamed the file away just before it let go.
            if is_at(&file, &path) {
                check_ours(&file, &path)?;
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
                return Err(refuse_foreign(&self.target));
            }
            Err(error) => return Err(GetError::local("read", path, &error)),
        };
        let state: Option<State> = serde_json::from_slice(&text).ok();
        let state = state.filter(|state| state.version == STATE_VERSION);
        Ok(match state {
            Some(state) if state.done.total() == 0 && !state.whole => state,
            Some(state) if is_sound(&state, length) => state,
            // Nobody knows whose these bytes are; they may be worth something to somebody.
            _ => {
                let mut unknown = State::new(String::new(), None, None);
                unknown.done.insert(0, length);
                unknown
            }
        })
    }

    /// Begins anew: an empty file with room for `length` bytes, and a state that claims nothing.
    /// Who calls this has asked `get::keep`.
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
        // No name from a server ends so, and no other target's state is called so.
        let mut next = self.state_path.clone().into_os_string();
        next.push(STATE_SUFFIX);
        let next = PathBuf::from(next);
        let text = serde_json::to_vec(state).map_err(|error| {
            GetError::local("write", &self.state_path, &io::Error::other(error))
        })?;
        let write = || {
            // Whatever is there, a link of somebody's perhaps, is not written through.
            let _ = fs::remove_file(&next);
            let mut file = File::create_new(&next)?;
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

    /// Waits until the bytes written so far are on the disk.
    pub(super) fn sync_data(&self) -> Result<(), GetError> {
        self.file
            .sync_data()
            .map_err(|error| GetError::local("write", &self.path, &error))
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
            // Another file of that name, from a tree with both NAME and NAME.part, say.
            let text = format!(
                "{} was replaced by somebody while it was written: run the same command again",
                self.path.display()
            );
            // Its state must not vouch for the other file's bytes.
            let _ = fs::remove_file(&self.state_path);
            return Err(GetError::new(ErrorKind::LocalFile, text));
        }
        refuse_unfinished(&self.target)?;
        let renamed = match existing {
            Existing::Overwrite | Existing::Update => fs::rename(&self.path, &self.target),
            Existing::Refuse | Existing::Skip => receive::rename_new(&self.path, &self.target),
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => refuse_existing(&self.target),
            _ => GetError::local("name", &self.target, &error),
        })?;
        // A state without a part file is believed by nobody.
        let _ = fs::remove_file(&self.state_path);
        let directory = directory_of(&self.target);
        receive::sync_directory(directory)
            .map_err(|error| GetError::local("sync", directory, &error))?;
        Ok(self.target)
    }

    /// Takes the part file away again.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.state_path);
    }

    /// Takes the place of `other`, which has less.
    ///
    /// # Errors
    /// LocalFile.
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

/// Whether the name of `target`'s part file is taken by a file that haul did not make, such as
/// another one of the same tree, which `is_known` knows even where it is empty.
pub(super) fn is_foreign(target: &Path, is_known: impl Fn(&Metadata) -> bool) -> bool {
    let (path, state_path) = beside(target, Slot::Part);
    let Ok(found) = path.symlink_metadata() else {
        return false;
    };
    let is_file = found.is_file() && (found.len() > 0 || is_known(&found));
    is_file && state_path.symlink_metadata().is_err()
}

/// The error for such a file where its name is needed all the same.
pub(super) fn refuse_foreign(target: &Path) -> GetError {
    let (path, _) = beside(target, Slot::Part);
    let text = format!(
        "{} is in the way and haul did not make it: move it, or choose another name with -o",
        path.display()
    );
    GetError::new(ErrorKind::LocalFile, text)
}

/// The error for a file that is already there.
pub(super) fn refuse_existing(target: &Path) -> GetError {
    let what = match target.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            format!(
                "{} is a directory: --directory puts files into it",
                target.display()
            )
        }
        _ => format!(
            "{} is already there: --force overwrites it, --skip-existing is content if it is the same",
            target.display()
        ),
    };
    GetError::new(ErrorKind::LocalFile, what)
}

/// Refuses to write over the part file of another download, whose state would then vouch for bytes
/// that are not its file's.
///
/// # Errors
/// LocalFile: `target` is such a part file.
pub(super) fn refuse_unfinished(target: &Path) -> Result<(), GetError> {
    let mut state = target.as_os_str().to_owned();
    state.push(".state");
    if !state.as_encoded_bytes().ends_with(STATE_SUFFIX.as_bytes())
        || Path::new(&state).symlink_metadata().is_err()
    {
        return Ok(());
    }
    let text = format!(
        "{} belongs to an unfinished download: finish that one first, or remove it and {}",
        target.display(),
        Path::new(&state).display()
    );
    Err(GetError::new(ErrorKind::LocalFile, text))
}

/// The state describes a part file of this length.
fn is_sound(state: &State, length: u64) -> bool {
    let told = state.identity.as_ref().map(|identity| identity.length);
    told.is_none_or(|told| told == length) && state.done.is_sound(length)
}

/// Refuses a file that another user may have planted, or can still write to.
fn check_ours(file: &File, path: &Path) -> Result<(), GetError> {
    let failed = |error: io::Error| GetError::local("look at", path, &error);
    let found = file.metadata().map_err(failed)?;
    let euid = effective_user();
    let others = |mode: u32| mode & 0o022;
    let refuse = |why: &str| {
        let text = format!(
            "{} {why}: it may not be what haul wrote there. Remove it, or choose another place",
            path.display()
        );
        Err(GetError::new(ErrorKind::LocalFile, text))
    };
    if found.nlink() > 1 {
        return refuse("has a second name");
    }
    if found.uid() == euid && others(found.mode()) == 0 {
        return Ok(());
    }
    // Network and FAT file systems give files an owner and a mode of their own: what a new file
    // gets here is no sign of a stranger.
    let own = new_file_in(directory_of(path)).unwrap_or((euid, 0));
    if found.uid() != own.0 {
        return refuse("belongs to another user");
    }
    if others(found.mode()) & !others(own.1) != 0 {
        return refuse("can be written by others");
    }
    Ok(())
}

/// Owner and mode of a new file in `directory`.
fn new_file_in(directory: &Path) -> io::Result<(u32, u32)> {
    let path = directory.join(format!(".haul-{:016x}", fastrand::u64(..)));
    let made = File::create_new(&path)?.metadata();
    let _ = fs::remove_file(&path);
    made.map(|made| (made.uid(), made.mode()))
}

/// The names of a part file and its state. A name that leaves no room for what is put behind it is
/// cut, and told from others by its sum.
fn beside(target: &Path, slot: Slot) -> (PathBuf, PathBuf) {
    let (part_suffix, state_suffix) = match slot {
        Slot::Part => (".part", STATE_SUFFIX),
        Slot::New => (".part-new", ".part-new.part.state"),
    };
    let name = target.file_name().unwrap_or_default();
    let longest = MAX_NAME_BYTES - ".part-new.part.state".len() - STATE_SUFFIX.len();
    let stem = if name.len() <= longest {
        target.to_owned()
    } else {
        let sum = blake3::hash(name.as_encoded_bytes()).to_hex();
        let text = name.to_string_lossy();
        let (mut head, tail) = (String::new(), &sum[..16]);
        let room = longest - tail.len() - "~".len();
        head.extend(text.chars().scan(0, |used, next| {
            *used += next.len_utf8();
            (*used <= room).then_some(next)
        }));
        target.with_file_name(format!("{head}~{tail}"))
    };
    let with = |suffix: &str| {
        let mut name = stem.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    (with(part_suffix), with(state_suffix))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

/// The word when an earlier run's part file is of no use.
pub(super) const NOT_RESUMED: &str =
    "what an earlier run left cannot be gone on with: the file is fetched anew beside it";
const STATE_VERSION: u32 = 1;
/// Some million extents: what is longer is cut, and so not believed.
const MAX_STATE_BYTES: u64 = 64 << 20;
/// What Linux's file systems allow.
const MAX_NAME_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::get::part_file::validate::Validator;

    fn state(length: u64, done: &[(u64, u64)]) -> State {
        let mut extents = Extents::default();
        for &(start, end) in done {
            extents.insert(start, end);
        }
        let identity = Identity {
            length,
            validator: Some(Validator::Etag("\"a\"".to_owned())),
            weak_tag: None,
            last_modified: None,
        };
        State {
            done: extents,
            ..State::new("http://x/y".to_owned(), Some(identity), None)
        }
    }

    #[test]
    fn a_state_comes_back_only_for_a_part_file_of_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        let part = PartFile::create(&target, Slot::Part).unwrap();
        part.begin(&state(10, &[]), Some(10), Preallocation::On)
            .unwrap();
        part.save(&state(10, &[(0, 4)])).unwrap();
        drop(part);
        let (part, loaded) = PartFile::open_existing(&target, Slot::Part)
            .unwrap()
            .unwrap();
        assert_eq!(loaded, state(10, &[(0, 4)]));
        part.file().set_len(0).unwrap();
        drop(part);
        let (_, loaded) = PartFile::open_existing(&target, Slot::Part)
            .unwrap()
            .unwrap();
        assert_eq!((loaded.identity, loaded.done.total()), (None, 0));
    }

    #[test]
    fn states_that_claim_too_much_are_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        let part = PartFile::create(&target, Slot::Part).unwrap();
        part.begin(&state(10, &[]), Some(10), Preallocation::On)
            .unwrap();
        part.save(&state(10, &[(0, 11)])).unwrap();
        assert_eq!(part.load().unwrap().identity, None);
        fs::write(&part.state_path, b"{\"version\":1").unwrap();
        assert_eq!(part.load().unwrap().identity, None);
        let endless = File::create(&part.state_path).unwrap();
        endless.set_len(1 << 40).unwrap();
        assert_eq!(part.load().unwrap().identity, None);
    }

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        let first = PartFile::create(&target, Slot::Part).unwrap();
        let second = PartFile::create(&target, Slot::Part).unwrap_err();
        assert!(second.to_string().contains("another haul get"), "{second}");
        drop(first);
        PartFile::create(&target, Slot::Part).unwrap();
    }

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        fs::write(directory.path().join("f.part"), b"precious").unwrap();
        assert!(PartFile::create(&target, Slot::Part).is_err());
        assert!(PartFile::open_existing(&target, Slot::Part).is_err());
        let link = directory.path().join("g.part");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), link).unwrap();
        assert!(PartFile::create(&directory.path().join("g"), Slot::Part).is_err());
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_next_state_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, victim) = (directory.path().join("f"), directory.path().join("victim"));
        fs::write(&victim, b"precious").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join("f.part.state.part.state"))
            .unwrap();
        let part = PartFile::create(&target, Slot::Part).unwrap();
        part.begin(&state(10, &[]), Some(10), Preallocation::On)
            .unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn only_its_own_part_gets_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        let part = PartFile::create(&target, Slot::Part).unwrap();
        fs::write(directory.path().join("other"), b"another file").unwrap();
        fs::rename(
            directory.path().join("other"),
            directory.path().join("f.part"),
        )
        .unwrap();
        let error = part.finish(None, Existing::Overwrite).unwrap_err();
        assert_eq!(error.kind, ErrorKind::LocalFile);
        assert!(!target.exists());
    }

    #[test]
    fn a_file_that_appeared_meanwhile_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("f");
        let part = PartFile::create(&target, Slot::Part).unwrap();
        fs::write(&target, b"precious").unwrap();
        let error = part.finish(None, Existing::Refuse).unwrap_err();
        assert_eq!(error.kind, ErrorKind::LocalFile);
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
}
