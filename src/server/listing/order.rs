//! The order of a page, and a selection from any number of entries in bounded memory.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::scan::{Item, ItemKind};
use crate::http::{MediaType, SortKey, SortOrder, Timestamp};

/// The first entries behind a place, in some order.
#[derive(Debug)]
pub(super) struct PageSelection {
    /// The last of the selected entries on top, to be replaced first.
    heap: BinaryHeap<Ranked>,
    most: usize,
    sort: SortKey,
    order: SortOrder,
    after: Option<Ranked>,
    /// How many entries were offered.
    pub(super) total: u64,
    /// The number of entries before the first selected one.
    pub(super) before: u64,
}

/// An entry with its place.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    pub(super) item: Item,
    primary: Primary,
    order: SortOrder,
}

/// The first key of comparison, before the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Primary {
    Nothing,
    Size(u64),
    Time(Timestamp),
    Kind(MediaType),
}

impl PageSelection {
    /// Selects the first `most` entries behind `cursor`; a cursor that is none of this order's
    /// counts as the beginning.
    pub(super) fn new(sort: SortKey, order: SortOrder, most: usize, cursor: Option<&[u8]>) -> Self {
        let after = cursor.and_then(|cursor| parse_cursor(cursor, sort, order));
        Self {
            heap: BinaryHeap::new(),
            most,
            sort,
            order,
            after,
            total: 0,
            before: 0,
        }
    }

    pub(super) fn offer(&mut self, item: Item) {
        self.total += 1;
        let ranked = Ranked {
            primary: primary(&item, self.sort),
            item,
            order: self.order,
        };
        if self.after.as_ref().is_some_and(|after| ranked <= *after) {
            self.before += 1;
            return;
        }
        if self.heap.len() < self.most {
            self.heap.push(ranked);
        } else if let Some(mut last) = self.heap.peek_mut()
            && ranked < *last
        {
            *last = ranked;
        }
    }

    /// The selected entries, in order.
    pub(super) fn take(&mut self) -> Vec<Ranked> {
        std::mem::take(&mut self.heap).into_sorted_vec()
    }
}

impl Ranked {
    /// The text of this place in a link to the next page.
    pub(super) fn cursor(&self) -> Vec<u8> {
        let group = match self.item.facts.kind {
            ItemKind::Directory => "d",
            ItemKind::File { .. } | ItemKind::LinkOut => "f",
        };
        let value = match self.primary {
            Primary::Nothing | Primary::Kind(_) => String::new(),
            Primary::Size(len) => len.to_string(),
            Primary::Time(time) => format!("{}.{}", time.seconds, time.nanoseconds),
        };
        [group.as_bytes(), value.as_bytes(), b":", &self.item.name].concat()
    }
}

fn parse_cursor(cursor: &[u8], sort: SortKey, order: SortOrder) -> Option<Ranked> {
    let colon = cursor.iter().position(|byte| *byte == b':')?;
    let (place, name) = (
        str::from_utf8(&cursor[..colon]).ok()?,
        cursor[colon + 1..].to_vec(),
    );
    let (group, value) = place.split_at_checked(1)?;
    let mut kind = match group {
        "d" => ItemKind::Directory,
        "f" => ItemKind::File { len: 0 },
        _ => return None,
    };
    let mut modified = Timestamp::default();
    match sort {
        SortKey::Name | SortKey::Kind => {}
        SortKey::Size => {
            let size = value.parse().ok()?;
            if let ItemKind::File { len } = &mut kind {
                *len = size;
            }
        }
        SortKey::Time => {
            let (seconds, nanoseconds) = value.split_once('.')?;
            modified = Timestamp {
                seconds: seconds.parse().ok()?,
                nanoseconds: nanoseconds.parse().ok()?,
            };
        }
    }
    let item = Item {
        name,
        facts: super::scan::ItemFacts {
            kind,
            modified,
            inode: (0, 0),
        },
    };
    Some(Ranked {
        primary: primary(&item, sort),
        item,
        order,
    })
}

fn primary(item: &Item, sort: SortKey) -> Primary {
    match (sort, item.facts.kind) {
        (SortKey::Name, _) | (SortKey::Kind, ItemKind::Directory) => Primary::Nothing,
        (SortKey::Size, ItemKind::Directory | ItemKind::LinkOut) => Primary::Size(0),
        (SortKey::Size, ItemKind::File { len }) => Primary::Size(len),
        (SortKey::Time, _) => Primary::Time(item.facts.modified),
        (SortKey::Kind, ItemKind::File { .. } | ItemKind::LinkOut) => {
            Primary::Kind(MediaType::of(&item.name))
        }
    }
}

