//! The addresses that one file can be had from, and how they have done so far.

use super::answer::Validator;
use super::source::HttpUrl;

/// The first address and its mirrors.
#[derive(Debug)]
pub(super) struct Leads {
    leads: Vec<Lead>,
    ranges: Ranges,
}

/// Whether more than one answer can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ranges {
    Possible,
    /// The server has none, or has shown that they cannot be trusted.
    Impossible,
}

/// One address.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    pub(super) index: usize,
    /// As it was given.
    pub(super) url: HttpUrl,
    /// Where it led, as long as that works: a redirector may choose another host every time.
    pub(super) current: HttpUrl,
    /// Under which this address has shown its file to be the one.
    pub(super) validator: Option<Validator>,
    /// Requests that failed in a row.
    failures: u32,
    busy: usize,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    Dropped,
}

impl Lead {
    /// It is asked where it led last, not as it was given.
    pub(super) fn has_moved(&self) -> bool {
        self.current != self.url
    }
}

impl Leads {
    pub(super) fn new(urls: impl IntoIterator<Item = HttpUrl>) -> Self {
        let lead = |(index, url): (usize, HttpUrl)| Lead {
            index,
            current: url.clone(),
            url,
            validator: None,
            failures: 0,
            busy: 0,
            standing: Standing::Good,
        };
        Self {
            leads: urls.into_iter().enumerate().map(lead).collect(),
            ranges: Ranges::Possible,
        }
    }

    /// The least busy address, those that failed last in line. The first one unless told
    /// otherwise.
    pub(super) fn pick(&self) -> Option<&Lead> {
        let good = self
            .leads
            .iter()
            .filter(|lead| lead.standing == Standing::Good);
        good.min_by_key(|lead| (lead.failures, lead.busy, lead.index))
    }

    /// Some address has not failed lately.
    pub(super) fn has_fresh(&self) -> bool {
        self.pick().is_some_and(|lead| lead.failures == 0)
    }

    pub(super) fn ranges(&self) -> Ranges {
        self.ranges
    }

    /// From now on, and for new versions of the file too, only whole answers are used.
    pub(super) fn distrust_ranges(&mut self) {
        self.ranges = Ranges::Impossible;
    }

    pub(super) fn engage(&mut self, index: usize) {
        self.leads[index].busy += 1;
    }

    /// The connection to the address is through, for better or worse.
    pub(super) fn disengage(&mut self, index: usize) {
        self.leads[index].busy = self.leads[index].busy.saturating_sub(1);
    }

    /// It answered from `current`, and its file is the one under `validator`.
    pub(super) fn learn(&mut self, index: usize, current: HttpUrl, validator: Option<Validator>) {
        let lead = &mut self.leads[index];
        lead.current = current;
        lead.validator = validator;
        lead.failures = 0;
    }

    /// A request failed: where it led is forgotten. Says whether it is time to drop a mirror.
    pub(super) fn failed(&mut self, index: usize) -> Patience {
        let lead = &mut self.leads[index];
        lead.current = lead.url.clone();
        lead.failures += 1;
        // One that has not brought a byte yet gets no second chance.
        let spent = lead.failures >= MIRROR_FAILURES || lead.validator.is_none();
        if spent && self.has_others(index) {
            Patience::Spent
        } else {
            Patience::Left
        }
    }

    /// Uses an address no more. Refused for the last one.
    pub(super) fn drop_lead(&mut self, index: usize) -> Result<(), LastLead> {
        if !self.has_others(index) {
            return Err(LastLead);
        }
        self.leads[index].standing = Standing::Dropped;
        Ok(())
    }

    /// The index of the address that is shown as `url`.
    pub(super) fn find(&self, url: &str) -> Option<usize> {
        self.leads
            .iter()
            .position(|lead| lead.url.to_string() == url)
    }

    pub(super) fn lead(&self, index: usize) -> &Lead {
        &self.leads[index]
    }

    /// The address at `index`.
    pub(super) fn url(&self, index: usize) -> &HttpUrl {
        &self.leads[index].url
    }

    /// The file has changed: what was known of it is void.
    pub(super) fn forget(&mut self) {
        for lead in &mut self.leads {
            lead.validator = None;
            lead.current = lead.url.clone();
        }
    }

    /// Only the first address is used from now on; says whether that makes a difference.
    pub(super) fn only_first(&mut self) -> bool {
        let mirrors = self
            .leads
            .iter()
            .skip(1)
            .any(|lead| lead.standing == Standing::Good);
        for lead in self.leads.iter_mut().skip(1) {
            lead.standing = Standing::Dropped;
        }
        if let Some(first) = self.leads.first_mut() {
            first.standing = Standing::Good;
        }
        mirrors
    }

    /// The file can be had from another address than this one.
    pub(super) fn has_others(&self, index: usize) -> bool {
        self.leads
            .iter()
            .any(|lead| lead.index != index && lead.standing == Standing::Good)
    }
}

/// See [`Leads::failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Left,
    Spent,
}

/// See [`Leads::drop_lead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastLead;

const MIRROR_FAILURES: u32 = 3;
