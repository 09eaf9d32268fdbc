//! How many connections one file gets. Pure: the clock and the counters come in.
//!
//! Auto doubles the connections while the total rate rises by a tenth. It never judges for good:
//! after a pause it measures anew, since a server's unpaced first burst, a line that was busy, or
//! plain bad luck may have spoilt the last judgement. Pauses grow, so that a line where one
//! connection is best (a LAN) is left alone.

use std::time::Duration;

use crate::get::config::Segments;

/// What the counters say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Time since the start.
    pub(crate) now: Duration,
    /// Bytes received since the start.
    pub(crate) received: u64,
    /// Bytes to go.
    pub(crate) left: u64,
    /// Time that connections have spent writing to the file, all together.
    pub(crate) writing: Duration,
}

/// The number of connections that a file should have now.
#[derive(Debug)]
pub(crate) struct ConnectionScaler {
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
    /// Measures whether half as many bring as much as `rate`; those before waited for the file if
    /// it was `full`.
    Fewer {
        gauge: Gauge,
        before: usize,
        rate: f64,
        full: bool,
    },
    Rest {
        until: Duration,
    },
}

impl ConnectionScaler {
    pub(crate) fn new(segments: Segments) -> Self {
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

    pub(crate) fn want(&self) -> usize {
        self.want
    }

    /// The server did not take more than `count` connections at `now`.
    pub(crate) fn limit(&mut self, count: usize, now: Duration) {
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

    /// Looks at the counters.
    pub(crate) fn observe(&mut self, sample: Sample) {
        let Judge::Auto { phase, pause } = &mut self.judge else {
            return;
        };
        let now = sample.now;
        let worth_it = |rate: f64| sample.left as f64 > rate * LONG_ENOUGH.as_secs_f64();
        let waits_for_file = |reading: &Reading| reading.writing > self.want as f64 * FILE_IS_FULL;
        match phase {
            Phase::Rest { until } => {
                if now >= *until {
                    *phase = Phase::Baseline(Gauge::new(now, *pause));
                }
            }
            Phase::Baseline(gauge) => {
                let Some(reading) = gauge.read(sample) else {
                    return;
                };
                let (before, rate) = (self.want, reading.low);
                let full = waits_for_file(&reading);
                let fewer = before > 1 && (full || *pause >= LOOK_DOWN_FROM);
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
                        full,
                    };
                } else if before < self.most && !full {
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
                full,
            } => {
                let (before, baseline, full) = (*before, *baseline, *full);
                let Some(reading) = gauge.read(sample) else {
                    return;
                };
                if reading.low >= baseline * AS_GOOD {
                    *phase = Phase::Baseline(Gauge::new(now, FIRST_PAUSE));
                } else if full || waits_for_file(&reading) {
                    self.want = before;
                    Self::rest(phase, pause, now);
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
                let Some(reading) = gauge.read(sample) else {
                    return;
                };
                let rate = reading.high;
                if rate < baseline * WORTH_IT {
                    self.want = before;
                    if rate < baseline * AS_GOOD && *pause >= SURE_FROM {
                        *pause = (*pause * 2).min(LONGEST_PAUSE);
                    }
                    Self::rest(phase, pause, now);
                } else if self.want < self.most && worth_it(rate) && !waits_for_file(&reading) {
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
    samples: Vec<Sample>,
}

/// What a gauge read, in bytes a second. Servers that pace with a token bucket send in bursts, and
/// then the two ends of the range are far apart.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Without the bursts, as far as can be seen.
    low: f64,
    /// With all bursts, those of new connections too. A burst never exceeds what the line carries,
    /// so it cannot make more connections look better on a line that was full before.
    high: f64,
    /// How many connections were writing to the file, on average.
    writing: f64,
}

impl Gauge {
    /// The longer the pauses have become, the more thorough: what a quick look cannot see (slow
    /// start over a long way, a token bucket that fills and empties) a longer one will.
    fn new(now: Duration, pause: Duration) -> Self {
        Self {
            settled: now
                + (pause / 3).clamp(Duration::from_millis(200), Duration::from_millis(1200)),
            window: (pause / 2).clamp(Duration::from_millis(200), Duration::from_millis(1000)),
            samples: Vec::new(),
        }
    }

    fn read(&mut self, last: Sample) -> Option<Reading> {
        self.samples.push(last);
        let begins = self.samples.partition_point(|at| at.now < self.settled);
        let (first, since) = (self.samples[0], *self.samples.get(begins)?);
        if last.now - since.now < self.window {
            return None;
        }
        let middle = self.samples[begins + (self.samples.len() - begins) / 2];
        let seconds = |from: Sample, to: Sample| (to.now - from.now).as_secs_f64().max(1e-3);
        let rate = |from: Sample, to: Sample| {
            to.received.saturating_sub(from.received) as f64 / seconds(from, to)
        };
        let (earlier, later, mean) = (rate(since, middle), rate(middle, last), rate(since, last));
        let bursts = earlier.max(later) > 2.0 * earlier.min(later);
        Some(Reading {
            low: if bursts { earlier.min(later) } else { mean },
            high: mean.max(rate(first, last)),
            writing: (last.writing - since.writing).as_secs_f64() / seconds(since, last),
        })
    }
}

const MAX_AUTO: usize = 16;
/// What twice the connections must bring, against what they cost everybody.
const WORTH_IT: f64 = 1.1;
const AS_GOOD: f64 = 0.95;
/// Connections that spend this share of their time writing wait for the file, not for the line:
/// more of them would wait for each other.
const FILE_IS_FULL: f64 = 2.0 / 3.0;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// With pauses this long, half the connections get their chance too.
const LOOK_DOWN_FROM: Duration = Duration::from_secs(4);
/// With pauses this long, a loss is believed to be one.
const SURE_FROM: Duration = Duration::from_secs(1);
/// A file that will be there sooner than this is left alone.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs up to `seconds` against a world that gives so many bytes to so many connections in a
    /// step that begins at a time; returns what was wanted most of the last third, trials aside,
    /// and the share of `best` that was received.
    fn run(seconds: u64, best: f64, world: impl FnMut(usize, f64, f64) -> f64) -> (usize, f64) {
        run_writing(seconds, best, world, |_, _| 0.0)
    }

    /// The same where connections write to the file for a share of their time.
    fn run_writing(
        seconds: u64,
        best: f64,
        mut world: impl FnMut(usize, f64, f64) -> f64,
        share: impl Fn(usize, f64) -> f64,
    ) -> (usize, f64) {
        let mut ramp = ConnectionScaler::new(Segments::Auto);
        let (mut received, step) = (0.0, Duration::from_millis(25));
        let total = best * seconds as f64;
        let (mut now, mut writing) = (Duration::ZERO, Duration::ZERO);
        let mut wants = [0; 33];
        while now < Duration::from_secs(seconds) {
            let (connections, at) = (ramp.want(), now.as_secs_f64());
            received += world(connections, at, step.as_secs_f64());
            writing += step.mul_f64(share(connections, at) * connections as f64);
            now += step;
            ramp.observe(Sample {
                now,
                received: received as u64,
                left: (total - received).max(0.0) as u64,
                writing,
            });
            if now * 3 >= Duration::from_secs(seconds * 2) {
                wants[ramp.want()] += 1;
            }
        }
        let usual = (0..wants.len()).max_by_key(|&want| wants[want]);
        (usual.unwrap_or_default(), received / total)
    }

    /// A world without bursts.
    fn steady(rate: impl Fn(usize, f64) -> f64) -> impl FnMut(usize, f64, f64) -> f64 {
        move |connections, now, step| rate(connections, now) * step
    }

    /// A line whose server lets every connection send a second's worth of its rate at once, every
    /// second, as nginx does.
    fn bursts(line: f64, each: f64) -> impl FnMut(usize, f64, f64) -> f64 {
        let mut connections: Vec<(f64, f64)> = Vec::new();
        move |wanted, now, step| {
            connections.truncate(wanted);
            connections.resize(wanted, (now, 0.0));
            let mut room = line * step;
            for (opened, sent) in &mut connections {
                let allowed = each * ((now - *opened).floor() + 1.0) - *sent;
                let taken = allowed.min(room).max(0.0);
                *sent += taken;
                room -= taken;
            }
            line * step - room
        }
    }

    #[test]
    fn finds_the_four_connections_that_fill_a_line() {
        let (want, share) = run(30, 100e6, steady(|n, _| 25e6 * n.min(4) as f64));
        assert_eq!(want, 4);
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn bursts_do_not_hide_what_more_connections_bring() {
        let (want, share) = run(10, 100e6, bursts(100e6, 25e6));
        assert!(want >= 4, "{want}");
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn is_quick_enough_for_files_of_some_seconds() {
        let (_, share) = run(8, 100e6, steady(|n, _| 25e6 * n.min(4) as f64));
        assert!(share > 0.9, "{share}");
        let (_, share) = run(8, 100e6, bursts(100e6, 25e6));
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn leaves_a_lan_with_one() {
        let (want, share) = run(20, 1e9, steady(|n, _| if n == 1 { 1e9 } else { 0.9e9 }));
        assert_eq!(want, 1);
        assert!(share > 0.95, "{share}");
    }

    /// What a disk takes goes up and down, and more connections seem to help for a moment.
    #[test]
    fn what_the_file_does_not_take_no_connection_brings() {
        let disk = |_: usize, t: f64| 250e6 * (1.2 + (t * 1.7).sin());
        for connections in [1, 2] {
            // A line that one connection fills until the disk is behind.
            let writing = |n: usize, _: f64| if n >= connections { 0.95 } else { 0.3 };
            let (want, _) = run_writing(30, 300e6, steady(disk), writing);
            assert_eq!(want, connections);
        }
        // Once the disk has caught up the line is what counts again.
        let fills = |n: usize, _: f64| 25e6 * n.min(4) as f64;
        let writing = |_: usize, t: f64| if t < 5.0 { 0.95 } else { 0.1 };
        let (want, _) = run_writing(40, 100e6, steady(fills), writing);
        assert_eq!(want, 4);
    }

    #[test]
    fn an_unpaced_first_burst_does_not_fool_it() {
        let world = |n: usize, t: f64| {
            if t < 0.8 {
                200e6
            } else {
                25e6 * n.min(4) as f64
            }
        };
        let (want, share) = run(20, 100e6, steady(world));
        assert_eq!(want, 4);
        assert!(share > 0.85, "{share}");
    }

    #[test]
    fn a_line_that_changes_is_judged_anew() {
        let fills = |n: usize| 25e6 * n.min(4) as f64;
        let world = |n: usize, t: f64| {
            if t < 5.0 {
                fills(n)
            } else {
                100e6 - 2e6 * n as f64
            }
        };
        assert_eq!(run(60, 100e6, steady(world)).0, 1);
        let world = |n: usize, t: f64| if t < 5.0 { 100e6 } else { fills(n) };
        assert_eq!(run(60, 100e6, steady(world)).0, 4);
    }

    #[test]
    fn a_fixed_number_stays_unless_the_server_objects() {
        let mut ramp = ConnectionScaler::new(Segments::Fixed(8));
        ramp.observe(Sample {
            now: Duration::from_secs(100),
            received: 1,
            left: u64::MAX,
            writing: Duration::ZERO,
        });
        assert_eq!(ramp.want(), 8);
        ramp.limit(3, Duration::from_secs(101));
        assert_eq!(ramp.want(), 3);
    }
}
