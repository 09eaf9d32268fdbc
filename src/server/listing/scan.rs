//! The entries of a directory that are shown, one after another.

use std::sync::Arc;
use std::{fmt, io};

use super::step::{Follow, Followed};
use crate::http::Timestamp;
use crate::http::policy::DotNames;
use crate::sys::directory::{Directory, Entry, EntryFacts, EntryKind};

/// Reads a directory without the entries that are not served.
#[derive(Debug)]
pub(super) struct Scan {
    source: NameSource,
    rules: Arc<Rules>,
    /// Whether a name had to be looked at by itself, rather than in the directory.
    has_looked: bool,
}

/// Which names are shown.
#[derive(Debug)]
struct Rules {
    /// In lower case.
    filter: Option<Box<[u8]>>,
    dot_names: DotNames,
    visible: Option<Visible>,
}

/// Whether the client has access to a name of a directory.
pub(crate) struct Visible(Box<Predicate>);

type Predicate = dyn Fn(&[u8]) -> bool + Send + Sync;

impl Visible {
    /// A choice of the names for which `predicate` holds.
    pub(crate) fn new(predicate: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Box::new(predicate))
    }
}

impl fmt::Debug for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visible")
    }
}

/// The source of names.
#[derive(Debug)]
pub(crate) enum NameSource {
    /// All names in a directory.
    Directory(Directory),
    /// Names whose targets are found only by following them.
    Names {
        /// In the order in which they are listed.
        names: Arc<[Vec<u8>]>,
        /// How many were listed.
        at: usize,
    },
}

/// An entry that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) facts: ItemFacts,
}

/// The facts of an entry that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemFacts {
    pub(super) kind: ItemKind,
    pub(super) modified: Timestamp,
    /// See [`EntryFacts::inode`].
    pub(super) inode: (u64, u64),
}

/// The kinds of entries; directories precede files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ItemKind {
    Directory,
    File {
        /// In bytes.
        len: u64,
    },
    /// A link to an outside target.
    LinkOut,
}

/// The facts of an entry that the listing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Whether it is a directory or a file, which mostly the directory itself tells; the other
    /// facts stay zero.
    Kind,
    /// Everything, which costs a look at each inode.
    Facts,
}

/// A step to the next name.
#[derive(Debug)]
pub(super) enum Scanned {
    /// An entry that is shown.
    Item(Item),
    /// The entry is left out.
    Skipped,
    /// There are no more.
    End,
}

impl Scan {
    pub(super) fn new(
        source: NameSource,
        filter: Option<&[u8]>,
        dot_names: DotNames,
        visible: Option<Visible>,
    ) -> Self {
        let filter = filter.map(|filter| filter.to_ascii_lowercase().into());
        let rules = Rules {
            filter,
            dot_names,
            visible,
        };
        Self {
            source,
            rules: Arc::new(rules),
            has_looked: false,
        }
    }

    /// The same scan from its beginning. This one must be restarted before it continues: both share
    /// one directory offset.
    ///
    /// # Errors
    /// Of `dup(2)` and `lseek(2)`.
    pub(super) fn again(&self) -> io::Result<Self> {
        let source = match &self.source {
            NameSource::Directory(directory) => NameSource::Directory(directory.again()?),
            NameSource::Names { names, .. } => NameSource::Names {
                names: Arc::clone(names),
                at: 0,
            },
        };
        Ok(Self {
            source,
            rules: Arc::clone(&self.rules),
            has_looked: false,
        })
    }

    /// Whether an entry had to be looked up: its facts may change without a change of the
    /// directory.
    pub(super) fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// Looks at one more name.
    pub(super) fn next(&mut self, depth: Depth, follow: Follow<'_>) -> io::Result<Scanned> {
        let Some(entry) = self.source.next()? else {
            return Ok(Scanned::End);
        };
        if !self.rules.show(&entry.name) {
            return Ok(Scanned::Skipped);
        }
        let facts = match (depth, entry.kind) {
            (Depth::Kind, EntryKind::Directory) => Some(unseen(ItemKind::Directory)),
            (Depth::Kind, EntryKind::File) => Some(unseen(ItemKind::File { len: 0 })),
            (_, EntryKind::Other) => None,
            _ => {
                self.has_looked = true;
                self.look(&entry, follow)?
            }
        };
        Ok(match facts {
            Some(facts) => Scanned::Item(Item {
                name: entry.name,
                facts,
            }),
            None => Scanned::Skipped,
        })
    }

