//! A landlock(7) domain: the files that may be opened, no TCP of its own, no signals to others.

use std::io;
use std::iter;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use nix::libc::EBADFD;

use crate::sys::sandbox::allowed_paths::AllowedPaths;

/// Whether the domain holds; `false` where the kernel has none.
///
/// # Errors
/// The kernel has landlock(7) and refuses the rules.
pub(super) fn enter(places: &AllowedPaths) -> io::Result<bool> {
    let status = restrict(places).map_err(io::Error::other)?;
    Ok(status != RulesetStatus::NotEnforced)
}

fn restrict(places: &AllowedPaths) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::Signal)?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for path in &places.read {
        allow(&mut rules, path, read)?;
    }
    for path in &places.append {
        for parent in parents(path) {
            allow(&mut rules, &parent, AccessFs::WriteFile | AccessFs::MakeReg)?;
        }
        // A rule keeps what it names on the disk: a file's would outlive its removal.
        if !path.is_file() {
            // A FIFO is opened for reading as well.
            allow(&mut rules, path, AccessFs::WriteFile | AccessFs::ReadFile)?;
        }
    }
    let change = read | AccessFs::from_write(KNOWN);
    let special = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSym;
    for path in &places.change {
        allow(&mut rules, path, change & !special)?;
    }
    // /proc has the counters and limits of the process; /dev/null takes the rest of a pipe.
    allow(&mut rules, Path::new("/proc/self"), read)?;
    allow(
        &mut rules,
        Path::new("/dev/null"),
        read | AccessFs::WriteFile,
    )?;
    Ok(rules.restrict_self()?.ruleset)
}

/// The directory that a path is in, and its target's where it is a link.
fn parents(path: &Path) -> impl Iterator<Item = PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let target = path.canonicalize().ok().filter(|_| path.is_file());
    iter::once(parent(path)).chain(target.as_deref().map(parent))
}

/// Adds a rule for `path`, unless it does not exist, or is a pipe or socket without a name on a file
/// system, which the domain does not restrict.
fn allow(
    rules: &mut RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<(), RulesetError> {
    let Ok(descriptor) = PathFd::new(path) else {
        return Ok(());
    };
    let access = match path.is_dir() {
        true => access,
        false => access & AccessFs::from_file(KNOWN),
    };
    match rules.add_rule(PathBeneath::new(descriptor, access)) {
        Err(RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall {
            source,
            ..
        }))) if source.raw_os_error() == Some(EBADFD) => Ok(()),
        added => added.map(|_| ()),
    }
}

/// The ABI of Linux 6.12: later ones only concern the audit log.
const KNOWN: ABI = ABI::V6;
