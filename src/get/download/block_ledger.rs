//! A session's blocks: the server's list, the blocks that match it, the mirrors of the others, and
//! how often each differed.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::blocks::{self, BLOCK_BYTES};
use crate::digest::{BlockList, Checksum};
use crate::get::blocks::digest;
use crate::get::part_file::extents::{Extent, Extents, Run};
use crate::get::part_file::validate::Validator;
use crate::get::source::HttpUrl;

/// Shared by the threads of a session.
#[derive(Debug)]
pub(super) struct BlockLedger {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    listing: ListState,
    good: Extents,
    /// The mirrors that brought bytes of each block that is not known to be good.
    writers: BTreeMap<u64, Vec<usize>>,
    /// Bad copies of a block.
    failures: BTreeMap<u64, u32>,
    /// The start of the first bad block since this was taken.
    first_bad: Option<u64>,
}

/// The state of the list.
#[derive(Clone, Debug)]
pub(super) enum ListState {
    /// No server with block lists has answered.
    Unsought,
    /// A request to this address is under way, for the version under this validator.
    Asked(ListSource),
    /// The server is still reading the file.
    Pending,
    /// The list is here, and its values give its root.
    Known(Arc<BlockList>),
    /// The server has no list.
    None,
}

/// The address of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListSource {
    pub(crate) url: HttpUrl,
    pub(crate) validator: Option<Validator>,
}

/// A block that differs from the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadBlock {
    pub(super) extent: Extent,
    /// The mirrors that brought it, by index; none if it was here before.
    pub(super) writers: Vec<usize>,
    /// Times that it came wrong, this one included.
    pub(super) times: u32,
}