    /// The next name, shown or not, without a look at it.
    pub(super) fn next_name(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.source.next()?.map(|entry| entry.name))
    }

    /// Begins with the first name again.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        match &mut self.source {
            NameSource::Directory(directory) => directory.rewind(),
            NameSource::Names { at, .. } => {
                *at = 0;
                Ok(())
            }
        }
    }

    /// Looks up the facts of a name; `None` when it was removed or replaced by another kind.
    ///
    /// # Errors
    /// The entry exists, and its facts cannot be read: a list without it would be incomplete.
    pub(super) fn facts(&self, name: &[u8], follow: Follow<'_>) -> io::Result<Option<ItemFacts>> {
        match &self.source {
            NameSource::Directory(directory) => match stat(directory, name)? {
                None => Ok(None),
                Some(facts) if facts.kind == EntryKind::Link => self.look_through(name, follow),
                Some(facts) => Ok(item_facts(facts)),
            },
            NameSource::Names { .. } => self.look_through(name, follow),
        }
    }

    fn look(&self, entry: &Entry, follow: Follow<'_>) -> io::Result<Option<ItemFacts>> {
        match entry.kind {
            EntryKind::Link => self.look_through(&entry.name, follow),
            _ => self.facts(&entry.name, follow),
        }
    }

    fn look_through(&self, link: &[u8], follow: Follow<'_>) -> io::Result<Option<ItemFacts>> {
        Ok(match (follow(link), &self.source) {
            (Followed::Inside(facts), _) => item_facts(facts),
            (Followed::Outside, NameSource::Directory(directory)) => {
                stat(directory, link)?.map(|facts| ItemFacts {
                    kind: ItemKind::LinkOut,
                    modified: facts.modified,
                    inode: facts.inode,
                })
            }
            (Followed::Outside, NameSource::Names { .. }) | (Followed::Nothing, _) => None,
        })
    }
}

impl Rules {
    fn show(&self, name: &[u8]) -> bool {
        if self.dot_names == DotNames::Hidden && name.starts_with(b".") {
            return false;
        }
        if self
            .visible
            .as_ref()
            .is_some_and(|Visible(sees)| !sees(name))
        {
            return false;
        }
        self.filter.as_deref().is_none_or(|filter| {
            name.windows(filter.len())
                .any(|window| window.eq_ignore_ascii_case(filter))
        })
    }
}

impl NameSource {
    fn next(&mut self) -> io::Result<Option<Entry>> {
        match self {
            Self::Directory(directory) => directory.next_entry().transpose(),
            Self::Names { names, at } => {
                let name = names.get(*at).cloned();
                *at += 1;
                let kind = EntryKind::Link;
                Ok(name.map(|name| Entry { name, kind }))
            }
        }
    }
}

fn unseen(kind: ItemKind) -> ItemFacts {
    ItemFacts {
        kind,
        modified: Timestamp::default(),
        inode: (0, 0),
    }
}

/// The facts of a name; `None` if it was removed, or may not be looked up.
fn stat(directory: &Directory, name: &[u8]) -> io::Result<Option<EntryFacts>> {
    match directory.stat(name) {
        Ok(facts) => Ok(Some(facts)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(error),
        },
    }
}

fn item_facts(facts: EntryFacts) -> Option<ItemFacts> {
    let kind = match facts.kind {
        EntryKind::Directory => ItemKind::Directory,
        EntryKind::File => ItemKind::File { len: facts.len },
        EntryKind::Link | EntryKind::Other | EntryKind::Unknown => return None,
    };
    Some(ItemFacts {
        kind,
        modified: facts.modified,
        inode: facts.inode,
    })
}
