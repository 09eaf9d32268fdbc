//! The places that are still opened once the sandbox holds.

use std::path::{Path, PathBuf};

/// Paths by what may be done with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedPaths {
    /// Read, and all that lies beneath.
    pub read: Vec<PathBuf>,
    /// Files that are appended to, and made anew where they were moved away.
    pub append: Vec<PathBuf>,
    /// Directories in which files are made, changed and removed.
    pub change: Vec<PathBuf>,
}

impl AllowedPaths {
    /// Adds a directory that may be replaced by another of its name: by a rename or a link that is
    /// switched, which takes the right to read what lies beside it.
    pub(crate) fn read_replaceable(&mut self, path: &Path) {
        let found = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let parents = [found.parent(), path.parent()].into_iter().flatten();
        // Beside what lies at the top is the whole host.
        let parents = parents.filter(|parent| parent.parent().is_some());
        self.read.extend(parents.map(Path::to_owned));
        self.read.push(found);
    }
}
