//! The names of part files, and whose file is at such a name.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::get::error::{ErrorKind, GetError};
use crate::get::names::{MAX_NAME_BYTES, STATE_SUFFIX};
use crate::sys::process::effective_user;

/// Which of a target's part files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// `NAME.part`.
    Part,
    /// `NAME.part-new`: another version, until it is whole, or the first part file where `NAME.part`
    /// is another file.
    New,
    /// `NAME.part-alt`: another version beside that one.
    Alternative,
    /// The file itself, repaired in place: without a state, since its blocks show which bytes are
    /// right.
    InPlace,
}

/// The names of a part file and its state. A name without room for the suffix is cut, and made
/// unique by its hash.
pub(super) fn beside(target: &Path, slot: Slot) -> (PathBuf, PathBuf) {
    let (part_suffix, state_suffix) = match slot {
        Slot::Part => (".part", STATE_SUFFIX),
        Slot::New => (".part-new", ".part-new.part.state"),
        Slot::Alternative => (".part-alt", ".part-alt.part.state"),
        Slot::InPlace => return (target.to_owned(), PathBuf::new()),
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

/// The part files of a target: the first one, and the one of another version. `NAME.part` is none of
/// them where it is another file (`is_foreign`).
pub(crate) fn slots(is_foreign: bool) -> (Slot, Slot) {
    match is_foreign {
        true => (Slot::New, Slot::Alternative),
        false => (Slot::Part, Slot::New),
    }
}

/// The usual name of `target`'s part file.
pub(crate) fn part_path(target: &Path) -> PathBuf {
    beside(target, Slot::Part).0
}

/// Whether a part file could have this name.
pub(crate) fn is_part_name(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|it| it.eq_ignore_ascii_case("part"))
}

/// The file whose part file would be at `path`.
pub(super) fn target_of(path: &Path) -> Option<PathBuf> {
    let target = path.with_extension("");
    (part_path(&target) == path).then_some(target)
}

/// Whether the name of `target`'s part file is in use by a directory, or by a file that haul did not
/// make, such as another one of the same tree (`is_known`), even an empty one.
pub(crate) fn is_foreign(target: &Path, is_known: impl Fn(&Metadata) -> bool) -> bool {
    let (path, state_path) = beside(target, Slot::Part);
    let Ok(found) = path.symlink_metadata() else {
        return false;
    };
    if found.is_dir() {
        return true;
    }
    let is_file = found.is_file() && (found.len() > 0 || is_known(&found));
    is_file && state_path.symlink_metadata().is_err()
}

/// The error for an unrelated file in the place of a part file.
pub(crate) fn refuse_stranger(path: &Path) -> GetError {
    let text = format!(
        "{} is in the way and haul did not make it: move it, or choose another name with -o",
        path.display()
    );
    GetError::new(ErrorKind::LocalFile, text)
}

/// The error for a part file or its state that cannot be opened.
pub(super) fn not_opened(doing: &str, path: &Path, error: &io::Error) -> GetError {
    match path.symlink_metadata() {
        // A link may have any target, and another user may have made it.
        Ok(found) if !found.is_file() => refuse_stranger(path),
        Err(_) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!(
                "{} is no directory: make it, or let -d DIRECTORY do so",
                directory_of(path).display()
            );
            GetError::new(ErrorKind::LocalFile, text)
        }
        _ => GetError::local(doing, path, error),
    }
}

/// The error for a file that is already there.
pub(crate) fn refuse_existing(target: &Path) -> GetError {
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

/// Refuses to overwrite the part file of another download, whose state would then vouch for bytes
/// of another file.
///
/// # Errors
/// LocalFile: `target` is such a part file.
pub(crate) fn refuse_unfinished(target: &Path) -> Result<(), GetError> {
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

/// Refuses a file that another user may have planted, or can still write to.
pub(super) fn check_ours(file: &File, path: &Path) -> Result<(), GetError> {
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
    // Network and FAT file systems set owner and mode themselves: the values of a new file here are
    // accepted.
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

pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}
