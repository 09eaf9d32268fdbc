//! A file's progress in one line of any width. Pure, but for the clock of the rate.

use std::path::Path;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use console::{measure_text_width, truncate_str};

use crate::get::event::{Event, Summary};
use crate::get::names::printable;
use crate::get::part_file::extents::Extent;

/// A file's progress, with a smoothed rate.
#[derive(Debug)]
pub(super) struct Track {
    name: String,
    done: u64,
    length: Option<u64>,
    connections: usize,
    extents: Vec<Extent>,
    rate: Option<f64>,
    seen: (Instant, u64),
}

impl Track {
    pub(super) fn new(name: &Path, length: Option<u64>, resumed: u64) -> Self {
        let name = name
            .file_name()
            .unwrap_or(name.as_os_str())
            .to_string_lossy();
        Self {
            name: printable(&name).into_owned(),
            done: resumed,
            length,
            connections: 0,
            extents: Vec::new(),
            rate: None,
            seen: (Instant::now(), resumed),
        }
    }

    pub(super) fn observe(
        &mut self,
        done: u64,
        length: Option<u64>,
        connections: usize,
        extents: &[Extent],
    ) {
        let elapsed = self.seen.0.elapsed();
        if elapsed >= RATE_WINDOW {
            let now = done.saturating_sub(self.seen.1) as f64 / elapsed.as_secs_f64();
            self.rate = Some(self.rate.map_or(now, |rate| rate * 0.8 + now * 0.2));
            self.seen = (Instant::now(), done);
        }
        (self.done, self.length, self.connections) = (done, length, connections);
        self.extents = extents.to_vec();
    }

    /// For a log.
    pub(super) fn sentence(&self) -> String {
        let rate = self.rate.map_or_else(|| "--".to_owned(), rate);
        match self.length {
            Some(length) => format!(
                "{}: {} of {} ({} %), {rate}, {} left",
                self.name,
                size(self.done),
                size(length),
                percent(self.done, length),
                self.left().map_or_else(|| "?".to_owned(), time)
            ),
            None => format!("{}: {}, {rate}", self.name, size(self.done)),
        }
    }

    /// A progress line of at most `width` columns: the narrower, the less.
    pub(super) fn bar(&self, width: usize) -> String {
        let rate = self.rate.map_or_else(|| "--".to_owned(), rate);
        let left = self.left().map_or_else(|| "--".to_owned(), time);
        let Some(length) = self.length else {
            return cut(
                &format!("{} {} {rate}", fit(&self.name, width / 3), size(self.done)),
                width,
            );
        };
        let percent = percent(self.done, length);
        let numbers = match width {
            0..40 => {
                let numbers = match width {
                    0..24 => format!(" {percent:>3}%"),
                    _ => format!(" {percent:>3}% {rate}"),
                };
                let name = fit(&self.name, width.saturating_sub(numbers.chars().count()));
                return cut(&format!("{name}{numbers}"), width);
            }
            40..80 => format!("{percent:>3}% {rate:>12} {left:>7}"),
            _ => format!(
                "{percent:>3}% {:>10} {rate:>12} {left:>7} {:>2}×",
                size(self.done),
                self.connections
            ),
        };
        let name = fit(&self.name, width / 4);
        let taken = measure_text_width(&name) + measure_text_width(&numbers) + 4;
        let map = map(&self.extents, length, width.saturating_sub(taken + 1));
        cut(&format!("{name} ▕{map}▏ {numbers}"), width)
    }

    /// Bytes a second, after enough samples.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// A line of at most `width` columns for an existing file that is being hashed.
    pub(super) fn hashing(&self, done: u64, length: u64, width: usize) -> String {
        let numbers = format!(" {:>3}% hashed", percent(done, length));
        let name = fit(&self.name, width.saturating_sub(numbers.len()));
        cut(&format!("{name}{numbers}"), width)
    }

    fn left(&self) -> Option<Duration> {
        let (length, rate) = (self.length?, self.rate.filter(|&rate| rate >= 1.0)?);
        let missing = length
            .checked_sub(self.done)
            .filter(|&missing| missing > 0)?;
        let seconds = missing as f64 / rate;
        (seconds < MAX_SECONDS).then(|| Duration::from_secs_f64(seconds.ceil()))
    }
}

/// The line for a terminal that shows ASCII only; names stay as they are.
pub(super) fn in_ascii(line: &str) -> String {
    let ascii = |character| match character {
        '▕' | '▏' => '|',
        '█' => '#',
        '▓' | '▒' => '+',
        '░' => '.',
        '…' => '~',
        '×' => 'x',
        other => other,
    };
    line.chars().map(ascii).collect()
}

