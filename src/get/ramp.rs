//! How many connections one file gets. Pure: the clock and the counters come in.
//!
//! Auto doubles the connections while the total rate rises by a tenth. It never judges for good:
//! after a pause it measures anew, since a server's unpaced first burst, a line that was busy, or
//! plain bad luck may have spoilt the last judgement. Pauses grow, so that a line where one
//! connection is best (a LAN) is left alone.

use std::time::Duration;

use super::Segments;

/// The number of connections that a file should have now.
#[derive(Debug)]
pub(super) struct Ramp {
    want: usize,
    most: usize,
    judge: Judge,
}

#[derive(Debug)]
enum Judge {
    Fixed,
    Auto { phase: Phase, pause: Duration },
}

#[derive(Debug)]
enum Phase {
    /// Measures what the present connections bring.
    Baseline(Gauge),
    /// Measures whether twice as many bring a tenth more than `rate`.
    More {
        gauge: Gauge,
        before: usize,
        rate: f64,
    },
    /// Measures whether half as many bring as much as `rate`.
    Fewer {
        gauge: Gauge,
        before: usize,
        rate: f64,
    },
    Rest {
        until: Duration,
    },
}

impl Ramp {
    pub(super) fn new(segments: Segments) -> Self {
        match segments {
            Segments::Fixed(count) => Self {
                want: count,
                most: count,
                judge: Judge::Fixed,
            },
            Segments::Auto => {
                let phase = Phase::Baseline(Gauge::new(Duration::ZERO, FIRST_PAUSE));
                let judge = Judge::Auto {
                    phase,
                    pause: FIRST_PAUSE,
                };
                Self {
                    want: 1,
                    most: MAX_AUTO,
                    judge,
                }
            }
        }
    }

    pub(super) fn want(&self) -> usize {
        self.want
    }

    /// The server did not take more than `count` connections at `now`.
    pub(super) fn limit(&mut self, count: usize, now: Duration) {
        self.want = self.want.min(count.max(1));
        match &mut self.judge {
            Judge::Fixed => self.most = self.want,
            // It may have been bad luck; but asking again costs the server, so not soon.
            Judge::Auto { phase, pause } => {
                *pause = (*pause).max(LOOK_DOWN_FROM);
                *phase = Phase::Rest {
                    until: now + *pause,
                };
            }
        }
    }

    /// Looks at the counters: `received` bytes at `now` since the start, `left` bytes to go.
    pub(super) fn observe(&mut self, now: Duration, received: u64, left: u64) {
        let Judge::Auto { phase, pause } = &mut self.judge else {
            return;
        };
        let worth_it = |rate: f64| left as f64 > rate * LONG_ENOUGH.as_secs_f64();
        match phase {
            Phase::Rest { until } => {
                if now >= *until {
                    *phase = Phase::Baseline(Gauge::new(now, *pause));
                }
            }
            Phase::Baseline(gauge) => {
                let Some(rate) = gauge.read(now, received) else {
                    return;
                };
                let before = self.want;
                let fewer = before > 1 && *pause >= LOOK_DOWN_FROM;
                if !worth_it(rate) {
                    *phase = Phase::Rest {
                        until: now + FIRST_PAUSE,
                    };
                } else if fewer {
                    self.want = before / 2;
                    *phase = Phase::Fewer {
                        gauge: Gauge::new(now, *pause),
                        before,
                        rate,
                    };
                } else if before < self.most {
                    self.want = (before * 2).min(self.most);
                    *phase = Phase::More {
                        gauge: Gauge::new(now, *pause),
                        before,
                        rate,
                    };
                } else {
                    Self::rest(phase, pause, now);
                }
            }
            Phase::Fewer {
                gauge,
                before,
                rate: baseline,
            } => {
                let (before, baseline) = (*before, *baseline);
                let Some(rate) = gauge.read(now, received) else {
                    return;
                };
                if rate >= baseline * AS_GOOD {
                    *phase = Phase::Baseline(Gauge::new(now, FIRST_PAUSE));
                } else {
                    self.want = (before * 2).min(self.most);
                    *phase = Phase::More {
                        gauge: Gauge::new(now, *pause),
                        before,
                        rate: baseline,
                    };
                }
            }
            Phase::More {
                gauge,
                before,
                rate: baseline,
            } => {
                let (before, baseline) = (*before, *baseline);
                let Some(rate) = gauge.read(now, received) else {
                    return;
                };
                if rate < baseline * WORTH_IT {
                    self.want = before;
                    if rate < baseline * AS_GOOD {
                        *pause = (*pause * 2).min(LONGEST_PAUSE);
                    }
                    Self::rest(phase, pause, now);
                } else if self.want < self.most && worth_it(rate) {
                    let before = self.want;
                    self.want = (before * 2).min(self.most);
                    *phase = Phase::More {
                        gauge: Gauge::new(now, FIRST_PAUSE),
                        before,
                        rate,
                    };
                } else {
                    Self::rest(phase, pause, now);
                }
            }
        }
    }

