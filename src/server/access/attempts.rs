//! Wrong passwords by client: each makes the next attempt wait longer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::client_share::ClientKey;

/// Clients whose passwords were wrong lately.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    clients: Mutex<HashMap<ClientKey, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// From the last failure on.
    fn delay(self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(more) => {
                let factor = 1_u32.checked_shl(more).unwrap_or(u32::MAX);
                FIRST_DELAY.saturating_mul(factor).min(MAX_DELAY)
            }
        }
    }

    fn is_forgotten(self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGOTTEN_AFTER
    }
}

impl Attempts {
    /// How long this client still has to wait before its next password is looked at.
    pub(super) fn wait(&self, client: ClientKey, now: Instant) -> Option<Duration> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = clients.get(&client).filter(|it| !it.is_forgotten(now))?;
        let wait = (failures.last + failures.delay()).saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Counts a wrong password.
    pub(super) fn note_failure(&self, client: ClientKey, now: Instant) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, failures| !failures.is_forgotten(now));
            if clients.len() >= MAX_CLIENTS {
                let oldest = clients.iter().min_by_key(|(_, failures)| failures.last);
                if let Some(oldest) = oldest.map(|(client, _)| *client) {
                    clients.remove(&oldest);
                }
            }
        }
        let failures = clients.entry(client).or_insert(Failures {
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

/// Wrong passwords without a wait: typing errors.
const FREE: u32 = 5;

/// After the first one that does; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(1);

const MAX_DELAY: Duration = Duration::from_secs(60);

/// Since the last one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// About a megabyte. Beyond it the client that has been quiet the longest is forgotten.
const MAX_CLIENTS: usize = 1 << 14;

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
    fn what_is_kept_is_bounded_and_the_latest_stay() {
        let attempts = Attempts::default();
        let begun = Instant::now();
        let clients = 0..u32::try_from(MAX_CLIENTS).expect("few") + 3;
        for number in clients {
            let now = begun + Duration::from_millis(number.into());
            attempts.note_failure(ClientKey::User(number), now);
        }
        let kept = attempts.clients.lock().expect("not poisoned");
        assert_eq!(kept.len(), MAX_CLIENTS);
        assert!(!kept.contains_key(&ClientKey::User(2)));
        assert!(kept.contains_key(&ClientKey::User(3)));
    }
}
