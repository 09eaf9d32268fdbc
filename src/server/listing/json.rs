//! A directory for programs: an array, or an object a line. It has directory order, so a listing of
//! a million names begins at once and takes no memory.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::LazyLock;

use serde::Serialize;

use super::scan::{Depth, Item, ItemKind, Scan, Scanned};
use super::step::{Follow, Progress, STEP_BYTES, STEP_ENTRIES};
use super::time::rfc3339;
use crate::http::percent_encode_component;

/// A listing in JSON (RFC 8259).
#[derive(Debug)]
pub(super) struct Json {
    marks: &'static Marks,
    written: Written,
}

/// The syntax around the objects.
#[derive(Debug)]
struct Marks {
    first: &'static str,
    next: &'static str,
    end: &'static str,
    /// The end of a listing without any object.
    empty: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    Some,
}

/// An entry.
#[derive(Serialize)]
struct Object<'a> {
    /// Bytes that are no UTF-8 are replaced by U+FFFD.
    name: Cow<'a, str>,
    /// The percent-encoded name; only where `name` is not the name itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    href: Option<String>,
    /// `file`, `directory`, or `link` for one with an outside target and no address.
    kind: &'static str,
    /// Of a directory: the same under each of its names, and for as long as the server runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// In bytes; null for a directory or link.
    size: Option<u64>,
    /// RFC 3339, in UTC.
    mtime: String,
}

impl Json {
    pub(super) fn array() -> Self {
        Self {
            marks: &ARRAY,
            written: Written::Nothing,
        }
    }

    pub(super) fn lines() -> Self {
        Self {
            marks: &LINES,
            written: Written::Nothing,
        }
    }

    pub(super) fn fill(
        &mut self,
        scan: &mut Scan,
        out: &mut Vec<u8>,
        follow: Follow<'_>,
    ) -> io::Result<Progress> {
        let start = out.len();
        for _ in 0..STEP_ENTRIES {
            if out.len() - start >= STEP_BYTES {
                break;
            }
            match scan.next(Depth::Facts, follow)? {
                Scanned::Item(item) => {
                    let mark = match self.written {
                        Written::Nothing => self.marks.first,
                        Written::Some => self.marks.next,
                    };
                    out.extend_from_slice(mark.as_bytes());
                    serde_json::to_writer(&mut *out, &object(&item))?;
                    self.written = Written::Some;
                }
                Scanned::Skipped => {}
                Scanned::End => {
                    let mark = match self.written {
                        Written::Nothing => self.marks.empty,
                        Written::Some => self.marks.end,
                    };
                    out.extend_from_slice(mark.as_bytes());
                    return Ok(Progress::Done);
                }
            }
        }
        Ok(Progress::More)
    }
}

fn object(item: &Item) -> Object<'_> {
    let name = String::from_utf8_lossy(&item.name);
    let href = match (&name, item.facts.kind) {
        (Cow::Borrowed(_), _) | (_, ItemKind::LinkOut) => None,
        (Cow::Owned(_), _) => Some(percent_encode_component(&item.name).collect()),
    };
    let (kind, id, size) = match item.facts.kind {
        ItemKind::Directory => ("directory", Some(identity(item.facts.inode)), None),
        ItemKind::File { len } => ("file", None, Some(len)),
        ItemKind::LinkOut => ("link", None, None),
    };
    Object {
        name,
        href,
        kind,
        id,
        size,
        mtime: rfc3339(item.facts.modified),
    }
}

/// A hash by a secret key, so that inode numbers stay private.
fn identity(inode: (u64, u64)) -> String {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    format!("{:016x}", KEY.hash_one(inode))
}

const ARRAY: Marks = Marks {
    first: "[\n",
    next: ",\n",
    end: "\n]\n",
    empty: "[]\n",
};

const LINES: Marks = Marks {
    first: "",
    next: "\n",
    end: "\n",
    empty: "",
};
