//! Wrong passwords by client: each makes the next attempt wait longer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::client_share::ClientKey;

use super::pending_checks::PastGuesses;

/// Clients whose passwords were wrong lately.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    origins: Mutex<HashMap<Origin, Failures>>,
}

/// An origin of wrong passwords, which are counted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    Client(ClientKey),
    /// The /48 of IPv6 that a site may have, with its 65,536 clients (RFC 6177), by its number.
    Site(u128),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Origin {
    fn all_of(client: ClientKey) -> impl Iterator<Item = Self> {
        let site = match client {
            ClientKey::Address(IpAddr::V6(address)) => Some(Self::Site(address.to_bits() >> 80)),
            ClientKey::Address(IpAddr::V4(_)) | ClientKey::User(_) => None,
        };
        std::iter::once(Self::Client(client)).chain(site)
    }

    /// How long to wait from the last of so many failures on.
    fn delay(self, failures: u32) -> Duration {
        let (free, most) = match self {
            Self::Client(_) => (FREE, MAX_DELAY),
            Self::Site(_) => (FREE_OF_SITE, MAX_DELAY_OF_SITE),
        };
        match failures.checked_sub(free) {
            None => Duration::ZERO,
            Some(more) => {
                let factor = 1_u32.checked_shl(more).unwrap_or(u32::MAX);
                FIRST_DELAY.saturating_mul(factor).min(most)
            }
        }
    }
}

impl Failures {
    fn is_forgotten(self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGOTTEN_AFTER
    }
}

impl Attempts {
    /// How long this client still has to wait before its next password is looked at.
    pub(super) fn wait(&self, client: ClientKey, now: Instant) -> Option<Duration> {
        let origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = Origin::all_of(client).filter_map(|origin| {
            let failures = origins.get(&origin).filter(|it| !it.is_forgotten(now))?;
            let end = failures.last + origin.delay(failures.count);
            Some(end.saturating_duration_since(now))
        });
        waits.max().filter(|wait| !wait.is_zero())
    }

    /// Whether passwords of this client were wrong lately, or of its site more than have no delay.
    pub(super) fn past_guesses(&self, client: ClientKey, now: Instant) -> PastGuesses {
        let origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wrong = |origin: Origin| {
            let failures = origins.get(&origin).filter(|it| !it.is_forgotten(now));
            failures.is_some_and(|it| match origin {
                Origin::Client(_) => true,
                Origin::Site(_) => !origin.delay(it.count).is_zero(),
            })
        };
        match Origin::all_of(client).any(is_wrong) {
            true => PastGuesses::Wrong,
            false => PastGuesses::None,
        }
    }

    /// Counts a wrong password.
    pub(super) fn note_failure(&self, client: ClientKey, now: Instant) {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        for origin in Origin::all_of(client) {
            if origins.len() >= MAX_ORIGINS && !origins.contains_key(&origin) {
                make_room(&mut origins, now);
            }
            let failures = origins.entry(origin).or_insert(Failures {
                count: 0,
                last: now,
            });
            let before = match failures.is_forgotten(now) {
                true => 0,
                false => failures.count,
            };
            *failures = Failures {
                count: before.saturating_add(1),
                last: now,
            };
        }
    }
}

fn make_room(origins: &mut HashMap<Origin, Failures>, now: Instant) {
    origins.retain(|_, failures| !failures.is_forgotten(now));
    if origins.len() >= MAX_ORIGINS {
        let oldest = origins.iter().min_by_key(|(_, failures)| failures.last);
        if let Some(oldest) = oldest.map(|(origin, _)| *origin) {
            origins.remove(&oldest);
        }
    }
}

/// Wrong passwords without a wait: typing errors.
const FREE: u32 = 5;
/// The same for a site, whose clients need not know each other.
const FREE_OF_SITE: u32 = 64;

/// After the first one that does; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(1);

const MAX_DELAY: Duration = Duration::from_secs(60);
/// Short, since it is for all clients of a site; at a quarter of a second a look, one site then takes
/// a sixteenth of the time there is for looks.
const MAX_DELAY_OF_SITE: Duration = Duration::from_secs(4);

/// Since the last one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// About a megabyte. Beyond it the one that has been quiet the longest is forgotten.
const MAX_ORIGINS: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientKey = ClientKey::User(7);

    #[test]
    fn delays_grow_to_a_minute_and_are_forgotten() {
        let attempts = Attempts::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..14 {
            attempts.note_failure(CLIENT, now);
            let wait = attempts.wait(CLIENT, now).unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(attempts.wait(CLIENT, now), None);
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        now += FORGOTTEN_AFTER;
        attempts.note_failure(CLIENT, now);
        assert_eq!(attempts.wait(CLIENT, now), None);
    }

    #[test]
    fn a_site_with_many_networks_is_slowed_as_a_whole() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let client = |address: String| ClientKey::Address(address.parse().expect("an address"));
        let of_site = |number| client(format!("2001:db8:7:{number:x}::"));
        for number in 0..FREE_OF_SITE {
            assert_eq!(attempts.wait(of_site(number), now), None, "{number}");
            attempts.note_failure(of_site(number), now);
        }
        assert_eq!(attempts.wait(of_site(999), now), Some(FIRST_DELAY));
        for number in 0..9 {
            attempts.note_failure(of_site(number), now);
        }
        assert_eq!(attempts.wait(of_site(999), now), Some(MAX_DELAY_OF_SITE));
        // Beside it, and the addresses of another family that begin alike.
        for other in ["2001:db8:8::", "32.1.13.184"] {
            assert_eq!(
                attempts.wait(client(other.to_owned()), now),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_latest_stay() {
        let attempts = Attempts::default();
        let begun = Instant::now();
        let clients = 0..u32::try_from(MAX_ORIGINS).expect("few") + 3;
        for number in clients {
            let now = begun + Duration::from_millis(number.into());
            attempts.note_failure(ClientKey::User(number), now);
        }
        let kept = attempts.origins.lock().expect("not poisoned");
        let client = |number| Origin::Client(ClientKey::User(number));
        assert_eq!(kept.len(), MAX_ORIGINS);
        assert!(!kept.contains_key(&client(2)));
        assert!(kept.contains_key(&client(3)));
    }
}
