//! From the names of a command line to files, in order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The named files, and those beneath named directories; links within a directory are left out, as
/// in `find -type f`.
#[derive(Debug)]
pub(super) struct Walk {
    /// The next step is the last element.
    stack: Vec<Step>,
    directories: DirectoryChoice,
}

/// The treatment of a directory's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryChoice {
    /// The files beneath the directory.
    Walk,
    /// An error: a list has sums of files.
    Refuse,
}

#[derive(Debug)]
enum Step {
    /// A name of the command line, which may be a link.
    Named(PathBuf),
    Directory(PathBuf),
    File(PathBuf),
}

impl Walk {
    pub(super) fn new(names: Vec<PathBuf>, directories: DirectoryChoice) -> Self {
        let stack = names.into_iter().rev().map(Step::Named).collect();
        Self { stack, directories }
    }

    /// Pushes the entries of a directory, sorted by name.
    fn enter(&mut self, directory: &Path) -> io::Result<()> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                steps.push(Step::Directory(entry.path()));
            } else if kind.is_file() {
                steps.push(Step::File(entry.path()));
            }
        }
        steps.sort_by(|left, right| right.path().cmp(left.path()));
        self.stack.append(&mut steps);
        Ok(())
    }
}

impl Step {
    fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Directory(path) | Self::File(path) => path,
        }
    }
}

impl Iterator for Walk {
    /// A file, or a directory that cannot be read.
    type Item = (PathBuf, io::Result<()>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let directory = match self.stack.pop()? {
                Step::File(path) => return Some((path, Ok(()))),
                Step::Named(path) if path.is_dir() => match self.directories {
                    DirectoryChoice::Walk => path,
                    DirectoryChoice::Refuse => {
                        return Some((path, Err(io::ErrorKind::IsADirectory.into())));
                    }
                },
                Step::Named(path) => return Some((path, Ok(()))),
                Step::Directory(path) => path,
            };
            if let Err(error) = self.enter(&directory) {
                return Some((directory, Err(error)));
            }
        }
    }
}
