//! Shows how downloads go: bars on a terminal, plain lines elsewhere, JSON for scripts.

mod bars;
mod line;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde::Serialize;

use super::event::{Event, FileId};
use super::names::printable;
use bars::Bars;
use line::{Track, failure, lasting_line};

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayChoice {
    /// A bar per file, on standard error.
    Bars,
    /// A line now and then, on standard error.
    Plain,
    /// JSON objects, one a line, on standard output; failures on standard error too.
    Json,
    /// The same, all on standard error, for when standard output has the file.
    JsonOnError,
    /// Failures only.
    Quiet,
}

/// Shows events until all senders are gone.
pub fn show(choice: DisplayChoice, events: &Receiver<Event>) {
    let mut totals = Totals::default();
    match choice {
        DisplayChoice::Bars => {
            let mut bars = Bars::new();
            for event in events {
                totals.take(&event);
                bars.take(&event);
            }
            bars.clear();
        }
        DisplayChoice::Plain => {
            let mut plain = Plain::default();
            for event in events {
                totals.take(&event);
                plain.take(&event);
            }
        }
        DisplayChoice::Json => as_json(events, &mut io::stdout()),
        DisplayChoice::JsonOnError => as_json(events, &mut io::stderr()),
        DisplayChoice::Quiet => {
            for event in events {
                if let Some(text) = failure(&event) {
                    say(&text);
                }
            }
        }
    }
    if let Some(text) = totals.text() {
        say(&text);
    }
}

fn as_json(events: &Receiver<Event>, out: &mut dyn Write) {
    let mut totals = Totals::default();
    let mut tracks: BTreeMap<FileId, Track> = BTreeMap::new();
    for event in events {
        totals.take(&event);
        if let Some(text) = failure(&event) {
            say(&text);
        }
        let Ok(mut shown) = serde_json::to_value(&event) else {
            continue;
        };
        match &event {
            Event::Started {
                file,
                name,
                length,
                resumed,
                ..
            } => {
                tracks.insert(*file, Track::new(name, *length, *resumed));
            }
            Event::Progress {
                file, done, length, ..
            } => {
                if let Some(track) = tracks.get_mut(file) {
                    track.observe(*done, *length, 0, &[]);
                    shown["rate"] = track.rate().into();
                }
            }
            Event::Finished { file, .. } | Event::Failed { file, .. } => {
                tracks.remove(file);
            }
            Event::Ended { .. } => {
                shown["totals"] = serde_json::to_value(&totals).unwrap_or_default();
                let seconds = totals.began.map(|began| began.elapsed().as_secs_f64());
                shown["totals"]["seconds"] = seconds.into();
            }
            _ => {}
        }
        // A reader that has closed does not end the download.
        let _ = writeln!(out, "{shown}").and_then(|()| out.flush());
    }
}

/// Lines that stay; for terminals and logs alike.
#[derive(Default)]
struct Plain {
    files: BTreeMap<FileId, (Track, Instant)>,
}

impl Plain {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Started {
                file,
                name,
                length,
                resumed,
                ..
            } => {
                let track = Track::new(name, *length, *resumed);
                self.files.insert(*file, (track, Instant::now()));
            }
            Event::Progress {
                file,
                done,
                length,
                connections,
                extents,
            } => {
                if let Some((track, said)) = self.files.get_mut(file) {
                    track.observe(*done, *length, *connections, extents);
                    if said.elapsed() >= SAY_EVERY {
                        *said = Instant::now();
                        say(&track.sentence());
                    }
                }
            }
            Event::Verifying {
                file,
                name,
                done,
                length,
            } => {
                let new = || {
                    let track = Track::new(name, Some(*length), *length);
                    (track, Instant::now())
                };
                let (track, said) = self.files.entry(*file).or_insert_with(new);
                if said.elapsed() >= SAY_EVERY {
                    *said = Instant::now();
                    say(&track.hashing(*done, *length, usize::MAX));
                }
            }
            Event::Finished { file, .. }
            | Event::Skipped { file, .. }
            | Event::Failed { file, .. } => {
                self.files.remove(file);
            }
            _ => {}
        }
        if let Some(text) = lasting_line(event) {
            say(&text);
        }
    }
}

/// The sum of several files.
#[derive(Default, Serialize)]
struct Totals {
    finished: usize,
    skipped: usize,
    failed: usize,
    bytes: u64,
    received: u64,
    retries: u32,
    #[serde(skip)]
    began: Option<Instant>,
    /// The last file that was there already.
    #[serde(skip)]
    there: Option<PathBuf>,
}

impl Totals {
    fn take(&mut self, event: &Event) {
        self.began.get_or_insert_with(Instant::now);
        match event {
            Event::Finished { summary, .. } => {
                self.finished += 1;
                self.bytes += summary.bytes;
                self.received += summary.received;
                self.retries += summary.retries;
            }
            Event::Skipped { name, .. } => {
                self.skipped += 1;
                self.there = Some(name.clone());
            }
            Event::Failed { .. } => self.failed += 1,
            _ => {}
        }
    }

    fn text(&self) -> Option<String> {
        if self.finished + self.failed + self.skipped < 2 {
            let name = self.there.as_ref()?.display();
            return Some(format!("{name}: is there already"));
        }
        let elapsed = self.began?.elapsed();
        let files = |count: usize| line::counted(count as u64, "file", "files");
        let mut parts = Vec::new();
        if self.finished > 0 {
            let (bytes, files) = (line::size(self.bytes), files(self.finished));
            let came = line::received(self.received, elapsed);
            parts.push(format!("{files}, {bytes}{came}"));
        }
        if self.skipped > 0 {
            parts.push(format!("{} there already", files(self.skipped)));
        }
        if self.retries > 0 {
            parts.push(line::counted(self.retries.into(), "retry", "retries"));
        }
        if self.failed > 0 {
            parts.push(format!("{} failed", self.failed));
        }
        Some(parts.join(", "))
    }
}

fn say(text: &str) {
    // Nothing better can be done about a standard error that is closed.
    let _ = writeln!(io::stderr(), "haul: {}", printable(text));
}

const SAY_EVERY: Duration = Duration::from_secs(5);