impl Ord for Ranked {
    /// Directories first, whichever the direction. Names in ascending order decide between equals.
    fn cmp(&self, other: &Self) -> Ordering {
        let directory = |ranked: &Self| ranked.item.facts.kind == ItemKind::Directory;
        let turn = |ordering: Ordering| match self.order {
            SortOrder::Ascending => ordering,
            SortOrder::Descending => ordering.reverse(),
        };
        directory(other)
            .cmp(&directory(self))
            .then_with(|| turn(self.primary.cmp(&other.primary)))
            .then_with(|| {
                let names = natural(&self.item.name, &other.item.name);
                if self.primary == Primary::Nothing {
                    turn(names)
                } else {
                    names
                }
            })
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

/// Names as people count them: `part2` before `part10`, upper and lower case alike. Different
/// names are never equal.
fn natural(one: &[u8], other: &[u8]) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        match (left, right) {
            ([], _) | (_, []) => {
                return left.len().cmp(&right.len()).then_with(|| one.cmp(other));
            }
            ([a, ..], [b, ..]) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (number, left_rest) = split_number(left);
                let (other_number, right_rest) = split_number(right);
                let numbers = number
                    .len()
                    .cmp(&other_number.len())
                    .then_with(|| number.cmp(other_number));
                if numbers.is_ne() {
                    return numbers;
                }
                (left, right) = (left_rest, right_rest);
            }
            ([a, left_rest @ ..], [b, right_rest @ ..]) => {
                let letters = a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase());
                if letters.is_ne() {
                    return letters;
                }
                (left, right) = (left_rest, right_rest);
            }
        }
    }
}

/// The digits in front, without leading zeros, and the rest.
fn split_number(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(bytes.len());
    let start = bytes[..end]
        .iter()
        .position(|byte| *byte != b'0')
        .unwrap_or(end);
    (&bytes[start..end], &bytes[end..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scan::ItemFacts;
    use super::*;

    fn item(name: &str, kind: ItemKind, seconds: i64) -> Item {
        let modified = Timestamp {
            seconds,
            nanoseconds: 0,
        };
        Item {
            name: name.into(),
            facts: ItemFacts {
                kind,
                modified,
                inode: (0, 0),
            },
        }
    }

    #[test]
    fn names_are_ordered_as_people_count() {
        let sorted = [
            "", "007", "7a", "8", "a", "A1", "a2", "a10", "a10b", "B", "\u{fc}",
        ];
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                assert_eq!(
                    natural(one.as_bytes(), other.as_bytes()),
                    index.cmp(&other_index),
                    "{one:?} {other:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn pages_together_are_the_whole_in_order(
            entries in proptest::collection::btree_map("[a-cA-C0-2]{1,3}", (0_u64..4, 0_i64..3), 0..40),
            directories in 0_u64..2,
            most in 1_usize..7,
            sort in prop_oneof![
                Just(SortKey::Name), Just(SortKey::Size), Just(SortKey::Time), Just(SortKey::Kind)
            ],
            order in prop_oneof![Just(SortOrder::Ascending), Just(SortOrder::Descending)],
        ) {
            let items: Vec<Item> = entries
                .iter()
                .map(|(name, (len, seconds))| {
                    let kind = if *len < directories {
                        ItemKind::Directory
                    } else {
                        ItemKind::File { len: *len }
                    };
                    item(name, kind, *seconds)
                })
                .collect();
            let mut expected: Vec<Ranked> = items
                .iter()
                .map(|item| Ranked { primary: primary(item, sort), item: item.clone(), order })
                .collect();
            expected.sort();
            let expected: Vec<Item> = expected.into_iter().map(|ranked| ranked.item).collect();

            let (mut found, mut cursor) = (Vec::new(), None);
            loop {
                let mut selection = PageSelection::new(sort, order, most, cursor.as_deref());
                items.iter().cloned().for_each(|item| selection.offer(item));
                prop_assert_eq!(selection.total, items.len() as u64);
                prop_assert_eq!(selection.before, found.len() as u64);
                let page = selection.take();
                let Some(last) = page.last() else { break };
                cursor = Some(last.cursor());
                found.extend(page.into_iter().map(|ranked| ranked.item));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