    fn rest(phase: &mut Phase, pause: &mut Duration, now: Duration) {
        *phase = Phase::Rest {
            until: now + *pause,
        };
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }
}

/// Measures a rate, after the connections had time to settle.
#[derive(Debug)]
struct Gauge {
    settled: Duration,
    window: Duration,
    start: Option<(Duration, u64)>,
}

impl Gauge {
    /// The longer the pauses have become, the more thorough: what a quick look cannot see (slow
    /// start over a long way, a token bucket that fills and empties) a longer one will.
    fn new(now: Duration, pause: Duration) -> Self {
        Self {
            settled: now
                + (pause / 2).clamp(Duration::from_millis(200), Duration::from_millis(1200)),
            window: (pause / 2).clamp(Duration::from_millis(200), Duration::from_millis(1000)),
            start: None,
        }
    }

    fn read(&mut self, now: Duration, received: u64) -> Option<f64> {
        if now < self.settled {
            return None;
        }
        let (since, at) = *self.start.get_or_insert((now, received));
        let elapsed = now - since;
        (elapsed >= self.window).then(|| (received - at) as f64 / elapsed.as_secs_f64())
    }
}

const MAX_AUTO: usize = 16;
/// What twice the connections must bring, against what they cost everybody.
const WORTH_IT: f64 = 1.1;
const AS_GOOD: f64 = 0.95;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// With pauses this long, half the connections get their chance too.
const LOOK_DOWN_FROM: Duration = Duration::from_secs(4);
/// A file that will be there sooner than this is left alone.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `seconds` against a world that gives `rate(connections, seconds)` bytes a second;
    /// returns what was wanted most of the last third, trials aside, and the share of `best` that
    /// was received.
    fn run(seconds: u64, best: f64, rate: impl Fn(usize, f64) -> f64) -> (usize, f64) {
        let mut ramp = Ramp::new(Segments::Auto);
        let (mut received, step) = (0.0, Duration::from_millis(50));
        let total = best * seconds as f64;
        let mut now = Duration::ZERO;
        let mut wants = [0; 33];
        while now < Duration::from_secs(seconds) {
            received += rate(ramp.want(), now.as_secs_f64()) * step.as_secs_f64();
            now += step;
            ramp.observe(now, received as u64, (total - received).max(0.0) as u64);
            if now * 3 >= Duration::from_secs(seconds * 2) {
                wants[ramp.want()] += 1;
            }
        }
        let usual = (0..wants.len()).max_by_key(|&want| wants[want]);
        (usual.unwrap_or_default(), received / total)
    }

    #[test]
    fn finds_the_four_connections_that_fill_a_line() {
        let (want, share) = run(10, 100e6, |n, _| 25e6 * n.min(4) as f64);
        assert_eq!(want, 4);
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn leaves_a_lan_with_one() {
        let (want, share) = run(20, 1e9, |n, _| if n == 1 { 1e9 } else { 0.9e9 });
        assert_eq!(want, 1);
        assert!(share > 0.95, "{share}");
    }

    #[test]
    fn an_unpaced_first_burst_does_not_fool_it() {
        let (want, share) = run(20, 100e6, |n, t| {
            if t < 0.8 {
                200e6
            } else {
                25e6 * n.min(4) as f64
            }
        });
        assert_eq!(want, 4);
        assert!(share > 0.85, "{share}");
    }

    #[test]
    fn a_line_that_changes_is_judged_anew() {
        let world = |n: usize, t: f64| {
            if t < 5.0 {
                25e6 * n.min(4) as f64
            } else {
                100e6 - 2e6 * n as f64
            }
        };
        assert_eq!(run(60, 100e6, world).0, 1);
        let world = |n: usize, t: f64| {
            if t < 5.0 {
                100e6
            } else {
                25e6 * n.min(4) as f64
            }
        };
        assert_eq!(run(60, 100e6, world).0, 4);
    }

    #[test]
    fn a_fixed_number_stays_unless_the_server_objects() {
        let mut ramp = Ramp::new(Segments::Fixed(8));
        ramp.observe(Duration::from_secs(100), 1, u64::MAX);
        assert_eq!(ramp.want(), 8);
        ramp.limit(3, Duration::from_secs(101));
        assert_eq!(ramp.want(), 3);
    }
}
