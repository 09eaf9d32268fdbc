//! The entries of a directory that are shown, one after another.

use std::{fmt, io};

use super::step::Follow;
use crate::http::Timestamp;
use crate::http::policy::DotNames;
use crate::sys::directory::{Directory, Entry, EntryFacts, EntryKind};

/// Reads a directory and leaves out what is not served.
#[derive(Debug)]
pub(super) struct Scan {
    directory: Directory,
    /// In lower case.
    filter: Option<Box<[u8]>>,
    dot_names: DotNames,
    visible: Option<Visible>,
}

/// Says which names of a directory the requester may see.
pub(crate) struct Visible(Box<Predicate>);

type Predicate = dyn Fn(&[u8]) -> bool + Send;

impl Visible {
    /// Those for which `predicate` holds.
    pub(crate) fn new(predicate: impl Fn(&[u8]) -> bool + Send + 'static) -> Self {
        Self(Box::new(predicate))
    }
}

impl fmt::Debug for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visible")
    }
}

/// An entry that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) facts: ItemFacts,
}

/// What is shown of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemFacts {
    pub(super) kind: ItemKind,
    pub(super) modified: Timestamp,
}

/// What can be served; directories stand before files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ItemKind {
    Directory,
    File {
        /// In bytes.
        len: u64,
    },
}

/// What has to be known of an entry before it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Whether it is a directory or a file, for which the directory itself usually suffices;
    /// the rest is left at zero.
    Kind,
    /// Everything, which costs a look at each inode.
    Facts,
}

/// One name further.
#[derive(Debug)]
pub(super) enum Found {
    /// An entry that is shown.
    Item(Item),
    /// One that is not.
    Skipped,
    /// There are no more.
    End,
}

impl Scan {
    pub(super) fn new(
        directory: Directory,
        filter: Option<&[u8]>,
        dot_names: DotNames,
        visible: Option<Visible>,
    ) -> Self {
        let filter = filter.map(|filter| filter.to_ascii_lowercase().into());
        Self {
            directory,
            filter,
            dot_names,
            visible,
        }
    }

    /// Looks at one more name.
    pub(super) fn next(&mut self, depth: Depth, follow: Follow<'_>) -> io::Result<Found> {
        let Some(entry) = self.directory.next_entry().transpose()? else {
            return Ok(Found::End);
        };
        if !self.shows(&entry.name) {
            return Ok(Found::Skipped);
        }
        let facts = match (depth, entry.kind) {
            (Depth::Kind, EntryKind::Directory) => Some(unseen(ItemKind::Directory)),
            (Depth::Kind, EntryKind::File) => Some(unseen(ItemKind::File { len: 0 })),
            (_, EntryKind::Other) => None,
            _ => self.look(&entry, follow),
        };
        Ok(match facts {
            Some(facts) => Found::Item(Item {
                name: entry.name,
                facts,
            }),
            None => Found::Skipped,
        })
    }

    /// Looks at a name that was found before; `None` when it has gone or become something else.
    pub(super) fn facts(&self, name: &[u8], follow: Follow<'_>) -> Option<ItemFacts> {
        let facts = self.directory.stat(name).ok()?;
        let facts = if facts.kind == EntryKind::Link {
            follow(name)?
        } else {
            facts
        };
        item_facts(facts)
    }

    fn look(&self, entry: &Entry, follow: Follow<'_>) -> Option<ItemFacts> {
        match entry.kind {
            EntryKind::Link => item_facts(follow(&entry.name)?),
            _ => self.facts(&entry.name, follow),
        }
    }

    fn shows(&self, name: &[u8]) -> bool {
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

fn unseen(kind: ItemKind) -> ItemFacts {
    ItemFacts {
        kind,
        modified: Timestamp::default(),
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
    })
}
