//! The files that are served: all beneath a directory, or files by their names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sys::beneath::{PathHandle, Root, Support};
use crate::sys::file::{Blocking, Kind};

/// The files that are served.
#[derive(Debug)]
pub(super) enum Served {
    /// All beneath a directory.
    Tree(Root),
    /// Files, without the rest of their directories.
    Files(NamedFiles),
}

/// Files by their names.
#[derive(Debug)]
pub(super) struct NamedFiles {
    /// The directories that hold the files, each once. Never empty.
    directories: Vec<Root>,
    /// Each file's name in its directory, by which it is served, and which directory that is.
    places: Arc<BTreeMap<Vec<u8>, usize>>,
    names: Names,
}

/// The names of the files that are served, in order.
pub(crate) type Names = Arc<[Vec<u8>]>;

/// Why a file cannot be served by its name.
#[derive(Debug)]
pub enum FileFault {
    /// The file cannot be found or read.
    Unreadable(io::Error),
    /// The path is a directory, which is served alone.
    Directory,
    /// The path is a device, a FIFO or a socket.
    Special,
    /// Another file has the same name.
    SameName(PathBuf),
}

impl std::fmt::Display for FileFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(error) => write!(formatter, "{error}; name files that can be read"),
            Self::Directory => formatter
                .write_str("it is a directory; name either one directory or nothing but files"),
            Self::Special => formatter
                .write_str("it is no regular file, and has no length; copy it into one first"),
            Self::SameName(other) => write!(
                formatter,
                "{} would have the same name; rename one, or serve a directory above both",
                other.display()
            ),
        }
    }
}

impl Served {
    /// The root for a path, if a file can have it.
    pub(super) fn root_of(&self, path: &[u8]) -> Option<&Root> {
        match self {
            Self::Tree(root) => Some(root),
            Self::Files(files) => files.places.get(path).map(|at| &files.directories[*at]),
        }
    }

    /// Looks a path beneath the root up.
    ///
    /// # Errors
    /// As [`Root::find`].
    pub(super) fn find(&self, path: &[u8], blocking: Blocking) -> io::Result<PathHandle> {
        let root = self.root_of(path).ok_or(io::ErrorKind::NotFound)?;
        let found = root.find(path, blocking)?;
        // A directory that took a file's place was not named.
        match (self, found.kind) {
            (Self::Files(_), Kind::Directory) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(found),
        }
    }

    /// The real path of what was found at `path`: see [`Root::real_path`]. That of a named file
    /// follows from its directory.
    ///
    /// # Errors
    /// As [`Root::real_path`].
    pub(super) fn real_path(
        &self,
        path: &[u8],
        handle: &PathHandle,
    ) -> io::Result<Option<Vec<u8>>> {
        let root = self.root_of(path).ok_or(io::ErrorKind::NotFound)?;
        root.real_path(handle)
    }

    /// The names that take a directory's place at `path`.
    pub(super) fn names_at(&self, path: &[u8]) -> Option<Names> {
        match self {
            Self::Files(files) if path.is_empty() => Some(Arc::clone(&files.names)),
            _ => None,
        }
    }

    /// The features of this system that look-ups use.
    pub(super) fn support(&self) -> Support {
        match self {
            Self::Tree(root) => root.support(),
            Self::Files(files) => files.directories[0].support(),
        }
    }

    /// Opens the same paths again.
    ///
    /// # Errors
    /// As [`Root::reopen`].
    pub(super) fn reopen(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tree(root) => Self::Tree(root.reopen()?),
            Self::Files(files) => Self::Files(NamedFiles {
                directories: (files.directories.iter())
                    .map(Root::reopen)
                    .collect::<io::Result<_>>()?,
                places: Arc::clone(&files.places),
                names: Arc::clone(&files.names),
            }),
        })
    }

    /// Whether a sandbox lets these directories be read.
    pub(super) fn is_covered(&self) -> bool {
        match self {
            Self::Tree(root) => root.is_covered(),
            Self::Files(files) => files.directories.iter().all(Root::is_covered),
        }
    }

    /// Whether these are the same directories, none of them removed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tree(one), Self::Tree(other)) => one.is_same(other),
            (Self::Files(one), Self::Files(other)) => {
                let mut pairs = one.directories.iter().zip(&other.directories);
                pairs.all(|(one, other)| one.is_same(other))
            }
            _ => false,
        }
    }
}

impl NamedFiles {
    /// Opens the files at `paths`, at least one. A link may keep its present target, or lead into
    /// `links_into`.
    ///
    /// # Errors
    /// The file, and its fault.
    pub(super) fn open(
        paths: &[PathBuf],
        links_into: &[PathBuf],
    ) -> Result<Self, (PathBuf, FileFault)> {
        let mut files: BTreeMap<Vec<u8>, Named<'_>> = BTreeMap::new();
        for path in paths {
            let named = Named::examine(path).map_err(|fault| (path.clone(), fault))?;
            let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
            if let Some(other) = files.get(&name)
                && other.inode != named.inode
            {
                return Err((path.clone(), FileFault::SameName(other.path.to_owned())));
            }
            files.entry(name).or_insert(named);
        }
        let mut ways: BTreeMap<&Path, Vec<PathBuf>> = BTreeMap::new();
        for file in files.values() {
            let links = ways
                .entry(file.directory)
                .or_insert_with(|| links_into.to_vec());
            links.extend(file.leads_into.clone().filter(|it| !links.contains(it)));
        }
        let open = |(directory, links): (&&Path, &Vec<PathBuf>)| {
            Root::open(directory, links)
                .map_err(|error| (directory.to_path_buf(), FileFault::Unreadable(error)))
        };
        let directories = ways.iter().map(open).collect::<Result<_, _>>()?;
        let number = |file: &Named<'_>| ways.keys().position(|it| *it == file.directory);
        let places = files
            .iter()
            .map(|(name, file)| (name.clone(), number(file).unwrap_or_default()));
        Ok(Self {
            directories,
            places: Arc::new(places.collect()),
            names: files.keys().cloned().collect(),
        })
    }
}

/// A file on the command line.
struct Named<'a> {
    path: &'a Path,
    inode: (u64, u64),
    directory: &'a Path,
    /// The directory of the target, if the path is a link to another directory.
    leads_into: Option<PathBuf>,
}

impl<'a> Named<'a> {
    fn examine(path: &'a Path) -> Result<Self, FileFault> {
        let meta = fs::metadata(path).map_err(FileFault::Unreadable)?;
        if meta.is_dir() {
            return Err(FileFault::Directory);
        }
        if !meta.is_file() {
            return Err(FileFault::Special);
        }
        File::open(path).map_err(FileFault::Unreadable)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let places = (fs::canonicalize(path)).and_then(|it| Ok((it, fs::canonicalize(directory)?)));
        let (end, start) = places.map_err(FileFault::Unreadable)?;
        let leads_out = !end.starts_with(&start);
        Ok(Self {
            path,
            inode: (meta.dev(), meta.ino()),
            directory,
            leads_into: end.parent().filter(|_| leads_out).map(Path::to_path_buf),
        })
    }
}