impl BlockLedger {
    /// `list` is the list if it is known already, `source` its address.
    pub(super) fn new(list: Option<Arc<BlockList>>, source: Option<ListSource>) -> Self {
        let listing = match (list, source) {
            (Some(list), _) => ListState::Known(list),
            (None, Some(source)) => ListState::Asked(source),
            (None, None) => ListState::Unsought,
        };
        let state = State {
            listing,
            good: Extents::default(),
            writers: BTreeMap::new(),
            failures: BTreeMap::new(),
            first_bad: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(super) fn listing(&self) -> ListState {
        self.state().listing.clone()
    }

    /// The list, once it is here.
    pub(super) fn list(&self) -> Option<Arc<BlockList>> {
        match &self.state().listing {
            ListState::Known(list) => Some(Arc::clone(list)),
            _ => None,
        }
    }

    /// The list is here; returns whether it is wanted still.
    pub(super) fn take_list(&self, list: &Arc<BlockList>) -> bool {
        let mut state = self.state();
        let is_sought = matches!(state.listing, ListState::Asked(_) | ListState::Pending);
        if is_sought {
            state.listing = ListState::Known(Arc::clone(list));
            self.changed.notify_all();
        }
        is_sought
    }

    /// The server is still reading the file.
    pub(super) fn note_pending(&self) {
        let mut state = self.state();
        if matches!(state.listing, ListState::Asked(_)) {
            state.listing = ListState::Pending;
            self.changed.notify_all();
        }
    }

    /// No list is trusted.
    pub(super) fn give_up(&self) {
        self.state().listing = ListState::None;
        self.changed.notify_all();
    }

    /// Notes that a server with block lists has answered.
    pub(super) fn note_source(&self, source: ListSource) {
        let mut state = self.state();
        if matches!(state.listing, ListState::Unsought) {
            state.listing = ListState::Asked(source);
            self.changed.notify_all();
        }
    }

    /// Waits until the first answer to the question for the list is here, for a moment.
    pub(super) fn wait_for_answer(&self) -> ListState {
        let state = self.state();
        let is_open = |state: &mut State| matches!(state.listing, ListState::Asked(_));
        let waited = self.changed.wait_timeout_while(state, MOMENT, is_open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.listing.clone()
    }

    /// A mirror is about to have brought these bytes.
    pub(super) fn note_writer(&self, mirror: usize, (start, end): Extent) {
        let mut state = self.state();
        if matches!(state.listing, ListState::None | ListState::Unsought) || start >= end {
            return;
        }
        for number in start / BLOCK_BYTES..=(end - 1) / BLOCK_BYTES {
            let writers = state.writers.entry(number).or_default();
            if !writers.contains(&mirror) {
                writers.push(mirror);
            }
        }
    }

    /// The first block that is there whole and has not been looked at.
    pub(super) fn next(&self, done: &Extents, length: u64) -> Option<u64> {
        let state = self.state();
        let (blocks, mut found) = (blocks::count(length), None);
        for &(start, end) in done.as_slice() {
            let first = start.div_ceil(BLOCK_BYTES);
            let behind = match end >= length {
                true => blocks,
                false => end / BLOCK_BYTES,
            };
            let known = match state.good.run_from(first * BLOCK_BYTES) {
                Run::There(bytes) => bytes.div_ceil(BLOCK_BYTES),
                Run::Missing(_) => 0,
            };
            if first + known < behind {
                found = Some(first + known);
                break;
            }
        }
        found
    }

    pub(super) fn note_good(&self, number: u64, length: u64) {
        let (start, len) = blocks::extent(number, length);
        let mut state = self.state();
        state.good.insert(start, start + len);
        state.writers.remove(&number);
    }

    /// Notes a block that came wrong; `None` if the list does not count any more.
    pub(super) fn note_bad(&self, number: u64, length: u64) -> Option<BadBlock> {
        let (start, len) = blocks::extent(number, length);
        let mut state = self.state();
        if !matches!(state.listing, ListState::Known(_)) {
            return None;
        }
        let writers = state.writers.remove(&number).unwrap_or_default();
        let failures = state.failures.entry(number).or_default();
        // Bytes of an earlier run say nothing of the servers.
        *failures += u32::from(!writers.is_empty());
        let times = *failures;
        let first = state.first_bad.unwrap_or(start).min(start);
        state.first_bad = Some(first);
        Some(BadBlock {
            extent: (start, start + len),
            writers,
            times,
        })
    }

    /// The start of the first block that was found bad since the last call.
    pub(super) fn take_first_bad(&self) -> Option<u64> {
        self.state().first_bad.take()
    }

    /// How far from its start the file may be hashed: what is there, or is known to be good.
    pub(super) fn front(&self, done: &Extents) -> u64 {
        let state = self.state();
        match state.listing {
            ListState::Asked(_) => 0,
            ListState::Known(_) => state.good.front(),
            ListState::Unsought | ListState::Pending | ListState::None => done.front(),
        }
    }

    /// Whether nothing is left to be looked at of a file that is there whole.
    pub(super) fn is_settled(&self) -> bool {
        self.state().is_settled()
    }

    /// As [`Self::is_settled`], for a file that is there whole: a list that comes later is too late.
    pub(super) fn settle(&self) -> bool {
        let mut state = self.state();
        if matches!(state.listing, ListState::Pending) {
            state.listing = ListState::None;
        }
        state.is_settled()
    }

    /// Whether a server with block lists has answered.
    pub(super) fn was_sought(&self) -> bool {
        !matches!(self.listing(), ListState::Unsought)
    }

    /// The digest of the file, all of whose blocks are good.
    pub(super) fn proven(&self) -> Option<Checksum> {
        self.list()
            .filter(|_| self.is_settled())
            .and_then(|list| digest(&list))
    }

    /// Whether one of the checksums is of the list itself, so that the list cannot be wrong.
    pub(super) fn list_has_digest(&self, checksums: &[Checksum]) -> bool {
        let root = self.list().and_then(|list| digest(&list));
        root.is_some_and(|root| checksums.contains(&root))
    }

    /// Whether good blocks alone prove these checksums.
    pub(super) fn covers(&self, checksums: &[Checksum]) -> bool {
        let root = self.list().and_then(|list| digest(&list));
        root.is_some_and(|root| checksums.iter().all(|sum| *sum == root))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_settled(&self) -> bool {
        match &self.listing {
            ListState::Asked(_) => false,
            ListState::Known(list) => self.good.total() == list.len(),
            ListState::Unsought | ListState::Pending | ListState::None => true,
        }
    }
}

const MOMENT: Duration = Duration::from_millis(100);