/// The extents that are there, cell by cell.
fn map(extents: &[Extent], length: u64, cells: usize) -> String {
    let cell = |index: usize| {
        let edge = |at: usize| (u128::from(length) * at as u128 / cells as u128) as u64;
        let (start, end) = (edge(index), edge(index + 1).max(edge(index) + 1));
        let there: u64 = extents
            .iter()
            .map(|&(s, e)| e.min(end).saturating_sub(s.max(start)))
            .sum();
        match (there * 4 / (end - start)).min(4) {
            0 if there == 0 => ' ',
            0 => '░',
            1 => '░',
            2 => '▒',
            3 => '▓',
            _ => '█',
        }
    };
    (0..cells).map(cell).collect()
}

/// The permanent line of an event, if it has one.
pub(super) fn lasting_line(event: &Event) -> Option<String> {
    match event {
        Event::Started {
            name,
            length,
            resumed,
            ..
        } if *resumed > 0 => {
            let of = length.map_or_else(String::new, |length| format!(" of {}", size(length)));
            Some(format!(
                "{}: goes on at {}{of}",
                name.display(),
                size(*resumed)
            ))
        }
        Event::Note { text, .. } => Some(text.clone()),
        Event::Retry { text, wait, .. } => {
            let wait = time(Duration::try_from_secs_f64(*wait).unwrap_or_default());
            Some(format!("{text}; next try in {wait}"))
        }
        Event::Finished { summary, .. } => Some(last(summary)),
        Event::Failed { .. } => failure(event),
        Event::Started { .. }
        | Event::Progress { .. }
        | Event::Verifying { .. }
        | Event::Skipped { .. }
        | Event::Ended { .. } => None,
    }
}

pub(super) fn failure(event: &Event) -> Option<String> {
    match event {
        Event::Failed { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// The last line about a file.
fn last(summary: &Summary) -> String {
    let retries = match summary.retries {
        0 => String::new(),
        count => format!(", {}", counted(count.into(), "retry", "retries")),
    };
    format!(
        "{}: {}{}{retries}{}",
        summary.name.display(),
        size(summary.bytes),
        received(summary.received, summary.elapsed),
        if summary.verified { ", verified" } else { "" }
    )
}

/// The time and rate of `bytes`; empty for none.
pub(super) fn received(bytes: u64, elapsed: Duration) -> String {
    if bytes == 0 {
        return String::new();
    }
    let bytes_per_second = bytes as f64 / elapsed.as_secs_f64().max(1e-3);
    format!(" in {}, {}", time(elapsed), rate(bytes_per_second))
}

pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    let noun = if count == 1 { one } else { many };
    format!("{count} {noun}")
}

pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

pub(super) fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", size(bytes_per_second as u64))
}

pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.as_millis() < 100 => format!("{} ms", time.as_millis().max(1)),
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn percent(done: u64, length: u64) -> u64 {
    (u128::from(done) * 100)
        .checked_div(u128::from(length))
        .map_or(100, |percent| percent as u64)
}

/// `text` in `width` columns, its middle left out where it is longer.
fn fit(text: &str, width: usize) -> String {
    if measure_text_width(text) <= width {
        return text.to_owned();
    }
    let mut tail = text.to_owned();
    while measure_text_width(&tail) > width / 2 {
        tail.remove(0);
    }
    let head = width.saturating_sub(measure_text_width(&tail) + 1);
    format!("{}…{tail}", cut(text, head))
}

/// As much of `text` as has room in `width` columns; some characters take two.
fn cut(text: &str, width: usize) -> String {
    truncate_str(text, width, "").into_owned()
}

const RATE_WINDOW: Duration = Duration::from_millis(500);
const MAX_SECONDS: f64 = 100.0 * 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_into_every_width() {
        let mut track = Track::new(
            Path::new("/x/a-rather-long-name-of-a-file.iso"),
            Some(1000),
            0,
        );
        track.observe(500, Some(1000), 2, &[(0, 250), (750, 1000)]);
        for width in 0..200 {
            let bar = track.bar(width);
            assert!(bar.chars().count() <= width, "{width}: {bar}");
        }
        for length in [Some(1000), None] {
            let mut wide = Track::new(Path::new("長い名前のファイル.iso"), length, 0);
            wide.observe(500, length, 1, &[(0, 500)]);
            for width in 0..200 {
                let bar = wide.bar(width);
                assert!(measure_text_width(&bar) <= width, "{width}: {bar}");
            }
        }
        assert!(track.bar(100).contains(" 50%"), "{}", track.bar(100));
        assert!(track.bar(30).contains(" 50%"));
    }

    #[test]
    fn the_map_shows_where_the_bytes_are() {
        assert_eq!(map(&[(0, 250), (750, 1000)], 1000, 8), "██    ██");
        assert_eq!(map(&[(0, 60)], 1000, 8), "░       ");
        assert_eq!(in_ascii("a…b ▕█▒░ ▏ 4×"), "a~b |#+. | 4x");
        assert_eq!(map(&[], 0, 2), "  ");
    }

    #[test]
    fn empty_files_are_there_at_once() {
        assert_eq!(percent(0, 0), 100);
        assert_eq!(time(Duration::from_secs(93_600)), "1d02h");
    }
}
