//! The addresses that one file can be had from, and how they have done so far.

use std::collections::VecDeque;

use crate::get::part_file::validate::Validator;
use crate::get::source::HttpUrl;

/// The first address and its mirrors.
#[derive(Debug)]
pub(crate) struct Mirrors {
    mirrors: Vec<Mirror>,
    ranges: Ranges,
    /// The addresses that are still to bring the file alone, once that has begun.
    untried_alone: Option<VecDeque<usize>>,
}

/// Whether more than one response can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ranges {
    Possible,
    /// The server does not support ranges, or they have proven unreliable.
    Impossible,
}

/// An address of the file.
#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    pub(crate) index: usize,
    /// As it was given.
    pub(crate) url: HttpUrl,
    /// Where it led, as long as that works: a redirector may choose another host every time.
    pub(crate) current: HttpUrl,
    /// The mirror has shown its file to be the one.
    pub(crate) is_known: bool,
    /// Under which it has.
    pub(crate) validator: Option<Validator>,
    /// Requests that failed in a row.
    failures: u32,
    busy: usize,
    standing: MirrorState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MirrorState {
    Good,
    /// Nothing shows so far that its file is the same.
    Unproven,
    Dropped,
}

impl Mirror {
    fn new(index: usize, url: HttpUrl) -> Self {
        Self {
            index,
            current: url.clone(),
            url,
            is_known: false,
            validator: None,
            failures: 0,
            busy: 0,
            standing: MirrorState::Good,
        }
    }

    /// Whether a redirect was followed: requests go where it led last.
    pub(crate) fn has_moved(&self) -> bool {
        self.current != self.url
    }
}

impl Mirrors {
    pub(crate) fn new(urls: impl IntoIterator<Item = HttpUrl>) -> Self {
        let mirror = |(index, url)| Mirror::new(index, url);
        Self {
            mirrors: urls.into_iter().enumerate().map(mirror).collect(),
            ranges: Ranges::Possible,
            untried_alone: None,
        }
    }

    /// The least busy mirror; recent failures come last, and the first mirror before its equals.
    pub(crate) fn pick(&self) -> Option<&Mirror> {
        let good = self
            .mirrors
            .iter()
            .filter(|mirror| mirror.standing == MirrorState::Good);
        good.min_by_key(|mirror| (mirror.failures, mirror.busy, mirror.index))
    }

    /// Some address has not failed lately.
    pub(crate) fn has_fresh(&self) -> bool {
        self.pick().is_some_and(|mirror| mirror.failures == 0)
    }

    pub(crate) fn ranges(&self) -> Ranges {
        self.ranges
    }

    /// From now on, and for new versions of the file too, only whole responses are used.
    pub(crate) fn distrust_ranges(&mut self) {
        self.ranges = Ranges::Impossible;
    }

    pub(crate) fn acquire(&mut self, index: usize) {
        self.mirrors[index].busy += 1;
    }

    /// The connection to the address is through, for better or worse.
    pub(crate) fn release(&mut self, index: usize) {
        self.mirrors[index].busy = self.mirrors[index].busy.saturating_sub(1);
    }

    /// The mirror answered from `current`, and its file is the one under `validator`.
    pub(crate) fn learn(&mut self, index: usize, current: HttpUrl, validator: Option<Validator>) {
        let mirror = &mut self.mirrors[index];
        mirror.current = current;
        mirror.is_known = true;
        mirror.validator = validator;
        mirror.failures = 0;
    }

    /// A request failed: where it led is forgotten. Says whether it is time to drop a mirror.
    pub(crate) fn failed(&mut self, index: usize) -> bool {
        let mirror = &mut self.mirrors[index];
        mirror.current = mirror.url.clone();
        mirror.failures += 1;
        let spent = mirror.failures >= MIRROR_FAILURES;
        spent && self.has_others(index)
    }

    /// Uses an address no more. Refused for the last one.
    pub(crate) fn drop_mirror(&mut self, index: usize) -> Result<(), LastMirror> {
        if !self.has_others(index) {
            return Err(LastMirror);
        }
        self.mirrors[index].standing = MirrorState::Dropped;
        Ok(())
    }

    /// The address is not used until a list of blocks can prove its bytes.
    pub(crate) fn set_aside(&mut self, index: usize) {
        self.mirrors[index].standing = MirrorState::Unproven;
    }

    /// A block list is known: mirrors that waited for it become usable.
    pub(crate) fn admit_unproven(&mut self) {
        for mirror in &mut self.mirrors {
            if mirror.standing == MirrorState::Unproven {
                mirror.standing = MirrorState::Good;
            }
        }
    }

    /// Adds an address from the server's links, unless it is known or there are enough.
    pub(crate) fn add(&mut self, url: HttpUrl) {
        if self.find(&url.recorded()).is_none() && self.mirrors.len() < MAX_MIRRORS {
            let index = self.mirrors.len();
            self.mirrors.push(Mirror::new(index, url));
        }
    }

    /// The index of the address that a state file calls `name`.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.mirrors
            .iter()
            .position(|mirror| mirror.url.recorded() == name)
    }

    pub(crate) fn mirror(&self, index: usize) -> &Mirror {
        &self.mirrors[index]
    }

    /// The address at `index`.
    pub(crate) fn url(&self, index: usize) -> &HttpUrl {
        &self.mirrors[index].url
    }

    /// The file has changed: the mirrors' validators are void.
    pub(crate) fn forget(&mut self) {
        for mirror in &mut self.mirrors {
            mirror.is_known = false;
            mirror.validator = None;
            mirror.current = mirror.url.clone();
        }
        self.admit_unproven();
    }

    /// Has one address bring the whole file, after the sum of what several brought was wrong: the
    /// first one, and the next one each time, up to `most`; `None` if that cannot help, or can no
    /// more.
    pub(crate) fn next_alone(&mut self, most: usize) -> Option<&HttpUrl> {
        let mirrors = &self.mirrors;
        let untried = self.untried_alone.get_or_insert_with(|| {
            let others = mirrors.iter().skip(1);
            let others = others.filter(|mirror| mirror.standing == MirrorState::Good);
            let others: Vec<_> = others.map(|mirror| mirror.index).collect();
            let first = (!others.is_empty()).then_some(0);
            first.into_iter().chain(others).take(most).collect()
        });
        let next = untried.pop_front()?;
        for mirror in &mut self.mirrors {
            mirror.standing = match mirror.index == next {
                true => MirrorState::Good,
                false => MirrorState::Dropped,
            };
        }
        Some(&self.mirrors[next].url)
    }

    /// The file can be had from another address than this one.
    pub(crate) fn has_others(&self, index: usize) -> bool {
        self.mirrors
            .iter()
            .any(|mirror| mirror.index != index && mirror.standing == MirrorState::Good)
    }
}

/// See [`Mirrors::drop_mirror`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastMirror;

/// The most mirrors that a server may name.
const MAX_MIRRORS: usize = 32;
const MIRROR_FAILURES: u32 = 3;
