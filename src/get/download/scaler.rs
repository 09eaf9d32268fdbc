//! The number of connections of one file. Pure: time and counters are parameters.
//!
//! Auto doubles the connections while the total rate rises by a tenth, and halves them when they
//! wait for the file. No decision is final: an unpaced first burst, a busy link or chance may have
//! spoilt the measurement, so it is repeated after a pause. Pauses double, so that a link where one
//! connection is best (a LAN) is left alone.

use std::time::Duration;

use crate::get::config::Segments;

/// A reading of the counters.
#[derive(Clone, Copy, Debug, Default)]
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
    /// `None`: the number is fixed.
    auto: Option<Auto>,
}

#[derive(Debug)]
struct Auto {
    meter: RateMeter,
    /// The number of connections before the last doubling, and their bytes a second.
    before: Option<(usize, f64)>,
    /// How long to leave things alone the next time.
    pause: Duration,
}

impl ConnectionScaler {
    pub(crate) fn new(segments: Segments) -> Self {
        match segments {
            Segments::Fixed(count) => Self {
                want: count,
                most: count,
                auto: None,
            },
            Segments::Auto => Self {
                want: 1,
                most: MAX_AUTO,
                auto: Some(Auto {
                    meter: RateMeter::after(Duration::ZERO),
                    before: None,
                    pause: FIRST_PAUSE,
                }),
            },
        }
    }

    pub(crate) fn want(&self) -> usize {
        self.want
    }

    /// The server did not take more than `count` connections at `now`.
    pub(crate) fn limit(&mut self, count: usize, now: Duration) {
        self.want = self.want.min(count.max(1));
        match &mut self.auto {
            None => self.most = self.want,
            // The result may have been chance, but another trial costs the server: it comes late.
            Some(auto) => {
                auto.pause = auto.pause.max(PAUSE_AFTER_REFUSAL);
                auto.rest(now);
            }
        }
    }

    /// Looks at the counters.
    pub(crate) fn observe(&mut self, sample: Sample) {
        let Some(auto) = &mut self.auto else {
            return;
        };
        let window = auto.pause.clamp(SHORTEST_WINDOW, MAX_WINDOW);
        let Some(reading) = auto.meter.read(sample, window) else {
            return;
        };
        let before = auto.before.take();
        let waits_for_file = reading.writing > self.want as f64 * FILE_IS_FULL;
        let ends_soon = (sample.left as f64) < reading.mean * LONG_ENOUGH.as_secs_f64();
        match before {
            Some((count, rate)) if reading.peak < rate * WORTH_IT => self.want = count,
            _ if waits_for_file => self.want = (self.want / 2).max(1),
            _ if self.want < self.most && !ends_soon => {
                auto.before = Some((self.want, reading.mean));
                auto.meter = RateMeter::after(sample.now);
                self.want = (self.want * 2).min(self.most);
                return;
            }
            _ => {}
        }
        auto.rest(sample.now);
    }
}

