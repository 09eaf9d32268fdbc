//! Shows how downloads go: bars on a terminal, plain lines elsewhere, JSON for scripts.

mod bars;
mod line;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::event::{Event, FileId, Summary};
use super::names::printable;
use bars::Bars;
use line::Track;

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayChoice {
    /// A bar per file, on standard error.
    Bars,
    /// A line now and then, on standard error.
    Plain,
    /// One JSON object a line, on standard output; failures on standard error too.
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
    for event in events {
        if let Some(text) = failure(&event) {
            say(&text);
        }
        if let Ok(line) = serde_json::to_string(&event) {
            // Whoever read this has gone; the download has not.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
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
            _ => {}
        }
        if let Some(text) = lasting_line(event) {
            say(&text);
        }
    }
}

/// What of an event is worth a line that stays.
fn lasting_line(event: &Event) -> Option<String> {
    match event {
        Event::Started {
            name,
            length,
            resumed,
            ..
        } if *resumed > 0 => Some(format!(
            "{}: goes on at {} of {}",
            name.display(),
            line::size(*resumed),
            line::size(length.unwrap_or_default())
        )),
        Event::Note { text, .. } => Some(text.clone()),
        Event::Retry { text, wait, .. } => Some(format!("{text}; next try in {wait:.1} s")),
        Event::Finished { summary, .. } => Some(line::summary(summary)),
        Event::Skipped { name, .. } => Some(format!("{}: is there already", name.display())),
        Event::Failed { .. } => failure(event),
        Event::Started { .. } | Event::Progress { .. } => None,
    }
}

fn failure(event: &Event) -> Option<String> {
    match event {
        Event::Failed { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// The sum of several files.
#[derive(Default)]
struct Totals {
    finished: Vec<Summary>,
    failed: usize,
    began: Option<Instant>,
}

impl Totals {
    fn take(&mut self, event: &Event) {
        self.began.get_or_insert_with(Instant::now);
        match event {
            Event::Finished { summary, .. } => self.finished.push(summary.clone()),
            Event::Failed { .. } => self.failed += 1,
            _ => {}
        }
    }

    fn text(&self) -> Option<String> {
        if self.finished.len() + self.failed < 2 {
            return None;
        }
        let elapsed = self.began?.elapsed();
        let bytes: u64 = self.finished.iter().map(|summary| summary.bytes).sum();
        let received: u64 = self.finished.iter().map(|summary| summary.received).sum();
        let retries: u32 = self.finished.iter().map(|summary| summary.retries).sum();
        Some(format!(
            "{}, {} in {}, {}, {}, {} failed",
            line::counted(self.finished.len() as u64, "file", "files"),
            line::size(bytes),
            line::time(elapsed),
            line::rate(received as f64 / elapsed.as_secs_f64().max(1e-3)),
            line::counted(retries.into(), "retry", "retries"),
            self.failed
        ))
    }
}

fn say(text: &str) {
    // Nothing better can be done about a standard error that is closed.
    let _ = writeln!(io::stderr(), "haul: {}", printable(text));
}

const SAY_EVERY: Duration = Duration::from_secs(5);
