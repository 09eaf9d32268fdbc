//! The time of a response, written once a second and thread.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use crate::meta::Timestamp;

/// The time at which a response is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since 1970.
    seconds: u64,
    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
    text: [u8; DATE_LEN],
}

impl Now {
    /// The time of the system's clock. Costs a look at the clock, and a formatting once a second
    /// in each thread.
    pub fn current() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs());
        LATEST.with(|latest| match latest.get() {
            Some(now) if now.seconds == seconds => now,
            _ => {
                let now = Self::at(seconds);
                latest.set(Some(now));
                now
            }
        })
    }

    /// The time so many seconds after 1970.
    pub fn at(seconds: u64) -> Self {
        // The last second of the year 9999, behind which the format ends.
        let seconds = seconds.min(253_402_300_799);
        let mut text = [b' '; DATE_LEN];
        write_date(text.as_mut_slice(), seconds);
        Self { seconds, text }
    }

    /// Seconds since 1970.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// The text for `Date`.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The second for `Last-Modified` of a change at `modified`: never in the future (RFC 9110
    /// section 8.8.2.1), nor before 1970, which clients may not be able to parse.
    pub(super) fn last_modified(&self, modified: Timestamp) -> u64 {
        u64::try_from(modified.seconds)
            .unwrap_or(0)
            .min(self.seconds)
    }
}

/// Writes a date of at most the year 9999.
pub(super) fn write_date(mut out: impl std::io::Write, seconds: u64) {
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds));
    // Writing to memory that is long enough cannot fail.
    let _ = write!(out, "{date}");
}

/// A date in any of the three forms of RFC 9110 section 5.6.7; `None` for anything else.
pub(super) fn parse_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(value).ok()?).ok()
}

thread_local! {
    static LATEST: Cell<Option<Now>> = const { Cell::new(None) };
}

const DATE_LEN: usize = 29;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_an_imf_fixdate() {
        assert_eq!(
            Now::at(784_111_777).text(),
            b"Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(Now::at(u64::MAX).text(), b"Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(Now::current().text().len(), DATE_LEN);
    }

    #[test]
    fn nothing_was_modified_in_the_future() {
        let now = Now::at(1_000);
        let at = |seconds| Timestamp {
            seconds,
            nanoseconds: 0,
        };
        assert_eq!(now.last_modified(at(999)), 999);
        assert_eq!(now.last_modified(at(1_001)), 1_000);
        assert_eq!(now.last_modified(at(-5)), 0);
    }
}