impl Auto {
    fn rest(&mut self, now: Duration) {
        self.before = None;
        self.meter = RateMeter::after(now + self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

/// Measures a rate, after the connections had time to settle.
#[derive(Debug)]
struct RateMeter {
    begins: Duration,
    first: Option<Sample>,
    settled: Option<Sample>,
}

/// A reading of a meter.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Bytes a second once the connections had settled.
    mean: f64,
    /// The same with the burst of new connections, where that is more. A burst never exceeds the
    /// link's rate, so it cannot make more connections look better on a full link.
    peak: f64,
    /// How many connections were writing to the file, on average.
    writing: f64,
}

impl RateMeter {
    /// A meter that looks at nothing before `begins`.
    fn after(begins: Duration) -> Self {
        Self {
            begins,
            first: None,
            settled: None,
        }
    }

    fn read(&mut self, last: Sample, window: Duration) -> Option<Reading> {
        if last.now < self.begins {
            return None;
        }
        let first = *self.first.get_or_insert(last);
        if last.now - first.now < SETTLING {
            return None;
        }
        let settled = *self.settled.get_or_insert(last);
        if last.now - settled.now < window {
            return None;
        }
        let seconds = |from: Sample| (last.now - from.now).as_secs_f64();
        let rate =
            |from: Sample| last.received.saturating_sub(from.received) as f64 / seconds(from);
        let writing = last.writing.saturating_sub(settled.writing);
        Some(Reading {
            mean: rate(settled),
            peak: rate(settled).max(rate(first)),
            writing: writing.as_secs_f64() / seconds(settled),
        })
    }
}

const MAX_AUTO: usize = 16;
/// The gain that doubles the connections: they cost server and network.
const WORTH_IT: f64 = 1.1;
/// With this share of time in writes, connections wait for the file and not for the link: more of
/// them would wait for each other.
const FILE_IS_FULL: f64 = 2.0 / 3.0;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(4);
const MAX_PAUSE: Duration = Duration::from_secs(16);
/// For slow start.
const SETTLING: Duration = Duration::from_millis(200);
/// The longer the pauses have become, the more thorough a look.
const SHORTEST_WINDOW: Duration = Duration::from_millis(200);
const MAX_WINDOW: Duration = Duration::from_secs(1);
/// A file that will be there sooner than this is left alone.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates up to `seconds` with `world`, the bytes that so many connections get in a step at
    /// a time. Returns the number wanted most often in the last third, trials aside, and the share
    /// of `best` that was received.
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
        let mut scaler = ConnectionScaler::new(Segments::Auto);
        let (mut received, step) = (0.0, Duration::from_millis(25));
        let total = best * seconds as f64;
        let (mut now, mut writing) = (Duration::ZERO, Duration::ZERO);
        let mut wants = [0; 33];
        while now < Duration::from_secs(seconds) {
            let (connections, at) = (scaler.want(), now.as_secs_f64());
            received += world(connections, at, step.as_secs_f64());
            writing += step.mul_f64(share(connections, at) * connections as f64);
            now += step;
            scaler.observe(Sample {
                now,
                received: received as u64,
                left: (total - received).max(0.0) as u64,
                writing,
            });
            if now * 3 >= Duration::from_secs(seconds * 2) {
                wants[scaler.want()] += 1;
            }
        }
        let usual = (0..wants.len()).max_by_key(|&want| wants[want]);
        (usual.unwrap_or_default(), received / total)
    }

    /// A world without bursts.
    fn steady(rate: impl Fn(usize, f64) -> f64) -> impl FnMut(usize, f64, f64) -> f64 {
        move |connections, now, step| rate(connections, now) * step
    }

    /// A link whose server lets each connection send a second's worth of its rate at once, every
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
            assert!(want <= connections, "{want}");
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
        let world = |n: usize, t: f64| if t < 5.0 { 100e6 } else { fills(n) };
        let (want, share) = run(60, 100e6, steady(world));
        assert_eq!(want, 4);
        assert!(share > 0.9, "{share}");
        // Connections that bring no more bytes stay, but no more are added.
        let world = |n: usize, t: f64| {
            if t < 5.0 {
                fills(n)
            } else {
                100e6 - 2e6 * n as f64
            }
        };
        let (want, share) = run(60, 100e6, steady(world));
        assert_eq!(want, 4);
        assert!(share > 0.9, "{share}");
    }

    /// Each connection's rate doubles with every round trip of 100 ms.
    #[test]
    fn slow_start_does_not_hide_what_more_connections_bring() {
        let mut opened: Vec<f64> = Vec::new();
        let world = move |wanted: usize, now: f64, step: f64| {
            opened.truncate(wanted);
            opened.resize(wanted, now);
            let rate = |opened: &f64| (150e3 * ((now - opened) * 10.0).exp2()).min(6.25e6);
            opened.iter().map(rate).sum::<f64>().min(100e6) * step
        };
        let (want, share) = run(60, 100e6, world);
        assert_eq!(want, 16);
        assert!(share > 0.95, "{share}");
    }

    #[test]
    fn a_fixed_number_stays_unless_the_server_objects() {
        let mut scaler = ConnectionScaler::new(Segments::Fixed(8));
        scaler.observe(Sample {
            now: Duration::from_secs(100),
            received: 1,
            left: u64::MAX,
            writing: Duration::ZERO,
        });
        assert_eq!(scaler.want(), 8);
        scaler.limit(3, Duration::from_secs(101));
        assert_eq!(scaler.want(), 3);
    }
}
