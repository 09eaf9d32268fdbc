//! The paths that may be opened in the sandbox.

use std::path::{Path, PathBuf};

/// Paths by the access to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedPaths {
    /// Paths that are read, with all beneath them.
    pub read: Vec<PathBuf>,
    /// Files that are appended to, and made anew where they were moved away.
    pub append: Vec<PathBuf>,
    /// Directories in which files are made, changed and removed.
    pub change: Vec<PathBuf>,
}

impl AllowedPaths {
    /// Adds a directory that may be replaced, by a rename or a changed link. Its parents are read
    /// as well, since the new one may lie beside it.
    pub(crate) fn read_replaceable(&mut self, path: &Path) {
        let found = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let parents = [found.parent(), path.parent()].into_iter().flatten();
        // The parent of a top-level directory would open the whole host.
        let parents = parents.filter(|parent| parent.parent().is_some());
        self.read.extend(parents.map(Path::to_owned));
        self.read.push(found);
    }
}
